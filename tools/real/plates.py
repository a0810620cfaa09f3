"""Score a plate head on photographs that it was not trained on, beside a box that never moves.

    python tools/real/plates.py ostrack ostrack_plate_tiny --train --save_dir output/plates
    python tools/real/plates.py ostrack ostrack_plate_tiny --save_dir output/plates --out plates.json

The photographs (openalpr's layout) are those that the configuration's own PlateScenes entry keeps for
testing; a configuration without one is scored on the testing part of $MTLTRACK_DATA/plates/scenes. There is
no vehicle's box: each photograph is cut around one that its plate implies (see PlateScenes), several times
with the jitter of DATA.SEARCH, and each crop counts as an image of its own. The constant predictor answers
every crop with the mean box of the plates in the training part's crops and with the share of crops that
show one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))

from trained import OneSequence, configuration, score_parser, trained, write_scores

from mtltrack.cli.build_data import crop_settings
from mtltrack.cli.command import make_console, run_command, say
from mtltrack.core.config import Config
from mtltrack.core.errors import ConfigError
from mtltrack.core.paths import test_data_root
from mtltrack.core.types import Clip
from mtltrack.data.build import build_dataset
from mtltrack.data.collate import collate
from mtltrack.data.datasets.plate_scenes import PlateScenes
from mtltrack.data.sampler import ClipDataset
from mtltrack.losses.boxes import boxes_cxcywh_to_xyxy
from mtltrack.metrics.detection import DetectionMetrics

TASK, KIND = "plate", "PlateScenes"
BATCH = 32
COLUMNS = ("AP50", "AP50:95", "presence_accuracy")

Scores = dict[str, float]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = score_parser(__doc__, TASK)
    parser.add_argument("--crops", type=int, default=8, help="crops of each photograph (8)")
    return parser.parse_args(arguments)


def scenes(cfg: Config, split: str) -> PlateScenes:
    """Return one part of the photographs, divided as in training.

    Raises:
        ConfigError: the configuration trains on all of them.
    """
    entry: dict[str, Any] = {"TYPE": KIND, "ROOT": str(test_data_root() / "plates" / "scenes")}
    for given in cfg.DATA.TRAIN.DATASETS_NAME:
        upper = {key.upper(): value for key, value in given.items()} if isinstance(given, Mapping) else {}
        if upper.get("TYPE") == KIND:
            entry = upper
            if entry.get("SPLIT", "train") != "train":
                raise ConfigError(
                    f"DATA.TRAIN.DATASETS_NAME trains on the {entry['SPLIT']!r} part of {entry['ROOT']}: "
                    "nothing is left that it wasn't trained on. Set SPLIT: train"
                )
    dataset = build_dataset({**entry, "SPLIT": split})
    assert isinstance(dataset, PlateScenes)
    return dataset


def crops(cfg: Config, source: PlateScenes, count: int, seed: int) -> Iterator[Clip]:
    """Give batches of crops, `count` of each photograph, always the same."""
    samples = []
    for number in range(source.num_sequences):
        clips = ClipDataset(
            [OneSequence(source, number)],
            [1],
            count,
            num_search=1,
            crop=crop_settings(cfg),
            augment=False,
            seed=seed + number,
            tasks=[TASK],
        )
        samples += [clips[0, k] for k in range(count)]
    for start in range(0, len(samples), BATCH):
        yield collate(samples[start : start + BATCH])


def score_head(cfg: Config, net: Any, clips: Sequence[Clip]) -> Scores:
    """Return the scores of a tracker's plate head."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net.to(device).eval()
    metrics = net.heads()[TASK].metrics()
    with torch.no_grad():
        for clip in clips:
            moved = clip.to(device)
            output = net(moved.normalised(cfg.DATA.MEAN, cfg.DATA.STD), tasks=[TASK])[TASK]
            metrics.update(output, moved.labels[TASK])
    found: Scores = metrics.compute()
    return found


def score_constant(training: Sequence[Clip], clips: Sequence[Clip]) -> Scores:
    """Return the scores of the mean box of the training part's crops, and of how often one is there."""
    boxes, present, _ = labelled(training)
    mean = boxes[present].mean(0)
    metrics = DetectionMetrics()
    true, there, _ = labelled(clips)
    confidence = np.full(len(true), float(present.float().mean()))
    metrics.update(
        confidence,
        boxes_cxcywh_to_xyxy(mean).expand(len(true), 4).numpy(),
        there.numpy(),
        boxes_cxcywh_to_xyxy(true).numpy(),
    )
    return metrics.compute()


def labelled(clips: Sequence[Clip]) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return boxes cxcywh (N, 4) and presence (N,) of the labelled crops, and how many there are."""
    labels = [clip.labels[TASK] for clip in clips]
    boxes = torch.cat([entry["cxcywh"][entry["valid"]] for entry in labels])
    present = torch.cat([entry["present"][entry["valid"]] for entry in labels])
    return boxes, present, len(present)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    console = make_console()
    cfg = configuration(options, TASK)
    if options.crops < 1:
        raise ConfigError(f"--crops is {options.crops}; it must be at least 1")
    testing, training = scenes(cfg, "test"), scenes(cfg, "train")
    net, checkpoint = trained(options, cfg, console)
    clips = list(crops(cfg, testing, options.crops, options.seed))
    fitted = list(crops(cfg, training, options.crops, options.seed))
    rows = {
        "plate head": score_head(cfg, net, clips),
        "constant box": score_constant(fitted, clips),
        "plate head, photographs trained on": score_head(cfg, net, fitted),
    }
    _, present, count = labelled(clips)
    table = Table(
        title=f"{testing.num_sequences} plates not trained on, {count} crops, percent", title_justify="left"
    )
    for column in ("", *COLUMNS):
        table.add_column(column, justify="left" if not column else "right")
    for name, scores in rows.items():
        table.add_row(name, *(f"{100 * scores[column]:.1f}" for column in COLUMNS))
    console.print(table)
    say(console, f"{int(present.sum())} of the crops show the plate")
    content = {"plates": testing.names, "crops": count, "checkpoint": str(checkpoint), "scores": rows}
    write_scores(options.out, content)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command(run, parse(arguments))


if __name__ == "__main__":
    sys.exit(main())
