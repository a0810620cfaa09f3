"""How processes share an epoch's samples and a validation's batches."""

from __future__ import annotations

import pytest
import torch

from mtltrack.cli.build_data import build_loaders
from mtltrack.core.config import config_from_dict
from mtltrack.data.shares import FILLER, BatchSampler, WholeEpochSampler

SOURCE = {"TYPE": "SyntheticSequences", "NUM_SEQUENCES": 1, "NUM_FRAMES": 8, "SIZE": [64, 64]}


def config(samples: int, **train):
    data = {"DATASETS_NAME": [SOURCE], "DATASETS_RATIO": [1], "SAMPLE_PER_EPOCH": samples}
    crops = {"SEARCH": {"SIZE": 32}, "TEMPLATE": {"SIZE": 16}, "MAX_SAMPLE_INTERVAL": 5}
    return config_from_dict(
        {
            "DATA": {**crops, "TRAIN": data, "VAL": data},
            "TASKS": {"cls": {"TYPE": "ClsHead"}},
            "TEST": {"SEARCH_SIZE": 32, "TEMPLATE_SIZE": 16},
            "TRAIN": {"NUM_WORKER": 0, "BATCH_SIZE": 2, **train},
        },
        script="ostrack",
    )


def test_a_rank_without_a_last_batch_gets_a_filler():
    samplers = [WholeEpochSampler(9, batch_size=4, rank=rank, world_size=2) for rank in range(2)]
    for sampler in samplers:
        sampler.set_epoch(3)
    first, second = (list(sampler) for sampler in samplers)
    assert first == [(3, 0), (3, 2), (3, 4), (3, 6), (3, 8)]  # two batches: of 4 and of 1
    assert second == [(3, 1), (3, 3), (3, 5), (3, 7), (3, FILLER)]
    assert [len(sampler) for sampler in samplers] == [5, 5]
    samplers[1].set_epoch(3, 4)  # a resumed run had the first batch
    assert list(samplers[1]) == [(3, FILLER)]


def test_validation_batches_stay_whole_and_in_order():
    shares = [list(BatchSampler(11, batch_size=2, rank=rank, world_size=4)) for rank in range(4)]
    # six batches: 2, 1, 2, 1
    assert [[number for _, number in share] for share in shares] == [[0, 1, 2, 3], [4, 5], [6, 7, 8, 9], [10]]


def test_with_drop_last_false_every_sample_comes_once_and_a_filler_has_no_label():
    cfg = config(5, DROP_LAST=False)
    ranks = [build_loaders(cfg, rank=rank, world_size=2).train for rank in range(2)]
    clips = [list(loader) for loader in ranks]
    assert [len(loader) for loader in ranks] == [2, 2]
    seen = sorted(source["index"] for share in clips for clip in share for source in clip.sources)
    assert seen == [0, 1, 2, 3, 4]
    filler = clips[1][1]
    assert filler.batch_size == 1 and filler.sources == []
    assert not any(bool(entry["valid"].any()) for entry in filler.labels.values())
    alone = list(build_loaders(cfg).train)
    assert [clip.batch_size for clip in alone] == [2, 2, 1]


@pytest.mark.parametrize(("shared", "numbers"), [(True, [[0, 1], [2]]), (False, [[0, 1, 2]] * 2)])
def test_ranks_share_a_validation_or_see_all_of_it(shared, numbers):
    cfg = config(3)
    found = []
    for rank in range(2):
        loader = build_loaders(cfg, rank=rank, world_size=2, share_validation=shared).val
        assert loader is not None
        found.append([source["index"] for clip in loader for source in clip.sources])
    assert found == numbers


def test_the_filler_is_the_same_in_every_process():
    cfg = config(1, DROP_LAST=False)
    (one,), (other,) = (list(build_loaders(cfg, rank=rank, world_size=2).train) for rank in range(2))
    assert one.sources and not other.sources and torch.equal(one.search, other.search)
