"""Training and tracking in bfloat16 beside float32: every head's losses, stages, places in full precision."""

from __future__ import annotations

import math

import pytest
import torch
from accelerate import Accelerator
from all_heads import LAMBDAS, MEAN, STD, TASKS, build, clip, settings
from standins import Batches, changed, state_of
from torch import Tensor, nn

from mtltrack.cli.build import build_tracker
from mtltrack.core.config import config_from_dict
from mtltrack.core.types import TaskOutput
from mtltrack.models.tracker import Tracker
from mtltrack.training.settings import TrainSettings
from mtltrack.training.trainer import Trainer
from mtltrack.training.weighting import total_loss

HALF = torch.bfloat16
TERM_BOUND = 0.01  # of a loss term, relative: 8 bits are 0.004, and a loss averages many roundings


def with_box_head(kind: str) -> Tracker:
    values = settings("ostrack", {})
    values["MODEL"]["HEAD"]["TYPE"] = kind
    values["TASKS"], values["TRAIN"] = {}, {}
    torch.manual_seed(0)
    return build_tracker(config_from_dict(values, script="ostrack"), "ostrack")


def forward(tracker: Tracker, half: bool) -> tuple[dict[str, TaskOutput], dict[str, Tensor], Tensor]:
    """Return outputs, loss terms and the total loss, as a step of training makes them."""
    batch = clip()
    with torch.autocast("cpu", HALF, enabled=half):
        outputs = tracker(batch.normalised(list(MEAN), list(STD)))
    report = total_loss(tracker.heads(), outputs, batch, LAMBDAS)
    return outputs, report.terms, report.total


def compare(tracker: Tracker) -> None:
    """Make the same step in both precisions: terms and gradients are finite and near."""
    tracker.eval()  # no dropout, and batch norms that one rounding doesn't turn
    outputs, terms, total = forward(tracker, half=True)
    for task, output in outputs.items():
        for name, value in output.predictions.items():
            assert not value.is_floating_point() or value.dtype in (torch.float32, torch.float64), (
                task,
                name,
            )
    _, exact, _ = forward(tracker, half=False)
    assert terms.keys() == exact.keys()
    for name, value in terms.items():
        assert value.dtype == torch.float32 and math.isfinite(value)
        assert float(value) == pytest.approx(float(exact[name]), rel=TERM_BOUND, abs=TERM_BOUND), name
    total.backward()
    found = {name: item.grad for name, item in tracker.named_parameters() if item.grad is not None}
    assert found and all(bool(torch.isfinite(gradient).all()) for gradient in found.values())


@pytest.mark.parametrize("script", ["hiptrack", "ostrack"])
def test_every_task_head_has_nearly_the_same_losses_in_bfloat16(script: str) -> None:
    tracker, _ = build(script)
    assert {"box", *TASKS} == set(tracker.heads())
    compare(tracker)


@pytest.mark.parametrize("kind", ["CENTER", "CORNER", "MLP", "DFL"])
def test_every_box_head_has_nearly_the_same_losses_in_bfloat16(kind: str) -> None:
    compare(with_box_head(kind))


def test_scores_at_their_bounds_keep_the_focal_loss_finite() -> None:
    """1 - 1e-4 is 1 in bfloat16, whose logarithm of 1 - p is infinite."""
    tracker = with_box_head("CENTER").eval()
    assert torch.tensor(1 - 1e-4).to(HALF) == 1
    for bias in (50.0, -50.0):
        torch.nn.init.constant_(tracker.box_head.conv5_ctr.bias, bias)
        (outputs, terms, total), (_, exact, _) = forward(tracker, half=True), forward(tracker, half=False)
        scores = outputs["box"].predictions["score_map"]
        assert 0 < float(scores.detach().min()) and float(scores.detach().max()) < 1
        assert math.isfinite(total.item())
        assert float(terms["box/focal"]) == pytest.approx(float(exact["box/focal"]), rel=1e-5)


@pytest.mark.parametrize("kind", ["CENTER", "CORNER", "MLP", "DFL"])
def test_boxes_have_more_digits_than_bfloat16(kind: str) -> None:
    """With 8 bits neighbouring numbers near 0.5 are 0.002 apart: most of a pixel of a crop of 384."""
    tracker = with_box_head(kind).eval()
    maps = torch.randn(64, tracker.backbone.embed_dim, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", HALF):
        boxes = tracker.box_head.predict(maps)["boxes_cxcywh"]
    assert boxes.dtype == torch.float32
    assert float((boxes != boxes.to(HALF).float()).float().mean()) > 0.9


@pytest.mark.parametrize("stage", ["heads", "joint"])
def test_both_stages_train_in_bfloat16(stage: str) -> None:
    tracker, stages = build("hiptrack")
    before = state_of(tracker)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    loader = Batches(clip(seed) for seed in range(2))
    Trainer(tracker, [stages[stage]], TrainSettings(lambdas=LAMBDAS), loader, accelerator=accelerator).run()
    after = tracker.state_dict()
    moved = {name.split(".")[0] for name in changed(before, after)}
    assert {f"{task}_head" for task in TASKS} <= moved
    assert ("backbone" in moved) == (stage == "joint")
    assert all(torch.isfinite(value).all() for value in after.values() if value.is_floating_point())
    assert {value.dtype for value in after.values() if value.is_floating_point()} == {torch.float32}


def test_every_stage_of_a_run_computes_in_bfloat16() -> None:
    """Also the later ones: accelerate wraps a model once, and each stage must have it wrapped anew."""
    tracker, stages = build("hiptrack")
    found: dict[bool, set[torch.dtype]] = {True: set(), False: set()}  # whether the backbone trains -> types

    def note(layer: nn.Linear, inputs: object, output: torch.Tensor) -> None:
        found[layer.weight.requires_grad].add(output.dtype)

    tracker.backbone.blocks[0].attn.qkv.register_forward_hook(note)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    run = [stages["heads"], stages["joint"]]
    loader = Batches(clip(seed) for seed in range(1))
    Trainer(tracker, run, TrainSettings(lambdas=LAMBDAS), loader, accelerator=accelerator).run()
    assert found == {False: {HALF}, True: {HALF}}
    assert "forward" not in vars(tracker)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="fp16 needs a GPU")
def test_fp16_scales_its_gradients() -> None:
    tracker, stages = build("hiptrack")
    before = state_of(tracker)
    accelerator = Accelerator(mixed_precision="fp16")
    assert accelerator.scaler is not None and accelerator.scaler.is_enabled()
    settings = TrainSettings(lambdas=LAMBDAS, max_bad_steps=100)
    loader = Batches(clip(seed) for seed in range(20))
    Trainer(tracker, [stages["joint"]], settings, loader, accelerator=accelerator).run()
    after = {name: value.cpu() for name, value in tracker.state_dict().items()}
    assert changed(before, after)
    assert all(torch.isfinite(value).all() for value in after.values() if value.is_floating_point())


def test_online_in_bfloat16_the_memory_stays_near() -> None:
    """Frames 5 and 10 are written, frame 11 reads them; all inputs are the same in both precisions."""
    tracker, _ = build("hiptrack")
    tracker.eval()
    found = []
    for half in (False, True):
        memory = tracker.new_memory()
        assert memory is not None
        with torch.inference_mode(), torch.autocast("cpu", HALF, enabled=half):
            for index in (5, 10, 11):
                frame = clip(index, batch=1, frames=1).normalised(list(MEAN), list(STD))
                output = tracker.track(frame, index, memory, tasks=())["box"].predictions["size_map"]
        assert memory.last()[0].dtype == (HALF if half else torch.float32)
        found.append(output)
    torch.testing.assert_close(found[0], found[1], rtol=0.02, atol=0.002)
