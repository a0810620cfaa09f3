"""How many operations a second the machine reaches with large products of matrices."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F

from mtltrack.core.kernels import DEFAULT, ONEDNN, STILL_FLOAT32, relative_error, using
from mtltrack.core.precision import HALF_TYPES
from speed.rounds import Quartiles, seconds_of

# rows, inputs, outputs: the layers of ViT-B at 720 tokens, then larger ones
SHAPES = ((720, 768, 768), (720, 768, 3072), (720, 3072, 768), (2048, 2048, 2048), (4096, 4096, 4096))
LARGEST = (8192, 8192, 8192)  # smaller ones don't fill a GPU
QUICK_SHAPES = ((64, 64, 64), (128, 128, 128))
Shape = tuple[int, int, int]


@dataclass
class Limit:
    """Operations a second of `F.linear`.

    Attributes:
        precision: "fp32", "bf16" or "fp16".
        rates: kernel -> shape -> operations a second, one a round.
        refused: kernel -> why it doesn't count.
    """

    precision: str
    rates: dict[str, dict[Shape, list[float]]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def median(self, kernel: str, shape: Shape) -> float:
        """Return the operations a second of a kernel with matrices of that shape."""
        return Quartiles.of(self.rates[kernel][shape]).median

    @property
    def best(self) -> float:
        """The largest of the medians, of all kernels and shapes."""
        return max(self.median(kernel, shape) for kernel, shapes in self.rates.items() for shape in shapes)


class LimitMeter:
    """Measures the limit a bit at a time, between the other measurements.

    Args:
        precision: "fp32", "bf16" or "fp16".
        device: where.
        shapes: (rows, inputs, outputs) of the products.
        clock: returns seconds.
    """

    def __init__(
        self,
        precision: str,
        device: torch.device,
        shapes: Sequence[Shape] = SHAPES,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.device, self.clock = device, clock
        self.found = Limit(precision)
        dtype = HALF_TYPES.get(precision, torch.float32)
        generator = torch.Generator().manual_seed(0)
        self._operands = {
            shape: (
                torch.randn(shape[0], shape[1], generator=generator).to(device, dtype),
                torch.randn(shape[2], shape[1], generator=generator).to(device, dtype),
            )
            for shape in shapes
        }
        self._kernels: dict[str, Callable[[], AbstractContextManager[None]]] = {DEFAULT: nullcontext}
        if precision == "fp32" and device.type == "cpu":
            self._offer(ONEDNN, partial(using, ONEDNN))

    def _offer(self, name: str, kernel: Callable[[], AbstractContextManager[None]]) -> None:
        """Take a kernel into account, unless its products aren't float32."""
        values, weights = next(iter(self._operands.values()))
        with kernel(), torch.inference_mode():
            error = relative_error(F.linear(values, weights), values, weights.T)
        if error <= STILL_FLOAT32:
            self._kernels[name] = kernel
        else:
            self.found.refused[name] = f"its products aren't float32: relative error {error:.1e}"

    def measure(self, calls: int = 3) -> None:
        """Measure every kernel and shape once more."""
        with torch.inference_mode():
            for name, kernel in self._kernels.items():
                for shape, operands in self._operands.items():
                    product = partial(F.linear, *operands)
                    with kernel():
                        product()
                        seconds = min(seconds_of(product, self.device, self.clock) for _ in range(calls))
                    rows, inputs, outputs = shape
                    rates = self.found.rates.setdefault(name, {}).setdefault(shape, [])
                    rates.append(2 * rows * inputs * outputs / seconds)


def shapes_for(device: torch.device) -> tuple[Shape, ...]:
    """Return the products that the limit of a device is measured with."""
    return (*SHAPES, LARGEST) if device.type == "cuda" else SHAPES
