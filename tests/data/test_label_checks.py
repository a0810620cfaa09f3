"""The checker of label folders: all faults with file and line, and what each sequence has."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from data_files import make_folder, write_text

from mtltrack.core.alphabets import load_alphabet
from mtltrack.core.errors import DataError
from mtltrack.core.rle import encode_mask
from mtltrack.data.label_checks import Rules, SequenceLabels, check_labels

LATIN = Rules(load_alphabet("latin"))
MASK = np.zeros((48, 64), np.uint8)
MASK[10:20, 8:20] = 1
PIXEL = ("scale_variation", "low_res", "low_contrast")
VISUAL = (
    "motion_blur",
    "illu_change",
    "variance_appear",
    "partial_visibility",
    "background_clutter",
    "occlusion",
)


def flags(*shown: str, unknown: str = "") -> dict[str, Any]:
    def entry(key: str) -> dict[str, Any]:
        return {"flag": None if key == unknown else key in shown}

    return {
        "cv_response": {key: entry(key) for key in PIXEL},
        "vlm_response": {key: entry(key) for key in VISUAL},
    }


def write(folder: Path, lines: list[dict[str, Any]], zones: str | None = None, name: str = "bike") -> Path:
    numbered = [{"frame_id": n, **line} for n, line in enumerate(lines, start=1)]
    write_text(folder / name / f"{name}.jsonl", "\n".join(json.dumps(line) for line in numbered))
    if zones is not None:
        write_text(folder / name / "zones.json", zones)
    return folder


def check(folder: Path, rules: Rules = LATIN) -> SequenceLabels:
    (found,) = check_labels(folder, rules)
    return found


def test_what_a_sequence_has(tmp_path: Path) -> None:
    plate = {"bbox": [1, 2, 30, 12], "text": "b-ab 12"}
    write(
        tmp_path,
        [
            {"timestamp": 0.5, **flags("occlusion", "low_res"), "mask": encode_mask(MASK), "plate": plate},
            {"timestamp": 1.0, **flags(), "plate": {"bbox": None}, "alert": 0, "frame_file": "2.jpg"},
            {"timestamp": 7.25, **flags(unknown="motion_blur"), "plate": {"bbox": [1, 2, 3, 4]}, "alert": 1},
            {"timestamp": 8.0, "note": "by hand", "sequence_name": "bike"},
        ],
        '{"kerb": [[0, 0], [9, 0], [0, 9]], "bay": [[0, 0], [9, 0], [9, 9], [0, 9]]}',
    )
    assert check(tmp_path) == SequenceLabels(
        name="bike",
        frames=4,
        conditions=Counter({"Occlusion": 1, "Low Resolution": 1, "Normal": 1}),
        masks=1,
        plates=2,
        plateless=1,
        texts=1,
        alerts=1,
        calm=1,
        zones=2,
        seconds=7.5,
    )


def test_every_fault_is_told_with_its_line(tmp_path: Path) -> None:
    small = encode_mask(np.ones((24, 32), np.uint8))
    write(
        tmp_path,
        [
            {"timestamp": 0.0, "mask": encode_mask(MASK), "sequence_name": "car"},
            {"timestamp": 0.0, "plate": {"bbox": [1, 2, 30, 12], "text": "BÄ 1"}},
            {"timestamp": 1.0, "mask": small, "alert": 3},
            {"plates": {"bbox": None}},
            {"timestamp": 2.0, "mask": "masks/none.png", "alert": 1},
            {"timestamp": 3.0, "mask": {"size": [2, 2], "counts": [3]}, "plate": {"bbox": [5, 5, 1, 1]}},
            {"timestamp": 4.0, "plate": {"bbox": [1, 2, 30, 12], "text": "A" * 13}},
        ],
        '{"kerb": [[0, 0], [9, 0]],\n "bay": [[0, 0], [9, 0], [9, 9], [0, 9]],\n'
        ' "bow": [[0, 0], [9, 9], [9, 0], [0, 9]]}',
    )
    found = check(tmp_path)
    expected = [
        ("1", "sequence_name is 'car', but the file stands for the sequence 'bike'"),
        ("2", "timestamp 0 of frame 2 isn't later than 0 of frame 1"),
        ("2", "the plate's text 'BÄ 1' has 'Ä', which the alphabet"),
        ("3", "alert: wanted 0 or 1, found 3"),
        ("3", "the mask is 32 x 24 pixels, but the sequence's first is 64 x 48"),
        ("4", "the key 'plates' isn't read. Did you mean 'plate'? Rename it if so."),
        ("4", "frame 4 has no timestamp, but others have"),
        ("5", "can't read the mask"),
        ("6", "plate: wanted x2 >= x1 and y2 >= y1"),
        ("6", "the mask's runs cover 3 pixels"),
        ("7", "the plate's text 'AAAAAAAAAAAAA' needs 25 columns"),
    ]
    of_labels = f"{tmp_path}/bike/bike.jsonl:"
    told = [fault.removeprefix(of_labels).split(": ", 1) for fault in found.faults if of_labels in fault]
    assert sorted(line for line, _ in told) == [line for line, _ in expected] == [line for line, _ in told]
    for line, message in expected:
        assert [number for number, text in told if text.startswith(message)] == [line], message
    of_zones = f"{tmp_path}/bike/zones.json:"
    zones = [fault.removeprefix(of_zones) for fault in found.faults if fault.startswith(of_zones)]
    assert len(zones) == 2 and found.zones == 1
    assert zones[0].startswith("1: zone 'kerb' has 2 different corners")
    assert zones[1].startswith("3: zone 'bow' crosses or touches itself")


def test_alerts_without_zones_and_broken_zones(tmp_path: Path) -> None:
    write(tmp_path, [{"alert": 0}, {"alert": 1}])
    assert "bike.jsonl:2: alert is 1, but the sequence has no zone" in check(tmp_path).faults[0]
    write(tmp_path, [{"alert": 1}], "{")
    (fault,) = check(tmp_path).faults
    assert "zones.json:1: no JSON" in fault
    write(tmp_path, [{"alert": 1}], "[1]")
    assert "zones.json:1: zones must be an object of named polygons" in check(tmp_path).faults[0]


def test_masks_and_plates_are_held_against_the_frames(tmp_path: Path) -> None:
    images = make_folder(tmp_path / "data", ("bike",))  # 24 frames of 64 x 48
    folder = tmp_path / "labels"
    lines: list[dict[str, Any]] = [{} for _ in range(25)]
    lines[1] = {"mask": encode_mask(MASK)}
    lines[2] = {"mask": encode_mask(np.ones((24, 32), np.uint8))}
    lines[3] = {"plate": {"bbox": [60, 40, 70, 50], "text": "A1"}}
    lines[4] = {"plate": {"bbox": [64, 40, 70, 50], "text": "A1"}}
    write(folder, lines)
    rules = Rules(LATIN.alphabet, images=images)
    told = [fault.removeprefix(f"{folder}/bike/bike.jsonl:") for fault in check(folder, rules).faults]
    assert told[0].startswith("3: the mask is 32 x 24 pixels, but its frame is 64 x 48.")
    assert told[1].startswith(
        "5: the plate's bbox lies outside of its frame, 64 x 48 pixels: x1, y1, x2, y2 are 64, 40, 70, 50."
    )
    assert told[2].startswith("25: frame_id 25 is beyond the sequence, which has 24 images (")
    assert len(told) == 3
    # the frames may also lie beside the labels
    write(images, lines)
    assert [fault.split("jsonl:")[1][:2] for fault in check(images).faults] == ["3:", "5:", "25"]
    (images / "other").mkdir()
    rules = Rules(LATIN.alphabet, images=images / "other")
    (fault,) = [fault for fault in check(folder, rules).faults if "images of" in fault]
    assert fault.startswith(f"{folder}/bike/bike.jsonl: the images of the sequence aren't there: looked in")


def test_masks_beside_the_labels_are_no_frames(tmp_path: Path) -> None:
    write(tmp_path, [{"mask": f"{n}.png"} for n in (1, 2)])
    for n in (1, 2):
        assert cv2.imwrite(str(tmp_path / "bike" / f"{n}.png"), 255 * MASK[:, : 60 + 2 * n])
    (fault,) = check(tmp_path).faults
    assert "bike.jsonl:2: the mask is 64 x 48 pixels, but the sequence's first is 62 x 48." in fault


def test_lasot_and_got10k_folders_are_found(tmp_path: Path) -> None:
    folder = write(tmp_path / "labels", [{"mask": encode_mask(MASK)}], name="bike-3")
    for place in ("bike", "train"):
        images = make_folder(tmp_path / place, ()) / place
        make_folder(images, ("bike-3",))
        assert check(folder, Rules(LATIN.alphabet, images=tmp_path / place)).faults == []


def test_texts_of_another_alphabet_and_more_columns(tmp_path: Path) -> None:
    write(tmp_path, [{"plate": {"bbox": [1, 2, 30, 12], "text": "京A" + "1" * 13}}])
    assert len(check(tmp_path).faults) == 1
    assert len(check(tmp_path, Rules(load_alphabet("chinese"))).faults) == 1
    assert check(tmp_path, Rules(load_alphabet("chinese"), 27)).faults == []


def test_a_misnamed_file_and_zones_alone(tmp_path: Path) -> None:
    write_text(tmp_path / "bike" / "car.jsonl", "")
    (fault,) = check(tmp_path).faults
    assert fault == (
        f"{tmp_path}/bike/car.jsonl: isn't looked at: the labels of 'bike' must be called bike.jsonl."
    )
    write_text(tmp_path / "lot" / "zones.json", '{"bay": [[0, 0], [9, 0], [9, 9]]}')
    _, lot = check_labels(tmp_path, LATIN)
    assert (lot.name, lot.frames, lot.zones, lot.faults) == ("lot", 0, 1, [])


def test_folders_without_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the folder .*nowhere doesn't exist\. Give the folder of"):
        check_labels(tmp_path / "nowhere", LATIN)
    write(tmp_path / "train", [{}])
    with pytest.raises(DataError, match=r"has no labels: wanted <sequence>.* There are some in .*train\."):
        check_labels(tmp_path, LATIN)


def test_a_frame_without_a_line_lacks_its_time_stamp(tmp_path: Path) -> None:
    """Training refuses such a sequence; without images nobody knows how many frames there are."""
    write(tmp_path, [{"timestamp": 0.0}, {"timestamp": 0.5}])
    assert not check(tmp_path).faults
    for number in (1, 2, 3):
        cv2.imwrite(str(tmp_path / "bike" / f"{number:08d}.jpg"), np.zeros((48, 64, 3), np.uint8))
    (fault,) = check(tmp_path).faults
    assert fault.startswith(f"{tmp_path}/bike/bike.jsonl: frame 3 has no timestamp, but others have.")
