"""Rendered sequences: purity, truth of boxes and flags against the pixels, messages."""

from __future__ import annotations

import itertools
import pickle
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from mtltrack.core.conditions import condition_names, normal_index
from mtltrack.core.errors import DataError
from mtltrack.core.registry import DATASETS
from mtltrack.data.augment import CropSettings, ViewSettings
from mtltrack.data.collate import collate
from mtltrack.data.sampler import ClipDataset
from mtltrack.data.synthetic import conditions, motion, render
from mtltrack.data.synthetic.sequences import SyntheticSequences, single_labels


@pytest.fixture(scope="module")
def world() -> SyntheticSequences:
    return SyntheticSequences(num_sequences=12, num_frames=60, size=(160, 120), seed=3)


def middle_of_first_episode() -> int:
    return motion.LEAD + motion.EPISODE // 2


def test_is_registered_by_name() -> None:
    made = DATASETS.create("SyntheticSequences", num_sequences=2, num_frames=3, size=[64, 48], seed=1)
    assert isinstance(made, SyntheticSequences)
    assert made.num_sequences == 2
    assert made.image(1, 2).shape == (48, 64, 3)


def test_a_sequence_says_everything_about_its_frames(world: SyntheticSequences) -> None:
    info = world.sequence(4)
    assert info.num_frames == 60
    assert info.labels["cls"]["flags"].shape == (60, 10)
    assert info.labels["cls"]["valid"].all()
    image = world.image(4, 30)
    assert image.shape == (120, 160, 3) and image.dtype == np.uint8
    truth = world.truth(4, 30)
    assert np.array_equal(truth.box_xywh, info.boxes_xywh[30])
    assert np.array_equal(truth.flags, info.labels["cls"]["flags"][30])


def test_masks_are_refused_with_a_hint(world: SyntheticSequences) -> None:
    with pytest.raises(
        DataError, match="SyntheticSequences has no masks; TrafficSequences are rendered with"
    ):
        world.mask(0, 0)


def test_a_frame_depends_on_nothing_that_was_drawn_before(world: SyntheticSequences) -> None:
    backwards = {frame: world.image(2, frame) for frame in (40, 17, 5)}
    world.image(7, 0)
    fresh = SyntheticSequences(num_sequences=3, num_frames=400, size=(160, 120), seed=3)
    for frame, image in backwards.items():
        assert np.array_equal(fresh.image(2, frame), image)
    assert np.array_equal(fresh.sequence(2).boxes_xywh[:60], world.sequence(2).boxes_xywh)


def test_travels_to_a_worker(world: SyntheticSequences) -> None:
    world.image(0, 0)
    data = pickle.dumps(world)
    assert len(data) < 2000  # the looks stay behind
    assert np.array_equal(pickle.loads(data).image(5, 20), world.image(5, 20))


def test_seeds_and_sequences_differ(world: SyntheticSequences) -> None:
    other = SyntheticSequences(num_sequences=12, num_frames=60, size=(160, 120), seed=4)
    images = [world.image(0, 0), world.image(1, 0), other.image(0, 0)]
    differences = [np.abs(a.astype(int) - b).mean() for a, b in itertools.pairwise(images)]
    assert min(differences) > 5


def test_boxes_lie_inside_the_frame_and_move(world: SyntheticSequences) -> None:
    boxes = np.concatenate([world.sequence(i).boxes_xywh for i in range(12)])
    assert (boxes[:, 2:] > 2).all()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= np.array([160, 120]) + 1e-9).all()
    for i in range(12):
        info = world.sequence(i)
        centres = info.boxes_xywh[:, :2] + info.boxes_xywh[:, 2:] / 2
        steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
        side = np.sqrt(info.boxes_xywh[:-1, 2:].prod(axis=1))
        assert (steps < side).all(), "no jump out of reach of a search region"
        assert np.ptp(centres, axis=0).max() > side.mean() / 2, "a box held still must not be enough"


def drawn_box(plan: motion.Plan, frame: int) -> np.ndarray:
    """Return x1, y1, x2, y2 of the pixels that the target covers at least half."""
    looks = render.make_looks(plan)
    pose = replace(conditions.state_at(plan, frame).target, opacity=1.0)
    with_target = np.zeros((plan.size[1], plan.size[0], 3), np.uint8)
    white = render.Sprite(tuple(np.repeat(level[..., 3:], 4, axis=2) for level in looks.target.levels))
    render.draw_sprite(with_target, white, pose)
    rows, columns = np.nonzero(with_target[..., 0] > 127)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


@pytest.mark.parametrize("sequence", range(6))
@pytest.mark.parametrize("frame", [0, 18, 43])
def test_the_box_bounds_the_pixels_of_the_target(sequence: int, frame: int) -> None:
    plan = motion.make_plan(3, sequence, (320, 240), condition_names())
    x, y, w, h = conditions.truth(plan, frame).box_xywh
    assert np.abs(drawn_box(plan, frame) - [x, y, x + w, y + h]).max() <= 1.5


def test_a_sequence_starts_plain(world: SyntheticSequences) -> None:
    for i in range(12):
        flags = world.sequence(i).labels["cls"]["flags"][: motion.LEAD]
        assert not np.delete(flags, [normal_index(), condition_names().index("Low Resolution")], axis=1).any()


@pytest.mark.parametrize("name", [name for name in condition_names() if name != "Normal"])
def test_each_condition_can_be_asked_for_alone(name: str) -> None:
    world = SyntheticSequences(num_sequences=4, num_frames=motion.LEAD + motion.EPISODE, conditions=[name])
    flags = np.stack([world.sequence(i).labels["cls"]["flags"] for i in range(4)])  # (4, F, 10)
    number = condition_names().index(name)
    assert flags[:, :, number].any(axis=1).sum() >= 3, "almost every sequence shows it"
    others = np.delete(flags, [number, normal_index()], axis=2)
    assert others.mean() < 0.02
    assert np.array_equal(flags[..., normal_index()], ~np.delete(flags, normal_index(), axis=2).any(axis=2))


def test_normal_alone_shows_nothing_else() -> None:
    world = SyntheticSequences(num_sequences=4, num_frames=60, conditions=["Normal"])
    for i in range(4):
        assert world.sequence(i).labels["cls"]["flags"][:, normal_index()].all()


def test_all_conditions_occur_in_few_sequences() -> None:
    world = SyntheticSequences(num_sequences=20, num_frames=60)
    flags = np.concatenate([world.sequence(i).labels["cls"]["flags"] for i in range(20)])
    assert (flags.mean(axis=0) > 0.01).all(), dict(zip(condition_names(), flags.mean(axis=0), strict=True))


def contrast_of(image: np.ndarray) -> float:
    return float(np.abs(np.diff(image.astype(float), axis=1)).mean())


def rendered(name: str) -> tuple[np.ndarray, np.ndarray, motion.State]:
    """Return a frame at the height of a condition, the same without it, and its state."""
    frame = middle_of_first_episode()
    shown = motion.make_plan(1, 0, (320, 240), (name,))
    plain = motion.make_plan(1, 0, (320, 240), ("Normal",))
    looks = render.make_looks(plain)
    image, without = (render.render(plan, looks, frame) for plan in (shown, plain))
    return image, without, conditions.state_at(shown, frame)


def test_light_changes_the_brightness_as_the_state_says() -> None:
    image, plain, state = rendered("Illumination Change")
    dark = plain.max(axis=2) < 80  # where nothing saturates
    assert image[dark].mean() / plain[dark].mean() == pytest.approx(2**state.light, rel=0.05)


def test_low_resolution_and_blur_remove_detail() -> None:
    image, plain, _ = rendered("Low Resolution")
    assert contrast_of(image) < 0.8 * contrast_of(plain)
    image, plain, state = rendered("Motion Blur")
    x, y = (state.target.centre - 15).astype(int)
    assert contrast_of(image[y : y + 30, x : x + 30]) < 0.8 * contrast_of(plain[y : y + 30, x : x + 30])


def test_covered_share_of_a_half_covered_square_is_a_half() -> None:
    """A bar over the left half of an upright target covers half of it; by hand."""
    ticks = (np.arange(10) + 0.5) / 10 - 0.5
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    plan = replace(motion.make_plan(1, 0, (320, 240), ("Normal",)), interior=grid)
    target = motion.Pose(np.array([160.0, 120.0]), np.array([40.0, 40.0]), 0.0)
    strip = motion.Strip(point=np.array([150.0, 0.0]), normal=np.array([1.0, 0.0]), half_width=10.0)
    inside, covered = conditions.seen(plan, motion.State(target, strip=strip))
    assert (inside, covered) == (1.0, 0.5)
    half_out = motion.State(motion.Pose(np.array([0.0, 120.0]), np.array([40.0, 40.0]), 0.0))
    assert conditions.seen(plan, half_out) == (0.5, 0.0)


def test_single_labels_follow_the_order_of_priority() -> None:
    """Occlusion goes before blur, blur before light, measured flags (resolution) come after seen ones."""
    names = condition_names()
    flags = np.zeros((4, 10), bool)
    for row, pair in enumerate([("Motion Blur", "Occlusion"), ("Illumination Change", "Motion Blur")]):
        flags[row, [names.index(name) for name in pair]] = True
    flags[2, [names.index("Low Resolution"), names.index("Background Clutter")]] = True
    flags[3, names.index("Normal")] = True
    found = [names[k] for k in single_labels(flags)]
    assert found == ["Occlusion", "Motion Blur", "Background Clutter", "Normal"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_sequences": 0}, "NUM_SEQUENCES and NUM_FRAMES of at least 1"),
        ({"size": (320,)}, r"SIZE is \[width, height\], each at least 32; found \[320\]"),
        ({"size": (16, 320)}, r"found \[16, 320\]"),
        ({"conditions": ["Oclusion"]}, "'Oclusion' in CONDITIONS is no scene.*Did you mean 'Occlusion'"),
        ({"conditions": ["Normal", "Normal"]}, "twice"),
    ],
)
def test_messages(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        SyntheticSequences(**arguments)  # type: ignore[arg-type]


def test_what_does_not_exist_is_refused(world: SyntheticSequences) -> None:
    with pytest.raises(DataError, match="no rendered sequence 12: NUM_SEQUENCES is 12"):
        world.sequence(12)
    with pytest.raises(DataError, match="no rendered frame 60: NUM_FRAMES is 60"):
        world.image(0, 60)


def test_draws_a_hundred_frames_a_second() -> None:
    world = SyntheticSequences(num_sequences=1, num_frames=60)
    world.image(0, 0)
    began = time.process_time()
    for frame in range(60):
        world.image(0, frame)
    assert 60 / (time.process_time() - began) > 100


def test_clips_are_drawn_with_boxes_and_conditions() -> None:
    world = SyntheticSequences(num_sequences=3, num_frames=40, size=(160, 120))
    crop = CropSettings(template=ViewSettings(32, 2.0), search=ViewSettings(64, 4.0))
    clips = ClipDataset([world], [1], samples_per_epoch=4, num_search=2, crop=crop)
    clip = collate([clips[(1, k)] for k in range(4)])
    assert clip.search.shape == (4, 2, 3, 64, 64)
    assert clip.labels["box"]["valid"].all() and clip.labels["cls"]["valid"].all()
    assert not any(source["bad"] for source in clip.sources)
    chosen = torch.gather(clip.labels["cls"]["flags"], 2, clip.labels["cls"]["index"][..., None])
    assert chosen.all(), "the single label is one of the flagged conditions"
