"""What a tracker costs: operations, time and memory, of a frame and of each part.

Operations are those of matrix products, convolutions and attention; a multiplication and an addition are two.
Normalisation, activations, resizing and the like aren't counted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_flop

from mtltrack.core.types import BOX, Clip
from mtltrack.models.layers.memory import PromptMemory
from mtltrack.models.packed import unpacked
from mtltrack.models.tracker import EARLY_WRITES, TEMPLATE_FRAMES, Tracker

READING = "history: memory read"
WRITING = "history: mask encoder"
FUSION = "history: key, fusion"
REST = "rest"
# kernels of fused attention that versions of torch leave out of their counter; what they compute is the same
ATTENTION_KERNELS = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)


@dataclass(frozen=True)
class Spread:
    """Seconds of repeated calls: the median, and the 10th and 90th percentile."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, seconds: list[float]) -> Spread:
        """Summarise the seconds of calls."""
        low, median, high = np.percentile(seconds, [10, 50, 90])
        return cls(float(median), float(low), float(high), len(seconds))


@dataclass
class FrameCost:
    """What one frame costs, a batch of them where the clip has several.

    Attributes:
        entries: the memory's, 0 without a history.
        writes: whether the frame is written to the memory.
        operations: part -> operations of the method.
        executed: operations that ran. On a GPU the memory is read with keys padded to the values' width, for
            which fused attention asks; the method doesn't need the products with the padding.
        seconds: part -> median seconds.
        total: seconds of the whole model, measured without looking at parts.
    """

    entries: int
    writes: bool
    operations: dict[str, int]
    executed: int
    seconds: dict[str, float] = field(default_factory=dict)
    total: Spread | None = None


def _attention_flops(
    query_shape: Any, key_shape: Any, value_shape: Any, *_: Any, out_shape: Any = None, **__: Any
) -> int:
    """Return the operations of attention from the shapes of its arguments, as torch's counter hands them."""
    del out_shape
    return int(sdpa_flop(query_shape, key_shape, value_shape))


def missing_kernels() -> dict[Any, Callable[..., int]]:
    """Return formulas of the fused attention kernels that this torch has but doesn't count."""
    known = (getattr(torch.ops.aten, name, None) for name in ATTENTION_KERNELS)
    return {
        kernel: _attention_flops for kernel in known if kernel is not None and kernel not in flop_registry
    }


def flop_counter() -> FlopCounterMode:
    """Return torch's counter, which counts every kernel of fused attention."""
    return FlopCounterMode(display=False, custom_mapping=missing_kernels())


def count_operations(step: Callable[[], object]) -> int:
    """Return the floating point operations of a call."""
    with flop_counter() as counter:
        step()
    return int(counter.get_total_flops())


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_calls(step: Callable[[], object], device: torch.device, calls: int, warm_up: int) -> list[float]:
    """Return the seconds of each call, after `warm_up` calls that don't count."""
    seconds = []
    for index in range(warm_up + calls):
        synchronise(device)
        start = time.perf_counter()
        step()
        synchronise(device)
        if index >= warm_up:
            seconds.append(time.perf_counter() - start)
    return seconds


def part_functions(net: Tracker, memory: PromptMemory | None) -> list[tuple[str, Any, str]]:
    """Return (part, object, name of its function) for all that a frame of the tracker calls; none calls
    another.
    """
    found: list[tuple[str, Any, str]] = [("backbone", net.backbone, "forward")]
    if net.history is not None:
        found += [(FUSION, net.history, name) for name in ("search_key", "prompt", "fuse")]
        found += [(WRITING, net.history, name) for name in ("template_entry", "search_value")]
        found += [(READING, net.history, "read"), (READING, memory, "read")]
    found.append((BOX, net.box_head, "predict"))
    return found + [(task, head, "forward") for task, head in net.task_parts().items()]


@contextmanager
def metered(
    net: Tracker, memory: PromptMemory | None, read: Callable[[], float]
) -> Iterator[dict[str, float]]:
    """Note what a meter advances by during each part's functions.

    Args:
        net: the tracker.
        memory: the one that is read.
        read: returns the meter's state: operations so far, or the clock.

    Yields:
        part -> the sum of what it advanced by; filled while the tracker runs.
    """
    sums: dict[str, float] = {}

    def watch(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def watched(*arguments: Any, **options: Any) -> Any:
            before = read()
            result = function(*arguments, **options)
            sums[part] = sums.get(part, 0) + read() - before
            return result

        return watched

    with ExitStack() as undo:
        for part, owner, name in part_functions(net, memory):
            if owner is not None:
                setattr(owner, name, watch(part, getattr(owner, name)))
                undo.callback(delattr, owner, name)
        yield sums


def frame_indices(net: Tracker) -> tuple[int | None, int | None]:
    """Return the number of a frame that reads the memory and isn't written, and of one that is written.

    None where there is no such frame: every one is written, or there is no memory.
    """
    if net.history is None:
        return TEMPLATE_FRAMES + 1, None
    interval = net.history_settings.update_interval
    later = range(TEMPLATE_FRAMES + 1, TEMPLATE_FRAMES + 2 + interval)
    return (
        next((index for index in later if index % interval), None),
        next(index for index in later if index % interval == 0),
    )


def filled_memory(net: Tracker, clip: Clip, entries: int) -> PromptMemory | None:
    """Return a memory with so many entries, all of the clip's frame; None without a history.

    It holds no more: a frame that is written overwrites one.
    """
    if net.history is None:
        return None
    memory = PromptMemory(entries)
    net.track(clip, EARLY_WRITES[0], memory, [])
    keys, values = (tensor.clone() for tensor in memory.last())
    while memory.count < entries:
        memory.write(keys, values)
    return memory


def read_operations(net: Tracker, clip: Clip, memory: PromptMemory) -> int:
    """Return the operations that reading a memory takes by its formula: affinity and weighted sum.

    2 * B * M * N * (Ck + Cv) with M queries, N stored tokens; nothing is padded.
    """
    keys, values = memory.last()
    batch, tokens, key_width = keys.shape
    queries = (clip.search.shape[-1] // int(net.backbone.patch_size)) ** 2  # type: ignore[arg-type]
    return 2 * batch * queries * tokens * memory.count * (key_width + values.shape[-1])


def measure_frame(
    net: Tracker,
    clip: Clip,
    *,
    index: int,
    entries: int = 0,
    tasks: list[str] | None = None,
    calls: int = 0,
    warm_up: int = 3,
) -> FrameCost:
    """Measure the model on one frame, without cutting crops and without decoding.

    Args:
        net: in evaluation mode, its parameters without gradients: torch's counter can't follow those that a
            layer gets as an argument.
        clip: one frame, (B, 1, 3, H, W), normalised, on the model's device.
        index: of the frame, see `frame_indices`.
        entries: that the memory holds when it is read.
        tasks: heads to run beside the box; None for all.
        calls: frames to time; 0 counts operations only. Parts are timed in as many frames more: to know
            when a part ends on a GPU costs a wait for it.
        warm_up: frames before those.
    """
    device = clip.search.device
    memory = filled_memory(net, clip, entries)

    def step() -> None:
        net.track(clip, index, memory, tasks)

    def clock() -> float:
        synchronise(device)
        return time.perf_counter()

    with (
        unpacked(net),  # Winograd's form takes fewer operations than the method is said to need
        flop_counter() as counter,
        metered(net, memory, counter.get_total_flops) as sums,
    ):
        reading = 0 if memory is None else read_operations(net, clip, memory)
        before = memory.count if memory is not None else 0
        step()
    executed = int(counter.get_total_flops())
    operations = {part: int(value) for part, value in sums.items()}
    operations[REST] = executed - sum(operations.values())
    if memory is not None and READING in operations:
        operations[READING] = reading
    cost = FrameCost(before, WRITING in operations, operations, executed)
    if calls:
        cost.total = Spread.of(time_calls(step, device, calls, warm_up))
        collected: list[dict[str, float]] = []
        for _ in range(calls):
            with metered(net, memory, clock) as sums:
                step()
            collected.append(sums)
        cost.seconds = {part: float(np.median([sums[part] for sums in collected])) for part in collected[0]}
    return cost


def noise_clip(
    batch: int, template: int, search: int, device: torch.device, detail: int | None = None
) -> Clip:
    """Return a clip of one frame of noise with a target in the middle.

    Args:
        batch: B.
        template: pixels along each side.
        search: pixels along each side.
        device: where to.
        detail: pixels along each side of the detail view, where a head asks for one.
    """
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    affine = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).expand(batch, 1, 2, 3)
    return Clip(
        template=noise(batch, 3, template, template),
        template_boxes_xywh=torch.full((batch, 4), 0.25).index_fill(1, torch.tensor([2, 3]), 0.5).to(device),
        search=noise(batch, 1, 3, search, search),
        affine=affine.to(device),
        timestamps=torch.ones(batch, 1, dtype=torch.float64, device=device),
        detail=None if detail is None else noise(batch, 1, 3, detail, detail),
        detail_affine=None if detail is None else affine.to(device),
    )


def peak_memory(device: torch.device) -> dict[str, float]:
    """Return bytes: the process's largest so far, and the GPU's since its statistics were reset."""
    found = {}
    if sys.platform != "win32":
        import resource  # which Windows lacks

        unit = 1 if sys.platform == "darwin" else 1024
        found["process"] = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
    if device.type == "cuda":
        found["gpu"] = float(torch.cuda.max_memory_allocated(device))
    return found
