"""The configuration of a training of a few seconds: drawn sequences, a very small OSTrack, the head cls."""

from __future__ import annotations

from typing import Any

import yaml


def small_yaml(
    samples: tuple[int, int], train: dict[str, Any], *, eliminates: bool = True, dropout: float | None = None
) -> str:
    """Return the configuration as text.

    Args:
        samples: clips of an epoch, and of a validation.
        train: what stands in TRAIN, beside two stages and no loader processes.
        eliminates: candidate elimination in the second of the two blocks.
        dropout: of the head cls; None for its default.
    """
    sequences = {"TYPE": "SyntheticSequences", "NUM_FRAMES": 12, "SIZE": [96, 96]}
    backbone: dict[str, Any] = {"TYPE": "vit_tiny_patch16_224", "EMBED_DIM": 24, "DEPTH": 2, "NUM_HEADS": 2}
    if eliminates:
        backbone.update(TYPE="vit_tiny_patch16_224_ce", CE_LOC=[1], CE_KEEP_RATIO=[0.7])
    head = {"TYPE": "ClsHead", "HIDDEN_DIM": 16} | ({} if dropout is None else {"DROPOUT": dropout})
    splits = {"TRAIN": {"NUM_SEQUENCES": 2}, "VAL": {"NUM_SEQUENCES": 1, "SEED": 5}}
    content = {
        "DATA": {
            "MAX_SAMPLE_INTERVAL": 10,
            "SEARCH": {"SIZE": 64, "NUMBER": 1, "FACTOR": 4.0},
            "TEMPLATE": {"SIZE": 32},
            **{
                split: {
                    "DATASETS_NAME": [sequences | own],
                    "DATASETS_RATIO": [1],
                    "SAMPLE_PER_EPOCH": number,
                }
                for (split, own), number in zip(splits.items(), samples, strict=True)
            },
        },
        "MODEL": {"PRETRAIN_FILE": "", "BACKBONE": backbone, "HEAD": {"NUM_CHANNELS": 16}},
        "TASKS": {"cls": head},
        "TRAIN": {"TWO_STAGE": True, "NUM_WORKER": 0, **train},
    }
    return yaml.safe_dump(content, sort_keys=False)
