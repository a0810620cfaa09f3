"""Intervals and tests against enumerations, scipy and simulated trackers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from mtltrack.core.errors import DataError
from mtltrack.metrics.statistics import (
    bootstrap_interval,
    bootstrap_means,
    compare_paired,
    sign_flip_p_value,
)


def test_draws_of_three_sequences_are_the_27_equally_often() -> None:
    values = np.array([0.0, 1.0, 5.0])
    # the 27 draws have 10 sums; 0, 1, 5 as (0,0,0), (1,1,1), (5,5,5) once, pairs 3 times, one of each 6 times
    expected: dict[float, int] = {}
    for draw in itertools.product(values, repeat=3):
        expected[sum(draw)] = expected.get(sum(draw), 0) + 1
    assert expected[6.0] == 6 and expected[0.0] == 1 and len(expected) == 10
    samples = 54_000
    sums = np.round(bootstrap_means(values, samples=samples) * 3).astype(int)
    assert set(sums) == {int(key) for key in expected}
    counts = np.array([(sums == key).sum() for key in expected])
    assert stats.chisquare(counts, np.array(list(expected.values())) * samples / 27).pvalue > 0.001


def test_the_interval_holds_the_share_asked_for() -> None:
    # one mean of 27, 3.7 %, is 0 and one is 5, so that 2.5 and 97.5 % fall on these
    assert bootstrap_interval([0.0, 1.0, 5.0]) == (0.0, 5.0)
    # 4 of 27, 14.8 %, are up to 1/3; 1 is 5 and the 3 below it are 11/3, from 85.2 to 96.3 %
    assert bootstrap_interval([0.0, 1.0, 5.0], confidence=0.8) == pytest.approx((1 / 3, 11 / 3))
    assert bootstrap_interval([0.3]) == (0.3, 0.3)


def test_a_weight_counts_a_sequence_that_often() -> None:
    means = bootstrap_means([0.0, 1.0], weights=[3.0, 1.0])
    # drawn twice the first, each once (weights 3 and 1), twice the second
    assert set(means.tolist()) == {0.0, 0.25, 1.0}
    assert bootstrap_means([np.nan, 1.0, 0.5], weights=[0.0, 1.0, 1.0]).min() == 0.5


def test_columns_share_their_draws() -> None:
    values = np.random.default_rng(3).random((40, 3))
    together = bootstrap_means(values, samples=500)
    assert together.shape == (500, 3)
    for column in range(3):
        assert together[:, column] == pytest.approx(bootstrap_means(values[:, column], samples=500))
    low, high = bootstrap_interval(values, samples=500)
    assert np.shape(low) == (3,) and np.all(np.asarray(low) < values.mean(axis=0))
    assert np.all(np.asarray(high) > values.mean(axis=0))


def test_a_seed_repeats_and_blocks_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(30)
    assert np.array_equal(bootstrap_means(values, seed=4), bootstrap_means(values, seed=4))
    assert not np.array_equal(bootstrap_means(values, seed=4), bootstrap_means(values, seed=5))
    whole = bootstrap_means(values, samples=1001)
    monkeypatch.setattr("mtltrack.metrics.statistics.CHUNK", 30 * 16)
    assert bootstrap_means(values, samples=1001) == pytest.approx(whole)


def test_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).normal(0.6, 0.2, 60)
    low, high = bootstrap_interval(values, samples=20_000)
    other = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=2)
    assert (low, high) == pytest.approx(tuple(other.confidence_interval), abs=0.003)


def test_p_values_by_hand() -> None:
    # sums of +-1 +-2 +-4: 7 and -7 of 8 tosses are as large as the observed 7
    assert sign_flip_p_value([1.0, 2.0, 4.0]) == 2 / 8
    # observed 1 + 2 - 4 = -1: every toss reaches 1
    assert sign_flip_p_value([1.0, 2.0, -4.0]) == 1.0
    # observed 5: +-7 and +-5 of the 8
    assert sign_flip_p_value([-1.0, 2.0, 4.0]) == 4 / 8
    assert sign_flip_p_value([0.0, 0.0]) == 1.0
    # weights 1, 2, 1 make of it 1, 1, 4: 6 and -6
    assert sign_flip_p_value([1.0, 0.5, 4.0], [1.0, 2.0, 1.0]) == 2 / 8


def test_equal_sums_count_although_they_round_differently() -> None:
    # 0.1 + 0.2 - 0.3 isn't 0 in floating point; every toss reaches the observed 0
    assert sign_flip_p_value([0.1, 0.2, -0.3]) == 1.0
    # the observed 0.6 arises from all signs alike only, whatever the order of adding
    assert sign_flip_p_value([0.3, 0.1, 0.2]) == 2 / 8


@pytest.mark.parametrize("size", [10, 40])
def test_p_values_agree_with_scipy(size: int) -> None:
    differences = np.random.default_rng(size).normal(0.02, 0.08, size)
    other = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=10_000,
        rng=1,
    )
    exact = 2**size <= 10_000
    assert sign_flip_p_value(differences) == pytest.approx(other.pvalue, abs=1e-12 if exact else 0.02)


def test_two_trackers_that_differ() -> None:
    generator = np.random.default_rng(5)
    a = generator.random(200)
    found = compare_paired(a + generator.normal(0.05, 0.05, 200), a)
    assert found.differs and found.low < found.difference < found.high
    assert found.low > 0.03 and found.high < 0.07 and found.p_value == 1 / 10_001
    back = compare_paired(a, a + 0.01)
    assert back.differs and back.difference == pytest.approx(-0.01)
    same = compare_paired(a, a)
    assert not same.differs and (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_five_sequences_never_show_a_difference() -> None:
    found = compare_paired([0.9] * 5, [0.1] * 5)
    assert found.low > 0 and found.p_value == 2 / 32 and not found.differs
    assert compare_paired([0.9] * 6, [0.1] * 6).differs


def test_the_interval_covers_the_truth_and_like_trackers_rarely_differ() -> None:
    # 300 simulated benchmarks of 60 sequences whose scores are skewed, as overlaps are: Beta(4, 2), mean 2/3
    generator = np.random.default_rng(9)
    covered = differing = 0
    runs = 300
    for run in range(runs):
        a, b = generator.beta(4, 2, (2, 60))
        low, high = bootstrap_interval(a, samples=600, seed=run)
        covered += low <= 2 / 3 <= high
        differing += compare_paired(a, b, samples=600, seed=run).differs
    # three standard deviations of a binomial of 300 at 0.95 are 11; a bootstrap of 60 is slightly too narrow
    assert 0.91 <= covered / runs <= 0.99
    assert differing / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5


def test_input_that_has_no_answer() -> None:
    with pytest.raises(DataError, match=r"S > 0; found \(0,\)"):
        bootstrap_interval([])
    with pytest.raises(DataError, match=r"1 of 3 sequences have a score that is no finite.*number 2"):
        bootstrap_interval([0.1, np.nan, 0.2])
    with pytest.raises(DataError, match=r"2 sequences but weights of the shape \(3,\)"):
        bootstrap_interval([0.1, 0.2], weights=[1, 1, 1])
    with pytest.raises(DataError, match="finite, 0 or more, and not all 0"):
        bootstrap_interval([0.1, 0.2], weights=[0, 0])
    with pytest.raises(DataError, match=r"confidence must lie between 0 and 1.*found 95"):
        bootstrap_interval([0.1, 0.2], confidence=95)
    with pytest.raises(DataError, match="samples must be at least 1; found 0"):
        bootstrap_interval([0.1, 0.2], samples=0)
    with pytest.raises(DataError, match=r"the shapes \(2,\) and \(3,\)"):
        compare_paired([0.1, 0.2], [0.1, 0.2, 0.3])
