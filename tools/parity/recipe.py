"""Re-create the weights and inputs of the references: each number is a function of a name.

A CPU generator seeded with the CRC-32 of the name gives one draw of standard normal (or uniform) float32
values.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_TABLES = ("pos_embed", "pos_embed_x", "pos_embed_z", "cls_token")


def gen(name: str) -> torch.Generator:
    """Return the generator of `name`."""
    return torch.Generator().manual_seed(zlib.crc32(name.encode("utf-8")))


def _gain(key: str) -> float:
    if ".qkv." in key:
        return 1.5
    return 4.0 if ".conv5_" in key else 1.0


def weight(key: str, shape: Sequence[int]) -> Tensor:
    """Return the value of the state-dict entry `key`."""
    shape = tuple(shape)
    last = key.split(".")[-1]
    if last == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    draw = torch.randn(shape, generator=gen(key))
    if last == "running_var":
        return draw.abs() * 0.1 + 1.0
    if last == "running_mean":
        return draw * 0.05
    if last in _TABLES or "temporal_pos" in key:
        return draw * 0.2
    if last == "weight":
        return draw * 0.1 + 1.0 if len(shape) == 1 else _gain(key) * draw / math.sqrt(math.prod(shape[1:]))
    return draw * 0.02 - 1.3 if key.endswith("conv5_size.bias") else draw * 0.02


def fill(module: torch.nn.Module) -> None:
    """Give every parameter and buffer of `module` its value by the recipe."""
    module.load_state_dict({key: weight(key, value.shape) for key, value in module.state_dict().items()})


def image(name: str, batch: int, size: int) -> Tensor:
    """Return a normalised network input (batch, 3, size, size): blocks of 16 pixels plus fine noise."""
    cells = size // 16
    coarse = torch.randn((batch, 3, cells, cells), generator=gen(f"{name}/coarse"))
    blocks = torch.kron(coarse, torch.ones(1, 1, 16, 16))
    return 0.75 * blocks + 0.5 * torch.randn((batch, 3, size, size), generator=gen(f"{name}/fine"))


def boxes(name: str, count: int, low: float = 0.15, high: float = 0.35) -> Tensor:
    """Return (count, 4) boxes xywh inside the unit square, sides in [low, high]."""
    draw = torch.rand((count, 4), generator=gen(name))
    sides = low + (high - low) * draw[:, 2:]
    return torch.cat([draw[:, :2] * (1 - sides), sides], dim=1)


def frame(t: int, width: int = 1280, height: int = 720) -> tuple[np.ndarray, list[float]]:
    """Return frame `t` of the synthetic video, uint8 RGB, and its true box xywh in pixels."""
    random = np.random.RandomState(7)
    blocks = random.randint(0, 256, (height // 40, width // 40, 3)).astype(np.uint8)
    picture = blocks.repeat(40, axis=0).repeat(40, axis=1)
    target = random.randint(0, 256, (8, 8, 3)).astype(np.uint8).repeat(12, axis=0).repeat(10, axis=1)
    rows, columns = target.shape[:2]
    x, y = (300 + 9 * t) % (width - columns), (200 + 4 * t) % (height - rows)
    picture[y : y + rows, x : x + columns] = target
    return picture, [float(x), float(y), float(columns), float(rows)]
