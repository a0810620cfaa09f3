"""Precisions by name, and working in full precision whatever the precision around.

Full is at least float32; float64 stays float64.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mtltrack.core.errors import ConfigError

HALF_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def half_type(name: str, device: torch.device | str, key: str) -> torch.dtype | None:
    """Return the type that autocast computes in; None for fp32.

    Args:
        name: fp32, bf16 or fp16.
        device: where the model runs.
        key: what the user would change, for the message.

    Raises:
        ConfigError: fp16 away from a GPU, where hardly a kernel knows it and its range of 65504 has no gain.
    """
    kind = torch.device(device).type
    if name == "fp16" and kind == "cpu":
        raise ConfigError(f"{key} is fp16, which needs a GPU; the device is {kind}. Use bf16 or fp32.")
    return HALF_TYPES.get(name)


def full_type(values: Tensor) -> torch.dtype:
    """Return float64 for float64 and float32 for anything else."""
    return torch.promote_types(values.dtype, torch.float32)


def in_full(values: Tensor) -> Tensor:
    """Return the values in their `full_type`; float32 and float64 as they are."""
    return values.to(full_type(values))


def run_in_full(function: Callable[..., Tensor], values: Tensor, *more: Tensor) -> Tensor:
    """Return `function(values, ...)` computed in full precision, also under autocast.

    For a network's last layer: its product costs next to nothing, and rounding its result to the 8 bits of
    bfloat16 would move a box's side by up to 0.3 pixels of a region 384 pixels wide. And for places: a
    product of float32 matrices comes out in half precision under autocast, and so do the functions that
    multiply inside, such as `torch.einsum` and `affine_grid`.
    """
    with torch.autocast(values.device.type, enabled=False):
        return function(in_full(values), *map(in_full, more))
