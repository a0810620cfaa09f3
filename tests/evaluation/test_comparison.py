"""Words about differences, intervals and means by attribute, from scores made up by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mtltrack.evaluation.attributes import score_attributes
from mtltrack.evaluation.comparison import (
    compare,
    comparison_rows,
    headline,
    holm,
    intervals_of,
    probability,
)
from mtltrack.evaluation.report import Rules, TrackerReport, Truth
from mtltrack.metrics.success import Curves

NO_CURVES = Curves(np.zeros(21), np.zeros(51), np.zeros(51))


def report(
    tracker: str, *values: float, score: str = "AUC", weights: dict[str, int] | None = None
) -> TrackerReport:
    rows = {f"s{number}": {score: value} for number, value in enumerate(values)}
    return TrackerReport(tracker, {score: float(np.mean(values))}, rows, NO_CURVES, weights=weights or {})


def test_a_difference_that_shows() -> None:
    # each of 10 sequences 2 points better: only 2 of 1,024 tosses of signs reach that
    base = np.linspace(0.2, 0.8, 10)
    (found,) = compare([report("b", *base), report("a", *(base + 0.02))], "AUC")
    assert found.differs and found.p_value == pytest.approx(2 / 1024)
    assert found.words() == (
        "a is better than b by 2.0 points of AUC: p = .002 (95 % interval 2.0 to 2.0, 10 sequences)"
    )


def test_a_difference_inside_the_noise() -> None:
    # three differences of 4 points, three of -2: of the 64 sums +-4 +-4 +-4 +-2 +-2 +-2 those reach 6 that
    # have 12 + anything (8), or 4 + 6 or 4 + 2 (3 x 4), or the negatives of these: 40
    base = np.full(6, 0.5)
    better = base + np.array([0.04, 0.04, 0.04, -0.02, -0.02, -0.02])
    (found,) = compare([report("a", *better), report("b", *base)], "AUC")
    assert not found.differs and found.p_value == pytest.approx(40 / 64)
    assert found.words().startswith(
        "a and b are 1.0 points of AUC apart, inside the noise: p = .62 (95 % interval -"
    )
    assert found.words().endswith(", 6 sequences)")


def test_too_few_sequences_to_tell() -> None:
    (found,) = compare([report("a", 0.9, 0.8, 0.9), report("b", 0.1, 0.1, 0.2)], "AUC")
    assert not found.differs
    assert found.words() == (
        "a and b are 73.3 points of AUC apart on 3 sequences, too few to tell that from noise: no difference "
        "can be shown with fewer than 6"
    )


def test_many_pairs_are_corrected_for() -> None:
    # 7 sequences, each 1 point better: 2 of 128 tosses, 0.0156, which three pairs make 0.0469 at most
    base = np.linspace(0.2, 0.8, 7)
    several = [report(name, *(base + shift)) for name, shift in (("a", 0.02), ("b", 0.01), ("c", 0.0))]
    assert [(item.better, item.other) for item in compare(several, "AUC")] == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]
    assert [item.p_value for item in compare(several, "AUC")] == pytest.approx([3 * 2 / 128] * 3)
    four = [*several, report("d", *(base - 0.01))]
    for item in compare(four, "AUC"):
        assert item.p_value == pytest.approx(6 * 2 / 128) and not item.differs and item.pairs == 6
        assert "inside the noise of 6 comparisons: p = .094 (alone p = .016, 95 % interval" in item.words()
    six = [*four, report("e", *base), report("f", *(base + 0.1))]
    pairs = [(item.better, item.other) for item in compare(six, "AUC")]
    assert pairs[0] == ("f", "a") and len(pairs) == 5 and {better for better, _ in pairs} == {"f"}


def test_holm_by_hand() -> None:
    # 3 * .01, 2 * .03 and 1 * .04, which isn't below the one before
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_how_probabilities_are_written() -> None:
    assert [probability(value) for value in (0.312, 1.0, 0.0004, 0.004, 0.0999)] == [
        "p = .31",
        "p = 1.00",
        "p < .001",
        "p = .004",
        "p = .100",
    ]


def test_intervals_leave_out_what_is_not_known_and_weigh_frames() -> None:
    one = report("a", 0.2, 0.2, 0.2)
    for name, value in zip(one.sequences, (0.5, float("nan"), 0.5), strict=True):
        one.sequences[name]["mIoU"] = value
    assert intervals_of(one) == {"AUC": pytest.approx((0.2, 0.2)), "mIoU": (0.5, 0.5)}
    # a quarter of the draws is 1, 1 and one is 0, 0: more than the 2.5 % at either end
    two = report("b", 1.0, 0.0, score="AO", weights={"s0": 3, "s1": 1})
    assert intervals_of(two) == {"AO": (0.0, 1.0)}
    weighted = compare([two, report("c", 0.5, 0.0, score="AO", weights={"s0": 3, "s1": 1})], "AO")[0]
    assert weighted.found.difference == pytest.approx(0.375)
    assert headline([two]) == "AO" and headline([one, two]) == "AUC"


def test_comparisons_as_plain_objects() -> None:
    row = comparison_rows(compare([report("a", 0.5), report("b", 0.25)], "AUC"))[0]
    assert row["better"] == "a" and row["difference"] == 0.25 and row["differs"] is False
    assert row["interval"] == [0.25, 0.25] and row["sequences"] == 1


def test_means_by_attribute() -> None:
    boxes = np.ones((2, 4))
    attributes = (frozenset({"OCC", "SV"}), frozenset({"OCC"}), frozenset[str]())
    truths = [Truth(f"s{i}", boxes, attributes=names) for i, names in enumerate(attributes)]
    truths.append(Truth("not scored", boxes, attributes=frozenset({"FM"})))
    trackers = [report("a", 0.2, 0.4, 0.9), report("b", 0.6, 0.1, 0.9)]
    found = score_attributes(truths, trackers)
    assert [(item.name, item.sequences) for item in found] == [("OCC", ("s0", "s1")), ("SV", ("s0",))]
    assert found[0].scores["a"]["AUC"] == pytest.approx(0.3)
    assert found[0].scores["b"]["AUC"] == pytest.approx(0.35)
    assert found[1].scores == {"a": {"AUC": 0.2}, "b": {"AUC": 0.6}}
    weighted = [report("a", 0.2, 0.4, 0.9, score="AO", weights={"s0": 1, "s1": 3, "s2": 1})]
    assert score_attributes(truths, weighted)[0].scores["a"]["AO"] == pytest.approx((0.2 + 3 * 0.4) / 4)
    assert score_attributes([Truth("s0", boxes)], [report("a", 0.2)]) == []
    assert Rules().ao is False
