"""Scene conditions rendered onto frames: what happens to the pixels, and which labels follow."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from mtltrack.core.conditions import condition_names
from mtltrack.core.errors import ConfigError
from mtltrack.data import ClipDataset, CropSettings, ViewSettings
from mtltrack.data.augment import ClipTransform, SampleRandom
from mtltrack.data.build import build_transforms
from mtltrack.data.collate import Sample
from mtltrack.data.effects import Bar, Border, Coarseness, Effect, Fade, Light, Smear, render_view
from mtltrack.data.labels import condition_labels
from mtltrack.data.pixels import change_light, coarsen, smear
from mtltrack.data.sequences import PlateLabel, SequenceInfo
from mtltrack.data.transforms import RenderConditions, SceneView
from mtltrack.data.transforms.render_conditions import KINDS

NAMES = np.array(condition_names())
BOX = np.array([40.0, 20.0, 80.0, 60.0])
SAME = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
SEEDS = range(8)


def scene(box: np.ndarray = BOX, target: int = 200, around: int = 100) -> SceneView:
    """A frame of 120 x 100 that is a view of itself: a grey box on another grey."""
    image = np.full((100, 120, 3), around, np.uint8)
    x1, y1, x2, y2 = box.astype(int)
    image[y1:y2, x1:x2] = target
    return SceneView(image, SAME, box, (120, 100))


def drawn(
    name: str, strength: float, seed: int = 0, view: SceneView | None = None
) -> tuple[Effect, set[str]]:
    rendered = RenderConditions(1.0, [name], (strength, strength)).draw(view or scene(), SampleRandom(seed))
    return rendered.effect, set(NAMES[rendered.flags])


def test_light_is_doubled_halved_and_saturates() -> None:
    greys = np.array([[[0], [51], [100], [255]]], np.uint8).repeat(3, axis=2)
    assert change_light(greys, 1.0)[0, :, 0].tolist() == [0, 102, 200, 255]
    # from 0.8 on softly: 255 at one stop would be 2, and is 0.8 + 0.2 tanh(6) = 1.00
    assert change_light(greys, -1.0)[0, :, 0].tolist()[:3] == [0, 26, 50]
    assert change_light(greys, 0.0) is greys


def test_coarse_pixels_are_means() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[::2] = 200
    assert (coarsen(image, 2.0) == 100).all()
    assert coarsen(image, 1.0) is image


def test_a_path_averages_the_places_it_passes() -> None:
    image = np.zeros((7, 9, 3), np.uint8)
    image[3, 4] = 240
    blurred = smear(image, np.array([[-1.0, 0.0], [0.2, 0.0], [1.0, 0.0]]))
    assert blurred[3, :, 0].tolist() == [0, 0, 0, 80, 80, 80, 0, 0, 0] and blurred.sum() == 3 * 240
    assert smear(image, np.array([[0.1, 0.0], [-0.1, 0.2]])) is image  # nothing moves by a pixel


@pytest.mark.parametrize(("strength", "flagged"), [(0.3, False), (0.35, True), (1.0, True)])
@pytest.mark.parametrize("seed", SEEDS)
def test_motion_blur(strength: float, flagged: bool, seed: int) -> None:
    """The target is 40 pixels large: a path of 0.6 * 40 * strength; flagged from 8 pixels on."""
    effect, flags = drawn("Motion Blur", strength, seed)
    assert isinstance(effect, Smear)
    assert effect.length == pytest.approx(24 * strength)
    assert flags == ({"Motion Blur"} if flagged else set())
    view = scene()
    blurred = effect.render(view.image, view.affine)
    assert (blurred != view.image).any() and blurred[40, 60, 0] >= 180
    if effect.box_xyxy is not None:  # the target alone: its surroundings stay sharp
        reach = int(24 * strength / 2 + 6)
        rows, columns = np.nonzero((blurred != view.image).any(axis=2))
        assert rows.min() >= 20 - reach and rows.max() < 60 + reach
        assert columns.min() >= 40 - reach and columns.max() < 80 + reach


def test_both_the_target_and_the_camera_move() -> None:
    kinds = {drawn("Motion Blur", 0.8, seed)[0].box_xyxy is None for seed in SEEDS}  # type: ignore[attr-defined]
    assert kinds == {True, False}


@pytest.mark.parametrize("seed", SEEDS)
def test_illumination(seed: int) -> None:
    """By up to 1.8 stops darker or 1.2 brighter; flagged above half a stop."""
    for strength in (0.25, 0.35, 0.45, 1.0):
        effect, flags = drawn("Illumination Change", strength, seed)
        assert isinstance(effect, Light)
        assert effect.stops == pytest.approx(-1.8 * strength) or effect.stops == pytest.approx(1.2 * strength)
        assert flags == ({"Illumination Change"} if abs(effect.stops) > 0.5 else set())
    view = scene()
    assert Light(-1.0).render(view.image, SAME)[[0, 40], [0, 60], 0].tolist() == [50, 100]


@pytest.mark.parametrize(
    ("side", "strength", "cell", "flagged"),
    [
        (100, 0.0, 2.5, False),  # 40 pixels across, 1600 in all
        (100, 0.4, 100 / 21.0124, False),  # 40 * 5^-0.4 = 21.0 across, 441 in all
        (100, 0.5, 100 / 17.8885, True),  # 17.9 across, 320 in all
        (100, 1.0, 12.5, True),  # 8 across
        (30, 0.0, 1.0, False),  # it has no more than 30 across
        (19, 0.0, 1.0, True),  # 361 of the camera's own pixels
    ],
)
def test_low_resolution(side: float, strength: float, cell: float, flagged: bool) -> None:
    effect, flags = drawn("Low Resolution", strength, view=scene(np.array([0.0, 0.0, side, side])))
    assert isinstance(effect, Coarseness) and effect.cell == pytest.approx(cell, rel=1e-4)
    assert flags == ({"Low Resolution"} if flagged else set())


def test_a_small_target_has_low_resolution_without_any_rendering() -> None:
    small = scene(np.array([50.0, 50.0, 69.0, 69.0]))
    nothing = RenderConditions(0.0).draw(small, SampleRandom(0))
    assert set(NAMES[nothing.flags]) == {"Low Resolution"}
    other = RenderConditions(0.0, ["Occlusion"]).draw(small, SampleRandom(0))
    assert not other.flags.any() and set(NAMES[other.known]) == {"Occlusion"}


@pytest.mark.parametrize(
    ("target", "strength", "left", "flagged"),
    [
        (200, 0.4, 66, False),
        (200, 0.9, 23.5, False),
        (200, 1.0, 15, True),
        (126, 0.4, 17.16, False),  # faint, but two thirds of it are left
        (126, 0.5, 14.95, True),
    ],
)
def test_low_contrast(target: int, strength: float, left: float, flagged: bool) -> None:
    """The surroundings are at 100; the target keeps 1 - 0.85 * strength of its difference."""
    view = scene(target=target)
    effect, flags = drawn("Low Contrast Object", strength, view=view)
    assert isinstance(effect, Fade)
    assert effect.contrast(view.image, SAME) == pytest.approx(left, abs=0.6)
    assert flags == ({"Low Contrast Object"} if flagged else set())
    faded = effect.render(view.image, SAME)
    assert abs(int(faded[40, 60, 0]) - (100 + left)) <= 1
    assert np.array_equal(faded[:10], view.image[:10]) and np.array_equal(faded[:, :30], view.image[:, :30])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bar_hides_the_share_that_was_drawn(seed: int) -> None:
    """10 % and 60 % more at full strength, of the pixels of the box; flagged from 15 % on."""
    for strength, share in ((0.0, 0.10), (0.5, 0.40), (1.0, 0.70)):
        effect, flags = drawn("Occlusion", strength, seed)
        assert isinstance(effect, Bar)
        hidden = effect.hides(np.stack(np.meshgrid(np.arange(40, 80), np.arange(20, 60)), -1).reshape(-1, 2))
        assert hidden.mean() == pytest.approx(share, abs=0.05)
        assert flags == ({"Occlusion"} if share > 0.15 else set())
        view = scene()
        covered = (effect.render(view.image, SAME) != view.image).any(axis=2)[20:60, 40:80]
        assert covered.mean() == pytest.approx(share, abs=0.09)  # soft edges count


@pytest.mark.parametrize("seed", SEEDS)
def test_the_border_cuts_the_target(seed: int) -> None:
    """Up to 60 % of the box lie beyond; flagged from 15 % on."""
    for strength, share in ((0.2, 0.12), (0.5, 0.3), (1.0, 0.6)):
        effect, flags = drawn("Partial Visibility", strength, seed)
        assert isinstance(effect, Border)
        x1, y1, x2, y2 = effect.visible_box(BOX)
        assert (x2 - x1) * (y2 - y1) == pytest.approx(1600 * (1 - share))
        assert flags == ({"Partial Visibility"} if share > 0.15 else set())
        cut = effect.render(scene().image, SAME)
        assert (cut[20:60, 40:80] == 200).all(axis=2).mean() == pytest.approx(1 - share, abs=0.026)
        assert not cut[~(cut >= 100).all(axis=2)].any()  # the rest is black


def test_nothing_is_rendered_where_the_crop_does_not_show_the_target() -> None:
    aside = SceneView(scene().image, SAME, np.array([130.0, 20, 170, 60]), (200, 100))
    for name in KINDS:
        effect, flags = drawn(name, 1.0, view=aside)
        assert type(effect) is Effect and not flags


def test_padding_stays_black_and_sharp() -> None:
    image = np.zeros((100, 120, 3), np.uint8)
    image[:, 30:] = 200  # the frame begins at column 30 of the crop
    affine = np.array([[1.0, 0, -30], [0, 1, 0]])
    path = np.array([[-5.0, 0], [0, 0], [5, 0]])
    for effect in (Smear(path), Coarseness(7.0), Light(-1.0)):
        result = render_view(effect, image, affine, (90, 100))
        assert not result[:, :30].any() and len(np.unique(result[:, 30:])) == 1
    assert render_view(Effect(), image, affine, (90, 100)) is image


def test_what_is_known_of_a_frame() -> None:
    known = RenderConditions(0.0, ["Occlusion", "Partial Visibility"]).draw(scene(), SampleRandom(0)).known
    assert set(NAMES[known]) == {"Occlusion", "Partial Visibility"}
    at_border = scene(np.array([0.0, 20, 40, 60]))  # may be cut off already
    known = RenderConditions(0.0).draw(at_border, SampleRandom(0)).known
    assert set(NAMES[known]) == set(KINDS) - {"Partial Visibility"}
    cut = RenderConditions(1.0, ["Partial Visibility"], (1, 1)).draw(at_border, SampleRandom(1))
    assert set(NAMES[cut.known]) == set(NAMES[cut.flags]) == {"Partial Visibility"}


@dataclass
class Bright:
    """One sequence in memory: a white target on noise, with a mask, a plate and perhaps conditions."""

    flagged: str | None = None
    name: str = "bright"
    num_sequences: int = 1
    plates: dict[int, PlateLabel] = field(default_factory=dict)
    has_text: bool = False

    def sequence_name(self, i: int) -> str:
        return "lane"

    def sequence(self, i: int) -> SequenceInfo:
        labels = {}
        if self.flagged is not None:
            flags = np.tile(NAMES == self.flagged, (4, 1))
            labels["cls"] = condition_labels(flags, np.array([True, True, True, False]))
        boxes = np.tile([60.0, 40.0, 40.0, 30.0], (4, 1))
        return SequenceInfo(
            "lane",
            boxes,
            np.ones(4, bool),
            labels=labels,
            masked=np.ones(4, bool),
            plates=self.plates,
            has_text=self.has_text,
        )

    def image(self, i: int, frame: int) -> np.ndarray:
        image = np.random.default_rng(frame).integers(20, 90, (120, 160, 3), dtype=np.uint8)
        image[40:70, 60:100] = 250
        return image

    def mask(self, i: int, frame: int) -> np.ndarray:
        mask = np.zeros((120, 160), np.uint8)
        mask[40:70, 60:100] = 1
        return mask


def clips(source: Bright, *transforms: RenderConditions, tasks: tuple[str, ...] = ("cls",)) -> ClipDataset:
    crop = CropSettings(
        ViewSettings(40, 2.0), ViewSettings(160, 4.0, 1.0, 0.2), ViewSettings(96, 2.0), transforms=transforms
    )
    options = {"tasks": tasks, "alphabet": "ABC123", "sampler_mode": "trident"}
    return ClipDataset([source], [1], 99, 3, crop, **options)  # type: ignore[list-item, arg-type]


def samples(dataset: ClipDataset, count: int = 8) -> list[Sample]:
    return [dataset[(0, i)] for i in range(count)]


def test_unlabelled_frames_become_labelled() -> None:
    render = RenderConditions(0.5, ["Occlusion", "Illumination Change"], (0.6, 1.0))
    found = set()
    for sample in samples(clips(Bright(), render)):
        label = sample.labels["cls"]
        assert label["valid"].all()
        for index, flags, known in zip(label["index"], label["flags"], label["known"], strict=True):
            shown = set(NAMES[flags.numpy()])
            assert shown == {NAMES[int(index)]}
            # nothing rendered: the other seven conditions aren't known, nor that the frame is Normal
            expected = {"Occlusion", "Illumination Change"} | (set() if shown == {"Normal"} else {"Normal"})
            assert set(NAMES[known.numpy()]) == expected
            found |= shown
    assert found == {"Occlusion", "Illumination Change", "Normal"}


def test_a_sources_own_labels_are_kept_and_added_to() -> None:
    """Frames 0 to 2 are told to have Motion Blur, which goes before Illumination Change; frame 3 nothing."""
    dataset = clips(Bright("Motion Blur"), RenderConditions(1.0, ["Illumination Change"], (0.9, 1.0)))
    seen = set()
    for sample in samples(dataset, 12):
        for number, label in zip(sample.source["search_frames"], range(3), strict=True):
            entry = {name: values[label] for name, values in sample.labels["cls"].items()}
            flags = set(NAMES[entry["flags"].numpy()])
            told = number <= 3
            seen.add(told)
            assert flags == ({"Motion Blur", "Illumination Change"} if told else {"Illumination Change"})
            assert NAMES[int(entry["index"])] == ("Motion Blur" if told else "Illumination Change")
            assert bool(entry["known"].all()) is told
    assert seen == {True, False}
    untouched = clips(Bright("Motion Blur"), RenderConditions(0.0))[(0, 0)].labels["cls"]
    plain = clips(Bright("Motion Blur"))[(0, 0)].labels["cls"]
    told = plain["valid"]
    assert all(torch.equal(untouched[name][told], plain[name][told]) for name in plain)


def test_templates_and_validation_are_left_alone() -> None:
    """Nothing else draws after the transforms of the first frame, so these three are comparable."""
    view = (Bright().image(0, 0), torch.tensor([60.0, 40.0, 40.0, 30.0]))

    def cut(augment: bool, *transforms: RenderConditions) -> tuple[np.ndarray, np.ndarray]:
        settings = CropSettings(ViewSettings(40, 2.0), ViewSettings(80, 4.0), transforms=transforms)
        template, search = ClipTransform(settings, augment)(view, [view], SampleRandom(3))
        return template.image, search[0].image

    plain, changed = cut(True), cut(True, RenderConditions(1.0, ["Illumination Change"], (1, 1)))
    assert np.array_equal(plain[0], changed[0]) and not np.array_equal(plain[1], changed[1])
    plain, changed = cut(False), cut(False, RenderConditions(1.0, ["Illumination Change"], (1, 1)))
    assert np.array_equal(plain[0], changed[0]) and np.array_equal(plain[1], changed[1])


def test_a_sample_is_a_function_of_its_number() -> None:
    first, second = (samples(clips(Bright(), RenderConditions(0.8)))[::-1][0] for _ in range(2))
    assert torch.equal(first.search, second.search) and first.detail is not None
    assert torch.equal(first.detail, second.detail)  # type: ignore[arg-type]
    for name, values in first.labels["cls"].items():
        assert torch.equal(values, second.labels["cls"][name])


def lit(image: torch.Tensor) -> np.ndarray:
    """Return x1, y1, x2, y2 of the white pixels of a view."""
    rows, columns = np.nonzero(image[0].numpy() >= 170)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def test_box_and_mask_end_where_the_border_cuts_whatever_is_mirrored() -> None:
    dataset = clips(Bright(), RenderConditions(1.0, ["Partial Visibility"], (0.3, 1.0)), tasks=("seg",))
    signs = set()
    for sample in samples(dataset, 12):
        for k in range(3):
            signs.add(bool(sample.affine[k, 0, 0] > 0))
            seen = lit(sample.search[k])
            centre, size = sample.labels["box"]["cxcywh"][k].numpy().reshape(2, 2) * 160
            # published boxes are half a crop pixel, and in mirrored frames one frame pixel, off
            box = np.clip([*(centre - size / 2), *(centre + size / 2)], 0, 160)
            np.testing.assert_allclose(box, seen, atol=2.6)
            mask = sample.labels["seg"]["mask"][k].numpy().astype(bool)
            rows, columns = np.nonzero(mask)
            np.testing.assert_allclose(
                [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], seen, atol=1.01
            )
    assert signs == {True, False}


def test_the_detail_view_shows_the_same_scene() -> None:
    """What the bar hides of the target in the search crop it hides in the detail view."""
    for sample in samples(clips(Bright(), RenderConditions(1.0, ["Occlusion"], (0.5, 0.9)))):
        assert sample.detail is not None and sample.detail_affine is not None
        for k in range(3):
            pixels = np.stack(np.meshgrid(np.arange(62, 98, 2), np.arange(42, 68, 2)), -1).reshape(-1, 2)
            shown = []
            for view, affine in (
                (sample.search[k], sample.affine[k]),
                (sample.detail[k], sample.detail_affine[k]),
            ):
                matrix = affine.double().numpy()
                places = np.round((pixels - matrix[:, 2]) / matrix.diagonal()).astype(int)
                size = view.shape[-1]
                inside = ((places >= 0) & (places < size)).all(axis=1)
                values = np.full(len(pixels), -1)
                values[inside] = view[0].numpy()[places[inside, 1], places[inside, 0]] >= 245
                shown.append(values)
            both = (shown[0] >= 0) & (shown[1] >= 0)
            assert both.sum() > 100 and (shown[0] == shown[1])[both].mean() > 0.93


def test_plates_and_texts_that_cannot_be_seen_are_no_labels() -> None:
    plates = dict.fromkeys(range(4), PlateLabel((74.0, 60.0, 86.0, 66.0), "A1"))
    tasks = ("plate", "ocr", "seg")

    def told(name: str, strength: float, **more: object) -> list[tuple[bool, bool, bool]]:
        dataset = clips(
            Bright(plates=plates, has_text=True), RenderConditions(1.0, [name], (strength,) * 2), tasks=tasks
        )
        answers = []
        for sample in samples(dataset):
            plate, text = sample.labels["plate"], sample.labels["ocr"]
            answers += zip(
                plate["valid"].tolist(), plate["present"].tolist(), text["valid"].tolist(), strict=True
            )
        return answers

    hidden = told("Occlusion", 1.0)
    assert (True, False, False) in hidden and (False, False, False) in hidden  # wholly, and for the most part
    assert set(told("Illumination Change", 1.0)) == {(True, True, True)}
    # the plate is 6 pixels high: it takes 0.75 pixels to read it, and a blurred one has 20
    assert set(told("Motion Blur", 1.0)) == {(True, True, False)}
    cut = told("Partial Visibility", 1.0)
    assert (True, False, False) in cut


def test_a_plate_that_the_border_cuts_is_labelled_as_far_as_it_is_seen() -> None:
    plates = dict.fromkeys(range(4), PlateLabel((76.0, 44.0, 92.0, 52.0)))
    render = RenderConditions(1.0, ["Partial Visibility"], (0.5, 0.5))
    dataset = clips(Bright(plates=plates), render, tasks=("plate",))
    cut = 0
    for sample in samples(dataset, 12):
        for k in range(3):
            if not sample.labels["plate"]["present"][k]:
                continue
            box, plate = sample.labels["box"]["cxcywh"][k] * 160, sample.labels["plate"]["cxcywh"][k] * 160
            slack = 2.6  # published boxes are a little off
            assert (plate[:2] - plate[2:] / 2 >= box[:2] - box[2:] / 2 - slack).all()
            assert (plate[:2] + plate[2:] / 2 <= box[:2] + box[2:] / 2 + slack).all()
            cut += abs(float(plate[2] / plate[3]) - 2) > 0.2  # whole it is twice as wide as high
    assert cut


def test_hidden_pixels_leave_the_mask() -> None:
    dataset = clips(Bright(), RenderConditions(1.0, ["Occlusion"], (0.5, 0.5)), tasks=("seg",))
    for sample in samples(dataset):
        for k in range(3):
            whole = 40 * 30 / float(sample.affine[k, 1, 1]) ** 2  # pixels of the crop
            x, y, w, h = (sample.labels["box"]["cxcywh"][k] * 160).tolist()
            if x - w / 2 > 2 and x + w / 2 < 158 and y - h / 2 > 2 and y + h / 2 < 158:
                assert float(sample.labels["seg"]["mask"][k].sum()) / whole == pytest.approx(0.6, abs=0.08)


def test_built_by_name_with_messages() -> None:
    (made,) = build_transforms(
        [{"TYPE": "RenderConditions", "CONDITIONS": ["Occlusion"], "STRENGTH": [0, 0.5]}]
    )
    assert isinstance(made, RenderConditions) and made.strength == (0.0, 0.5)
    with pytest.raises(
        ConfigError,
        match=r"RenderConditions can't render 'Occlusin'\. Did you mean 'Occlusion'\? CONDITIONS may",
    ):
        RenderConditions(conditions=["Occlusin"])
    with pytest.raises(ConfigError, match=r"can't render 'Background Clutter'\."):
        RenderConditions(conditions=["Background Clutter"])
    with pytest.raises(ConfigError, match=r"wants CONDITIONS each named once; found \['Occlusion', 'Occl"):
        RenderConditions(conditions=["Occlusion", "Occlusion"])
    for arguments in ({"probability": 1.5}, {"strength": [0.5, 0.2]}, {"strength": [0.5]}):
        with pytest.raises(ConfigError, match=r"PROBABILITY in \[0, 1\] and STRENGTH \[low, high\]"):
            RenderConditions(**arguments)  # type: ignore[arg-type]
