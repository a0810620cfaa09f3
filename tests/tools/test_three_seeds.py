"""The verdict of `tools/three_seeds.py`; the demo itself isn't run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import three_seeds

HELD = {"a": 0.3, "b": 0.2}


def write_scores(folder: Path, data: str, tracker: dict[str, float | None], still: dict[str, float]) -> None:
    results = folder / "test" / "tracking_results"
    results.mkdir(parents=True, exist_ok=True)
    rows = [{name: {"mIoU": value} for name, value in scores.items()} for scores in (tracker, still)]
    content = {
        "trackers": [{"tracker": name, "sequences": row} for name, row in zip("ts", rows, strict=True)]
    }
    (results / f"analysis_{data}.json").write_text(json.dumps(content))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds whose demo was run, which writes scores that beat the box held still."""
    seeds: list[int] = []

    def run(seed: int, folder: Path, rendered: bool) -> None:
        seeds.append(seed)
        write_scores(folder, "val" if rendered else "sot", {"a": 0.8, "b": 0.7}, HELD)

    monkeypatch.setattr(three_seeds, "run_demo", run)
    return seeds


@pytest.mark.parametrize(
    ("second", "status", "said"),
    [
        ({"a": 0.31, "b": 0.21}, 0, "every seed beats"),
        ({"a": 0.31, "b": 0.19}, 1, "still: seed 1 on b"),
        ({"a": 0.3, "b": 0.21}, 1, "still: seed 1 on a"),
        ({"a": None, "b": 0.21}, 1, "still: seed 1 on a"),
    ],
)
def test_every_seed_must_beat_the_box_held_still(
    tmp_path: Path,
    ran: list[int],
    second: dict[str, float | None],
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_scores(tmp_path / "seed1", "val", second, HELD)
    options = ["--seeds", "0", "1", "--out", str(tmp_path), "--rendered", "--reuse"]
    assert three_seeds.main(options) == status
    assert ran == [0] and said in capsys.readouterr().out


def test_scores_of_other_data_are_not_reused(
    tmp_path: Path, ran: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in three_seeds.REAL_SEQUENCES:
        (tmp_path / "data" / "sot" / name).mkdir(parents=True)
    monkeypatch.setenv("MTLTRACK_DATA", str(tmp_path / "data"))
    write_scores(tmp_path / "seed0", "val", {"a": 0.1, "b": 0.1}, HELD)
    options = ["--seeds", "0", "--out", str(tmp_path), "--reuse"]
    assert three_seeds.main(options) == 0 and ran == [0]  # real sequences are there: the demo runs on them
    assert three_seeds.main(options) == 0 and ran == [0]
    assert three_seeds.main([*options, "--rendered"]) == 1 and ran == [0]
    monkeypatch.setenv("MTLTRACK_DATA", str(tmp_path / "nowhere"))
    assert three_seeds.main(options) == 1 and ran == [0]  # no real sequences any more


def test_scores_that_cannot_be_compared(tmp_path: Path, ran: list[int]) -> None:
    options = ["--seeds", "0", "1", "--out", str(tmp_path), "--rendered", "--reuse"]
    write_scores(tmp_path / "seed1", "val", {"a": 0.8, "b": 0.8}, {"a": 0.3, "b": 0.25})
    with pytest.raises(SystemExit, match="made on other frames; run without --reuse"):
        three_seeds.main(options)
    write_scores(tmp_path / "seed1", "val", {}, {})
    with pytest.raises(SystemExit, match="no scores to compare"):
        three_seeds.main(options)
