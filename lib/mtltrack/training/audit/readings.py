"""What is read off a gradient, and what it means where it was expected, or not."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from mtltrack.training.audit.expectation import Expected, Need


@dataclass(frozen=True)
class Reading:
    """A gradient on a stage of the model.

    Attributes:
        norm: of its finite entries; 0 without a gradient.
        zeros: share of entries that are exactly zero; a parameter without a gradient counts as zeros.
        bad: share of entries that are infinite or NaN.
        graph: whether any parameter has a gradient at all, be it of zeros.
        ratio: norm / norm of the parameters; NaN where they are all zero.
    """

    norm: float
    zeros: float
    bad: float
    graph: bool
    ratio: float

    @property
    def live(self) -> bool:
        """Whether the gradient is there: finite, and not zero everywhere."""
        return self.graph and self.bad == 0 and self.norm > 0


def norm_of(tensors: Iterable[Tensor]) -> float:
    """Return the norm of several tensors together, summed in float64."""
    squares = [float(torch.linalg.vector_norm(t.detach(), dtype=torch.float64)) ** 2 for t in tensors]
    return math.sqrt(math.fsum(squares))


def read(parameters: Mapping[str, Tensor], gradients: Mapping[str, Tensor | None]) -> Reading:
    """Measure the gradients of some parameters.

    Args:
        parameters: by name.
        gradients: by name; None where there is none. Names that are absent have none.
    """
    entries, zeros, bad = 0, 0, 0
    norms: list[float] = []
    for name, parameter in parameters.items():
        gradient = gradients.get(name)
        entries += parameter.numel()
        if gradient is None:
            zeros += parameter.numel()
            continue
        zeros += gradient.numel() - int(gradient.count_nonzero())
        norm = norm_of([gradient])
        if not math.isfinite(norm):  # mostly it is, and no copy is needed
            ok = torch.isfinite(gradient)
            bad += int((~ok).sum())
            norm = norm_of([torch.where(ok, gradient, torch.zeros_like(gradient))])
        norms.append(norm)
    norm, size = math.hypot(*norms), norm_of(parameters.values())
    ratio = norm / size if size > 0 else math.nan
    return Reading(norm, zeros / max(entries, 1), bad / max(entries, 1), bool(norms), ratio)


class Verdict(Enum):
    """What a gradient is, held against what was expected."""

    CONNECTED = "connected"
    NONE = "none"  # neither there nor due
    MISSING = "missing"
    LEAKING = "leaking"
    VANISHING = "vanishing"
    EXPLODING = "exploding"
    NON_FINITE = "non-finite"

    @property
    def violated(self) -> bool:
        return self not in (Verdict.CONNECTED, Verdict.NONE)


@dataclass(frozen=True)
class Limits:
    """Where a gradient is too small or too large, beside that of the same loss on what the head predicts.

    A loss that is all but zero has small gradients everywhere; one that is lost or blown up on its way back
    has not.

    Attributes:
        vanishing: below this times the norm on the predictions.
        exploding: above this times that norm.
        sum_rule: largest relative difference between the total's gradient and the weighted sum.
        weight: largest relative difference between a lambda and what the total's gradient shows.
    """

    vanishing: float = 1e-8
    exploding: float = 1e6
    sum_rule: float = 1e-3
    weight: float = 1e-3


def judge(reading: Reading, expected: Expected) -> Verdict:
    """Return the verdict on one gradient by itself; `sizes` compares it with the others of its loss."""
    if reading.bad > 0:
        return Verdict.NON_FINITE
    if expected.need is Need.FORBIDDEN:
        return Verdict.LEAKING if reading.graph else Verdict.NONE
    if reading.live:
        return Verdict.CONNECTED
    return Verdict.MISSING if expected.need is Need.REQUIRED else Verdict.NONE


def by_size(readings: Sequence[Reading], scale: float, limits: Limits) -> list[Verdict]:
    """Judge the sizes of one loss's gradients on stages of the model.

    Args:
        readings: live ones.
        scale: norm of the loss's gradient on what its head predicts; 0 where it isn't computed from that:
            then the median of the readings counts.
        limits: see `Limits`.

    Returns:
        CONNECTED, VANISHING or EXPLODING for each.
    """
    norms = [reading.norm for reading in readings]
    usual = scale if scale > 0 or not norms else statistics.median(norms)
    found = []
    for norm in norms:
        if norm < limits.vanishing * usual:
            found.append(Verdict.VANISHING)
        elif norm > limits.exploding * usual:
            found.append(Verdict.EXPLODING)
        else:
            found.append(Verdict.CONNECTED)
    return found
