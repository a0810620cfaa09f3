"""Scene conditions: the table, flags to single labels, OTB attributes, side-car files."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from data_files import FRAMES, box_of, make_folder, write_text

from mtltrack.core import conditions
from mtltrack.core.conditions import condition_names, normal_index, priority_order
from mtltrack.core.errors import DataError
from mtltrack.core.rle import encode_mask
from mtltrack.data.datasets import FolderSequences, ImagenetVid
from mtltrack.data.labelled import LabelledSequences, join_labels
from mtltrack.data.labels import attributes_of, otb_flags, otb_mapping, read_attribute_file, single_labels
from mtltrack.data.sequences import PlateLabel
from mtltrack.data.sidecars import parse_sidecar, read_sidecar

NAMES = [
    "Occlusion",
    "Illumination Change",
    "Scale Variation",
    "Motion Blur",
    "Variance in Appearance",
    "Partial Visibility",
    "Low Resolution",
    "Background Clutter",
    "Low Contrast Object",
    "Normal",
]
VISUAL = [
    "motion_blur",
    "illu_change",
    "variance_appear",
    "partial_visibility",
    "background_clutter",
    "occlusion",
]
PIXEL = ["scale_variation", "low_res", "low_contrast"]


def line(frame: int, *flagged: str, **more: Any) -> str:
    def group(keys: list[str]) -> dict[str, Any]:
        return {key: {"flag": key in flagged, "conf": 0.9} for key in keys}

    content = {
        "sequence_name": "bike",
        "frame_id": frame,
        "cv_response": group(PIXEL),
        "vlm_response": group(VISUAL),
    }
    return json.dumps({**content, **more})


def sidecar(folder: Path, lines: list[str], name: str = "bike") -> Path:
    path = folder / name / f"{name}.jsonl"
    write_text(path, "\n".join(lines) + "\n")
    return path


def test_names_and_numbers_are_those_of_the_label_files() -> None:
    assert list(condition_names()) == list(conditions.CONDITIONS) == NAMES
    assert normal_index() == 9
    with pytest.raises(AttributeError, match="NOTHING"):
        _ = conditions.NOTHING


def test_priority_is_the_published_order_then_a_fixed_one() -> None:
    assert [NAMES[i] for i in priority_order()] == [
        "Occlusion",
        "Motion Blur",
        "Illumination Change",
        "Partial Visibility",
        "Variance in Appearance",
        "Background Clutter",
        "Scale Variation",
        "Low Resolution",
        "Low Contrast Object",
        "Normal",
    ]


@pytest.mark.parametrize(
    ("flagged", "expected"),
    [
        ([], "Normal"),
        (["low_contrast"], "Low Contrast Object"),
        (["low_res", "scale_variation", "low_contrast"], "Scale Variation"),
        (["background_clutter", "scale_variation"], "Background Clutter"),
        (["variance_appear", "partial_visibility"], "Partial Visibility"),
        (["illu_change", "motion_blur"], "Motion Blur"),
        (VISUAL, "Occlusion"),
    ],
)
def test_single_label_of_a_line(flagged: list[str], expected: str, tmp_path: Path) -> None:
    content = read_sidecar(sidecar(tmp_path, [line(3, *flagged)]))
    assert list(content.flags) == [3]
    assert NAMES[single_labels(content.flags[3][None])[0]] == expected
    assert content.flags[3].sum() == len(flagged)


def test_labels_join_a_data_set_frame_by_frame(tmp_path: Path, made: Callable[[str], Path]) -> None:
    sidecar(
        tmp_path, [line(1, "occlusion"), line(4, "low_res", "illu_change"), line(5), line(20, "motion_blur")]
    )
    data = LabelledSequences(
        FolderSequences(made("folder"), ranges={"bike": [3, 12], "tram": [1, 9]}), tmp_path
    )
    assert data.num_labelled == 1 and data.num_sequences == 2
    label = data.sequence(0).labels["cls"]  # frames 3 to 12
    assert label["valid"].tolist() == [False, True, True] + [False] * 7
    assert label["index"].tolist() == [-100, 1, 9] + [-100] * 7
    assert [NAMES[i] for i in np.flatnonzero(label["flags"][1])] == ["Illumination Change", "Low Resolution"]
    assert np.flatnonzero(label["flags"][2]).tolist() == [9] and not label["flags"][0].any()
    assert "cls" not in data.sequence(1).labels
    assert data.image(0, 0).shape == (48, 64, 3) and data.sequence_name(1) == "tram"


def test_optional_keys_are_kept_for_their_tasks(tmp_path: Path, made: Callable[[str], Path]) -> None:
    plate = {"bbox": [1, 2, 30, 12], "text": "B AB 123"}
    lines = [line(n + 1, timestamp=n * 0.5) for n in range(FRAMES)]
    lines[2] = line(3, timestamp=1.0, plate=plate, alert=1, mask={"size": [48, 64], "counts": "x"})
    sidecar(tmp_path, lines)
    write_text(tmp_path / "bike" / "zones.json", '{"kerb": [[0, 0], [30, 0], [30, 20]]}')
    info = LabelledSequences(FolderSequences(made("folder")), tmp_path).sequence(0)
    assert info.times()[:4].tolist() == [0.0, 0.5, 1.0, 1.5]
    where = f"{tmp_path / 'bike' / 'bike.jsonl'}:3"
    assert info.plates == {2: PlateLabel((1.0, 2.0, 30.0, 12.0), "B AB 123", where)} and info.has_text
    assert info.alerts == {2: True} and list(info.zones) == ["kerb"] and info.stopped is None
    assert info.masked is not None and np.flatnonzero(info.masked).tolist() == [2]
    assert info.mask_where == {2: where}


def test_a_line_with_other_keys_only_is_unlabelled(tmp_path: Path) -> None:
    content = read_sidecar(
        sidecar(tmp_path, ['{"frame_id": 2, "alert": 0, "plate": {"bbox": null, "text": null}}', ""])
    )
    assert not content.flags and content.alerts == {2: 0} and content.plates[2]["bbox"] is None


def test_all_faults_of_a_file_can_be_listed(tmp_path: Path) -> None:
    path = sidecar(tmp_path, [line(2, alert=7, timestamp="x"), "{", line(2), line(3)])
    content, faults = parse_sidecar(path)
    assert [fault.split(": ")[0].rpartition(":")[2] for fault in faults] == ["1", "1", "2", "3"]
    assert "timestamp: wanted a finite number" in faults[0] and "alert: wanted 0 or 1" in faults[1]
    assert sorted(content.flags) == [2, 3] and not content.alerts
    assert parse_sidecar(tmp_path / "none.jsonl")[1][0].startswith(
        f"{tmp_path / 'none.jsonl'}: the labels can't be read"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{oops", r"bike\.jsonl:2: Expecting property name.*Correct the line"),
        ("[]", r"bike\.jsonl:2: wanted a JSON object"),
        ('{"frame_id": 0}', r"bike\.jsonl:2: frame_id: wanted a whole number from 1 on, found 0"),
        ('{"frame_id": true}', r"frame_id: wanted a whole number from 1 on, found True"),
        (line(1), r"bike\.jsonl:2: frame_id 1 has been on line 1 already"),
        ('{"frame_id": 2, "cv_response": {}}', r"has cv_response alone; the flags need both"),
        (
            '{"frame_id": 2, "cv_response": {}, "vlm_response": {}}',
            r"vlm_response\.occlusion\.flag: wanted true, false or null \(not known\), found None",
        ),
        (line(2, timestamp=10**400), r"timestamp: wanted a finite number, found 1000"),
        (line(2, timestamp=float("nan")), r"timestamp: wanted a finite number, found nan"),
        (line(2, plate=[1]), r"plate: wanted an object with bbox"),
        (
            '{"frame_id": 2, "cv_response": 1, "vlm_response": {"occlusion": {"flag": 2}}}',
            r"occlusion\.flag: wanted true, false or null \(not known\), found {'flag': 2}",
        ),
        (line(2, plate={"bbox": [5, 5, 1, 9]}), r"plate: wanted x2 >= x1 and y2 >= y1"),
        (
            line(2, plate={"bbox": [5, 5, 5, 9]}),
            r"plate: wanted a bbox with an area, or null for no plate, found \[5, 5, 5, 9\]",
        ),
        (
            line(2, plate={"bbox": None, "text": "AB1"}),
            r"plate: has the text 'AB1', but bbox null says that no plate can be seen",
        ),
        (line(2, alert=2), r"alert: wanted 0 or 1, found 2"),
        (line(2, mask=3), r"mask: wanted a PNG path or a COCO run-length object"),
    ],
)
def test_malformed_lines_name_file_and_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_sidecar(sidecar(tmp_path, [line(1), text]))


def test_time_stamps_of_some_frames_only(tmp_path: Path, made: Callable[[str], Path]) -> None:
    sidecar(tmp_path, [line(1, timestamp=0.0), line(2)])
    with pytest.raises(DataError, match=r"bike\.jsonl:2: frame 2 has no timestamp, but others have"):
        LabelledSequences(FolderSequences(made("folder")), tmp_path).sequence(0)
    sidecar(tmp_path, [line(1, timestamp=0.0)])
    with pytest.raises(DataError, match=r"bike\.jsonl: frame 2 has no timestamp, but others have"):
        LabelledSequences(FolderSequences(made("folder")), tmp_path).sequence(0)


def test_time_stamps_that_do_not_increase(tmp_path: Path, made: Callable[[str], Path]) -> None:
    times = [0.5 * n for n in range(FRAMES)]
    times[6] = times[5]
    lines = [line(n + 1, timestamp=times[n]) for n in range(FRAMES)]
    sidecar(tmp_path, [lines[6], *lines[:6], *lines[7:]])  # the order of the lines doesn't matter
    with pytest.raises(
        DataError,
        match=r"bike\.jsonl:1: timestamp 2\.5 of frame 7 isn't later than 2\.5 of frame 6\. .*correct",
    ):
        LabelledSequences(FolderSequences(made("folder")), tmp_path).sequence(0)


def test_alerts_need_a_zone_that_is_a_polygon(tmp_path: Path, made: Callable[[str], Path]) -> None:
    sidecar(tmp_path, [line(1, alert=0), line(2, alert=1)])
    data = FolderSequences(made("folder"))
    with pytest.raises(
        DataError, match=r"bike\.jsonl:2: alert is 1, but the sequence has no zone .*Write .*zones\.json"
    ):
        LabelledSequences(data, tmp_path).sequence(0)
    for corners, message in (
        ("[[0, 0], [9, 9]]", "zone 'kerb' has 2 different corners"),
        ("[[0, 0], [9, 9], [9, 0], [0, 9]]", "zone 'kerb' crosses or touches itself"),
    ):
        write_text(tmp_path / "bike" / "zones.json", '{\n "kerb": ' + corners + "}")
        with pytest.raises(DataError, match=r"zones\.json:2: " + message):
            LabelledSequences(data, tmp_path).sequence(0)


def test_flags_that_a_file_does_not_know(tmp_path: Path, made: Callable[[str], Path]) -> None:
    unsure = json.loads(line(2, "low_res"))
    unsure["vlm_response"]["occlusion"]["flag"] = None
    blank = json.loads(line(3))
    blank["vlm_response"]["motion_blur"] = {"flag": None}
    sidecar(tmp_path, [line(1), json.dumps(unsure), json.dumps(blank)])
    label = LabelledSequences(FolderSequences(made("folder")), tmp_path).sequence(0).labels["cls"]
    assert label["known"][0].all() and not label["known"][3:].any()
    assert [NAMES[i] for i in np.flatnonzero(~label["known"][1])] == ["Occlusion"]
    # nothing is flagged, but it may be blurred: whether the frame is Normal isn't known either
    assert [NAMES[i] for i in np.flatnonzero(~label["known"][2])] == ["Motion Blur", "Normal"]
    assert label["index"][:3].tolist() == [9, 6, 9] and not label["flags"][1, 0]


def test_masks_come_from_the_labels_or_else_from_the_data_set(
    tmp_path: Path, made: Callable[[str], Path]
) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[10:20, 8:20] = 1
    lines = [
        line(1, mask=encode_mask(mask)),
        line(2, mask="masks/2.png"),
        line(3, mask="masks/3.png"),
        line(5),
    ]
    sidecar(tmp_path, lines)
    (tmp_path / "bike" / "masks").mkdir()
    assert cv2.imwrite(str(tmp_path / "bike" / "masks" / "2.png"), 255 * mask)
    data = LabelledSequences(FolderSequences(made("folder")), tmp_path)
    for frame in (0, 1):
        np.testing.assert_array_equal(data.mask(0, frame), mask)
    with pytest.raises(
        DataError,
        match=r"bike\.jsonl:3: can't read the mask .*3\.png \(No such file.*relative to the file",
    ):
        data.mask(0, 2)
    with pytest.raises(DataError, match=r"frame 5 of 'bike' has no mask: folder comes without masks\. Give"):
        data.mask(0, 4)


def test_what_a_line_says_goes_before_what_the_data_set_says(
    tmp_path: Path, made: Callable[[str], Path]
) -> None:
    path = sidecar(tmp_path, [line(2, plate={"bbox": None}, alert=0, mask="2.png"), line(9, alert=1)])
    info = FolderSequences(made("folder"), ranges={"bike": [1, 6]}).sequence(0)
    info.plates = {0: PlateLabel((1, 2, 3, 4), "A"), 1: PlateLabel((1, 2, 3, 4), "A")}
    info.alerts, info.zones, info.stopped = {0: True, 1: True}, {"kerb": np.zeros((3, 2))}, np.arange(6.0)
    info.masked = np.array([True] + [False] * 5)
    joined = join_labels(info, read_sidecar(path), path)
    assert joined.plates[0].text == "A" and joined.plates[1].box_xyxy is None
    assert joined.alerts == {0: True, 1: False} and list(joined.zones) == ["kerb"]
    assert joined.masked is not None and joined.masked.tolist() == [True, True] + [False] * 4
    assert joined.stopped is info.stopped and not joined.has_text and not info.masked[1]
    stamped = sidecar(tmp_path, [line(n + 1, timestamp=float(n)) for n in range(6)])
    assert join_labels(info, read_sidecar(stamped), stamped).stopped is None  # other times, another clock


def corners(frame: int, shift: float = 0, longer: float = 0) -> list[float]:
    """x1, y1, x2, y2 of a frame that counts from 1."""
    x, y, w, h = box_of(frame - 1)
    return [x + shift, y + shift, x + w + shift + longer, y + h + shift + longer]


@pytest.mark.parametrize(("shift", "longer"), [(0, 0), (1, 0), (1, -1), (0, -1)])
def test_boxes_that_agree_but_for_the_way_of_counting(
    shift: float, longer: float, tmp_path: Path, made: Callable[[str], Path]
) -> None:
    lines = [line(n, "low_res", ground_truth_bbox=corners(n, shift, longer)) for n in range(1, FRAMES + 1)]
    lines[6] = line(7, ground_truth_bbox=[0, 0, 5, 5])  # a few frames may differ
    lines[7] = line(8, ground_truth_bbox=[0, 0, 0, 0])
    lines[8] = line(9, ground_truth_bbox=[float("nan")] * 4)
    sidecar(tmp_path, lines)
    data = FolderSequences(made("folder"), ranges={"bike": [6, 20]})
    assert LabelledSequences(data, tmp_path).sequence(0).labels["cls"]["valid"].all()


def test_tiny_boxes_may_be_a_pixel_off(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", ("bike",))
    write_text(root / "bike" / "groundtruth_rect.txt", "11,21,3,3\n" * FRAMES)
    sidecar(tmp_path / "labels", [line(1, ground_truth_bbox=[11, 21, 13, 23])])  # IoU 4/9 as it stands
    assert LabelledSequences(FolderSequences(root), tmp_path / "labels").sequence(0).labels["cls"]["valid"][0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            [line(1), line(2, sequence_name="car")],
            r"bike\.jsonl:2: sequence_name is 'car', but the file stands for the sequence 'bike'\. Put the",
        ),
        (
            [line(1), line(FRAMES + 1)],
            r"bike\.jsonl:2: frame_id 25 is beyond .* 24 frames\. Correct the line",
        ),
        (
            [line(n, ground_truth_bbox=[n, 30, n + 12, 40]) for n in range(1, FRAMES + 1)],
            r"bike\.jsonl:1: ground_truth_bbox \[1.0, 30.0, 13.0, 40.0\] of frame 1 isn't the target of "
            r"'bike' at \[8.0, 10.0, 20.0, 20.0\]: so on 7 of 7 .* correct CLS_ANN_DIR",
        ),
    ],
)
def test_labels_of_another_sequence_are_refused(
    lines: list[str], message: str, tmp_path: Path, made: Callable[[str], Path]
) -> None:
    sidecar(tmp_path, lines)
    with pytest.raises(DataError, match=message):
        LabelledSequences(FolderSequences(made("folder")), tmp_path).sequence(0)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (line(2, ground_truth_bbox=[18, 20, 12, 10]), r"2: ground_truth_bbox: wanted x2 >= x1 and y2 >= y1"),
        (line(2, sequence_name=4), r"2: sequence_name: wanted a string, found 4"),
        (line(2, plate={"bbox": [1, 2, float("nan"), 4]}), r"2: plate: wanted a finite number, found nan"),
        ('{"frame_id": 2, "alert": 1', r"2: Expecting ',' delimiter"),  # cut behind its number
        ('{"frame_i', r"2: Unterminated string"),  # the frame between its neighbours
        (line(0), r"2: frame_id: wanted a whole number from 1 on, found 0"),
    ],
)
def test_a_broken_line_spoils_its_own_frame_alone(
    second: str, message: str, tmp_path: Path, made: Callable[[str], Path]
) -> None:
    path = sidecar(tmp_path, [line(1, alert=0), second, line(3, alert=0)])
    info = LabelledSequences(FolderSequences(made("folder")), tmp_path).sequence(0)
    assert list(info.faults) == [1] and info.faults[1].startswith(f"{path}:{message}")
    assert info.alerts.keys() >= {0, 2}


def test_a_broken_line_of_nobody_knows_which_frame_spoils_the_file(
    tmp_path: Path, made: Callable[[str], Path]
) -> None:
    data = LabelledSequences(FolderSequences(made("folder")), sidecar(tmp_path, [line(1)]).parents[1])
    sidecar(tmp_path, [line(1), "{", line(5)])
    with pytest.raises(DataError, match=r"bike\.jsonl:2: Expecting property name"):
        data.sequence(0)
    sidecar(tmp_path, [line(1), "{", "{"])
    with pytest.raises(DataError, match=r"bike\.jsonl:2: Expecting property name"):
        LabelledSequences(FolderSequences(made("folder")), tmp_path).sequence(0)


def test_times_of_broken_lines_lie_between_their_neighbours(
    tmp_path: Path, made: Callable[[str], Path]
) -> None:
    lines = [line(n, timestamp=0.5 * n) for n in range(1, FRAMES + 1)]
    lines[0] = lines[0].replace("0.5", "nix")
    lines[4] = lines[4][:30] + "..."
    lines[-1] = lines[-1][:9]
    sidecar(tmp_path, lines)
    info = LabelledSequences(FolderSequences(made("folder")), tmp_path).sequence(0)
    assert sorted(info.faults) == [0, 4, FRAMES - 1]
    np.testing.assert_allclose(info.timestamps, 0.5 * np.arange(1, FRAMES + 1))


def test_frames_beyond_a_range_are_left_out_but_not_beyond_the_sequence(
    tmp_path: Path, made: Callable[[str], Path]
) -> None:
    data = FolderSequences(made("folder"), ranges={"bike": [3, 6]})
    path = sidecar(tmp_path, [line(4), line(FRAMES)])
    assert LabelledSequences(data, tmp_path).sequence(0).labels["cls"]["valid"].sum() == 1
    write_text(path, line(FRAMES + 1))
    with pytest.raises(DataError, match="frame_id 25 is beyond"):
        LabelledSequences(data, tmp_path).sequence(0)


def test_slashes_in_a_name_are_underscores_in_the_label_folder(
    tmp_path: Path, made: Callable[[str], Path]
) -> None:
    data = ImagenetVid(made("vid"))
    name = data.sequence_name(0)
    assert name == "0002/00000031/0"
    sidecar(tmp_path, [line(1, "low_res", sequence_name=name)], "0002_00000031_0")
    labelled = LabelledSequences(data, tmp_path)
    assert labelled.num_labelled == 1 and labelled.sequence(0).labels["cls"]["valid"][0]


def test_a_label_folder_that_fits_no_sequence(tmp_path: Path, made: Callable[[str], Path]) -> None:
    sidecar(tmp_path, [line(1)], "car")
    with pytest.raises(
        DataError, match=r"no labels for any of the 2 sequences of folder; wanted .*bike/bike\.jsonl"
    ):
        LabelledSequences(FolderSequences(made("folder")), tmp_path)
    with pytest.raises(DataError, match=r"CLS_ANN_DIR: the folder .*nowhere doesn't exist"):
        LabelledSequences(FolderSequences(made("folder")), tmp_path / "nowhere")


def test_every_otb_attribute_maps_to_a_condition_or_to_none() -> None:
    mapping = otb_mapping()
    codes = ["iv", "sv", "occ", "def", "mb", "fm", "ipr", "opr", "ov", "bc", "lr"]
    assert [code for code in mapping if len(code) <= 3] == codes
    assert set(mapping.values()) <= {*NAMES[:9], ""}
    assert mapping["background clutters"] == mapping["bc"] == "Background Clutter" and mapping["fm"] == ""


def test_attributes_label_every_frame_of_a_sequence(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", ("bike_0001-0024", "tram", "ship"))
    write_text(root / "tram" / "attrs.txt", "SV, OPR\nFM\n")
    table = tmp_path / "attributes.json.gz"
    table.write_bytes(gzip.compress(json.dumps({"bike": {"attr": ["Fast Motion"]}, "tram": ["LR"]}).encode()))
    data = FolderSequences(root, conditions="otb", attributes=table)
    bike, ship, tram = (data.sequence(i).labels for i in range(3))
    assert set(bike["cls"]["index"]) == {9}  # fast motion tells of no condition
    assert ship == {}
    assert tram["cls"]["valid"].all() and set(tram["cls"]["index"]) == {4}  # attrs.txt wins over the table
    assert np.flatnonzero(tram["cls"]["flags"][7]).tolist() == [2, 4]
    untold = [NAMES[i] for i in np.flatnonzero(~tram["cls"]["known"][7])]
    assert untold == ["Low Contrast Object"]  # no attribute tells of it
    assert [NAMES[i] for i in np.flatnonzero(~bike["cls"]["known"][0])] == ["Low Contrast Object", "Normal"]
    assert attributes_of("bike_0001-0250", {"bike": ["IV"]}) == ["IV"]
    assert attributes_of("boat", {"bike": ["IV"]}) is None


def test_attribute_faults_are_named(tmp_path: Path, made: Callable[[str], Path]) -> None:
    with pytest.raises(
        DataError, match=r"a/attrs\.txt: 'OCCL' is no OTB attribute\. Did you mean 'occ'.*Known: IV, SV"
    ):
        otb_flags(["OCCL"], "a/attrs.txt")
    with pytest.raises(DataError, match=r"CONDITIONS: otb finds no attributes.*Write an attrs\.txt"):
        FolderSequences(made("folder"), conditions="otb")
    write_text(tmp_path / "a.json", '{"bike": 3}')
    with pytest.raises(
        DataError, match=r"a\.json: 'bike' needs a list of attribute names, or one under 'attr'"
    ):
        read_attribute_file(tmp_path / "a.json")
    write_text(tmp_path / "a.json", "[]")
    with pytest.raises(DataError, match=r"a\.json must map sequence names"):
        read_attribute_file(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"ATTRIBUTES: can't read .*b\.json"):
        read_attribute_file(tmp_path / "b.json")
