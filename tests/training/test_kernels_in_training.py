"""The faster kernels in training: the same learning, and packed weights of what is frozen alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from small_trackers import build, clip
from standins import Batches, Interruption, changed, stop_after_epoch
from torch import nn

from mtltrack.core.kernels import DEFAULT, ONEDNN, is_onednn, using
from mtltrack.models.packed import PackedConv2d, PackedLinear, can_pack
from mtltrack.training.checkpoint import load_newest, load_resume
from mtltrack.training.files import CheckpointFolder, find_resume
from mtltrack.training.settings import TrainSettings
from mtltrack.training.trainer import Trainer

pytestmark = [
    pytest.mark.skipif(not can_pack(), reason="this torch has no packed weights"),
    pytest.mark.usefixtures("onednn_is_float32"),
]
PACKED = (PackedLinear, PackedConv2d)


class Watched(Batches):
    """Batches that note, at each, which modules are packed and whether oneDNN multiplies."""

    def __init__(self, tracker: nn.Module, count: int) -> None:
        super().__init__(clip(seed) for seed in range(count))
        self.tracker = tracker
        self.packed: set[str] = set()
        self.onednn: set[bool] = set()

    def __iter__(self):
        for batch in super().__iter__():
            yield batch
            modules = self.tracker.named_modules()
            self.packed |= {name for name, m in modules if isinstance(m, PACKED) and m._packed is not None}
            self.onednn.add(is_onednn())


def train(kernel: str, stage: str, folder: Path | None = None) -> tuple[nn.Module, Watched]:
    tracker, stages = build("hiptrack")
    tracker.frames_at_once = True  # by either kernel, so that stochastic depth draws the same
    loader = Watched(tracker, 3)
    settings = TrainSettings(lambdas={"cls": 0.1}, kernel=kernel)
    checkpoints = None if folder is None else CheckpointFolder(folder, "HIPTrack")
    Trainer(
        tracker,
        [stages[stage]],
        settings,
        loader,
        accelerator=Accelerator(cpu=True),
        checkpoints=checkpoints,
    ).run()
    return tracker, loader


@pytest.mark.parametrize("stage", ["heads", "joint"])
def test_both_kernels_learn_the_same(stage: str) -> None:
    before = is_onednn()
    (plain, quiet), (ours, watched) = train(DEFAULT, stage), train(ONEDNN, stage)
    assert quiet.onednn == {False} and watched.onednn == {True} and is_onednn() == before
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, atol=2e-4, rtol=1e-3, msg=name)
    assert not quiet.packed
    if stage == "joint":
        assert not watched.packed
    else:
        assert {"backbone.blocks.0.attn.qkv", "key_proj.key_proj", "box_head.conv1_ctr.0"} <= watched.packed
        assert not any(name.startswith("cls_head") for name in watched.packed)
    assert not any(isinstance(module, PACKED) for module in ours.modules())


def test_the_kernel_is_saved_with_the_run(tmp_path: Path) -> None:
    train(ONEDNN, "heads", tmp_path)
    found = load_newest(find_resume(CheckpointFolder(tmp_path, "HIPTrack"), "auto"), print)
    assert found is not None and found[1][0]["kernel"] == ONEDNN
    with using(DEFAULT):
        assert not is_onednn()


def test_a_run_that_goes_on_with_packed_weights_ends_bit_for_bit_the_same(tmp_path: Path) -> None:
    """It begins with the validation that was still to come, whose clips have another size than training's."""

    def trainer(name: str) -> Trainer:
        tracker, stages = build("hiptrack")
        torch.manual_seed(3)
        return Trainer(
            tracker,
            [replace(stages["heads"], epochs=2)],
            TrainSettings(lambdas={"cls": 0.1}, kernel=ONEDNN, val_interval=1),
            Batches([clip(0), clip(1)]),
            val_loader=Batches([clip(2, batch=3, frames=1)]),
            accelerator=Accelerator(cpu=True),
            checkpoints=CheckpointFolder(tmp_path / name, "HIPTrack"),
        )

    whole = trainer("whole")
    whole.run()
    interrupted = trainer("parts")
    stop_after_epoch(interrupted, 1)
    with pytest.raises(Interruption):
        interrupted.run()
    resumed = trainer("parts")
    resumed.resume(*load_resume(CheckpointFolder(tmp_path / "parts", "HIPTrack").resume_file(1)))
    assert not resumed.position.validated
    resumed.run()
    assert changed(interrupted.tracker.state_dict(), resumed.tracker.state_dict())
    assert not changed(whole.tracker.state_dict(), resumed.tracker.state_dict())
