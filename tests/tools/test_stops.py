"""Following blobs and asking the stop rule, `tools/real/stops.py` and `blobs.py`, on made-up tracks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "real"))
import blobs
import stops

from mtltrack.core.errors import DataError
from mtltrack.core.stopping import StopRule


def square(x: float, y: float, side: float = 10.0) -> np.ndarray:
    return np.array([x, y, x + side, y + side])


def test_two_blobs_that_pass_one_another_keep_their_tracks() -> None:
    frames = [[square(4 * i, 0), square(100 - 4 * i, 12)] for i in range(26)]
    right, left = sorted(blobs.follow(frames), key=lambda track: track.boxes[0][0])
    assert len(right.boxes) == len(left.boxes) == 26
    assert right.boxes[-1][0] == 100 and left.boxes[-1][0] == 0


def test_a_blob_that_is_missed_is_found_again_where_its_velocity_takes_it() -> None:
    frames = [[] if 10 <= i < 15 else [square(6 * i, 0)] for i in range(30)]
    (track,) = blobs.follow(frames)
    assert track.seen == [not 10 <= i < 15 for i in range(30)]
    assert track.boxes[12][0] == pytest.approx(6 * 12, abs=0.5)
    assert track.boxes[-1][0] == 6 * 29


def test_a_track_ends_when_it_has_missed_for_too_long_and_short_ones_dont_count() -> None:
    gone = blobs.PATIENCE + 1
    frames = [[square(0, 0)]] * 15 + [[]] * gone + [[square(0, 0)]] * 15 + [[square(80, 80)]] * 5
    first, second = blobs.follow(frames)
    assert (first.first, len(first.boxes), second.first) == (0, 15, 15 + gone)


def test_moving_blobs_of_a_drawn_video() -> None:
    rng = np.random.default_rng(0)
    background = rng.integers(90, 110, (60, 120, 3)).astype(np.uint8)
    frames = [background.copy() for _ in range(60)]
    for i, image in enumerate(frames[30:]):
        image[20:40, 3 * i : 3 * i + 20] = 250
    (track,) = blobs.follow(blobs.moving_blobs(frames))
    assert track.first == 30 and len(track.boxes) == 30
    np.testing.assert_allclose(track.boxes[10], [30, 20, 50, 40], atol=3)


def test_a_video_that_cant_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.avi"
    with pytest.raises(DataError, match=r"no frame of the video .*none\.avi can be read"):
        next(blobs.read_frames(path))
    with pytest.raises(DataError, match="doesn't say how many frames a second"):
        blobs.frame_rate(path)


def test_a_row_counts_targets_that_alert() -> None:
    row, times = stops.Row("made up", expected=1), np.array([0.0, 100, 200])
    rule = StopRule()
    assert row.add(np.array([0.0, 100, 200]), np.ones(3), times, rule, short=5)
    assert not row.add(np.array([0.0, 100, 200]), np.full(3, 0.3), times, rule, short=5)
    assert not row.add(np.array([0.0, 6, 0]), np.ones(3), times, rule, short=5)
    assert (row.targets, row.alerts, row.short, row.longest) == (3, 1, 2, 200)
    assert row.hours == pytest.approx(600 / 3600)


def test_what_must_hold_is_told() -> None:
    fine = [stops.Row("moving traffic", targets=20, expected=0), stops.Row("moving camera", alerts=2)]
    assert stops.violations(fine) == []
    broken = [
        stops.Row("moving traffic", targets=19, alerts=1, expected=0, wrong=1),
        stops.Row("parking lot", alerts=3, expected=3, wrong=2),
    ]
    assert stops.violations(broken) == [
        "moving traffic: 1 targets alert, 0 must (1 are wrong)",
        "parking lot: 3 targets alert, 3 must (2 are wrong)",
        "moving traffic: only 19 tracks, wanted at least 20",
    ]


def test_the_real_parking_lot(data_root: Path) -> None:
    lot = data_root / stops.PKLOT
    if not lot.is_dir():
        pytest.skip(f"no PKLot folder at {lot}")
    row = stops.ask_lot(lot, StopRule(), 5.0)
    assert row.wrong == 0 and row.alerts == row.expected > 10


def test_missing_data_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stops.main(["--data", str(tmp_path)]) == 1
    assert f"{tmp_path / stops.VIDEO} doesn't exist. Set MTLTRACK_DATA" in capsys.readouterr().err
    assert stops.main(["--clips", "0"]) == 1
    assert "--clips is 0; it must be at least 1" in capsys.readouterr().err
