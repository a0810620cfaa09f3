"""A made-up batch with a label of every task: noise for images, and labels that every loss can work with.

What the images show doesn't matter to where a gradient goes. The labels are chosen so that no loss lies in a
flat stretch: a target that stood for about as long as an alert allows, on the edge of a zone, its plate seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtltrack.core.errors import ConfigError
from mtltrack.core.types import BOX, Clip, Labels

SCALE, SHIFT = 1.5, (100.0, 60.0)  # from pixels of the search crop to pixels of the frame
SECONDS = (
    4.0  # from frame to frame: long, because an untrained tracker's box jumps, and speeds must stay small
)
STOPPED = 120.0  # seconds that the target has stood in the middle of the clip
TEETH = 8  # of the zone
PLATE = (0.0, 0.2, 0.4, 0.12)  # in sizes of the target: its centre's distance, its size


@dataclass(frozen=True)
class ClipShape:
    """Samples, search frames, pixels of the crops; `detail` is None without a detail view."""

    batch: int
    frames: int
    template: int
    search: int
    detail: int | None = None


def made_up_clip(heads: Mapping[str, Any], shape: ClipShape, seed: int = 0) -> Clip:
    """Return a batch of noise with labels of all tasks, uint8 images as from the loader.

    Args:
        heads: task -> head. A task that isn't known here is asked for its labels:
            `example_labels(clip) -> {name: (B, T, ...)}`, `valid` (B, T) among them.
        shape: sizes.
        seed: of the noise.

    Raises:
        ConfigError: a task is unknown, and its head has no `example_labels`.
    """
    generator = torch.Generator().manual_seed(seed)
    size = (shape.batch, shape.frames)
    boxes = torch.cat(
        [
            0.4 + 0.2 * torch.rand(*size, 2, generator=generator),
            0.3 + 0.1 * torch.rand(*size, 2, generator=generator),
        ],
        dim=-1,
    )
    clip = Clip(
        template=_noise((shape.batch, 3, shape.template, shape.template), generator),
        template_boxes_xywh=torch.tensor([[0.25, 0.25, 0.5, 0.5]]).repeat(shape.batch, 1),
        search=_still((*size, 3, shape.search, shape.search), generator),
        affine=_affine(SCALE, SHIFT).repeat(*size, 1, 1),
        timestamps=(SECONDS * torch.arange(shape.frames, dtype=torch.float64)).repeat(shape.batch, 1),
        labels={BOX: {"valid": torch.ones(size, dtype=torch.bool), "cxcywh": boxes}},
        sources=[{"dataset": "made up", "sequence": str(row)} for row in range(shape.batch)],
    )
    if shape.detail is not None:
        clip.detail = _still((*size, 3, shape.detail, shape.detail), generator)
        half = SCALE * shape.search / 2  # the middle of the search crop, half as wide
        middle = [start + half / 2 for start in SHIFT]
        clip.detail_affine = _affine(half / shape.detail, (middle[0], middle[1])).repeat(*size, 1, 1)
    for task, head in heads.items():
        if task != BOX:
            clip.labels[task] = _labels(task, head, clip, generator)
    return clip


def _labels(task: str, head: Any, clip: Clip, generator: torch.Generator) -> dict[str, Tensor]:
    if hasattr(head, "example_labels"):
        labels: dict[str, Tensor] = head.example_labels(clip)
        return labels
    if task not in KNOWN:
        raise ConfigError(
            f"there are no made-up labels for the task '{task}' (known: {', '.join(KNOWN)}); audit on --data "
            f"real, or give {type(head).__name__} a method example_labels(clip) -> {{name: (B, T, ...)}}"
        )
    valid = torch.ones(clip.search.shape[:2], dtype=torch.bool)
    return {"valid": valid, **KNOWN[task](head, clip, generator)}


def _conditions(head: Any, clip: Clip, generator: torch.Generator) -> dict[str, Tensor]:
    size, classes = tuple(clip.search.shape[:2]), len(head.all_names)
    flags = torch.rand(*size, classes, generator=generator) < 0.5
    return {
        "index": torch.randint(0, classes, size, generator=generator),
        "flags": flags,
        "known": torch.ones_like(flags),
    }


def _mask(head: Any, clip: Clip, generator: torch.Generator) -> dict[str, Tensor]:
    del head, generator
    height, width = clip.search.shape[-2:]
    cx, cy, w, h = clip.labels[BOX]["cxcywh"][..., None, None].unbind(2)  # each (B, T, 1, 1)
    x, y = (torch.arange(width) + 0.5) / width, ((torch.arange(height) + 0.5) / height)[:, None]
    return {"mask": (((x - cx).abs() < w / 2) & ((y - cy).abs() < h / 2)).to(torch.uint8)}


def _plate_boxes(clip: Clip) -> Tensor:
    boxes = clip.labels[BOX]["cxcywh"]
    place = torch.tensor(PLATE)
    return torch.cat([boxes[..., :2] + place[:2] * boxes[..., 2:], place[2:] * boxes[..., 2:]], dim=-1)


def _plate(head: Any, clip: Clip, generator: torch.Generator) -> dict[str, Tensor]:
    del head, generator
    present = torch.ones(clip.search.shape[:2], dtype=torch.bool)
    return {"present": present, "cxcywh": _plate_boxes(clip)}


def _text(head: Any, clip: Clip, generator: torch.Generator) -> dict[str, Tensor]:
    size, length = tuple(clip.search.shape[:2]), min(6, head.columns // 2)
    codes = torch.randint(1, len(head.alphabet) + 1, (*size, length), generator=generator)
    return {"codes": codes, "length": torch.full(size, length), "cxcywh": _plate_boxes(clip)}


def _alert(head: Any, clip: Clip, generator: torch.Generator) -> dict[str, Tensor]:
    """A zone like a comb, its teeth as high as the crop: how much of a box it covers depends on its place."""
    del head, generator
    tops = [[-0.5 + (i + 0.5) * 2 / TEETH, -0.5] for i in range(TEETH)]
    feet = [[-0.5 + i * 2 / TEETH, 1.4] for i in range(TEETH + 1)]
    comb = [point for pair in zip(feet, tops, strict=False) for point in pair] + [feet[-1]]
    crop = torch.tensor([[-0.5, 1.5], *comb, [1.5, 1.5]])
    zone = SCALE * clip.search.shape[-1] * crop + torch.tensor(SHIFT)
    size = tuple(clip.search.shape[:2])
    times = clip.timestamps.float()
    begin = times - times.mean(1, keepdim=True)
    return {
        "zones": zone.repeat(*size, 1, 1, 1),
        "target": torch.ones(size, dtype=torch.bool),
        "stopped": STOPPED + begin,
    }


KNOWN: dict[str, Callable[[Any, Clip, torch.Generator], dict[str, Tensor]]] = {
    "cls": _conditions,
    "seg": _mask,
    "plate": _plate,
    "ocr": _text,
    "alert": _alert,
}


def _noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def _still(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return one picture a sample, with a little noise from frame to frame: (B, T, 3, H, W)."""
    picture = torch.randint(8, 248, (shape[0], 1, *shape[2:]), generator=generator)
    change = torch.randint(-8, 8, shape, generator=generator)
    return (picture + change).to(torch.uint8)


def _affine(scale: float, shift: tuple[float, float]) -> Tensor:
    return torch.tensor([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])


def labelled_tasks(labels: Labels) -> set[str]:
    """Return the tasks of which a batch has a label."""
    return {task for task, entry in labels.items() if bool(entry["valid"].any())}
