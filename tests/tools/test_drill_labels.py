"""Labels out of range: every kind is named, and labels that are right are not."""

from __future__ import annotations

from pathlib import Path

from tools.drill import labels


def test_every_wrong_label_is_named_with_its_place(tmp_path: Path) -> None:
    (row,) = labels.run(True, tmp_path)
    assert "silent" not in row.found and row.passed
    assert len(labels.CASES) >= 40 and row.found.endswith("0 reports without a fault")


def test_the_drill_tells_a_silent_label_from_a_named_one() -> None:
    assert not labels.is_named("car.jsonl:5", [])
    assert not labels.is_named("car.jsonl:5", ["car.jsonl:4: alert"])
    assert not labels.is_named("car.jsonl:5", ["car.jsonl:5: alert", "car.jsonl:6: alert"])
    assert labels.is_named("car.jsonl:5", ["a/car.jsonl:5: alert: wanted 0 or 1"])
