"""Scores of readings, worked out by hand."""

import math

import pytest

from mtltrack.core.errors import DataError
from mtltrack.metrics.text import TextMetrics, edit_distance


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        ("", "", 0),
        ("ABC", "", 3),
        ("", "AB", 2),
        ("KITTEN", "SITTING", 3),
        ("AB12", "AB12", 0),
        ("AB12", "B12", 1),
        ("AB12", "BA12", 2),
        ("FLAW", "LAWN", 2),
    ],
)
def test_edit_distance(first, second, distance):
    assert edit_distance(first, second) == distance == edit_distance(second, first)


def test_scores_count_texts_and_characters():
    metrics = TextMetrics()
    metrics.update(["AB12", "CD3"], ["AB12", "CD34"])
    metrics.update(["XX", "1BA4"], ["XY", "1AB4"])
    scores = metrics.compute()
    # edits 0, 1, 1, 2 over 4 + 4 + 2 + 4 characters; three of four lengths are right
    assert scores == {"exact": 1 / 4, "cer": pytest.approx(4 / 14), "length": 3 / 4}
    metrics.reset()
    assert all(math.isnan(score) for score in metrics.compute().values())


def test_kinds_are_scored_apart_and_together():
    metrics = TextMetrics()
    metrics.update(["AB", "CX", ""], ["AB", "CD", "E"], ["us", "us", "cn"])
    scores = metrics.compute()
    assert scores["exact"] == pytest.approx(1 / 3) and scores["cer"] == pytest.approx(2 / 5)
    assert scores["exact/us"] == 1 / 2 and scores["cer/us"] == 1 / 4
    assert scores["exact/cn"] == 0 and scores["cer/cn"] == 1


def test_texts_that_dont_pair_up_are_refused():
    metrics = TextMetrics()
    with pytest.raises(DataError, match="as many readings, texts and kinds are wanted; found 1, 2, 2"):
        metrics.update(["A"], ["A", "B"])
    with pytest.raises(DataError, match="beside the reading 'A' has no character"):
        metrics.update(["A"], [""])
