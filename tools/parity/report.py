"""Collect comparisons and judge them by the tolerances of the references."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

KINDS = ("map", "box", "loss", "grad", "exact")


@dataclass
class Report:
    """What was compared in one reference file.

    Attributes:
        name: the file's name.
        values: numbers compared.
        decisions: discrete decisions compared.
        differing: decisions that differ, by name.
        failures: comparisons outside their tolerance, one sentence each.
        absolute: largest absolute difference, over all values.
        relative: largest difference divided by max(1, max|reference|) of its array.
    """

    name: str
    values: int = 0
    decisions: int = 0
    differing: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    absolute: float = 0.0
    relative: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.failures and not self.differing

    def value(
        self, name: str, ours: Any, reference: Any, kind: str = "map", tolerance: float | None = None
    ) -> None:
        """Compare two arrays, tensors or numbers.

        Args:
            name: for the message.
            ours: what this project computed.
            reference: what the published code computed; NaN and infinity must stand at the same places.
            kind: map 1e-4 * max(1, max|reference|); box 1e-5; loss and grad 1e-4 relative; exact 0.
            tolerance: absolute tolerance instead of the kind's.
        """
        if kind not in KINDS:
            raise ValueError(f"kind '{kind}' is not one of {', '.join(KINDS)}")
        ours, reference = _as_array(ours), _as_array(reference)
        if ours.shape != reference.shape:
            self.failures.append(f"{name}: shape {ours.shape}, reference {reference.shape}")
            return
        self.values += reference.size
        finite = np.isfinite(reference)
        if (
            not np.array_equal(ours[~finite], reference[~finite], equal_nan=True)
            or not np.isfinite(ours[finite]).all()
        ):
            self.failures.append(f"{name}: NaN or infinity stand at other places than in the reference")
            return
        if not finite.any():
            return
        difference = float(np.abs(ours[finite] - reference[finite]).max())
        largest = float(np.abs(reference[finite]).max())
        allowed = _allowed(kind, largest) if tolerance is None else tolerance
        self.absolute = max(self.absolute, difference)
        self.relative = max(self.relative, difference / max(1.0, largest))
        if difference > allowed:
            self.failures.append(f"{name}: difference {difference:.3g}, allowed {allowed:.3g}")

    def decision(self, name: str, same: bool) -> None:
        """Note whether a discrete decision is the reference's."""
        self.decisions += 1
        if not same:
            self.differing.append(name)

    def understood(self, name: str, found: Iterable[str], known: Iterable[str]) -> None:
        """Fail when a reference holds entries that no comparison knows: nothing is passed over in silence."""
        strange = sorted(set(map(str, found)) - set(known))
        if strange:
            self.failures.append(f"{name}: entries that no comparison knows: {', '.join(strange)}")

    def sets(self, name: str, ours: Iterable[int], reference: Iterable[int]) -> None:
        """Compare two sets of token numbers as one decision."""
        self.decision(name, set(map(int, ours)) == set(map(int, reference)))


def _as_array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    return np.asarray(value, dtype=np.float64)


def _allowed(kind: str, largest: float) -> float:
    if kind == "map":
        return 1e-4 * max(1.0, largest)
    return {"box": 1e-5, "loss": 1e-4 * largest, "grad": 1e-4 * largest, "exact": 0.0}[kind]
