"""How the frames of a test are computed: in which precision, by which kernel, from which weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mtltrack.core.kernels import KernelChoice, kernel_for, using
from mtltrack.core.precision import half_type
from mtltrack.models.packed import pack_where_faster


@dataclass(frozen=True)
class Arithmetic:
    """What decides how fast a frame is computed, and how its numbers are rounded.

    Attributes:
        device: where the network runs.
        lowered: the type that autocast computes in; None for float32.
        kernel: of float32 products on a CPU.
        packs: whether weights may be kept packed (TEST.PACK_WEIGHTS).
    """

    device: torch.device
    lowered: torch.dtype | None
    kernel: KernelChoice
    packs: bool

    @classmethod
    def of(cls, cfg: Any, device: torch.device) -> Arithmetic:
        """Return what TEST.PRECISION, TEST.MATMUL and TEST.PACK_WEIGHTS ask for; may measure kernels.

        Raises:
            ConfigError: TEST.PRECISION is fp16 on a CPU.
        """
        lowered = half_type(cfg.TEST.PRECISION, device, "TEST.PRECISION")
        return cls(device, lowered, kernel_for(cfg.TEST.MATMUL, device), cfg.TEST.PACK_WEIGHTS)

    def prepare(self, net: nn.Module) -> None:
        """Let a network's layers keep their weights packed where that is faster."""
        if self.packs:
            with using(self.kernel.kernel):
                pack_where_faster(self.device, self.lowered, net)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Compute without gradients, in this precision and by this kernel, while the context lasts."""
        lowered = torch.autocast(self.device.type, dtype=self.lowered, enabled=self.lowered is not None)
        with torch.inference_mode(), using(self.kernel.kernel), lowered:
            yield
