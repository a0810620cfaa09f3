"""A batch's answer of the frozen parts as samples for the store, and samples as a batch again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtltrack.core.types import TaskOutput, Tokens
from mtltrack.models.tracker import Known
from mtltrack.training.feature_store import Entry

TEMPLATE, SEARCH, KEPT, REMOVED, PYRAMID = "template", "search", "kept", "removed", "pyramid"
FEATURES, PREDICTION = "box.features", "box.prediction."


def tensors_of(known: Known) -> dict[str, Tensor]:
    """Return the tensors of a batch's answer by name, each with leading B."""
    tokens, box = known.tokens, known.box
    found: dict[str, Tensor | None] = {
        TEMPLATE: tokens.template,
        SEARCH: tokens.search,
        KEPT: tokens.kept,
        **{f"{REMOVED}.{number}": value for number, value in enumerate(tokens.removed)},
        **{f"{PYRAMID}.{number}": value for number, value in enumerate(tokens.pyramid)},
    }
    if box is not None:
        found[FEATURES] = box.features
        found.update({f"{PREDICTION}{name}": value for name, value in box.predictions.items()})
    return {name: value for name, value in found.items() if value is not None}


def entry(known: Known, tensors: Mapping[str, Tensor], row: int) -> Entry:
    """Return what is stored of one sample of a batch, each tensor in the order in which it lies in memory.

    How the batch lay in memory is kept as well: kernels are chosen by that, too.
    """
    own = {name: _in_memory_order(value[row]).cpu().clone() for name, value in tensors.items()}
    about = {
        "grid": list(known.tokens.grid),
        "box": known.box is not None,
        "strides": {name: _strides(value) for name, value in tensors.items()},
    }
    return Entry(own, about)


def _strides(value: Tensor) -> list[int]:
    repeats = any(step == 0 and size > 1 for step, size in zip(value.stride(), value.shape, strict=True))
    return list((value.contiguous() if repeats else value).stride())


def _in_memory_order(value: Tensor) -> Tensor:
    return value.detach().permute(_order(_strides(value))).contiguous()


def _order(strides: Sequence[int]) -> list[int]:
    return sorted(range(len(strides)), key=lambda axis: -strides[axis])


def joined(entries: Sequence[Entry], device: torch.device) -> Known:
    """Return a batch's answer as it was when it was computed."""
    about = entries[0].about
    tensors = {
        name: _batch([entry.tensors[name] for entry in entries], strides, device)
        for name, strides in about["strides"].items()
    }
    box = None
    if about["box"]:
        start = len(PREDICTION)
        named = {name[start:]: value for name, value in tensors.items() if name.startswith(PREDICTION)}
        box = TaskOutput(tensors.get(FEATURES), named)
    rows, columns = about["grid"]
    tokens = Tokens(
        template=tensors[TEMPLATE],
        search=tensors[SEARCH],
        grid=(rows, columns),
        removed=_numbered(tensors, REMOVED),
        kept=tensors.get(KEPT),
        pyramid=_numbered(tensors, PYRAMID),
    )
    return Known(tokens, box)


def _batch(stored: Sequence[Tensor], strides: Sequence[int], device: torch.device) -> Tensor:
    order = _order(strides[1:])
    shape = [0] * len(order)
    for axis, size in zip(order, stored[0].shape, strict=True):
        shape[axis] = size
    kind = stored[0].dtype
    batch = torch.empty_strided((len(stored), *shape), tuple(strides), dtype=kind, device=device)
    for row, value in enumerate(stored):
        batch[row].permute(order).copy_(value)
    return batch


def _numbered(tensors: Mapping[str, Tensor], name: str) -> list[Tensor]:
    count = sum(key.startswith(f"{name}.") for key in tensors)
    return [tensors[f"{name}.{number}"] for number in range(count)]
