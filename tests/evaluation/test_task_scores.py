"""Tables of the tasks, from result files and labels written by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_trackers import write_sequence

from mtltrack.core.conditions import condition_names, conditions
from mtltrack.core.errors import DataError
from mtltrack.core.rle import encode_mask
from mtltrack.evaluation.analysis import Analysis
from mtltrack.evaluation.benchmarks import load_benchmark
from mtltrack.evaluation.labelled import LabelledResults, check_folder, labelled_results
from mtltrack.evaluation.report import Rules, TrackerReport, truths_of
from mtltrack.evaluation.report_files import save
from mtltrack.evaluation.results import ResultFolder, write_results
from mtltrack.evaluation.task_scores import score_cls, score_tasks
from mtltrack.metrics.robustness import find_failures
from mtltrack.metrics.success import Curves

SIZE = (40, 30)
PLATE = [10.0, 10.0, 20.0, 14.0]
# the annotation file counts pixels from 1, labels and answers from 0
TRUTH = np.tile([1.0, 1.0, 40.0, 20.0], (5, 1))


def mask(left: int) -> dict[str, Any]:
    """A square of 10 x 10 pixels."""
    pixels = np.zeros(SIZE[::-1], dtype=np.uint8)
    pixels[10:20, left : left + 10] = 1
    return encode_mask(pixels)


NOTHING = encode_mask(np.zeros(SIZE[::-1], dtype=np.uint8))


class Case:
    """A sequence of five frames on the disk: labels and results are given frame -> keys of the line."""

    def __init__(self, root: Path, name: str = "s") -> None:
        self.root, self.name = root, name
        self.sequence = write_sequence(root / "data" / name, TRUTH, SIZE)
        self.folder = ResultFolder(root / "results")

    def label(self, lines: dict[int, dict[str, Any]], where: Path | None = None) -> None:
        path = (where or self.root / "data") / self.name / f"{self.name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "".join(json.dumps({"frame_id": frame, **line}) + "\n" for frame, line in lines.items())
        )

    def answer(self, lines: dict[int, dict[str, Any]], boxes: np.ndarray = TRUTH) -> None:
        said = [{"frame": frame, **lines.get(frame, {})} for frame in range(1, 6)]
        write_results(self.folder, self.name, boxes, [0.1] * 5, said, decimals=2)

    def results(self, labels: Path | None = None) -> list[LabelledResults]:
        truths = truths_of(load_benchmark(str(self.root / "data")))
        return labelled_results(truths, self.folder, labels)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_masks(case: Case) -> None:
    case.label({2: {"mask": mask(10)}, 3: {"mask": mask(10)}, 5: {"mask": mask(10)}})
    boxes = np.tile([11.0, 11.0, 10.0, 10.0], (5, 1))
    boxes[2, 0] += 5  # the box of frame 3 is half beside the mask: 50 pixels of 150
    said = {2: mask(10), 3: NOTHING, 4: mask(0)}
    case.answer(
        {frame: {"seg": {"mask": item, "area": 1, "confidence": 1.0}} for frame, item in said.items()}, boxes
    )
    scores = score_tasks(case.results())["seg"]
    assert scores.rows[""] == {"frames": 2, "J_mean": 0.5, "J_recall": 0.5, "F_mean": 0.5, "F_recall": 0.5}
    assert scores.rows["its box, filled"]["J_mean"] == pytest.approx((1 + 1 / 3) / 2)
    assert scores.sequences["s"]["J_mean"] == 0.5 and scores.sequences["s"]["frames"] == 2


def test_masks_of_another_size_name_the_label(case: Case) -> None:
    case.label({2: {"mask": mask(10)}})
    small = encode_mask(np.zeros((3, 4), dtype=np.uint8))
    case.answer({2: {"seg": {"mask": small, "area": 0, "confidence": 0.0}}})
    with pytest.raises(
        DataError, match=r"mask of 's', frame 2 is 4 x 3 pixels, the label's \(.*s\.jsonl:1\) 40 x 30"
    ):
        score_tasks(case.results())


def plate(box: list[float] | None, confidence: float) -> dict[str, Any]:
    return {"plate": {"present": confidence > 0.5, "confidence": confidence, "bbox": box}}


def test_plates(case: Case) -> None:
    case.label({frame: {"plate": {"bbox": PLATE if frame != 3 else None}} for frame in (2, 3, 4)})
    case.answer({2: plate(PLATE, 0.9), 3: plate([0.0, 0.0, 9.0, 9.0], 0.8), 4: plate(PLATE, 0.7)})
    scores = score_tasks(case.results())["plate"]
    # ranked: hit, false alarm, hit; precision 1 at the 51 recalls up to 0.5, 2/3 at the 50 above
    expected = (51 + 50 * 2 / 3) / 101
    assert scores.rows[""] == pytest.approx(
        {"frames": 3, "AP50": expected, "AP50:95": expected, "presence_accuracy": 2 / 3, "presence_f1": 4 / 5}
    )
    # the boxes are as true as the labels, so the mean place is right in both frames
    assert scores.rows["mean place in its box"] == pytest.approx(scores.rows[""])
    case.answer({2: plate(None, 0.4), 3: plate(None, 0.1), 4: plate([11.0, 10.0, 21.0, 14.0], 0.7)})
    scores = score_tasks(case.results())["plate"]
    # one of two found, with an overlap of 36 / 44 = 0.818: at seven of the ten thresholds
    assert scores.rows[""]["AP50"] == pytest.approx(51 / 101)
    assert scores.rows[""]["AP50:95"] == pytest.approx(0.7 * 51 / 101)
    assert scores.sequences["s"]["presence_accuracy"] == pytest.approx(2 / 3)


def reading(text: str, fused: str) -> dict[str, Any]:
    joined = {"text": fused, "confidence": 0.5, "frames": 2}
    return {"ocr": {"text": text, "confidence": 0.5, "characters": [0.5] * len(text), "fused": joined}}


def test_texts(case: Case) -> None:
    labels = {2: "ab-12", 3: None, 4: "AB12", 5: "CD34"}
    case.label({frame: {"plate": {"bbox": PLATE, "text": text}} for frame, text in labels.items()})
    read = {2: ("AB12", "AB12"), 3: ("X", "X"), 4: ("AB13", "AB12"), 5: ("CD3", "CD34")}
    case.answer({frame: reading(*texts) for frame, texts in read.items()})
    rows = score_tasks(case.results())["ocr"].rows
    assert rows[""] == pytest.approx({"frames": 3, "exact": 1 / 3, "cer": 2 / 12, "length": 2 / 3})
    assert rows["fused readings"] == {"frames": 3, "exact": 1.0, "cer": 0.0, "length": 1.0}
    assert rows["last fused reading"] == {"frames": 1, "exact": 1.0, "cer": 0.0, "length": 1.0}
    assert rows["most common text"] == pytest.approx(
        {"frames": 3, "exact": 2 / 3, "cer": 4 / 12, "length": 1.0}
    )


def test_alerts(case: Case) -> None:
    (case.sequence / "zones.json").write_text('{"lane": [[0, 0], [30, 0], [30, 20]]}')
    red = {1: 0, 2: 0, 3: 1, 4: 1, 5: 1}
    case.label({frame: {"alert": alert, "timestamp": 10.0 * frame} for frame, alert in red.items()})
    late = {frame: {"alert": {"alert": frame >= 4, "stopped": 1.0}} for frame in range(2, 6)}
    case.answer(late)
    scores = score_tasks(case.results())["alert"]
    said = scores.rows[""]
    assert {key: said[key] for key in ("frames", "events", "alarms")} == {
        "frames": 4,
        "events": 1,
        "alarms": 1,
    }
    assert (said["event_precision"], said["event_recall"], said["delay_median"]) == (1.0, 1.0, 10.0)
    assert said["frame_f1"] == pytest.approx(4 / 5) and said["false_alarms_per_hour"] == 0.0
    assert scores.rows["always alert"]["delay_median"] == -10.0
    assert scores.sequences["s"] == pytest.approx(said, nan_ok=True)


def flagged(*names: str, unknown: str = "") -> dict[str, Any]:
    line: dict[str, Any] = {"cv_response": {}, "vlm_response": {}}
    for row in conditions():
        if row.group:
            line[row.group][row.key] = {"flag": None if row.key == unknown else row.key in names, "conf": 1.0}
    return line


def test_conditions(case: Case, tmp_path: Path) -> None:
    names = condition_names()

    def said(best: int) -> dict[str, Any]:
        return {"cls": {"name": names[best], "index": best, "probabilities": np.eye(10)[best] * 0.9 + 0.01}}

    case.answer({2: said(3), 3: said(0), 4: said(9)})
    assert score_cls(case.results()) is None
    case.label({2: flagged("motion_blur"), 3: flagged(), 4: flagged()}, tmp_path / "labels")
    scores = score_cls(case.results(tmp_path / "labels"))
    assert scores is not None and scores.detail is not None
    assert scores.rows[""]["accuracy"] == pytest.approx(2 / 3)  # Normal was once called Occlusion
    assert scores.detail.confusion()[3, 3] == 1 and scores.detail.confusion()[9, 0] == 1
    constant = scores.rows["most common answer"]
    assert constant["accuracy"] == pytest.approx(2 / 3) and constant["balanced_accuracy"] == 0.5
    assert scores.sequences["s"]["accuracy"] == pytest.approx(2 / 3)


def test_conditions_as_flags(case: Case) -> None:
    def said(*raised: int) -> dict[str, Any]:
        chances = [0.9 if flag in raised else 0.1 for flag in range(9)]
        return {"cls": {"name": "x", "flags": ["x"] * len(raised), "probabilities": chances}}

    case.answer({2: said(3, 0), 3: said()})
    case.label({2: flagged("motion_blur", "occlusion", unknown="low_res"), 3: flagged("motion_blur")})
    scores = score_cls(case.results())
    assert scores is not None
    assert scores.rows[""]["accuracy"] == pytest.approx(16 / 17)  # 17 flags are known, one was missed
    case.answer({2: {"cls": {"name": "x", "probabilities": [0.5, 0.5]}}})
    with pytest.raises(DataError, match="the results of 's' have 2 classes, the labels 10: Occlusion"):
        score_cls(case.results())


def test_labels_of_another_sequence_are_refused(case: Case) -> None:
    case.answer({2: plate(PLATE, 0.9)})
    case.label({2: {"plate": {"bbox": PLATE}, "sequence_name": "other"}})
    with pytest.raises(DataError, match=r"s\.jsonl:1: sequence_name is 'other'"):
        case.results()


def test_where_labels_are_looked_for(case: Case, tmp_path: Path) -> None:
    case.answer({2: plate(PLATE, 0.9)})
    assert not case.results() and not case.results(tmp_path)
    case.label({2: {"plate": {"bbox": None}}})
    assert score_tasks(case.results())["plate"].rows[""]["presence_accuracy"] == 0.0
    case.label({2: {"plate": {"bbox": PLATE}}}, tmp_path / "labels")
    assert score_tasks(case.results(tmp_path / "labels"))["plate"].rows[""]["AP50"] == 1.0
    with pytest.raises(DataError, match=r"--labels '.*none' is no folder; wanted <folder>/<sequence>"):
        check_folder(tmp_path / "none", "--labels")


def test_files_hold_the_tasks(case: Case, tmp_path: Path) -> None:
    case.label({2: {"plate": {"bbox": PLATE}}, 3: {"plate": {"bbox": None}}})
    case.answer({2: plate(PLATE, 0.9), 3: plate(None, 0.1)})
    scores = score_tasks(case.results())
    curves = Curves(np.zeros(21), np.zeros(51), np.zeros(51))
    lost = {"s": find_failures([1.0])}
    report = TrackerReport("t", {"AUC": 0.5}, {"s": {"AUC": 0.5}}, curves, failures=lost)
    tasks = {"plate": {"t": scores["plate"]}}
    analysis = Analysis("mine", Rules(), [report], "AUC", {"t": {}}, [], tasks=tasks)
    table, content = save(analysis, tmp_path, ["csv", "json"])
    rows = {(row["tracker"], row["sequence"]): row for row in csv.DictReader(table.read_text().splitlines())}
    assert list(rows) == [("t", "mean"), ("t", "s"), ("t: mean place in its box", "mean")]
    assert (rows["t", "mean"]["AUC"], rows["t", "mean"]["plate.AP50"]) == ("0.5", "1.0")
    assert rows["t", "s"]["plate.frames"] == "2" and rows["t: mean place in its box", "mean"]["AUC"] == ""
    read = json.loads(content.read_text())["tasks"]["plate"]["t"]
    assert read["rows"]["t"]["AP50"] == 1.0 and read["sequences"]["s"]["frames"] == 2
    assert read["rows"]["t: mean place in its box"]["presence_accuracy"] == 0.5
