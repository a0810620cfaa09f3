"""What must hold of scores whatever the boxes are.

Coordinates are whole numbers and true boxes powers of two wide, so that moving and scaling round nothing and
equality can be asked for: a value that changed in its last digit could change sides of a threshold.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mtltrack.metrics.batch import BatchScores, score_all
from mtltrack.metrics.got10k import score_all_got10k
from mtltrack.metrics.robustness import find_failures
from mtltrack.metrics.statistics import bootstrap_interval, compare_paired
from mtltrack.metrics.success import Curves
from mtltrack.metrics.trackingnet import score_all_trackingnet

Sequence = tuple[np.ndarray, np.ndarray]  # predictions, true boxes
# a busy machine is no fault of the scores
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

places = st.integers(-40, 200)
sides = st.sampled_from([8, 16, 32, 64])


@st.composite
def sequences(draw: st.DrawFn) -> Sequence:
    """A sequence of 1 to 6 frames."""
    frames = draw(st.integers(1, 6))

    def boxes(extents: st.SearchStrategy[int]) -> np.ndarray:
        parts = [draw(arrays(float, (frames, 2), elements=item.map(float))) for item in (places, extents)]
        return np.concatenate(parts, axis=1)

    return boxes(st.integers(1, 90)), boxes(sides)


many = st.lists(sequences(), min_size=1, max_size=5)


def score(items: list[Sequence], **rules: object) -> BatchScores:
    return score_all(*map(list, zip(*items, strict=True)), **rules)  # type: ignore[arg-type]


def same(first: Curves, second: Curves, *, pixels: bool = True) -> bool:
    """Whether curves are equal, with the one in pixels or without it."""
    if not pixels:
        first = replace(first, precision=second.precision)
    return all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in ("success", "precision", "norm_precision")
    )


@QUICK
@given(many, st.sampled_from(["otb", "uav"]), st.sampled_from(["size", "all"]), st.booleans())
def test_scores_are_shares(items: list[Sequence], protocol: str, validity: str, hits: bool) -> None:
    found = score(items, protocol=protocol, validity=validity, invalid_counts_as_hit=hits)
    for name, values in found.of_each().items():
        known = values[~np.isnan(values)]
        assert ((known >= 0) & (known <= 1)).all(), name
    each = found.curves
    assert (np.diff(each.success) <= 0).all()  # fewer frames pass a higher threshold
    assert (np.diff(each.precision) >= 0).all() and (np.diff(each.norm_precision) >= 0).all()
    pred, true = map(list, zip(*items, strict=True))
    others = {
        **score_all_got10k(pred, true, skip_first=False).mean(),
        **score_all_trackingnet(pred, true).mean(),
    }
    assert all(0 <= value <= 1 for value in others.values())


@QUICK
@given(many, st.integers(-500, 500), st.integers(-500, 500))
def test_moving_both_boxes_changes_nothing(items: list[Sequence], right: int, down: int) -> None:
    offset = np.array([right, down, 0, 0])
    moved = [(pred + offset, true + offset) for pred, true in items]
    # by the rule "size": "all" asks where a box lies
    assert same(score(moved).curves, score(items).curves)
    assert np.array_equal(score(moved).mean_overlaps, score(items).mean_overlaps)


@QUICK
@given(many, st.sampled_from([0.25, 0.5, 2.0]))
def test_scaling_both_boxes_changes_no_normalised_score(items: list[Sequence], factor: float) -> None:
    scaled = score([(pred * factor, true * factor) for pred, true in items])
    plain = score(items)
    assert same(scaled.curves, plain.curves, pixels=False)
    assert np.array_equal(scaled.mean_overlaps, plain.mean_overlaps)
    # precision is in pixels: what lay within 20 pixels now lies within 20 pixels times the factor
    assert np.array_equal(plain.curves.precision[:, 20], scaled.curves.precision[:, int(20 * factor)])


@QUICK
@given(many, st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_a_tracker_that_comes_nearer_never_loses(items: list[Sequence], share: float) -> None:
    """Boxes of the true size that move towards the true place gain overlap, and no score may fall."""
    far = [(np.concatenate([pred[:, :2], true[:, 2:]], axis=1), true) for pred, true in items]
    near = [(true + share * (pred - true), true) for pred, true in far]
    before, after = score(far), score(near)
    assert (after.mean_overlaps >= before.mean_overlaps).all()
    for name, values in after.of_each().items():
        assert (values >= before.of_each()[name]).all(), name


@QUICK
@given(many, st.randoms(use_true_random=False))
def test_the_order_of_sequences_is_irrelevant(items: list[Sequence], order) -> None:
    places = list(range(len(items)))
    order.shuffle(places)
    plain, shuffled = score(items), score([items[place] for place in places])
    for name, values in plain.of_each().items():
        assert np.array_equal(values[places], shuffled.of_each()[name], equal_nan=True), name
    assert shuffled.mean() == pytest.approx(plain.mean(), nan_ok=True)


@QUICK
@given(many)
def test_frames_of_a_sequence_are_interchangeable_behind_the_first(items: list[Sequence]) -> None:
    turned = [
        tuple(np.concatenate([boxes[:1], boxes[:0:-1]]) for boxes in (pred, true)) for pred, true in items
    ]
    assert same(score(turned).curves, score(items).curves)  # type: ignore[arg-type]


@QUICK
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.9]), st.booleans()), max_size=40), st.integers(1, 4)
)
def test_failures_are_apart_and_in_order(frames: list[tuple[float, bool]], patience: int) -> None:
    overlap, visible = np.array([item[0] for item in frames]), np.array([item[1] for item in frames], bool)
    found = find_failures(overlap, visible, patience=patience, found_above=0.5)
    ends = np.where(found.redetections < 0, len(frames), found.redetections)
    assert (found.starts < ends).all() and (ends[:-1] <= found.starts[1:]).all()
    assert visible[found.starts].all() and (overlap[found.starts] <= 0.1).all()
    assert (overlap[found.redetections[found.redetections >= 0]] > 0.5).all()
    assert patience * len(found) <= found.lost <= found.visible == visible.sum()
    by_frame = sum(visible[start:end].sum() for start, end in zip(found.starts, ends, strict=True))
    assert found.lost == by_frame
    stricter = find_failures(overlap, visible, patience=patience + 1, found_above=0.5)
    assert stricter.lost <= found.lost


@QUICK
@given(arrays(float, st.integers(1, 12), elements=st.floats(0, 1)), st.integers(0, 3))
def test_an_interval_lies_among_the_scores(values: np.ndarray, seed: int) -> None:
    low, high = bootstrap_interval(values, samples=200, seed=seed)
    slack = 1e-12
    assert values.min() - slack <= low <= high <= values.max() + slack
    wider = bootstrap_interval(values, confidence=0.99, samples=200, seed=seed)
    assert wider[0] <= low and high <= wider[1]


@QUICK
@given(arrays(float, (2, 8), elements=st.floats(0, 1)))
def test_comparing_the_other_way_round_says_the_same(values: np.ndarray) -> None:
    there, back = compare_paired(*values, samples=300), compare_paired(*values[::-1], samples=300)
    assert (there.difference, there.p_value, there.differs) == (-back.difference, back.p_value, back.differs)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-12)
