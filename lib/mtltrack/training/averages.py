"""Means of scalars that stay on the device until somebody wants to read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from mtltrack.training.weighting import world_size


class Averages:
    """Sums scalars step by step; one copy to the host when they are read."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, ...], Tensor] = {}  # names -> (2, names) sums and weights

    def add(self, values: Mapping[str, Tensor], weights: Mapping[str, Tensor] | None = None) -> None:
        """Add scalars.

        Args:
            values: scalar tensors by name.
            weights: how much a value counts, by name or by the name's part before the first "/"; 1 where
                absent. A task without labels in a step weighs 0, so that its mean is over the steps that
                measured it.
        """
        known = weights or {}
        one = torch.ones_like(next(iter(values.values())))
        weight = torch.stack([known.get(name.split("/")[0], one) for name in values])
        value = torch.stack(list(values.values()))
        weighted = torch.where(
            weight > 0, value * weight, torch.zeros_like(value)
        )  # NaN of weight 0 is dropped
        self._add(tuple(values), torch.stack([weighted, weight]))

    def merge(self, other: Averages) -> None:
        """Add everything that `other` holds now."""
        for names, row in other._rows.items():
            self._add(names, row)

    def _add(self, names: tuple[str, ...], row: Tensor) -> None:
        self._rows[names] = self._rows[names] + row if names in self._rows else row

    def take(self) -> dict[str, float]:
        """Return the means over everything added since the last call and over all ranks, and start anew.

        Names that were never measured are left out. Every rank must call it (it is a collective operation).
        """
        means: dict[str, float] = {}
        for names, row in self._rows.items():
            if world_size() > 1:
                torch.distributed.all_reduce(row)
            sums, weights = row.tolist()
            means.update({name: sums[i] / weights[i] for i, name in enumerate(names) if weights[i] > 0})
        self._rows = {}
        return means

    def state_dict(self) -> list[tuple[tuple[str, ...], Tensor]]:
        """Return what has been added on this rank since the last call of `take`."""
        return list(self._rows.items())

    def load_state_dict(self, state: Iterable[tuple[Iterable[str], Tensor]], device: Any) -> None:
        """Go on from what `state_dict` returned."""
        self._rows = {tuple(names): row.to(device) for names, row in state}
