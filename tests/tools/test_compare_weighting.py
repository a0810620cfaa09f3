"""The comparison of balancing rules: its sums, its table, and that finished runs aren't run again."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from mtltrack.core.errors import DataError
from mtltrack.core.types import Clip

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import compare_weighting as compare


def result(**losses: float) -> dict:
    return {"losses": losses, "metrics": {}, "weights": {}, "refused": 0, "seconds_a_step": 0.1}


RESULTS = {
    "alone box": {0: result(box=2.0), 1: result(box=4.0)},
    "alone seg": {0: result(seg=1.0, box=9.0), 1: result(seg=1.0, box=9.0)},
    "fixed": {0: result(box=1.0, seg=2.0), 1: result(box=4.0, seg=1.5)},
}


def test_changes_are_against_the_same_seed_alone():
    found = compare.summary(RESULTS)
    assert found["alone"]["box"] == pytest.approx((3.0, math.sqrt(2)))
    assert found["alone"]["seg"] == pytest.approx((1.0, 0.0)), "not the box that it was trained with"
    assert found["fixed"]["box"] == pytest.approx((2.5, 4.5**0.5))
    # seed 0: (-50 % + 100 %) / 2 = 25 %, seed 1: (0 + 50 %) / 2 = 25 %
    assert found["fixed"]["change"] == pytest.approx((25.0, 0.0))


def test_without_every_task_alone_or_against_nothing_there_is_no_change():
    assert "change" not in compare.summary({"fixed": RESULTS["fixed"]})["fixed"]
    nothing = {**RESULTS, "alone seg": {0: result(seg=0.0), 1: result(seg=1.0)}}
    assert "change" not in compare.summary(nothing)["fixed"]


def test_the_table_has_a_row_a_rule_and_a_column_a_task():
    console = Console(record=True, width=120)
    console.print(compare.comparison_table(compare.summary(RESULTS), "title"))
    lines = console.export_text().splitlines()
    header = next(line for line in lines if "weighting" in line)
    assert header.split() == ["weighting", "box", "seg", "change", "%", "ms", "a", "step"]
    fixed = next(line for line in lines if line.strip().startswith("fixed"))
    assert "2.500 ± 2.121" in fixed and "+25.0 ± 0.0" in fixed and fixed.split()[-1] == "100"


def test_one_seed_has_no_deviation():
    mean, deviation = compare.spread([2.0])
    assert mean == 2.0 and math.isnan(deviation)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    runs: list[tuple[str, int]] = []

    def train_and_score(name, seed, cfg, size, train, val):
        runs.append((name, seed))
        return result(box=1.0 + seed)

    monkeypatch.setattr(compare, "train_and_score", train_and_score)
    monkeypatch.setattr(compare, "kept_clips", lambda *_: None)
    return runs


def test_finished_runs_are_not_run_again(tmp_path, ran):
    console = Console(quiet=True)
    compare.run_all(["fixed"], [0], compare.QUICK, tmp_path, console)
    found = compare.run_all(["fixed", "dwa"], [0, 1], compare.QUICK, tmp_path, console)
    assert ran == [("fixed", 0), ("fixed", 1), ("dwa", 0), ("dwa", 1)]
    assert found["fixed"][0]["losses"] == {"box": 1.0} and found["dwa"][1]["losses"] == {"box": 2.0}
    stored = json.loads((tmp_path / "runs" / "fixed_seed0.json").read_text())
    assert stored["about"]["size"]["epochs"] == compare.QUICK.epochs


def test_runs_of_another_size_are_not_mixed_in(tmp_path, ran):
    compare.run_all(["fixed"], [0], compare.QUICK, tmp_path, Console(quiet=True))
    with pytest.raises(DataError, match=r"fixed_seed0.json is of another comparison; remove .* or choose"):
        compare.run_all(["fixed"], [0], compare.FULL, tmp_path, Console(quiet=True))


def test_the_order_of_the_clips_depends_on_seed_and_epoch_alone():
    images = torch.arange(40).reshape(40, 1, 1, 1).to(torch.uint8)
    clip = Clip(
        template=images.expand(40, 3, 2, 2),
        template_boxes_xywh=torch.zeros(40, 4),
        search=images[:, None].expand(40, 1, 3, 2, 2),
        affine=torch.zeros(40, 1, 2, 3),
        timestamps=torch.zeros(40, 1),
    )

    def order(seed, epoch):
        batches = compare.KeptBatches(clip, compare.FULL, seed)
        batches.set_epoch(epoch)
        return [batch.template[:, 0, 0, 0].tolist() for batch in batches]

    assert order(0, 1) == order(0, 1) != order(0, 2) and order(0, 1) != order(1, 1)
    assert len(order(0, 1)) == compare.FULL.steps and len(order(0, 1)[0]) == compare.FULL.batch


def test_a_task_alone_learns_with_the_heads_that_it_reads():
    class Tracker:
        def heads(self):
            return {"box": object(), "seg": type("Seg", (), {"reads": ("box",)})(), "cls": object()}

    assert compare.losses_of("alone seg", Tracker()) == {"seg", "box"}
    assert compare.losses_of("alone cls", Tracker()) == {"cls"}
    assert compare.losses_of("famo", Tracker()) == {"box", "seg", "cls"}
