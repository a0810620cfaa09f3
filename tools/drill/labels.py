"""Labels out of range: each must end as an error or as a counted bad sample that names its file and line.

For every kind of label a small data set is written with one wrong label in it, and clips are drawn from it as
training draws them. A wrong label that comes through is found by its absence from the reports.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tools.drill.row import Row

from mtltrack.core.alphabets import load_alphabet
from mtltrack.core.errors import DataError, MtltrackError
from mtltrack.data import ClipDataset, CropSettings, FaultLog, ViewSettings
from mtltrack.data.collate import collate
from mtltrack.data.datasets import Coco, FolderSequences, Got10k, Lasot, PkLot
from mtltrack.data.labelled import LabelledSequences
from mtltrack.data.sequences import SequenceDataset, SequenceInfo

WIDTH, HEIGHT, FRAMES, WRONG = 64, 48, 8, 5  # WRONG: number of the frame at fault, from 1
CROP = CropSettings(ViewSettings(16, 2.0), ViewSettings(32, 4.0), ViewSettings(16, 2.0))
TASKS = ("cls", "seg", "plate", "ocr", "alert")
RLE = {"size": [HEIGHT, WIDTH], "counts": [WIDTH * HEIGHT - 9, 9]}
ZONE = [[0, 0], [60, 0], [60, 40], [0, 40]]
FLAGS = (
    ("scale_variation", "low_res", "low_contrast"),
    (
        "motion_blur",
        "illu_change",
        "variance_appear",
        "partial_visibility",
        "background_clutter",
        "occlusion",
    ),
)


@dataclass
class Content:
    """What a labelled sequence consists of, for a case to spoil.

    Attributes:
        boxes: lines of the box file.
        lines: of the labels, one a frame; a text is written as it is.
        zones: of the zones' file.
    """

    boxes: list[str] = field(default_factory=lambda: ["10,12,16,14"] * FRAMES)
    lines: list[Any] = field(default_factory=lambda: [good_line(frame) for frame in range(1, FRAMES + 1)])
    zones: Any = field(default_factory=lambda: {"kerb": ZONE})


@dataclass(frozen=True)
class Case:
    """A wrong label.

    Attributes:
        name: what is wrong.
        place: of the fault: the end of the file's name, and the line where there is one.
        spoil: writes it into a good sequence.
    """

    name: str
    place: str
    spoil: Callable[[Content], object]


def good_line(frame: int) -> dict[str, Any]:
    """Return a line of labels with every key."""
    return {
        "frame_id": frame,
        "sequence_name": "car",
        "ground_truth_bbox": [9, 11, 25, 25],
        "cv_response": {name: {"flag": False} for name in FLAGS[0]},
        "vlm_response": {name: {"flag": False} for name in FLAGS[1]},
        "timestamp": frame / 10,
        "mask": RLE,
        "plate": {"bbox": [12, 14, 22, 20], "text": "AB12"},
        "alert": 0,
    }


def _line(**changed: Any) -> Callable[[Content], object]:
    return lambda content: content.lines[WRONG - 1].update(changed)


def _box(text: str) -> Callable[[Content], object]:
    return lambda content: content.boxes.__setitem__(WRONG - 1, text)


def _zones(zones: Any) -> Callable[[Content], object]:
    return lambda content: setattr(content, "zones", zones)


def _text(cut: Callable[[str], str]) -> Callable[[Content], object]:
    return lambda content: content.lines.__setitem__(WRONG - 1, cut(json.dumps(good_line(WRONG))))


def _plate(*box: float, text: str | None = "AB12") -> Callable[[Content], object]:
    return _line(plate={"bbox": list(box), "text": text})


def _flag(value: Any) -> Callable[[Content], object]:
    return lambda content: content.lines[WRONG - 1]["vlm_response"].update(occlusion={"flag": value})


NAN, INF = float("nan"), float("inf")
BOXES, LABELS, ZONES = f"groundtruth_rect.txt, line {WRONG}", f"car.jsonl:{WRONG}", "zones.json:1"
CASES = (
    Case("box with NaN", BOXES, _box("10,nan,16,14")),
    Case("box with infinity", BOXES, _box("10,12,inf,14")),
    Case("box of negative size", BOXES, _box("10,12,-16,14")),
    Case("box without area", BOXES, _box("10,12,0,14")),
    Case("box beside the picture", BOXES, _box("900,12,16,14")),
    Case("box above the picture", BOXES, _box("10,-80,16,14")),
    Case("box of three numbers", BOXES, _box("10,12,16")),
    Case("box of words", BOXES, _box("ten,12,16,14")),
    Case("condition flag 2", LABELS, _flag(2)),
    Case("condition flag of words", LABELS, _flag("yes")),
    Case("conditions of one group alone", LABELS, _line(cv_response=None)),
    Case("frame number 0", LABELS, _line(frame_id=0)),
    Case("frame number beyond the sequence", f"car.jsonl:{WRONG}", _line(frame_id=FRAMES + 90)),
    Case("frame number twice", LABELS, _line(frame_id=WRONG - 1)),
    Case("line that is cut", LABELS, _text(lambda line: line[: len(line) // 2])),
    Case("line that is no object", LABELS, _text(lambda _: "[1, 2]")),
    Case("line of another sequence", LABELS, _line(sequence_name="bus")),
    Case("labelled box of negative size", LABELS, _line(ground_truth_bbox=[25, 25, 9, 11])),
    Case("time stamp NaN", LABELS, _line(timestamp=NAN)),
    Case("time stamp of words", LABELS, _line(timestamp="noon")),
    Case("time stamp that goes back", LABELS, _line(timestamp=0.05)),
    Case("time stamp that stands still", LABELS, _line(timestamp=(WRONG - 1) / 10)),
    Case("time stamp absent", LABELS, lambda content: content.lines[WRONG - 1].pop("timestamp")),
    Case("mask of another size", LABELS, _line(mask={"size": [9, 9], "counts": [80, 1]})),
    Case("mask whose runs don't fill it", LABELS, _line(mask={**RLE, "counts": [9, 9]})),
    Case("mask of an absurd size", LABELS, _line(mask={"size": [10**6, 10**6], "counts": [10**12]})),
    Case("mask of negative runs", LABELS, _line(mask={**RLE, "counts": [-9, WIDTH * HEIGHT + 9]})),
    Case("mask without a file", LABELS, _line(mask="gone.png")),
    Case("plate beside the picture", LABELS, _plate(900, 14, 922, 20)),
    Case("plate with NaN", LABELS, _plate(NAN, 14, 22, 20)),
    Case("plate with infinity", LABELS, _plate(12, 14, INF, 20)),
    Case("plate of negative size", LABELS, _plate(22, 20, 12, 14)),
    Case("plate without area", LABELS, _plate(12, 14, 12, 20)),
    Case("text outside of the alphabet", LABELS, _plate(12, 14, 22, 20, text="AB-Ж")),
    Case("text of no character", LABELS, _plate(12, 14, 22, 20, text=" - ")),
    Case("text longer than the reader", LABELS, _plate(12, 14, 22, 20, text="A" * 40)),
    Case("text where no plate is", LABELS, _line(plate={"bbox": None, "text": "AB12"})),
    Case("alert 2", LABELS, _line(alert=2)),
    Case("alert -1", LABELS, _line(alert=-1)),
    Case("alert NaN", LABELS, _line(alert=NAN)),
    Case("alert without a zone", LABELS, lambda content: (_zones({})(content), _line(alert=1)(content))),
    Case("zone of two corners", ZONES, _zones({"kerb": ZONE[:2]})),
    Case("zone that crosses itself", ZONES, _zones({"kerb": [ZONE[0], ZONE[2], ZONE[1], ZONE[3]]})),
    Case("zone with NaN", ZONES, _zones({"kerb": [*ZONE[:2], [NAN, 4]]})),
    Case("zone of no area", ZONES, _zones({"kerb": [[0, 0], [1, 1], [2, 2]]})),
    Case("zones that are no object", ZONES, _zones([ZONE])),
)


def write_image(path: Path) -> None:
    """Write a noisy picture, alike for each path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.random.default_rng(len(str(path.name))).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    if not cv2.imwrite(str(path), picture):
        raise OSError(f"can't write {path}")


def write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_sequence(folder: Path, content: Content) -> SequenceDataset:
    """Write a sequence with its labels and open it as training does."""
    data, labels = folder / "data", folder / "labels"
    for frame in range(1, FRAMES + 1):
        write_image(data / "car" / "img" / f"{frame:04d}.jpg")
    write_text(data / "car" / "groundtruth_rect.txt", "\n".join(content.boxes) + "\n")
    lines = [line if isinstance(line, str) else json.dumps(line) for line in content.lines]
    write_text(labels / "car" / "car.jsonl", "\n".join(lines) + "\n")
    write_text(labels / "car" / "zones.json", json.dumps(content.zones))
    return LabelledSequences(FolderSequences(data), labels)


def reports_of(source: SequenceDataset, draws: int = 16) -> list[str]:
    """Draw clips until every frame has come; return what is reported: faults, or the error that ends it."""
    try:
        clips = ClipDataset(
            [source], None, draws, 1, CROP, tasks=TASKS, alphabet=load_alphabet("latin"), max_interval=FRAMES
        )
        log = FaultLog()
        for number in range(draws):
            log.add(collate([clips[(1, number)]]).sources)
    except MtltrackError as error:
        return [str(error)]
    return list(log.messages)


class Wrong:
    """A data set of one's own, in memory, whose labels or time stamps are wrong."""

    num_sequences = 1
    name = "own"

    def __init__(self, **given: Any) -> None:
        self.given = given

    def sequence_name(self, i: int) -> str:  # noqa: ARG002
        return "car"

    def sequence(self, i: int) -> SequenceInfo:  # noqa: ARG002
        boxes = np.tile([9.0, 11.0, 16.0, 14.0], (FRAMES, 1))
        return SequenceInfo("car", boxes, np.ones(FRAMES, dtype=bool), **self.given)

    def image(self, i: int, frame: int) -> np.ndarray:  # noqa: ARG002
        return np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)

    def mask(self, i: int, frame: int) -> np.ndarray:
        raise DataError(f"sequence {i} has no mask of frame {frame}")


def _classes(number: int) -> Mapping[str, Any]:
    index = np.where(np.arange(FRAMES) == WRONG - 1, number, 3)
    flags = np.zeros((FRAMES, 10), dtype=bool)
    return {"labels": {"cls": {"valid": np.ones(FRAMES, dtype=bool), "index": index, "flags": flags}}}


def own_cases() -> Iterator[tuple[str, str, SequenceDataset]]:
    """Yield cases of data sets that hand out wrong labels themselves: name, place, data set."""
    yield "class number 10 of 10", f"frame {WRONG}", Wrong(**_classes(10))
    yield "class number -1", f"frame {WRONG}", Wrong(**_classes(-1))
    times = np.arange(FRAMES, dtype=np.float64)
    for name, value in (("goes back", 0.5), ("stands still", WRONG - 2.0), ("is NaN", NAN)):
        wrong = times.copy()
        wrong[WRONG - 1] = value
        yield f"own time stamp {name}", f"frame {WRONG}", Wrong(timestamps=wrong)


def layout_cases(folder: Path) -> Iterator[tuple[str, str, Callable[[], SequenceDataset]]]:
    """Yield cases of the published layouts: name, place, how to open the data set."""
    boxes = ["10,12,16,14"] * FRAMES
    negative = [*boxes[: WRONG - 1], "10,12,-16,14", *boxes[WRONG:]]
    for name, flags, lines, place in (
        ("LaSOT box of negative size", "0", negative, f"groundtruth.txt, line {WRONG}"),
        ("LaSOT occlusion flag 7", "7", boxes, "full_occlusion.txt"),
    ):
        root = folder / name
        sequence = root / "car" / "car-9"
        write_text(sequence / "groundtruth.txt", "\n".join(lines))
        write_text(
            sequence / "full_occlusion.txt",
            ",".join(["0"] * (WRONG - 1) + [flags] + ["0"] * (FRAMES - WRONG)),
        )
        write_text(sequence / "out_of_view.txt", ",".join(["0"] * FRAMES))
        for frame in range(1, FRAMES + 1):
            write_image(sequence / "img" / f"{frame:08d}.jpg")
        yield name, place, lambda root=root: Lasot(root, "all")
    root = folder / "got"
    write_text(root / "train" / "list.txt", "a_1\n")
    write_text(root / "train" / "a_1" / "groundtruth.txt", "\n".join(boxes))
    write_text(root / "train" / "a_1" / "absence.label", "0\n" * FRAMES)
    write_text(root / "train" / "a_1" / "cover.label", "8\n" * (FRAMES - 1) + "12\n")
    yield "GOT-10k cover label 12", "cover.label", lambda: Got10k(root, "train_full")
    for name, box, place in (
        ("COCO box with NaN", [10.0, NAN, 9.0, 9.0], "instances_train2017.json"),
        ("COCO box of negative size", [10.0, 9.0, -9.0, 9.0], "instances_train2017.json"),
        ("COCO box beside the picture", [900.0, 9.0, 9.0, 9.0], "7, frame 1"),
    ):
        coco = folder / name
        items = [{"id": 6, "image_id": 1, "bbox": [10, 12, 16, 14]}, {"id": 7, "image_id": 1, "bbox": box}]
        content = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": items}
        write_text(coco / "annotations" / "instances_train2017.json", json.dumps(content))
        write_image(coco / "train2017" / "a.jpg")
        yield name, place, lambda coco=coco: Coco(coco)
    lot = folder / "lot"
    write_image(lot / "2013-02-22_06_10_00.jpg")
    points = "".join(f'<point x="{x}" y="{y}"/>' for x, y in ZONE)
    space = f'<space id="1" occupied="5"><contour>{points}</contour></space>'
    write_text(lot / "2013-02-22_06_10_00.xml", f"<parking>\n{space}\n</parking>")
    yield "PKLot occupied 5", "2013-02-22_06_10_00.xml:2", lambda: PkLot(lot)


def outcomes(folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Yield each case with the place that must be named and what was reported."""
    for number, case in enumerate(CASES):
        content = Content()
        case.spoil(content)
        yield case.name, case.place, reports_of(write_sequence(folder / f"case{number}", content))
    for name, place, source in own_cases():
        yield name, place, reports_of(source)
    for name, place, opened in layout_cases(folder):
        try:
            found = reports_of(opened())
        except MtltrackError as error:
            found = [str(error)]
        yield name, place, found


def is_named(place: str, reports: list[str]) -> bool:
    """Say whether something was reported, and all of it at the place of the fault."""
    return bool(reports) and all(place in report for report in reports)


def run(short: bool, folder: Path) -> list[Row]:  # noqa: ARG001
    """Draw from sequences with one wrong label each; the short drill does the same."""
    sound = reports_of(write_sequence(folder / "sound", Content()))
    found = list(outcomes(folder))
    silent = [name for name, place, reports in found if not is_named(place, reports)]
    told = f"{len(found) - len(silent)} of {len(found)} named, {len(sound)} reports without a fault"
    return [
        Row(
            f"labels out of range, {len(found)} kinds",
            "each an error or a bad sample that names file and line; none where labels are right",
            told + (f"; silent: {', '.join(silent)}" if silent else ""),
            not silent and not sound,
        )
    ]
