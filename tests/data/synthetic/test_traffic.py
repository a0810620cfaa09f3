"""The data set of rendered traffic: purity, what it says of a sequence, messages."""

from __future__ import annotations

import pickle
import time

import numpy as np
import pytest

from mtltrack.core.conditions import condition_names, normal_index
from mtltrack.core.errors import ConfigError, DataError
from mtltrack.core.registry import DATASETS
from mtltrack.core.zones import check_polygon
from mtltrack.data.augment import CropSettings, ViewSettings
from mtltrack.data.collate import collate
from mtltrack.data.sampler import ClipDataset
from mtltrack.data.synthetic.traffic.sequences import TrafficSequences
from mtltrack.data.synthetic.traffic.story import KINDS, STANDING

SIZE = (160, 96)


@pytest.fixture(scope="module")
def world() -> TrafficSequences:
    return TrafficSequences(num_sequences=14, num_frames=60, size=SIZE, seed=3)


def test_is_registered_by_name() -> None:
    made = DATASETS.create("TrafficSequences", num_sequences=2, num_frames=8, size=[96, 64], seed=1)
    assert isinstance(made, TrafficSequences)
    assert made.num_sequences == 2 and made.num_frames == 8
    assert made.image(1, 2).shape == (64, 96, 3) and made.mask(1, 2).shape == (64, 96)


def test_a_sequence_says_everything_about_its_frames(world: TrafficSequences) -> None:
    info = world.sequence(4)
    assert info.name == "traffic3-0004" and info.num_frames == 60
    assert info.labels["cls"]["flags"].shape == (60, 10) and info.labels["cls"]["valid"].all()
    assert info.labels["cls"]["known"].all() and info.labels["cls"]["known"].shape == (60, 10)
    assert info.masked is not None and info.masked.all()
    assert info.stopped is not None and info.stopped.shape == (60,)
    assert set(info.plates) == set(info.alerts) == set(range(60))
    assert info.zones and info.box_labelled
    image = world.image(4, 30)
    assert image.shape == (96, 160, 3) and image.dtype == np.uint8
    assert world.mask(4, 30).dtype == np.uint8 and set(np.unique(world.mask(4, 30))) <= {0, 1}


def test_a_frame_depends_on_nothing_that_was_drawn_before(world: TrafficSequences) -> None:
    backwards = {frame: (world.image(2, frame), world.mask(2, frame)) for frame in (55, 40, 17, 5)}
    fresh = TrafficSequences(num_sequences=3, num_frames=60, size=SIZE, seed=3)
    fresh.image(1, 30)
    for frame, (image, mask) in reversed(backwards.items()):
        assert np.array_equal(fresh.image(2, frame), image)
        assert np.array_equal(fresh.mask(2, frame), mask)
    one, other = fresh.sequence(2), world.sequence(2)
    assert np.array_equal(one.boxes_xywh, other.boxes_xywh)
    assert np.array_equal(one.times(), other.times()) and one.plates == other.plates


def test_travels_to_a_worker(world: TrafficSequences) -> None:
    world.image(0, 0)
    data = pickle.dumps(world)
    assert len(data) < 3000  # the looks stay behind
    assert np.array_equal(pickle.loads(data).image(5, 20), world.image(5, 20))


def test_seeds_and_sequences_differ(world: TrafficSequences) -> None:
    other = TrafficSequences(num_sequences=2, num_frames=60, size=SIZE, seed=4)
    first, second, third = world.image(0, 0), world.image(1, 0), other.image(0, 0)
    for a, b in ((first, second), (first, third), (second, third)):
        assert np.abs(a.astype(int) - b).mean() > 5


def test_the_target_is_in_plain_sight_at_the_start(world: TrafficSequences) -> None:
    for i in range(world.num_sequences):
        truth = world.truth(i)
        assert (truth.inside[:3] > 0.9).all() and (truth.covered[:3] < 0.15).all()
        assert truth.visible.mean() > 0.8


def test_boxes_are_inside_the_frame_and_of_useful_size(world: TrafficSequences) -> None:
    boxes = np.concatenate([world.sequence(i).boxes_xywh for i in range(world.num_sequences)])
    assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= np.array(SIZE) + 1e-9).all()
    longer = boxes[:, 2:].max(axis=1) / SIZE[0]  # shares of the frame's width
    assert 0.1 < np.median(longer) < 0.5
    assert np.quantile(longer, 0.05) > 0.06


def test_kinds_come_in_about_their_shares() -> None:
    world = TrafficSequences(num_sequences=34, num_frames=8, size=(96, 64))
    found = [world.plan(i).story.kind for i in range(34)]
    for kind, share in KINDS.items():
        assert abs(found.count(kind) / 34 - share) < 0.05


def test_time_stamps_increase_at_irregular_rates(world: TrafficSequences) -> None:
    for i in range(world.num_sequences):
        info, kind = world.sequence(i), world.plan(i).story.kind
        steps = np.diff(info.times())
        assert info.times()[0] == 0 and (steps > 0).all()
        assert steps.max() > 1.3 * steps.min()
        if kind in ("park", "outside", "leave"):
            assert info.times()[-1] > 120  # in 60 frames
            assert steps.max() > 1.5 * np.median(steps), "there are gaps"
        elif kind not in STANDING:
            assert info.times()[-1] < 20


def test_zones_are_polygons_of_the_frame(world: TrafficSequences) -> None:
    for i in range(world.num_sequences):
        for name, polygon in world.sequence(i).zones.items():
            assert np.array_equal(check_polygon(polygon, name), polygon)
            assert (polygon >= -0.05).all() and (polygon <= np.array(SIZE) + 0.05).all()


def test_days_are_brighter_than_nights(world: TrafficSequences) -> None:
    light: dict[bool, list[float]] = {True: [], False: []}
    for i in range(world.num_sequences):
        light[world.plan(i).light.night].append(float(world.image(i, 0).mean()))
    assert len(light[True]) >= 2 and len(light[False]) >= 6
    assert max(light[True]) < 90 < np.mean(light[False])


def test_nothing_is_brought_in_that_is_not_asked_for() -> None:
    """What traffic does by itself may still happen."""
    world = TrafficSequences(num_sequences=12, num_frames=60, size=SIZE, conditions=["Normal"])
    flags = np.concatenate([world.sequence(i).labels["cls"]["flags"] for i in range(12)])
    names = condition_names()
    for name in ("Illumination Change", "Motion Blur", "Low Contrast Object"):
        assert not flags[:, names.index(name)].any()
    assert flags[:, normal_index()].mean() > 0.5


@pytest.mark.parametrize("name", ["Illumination Change", "Motion Blur", "Low Contrast Object"])
def test_a_condition_can_be_asked_for_alone(name: str) -> None:
    world = TrafficSequences(num_sequences=4, num_frames=30, size=SIZE, conditions=[name])
    number = condition_names().index(name)
    for i in range(4):
        assert world.sequence(i).labels["cls"]["flags"][:, number].sum() >= 8


def test_all_conditions_occur_in_few_sequences() -> None:
    world = TrafficSequences(num_sequences=18, num_frames=60)
    flags = np.concatenate([world.truth(i).flags for i in range(18)])
    assert (flags.mean(axis=0) > 0.005).all()
    assert np.array_equal(flags[:, normal_index()], ~np.delete(flags, normal_index(), axis=1).any(axis=1))


def test_the_alert_rule_can_be_changed() -> None:
    world = TrafficSequences(
        8, 60, SIZE, alert_seconds=5, alert_overlap=0.5, measure="footprint", kinds=["park"]
    )
    for i in range(8):
        info = world.sequence(i)
        assert info.times()[-1] < 15
        assert any(info.alerts.values()) and not info.alerts[0]


def test_plates_can_be_of_one_nation() -> None:
    world = TrafficSequences(3, 8, SIZE, plate_kinds=["china_blue"])
    assert all(world.plan(i).target.vehicle.plate.kind == "china_blue" for i in range(3))
    latin = TrafficSequences(12, 8, SIZE)
    texts = [latin.plan(i).target.vehicle.plate.text for i in range(12)]
    assert all(text.isascii() for text in texts) and len(set(texts)) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_sequences": 0}, "NUM_SEQUENCES of at least 1"),
        ({"num_frames": 7}, r"NUM_FRAMES of at least 8.*found 50, 7"),
        ({"seed": -1}, "SEED of at least 0"),
        ({"fps": 0}, "FPS and ALERT_SECONDS above 0"),
        ({"alert_seconds": 0}, "FPS and ALERT_SECONDS above 0"),
        ({"size": [640]}, r"SIZE is \[width, height\], each at least 64; found \[640\]"),
        ({"size": [640, 48]}, r"each at least 64; found \[640, 48\]"),
        ({"conditions": ["Oclusion"]}, "'Oclusion' in CONDITIONS is no scene condition.*'Occlusion'"),
        ({"conditions": ["Normal", "Normal"]}, "CONDITIONS names a scene condition twice: Normal, Normal"),
        ({"kinds": ["parking"]}, "'parking' in KINDS is no kind of sequence.*Choose from: pass, stop, park"),
        ({"kinds": []}, "KINDS is empty; name at least one kind of sequence, of: pass, stop, park"),
        ({"plate_kinds": ["german"]}, "'german' in PLATE_KINDS is no plate format.*'germany'"),
    ],
)
def test_bad_arguments_say_what_is_wanted(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TrafficSequences(**arguments)  # type: ignore[arg-type]


def test_a_bad_rule_says_what_is_wanted() -> None:
    with pytest.raises(ConfigError, match="measure is 'area'; allowed: ioa, iou, footprint"):
        TrafficSequences(measure="area")


def test_what_does_not_exist_is_refused(world: TrafficSequences) -> None:
    with pytest.raises(DataError, match="no rendered sequence 14: NUM_SEQUENCES is 14"):
        world.sequence(14)
    with pytest.raises(DataError, match="no rendered frame 60: NUM_FRAMES is 60"):
        world.image(0, 60)
    with pytest.raises(DataError, match="no rendered frame -1"):
        world.mask(0, -1)


def test_frames_in_which_no_road_fits_are_refused() -> None:
    world = TrafficSequences(3, 8, size=(64, 1280), kinds=["approach"])
    with pytest.raises(
        DataError, match=r"no view of the road shows a target of a useful size.*64 x 1280.*SIZE"
    ):
        world.sequence(0)


def test_draws_many_frames_a_second() -> None:
    """Loosely: the figure that counts is in docs/synthetic.md."""
    world = TrafficSequences(num_sequences=1, num_frames=24)
    world.image(0, 0)
    began = time.process_time()
    for frame in range(24):
        world.image(0, frame)
    assert 24 / (time.process_time() - began) > 10


def test_clips_are_drawn_with_every_label() -> None:
    world = TrafficSequences(num_sequences=6, num_frames=40, size=(320, 180), seed=2)
    crop = CropSettings(
        template=ViewSettings(32, 2.0), search=ViewSettings(64, 4.0), detail=ViewSettings(64, 2.0, 0.25, 0.1)
    )
    tasks = ["cls", "seg", "plate", "ocr", "alert"]
    clips = ClipDataset(
        [world], [1], 6, num_search=2, crop=crop, tasks=tasks, alphabet="latin", text_columns=24
    )
    clip = collate([clips[(1, k)] for k in range(6)])
    assert clip.search.shape == (6, 2, 3, 64, 64)
    for task in ("box", "cls", "seg", "plate"):
        assert clip.labels[task]["valid"].any(), task
    assert clip.labels["seg"]["mask"].any() and clip.labels["plate"]["present"].any()
    assert not any(source["bad"] for source in clip.sources)
