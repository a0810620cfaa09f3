"""CTC against enumeration of all paths and against torch."""

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mtltrack.losses.ctc import ctc_loss, emittable
from mtltrack.losses.ctc_decoding import beam_codes, character_confidences, greedy_codes, log_probability

COLUMNS, CLASSES = 4, 3


def collapse(path):
    return tuple(code for code, _ in itertools.groupby(path) if code)


def all_texts(log_probabilities):
    """The probability of every text, from every one of the K ** W paths."""
    found = defaultdict(float)
    for path in itertools.product(range(log_probabilities.shape[1]), repeat=len(log_probabilities)):
        found[collapse(path)] += math.exp(sum(log_probabilities[i, code] for i, code in enumerate(path)))
    return found


def random_columns(seed, columns=COLUMNS, classes=CLASSES, sharpness=1.5):
    logits = np.random.default_rng(seed).normal(size=(columns, classes)) * sharpness
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def padded(texts):
    length = max(map(len, texts))
    codes = torch.tensor([[*text, *[0] * (length - len(text))] for text in texts])
    return codes, torch.tensor([len(text) for text in texts])


def test_the_loss_is_minus_the_log_of_the_sum_over_all_paths_per_character():
    columns = random_columns(0)
    wanted = {text: p for text, p in all_texts(columns).items()}
    texts = sorted(wanted, key=len)
    codes, lengths = padded(texts)
    logits = torch.tensor(columns)[None].expand(len(texts), -1, -1)
    expected = [-math.log(wanted[text]) / max(len(text), 1) for text in texts]
    assert ctc_loss(logits, codes, lengths).tolist() == pytest.approx(expected, rel=1e-9)
    assert ctc_loss(logits.float(), codes, lengths).tolist() == pytest.approx(expected, rel=1e-5)
    assert sum(wanted.values()) == pytest.approx(1.0)


def test_texts_that_dont_fit_are_told_apart_and_cost_nothing():
    codes = torch.tensor([[1, 1, 2], [1, 2, 1], [1, 1, 1], [2, 2, 0]])
    lengths = torch.tensor([3, 3, 3, 2])
    assert emittable(codes, lengths, 3).tolist() == [False, True, False, True]
    assert emittable(codes, lengths, 5).tolist() == [True] * 4
    logits = torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = ctc_loss(logits, codes, lengths)
    loss.sum().backward()
    assert loss[0] == loss[2] == 0 and loss[1] > 0 and loss[3] > 0
    assert logits.grad[0].abs().max() == logits.grad[2].abs().max() == 0
    assert torch.isfinite(logits.grad).all() and logits.grad[1].abs().max() > 0


def test_what_stands_behind_a_text_doesnt_matter():
    logits = torch.randn(1, 5, 4)
    first = ctc_loss(logits, torch.tensor([[1, 2, 0, 0]]), torch.tensor([2]))
    second = ctc_loss(logits, torch.tensor([[1, 2, 2, 3]]), torch.tensor([2]))
    assert torch.equal(first, second)
    assert bool(emittable(torch.tensor([[1, 2, 2, 2]]), torch.tensor([2]), 2))


def test_the_gradient_on_the_logits_is_right():
    logits = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    codes, lengths = padded([(1, 1), (3, 2, 1)])
    assert torch.autograd.gradcheck(lambda x: ctc_loss(x, codes, lengths), (logits,))


def test_half_precision_is_widened_and_large_scores_stay_finite():
    logits = torch.randn(1, 6, 4, generator=torch.Generator().manual_seed(0)).half()
    codes, lengths = padded([(1, 2)])
    loss = ctc_loss(logits, codes, lengths)
    assert loss.dtype == torch.float32
    assert torch.isfinite(ctc_loss(logits * 1000, codes, lengths)).all()


@pytest.mark.parametrize("seed", range(6))
def test_a_wide_beam_finds_the_most_probable_texts_and_their_probabilities(seed):
    columns = random_columns(seed)
    wanted = sorted(all_texts(columns).items(), key=lambda item: -item[1])
    found = beam_codes(columns, width=500, floor=0)
    assert [tuple(codes) for codes, _ in found[:5]] == [text for text, _ in wanted[:5]]
    for codes, score in found:
        assert math.exp(score) == pytest.approx(dict(wanted)[tuple(codes)], rel=1e-9)


def test_a_text_can_be_more_probable_than_the_best_path():
    """Each column: blank .4, A .3, B .3. The best path is all blank, .16; the text A has .09 + 2 * .12."""
    columns = np.log(np.array([[0.4, 0.3, 0.3], [0.4, 0.3, 0.3]]))
    assert greedy_codes(columns) == []
    codes, score = beam_codes(columns, width=10)[0]
    assert len(codes) == 1 and math.exp(score) == pytest.approx(0.33)
    narrow = beam_codes(columns, width=1)
    assert len(narrow) == 1


def test_the_best_path_is_collapsed():
    path = [0, 1, 1, 0, 1, 2, 2, 0]
    columns = np.log(np.full((8, 3), 0.1) + 0.7 * np.eye(3)[path])
    assert greedy_codes(columns) == [1, 1, 2]
    assert beam_codes(columns, width=20)[0][0] == [1, 1, 2]


@pytest.mark.parametrize("text", [(), (1,), (1, 1), (2, 1, 2), (1, 1, 1)])
def test_the_probability_of_a_text_is_torchs(text):
    columns = random_columns(3, columns=6)
    reference = F.ctc_loss(
        torch.tensor(columns)[:, None],
        torch.tensor([text or (0,)]),
        torch.tensor([6]),
        torch.tensor([len(text)]),
        reduction="none",
    )
    assert log_probability(columns, text) == pytest.approx(-float(reference), rel=1e-9)


def test_an_impossible_text_has_no_probability():
    assert log_probability(random_columns(0, columns=2), (1, 1)) == -math.inf


@pytest.mark.parametrize("seed", range(4))
def test_a_characters_confidence_is_its_largest_probability_along_the_best_path(seed):
    columns = random_columns(seed, columns=5)
    for text in [(1,), (2, 1), (1, 1)]:
        paths = [
            path for path in itertools.product(range(CLASSES), repeat=5) if collapse(path) == text
        ]  # every path that gives the text
        best = max(paths, key=lambda path: sum(columns[i, code] for i, code in enumerate(path)))
        runs = [
            [i for i, _ in run]
            for code, run in itertools.groupby(enumerate(best), key=lambda p: p[1])
            if code
        ]
        expected = [max(math.exp(columns[i, best[i]]) for i in run) for run in runs]
        assert character_confidences(columns, text) == pytest.approx(expected)


def test_an_empty_text_has_no_confidences():
    assert character_confidences(random_columns(0), ()) == []
