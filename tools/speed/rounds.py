"""Two forms of the same work, timed in turns, so that a busy or hot machine slows both alike."""

from __future__ import annotations

import ctypes
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from mtltrack.evaluation.costs import synchronise

WALL, CPU = "wall", "cpu"
CLOCKS = {WALL: time.perf_counter, CPU: time.process_time}


@dataclass(frozen=True)
class Quartiles:
    """The median of some values, and the first and third quartile."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quartiles:
        low, median, high = np.percentile(values, [25, 50, 75])
        return cls(float(low), float(median), float(high))


@dataclass(frozen=True)
class Form:
    """A form of the work.

    Attributes:
        step: does the work once.
        within: makes the context that it runs in; entering and leaving it isn't timed.
    """

    step: Callable[[], object]
    within: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass
class Comparison:
    """Two forms of the same work, measured in rounds.

    Attributes:
        name: of the work.
        ours: seconds of the project's form, one a round.
        plain: seconds of the plain form in the same rounds.
        units: frames, steps or samples in one measurement.
        operations: floating point operations of the method in it, the same for both; None: not known.
        memory: "ours" and "plain" -> bytes, see `working_memory`; empty where that isn't known.
    """

    name: str
    ours: list[float]
    plain: list[float]
    units: int = 1
    operations: int | None = None
    memory: dict[str, int] = field(default_factory=dict)

    def seconds(self, form: str) -> float:
        """Return the median seconds of one unit of "ours" or "plain"."""
        return Quartiles.of(getattr(self, form)).median / self.units

    @property
    def ratio(self) -> Quartiles:
        """How many times as long the plain form takes, of the rounds' own ratios."""
        return Quartiles.of([plain / ours for ours, plain in zip(self.ours, self.plain, strict=True)])

    def rate(self, form: str) -> float | None:
        """Return the operations a second of "ours" or "plain", from the median."""
        if self.operations is None:
            return None
        return self.operations / (self.seconds(form) * self.units)

    def share(self, limit: float | None) -> float | None:
        """Return the part of the machine's operations a second that ours reaches, 1 being all of it."""
        rate = self.rate("ours")
        return None if rate is None or not limit else rate / limit


@dataclass(frozen=True)
class Timer:
    """Times two forms in turns.

    Attributes:
        device: where they run.
        rounds: how many count; each times both forms once.
        tell: takes a line about how far it is.
        between: called before each comparison, for what else is to be measured all along.
        clock: returns seconds; `CLOCKS` has two.
    """

    device: torch.device
    rounds: int
    tell: Callable[[str], None] = lambda text: None  # noqa: ARG005 - nobody listens
    between: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.perf_counter

    def compare(
        self,
        name: str,
        ours: Form,
        plain: Form,
        *,
        warm_up: int = 2,
        units: int = 1,
        operations: int | None = None,
        memory: bool = True,
    ) -> Comparison:
        """Time two forms: ours first in one round, last in the next.

        Args:
            name: of the work.
            ours: the project's form.
            plain: the plain form.
            warm_up: rounds before those that count.
            units, operations: see `Comparison`.
            memory: measure the memory too, in one more call of each.
        """
        self.between()
        found = Comparison(name, [], [], units, operations)
        for number in range(-warm_up, self.rounds):
            place = f"round {number + 1} of {self.rounds}" if number >= 0 else "warming up"
            self.tell(f"{name}: {place}")
            pairs = [(ours, found.ours), (plain, found.plain)]
            for form, seconds in pairs if number % 2 == 0 else pairs[::-1]:
                with form.within():
                    taken = seconds_of(form.step, self.device, self.clock)
                if number >= 0:
                    seconds.append(taken)
        for key, form in (("ours", ours), ("plain", plain)):
            used = working_memory(form, self.device) if memory else None
            if used is not None:
                found.memory[key] = used
        return found


def seconds_of(step: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    """Return what a call takes, until a GPU has done it."""
    synchronise(device)
    began = clock()
    step()
    synchronise(device)
    return clock() - began


def working_memory(form: Form, device: torch.device) -> int | None:
    """Return the bytes that a form takes at most beyond those held before it runs.

    On a GPU of its tensors, elsewhere of the process, which only Linux tells; None where it isn't known.
    """
    if device.type == "cuda":
        synchronise(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        with form.within():
            form.step()
            synchronise(device)
        return torch.cuda.max_memory_allocated(device) - before
    if not sys.platform.startswith("linux"):
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's: memory that was freed counts as taken
    if trim is not None:
        trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    except OSError:
        return None
    before = _status_bytes("VmRSS")
    with form.within():
        form.step()
    return max(0, _status_bytes("VmHWM") - before)


def _status_bytes(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])
