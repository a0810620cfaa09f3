"""Puts the plain forms into a built tracker, and takes them out again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mtltrack.models.tracker import Tracker
from plain.attention import plain_attention
from plain.memory import plain_memory


@contextmanager
def plain_forms(net: Tracker) -> Iterator[None]:
    """Let a tracker compute in its plain form, on its own weights, while the context lasts.

    Attention and memory are those of this package, matrix products take the kernels that torch takes by
    itself, and everything is float32: the lower precision that accelerate puts around a tracker in training
    is left out. All else stays as it is. A memory must have been made in the same form as it is used in.
    """
    around = vars(net).pop("forward", None)
    try:
        with default_kernels(), plain_attention(net), plain_memory(net):
            yield
    finally:
        if around is not None:
            net.__dict__["forward"] = around


@contextmanager
def default_kernels() -> Iterator[None]:
    """Take torch's own choice of kernels for products of float32 matrices while the context lasts."""
    with matmul_precision("none"):
        yield


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """Set how oneDNN may multiply float32 matrices ("none" or "bf16") while the context lasts."""
    settings = torch.backends.mkldnn.matmul
    before = settings.fp32_precision
    settings.fp32_precision = name
    try:
        yield
    finally:
        settings.fp32_precision = before
