"""The drill of labels out of range: what it takes for named; the drill itself is part of test_fault_drill."""

from __future__ import annotations

from pathlib import Path

from tools.drill import labels


def test_a_wrong_label_that_nobody_names_fails_the_drill(tmp_path: Path, monkeypatch) -> None:
    assert len(labels.CASES) >= 40
    found = [("a flag 2", "car.jsonl:5", ["car.jsonl:5: wanted 0 or 1"]), ("a box", "boxes.txt, line 3", [])]
    monkeypatch.setattr(labels, "outcomes", lambda folder: found)
    (row,) = labels.run(True, tmp_path)
    assert not row.passed
    assert row.found == "1 of 2 named, 0 reports without a fault; silent: a box"


def test_the_drill_tells_a_silent_label_from_a_named_one() -> None:
    assert not labels.is_named("car.jsonl:5", [])
    assert not labels.is_named("car.jsonl:5", ["car.jsonl:4: alert"])
    assert not labels.is_named("car.jsonl:5", ["car.jsonl:5: alert", "car.jsonl:6: alert"])
    assert labels.is_named("car.jsonl:5", ["a/car.jsonl:5: alert: wanted 0 or 1"])
