"""Working in full precision whatever the precision around: at least float32, and float64 stays float64."""

from __future__ import annotations

import torch
from torch import Tensor


def full_type(values: Tensor) -> torch.dtype:
    """Return float64 for float64 and float32 for anything else."""
    return torch.promote_types(values.dtype, torch.float32)


def in_full(values: Tensor) -> Tensor:
    """Return the values in their `full_type`; float32 and float64 as they are."""
    return values.to(full_type(values))
