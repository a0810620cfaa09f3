"""Typing errors in configurations: every one refused, nearly all with the name that was meant."""

from __future__ import annotations

import random
from pathlib import Path

from tools.drill import typos
from tools.drill.typos import (
    RIGHT,
    SEEDS,
    TYPOS,
    Spot,
    Typo,
    drill,
    key_spots,
    misspell,
    shipped,
    value_spots,
)


def test_fifty_typing_errors_in_keys_are_refused_and_corrected(tmp_path: Path) -> None:
    spots = [spot for file in shipped() for spot in key_spots(file)]
    answered, _ = drill(spots, TYPOS, SEEDS[1], tmp_path)  # the first is that of the short drill
    assert len(answered) == TYPOS
    assert [typo.written for typo in answered if not typo.refused] == []
    assert sum(typo.right for typo in answered) >= RIGHT


def test_the_drill_tells_an_accepted_error_from_a_refused_one(tmp_path: Path) -> None:
    folder = tmp_path / "ostrack"
    folder.mkdir()
    file = folder / "mine.yaml"
    file.write_text("TRAIN: {LR: 1e-4}\nTASKS: {speed: null}\n", encoding="utf-8")
    (key,) = [spot for spot in key_spots(file) if spot.name == "LR"]
    (task,) = value_spots(file)
    assert (key.path, task.name) == (("TRAIN", "LR"), "speed")
    assert typos.answer_to(Typo(task, "sped"), tmp_path / "a") is None
    wrong = Typo(key, "RL", typos.answer_to(Typo(key, "RL"), tmp_path / "b"))
    assert wrong.refused and wrong.right
    assert not Typo(key, "RL", "Did you mean 'L1_WEIGHT'?").right
    assert Typo(key, "RL", "Did you mean 'L1' or 'LR'?").right
    row = typos._row("two", [wrong, Typo(task, "sped")])
    assert (row.found, row.passed) == ("1 refused, 1 with the right suggestion", False)


def test_edits_are_single_and_leave_a_name() -> None:
    rng = random.Random(1)
    lengths = {len(misspell("STRIDE", rng)) for _ in range(200)}
    assert lengths == {5, 6, 7}
    assert all(misspell("LR", rng) not in ("LR", "L", "R") for _ in range(200))
    spot = Spot(Path("a.yaml"), ("TRAIN", "LR"), "LR", 0)
    same = [typo.written for typo in typos.make_typos([spot], 5, 3)]
    assert same == [typo.written for typo in typos.make_typos([spot], 5, 3)]
    assert {"LR", "ADAMW", "ClsHead", "HIDDEN_DIM", "CENTER", "VID"} <= typos.allowed_names()
