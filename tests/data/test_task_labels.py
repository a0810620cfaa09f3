"""The labels of a clip: masks, plates, texts and alerts, as the crops show them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import make_folder, write_text

from mtltrack.core.errors import ConfigError, DataError
from mtltrack.core.rle import encode_mask
from mtltrack.data import ClipDataset, CropSettings, FaultLog, ViewSettings
from mtltrack.data.collate import Sample, collate, collate_labels
from mtltrack.data.datasets import FolderSequences
from mtltrack.data.labelled import LabelledSequences
from mtltrack.data.sequences import PlateLabel, SequenceInfo
from mtltrack.data.task_labels import ClipLabels, box_in_view, share_inside

# the box 60, 40, 20, 20 at factor 4 is cut from x 30 to 110 and y 10 to 90, and doubled in size; the detail
# view at factor 2 shows x 50 to 90 and y 30 to 70
BOX = (60.0, 40.0, 20.0, 20.0)
STILL = CropSettings(ViewSettings(40, 2.0), ViewSettings(160, 4.0), ViewSettings(120, 2.0))
JITTERED = CropSettings(
    ViewSettings(40, 2.0), ViewSettings(160, 4.0, 2.0, 0.3), ViewSettings(120, 2.5, 0.25, 0.1)
)
ALL = ("cls", "seg", "plate", "ocr", "alert")
PLATE = (65.0, 52.0, 75.0, 56.0)


@dataclass
class Staged:
    """One sequence in memory; what is labelled is lit in its images."""

    plates: dict[int, PlateLabel] = field(default_factory=dict)
    mask_box: tuple[int, int, int, int] | None = None  # x1, y1, x2, y2
    mask_shape: tuple[int, int] = (120, 160)
    alerts: dict[int, bool] = field(default_factory=dict)
    zones: dict[str, np.ndarray] = field(default_factory=dict)
    frames: int = 9
    is_video: bool = True
    has_text: bool = True
    box_labelled: bool = True
    name: str = "staged"
    num_sequences: int = 1
    asked: int = 0

    def sequence_name(self, i: int) -> str:
        return "lane"

    def sequence(self, i: int) -> SequenceInfo:
        masked = None if self.mask_box is None else np.arange(self.frames) % 2 == 0
        return SequenceInfo(
            "lane",
            np.tile(BOX, (self.frames, 1)),
            np.ones(self.frames, bool),
            is_video=self.is_video,
            fps=2.0,
            plates=self.plates,
            masked=masked,
            mask_where={} if masked is None else {4: "lane.jsonl:5"},
            alerts=self.alerts,
            zones=self.zones,
            box_labelled=self.box_labelled,
            has_text=self.has_text,
        )

    def image(self, i: int, frame: int) -> np.ndarray:
        image = np.zeros((120, 160, 3), np.uint8)
        lit = self.plates[frame].box_xyxy if frame in self.plates else self.mask_box
        if lit is not None:
            x1, y1, x2, y2 = map(int, lit)
            image[y1:y2, x1:x2] = 255
        return image

    def mask(self, i: int, frame: int) -> np.ndarray:
        self.asked += 1
        mask = np.zeros(self.mask_shape, np.uint8)
        if self.mask_box is not None:
            x1, y1, x2, y2 = self.mask_box
            mask[y1:y2, x1:x2] = 1
        return mask


def clips(source: object, crop: CropSettings = STILL, **options: object) -> ClipDataset:
    given = {"tasks": ALL, "alphabet": "0123456789AB", "sampler_mode": "trident", **options}
    return ClipDataset([source], [1], 99, 3, crop, **given)  # type: ignore[list-item, arg-type]


def every_frame(**known: object) -> dict[int, PlateLabel]:
    return dict.fromkeys(range(9), PlateLabel(**known))  # type: ignore[arg-type]


def shown(sample: Sample, frame: int) -> np.ndarray:
    """Frames count from 0 here."""
    return np.array([number - 1 == frame for number in sample.source["search_frames"]])


def test_a_plate_is_where_the_crop_shows_it() -> None:
    labels = clips(Staged(every_frame(box_xyxy=PLATE, text="A 1")), augment=False)[(0, 0)].labels
    plate, text = labels["plate"], labels["ocr"]
    # x (65 - 30) * 2 to (75 - 30) * 2 and y (52 - 10) * 2 to (56 - 10) * 2 of 160
    expected = torch.tensor([80 / 160, 88 / 160, 20 / 160, 8 / 160]).expand(3, 4)
    torch.testing.assert_close(plate["cxcywh"], expected)
    torch.testing.assert_close(text["cxcywh"], expected)
    assert plate["valid"].all() and plate["present"].all() and text["valid"].all()
    assert text["codes"].tolist() == [[11, 2]] * 3 and text["length"].tolist() == [2, 2, 2]
    assert text["codes"].dtype == text["length"].dtype == torch.int64


@pytest.mark.parametrize(
    ("left", "present", "valid", "read"),
    [
        (65, True, True, True),
        (80.5, True, True, True),  # 95 % of it lie left of 90, where the detail view ends
        (81.5, True, True, False),  # 85 %
        (105, True, True, False),  # half of it lies left of 110, where the search crop ends
        (106, False, False, False),
        (110, False, True, False),  # seen to be outside: no plate here
    ],
)
def test_how_much_of_a_plate_must_be_shown(left: float, present: bool, valid: bool, read: bool) -> None:
    box = (left, 52.0, left + 10, 56.0)
    labels = clips(Staged(every_frame(box_xyxy=box, text="A1")), augment=False)[(0, 0)].labels
    assert labels["plate"]["present"].tolist() == [present] * 3
    assert labels["plate"]["valid"].tolist() == [valid] * 3
    assert labels["ocr"]["valid"].tolist() == [read] * 3
    if left == 105:  # clipped to the crop: 150 to 160 of 160
        assert labels["plate"]["cxcywh"][0, [0, 2]].tolist() == [155 / 160, 10 / 160]
    if not present:
        assert not labels["plate"]["cxcywh"].any()


def test_without_a_detail_view_the_search_crop_is_read() -> None:
    crop = CropSettings(STILL.template, STILL.search)
    source = Staged(every_frame(box_xyxy=(100.5, 52.0, 110.5, 56.0), text="A1"))
    text = clips(source, crop, augment=False)[(0, 0)].labels["ocr"]
    assert text["valid"].all()
    assert float(text["cxcywh"][0, 2]) == pytest.approx(20 / 160)  # not clipped


def test_no_plate_and_no_label_are_told_apart() -> None:
    plates = {0: PlateLabel(None), 1: PlateLabel(PLATE), 2: PlateLabel(PLATE, "B")}
    dataset = clips(Staged(plates, frames=4), augment=False)
    seen = set()
    for i in range(12):
        sample = dataset[(0, i)]
        plate, text = sample.labels["plate"], sample.labels["ocr"]
        for frame, (valid, present, read) in enumerate(
            [(True, False, False), (True, True, False), (True, True, True), (False, False, False)]
        ):
            here = shown(sample, frame)
            seen |= {frame} if here.any() else set()
            assert (plate["valid"].numpy() == valid)[here].all()
            assert (plate["present"].numpy() == present)[here].all()
            assert (text["valid"].numpy() == read)[here].all()
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("seed", range(4))
def test_plates_follow_jitter_and_mirror_images(seed: int) -> None:
    """The label is where the lit pixels are, to the half pixel that a resized edge is unsure by."""
    plates = every_frame(box_xyxy=(62.0, 46.0, 76.0, 54.0))
    dataset = clips(Staged(plates, has_text=False), JITTERED, seed=seed)
    signs = set()
    for i in range(10):
        sample = dataset[(0, i)]
        for k in range(3):
            entry = {name: values[k].numpy() for name, values in sample.labels["plate"].items()}
            signs.add(bool(sample.affine[k, 0, 0] > 0))
            if not entry["present"]:
                continue
            rows, columns = np.nonzero(sample.search[k, 0].numpy() >= 128)
            lit = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            centre, size = entry["cxcywh"][:2] * 160, entry["cxcywh"][2:] * 160
            np.testing.assert_allclose([*(centre - size / 2), *(centre + size / 2)], lit, atol=1.01)
    assert signs == {True, False}


@pytest.mark.parametrize("seed", range(4))
def test_masks_are_cut_like_the_pixels(seed: int) -> None:
    dataset = clips(Staged(mask_box=(60, 38, 83, 58), has_text=False), JITTERED, seed=seed)
    signs, compared = set(), 0
    for i in range(10):
        sample = dataset[(0, i)]
        labelled = sample.labels["seg"]["valid"]
        odd = torch.tensor([number % 2 == 1 for number in sample.source["search_frames"]])
        assert torch.equal(labelled, odd)
        masks = sample.labels["seg"]["mask"].numpy()
        assert masks.dtype == np.uint8 and masks.shape == (3, 160, 160)
        for k in range(3):
            if not labelled[k]:
                assert not masks[k].any()
                continue
            signs.add(bool(sample.affine[k, 0, 0] > 0))
            compared += 1
            lit = sample.search[k, 0].numpy() >= 128
            assert set(np.unique(masks[k])) <= {0, 1}
            edge = np.abs(np.diff(lit.astype(int), axis=0)).sum() + np.abs(np.diff(lit.astype(int))).sum()
            assert (masks[k] != lit).sum() <= edge / 2
    assert signs == {True, False} and compared > 8


def test_a_mask_at_the_frames_own_scale_is_copied() -> None:
    crop = CropSettings(STILL.template, ViewSettings(80, 4.0))
    source = Staged(mask_box=(60, 38, 83, 58))
    dataset = clips(source, crop, augment=False, tasks=("seg",))
    mask = next(
        entry["mask"][k].numpy()
        for entry in (dataset[(0, i)].labels["seg"] for i in range(9))
        for k in range(3)
        if entry["valid"][k]
    )
    np.testing.assert_array_equal(mask, source.mask(0, 0)[10:90, 30:110])


def test_beyond_the_frame_there_is_no_mask() -> None:
    crop = CropSettings(STILL.template, ViewSettings(40, 12.0))  # shows 240 pixels of a frame of 160 x 120
    sample = clips(Staged(mask_box=(0, 0, 160, 120)), crop, augment=False, tasks=("seg",))
    for i in range(6):
        entry = sample[(0, i)].labels["seg"]
        if entry["valid"].any():
            mask = entry["mask"][entry["valid"]][0]
            # x -50 to 190, y -70 to 170 at 6 pixels a pixel
            assert mask[20, 10:30].all() and not mask[20, :8].any() and not mask[:11].any()
            return
    raise AssertionError("no labelled frame drawn")


def test_only_what_is_asked_for_is_worked_out() -> None:
    source = Staged(every_frame(box_xyxy=PLATE, text="?"), mask_box=(60, 38, 83, 58))
    sample = clips(source, tasks=("cls",), alphabet=None)[(0, 0)]
    assert source.asked == 0 and set(sample.labels) == {"box", "cls"} and not sample.source["bad"]


def test_unlabelled_tasks_have_their_shapes_and_no_labels() -> None:
    labels = clips(Staged())[(0, 0)].labels
    assert {task: {name: tuple(values.shape) for name, values in labels[task].items()} for task in ALL} == {
        "cls": {"valid": (3,), "index": (3,), "flags": (3, 10), "known": (3, 10)},
        "seg": {"valid": (3,), "mask": (3, 160, 160)},
        "plate": {"valid": (3,), "present": (3,), "cxcywh": (3, 4)},
        "ocr": {"valid": (3,), "codes": (3, 1), "length": (3,), "cxcywh": (3, 4)},
        "alert": {"valid": (3,), "zones": (3, 1, 3, 2), "target": (3,), "stopped": (3,)},
    }
    for task in ALL:
        assert not any(
            values.any() if name != "index" else (values != -100).any()
            for name, values in labels[task].items()
        )
    assert labels["alert"]["zones"].dtype == labels["alert"]["stopped"].dtype == torch.float32


def test_a_box_that_only_says_where_to_cut_is_not_learned() -> None:
    assert not clips(Staged(box_labelled=False))[(0, 0)].labels["box"]["valid"].any()
    assert clips(Staged())[(0, 0)].labels["box"]["valid"].all()


def test_a_plate_in_the_targets_place_teaches_reading_alone() -> None:
    whole = every_frame(box_xyxy=(60.0, 40.0, 80.0, 60.0), text="A1")
    labels = clips(Staged(whole, box_labelled=False), augment=False)[(0, 0)].labels
    assert labels["ocr"]["valid"].all() and not labels["plate"]["valid"].any()
    part = clips(Staged(every_frame(box_xyxy=PLATE, text="A1"), box_labelled=False), augment=False)
    assert part[(0, 0)].labels["plate"]["valid"].all()  # the vehicle's box is guessed, its plate isn't


SQUARE = np.array([[10.0, 10], [50, 10], [50, 40], [10, 40]])


def test_the_clock_of_an_alert_runs_over_the_whole_sequence() -> None:
    """The target never moves and a frame lasts half a second: frame f has stood f / 2 seconds."""
    source = Staged(alerts=dict.fromkeys(range(9), True) | {0: False, 3: False}, zones={"kerb": SQUARE})
    dataset = clips(source)
    sample = dataset[(0, 1)]
    alert = sample.labels["alert"]
    frames = np.array(sample.source["search_frames"]) - 1
    assert alert["valid"].all()
    assert alert["stopped"].tolist() == (frames / 2).tolist()
    assert alert["target"].tolist() == [frame not in (0, 3) for frame in frames]
    assert torch.equal(alert["zones"], torch.from_numpy(SQUARE).float().expand(3, 1, 4, 2))


def test_the_clock_runs_on_in_frames_whose_alert_is_not_labelled() -> None:
    """A clip's clock starts from its first frame's; were that 0, later frames would alert too late."""
    dataset = clips(Staged(alerts={8: True}, zones={"kerb": SQUARE}))
    mixed = 0
    for i in range(12):
        sample = dataset[(0, i)]
        alert, frames = sample.labels["alert"], np.array(sample.source["search_frames"]) - 1
        assert alert["valid"].tolist() == alert["target"].tolist() == (frames == 8).tolist()
        if 8 in frames:
            assert alert["stopped"].tolist() == (frames / 2).tolist()
            mixed += frames[0] != 8
    assert mixed


def test_clips_that_run_backwards_tell_nothing_about_standing_still() -> None:
    source = Staged(alerts=dict.fromkeys(range(9), True), zones={"kerb": SQUARE})
    dataset = clips(source, sampler_mode="sequence")
    ways = set()
    for i in range(12):
        sample = dataset[(0, i)]
        first, last = sample.source["search_frames"][0], sample.source["search_frames"][-1]
        assert sample.labels["alert"]["valid"].tolist() == [first < last] * 3
        assert sample.labels["alert"]["target"].tolist() == [first < last] * 3
        ways.add(first < last)
    assert ways == {True, False}


def test_zones_and_texts_of_a_batch_are_padded() -> None:
    triangle = np.array([[0.0, 0], [9, 0], [0, 9]])
    plates = [every_frame(box_xyxy=PLATE, text=text) for text in ("AB12", "B")]
    alerts = dict.fromkeys(range(9), False)
    many = Staged(plates[0], alerts=alerts, zones={"kerb": SQUARE, "bay": triangle})
    one = Staged(plates[1], alerts=alerts, zones={"bay": triangle})
    clip = collate([clips(source, augment=False)[(0, 0)] for source in (many, one, Staged())])
    zones = clip.labels["alert"]["zones"]
    assert zones.shape == (3, 3, 2, 4, 2)
    assert zones[0, 2, 1].tolist() == [[0, 0], [9, 0], [0, 9], [0, 9]]  # the last corner is repeated
    assert zones[1, 0].tolist() == [[[0, 0], [9, 0], [0, 9], [0, 9]], [[0, 0]] * 4]
    assert not zones[2].any()
    text = clip.labels["ocr"]
    assert text["codes"][:, 0].tolist() == [[11, 12, 2, 3], [12, 0, 0, 0], [0, 0, 0, 0]]
    assert text["length"][:, 0].tolist() == [4, 1, 0]
    assert text["valid"][:, 0].tolist() == [True, True, False]


def test_other_labels_of_different_sizes_are_padded_with_zeros() -> None:
    valid = torch.ones(2, dtype=torch.bool)
    entries = [{"notes": {"valid": valid, "marks": torch.ones(2, n)}} for n in (1, 3)]
    assert collate_labels(entries)["notes"]["marks"][:, 0].tolist() == [[1, 0, 0], [1, 1, 1]]


def test_a_still_image_has_all_labels() -> None:
    source = Staged(
        {0: PlateLabel(PLATE, "A1")},
        mask_box=(60, 38, 83, 58),
        alerts={0: False},
        zones={"bay": SQUARE},
        frames=1,
        is_video=False,
    )
    sample = clips(source)[(0, 0)]
    assert all(sample.labels[task]["valid"].all() for task in ("seg", "plate", "ocr", "alert"))
    assert source.asked == 1  # the mask of one image is read once
    assert sample.labels["alert"]["stopped"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A7Z", r"plates\.txt:4: the plate's text 'A7Z' has 'Z', which the alphabet '0123456789AB' doesn't"),
        ("A" * 13, r"plates\.txt:4: the plate's text 'A{13}' needs 25 columns .* but the reader has 24"),
    ],
)
def test_texts_that_cannot_be_learned_are_bad_samples(text: str, message: str) -> None:
    plates = every_frame(box_xyxy=PLATE, text="A1")
    plates[4] = PlateLabel(PLATE, text, "plates.txt:4")
    dataset = clips(Staged(plates))
    log = FaultLog()
    for i in range(20):
        sample = dataset[(0, i)]
        assert not shown(sample, 4).any()
        log.add([sample.source])
    assert log.bad_samples > 0
    with pytest.raises(DataError, match=message):
        log.check(0.01)


def test_a_mask_of_another_size_is_a_bad_sample() -> None:
    dataset = clips(Staged(mask_box=(60, 38, 83, 58), mask_shape=(60, 80)), tasks=("seg",))
    messages = {message for i in range(20) for message in dataset[(0, i)].source["bad"]}
    size = "the mask is 80 x 60 pixels, but its frame is 160 x 120. Make the mask anew from this frame"
    assert any(message.startswith(f"lane.jsonl:5: {size}") for message in messages)
    assert any(message.startswith(f"staged, sequence lane, frame 3: {size}") for message in messages)


def test_side_car_masks_name_file_and_line(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", ("bike",))
    mask = encode_mask(np.ones((24, 32), np.uint8))
    counts = f'{{"size": [24, 32], "counts": "{mask["counts"]}"}}'
    lines = [f'{{"frame_id": {n + 1}, "mask": {counts}}}' for n in range(12)]
    write_text(tmp_path / "labels" / "bike" / "bike.jsonl", "\n".join(lines))
    source = LabelledSequences(FolderSequences(root), tmp_path / "labels")
    messages = {m for i in range(12) for m in clips(source, tasks=("seg",))[(0, i)].source["bad"]}
    assert any("bike.jsonl:3: the mask is 32 x 24 pixels, but its frame is 64 x 48." in m for m in messages)


def test_texts_need_an_alphabet() -> None:
    with pytest.raises(ConfigError, match=r"ocr needs an alphabet .* name one in TASKS\.ocr\.ALPHABET"):
        ClipLabels(("ocr",))


def test_boxes_in_a_view_by_hand() -> None:
    """A view of 10 pixels shows x 100 to 120 of the frame, mirrored: its pixel 0 is centred on x 118.5."""
    affine = np.array([[-2.0, 0.0, 118.5], [0.0, 2.0, 40.5]])
    # edges: x 104 is 16 from the right edge 120, so 8 view pixels; y 44 is 4 below the top 40, so 2
    np.testing.assert_allclose(box_in_view((104, 44, 110, 50), affine), [5, 2, 8, 5])
    assert share_inside((104, 44, 110, 50), affine, 10) == 1
    assert share_inside((98, 44, 102, 50), affine, 10) == pytest.approx(0.5)
    assert share_inside((98, 58, 102, 62), affine, 10) == pytest.approx(0.25)
    assert share_inside((90, 44, 100, 50), affine, 10) == 0
