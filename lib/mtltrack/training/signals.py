"""Leaving in order when somebody asks: SIGTERM, SIGINT (Ctrl-C), and SIGUSR1, with which Slurm can warn."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch

from mtltrack.core.errors import MtltrackError
from mtltrack.training.weighting import world_size

SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1")
PATIENCE = 2.0  # seconds in which a second signal is an echo: torchrun hands on what Slurm sent to all


class StoppedError(MtltrackError):
    """Training was asked to leave, and left a checkpoint to go on from.

    Args:
        number: of the signal.
        where: step and file, for people.
    """

    def __init__(self, number: int, where: str) -> None:
        self.number = number
        super().__init__(f"stopped by {signal.Signals(number).name} {where}")

    @property
    def status(self) -> int:
        """The exit status that a shell gives for this signal: 143 after SIGTERM, 130 after SIGINT."""
        return 128 + self.number


class StopSignals:
    """Remembers a signal that asks to leave, while it is entered.

    The first signal is remembered: training makes its step, saves, and leaves. Another one, at least
    `PATIENCE` seconds later, ends the process at once as it would have without this.

    Args:
        tell: told the number of the first signal.
    """

    def __init__(self, tell: Callable[[int], object] | None = None) -> None:
        self._tell = tell
        self.number = 0
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            for name in SIGNALS:
                number = getattr(signal, name, None)  # Windows has no SIGUSR1
                if number is not None:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler's signature
        now = time.monotonic()
        if not self.number:
            self.number, self._since = number, now
            # print() could be in the middle of a line of its own
            os.write(2, f"{signal.Signals(number).name}: leaving after this step\n".encode())
            if self._tell is not None:
                self._tell(number)
        elif now - self._since >= PATIENCE:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def agreed(self) -> int:
        """Return the signal that any rank was sent, 0 for none; a collective operation."""
        if world_size() == 1:
            return self.number
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        number = torch.tensor(self.number, device=device)
        torch.distributed.all_reduce(number, op=torch.distributed.ReduceOp.MAX)
        return int(number)
