"""Which frames of a sequence make a clip: the sampling modes.

Every mode returns the template's frame and the search frames, or None when the sequence has too few usable
frames. The published samplers draw until they succeed and can run for ever on short sequences; these widen
the window and always end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mtltrack.core.errors import ConfigError, did_you_mean
from mtltrack.data.augment import SampleRandom

_WIDENING = 5  # frames by which the window grows when it holds no usable frame, as published
_REVERSAL_PROBABILITY = 0.5


class FrameChoice(NamedTuple):
    """The frames of a clip, counted from 0."""

    template: int
    search: list[int]
    reversed: bool = False


def _next_position(usable: np.ndarray, position: int, last: int, interval: int, rng: SampleRandom) -> int:
    """Draw a later entry of `usable`, at most `interval` frames on; the window widens until it holds one.

    Args:
        usable: (V,) ascending frame numbers.
        position: entry to start from.
        last: last entry that may be drawn, above `position`.
        interval: longest step in frames.
    """
    reach = interval
    while True:
        end = int(np.searchsorted(usable, usable[position] + reach, side="right")) - 1
        end = min(end, last)
        if end > position:
            return rng.python.randint(position + 1, end)
        reach += _WIDENING


def sample_causal(
    usable: np.ndarray, num_search: int, interval: int, rng: SampleRandom
) -> FrameChoice | None:
    """Template before search (OSTrack); with several search frames HIPTrack's sequence."""
    if num_search > 1:
        return sample_sequence(usable, num_search, interval, rng)
    if len(usable) < 2:
        return None
    position = rng.python.randrange(len(usable) - 1)
    later = _next_position(usable, position, len(usable) - 1, interval, rng)
    return FrameChoice(int(usable[position]), [int(usable[later])])


def sample_sequence(
    usable: np.ndarray, num_search: int, interval: int, rng: SampleRandom
) -> FrameChoice | None:
    """Template, then search frames at most `interval` frames apart; in half of the cases backwards.

    HIPTrack uses a fixed step of 70 frames, leaves MAX_SAMPLE_INTERVAL unread and begins near the start of a
    short sequence; here MAX_SAMPLE_INTERVAL is the longest step, and any frame with enough later ones begins.
    """
    if len(usable) < num_search + 1:
        return None
    position = rng.python.randrange(len(usable) - num_search)
    positions = [position]
    for k in range(num_search):
        last = len(usable) - num_search + k  # leaves enough frames for the rest
        positions.append(_next_position(usable, positions[-1], last, interval, rng))
    frames = [int(usable[entry]) for entry in positions]
    backwards = bool(rng.numpy.rand() < _REVERSAL_PROBABILITY)
    if backwards:
        frames.reverse()
    return FrameChoice(frames[0], frames[1:], backwards)


def sample_trident(
    usable: np.ndarray,
    num_search: int,
    interval: int,  # noqa: ARG001  # free of it, as published
    rng: SampleRandom,
) -> FrameChoice | None:
    """Template and search frames anywhere in the sequence; search frames in time order."""
    if len(usable) == 0:
        return None
    template = int(rng.python.choice(usable))
    return FrameChoice(template, sorted(int(frame) for frame in rng.python.choices(usable, k=num_search)))


Sampler = Callable[[np.ndarray, int, int, SampleRandom], FrameChoice | None]
MODES: dict[str, Sampler] = {
    "causal": sample_causal,
    "sequence": sample_sequence,
    "trident": sample_trident,
    "trident_pro": sample_trident,  # differs from trident in the dynamic template only, which isn't used here
    "stark": sample_trident,
}


def sampling_mode(name: str) -> Sampler:
    """Return the function of a DATA.SAMPLER_MODE."""
    if name not in MODES:
        raise ConfigError(
            f"DATA.SAMPLER_MODE is '{name}'.{did_you_mean(name, MODES)} Choose one of {', '.join(MODES)}."
        )
    return MODES[name]
