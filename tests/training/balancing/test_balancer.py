"""Balancing in a step: which gradients come out, labels that are missing, precision, refused steps."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from standins import changed, make_clip, make_tracker, rows_of, state_of, still_tracker

from mtltrack.training.balancing.build import build_rule
from mtltrack.training.step import StepRunner

RULES = ["fixed", "uncertainty", "dwa", "famo", "pcgrad", "cagrad", "upgrad"]
TASKS = ["box", "cls"]
NOTHING = torch.zeros(4, 2, dtype=torch.bool)


def rule_of(name, **arguments):
    if name in ("pcgrad", "cagrad", "upgrad"):
        pytest.importorskip("torchjd")
    return build_rule({"TYPE": name, **arguments}, TASKS)


def runner(tracker, name="fixed", accelerator=None, learning_rate=1.0, **options) -> StepRunner:
    accelerator = accelerator or Accelerator(cpu=True)
    tracker.backbone.cls_token.requires_grad_(False)
    rule = options.pop("rule", None) or rule_of(name)
    parameters = [parameter for parameter in tracker.parameters() if parameter.requires_grad]
    model, optimizer = accelerator.prepare(tracker, torch.optim.SGD(parameters, lr=learning_rate))
    arguments = {
        "lambdas": {"cls": 0.5},
        "excluded": (),
        "mean": [0.5] * 3,
        "std": [0.2] * 3,
        "grad_clip_norm": 0.0,
        "rule": rule,
        **options,
    }
    return StepRunner(accelerator=accelerator, tracker=tracker, model=model, optimizer=optimizer, **arguments)


def gradient(name="fixed", clip=None, **options) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """What a step with SGD at rate 1 subtracts, and what the rule did."""
    tracker = still_tracker()
    before = state_of(tracker)
    result = runner(tracker, name, **options).run([clip or make_clip()], None)
    assert result.refused is None
    moved = {key: before[key] - value for key, value in tracker.named_parameters()}
    return moved, {key: value.item() for key, value in result.weights.items()}


def of_single_tasks(**options):
    """The gradients of the box and of lambda times cls, each alone."""
    box, _ = gradient(excluded={"cls"}, rule=build_rule({"TYPE": "fixed"}, ["box"]), **options)
    cls, _ = gradient(excluded={"box"}, rule=build_rule({"TYPE": "fixed"}, ["cls"]), **options)
    return box, cls


def trunk(gradients) -> torch.Tensor:
    return torch.cat([value.flatten() for key, value in gradients.items() if key.startswith("backbone")])


def test_fixed_weights_make_the_one_pass_that_they_always_made():
    _, weights = gradient("fixed")
    assert weights == {}
    assert runner(still_tracker()).balancer.plain


def test_a_rule_of_losses_weighs_every_gradient_of_a_task():
    class Told(type(rule_of("dwa"))):
        def weights(self, tasks, losses):
            return {"box": 0.25, "cls": 3.0}

    box, cls = of_single_tasks()
    found, weights = gradient(rule=Told(TASKS))
    for name, value in found.items():
        torch.testing.assert_close(value, 0.25 * box[name] + 3.0 * cls[name])
    assert weights == {"box": 0.25, "cls": 3.0}


@pytest.mark.parametrize("name", ["pcgrad", "cagrad", "upgrad"])
def test_a_rule_of_gradients_weighs_them_where_tasks_meet_and_nowhere_else(name):
    aggregation = pytest.importorskip("torchjd.aggregation")
    box, cls = of_single_tasks()
    jacobian = torch.stack([trunk(box), trunk(cls)]).double()
    theirs = {
        "pcgrad": aggregation.PCGrad(),
        "cagrad": aggregation.CAGrad(c=0.4),
        "upgrad": aggregation.UPGrad(),
    }[name]
    expected = theirs(jacobian / jacobian.norm()) * jacobian.norm() * (1 if name == "pcgrad" else 2)
    found, weights = gradient(name)
    torch.testing.assert_close(trunk(found).double(), expected, rtol=1e-3, atol=1e-6)
    summed = weights["box"] * jacobian[0] + weights["cls"] * jacobian[1]
    torch.testing.assert_close(trunk(found).double(), summed, rtol=1e-4, atol=1e-6)
    for task, single in (("box", box), ("cls", cls)):
        for key in (f"{task}_head.layer.weight", f"{task}_head.layer.bias"):
            torch.testing.assert_close(found[key], single[key])


@pytest.mark.parametrize("name", RULES)
def test_micro_batches_with_uneven_labels_make_the_step_of_one_batch(name):
    labelled = torch.tensor([[1, 1], [0, 1], [1, 0], [1, 0], [1, 1], [0, 0]], dtype=torch.bool)
    clip = make_clip(batch=6, cls_valid=labelled)
    whole, pieces = still_tracker(), still_tracker()
    one, several = runner(whole, name, learning_rate=0.1), runner(pieces, name, learning_rate=0.1)
    parts = [rows_of(clip, slice(0, 1)), rows_of(clip, slice(1, 4)), rows_of(clip, slice(4, 6))]
    for _ in range(2):
        result, other = one.run([clip], None), several.run(parts, None)
        one.balancer.rule.end_epoch(), several.balancer.rule.end_epoch()
        for key, value in result.weights.items():
            assert other.weights[key].item() == pytest.approx(value.item(), rel=1e-4)
    for first, second in zip(whole.parameters(), pieces.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_a_task_without_label_is_left_out_and_not_punished(name):
    rule = rule_of(name)
    box, _ = of_single_tasks()
    found, weights = gradient(clip=make_clip(cls_valid=NOTHING), rule=rule)
    for key, value in found.items():
        expected = torch.zeros_like(value) if key.startswith("cls") else box[key]
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)
    assert all(value == pytest.approx(1.0) for value in weights.values())
    state = rule.state_dict()
    assert "cls" not in state.get("means", {}) | state.get("sums", {})
    for key in ("logits", "log_variances"):
        assert key not in state or state[key]["cls"].item() == 0
        assert key not in state or state[key]["cls"].grad is None


@pytest.mark.parametrize("name", RULES)
def test_a_lambda_of_zero_is_no_label(name):
    rule = rule_of(name)
    found, weights = gradient(rule=rule, lambdas={"cls": 0.0})
    box, _ = of_single_tasks()
    for key, value in found.items():
        expected = torch.zeros_like(value) if key.startswith("cls") else box[key]
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)
    assert all(value == pytest.approx(1.0) for value in weights.values())


def test_what_only_unlabelled_tasks_reach_gets_zeros_and_not_nothing():
    tracker = still_tracker()
    steps = runner(tracker, "pcgrad")
    seen = {}
    steps.optimizer.optimizer.register_step_pre_hook(
        lambda *_: seen.update({key: p.grad for key, p in tracker.named_parameters()})
    )
    steps.run([make_clip(cls_valid=NOTHING)], None)
    assert seen["cls_head.layer.weight"].abs().max() == 0
    assert seen["box_head.layer.weight"].abs().max() > 0


@pytest.mark.parametrize("name", ["fixed", "pcgrad"])
def test_the_limit_of_a_task_bounds_its_gradient_outside_its_own_head(name):
    box, cls = of_single_tasks()
    limit = trunk(cls).norm().item() / 4
    found, weights = gradient(name, task_clip_norms={"cls": limit})
    assert weights["cls/clip"] == pytest.approx(0.25, rel=1e-4)
    torch.testing.assert_close(found["cls_head.layer.weight"], cls["cls_head.layer.weight"])
    torch.testing.assert_close(found["box_head.layer.weight"], box["box_head.layer.weight"])
    expected = weights["box"] * trunk(box) + weights["cls"] * 0.25 * trunk(cls)
    torch.testing.assert_close(trunk(found), expected)
    if name == "pcgrad":  # the rule is shown the gradient as it was limited
        aggregation = pytest.importorskip("torchjd.aggregation")
        jacobian = torch.stack([trunk(box), 0.25 * trunk(cls)])
        torch.testing.assert_close(trunk(found), aggregation.PCGrad()(jacobian), rtol=1e-4, atol=1e-6)


def test_a_limit_that_is_not_reached_changes_nothing_but_rounding():
    plain, _ = gradient()
    found, weights = gradient(task_clip_norms={"cls": 1e6})
    assert weights == {"box": 1.0, "cls": 1.0, "cls/clip": 1.0}
    for key, value in found.items():
        torch.testing.assert_close(value, plain[key])


def test_limit_and_weights_of_a_loss_rule_multiply():
    class Told(type(rule_of("dwa"))):
        def weights(self, tasks, losses):
            return {"box": 0.5, "cls": 2.0}

    box, cls = of_single_tasks()
    found, _ = gradient(rule=Told(TASKS), task_clip_norms={"cls": trunk(cls).norm().item() / 2})
    torch.testing.assert_close(trunk(found), 0.5 * trunk(box) + 2.0 * 0.5 * trunk(cls))


def test_a_refused_step_teaches_the_rule_nothing():
    for name in RULES:
        tracker = make_tracker()
        tracker.train()
        rule = rule_of(name)
        steps = runner(tracker, rule=rule)
        before, learnt = state_of(tracker), repr(rule.state_dict())
        clip = make_clip()
        clip.labels["cls"]["value"][2, 1] = float("nan")
        refused = steps.run([clip], None).refused
        assert refused is not None and "task cls (error) at set / s0-2" in refused, name
        assert not changed(before, tracker.state_dict()), name
        if name != "pcgrad":
            assert repr(rule.state_dict()) == learnt, name


@pytest.mark.parametrize("name", ["pcgrad", "cagrad", "upgrad"])
def test_a_gradient_that_is_not_finite_is_refused_by_its_parameter(name):
    tracker = still_tracker()
    steps = runner(tracker, name)
    tracker.backbone.layer.bias.register_hook(lambda gradient: gradient * float("inf"))
    refused = steps.run([make_clip()], None).refused
    assert refused is not None and "gradient not finite at backbone.layer.bias" in refused


class ScalingAccelerator(Accelerator):
    """fp16's gradient scaler on a CPU, where accelerate offers none."""

    def __init__(self) -> None:
        super().__init__(cpu=True)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def unscale_gradients(self, optimizer=None):
        for prepared in self._optimizers if optimizer is None else [optimizer]:
            self.scaler.unscale_(prepared.optimizer)


@pytest.mark.parametrize("name", RULES)
def test_a_scaled_step_is_the_step(name):
    limits = {"cls": 0.01}
    plain, scaled = still_tracker(), still_tracker()
    one = runner(plain, name, grad_clip_norm=0.1, task_clip_norms=limits).run([make_clip()], None)
    other = runner(scaled, name, ScalingAccelerator(), grad_clip_norm=0.1, task_clip_norms=limits).run(
        [make_clip()], None
    )
    assert other.refused is None and other.grad_norm.item() == pytest.approx(one.grad_norm.item(), rel=1e-4)
    assert other.weights["cls/clip"].item() == pytest.approx(one.weights["cls/clip"].item(), rel=1e-4)
    assert one.weights["cls/clip"] < 0.9
    for first, second in zip(plain.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


def test_famo_measures_again_with_the_same_dropout_and_leaves_no_trace():
    def step(name, learning_rate):
        tracker = make_tracker()
        tracker.train()
        rule = rule_of(name)
        torch.manual_seed(5)
        runner(tracker, rule=rule, learning_rate=learning_rate).run([make_clip(), make_clip(seed=1)], None)
        return tracker, rule, torch.get_rng_state()

    fixed, _, state = step("fixed", 0.0)
    tracker, rule, own = step("famo", 0.0)
    assert torch.equal(state, own)
    assert not changed(fixed.state_dict(), tracker.state_dict()), "batch statistics are counted once"
    assert rule.logits["box"].item() == 0, "nothing was learnt: the losses were exactly the same"
    _, rule, _ = step("famo", 0.1)
    assert abs(rule.logits["box"].item()) == pytest.approx(0.025, rel=1e-3)


@pytest.mark.parametrize("name", RULES)
def test_bfloat16_works_with_every_rule(name):
    tracker = still_tracker()
    before = state_of(tracker)
    steps = runner(tracker, name, Accelerator(cpu=True, mixed_precision="bf16"), learning_rate=0.1)
    assert steps.run([make_clip()], None).refused is None
    assert "backbone.layer.weight" in changed(before, tracker.state_dict())
