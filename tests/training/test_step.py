"""One optimizer step: accumulation, clipping, and the refusal of what isn't finite."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from standins import changed, make_clip, make_tracker, rows_of, state_of, still_tracker

from mtltrack.core.errors import TrainingError
from mtltrack.training.step import StepRunner

MEAN, STD = [0.5, 0.5, 0.5], [0.2, 0.2, 0.2]


def runner(tracker, accelerator=None, learning_rate=0.1, **options) -> StepRunner:
    accelerator = accelerator or Accelerator(cpu=True)
    tracker.backbone.cls_token.requires_grad_(False)
    parameters = [parameter for parameter in tracker.parameters() if parameter.requires_grad]
    model, optimizer = accelerator.prepare(tracker, torch.optim.SGD(parameters, lr=learning_rate))
    arguments = {
        "lambdas": {"cls": 0.1},
        "excluded": (),
        "mean": MEAN,
        "std": STD,
        "grad_clip_norm": 0.0,
        **options,
    }
    return StepRunner(accelerator=accelerator, tracker=tracker, model=model, optimizer=optimizer, **arguments)


def test_accumulated_micro_batches_equal_one_batch_also_when_labels_are_uneven():
    labelled = torch.tensor([[1, 1], [0, 1], [1, 0], [1, 0], [1, 1], [0, 0]], dtype=torch.bool)
    clip = make_clip(batch=6, cls_valid=labelled)
    whole, pieces = still_tracker(), still_tracker()
    one = runner(whole).run([clip], None)
    three = runner(pieces).run(
        [rows_of(clip, slice(0, 1)), rows_of(clip, slice(1, 4)), rows_of(clip, slice(4, 6))], None
    )
    for name, value in one.scalars.items():
        assert three.scalars[name].item() == pytest.approx(value.item(), rel=1e-5), name
    assert three.grad_norm.item() == pytest.approx(one.grad_norm.item(), rel=1e-5)
    for first, second in zip(whole.parameters(), pieces.parameters(), strict=True):
        torch.testing.assert_close(first, second)


def test_the_gradient_of_the_backbone_is_that_of_the_box_plus_lambda_times_that_of_cls():
    def gradient(lambdas, excluded=()):
        tracker = still_tracker()
        before = state_of(tracker.backbone)
        runner(tracker, learning_rate=1.0, lambdas=lambdas, excluded=excluded).run([make_clip()], None)
        return {name: before[name] - value for name, value in tracker.backbone.named_parameters()}

    box, cls = gradient({"cls": 1.0}, excluded={"cls"}), gradient({"cls": 1.0}, excluded={"box"})
    for name, value in gradient({"cls": 0.3}).items():
        torch.testing.assert_close(value, box[name] + 0.3 * cls[name])
        assert name == "cls_token" or value.abs().max() > 0


def test_clipping_bounds_the_step_and_reports_the_norm_before():
    free, clipped = still_tracker(), still_tracker()
    before = state_of(free)
    norm = runner(free, learning_rate=1.0).run([make_clip()], None).grad_norm
    assert runner(clipped, learning_rate=1.0, grad_clip_norm=0.01).run(
        [make_clip()], None
    ).grad_norm.item() == pytest.approx(norm.item())
    moved = [(before[name] - value).flatten() for name, value in clipped.named_parameters()]
    assert torch.cat(moved).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_a_step_that_is_not_finite_is_refused_and_leaves_no_trace():
    tracker = make_tracker()
    tracker.train()
    steps = runner(tracker)
    before = state_of(tracker)
    clip = make_clip()
    clip.labels["cls"]["value"][2, 1] = float("nan")
    result = steps.run([clip], None)
    assert result.refused is not None
    assert "task cls (error) at set / s0-2 template frame 1 search frames [2, 3]" in result.refused
    assert not changed(before, tracker.state_dict()), "weights and batch statistics stay"
    assert all(parameter.grad is None for parameter in tracker.parameters())
    assert steps.run([make_clip()], None).refused is None and changed(before, tracker.state_dict())


def test_a_gradient_that_is_not_finite_names_its_parameters():
    tracker = still_tracker()
    steps = runner(tracker)
    tracker.cls_head.layer.bias.register_hook(lambda gradient: gradient * float("inf"))
    result = steps.run([make_clip()], None)
    assert result.refused is not None
    assert result.refused.startswith("gradient not finite at cls_head.layer.bias: task cls at set / s0-0 ")


def test_ten_refusals_in_a_row_stop_the_training():
    steps = runner(make_tracker())
    clip = make_clip()
    clip.labels["box"]["cxcywh"][0, 0] = float("inf")
    for _ in range(5):
        steps.run([clip], None)
    steps.run([make_clip()], None)  # a good one in between starts the count anew
    for _ in range(9):
        steps.run([clip], None)
    with pytest.raises(
        TrainingError, match=r"10 steps in a row were not finite; the last: loss not finite: task box"
    ):
        steps.run([clip], None)


def test_a_batch_without_labels_moves_nothing():
    tracker = still_tracker()
    before = state_of(tracker)
    nothing = torch.zeros(4, 2, dtype=torch.bool)
    clip = make_clip(cls_valid=nothing)
    clip.labels["box"]["valid"] = nothing
    result = runner(tracker).run([clip], None)
    assert result.refused is None and result.scalars["total"].item() == 0 and result.grad_norm.item() == 0
    assert result.measured["cls"].item() == 0
    assert not changed(before, tracker.state_dict())


class ScalingAccelerator(Accelerator):
    """fp16's gradient scaler on a CPU, where accelerate offers none."""

    def __init__(self) -> None:
        super().__init__(cpu=True)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def unscale_gradients(self, optimizer=None):
        for prepared in self._optimizers if optimizer is None else [optimizer]:
            self.scaler.unscale_(prepared.optimizer)


def test_a_scaled_step_is_the_step():
    plain, scaled = still_tracker(), still_tracker()
    one = runner(plain, grad_clip_norm=0.1).run([make_clip()], None)
    other = runner(scaled, ScalingAccelerator(), grad_clip_norm=0.1).run([make_clip()], None)
    assert other.refused is None and other.grad_norm.item() == pytest.approx(one.grad_norm.item(), rel=1e-5)
    for first, second in zip(plain.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(first, second)


def test_steps_that_a_gradient_scaler_would_skip_are_refused_leave_no_trace_and_end():
    tracker, accelerator = make_tracker(), ScalingAccelerator()
    tracker.train()
    steps = runner(tracker, accelerator)
    before = state_of(tracker)
    hook = tracker.cls_head.layer.bias.register_hook(lambda gradient: gradient * float("inf"))
    for _ in range(9):
        refused = steps.run([make_clip()], None).refused
    assert refused is not None and "gradient not finite at cls_head.layer.bias" in refused
    assert "the scale of the gradients is now 2" in refused  # 1024 halved nine times
    assert not changed(before, tracker.state_dict()), "weights and batch statistics stay"
    hook.remove()
    assert steps.run([make_clip()], None).refused is None and changed(before, tracker.state_dict())
    tracker.cls_head.layer.bias.register_hook(lambda gradient: gradient * float("nan"))
    for _ in range(9):
        steps.run([make_clip()], None)
    with pytest.raises(
        TrainingError, match="10 steps in a row were not finite; the last: gradient not finite"
    ):
        steps.run([make_clip()], None)
