"""Central differences, relative errors, and what a check is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from derivatives.held import Held

STEP = 1e-5  # of central differences, in the inputs' own unit
SMALL = 1e-3  # entries below this share of the largest are judged against that share of it
BY_DIFFERENCES, BY_FORM = "central differences", "closed form"


@dataclass
class Outcome:
    """What a check found.

    Attributes:
        error: the largest relative error; infinite where something isn't finite.
        compared: how many numbers were compared.
        note: where the largest error stands, what was held constant, and the like.
        held: the places in the code whose results were held constant, declared to carry no gradient.
    """

    error: float
    compared: int
    note: str = ""
    held: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Check:
    """One derivative, or one edge case.

    Attributes:
        name: "losses/giou".
        against: what it is compared with.
        tolerance: the largest relative error that passes.
        run: makes the comparison.
    """

    name: str
    against: str
    tolerance: float
    run: Callable[[], Outcome]


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """Return the largest |found - wanted| over max(|found|, |wanted|, a thousandth of the largest entry).

    Anything that isn't finite counts as an infinite error; zeros that are equal as none.
    """
    found, wanted = found.detach().double(), wanted.detach().double()
    if found.shape != wanted.shape:
        raise ValueError(
            f"shapes {tuple(found.shape)} and {tuple(wanted.shape)} of what is compared don't match"
        )
    if not (torch.isfinite(found).all() and torch.isfinite(wanted).all()):
        return math.inf
    if not found.numel():
        return 0.0
    largest = max(float(found.abs().max()), float(wanted.abs().max()))
    if largest == 0:
        return 0.0
    scale = torch.maximum(found.abs(), wanted.abs()).clamp(min=SMALL * largest)
    return float(((found - wanted).abs() / scale).max())


def compare(*pairs: tuple[Tensor, Tensor]) -> Outcome:
    """Compare pairs of what was found and what was wanted, each on its own scale."""
    errors = [relative_error(found, wanted) for found, wanted in pairs]
    return Outcome(max(errors), sum(found.numel() for found, _ in pairs))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    """Return normally distributed float64 numbers."""
    return scale * torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def uniform(*shape: int, seed: int = 0, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Return evenly distributed float64 numbers."""
    return low + (high - low) * torch.rand(shape, generator=generator(seed), dtype=torch.float64)


def gradients(function: Callable[..., Tensor], inputs: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Return the gradients by automatic differentiation, and the weights of the function's entries.

    A function of several values is made one by fixed random weights, so that no two errors cancel.
    """
    leaves = [value.detach().clone().requires_grad_() for value in inputs]
    values = function(*leaves)
    weights = uniform(*values.shape, seed=99, low=0.5, high=1.5)
    found = torch.autograd.grad((weights * values).sum(), leaves, allow_unused=True)
    zeros = [torch.zeros_like(value) for value in leaves]
    return [zero if grad is None else grad for grad, zero in zip(found, zeros, strict=True)], weights


def central_differences(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], weights: Tensor, step: float = STEP
) -> list[Tensor]:
    """Return (f(x + step) - f(x - step)) / (2 step) of every entry of every input, f = sum(weights * values).

    Differences are taken before they are summed, so that entries which don't change round nothing.
    """
    found = []
    for number, value in enumerate(inputs):
        slope = torch.empty_like(value)
        for index in range(value.numel()):
            ends = []
            for sign in (1, -1):
                moved = value.clone()
                moved.view(-1)[index] += sign * step
                ends.append(function(*inputs[:number], moved, *inputs[number + 1 :]))
            slope.view(-1)[index] = (weights * (ends[0] - ends[1])).sum() / (2 * step)
        found.append(slope)
    return found


def by_differences(
    function: Callable[..., Tensor], *inputs: Tensor, step: float = STEP, hold: bool = False
) -> Outcome:
    """Compare automatic differentiation with central differences in every entry of float64 inputs.

    The inputs must lie away from kinks, by more than the step.

    Args:
        function: of the inputs.
        inputs: float64.
        step: of the differences.
        hold: keep what the function detaches, or computes under `no_grad`, constant (see `Held`).
    """
    assert all(value.dtype == torch.float64 for value in inputs)
    inputs = tuple(value.detach().contiguous() for value in inputs)
    found, weights = gradients(function, inputs)
    held = Held()
    if hold:
        with held.recording():
            function(*inputs)

    def repeated(*values: Tensor) -> Tensor:
        if not hold:
            return function(*values)
        with held.repeating():
            return function(*values)

    outcome = compare(*zip(found, central_differences(repeated, inputs, weights, step), strict=True))
    return declared(outcome, held)


def declared(outcome: Outcome, held: Held) -> Outcome:
    """Note what was held constant; a cut that nobody declared is an infinite error."""
    outcome.held = sorted(held.places)
    if held.undeclared():
        outcome.error = math.inf
        outcome.note = f"cut, and not declared: {', '.join(held.undeclared())}"
    return outcome


def by_form(function: Callable[..., Tensor], form: Sequence[Tensor], *inputs: Tensor) -> Outcome:
    """Compare automatic differentiation of the sum of all values with a gradient written down."""
    leaves = [value.detach().clone().requires_grad_() for value in inputs]
    found = torch.autograd.grad(function(*leaves).sum(), leaves)
    return compare(*zip(found, form, strict=True))
