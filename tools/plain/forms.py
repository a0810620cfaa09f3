"""Puts the plain forms into a built tracker, and takes them out again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mtltrack.core.kernels import DEFAULT, using
from mtltrack.models.packed import unpacked
from mtltrack.models.tracker import Tracker
from plain.attention import plain_attention
from plain.memory import plain_memory


@contextmanager
def plain_forms(net: Tracker) -> Iterator[None]:
    """Let a tracker compute in its plain form, on its own weights, while the context lasts.

    Attention and memory are those of this package, matrix products take the kernels that torch takes by
    itself and weights as they are, and everything is float32: the lower precision that accelerate puts around
    a tracker in training is left out. All else stays as it is. A memory must have been made in the same form
    as it is used in.
    """
    around = vars(net).pop("forward", None)
    try:
        with using(DEFAULT), unpacked(net), plain_attention(net), plain_memory(net):
            yield
    finally:
        if around is not None:
            net.__dict__["forward"] = around
