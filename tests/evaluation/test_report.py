"""Scores from result files."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from fake_trackers import walk, write_sequence

from mtltrack.core.errors import DataError
from mtltrack.evaluation.analysis import analyse
from mtltrack.evaluation.benchmarks import load_benchmark
from mtltrack.evaluation.formats import load_truths
from mtltrack.evaluation.report import BASELINE, Rules, Truth, evaluate, truths_of
from mtltrack.evaluation.report_files import save
from mtltrack.evaluation.results import ResultFolder, write_results

TRUTHS = [Truth("a", walk(4, step=5)), Truth("b", walk(2, step=0))]


@pytest.fixture
def perfect(tmp_path: Path) -> ResultFolder:
    folder = ResultFolder(tmp_path / "perfect")
    for truth in TRUTHS:
        write_results(folder, truth.name, truth.boxes_xywh, [1.0] + [0.1] * (len(truth.boxes_xywh) - 1))
    return folder


def test_perfect_results_and_the_first_box_held_still(perfect: ResultFolder) -> None:
    tracker, still = evaluate(TRUTHS, {"t": perfect}, Rules(), baseline=True)
    assert tracker.mean["mIoU"] == tracker.mean["OP75"] == tracker.mean["Precision"] == 1.0
    assert tracker.mean["AUC"] == pytest.approx(20 / 21)  # no overlap is above 1
    assert tracker.mean["FPS"] == pytest.approx(10.0)
    # boxes 10 wide that leave by 5 pixels a frame: overlaps 1, 5 / 15, 0, 0
    assert still.tracker == BASELINE and still.sequences["a"]["mIoU"] == pytest.approx((1 + 1 / 3) / 4)
    assert still.mean["mIoU"] == pytest.approx(((1 + 1 / 3) / 4 + 1) / 2)


def test_missing_results(perfect: ResultFolder, tmp_path: Path) -> None:
    other = ResultFolder(tmp_path / "other")
    write_results(other, "b", TRUTHS[1].boxes_xywh, [0.1, 0.1])
    folders = {"t": perfect, "u": other}
    with pytest.raises(
        DataError, match=r"'u' has no results for 1 of 2 sequences \(a\) in .*other; --allow-partial"
    ):
        evaluate(TRUTHS, folders, Rules())
    reports = evaluate(TRUTHS, folders, Rules(allow_partial=True))
    assert [list(report.sequences) for report in reports] == [["b"], ["b"]]
    assert "left out for every tracker" in reports[0].notes[0]
    with pytest.raises(DataError, match="no sequence has results of every tracker"):
        evaluate(TRUTHS, {"v": ResultFolder(tmp_path / "none")}, Rules(allow_partial=True))


def test_other_lengths(perfect: ResultFolder) -> None:
    write_results(perfect, "a", walk(3, step=5), [0.1] * 3)
    write_results(perfect, "b", walk(5, step=0), [0.1] * 5)
    with pytest.raises(
        DataError,
        match=r"'t': 2 of 2 results have another number of boxes .* 'a' 3 of 4 \('.*/a\.txt'\), "
        r"'b' 5 of 2 \('.*/b\.txt'\)\. .*--frames.*--without.*--allow-partial",
    ):
        evaluate(TRUTHS, {"t": perfect}, Rules())
    report = evaluate(TRUTHS, {"t": perfect}, Rules(allow_partial=True))[0]
    assert report.sequences["a"]["mIoU"] == 0.75 and report.sequences["b"]["mIoU"] == 1.0
    assert [re.sub(r" \('.*?'\)", "", note) for note in report.notes] == [
        "'t': boxes of 'a' 3 of 4: the frames that lack count as misses",
        "'t': boxes of 'b' 5 of 2: cut to the ground truth",
    ]


def test_of_many_other_lengths_the_first_are_listed(tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path)
    truths = [Truth(f"s{number:02d}", walk(3)) for number in range(25)]
    for truth in truths:
        write_results(folder, truth.name, walk(2), [0.1] * 2)
    with pytest.raises(DataError, match=r"25 of 25 results .*'s19' 2 of 3 \('[^']*'\), \.\.\.\. Was"):
        evaluate(truths, {"t": folder}, Rules())
    (report,) = evaluate(truths, {"t": folder}, Rules(allow_partial=True))
    assert "'s24' 2 of 3" in report.notes[0]


def test_absent_targets_of_got10k_count_by_their_boxes_as_published(tmp_path: Path) -> None:
    boxes = walk(20, step=0)
    boxes[5:, 0] += 20  # behind something, where the tracker doesn't follow
    folder = ResultFolder(tmp_path)
    write_results(folder, "a", walk(20, step=0), [0.1] * 20)
    absent = Truth("a", boxes, visible=np.arange(20) < 5, cover=np.where(np.arange(20) < 5, 8, 0))
    plain, published = (
        evaluate([absent], {"t": folder}, Rules(protocol=name, ao=name == "got10k"))[0]
        for name in ("otb", "got10k")
    )
    # 5 frames of 20 with an overlap of 1, which is above 20 of 21 thresholds; the others are misses
    for report in (plain, published):
        assert report.mean["AUC"] == pytest.approx(5 / 20 * 20 / 21)
    # two box sizes off: with the flags an error of -1, which counts as a hit, and no part of the mean overlap
    assert (plain.mean["NormPrecision"], plain.mean["mIoU"]) == (1.0, 1.0)
    assert (published.mean["NormPrecision"], published.mean["mIoU"]) == (0.25, 0.25)
    assert published.mean["AO"] == 1.0 and len(published.failures["a"]) == 0
    seen = evaluate([Truth("a", boxes)], {"t": folder}, Rules(protocol="got10k"))[0]
    assert len(seen.failures["a"]) == 1  # where nothing says that the target is absent


def test_errors_name_tracker_sequence_and_file(perfect: ResultFolder) -> None:
    perfect.boxes("a").write_text("1 1 1 1\n1 1 -1 1\n1 1 1 1\n1 1 1 1\n")
    wanted = r"^'t', sequence 'a', '.*a\.txt': predicted boxes must be numbers with w, h >= 0; line 2"
    with pytest.raises(DataError, match=wanted):
        evaluate(TRUTHS, {"t": perfect}, Rules())


def test_files(perfect: ResultFolder, tmp_path: Path) -> None:
    analysis = analyse("mine", TRUTHS, {"t": perfect}, Rules(), baseline=True)
    analysis.reports[0].mean["OP50"] = float("nan")
    table, content = save(analysis, tmp_path, ["csv", "json"])
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [(row["tracker"], row["sequence"]) for row in rows[:3]] == [("t", "mean"), ("t", "a"), ("t", "b")]
    assert float(rows[1]["mIoU"]) == 1.0 and len(rows) == 6
    read = json.loads(content.read_text())
    assert read["rules"]["protocol"] == "otb" and read["trackers"][0]["mean"]["OP50"] is None


def test_average_overlap_of_got10k(tmp_path: Path) -> None:
    boxes = walk(3)
    folder = ResultFolder(tmp_path / "r")
    sequence = write_sequence(tmp_path / "data" / "s", boxes)
    moved = boxes + np.array([5.0, 0, 0, 0])
    write_results(folder, "s", moved, [0.1] * 3)
    truth = Truth("s", boxes, cover=np.array([8, 8, 0]), frames=(sequence / "img" / "0001.png",))
    report = evaluate([truth], {"t": folder}, Rules(ao=True))[0]
    # only frame 2 counts: boxes 4 to 14 and 9 to 19 in an image that is 40 wide
    assert report.mean["AO"] == pytest.approx(5 / 15) and report.mean["SR50"] == 0.0


def test_what_got10ks_rules_lack_is_said(tmp_path: Path) -> None:
    boxes = walk(3, step=0)
    image = write_sequence(tmp_path / "data" / "a", boxes) / "img" / "0001.png"
    # boxes 10 wide from x = 3; the image ends at 40, behind the box from 35 to 45, which is cut by half
    far = boxes + np.array([32.0, 0, 0, 0])
    folder = ResultFolder(tmp_path / "r")
    for name in ("a", "b"):
        write_results(folder, name, far + np.array([5.0, 0, 0, 0]) * (name == "a"), [0.1] * 3)
    a = Truth("a", far, cover=np.array([8, 8, 8]), frames=(image,))
    (report,) = evaluate([a], {"t": folder}, Rules(ao=True))
    assert report.mean["AO"] == pytest.approx(0.0) and report.notes == []  # the answer lies outside
    (report,) = evaluate([a, Truth("b", far)], {"t": folder}, Rules(ao=True))
    assert report.sequences["a"]["AO"] == pytest.approx(5 / 15)  # without clipping
    assert report.notes == [
        "AO, SR: boxes aren't clipped to the image, because the images of 1 of 2 sequences aren't there "
        "(b, ...)",
        "AO, SR: hidden frames of 1 of 2 sequences count, because there is no cover.label (b, ...)",
    ]


def test_trackingnets_own_scores(tmp_path: Path) -> None:
    boxes = walk(4, step=0)
    folder = ResultFolder(tmp_path)
    write_results(folder, "a", boxes, [0.1] * 4)
    (report,) = evaluate([Truth("a", boxes)], {"t": folder}, Rules(protocol="trackingnet"))
    # 20 intervals: every overlap is above 0 to 0.95, none above 1, so that the last one counts by half
    assert report.mean["TNSuccess"] == report.sequences["a"]["TNSuccess"] == pytest.approx(19.5 / 20)
    assert report.mean["TNPrecision"] == report.mean["TNNormPrecision"] == 1.0


def test_ground_truth_folders(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.txt").write_text("1,2,3,4\n")
    assert [truth.name for truth in load_truths(tmp_path / "flat")] == ["a"]
    write_sequence(tmp_path / "deep" / "b", walk(2))
    assert [truth.name for truth in load_truths(tmp_path / "deep")] == ["b"]
    with pytest.raises(DataError, match=r"holds neither <seq>\.txt nor"):
        load_truths(tmp_path)
    benchmark = load_benchmark(str(tmp_path / "deep"))
    assert truths_of(benchmark)[0].image_size() == (40.0, 30.0)
