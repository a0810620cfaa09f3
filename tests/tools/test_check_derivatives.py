"""The tool that checks derivatives: what it finds, what it says, and that it isn't blind."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import check_derivatives
from derivatives import held, layers, network
from derivatives.comparison import Check, Outcome, by_differences, relative_error
from derivatives.held import Held, PathChanged

import mtltrack

SMALL = network.CASES["ostrack_mlp"]


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("check", layers.checks(), ids=lambda check: check.name)
def test_layer(check: Check) -> None:
    outcome = check.run()
    assert outcome.compared and outcome.error <= check.tolerance, outcome


def test_errors_are_relative_to_the_entry_but_not_to_a_tiny_one() -> None:
    assert relative_error(tensor(1.0, 100.0), tensor(1.01, 100.0)) == pytest.approx(0.01 / 1.01)
    assert relative_error(tensor(1e-9, 100.0), tensor(2e-9, 100.0)) == pytest.approx(1e-9 / 0.1)
    assert relative_error(tensor(0.0), tensor(0.0)) == 0
    assert relative_error(tensor(math.nan), tensor(math.nan)) == math.inf
    assert relative_error(tensor(math.inf, 1.0), tensor(math.inf, 1.0)) == math.inf
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(1,\) of what is compared don't match"):
        relative_error(tensor(1.0, 2.0), tensor(1.0))


class Scaled(torch.autograd.Function):
    """The identity with a gradient that is a little too large."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        del ctx
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        del ctx
        return gradient * (1 + 1e-4)


def test_a_wrong_gradient_is_found() -> None:
    z = tensor(0.3, -0.7)
    assert by_differences(lambda z: z.exp(), z).error < 1e-8
    assert by_differences(lambda z: Scaled.apply(z.exp()), z).error == pytest.approx(1e-4, rel=1e-3)


def test_what_is_detached_can_be_held() -> None:
    constant, moved = Held(), tensor(2.0)

    def function(x: Tensor) -> Tensor:
        with torch.no_grad():
            factor = x * x
        return factor * x + x.detach()

    with constant.recording():
        assert function(moved).item() == 10  # 4 * 2 + 2
    with constant.repeating():
        assert function(moved + 1).item() == 14  # 4 * 3 + 2
    assert function(moved + 1).item() == 30
    with pytest.raises(PathChanged, match=r"calls .*, which the first one didn't"), constant.repeating():
        torch.no_grad()(torch.sin)(moved)
    assert torch.is_grad_enabled()


def test_a_cut_that_nobody_declared_is_an_error() -> None:
    outcome = by_differences(lambda z: z.detach() * z, tensor(2.0), hold=True)
    assert outcome.error == math.inf
    assert outcome.note == "cut, and not declared: outside the package"


def test_a_further_cut_in_a_function_that_has_a_declared_one_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def twice(z: Tensor) -> Tensor:
        held_here = z.detach()
        return held_here * z + z.detach()

    place, at = "losses/boxes.py ciou_loss", iter([10, 20])
    monkeypatch.setattr(held, "_place", lambda: (place, next(at)))
    outcome = by_differences(twice, tensor(2.0), hold=True)
    assert outcome.error == math.inf
    assert outcome.note == f"cut, and not declared: {place} (2 lines, 1 declared)"


def test_a_small_model_is_right_in_every_stage() -> None:
    outcome = network.check_model(SMALL)
    assert outcome.error < network.TOLERANCE
    assert outcome.compared == 2 * 9 and "18 with a gradient" in outcome.note
    assert outcome.held == ["models/layers/blocks.py _scores"]


def test_a_wrong_gradient_in_one_layer_of_a_model_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = network.build(SMALL)
    block = tracker.backbone.blocks[1]
    monkeypatch.setattr(block, "feed_forward", lambda x: x + Scaled.apply(block.mlp(block.norm2(x))))
    slopes = network.Slopes(tracker, network.made_up(tracker))
    errors = {stage.name: max(slopes.errors(stage).values()) for stage in slopes.stages}
    before = ("backbone.own", "backbone.patch_embed", "backbone.blocks.0", "backbone.blocks.1")
    for name, error in errors.items():
        assert (error > network.TOLERANCE) == (name in before), (name, error)


def test_the_command_tells_and_writes_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "found" / "report.json"
    assert check_derivatives.main(["--only", "forms/ciou*", "losses/ciou", "--report", str(path)]) == 0
    told = capsys.readouterr().out
    assert "forms/ciou_distance" in told and "4 checks, 0 failed" in told
    assert "losses/boxes.py ciou_loss: alpha, held constant as in the paper" in told
    report = json.loads(path.read_text())
    assert report["passed"] and len(report["checks"]) == 4
    assert report["checks"][0]["name"] == "losses/ciou" and report["checks"][0]["error"] < 1e-6


def test_a_failed_check_is_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> Outcome:
        raise RuntimeError("no derivative")

    group = [
        Check("planted/wrong", "x", 1e-6, lambda: Outcome(1e-3, 5)),
        Check("planted/endless", "x", 1e-6, lambda: Outcome(math.inf, 5)),
        Check("planted/broken", "x", 1e-6, broken),
        Check("planted/right", "x", 1e-6, lambda: Outcome(1e-9, 5)),
    ]
    planted = type("Group", (), {"checks": staticmethod(lambda: group)})
    monkeypatch.setattr(check_derivatives, "GROUPS", (planted,))
    path = tmp_path / "report.json"
    assert check_derivatives.main(["--report", str(path)]) == 1
    told = capsys.readouterr().out
    assert "4 checks, 3 failed: planted/wrong, planted/endless, planted/broken" in told
    assert "planted/broken: RuntimeError: no derivative" in told
    rows = json.loads(path.read_text())["checks"]
    assert [row["passed"] for row in rows] == [False, False, False, True]
    assert rows[1]["error"] is None


def test_an_unknown_check_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_derivatives.main(["--only", "losses/goiu"]) == 1
    told = capsys.readouterr().err
    assert "--only losses/goiu: no check of that name or group; there are losses/giou, losses/ciou" in told


def test_only_the_package_itself_is_the_package() -> None:
    # a checkout may be called like the package: its tools, and an environment in it, are none of it
    code = compile("def place(): return _place()", "/somewhere/mtltrack/tools/derivatives/held.py", "exec")
    space = {"_place": held._place}
    exec(code, space)
    assert space["place"]() == ("outside the package", 0)
    inside = str(Path(mtltrack.__file__).parent / "losses" / "boxes.py")
    exec(compile("def place(): return _place()", inside, "exec"), space)
    assert space["place"]() == ("losses/boxes.py place", 1)
