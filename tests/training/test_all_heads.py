"""The promises about gradients with every head on: who reaches whom, and what stage 1 leaves alone."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from all_heads import LAMBDAS, MEAN, STD, TASKS, build, clip
from standins import Batches, changed, state_of

from mtltrack.core.types import Clip
from mtltrack.training.settings import TrainSettings
from mtltrack.training.stages import enter_stage
from mtltrack.training.trainer import Trainer
from mtltrack.training.weighting import total_loss


def gradients(tracker, task: str, batch: Clip | None = None) -> dict[str, torch.Tensor | None]:
    """Return the gradient of one task's loss at every parameter; None where no graph leads."""
    batch = batch or clip()
    tracker.zero_grad()
    outputs = tracker(batch.normalised(list(MEAN), list(STD)))
    excluded = set(tracker.heads()) - {task}
    report = total_loss(tracker.heads(), outputs, batch, LAMBDAS, excluded=excluded)
    report.total.backward()
    return {name: parameter.grad for name, parameter in tracker.named_parameters()}


def strength(found: dict[str, torch.Tensor | None], prefix: str) -> float:
    """Return the largest entry below a prefix; all are finite."""
    values = [value for name, value in found.items() if name.startswith(prefix) and value is not None]
    assert all(torch.isfinite(value).all() for value in values)
    return max((float(value.abs().max()) for value in values), default=0.0)


@pytest.mark.parametrize("script", ["hiptrack", "ostrack"])
def test_stage_1_with_five_heads_leaves_the_tracker_bit_identical(script):
    tracker, stages = build(script)
    before = state_of(tracker)
    loader = Batches(clip(seed) for seed in range(2))
    Trainer(
        tracker, [stages["heads"]], TrainSettings(lambdas=LAMBDAS), loader, accelerator=Accelerator(cpu=True)
    ).run()
    moved = changed(before, tracker.state_dict())
    assert {name.split("_head.")[0] for name in moved} == set(TASKS)
    assert not any(name.startswith(("backbone.", "box_head.")) for name in moved)


@pytest.mark.parametrize("script", ["hiptrack", "ostrack"])
@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_the_loss_of_the_text_reaches_plate_box_and_backbone(script, progress):
    """At first the reader looks at the true box, at last at the predicted one: either way there is a path."""
    tracker, stages = build(script)
    enter_stage(tracker, stages["joint"])
    tracker.task_parts()["ocr"].schedule(progress)
    found = gradients(tracker, "ocr")
    for prefix in ("ocr_head.", "plate_head.", "box_head.", "backbone.blocks.1.", "backbone.patch_embed."):
        assert strength(found, prefix) > 0, prefix
    for other in ("seg_head.", "cls_head.", "alert_head."):
        assert strength(found, other) == 0, other


def test_the_predicted_plate_box_itself_gets_a_gradient_from_the_text():
    tracker, stages = build()
    enter_stage(tracker, stages["joint"])
    head = tracker.task_parts()["ocr"]
    head.min_overlap = 0.0  # an untrained plate head is far off
    head.schedule(1.0)
    batch = clip()
    outputs = tracker(batch.normalised(list(MEAN), list(STD)))
    box = outputs["plate"].predictions["cxcywh"]
    term = head.loss_terms(outputs["ocr"], batch.labels["ocr"])["ctc"].sum()
    (gradient,) = torch.autograd.grad(term, box)
    assert torch.isfinite(gradient).all() and float(gradient.abs().max()) > 0


def test_a_detached_edge_ends_the_loss_of_the_text_there():
    tracker, stages = build(ocr=["plate"])
    enter_stage(tracker, stages["joint"])
    tracker.task_parts()["ocr"].schedule(1.0)
    found = gradients(tracker, "ocr")
    assert strength(found, "ocr_head.") > 0
    beyond = [name for name, value in found.items() if not name.startswith("ocr_head.") and value is not None]
    assert all(float(found[name].abs().max()) == 0 for name in beyond)

    tracker, stages = build(plate=["box"])
    enter_stage(tracker, stages["joint"])
    found = gradients(tracker, "ocr")
    assert strength(found, "plate_head.") > 0 and strength(found, "backbone.") > 0  # over the plate's tokens
    assert strength(found, "box_head.") == 0


@pytest.mark.parametrize("script", ["hiptrack", "ostrack"])
def test_the_loss_of_the_alert_reaches_box_head_and_backbone(script):
    tracker, stages = build(script)
    enter_stage(tracker, stages["joint"])
    found = gradients(tracker, "alert")
    for prefix in (
        "box_head.conv1_size",
        "box_head.conv1_offset",
        "box_head.conv1_ctr",
        "backbone.patch_embed.",
    ):
        assert strength(found, prefix) > 0, prefix
    assert strength(found, "plate_head.") == strength(found, "ocr_head.") == strength(found, "seg_head.") == 0


@pytest.mark.parametrize("script", ["hiptrack", "ostrack"])
@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("stage", ["heads", "joint"])
def test_every_parameter_that_trains_has_a_gradient_with_and_without_labels(script, labelled, stage):
    """What distributed training relies on; without labels all of them are exactly zero."""
    tracker, stages = build(script)
    enter_stage(tracker, stages[stage])
    batch = clip(labelled=labelled)
    outputs = tracker(batch.normalised(list(MEAN), list(STD)))
    excluded = set(tracker.heads()) - stages[stage].losses
    total_loss(tracker.heads(), outputs, batch, LAMBDAS, excluded=excluded).total.backward()
    for name, parameter in tracker.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
            assert labelled or float(parameter.grad.abs().max()) == 0, name


@pytest.mark.parametrize("script", ["hiptrack", "ostrack"])
@pytest.mark.parametrize(("left", "overlap"), [(0.2, 1.0), (0.9, 0.0)])
def test_online_the_heads_are_told_the_box_that_was_chosen(script, left, overlap):
    """As the tracker's own, whose choice the window weighs: the zone covers the left of the crop."""
    tracker, _ = build(script)
    chosen = torch.tensor([[left, 0.5, 0.1, 0.1]])
    frame = clip(batch=1, frames=1).normalised(list(MEAN), list(STD))
    with torch.no_grad():
        found = tracker.eval().track(frame, 1, tracker.new_memory(), ["alert"], choose=lambda _: chosen)
    assert torch.equal(found["box"].predictions["boxes_cxcywh"][0], chosen)
    assert float(found["alert"].predictions["overlap"]) == pytest.approx(overlap)
