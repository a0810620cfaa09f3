"""Scores of the sequences that share an attribute, such as occlusion or fast motion."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mtltrack.core.errors import DataError


@dataclass(frozen=True)
class AttributeScores:
    """What is said of the sequences with one attribute.

    Attributes:
        sequences: how many have it.
        scores: name -> mean over those that have the score; NaN where none has.
    """

    sequences: int
    scores: dict[str, float]


def score_attributes(
    attributes: Sequence[Collection[str]],
    scores: Mapping[str, ArrayLike],
    weights: ArrayLike | None = None,
) -> dict[str, AttributeScores]:
    """Return the mean scores for each attribute, the attributes in alphabetical order.

    A sequence counts for each attribute that it has, so attributes overlap, and the score of one is no more
    than the score on those sequences: it isn't known what made them hard.

    Args:
        attributes: names of each of S sequences.
        scores: name -> (S,), such as `BatchScores.of_each()`; NaN: the sequence has no such score.
        weights: (S,) what each sequence weighs, its frames for AO and SR; None: all the same.

    Raises:
        DataError: lengths differ.
    """
    number = len(attributes)
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    weight = np.ones(number) if weights is None else np.asarray(weights, dtype=np.float64)
    for name, values in {**columns, "weights": weight}.items():
        if values.shape != (number,):
            raise DataError(f"{number} sequences have attributes, but '{name}' has the shape {values.shape}")
    found = {}
    for attribute in sorted(set().union(*attributes)):
        has = np.array([attribute in names for names in attributes])
        means = {name: _mean(values[has], weight[has]) for name, values in columns.items()}
        found[attribute] = AttributeScores(int(has.sum()), means)
    return found


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    known = ~np.isnan(values) & (weights > 0.0)
    return float(np.average(values[known], weights=weights[known])) if known.any() else float("nan")
