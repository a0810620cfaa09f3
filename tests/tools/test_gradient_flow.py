"""The tool that measures how gradients come through designs of backbones."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mtltrack.core.errors import ConfigError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import gradient_flow
from flow.designs import DESIGNS, PreActivation, build_stack
from flow.expected import expected_decades
from flow.measure import Flow, Measured, Setting, Sizes, count_paths, decades, measure_flow, measure_setting
from flow.output import draw, save_files
from flow.present import flow_table, statements, textbook, tier_claims
from flow.ranking import (
    AGREES,
    CONTRADICTS,
    UNDECIDED,
    Score,
    agreement,
    compare,
    ranked_pairs,
    score_of,
    sentence,
    word_for,
)

SMALL = Sizes(batch=2, width=8, side=4)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The sizes are small: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


# ------------------------------------------------------------------------------------------------ hand-worked


def test_a_residual_stack_whose_branches_give_nothing_keeps_the_gradient() -> None:
    stack = nn.Sequential(*(PreActivation(8, False) for _ in range(6)))
    for block in stack:
        nn.init.zeros_(block.branch[-1].weight)
    assert measure_flow(stack, random(2, 8, 4, 4), random(2, 8, 4, 4)).input_decades == 0


def test_linear_layers_multiply_the_gradient_by_their_gain() -> None:
    layers = [nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(5)]
    for layer in layers:
        nn.init.dirac_(layer.weight)
        layer.weight.data *= 0.1
    flow = measure_flow(nn.Sequential(*layers), random(2, 8, 4, 4), random(2, 8, 4, 4))
    assert flow.input_decades == pytest.approx(-5, abs=1e-5)  # 0.1^5
    # |x| and the gradient change by the same factor from layer to layer, in opposite directions
    assert flow.weight_decades == pytest.approx(0, abs=1e-5)


def test_a_wide_plain_stack_shrinks_the_gradient_by_its_gain_a_layer() -> None:
    setting = Setting("plain", norm=False, gain=0.5, depth=8)
    assert expected_decades(setting) == pytest.approx(8 * math.log10(0.5))
    found = [measure_setting(setting, Sizes(2, 96, 4), seed).input_decades for seed in range(3)]
    assert sum(found) / 3 == pytest.approx(8 * math.log10(0.5), abs=0.15)


def test_batch_norm_after_a_convolution_makes_its_gain_irrelevant() -> None:
    found = [measure_setting(Setting("elan", True, gain, 8), SMALL, 0) for gain in (1.0, 4.0)]
    assert found[0] == pytest.approx(found[1], abs=1e-3)


@pytest.mark.parametrize("design", ["csp", "elan", "c2f", "preact"])
@pytest.mark.parametrize("norm", [False, True])
def test_what_is_expected_is_found(design: str, norm: bool) -> None:
    setting = Setting(design, norm, 1.0, 8)
    found = [measure_setting(setting, Sizes(4, 64, 6), seed).input_decades for seed in range(4)]
    expected = expected_decades(setting)
    assert expected is not None
    assert sum(found) / 4 == pytest.approx(expected, abs=0.15)


def test_expectations_worked_by_hand() -> None:
    def expected(design: str, gain: float = 1.0, depth: int = 4) -> float | None:
        return expected_decades(Setting(design, False, gain, depth))

    assert expected("elan") == 0  # a quarter of the squares each way: 1 + 1 + 1 + 1
    assert expected("preact", depth=16) == pytest.approx(math.log10(2**8) / 2)  # 1 + 1, eight branches
    assert expected("csp") == pytest.approx(math.log10((1 + 2 * 2) / 2) / 2)
    assert expected("c2f") == pytest.approx(math.log10((1 + 1 + 2 + 4) / 4) / 2)
    assert expected("residual") is None and expected("vit") is None
    assert expected_decades(Setting("residual", True, 1.0, 4)) is None


def test_decades_of_what_vanishes_or_overflows() -> None:
    assert decades(1.0, 1000.0) == pytest.approx(-3)
    assert decades(0.0, 1.0) == -math.inf
    assert decades(math.inf, 1.0) == decades(math.nan, 1.0) == decades(1.0, 0.0) == math.inf


# -------------------------------------------------------------------------------------- equal depth and width


def degree(stack: nn.Module, x: Tensor, scale: float) -> float:
    """Return the power of `scale` that the output grows with, where counted layers multiply by it.

    Weights, input and so everything else are positive: the output is a sum over all ways through the stack of
    scale^(layers on it). A large scale shows the longest way, a small one the shortest.
    """
    outputs = []
    for factor in (scale, scale * 1.001):
        for module in stack.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                counts = isinstance(module, nn.Linear) or module.kernel_size == (3, 3)
                nn.init.constant_(module.weight, (factor if counts else 1.0) / module.weight[0].numel())
        with torch.no_grad():
            outputs.append(math.log(float(stack(x).mean())))
    return (outputs[1] - outputs[0]) / math.log(1.001)


@pytest.mark.parametrize("design", DESIGNS)
def test_designs_are_equally_deep_and_wide(design: str) -> None:
    stack = build_stack(design, 12, 16, False, 1.0, torch.Generator()).double()
    shape = (1, 9, 16) if DESIGNS[design].hands_on == "tokens" else (1, 16, 3, 3)
    x = torch.ones(shape, dtype=torch.float64)
    assert all(block(x).shape == shape for block in stack)
    assert len(stack) == 3
    assert degree(stack, x, 1e4) == pytest.approx(12, abs=0.01)
    paths = count_paths(design, 16)
    assert paths.longest == 4
    assert degree(stack, x, 1e-4) == pytest.approx(3 * paths.shortest, abs=0.01)


def test_the_shortest_ways_and_the_weights_of_a_block() -> None:
    plain, csp, elan = (count_paths(name, 8) for name in ("plain", "csp", "elan"))
    assert plain == (4, 4, 4, 4 * 9 * 64)
    assert csp == (4, 0, 1, 4 * 9 * 16 + 16 + 64)  # past the layers: the transition alone
    assert elan == (4, 0, 2, 4 * 9 * 16 + 2 * 32 + 128)  # into a half, and the transition
    assert count_paths("residual", 8)[:3] == count_paths("preact", 8)[:3] == (4, 0, 0)
    assert count_paths("vit", 8) == (4, 0, 0, 12 * 64)


def test_the_textbook_ranking_is_told() -> None:
    assert textbook() == "plain < residual, preact < csp, elan, c2f"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--depths", "6"], "depth 6: a block has 4 layers; give a multiple of 4"),
        (["--width", "10"], "width 10: give a multiple of 4, for halves and for heads"),
        (["--designs", "elen"], "design elen: there is none of that name; choose of plain, residual, preact"),
        (["--gains", "0"], "--gains 0: must be above 0 and finite"),
        (["--seeds", "1"], "--seeds 1: at least 2 are needed to tell a difference from chance"),
    ],
)
def test_options_that_make_no_sense(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gradient_flow.main(["--quick", *arguments]) == 1
    assert message in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------- ranking


def test_scores_are_distances_from_a_kept_gradient() -> None:
    assert score_of([2.0, -4.0]) == Score(3.0, pytest.approx(1.0))  # deviation sqrt(2), over sqrt(2)
    assert score_of([2.0, math.inf]) == Score(math.inf, 0.0)
    assert score_of([-math.inf, 1.0]).mean == math.inf


def test_pairs_are_decided_where_scores_are_two_errors_apart() -> None:
    near, far = Score(1.0, 0.3), Score(2.1, 0.4)  # errors together 0.5
    assert compare(near, far) == AGREES
    assert compare(far, near) == CONTRADICTS
    assert compare(near, Score(1.9, 0.4)) == UNDECIDED
    endless = Score(math.inf, 0.0)
    assert compare(endless, endless) == UNDECIDED
    assert (compare(near, endless), compare(endless, near)) == (AGREES, CONTRADICTS)


def exact(**means: float) -> dict[str, Score]:
    return {name: Score(mean, 0.0) for name, mean in means.items()}


def test_agreement_of_hand_made_scores() -> None:
    tiers = {"plain": 0, "residual": 1, "csp": 2, "elan": 2}
    assert ranked_pairs(tiers) == [
        ("residual", "plain"), ("csp", "plain"), ("elan", "plain"), ("csp", "residual"), ("elan", "residual")
    ]  # fmt: skip
    same = agreement(exact(plain=4, residual=3, csp=2, elan=1, vit=0), tiers)
    assert same.order == ["elan", "csp", "residual", "plain"]
    assert set(same.verdicts.values()) == {AGREES} and len(same.verdicts) == 5
    assert same.tau == pytest.approx(5 / math.sqrt(5 * 6))  # a tied pair of six in the ranking
    opposite = agreement(exact(plain=1, residual=2, csp=3, elan=4), tiers)
    assert set(opposite.verdicts.values()) == {CONTRADICTS}
    assert opposite.tau == pytest.approx(-5 / math.sqrt(5 * 6))
    mixed = agreement(exact(plain=2, residual=1, csp=3, elan=1), tiers)
    assert mixed.verdicts == {
        ("residual", "plain"): AGREES,
        ("csp", "plain"): CONTRADICTS,
        ("elan", "plain"): AGREES,
        ("csp", "residual"): CONTRADICTS,
        ("elan", "residual"): UNDECIDED,
    }
    assert mixed.tau == pytest.approx(0)
    assert math.isnan(agreement(exact(plain=1, residual=1), tiers).tau)


def test_what_is_said_follows_from_the_verdicts() -> None:
    assert word_for({AGREES: 3, UNDECIDED: 3}) == "holds"
    assert word_for({CONTRADICTS: 2}) == "fails"
    assert word_for({AGREES: 2, CONTRADICTS: 1}) == "holds in part"
    assert word_for({AGREES: 1, UNDECIDED: 2}) == "is mostly undecided"
    told = sentence("a better than b", {AGREES: 3, CONTRADICTS: 1}, {CONTRADICTS: 1, UNDECIDED: 1}, 64)
    assert told == (
        "a better than b: holds in part (3 of 4 agree, 1 contradict); "
        "at 64 layers fails (0 of 2 agree, 1 contradict)"
    )
    assert list(tier_claims([("elan", "plain"), ("csp", "plain"), ("residual", "plain")]).items()) == [
        ("csp/elan/c2f better than plain", {("elan", "plain"), ("csp", "plain")}),
        ("residual/preact better than plain", {("residual", "plain")}),
    ]


# ---------------------------------------------------------------------------------------------------- command


def made_up(design: str, depth: int, value: float) -> Measured:
    flows = [Flow(value, value / 2), Flow(value + 0.02, value / 2)]
    return Measured(Setting(design, False, 1.0, depth), flows)


def test_what_overflows_is_told_and_written(tmp_path: Path) -> None:
    found = [made_up("plain", 8, 1.0), made_up("elan", 8, math.inf)]
    cells = [list(column.cells) for column in flow_table(found, "input_decades").columns]
    assert cells[2][0] == "+1.01 (0.01)" and cells[3][0] == "overflow"
    assert statements(found)[0] == (
        "gradient at the input, norm none: csp/elan/c2f better than plain: "
        "fails (0 of 1 agree, 1 contradict); at 8 layers fails (0 of 1 agree, 1 contradict)"
    )
    save_files(found, SMALL, tmp_path)
    settings = json.loads((tmp_path / "gradient_flow.json").read_text())["settings"]
    assert settings[0]["input_decades"] == [1.0, 1.02] and settings[1]["input_decades"] == [None, None]
    draw(found, tmp_path / "flow.png")
    assert (tmp_path / "flow.png").stat().st_size > 1000


def test_the_command_measures_the_same_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [
        "--quick",
        "--width",
        "8",
        "--depths",
        "4",
        "8",
        "--gains",
        "0.7",
        "--designs",
        "plain",
        "preact",
    ]
    for name in ("first", "second"):
        assert gradient_flow.main([*asked, "--out", str(tmp_path / name)]) == 0
    told = capsys.readouterr().out
    assert "8 settings, 2 seeds" in told
    sentence = "norm none: residual/preact better than plain: holds (2 of 2 agree, 0 contradict)"
    assert sentence not in told  # --quick leaves the sentences out
    small = ["--width", "8", "--depths", "4", "8", "--gains", "0.7", "--seeds", "2"]
    assert gradient_flow.main([*small, "--designs", "plain", "preact"]) == 0
    assert sentence in capsys.readouterr().out
    first, second = ((tmp_path / name / "gradient_flow.csv").read_text() for name in ("first", "second"))
    assert first == second
    rows = list(csv.DictReader(first.splitlines()))
    assert len(rows) == 8
    plain = next(row for row in rows if (row["design"], row["norm"], row["depth"]) == ("plain", "none", "8"))
    assert float(plain["input_decades_expected"]) == pytest.approx(8 * math.log10(0.7))
    report = json.loads((tmp_path / "first" / "gradient_flow.json").read_text())
    assert report["sizes"] == {"batch": 4, "width": 8, "side": 8}
    assert [one["depth"] for one in report["agreement"] if one["measure"] == "weight_decades"] == [8, 8]


def test_unranked_designs_are_measured_and_not_compared(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--quick", "--width", "8", "--depths", "4", "--gains", "1", "--norms", "own"]
    assert gradient_flow.main([*asked, "--designs", "vit"]) == 0
    assert "nothing to compare: the textbook ranking orders no two of these" in capsys.readouterr().out


def test_a_depth_that_is_no_multiple_is_refused() -> None:
    with pytest.raises(ConfigError, match="depth 2: a block has 4 layers"):
        build_stack("plain", 2, 8, True, 1.0, torch.Generator())
