"""What goes to the device with a frame, and the one copy of the answers that comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtltrack.core.types import normalise

Predictions = dict[str, dict[str, Tensor]]  # task -> the predictions of its `decode_keys`


@dataclass(frozen=True)
class Uploader:
    """Sends a batch's inputs to a device, without waiting for it.

    Attributes:
        device: where to.
        mean: three channel means in [0, 1], DATA.MEAN.
        std: three channel deviations, DATA.STD.
    """

    device: torch.device
    mean: list[float]
    std: list[float]

    def images(self, crops: Sequence[np.ndarray]) -> Tensor:
        """Send uint8 crops and normalise them there, each (H, W, 3) -> (B, 3, H, W)."""
        pixels = torch.from_numpy(crops[0][None] if len(crops) == 1 else np.stack(crops))
        return normalise(self._send(pixels).permute(0, 3, 1, 2), self.mean, self.std)

    def affines(self, affines: Sequence[np.ndarray]) -> Tensor:
        """Send affines, each (2, 3) float64 -> (B, 1, 2, 3) float32."""
        return self._send(torch.from_numpy(np.stack(affines)).float()[:, None])

    def times(self, seconds: Sequence[float]) -> Tensor:
        """Send a time stamp each, -> (B, 1) float64."""
        return self._send(torch.tensor(seconds, dtype=torch.float64)[:, None])

    def _send(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()  # from other memory the host would wait for the copy
        return tensor.to(self.device, non_blocking=True)


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """Join the rows of a batch; a single one isn't copied."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def to_host(packed: Predictions) -> Predictions:
    """Copy all tensors to the host in one go."""
    flat = torch.cat([value.float().flatten() for entry in packed.values() for value in entry.values()]).cpu()
    unpacked: Predictions = {}
    start = 0
    for task, entry in packed.items():
        unpacked[task] = {}
        for name, value in entry.items():
            unpacked[task][name] = flat[start : start + value.numel()].view(value.shape)
            start += value.numel()
    return unpacked


def row_of(predictions: Predictions, row: int) -> Predictions:
    """Return the predictions of one row of the batch, as a batch of one."""
    return {
        task: {name: value[row : row + 1] for name, value in entry.items()}
        for task, entry in predictions.items()
    }
