"""Which frames make a clip, for every mode."""

from __future__ import annotations

import numpy as np
import pytest

from mtltrack.core.errors import ConfigError
from mtltrack.data.augment import SampleRandom
from mtltrack.data.sampling import FrameChoice, sampling_mode

SEEDS = range(200)


def choices(mode: str, usable: np.ndarray, num_search: int, interval: int) -> list[FrameChoice]:
    drawn = [sampling_mode(mode)(usable, num_search, interval, SampleRandom(seed)) for seed in SEEDS]
    return [choice for choice in drawn if choice is not None]


def test_one_search_frame_follows_the_template_within_the_interval() -> None:
    usable = np.arange(0, 300, 3)
    drawn = choices("causal", usable, 1, 30)
    steps = [choice.search[0] - choice.template for choice in drawn]
    assert len(drawn) == len(SEEDS) and min(steps) >= 3 and max(steps) == 30
    assert not any(choice.reversed for choice in drawn)
    assert {choice.template for choice in drawn} <= set(usable.tolist())


def test_the_interval_widens_over_a_gap() -> None:
    drawn = choices("causal", np.array([0, 100]), 1, 10)
    assert {(choice.template, choice.search[0]) for choice in drawn} == {(0, 100)}


@pytest.mark.parametrize("mode", ["sequence", "causal"])
def test_several_search_frames_are_ordered_and_half_of_the_clips_run_backwards(mode: str) -> None:
    drawn = choices(mode, np.arange(500), 5, 20)
    for choice in drawn:
        steps = np.diff([choice.template, *choice.search])
        assert (np.sign(steps) == (-1 if choice.reversed else 1)).all() and np.abs(steps).max() <= 20
    assert 70 <= sum(choice.reversed for choice in drawn) <= 130


@pytest.mark.parametrize(("frames", "num_search"), [(20, 5), (6, 5), (2, 1), (3, 2)])
def test_short_sequences_work(frames: int, num_search: int) -> None:
    for choice in choices("sequence", np.arange(frames), num_search, 200):
        used = [choice.template, *choice.search]
        assert len(set(used)) == num_search + 1 and max(used) < frames
    assert len(choices("sequence", np.arange(frames), num_search, 1)) == len(SEEDS)


@pytest.mark.parametrize("mode", ["causal", "sequence"])
def test_too_few_frames_are_no_choice(mode: str) -> None:
    assert choices(mode, np.arange(5), 5, 10) == [] and choices(mode, np.arange(1), 1, 10) == []


@pytest.mark.parametrize("mode", ["trident", "trident_pro", "stark"])
def test_free_modes_take_frames_anywhere(mode: str) -> None:
    drawn = choices(mode, np.arange(100), 2, 5)
    assert any(choice.search[0] < choice.template for choice in drawn)
    assert any(abs(choice.search[0] - choice.template) > 50 for choice in drawn)
    assert all(choice.search == sorted(choice.search) for choice in drawn)
    assert choices(mode, np.arange(0), 2, 5) == []


def test_an_unknown_mode_names_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"SAMPLER_MODE is 'casual'\. Did you mean 'causal'\? Choose one of causal"
    ):
        sampling_mode("casual")
