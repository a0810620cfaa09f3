"""Batches that don't fit into memory: kept small for the rest of a run, given up at a single clip."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from standins import EpochLoader, make_clip, make_tracker

from mtltrack.core.errors import TrainingError
from mtltrack.core.types import Clip
from mtltrack.training.checkpoint import load_newest
from mtltrack.training.files import CheckpointFolder
from mtltrack.training.memory import MicroBatches, pieces_of
from mtltrack.training.monitors import Monitors
from mtltrack.training.settings import TrainSettings
from mtltrack.training.stages import Stage
from mtltrack.training.trainer import Trainer


class Small:
    """A tracker's forward pass that holds few clips."""

    def __init__(self, tracker, most: int) -> None:
        self.most, self.whole = most, tracker.forward
        self.sizes: list[int] = []

    def __call__(self, clip: Clip, *arguments, **options):
        if torch.is_grad_enabled():
            self.sizes.append(clip.batch_size)
            if clip.batch_size > self.most:
                raise torch.OutOfMemoryError("none left\nfurther lines")
        return self.whole(clip, *arguments, **options)


class Said:
    def __init__(self) -> None:
        self.messages: list[str] = []

    def __getattr__(self, name):
        return lambda *arguments, **options: None

    def message(self, text: str) -> None:
        self.messages.append(text)


STAGE = Stage("train", 1, 0.01, frozenset({"backbone", "box", "cls"}), frozenset({"box", "cls"}))


def trainer(tracker, folder, said) -> Trainer:
    return Trainer(
        tracker,
        [STAGE],
        TrainSettings(lambdas={"cls": 0.1}),
        EpochLoader(batches=2, batch=5),
        accelerator=Accelerator(cpu=True),
        checkpoints=CheckpointFolder(folder, "Tiny"),
        monitors=Monitors([said]),
    )


def test_smaller_pieces_are_kept_told_and_saved(tmp_path):
    tracker, said = make_tracker(), Said()
    tracker.forward = small = Small(tracker, 2)
    trainer(tracker, tmp_path, said).run()
    assert small.sizes == [5, 3, 2, 2, 1, 2, 2, 1]  # 5, then at most 3, then at most 2 in both steps
    told = [text for text in said.messages if text.startswith("out of memory")]
    assert told[0] == (
        "out of memory with 5 clips at once (none left): the step is made again, and from now on at most "
        "3 go through the model at once, in more micro-batches; the samples of a step and their weights stay "
        "the same"
    )
    assert told[1].startswith("out of memory with 3 clips at once") and len(told) == 2
    found = load_newest(CheckpointFolder(tmp_path, "Tiny").resume_files(), said.message)
    assert found is not None and found[1][0]["memory"] == {"most": 2}


def test_a_clip_that_does_not_fit_alone_ends_the_training(tmp_path):
    tracker = make_tracker()
    tracker.forward = Small(tracker, 0)
    with pytest.raises(
        TrainingError, match=r"a single clip doesn't fit into memory \(none left\); lower DATA"
    ):
        trainer(tracker, tmp_path, Said()).run()


def test_pieces_hold_all_clips_in_their_order():
    clip = make_clip(batch=5)
    memory = MicroBatches()
    assert memory.split([clip])[0] is clip
    memory.load_state_dict({"most": 2})
    assert [piece.batch_size for piece in memory.split([clip, make_clip(batch=1)])] == [2, 2, 1, 1]
    assert torch.equal(torch.cat([piece.search for piece in pieces_of(clip, 2)]), clip.search)
