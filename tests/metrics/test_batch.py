"""Many sequences at once against each threshold compared in turn, and against one sequence after another."""

from __future__ import annotations

import numpy as np
import pytest

from mtltrack.core.errors import DataError
from mtltrack.metrics import got10k, ragged
from mtltrack.metrics.batch import BatchScores, score_all
from mtltrack.metrics.success import (
    CENTRE_THRESHOLDS,
    NORMALISED_THRESHOLDS,
    OVERLAP_THRESHOLDS,
    OnePassEvaluation,
    sequence_errors,
)

UNEVEN = np.array([0.1, 0.2, 0.5, 0.9])
SCALES = [OVERLAP_THRESHOLDS, CENTRE_THRESHOLDS, NORMALISED_THRESHOLDS, got10k.IOU_THRESHOLDS, UNEVEN]


def on_and_beside(thresholds: np.ndarray) -> np.ndarray:
    """Every threshold, its neighbours among floating numbers, and what isn't a usual number."""
    beside = [np.nextafter(thresholds, -np.inf), thresholds, np.nextafter(thresholds, np.inf)]
    special = [np.nan, np.inf, -np.inf, -1.0, -0.0, 1e300, -1e300, 5e-324]
    return np.concatenate([*beside, special])


@pytest.mark.parametrize("thresholds", SCALES, ids=["overlap", "centre", "normalised", "toolkit", "uneven"])
def test_counts_are_those_of_comparing_with_every_threshold(thresholds: np.ndarray) -> None:
    generator = np.random.default_rng(0)
    values = np.concatenate([on_and_beside(thresholds), generator.random(500) * thresholds[-1] * 1.1])
    values = generator.permutation(values)
    starts = np.array([0, 1, 200, 450])
    parts = np.split(values, starts[1:])
    above = [(part[:, None] > thresholds).sum(axis=0).tolist() for part in parts]
    within = [(part[:, None] <= thresholds).sum(axis=0).tolist() for part in parts]
    assert ragged.count_above(values, thresholds, starts).tolist() == above
    assert ragged.count_within(values, thresholds, starts).tolist() == within
    assert ragged.first_reaching(values, thresholds).tolist() == np.searchsorted(thresholds, values).tolist()


def test_rows_of_sequences() -> None:
    starts = ragged.starts_of([3, 1, 2])
    assert starts.tolist() == [0, 3, 4] and ragged.lengths_of(starts, 6).tolist() == [3, 1, 2]
    assert [ragged.locate(row, starts) for row in range(6)] == [
        (0, 0),
        (0, 1),
        (0, 2),
        (1, 0),
        (2, 0),
        (2, 1),
    ]
    assert ragged.segment_sums(np.arange(6.0), starts).tolist() == [3, 3, 9]
    assert ragged.segment_counts(np.array([1, 0, 1, 0, 1, 1], dtype=bool), starts).tolist() == [2, 0, 2]


def test_blocks_hold_every_sequence_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged, "BLOCK", 10)
    assert list(ragged.blocks([4, 5, 3, 20, 1])) == [slice(0, 3), slice(3, 4), slice(4, 5)]
    assert list(ragged.blocks([10])) == [slice(0, 1)] and list(ragged.blocks([])) == []


def sequences(number: int = 12) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Whole-numbered boxes, whose errors often fall on a threshold, with all that can happen to them."""
    generator = np.random.default_rng(7)
    predictions, truths, visibles = [], [], []
    for index in range(number):
        length = int(generator.integers(1, 40))
        truth = np.concatenate(
            [generator.integers(0, 60, (length, 2)), generator.choice([10, 20, 40, 50], (length, 2))], axis=1
        ).astype(float)
        pred = truth + generator.integers(-6, 7, truth.shape)
        pred[:, 2:] = np.maximum(pred[:, 2:], 1)
        pred[generator.random(length) < 0.1, 2] = 0  # repeats the box before
        truth[generator.random(length) < 0.1] = 0  # no target
        pred = np.concatenate([pred, pred]) if index % 4 == 1 else pred[: length - (index % 4 == 2)]
        predictions.append(pred if len(pred) else np.ones((1, 4)))
        truths.append(truth)
        visibles.append(generator.random(length) < 0.9)
    return predictions, truths, visibles


def slow_curves(pred: np.ndarray, truth: np.ndarray, visible: object, **rules: object) -> list[np.ndarray]:
    """The definition: every frame against every threshold."""
    errors = sequence_errors(pred, truth, visible, **rules)  # type: ignore[arg-type]
    return [
        (errors.overlap[:, None] > OVERLAP_THRESHOLDS).mean(axis=0),
        (errors.centre[:, None] <= CENTRE_THRESHOLDS).mean(axis=0),
        (errors.centre_norm[:, None] <= NORMALISED_THRESHOLDS).mean(axis=0),
    ]


@pytest.mark.parametrize("block", [1, 50, 10_000])
@pytest.mark.parametrize("protocol", ["otb", "uav"])
@pytest.mark.parametrize("validity", ["size", "all"])
def test_a_batch_is_its_sequences(
    monkeypatch: pytest.MonkeyPatch, block: int, protocol: str, validity: str
) -> None:
    monkeypatch.setattr(ragged, "BLOCK", block)
    predictions, truths, visibles = sequences()
    flags: list[object] = [item if index % 2 else None for index, item in enumerate(visibles)]
    rules = {"protocol": protocol, "validity": validity}
    found = score_all(predictions, truths, flags, **rules)  # type: ignore[arg-type]
    one_by_one = OnePassEvaluation(**rules)  # type: ignore[arg-type]
    for index, (pred, truth, visible) in enumerate(zip(predictions, truths, flags, strict=True)):
        slow = slow_curves(pred, truth, visible, **rules)
        assert found.curves.success[index].tolist() == slow[0].tolist()
        assert found.curves.precision[index].tolist() == slow[1].tolist()
        assert found.curves.norm_precision[index].tolist() == slow[2].tolist()
        single = one_by_one.update(pred, truth, visible)
        assert {name: float(values[index]) for name, values in found.of_each().items()} == pytest.approx(
            single, nan_ok=True
        )
    assert found.mean() == pytest.approx(one_by_one.compute())
    assert found.frames.tolist() == [len(truth) for truth in truths]


def test_lasot_rules_hold_in_a_batch() -> None:
    _, truths, visibles = sequences()
    found = score_all(truths, truths, visibles, protocol="lasot")
    shown = [
        (visible & (truth[:, 2:] > 0).all(axis=1)).mean()
        for truth, visible in zip(truths, visibles, strict=True)
    ]
    assert found.of_each()["OP50"] == pytest.approx(shown)  # a perfect tracker, and hidden frames are misses
    assert found.valid_frames.tolist() == pytest.approx((np.array(shown) * found.frames).tolist())


def one(length: int = 3) -> np.ndarray:
    return np.tile([5.0, 5, 10, 10], (length, 1))


def test_errors_name_the_sequence() -> None:
    names = ["first", "second"]

    def score(second: object, **rules: object) -> BatchScores:
        return score_all([one(), second], [one(), one()], names=names, **rules)  # type: ignore[arg-type]

    bad = one()
    bad[1, 0] = np.nan
    with pytest.raises(DataError, match=r"^sequence 'second': predicted .* line 2 holds \[nan.*1 such lines"):
        score(bad)
    bad[1, 0] = np.inf
    with pytest.raises(DataError, match=r"^sequence 'second': predicted .* line 2 holds \[inf"):
        score(bad)
    with pytest.raises(DataError, match=r"^sequence 'second': nothing to score: 0 predicted boxes, 3 true"):
        score([])
    with pytest.raises(
        DataError, match=r"^sequence 'second': the results have 2 boxes, the ground truth has 3"
    ):
        score_all([one(), one(2)], [one(), one()], [np.ones(3)] * 2, protocol="lasot", names=names)
    with pytest.raises(DataError, match=r"^sequence 'second': 'lasot' is scored with visibility flags"):
        score_all([one()] * 2, [one()] * 2, [np.ones(3), None], protocol="lasot", names=names)
    with pytest.raises(DataError, match=r"^sequence 'second': 3 true boxes but 2 visibility flags"):
        score_all([one()] * 2, [one()] * 2, [None, np.ones(2)], names=names)
    with pytest.raises(DataError, match=r"^sequence 'second': no frame of the sequence has a valid target"):
        score_all([one()] * 2, [one(), one() * 0], exclude_invalid=True, names=names)
    truth = one()
    truth[2] = np.nan
    with pytest.raises(DataError, match=r"^sequence 'second': the ground truth is NaN in line 3 \(1 such\)"):
        score_all([one()] * 2, [one(), truth], names=names)
    truth[2, 1] = -np.inf
    with pytest.raises(DataError, match=r"^sequence 'second': the ground truth is infinite in line 3"):
        score_all([one()] * 2, [one(), truth], protocol="uav", names=names)


def test_lists_must_fit() -> None:
    with pytest.raises(DataError, match="found 1 predictions, 2 truths, 2 visibles"):
        score_all([one()], [one(), one()])
    with pytest.raises(DataError, match="2 visibles, 1 names"):
        score_all([one()] * 2, [one()] * 2, names=["a"])
    with pytest.raises(DataError, match="no sequence to average over"):
        score_all([], [])


def test_input_is_left_alone() -> None:
    pred, truth = one(), one() + 1
    kept = pred.copy(), truth.copy()
    score_all([pred], [truth])
    got10k.score_all_got10k([pred], [truth], image_sizes=[(8, 8)])
    assert np.array_equal(pred, kept[0]) and np.array_equal(truth, kept[1])


@pytest.mark.parametrize("skip_first", [True, False])
@pytest.mark.parametrize("skip_hidden", [True, False])
def test_got10k_batch_is_its_sequences(
    monkeypatch: pytest.MonkeyPatch, skip_first: bool, skip_hidden: bool
) -> None:
    monkeypatch.setattr(ragged, "BLOCK", 30)
    _, truths, visibles = sequences()
    predictions = [truth + np.array([3, 2, 4, -3]) for truth in truths]
    sizes = [(60.0 + index, 40.0) for index in range(len(truths))]
    rules = {"skip_first": skip_first, "skip_hidden": skip_hidden}
    metric = got10k.GOT10kMetric(**rules)
    each = [
        metric.update(pred, truth, flags, size)
        for pred, truth, flags, size in zip(predictions, truths, visibles, sizes, strict=True)
    ]
    found = got10k.score_all_got10k(predictions, truths, visibles, sizes, **rules)
    assert found.ao.tolist() == pytest.approx([item["ao"] for item in each], nan_ok=True)
    assert found.sr.tolist() == pytest.approx([item["sr"] for item in each], nan_ok=True)
    assert found.sr75.tolist() == pytest.approx([item["sr75"] for item in each], nan_ok=True)
    assert found.mean() == pytest.approx(metric.compute())
    unhidden = [flags if skip_hidden else np.ones_like(flags) for flags in visibles]
    assert found.frames.tolist() == [int(flags[int(skip_first) :].sum()) for flags in unhidden]


def test_got10k_flags_by_hand() -> None:
    pred, truth = one(4), one(4)
    pred[:, 0] += [2.5, 0, 5, 10]  # overlaps 7.5 / 12.5, 1, 5 / 15, 0
    cover = [8, 8, 8, 0]

    def ao(**rules: bool) -> float:
        return got10k.GOT10kMetric(**rules).update(pred, truth, cover)["ao"]

    assert ao() == pytest.approx((1 + 1 / 3) / 2)
    assert ao(skip_first=False) == pytest.approx((0.6 + 1 + 1 / 3) / 3)
    assert ao(skip_hidden=False) == pytest.approx((1 + 1 / 3) / 3)
    assert ao(skip_first=False, skip_hidden=False) == pytest.approx((0.6 + 1 + 1 / 3) / 4)


def test_got10k_batch_refuses_what_does_not_fit() -> None:
    names = ["first", "second"]
    with pytest.raises(
        DataError, match=r"^sequence 'second': the results have 2 boxes, the ground truth has 3"
    ):
        got10k.score_all_got10k([one(), one(2)], [one()] * 2, names=names)
    with pytest.raises(DataError, match=r"^sequence 'second': 3 true boxes but 2 cover values"):
        got10k.score_all_got10k([one()] * 2, [one()] * 2, [None, [8, 8]], names=names)
    with pytest.raises(DataError, match=r"^sequence 'second': the size of the image is unknown"):
        got10k.score_all_got10k([one()] * 2, [one()] * 2, image_sizes=[(9, 9), None], names=names)
    with pytest.raises(DataError, match="no sequence to average over"):
        got10k.score_all_got10k([], [])
    hidden = got10k.score_all_got10k([one()], [one()], [[0, 0, 0]])
    assert np.isnan(hidden.mean()["ao"]) and hidden.frames.tolist() == [0]
