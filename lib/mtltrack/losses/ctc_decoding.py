"""Reading a text from CTC's columns: best path, prefix beam search, and how sure each character is.

Everything here works on one sample in numpy: W columns of K log probabilities, class 0 the blank.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.alphabets import BLANK

Array = NDArray[np.floating]
NEVER = -np.inf


def greedy_codes(log_probabilities: Array) -> list[int]:
    """Return the codes of the most probable path, (W, K) -> at most W codes.

    The path with the best class of each column, collapsed: runs become one character, blanks vanish. The text
    that it gives need not be the most probable one.
    """
    path = log_probabilities.argmax(axis=1).tolist()
    return [code for before, code in pairwise([BLANK, *path]) if code not in (BLANK, before)]


def beam_codes(log_probabilities: Array, width: int, floor: float = 1e-6) -> list[tuple[list[int], float]]:
    """Search for the most probable texts, summing over their paths.

    Prefix beam search (Hannun et al., "First-pass large vocabulary continuous speech recognition using
    bi-directional recurrent DNNs", 2014, algorithm 1, without a language model): of every prefix, the
    probability of the paths that end in a blank and of those that don't.

    Args:
        log_probabilities: (W, K).
        width: prefixes kept after each column, at least 1.
        floor: characters less probable than this in a column don't extend a prefix there.

    Returns:
        Up to `width` (codes, log probability), best first; the probability counts the paths that were kept,
        so it is at most the text's true one (`log_probability`).
    """
    beams: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, NEVER)}
    for column in log_probabilities.astype(np.float64):
        likely = [code for code in np.flatnonzero(np.exp(column) >= floor).tolist() if code != BLANK]
        grown: defaultdict[tuple[int, ...], list[float]] = defaultdict(lambda: [NEVER, NEVER])
        for prefix, (blank, label) in beams.items():
            stay = grown[prefix]
            stay[0] = _add(stay[0], _add(blank, label) + column[BLANK])
            if prefix:
                stay[1] = _add(stay[1], label + column[prefix[-1]])
            for code in likely:
                longer = grown[prefix + (code,)]  # noqa: RUF005  # *prefix in an index needs Python 3.11
                before = blank if prefix and prefix[-1] == code else _add(blank, label)
                longer[1] = _add(longer[1], before + column[code])
        possible = [item for item in grown.items() if max(item[1]) > NEVER]
        best = sorted(possible, key=lambda item: _add(*item[1]), reverse=True)[:width]
        beams = {prefix: (blank, label) for prefix, (blank, label) in best}
    return [(list(prefix), _add(*ends)) for prefix, ends in beams.items()]


def _add(a: float, b: float) -> float:
    """Log of the sum of two probabilities given by their logs."""
    return float(np.logaddexp(a, b))


def _states(codes: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the text with blanks around every character, (2 L + 1,), and which states may skip the blank."""
    states = np.full(2 * len(codes) + 1, BLANK)
    states[1::2] = codes
    skips = np.zeros(len(states), bool)
    skips[3::2] = states[3::2] != states[1:-2:2]
    return states, skips


def _predecessors(scores: Array, skips: NDArray[np.bool_]) -> Array:
    """Return the scores of the up to three states that lead to each state, (3, S): itself, one, two back."""
    one = np.concatenate([[NEVER], scores[:-1]])
    two = np.concatenate([[NEVER, NEVER], scores[:-2]])[: len(scores)]
    return np.stack([scores, one, np.where(skips, two, NEVER)])


def _start(column: Array, states: NDArray[np.int64]) -> Array:
    scores = np.full(len(states), NEVER)
    scores[:2] = column[states[:2]]
    return scores


def log_probability(log_probabilities: Array, codes: Sequence[int]) -> float:
    """Return the log probability of a text: the sum over all paths that collapse to it (Graves, equation 8).

    Args:
        log_probabilities: (W, K).
        codes: the text; any length, impossible ones give -inf.
    """
    states, skips = _states(codes)
    columns = log_probabilities.astype(np.float64)
    scores = _start(columns[0], states)
    for column in columns[1:]:
        scores = np.logaddexp.reduce(_predecessors(scores, skips), axis=0) + column[states]
    return float(np.logaddexp.reduce(scores[-2:]))


def character_confidences(log_probabilities: Array, codes: Sequence[int]) -> list[float]:
    """Return how sure each character of a text is: its largest probability in the columns that it covers.

    The columns are those of the text's most probable path (Viterbi).

    Args:
        log_probabilities: (W, K).
        codes: a text that W columns can emit.

    Returns:
        One value in [0, 1] a character.
    """
    states, skips = _states(codes)
    columns = log_probabilities.astype(np.float64)
    scores, steps = _start(columns[0], states), []
    for column in columns[1:]:
        before = _predecessors(scores, skips)
        steps.append(before.argmax(axis=0))
        scores = before.max(axis=0) + column[states]
    state = len(states) - 1 if len(states) == 1 or scores[-1] >= scores[-2] else len(states) - 2
    best = np.full(len(states), NEVER)
    for place in range(len(columns) - 1, -1, -1):
        best[state] = max(best[state], columns[place, states[state]])
        if place:
            state -= int(steps[place - 1][state])
    return np.exp(best[1::2]).tolist()
