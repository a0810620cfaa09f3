"""Holding constant what the code declares to carry no gradient, so that differences see what gradients see.

A detached value is a constant to automatic differentiation, but not to a difference: moving a parameter
moves it. So the first evaluation notes what `detach` and everything under `no_grad` returned, and later ones
are given the same values. Where a gate is hard forward and soft backward, `hard + (soft - soft.detach())`,
the difference then measures the soft slope.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import mtltrack

PACKAGE = Path(mtltrack.__file__).parent


class Boundary(NamedTuple):
    """A place where no gradient passes by design.

    Attributes:
        lines: of the function in which something is held, no more than these.
        reason: why.
    """

    lines: int
    reason: str


DECLARED = {
    "losses/alert.py _stretch": Boundary(
        7, "the area doesn't depend, to first order, on where its strips are cut"
    ),
    "losses/alert.py box_polygon_areas": Boundary(1, "what counts as rounding"),
    "losses/alert.py stop_clock": Boundary(
        16, "the seconds at a clip's start, where back-propagation through time ends"
    ),
    "losses/alert.py stop_gate": Boundary(2, "straight-through: the hard gate forward, the soft one's slope"),
    "losses/boxes.py ciou_loss": Boundary(1, "alpha, held constant as in the paper"),
    "models/history.py memory_mask": Boundary(1, "whole pixels of the predicted box"),
    "models/history.py template_memory_mask": Boundary(1, "whole pixels of the template's box"),
    "models/layers/blocks.py _scores": Boundary(5, "the scores only choose which candidates are eliminated"),
    "models/layers/location.py local_mean": Boundary(
        1, "the best cell is chosen, and a choice has no derivative"
    ),
    "models/layers/pixels.py forward": Boundary(1, "the box head's scores only say where to look"),
    "tasks/alert.py _centres": Boundary(2, "straight-through: the best cell forward, the mean cell's slope"),
    "tasks/alert.py run_clock": Boundary(1, "the hard clock, for the metrics"),
    "tasks/seg.py forward": Boundary(1, "the box only says where a pixel lies"),
}


class PathChanged(RuntimeError):
    """An evaluation called other functions than the first one: a decision lies between the two points."""


class Held(TorchFunctionMode):
    """Record once, then repeat: `with held.recording(): f(x)`, then `with held.repeating(): f(x + h)`.

    Attributes:
        places: "tasks/seg.py forward", where something was held, and the numbers of its lines that did.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any]] = []  # function and its result; None where it is simply called
        self.places: dict[str, set[int]] = defaultdict(set)
        self.position: int | None = None

    def undeclared(self) -> list[str]:
        """Return the places that `DECLARED` doesn't know, and those that hold in more lines than it says."""
        found = []
        for place, lines in sorted(self.places.items()):
            known = DECLARED[place].lines if place in DECLARED else 0
            if len(lines) > known:
                more = f" ({len(lines)} lines, {known} declared)" if known else ""
                found.append(place + more)
        return found

    def recording(self) -> Held:
        self.calls, self.places, self.position = [], defaultdict(set), None
        return self

    def repeating(self) -> Held:
        self.position = 0
        return self

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        del types
        counted = func is Tensor.detach or not torch.is_grad_enabled()
        if not counted or func is torch._C._set_grad_enabled:  # which `no_grad` itself calls
            return func(*args, **(kwargs or {}))
        if self.position is None:
            result = func(*args, **(kwargs or {}))
            kept = result if isinstance(result, Tensor) and result.is_floating_point() else None
            self.calls.append((func, kept))
            if kept is not None:
                place, line = _place()
                self.places[place].add(line)
            return result
        if self.position >= len(self.calls) or self.calls[self.position][0] != func:
            raise PathChanged(f"evaluation {self.position} calls {func}, which the first one didn't")
        kept = self.calls[self.position][1]
        self.position += 1
        return func(*args, **(kwargs or {})) if kept is None else kept


def _place() -> tuple[str, int]:
    """Return the innermost running function of the package, "losses/boxes.py ciou_loss", and its line."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):  # not by the name alone: a checkout may be called like the package
            return f"{path.relative_to(PACKAGE).as_posix()} {frame.f_code.co_name}", frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
    return "outside the package", 0
