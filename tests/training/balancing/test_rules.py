"""Each balancing rule against values worked out by hand, or against TorchJD."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

from mtltrack.core.errors import ConfigError
from mtltrack.core.registry import BALANCING
from mtltrack.training.balancing.build import build_rule
from mtltrack.training.balancing.rule import Fixed, LossRule

TASKS = ["box", "cls"]


def make(name: str, **arguments):
    return build_rule({"TYPE": name, **arguments}, TASKS)


def told(**losses):
    return lambda: losses


# ------------------------------------------------------------------------------------------------ uncertainty


def test_uncertainty_weighs_by_the_exponential_and_has_the_gradient_of_its_objective():
    rule = make("uncertainty")
    assert rule.weights(TASKS, told()) == {"box": 1.0, "cls": 1.0}
    with torch.no_grad():
        rule.log_variances["box"].fill_(math.log(2))
    assert rule.weights(TASKS, told())["box"] == pytest.approx(0.5)
    rule.before_update(told(box=6.0, cls=3.0))
    # of exp(-s) L + s by s: 1 - exp(-s) L = 1 - 0.5 * 6 = -2, and 1 - 3 = -2
    assert rule.log_variances["box"].grad.item() == pytest.approx(-2)
    assert rule.log_variances["cls"].grad.item() == pytest.approx(-2)
    variance = torch.tensor(math.log(2), requires_grad=True)
    (torch.exp(-variance) * 6.0 + variance).backward()
    assert rule.log_variances["box"].grad.item() == pytest.approx(variance.grad.item())


def test_uncertainty_leaves_a_task_without_label_alone():
    rule = make("uncertainty")
    optimizer = torch.optim.AdamW(list(rule.parameters().values()), lr=0.1)
    rule.before_update(told(box=6.0, cls=3.0))
    optimizer.step()
    before = rule.log_variances["cls"].item()
    optimizer.zero_grad()
    rule.before_update(told(box=6.0))
    optimizer.step()
    assert rule.log_variances["cls"].item() == before > 0  # not even Adam's momentum moves it
    assert rule.log_variances["box"].item() > before


def test_uncertainty_is_that_of_torchjd_times_two():
    scalarization = pytest.importorskip("torchjd.scalarization")
    rule, theirs = make("uncertainty"), scalarization.UW(2)
    ours = torch.optim.Adam(list(rule.parameters().values()), lr=0.1)
    other = torch.optim.Adam(theirs.parameters(), lr=0.1)
    for step in range(20):
        losses = torch.tensor([5.0 / (step + 1), 0.3])
        other.zero_grad()
        theirs(losses).backward()
        other.step()
        rule.before_update(told(box=losses[0].item(), cls=losses[1].item()))
        ours.step()
    found = [rule.log_variances[task].item() for task in TASKS]
    assert found == pytest.approx(theirs.log_var.tolist(), rel=1e-4)


# -------------------------------------------------------------------------------------------------------- dwa


def test_dwa_by_its_formula():
    rule = make("dwa")
    assert rule.weights(TASKS, told()) == {"box": 1.0, "cls": 1.0}
    rule.before_update(told(box=3.0, cls=2.0))
    rule.before_update(told(box=5.0))  # no label of cls: the means of the epoch are 4 and 2
    rule.end_epoch()
    assert rule.weights(TASKS, told()) == {"box": 1.0, "cls": 1.0}
    rule.before_update(told(box=2.0, cls=2.0))
    rule.end_epoch()
    # r = 2/4 and 2/2, T = 2: 2 e^0.25 / (e^0.25 + e^0.5) = 2 * 1.284025 / 2.932747
    assert rule.weights(TASKS, told()) == pytest.approx({"box": 0.875647, "cls": 1.124353}, abs=1e-6)
    assert rule.weights(["cls"], told()) == {"cls": 1.0}  # the only one with a label
    rule.before_update(told(box=2.0))
    rule.end_epoch()
    # r of the box is 2/2 now; cls keeps its last two epochs: 2/2
    assert rule.weights(TASKS, told()) == pytest.approx({"box": 1.0, "cls": 1.0})


def test_dwa_with_a_high_temperature_is_nearly_fixed_and_agrees_with_torchjd():
    scalarization = pytest.importorskip("torchjd.scalarization")
    for temperature in (0.5, 50.0):
        rule, theirs = make("dwa", TEMPERATURE=temperature), scalarization.DWA(temperature)
        for losses in ([4.0, 1.0], [1.0, 1.5], [0.5, 1.4]):
            theirs(torch.tensor(losses))
            theirs.step()
            rule.before_update(told(box=losses[0], cls=losses[1]))
            rule.end_epoch()
        values = torch.ones(2, requires_grad=True)
        theirs(values).backward()
        found = rule.weights(TASKS, told())
        assert list(found.values()) == pytest.approx(values.grad.tolist(), rel=1e-5)
    assert found["box"] == pytest.approx(1.0, abs=0.01)


# ------------------------------------------------------------------------------------------------------- famo


def test_famo_on_two_tasks_by_hand():
    rule = make("famo", DECAY=0.0, EPSILON=1e-12)
    # z = 1/2 each: z/l = 0.5 and 0.125, together 0.625; times K / 0.625
    assert rule.weights(TASKS, told(box=1.0, cls=4.0)) == pytest.approx({"box": 1.6, "cls": 0.4})
    rule.after_update(told(box=0.5, cls=4.0))
    # the log losses fell by log 2 and 0; z (fell - mean) = +-0.25 log 2; Adam's first step is the rate
    assert rule.logits["box"].item() == pytest.approx(-0.025, rel=1e-5)
    assert rule.logits["cls"].item() == pytest.approx(0.025, rel=1e-5)
    # z = 1 / (1 + e^0.05) and the rest = 0.487503, 0.512497; equal losses: weights 2 z
    assert rule.weights(TASKS, told(box=3.0, cls=3.0)) == pytest.approx(
        {"box": 0.975005, "cls": 1.024995}, abs=1e-6
    )


def test_famo_leaves_a_task_without_label_alone():
    rule = make("famo")
    rule.weights(TASKS, told(box=1.0, cls=4.0))
    rule.after_update(told(box=0.5, cls=4.0))
    before = rule.logits["cls"].item()
    assert rule.weights(["box"], told(box=1.0)) == {"box": pytest.approx(1.0)}
    rule.after_update(told(box=0.5))
    assert rule.logits["cls"].item() == before


def test_famo_stays_finite_at_zero_loss_and_refuses_to_learn_from_infinity():
    rule = make("famo")
    found = rule.weights(TASKS, told(box=1.0, cls=0.0))
    assert sum(found.values()) == pytest.approx(2.0) and found["cls"] > 1.9
    rule.after_update(told(box=math.inf, cls=0.0))
    assert rule.logits["box"].item() == 0
    assert rule.weights(TASKS, told(box=math.nan, cls=1.0)) == {"box": 1.0, "cls": 1.0}


def test_famo_is_that_of_torchjd_times_the_number_of_tasks():
    scalarization = pytest.importorskip("torchjd.scalarization")
    rule, theirs = make("famo"), scalarization.FAMO(2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        before, after = torch.rand(2, 2, generator=generator) + 0.1
        values = before.clone().requires_grad_()
        theirs(values).backward()
        found = rule.weights(TASKS, told(box=before[0].item(), cls=before[1].item()))
        assert list(found.values()) == pytest.approx((2 * values.grad).tolist(), rel=1e-4)
        theirs.update(after)
        rule.after_update(told(box=after[0].item(), cls=after[1].item()))


# ---------------------------------------------------------------------------------------------------- surgery

CONFLICT = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)  # two tasks' gradients


def test_pcgrad_on_two_conflicting_gradients_by_hand():
    pytest.importorskip("torchjd")
    found = make("pcgrad").weights(TASKS, CONFLICT @ CONFLICT.T)
    # g1' = g1 + g2 / 2, g2' = g2 + g1: together 2 g1 + 1.5 g2 = (0.5, 1.5)
    assert found == pytest.approx({"box": 2.0, "cls": 1.5})


def test_pcgrad_draws_the_same_order_again_and_leaves_the_global_generator_alone():
    pytest.importorskip("torchjd")
    tasks = ["box", "cls", "seg", "plate"]
    jacobian = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gramian = jacobian @ jacobian.T
    rule = build_rule({"TYPE": "pcgrad"}, tasks)
    kept = torch.get_rng_state()
    first = [rule.weights(tasks, gramian) for _ in range(6)]
    assert torch.equal(kept, torch.get_rng_state())
    assert any(found != first[0] for found in first), "the order changes from step to step"
    again = build_rule({"TYPE": "pcgrad"}, tasks)
    again.load_state_dict({"steps": 3})
    torch.rand(5)
    assert [again.weights(tasks, gramian) for _ in range(3)] == first[3:]


@pytest.mark.parametrize(("name", "arguments"), [("cagrad", {"c": 0.4}), ("upgrad", {})])
def test_the_others_are_torchjds_aggregators_times_the_number_of_tasks(name, arguments):
    aggregation = pytest.importorskip("torchjd.aggregation")
    theirs = {"cagrad": aggregation.CAGrad, "upgrad": aggregation.UPGrad}[name](**arguments)
    tasks = ["box", "cls", "seg"]
    rule = build_rule({"TYPE": name}, tasks)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        jacobian = torch.randn(3, 4, dtype=torch.float64, generator=generator)
        found = torch.tensor(list(rule.weights(tasks, jacobian @ jacobian.T).values()), dtype=torch.float64)
        torch.testing.assert_close(found @ jacobian, 3 * theirs(jacobian), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["pcgrad", "upgrad"])
def test_without_a_conflict_the_gradients_are_summed(name):
    pytest.importorskip("torchjd")
    jacobian = torch.tensor([[1.0, 0.2], [0.5, 1.0]], dtype=torch.float64)
    found = make(name).weights(TASKS, jacobian @ jacobian.T)
    assert found == pytest.approx({"box": 1.0, "cls": 1.0}, abs=1e-3)


@pytest.mark.parametrize("name", ["pcgrad", "cagrad", "upgrad"])
def test_without_torchjd_the_extra_is_named(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(ConfigError, match=r"TRAIN.WEIGHTING \w+grad: it needs TorchJD.*mtltrack\[mtl\]"):
        make(name)


# ------------------------------------------------------------------------------------------------------ build


@pytest.mark.parametrize(
    ("weighting", "text"),
    [
        ({"TYPE": "dwq"}, "'dwq' is not a registered balancing rule. Did you mean 'dwa'.*fixed, pcgrad, unc"),
        ({"TYPE": "dwa", "TEMPERATUR": 1}, "no such argument. Did you mean 'TEMPERATURE'.*takes: TEMPERAT"),
        ({"TYPE": "fixed", "C": 1}, "TRAIN.WEIGHTING.C: fixed has no such argument. It takes: none"),
        ({"TYPE": "dwa", "TEMPERATURE": 0}, "TEMPERATURE is 0; wanted a number above 0"),
        ({"TYPE": "dwa", "TEMPERATURE": "x"}, "TEMPERATURE is 'x'; wanted a number above 0"),
        ({"TYPE": "uncertainty", "LR": -1}, "LR is -1; wanted a number above 0"),
        ({"TYPE": "famo", "DECAY": True}, "DECAY is True; wanted a number of at least 0"),
        ({"TYPE": "cagrad", "C": -0.1}, "C is -0.1; wanted a number of at least 0"),
        ({"TYPE": "pcgrad", "SEED": 0.5}, "SEED is 0.5; wanted a whole number"),
    ],
)
def test_a_wrong_rule_is_refused(weighting, text):
    with pytest.raises(ConfigError, match=text):
        build_rule(weighting, TASKS)


def test_of_a_single_task_there_is_nothing_to_balance():
    assert type(build_rule({"TYPE": "uncertainty"}, ["cls"])) is Fixed


def test_a_new_rule_is_one_class_as_the_page_says():
    page = Path(__file__).resolve().parents[3] / "docs" / "weighting.md"
    code = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    try:
        exec(code, {"BALANCING": BALANCING, "LossRule": LossRule, "torch": torch})
        rule, again = make("random", SEED=3), make("random")
        first = rule.weights(TASKS, told())
        assert sum(first.values()) == pytest.approx(2.0)
        again.load_state_dict(rule.state_dict())
        assert rule.weights(TASKS, told()) == again.weights(TASKS, told()) != first
    finally:
        BALANCING.module_dict.pop("random", None)
