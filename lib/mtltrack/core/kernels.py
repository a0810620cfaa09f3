"""Which library multiplies float32 matrices on a CPU: torch's own choice, or oneDNN.

On x86 torch hands float32 products to MKL, which on some processors runs at half the speed of oneDNN. Torch
has no setting for oneDNN alone: it takes oneDNN for float32 products that may be bfloat16, and on many
processors oneDNN goes on multiplying them as float32. Whether it does, and whether it is faster, is measured:
nothing here is taken from a table of processors.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

AUTO, DEFAULT, ONEDNN = "auto", "default", "onednn"
KERNELS = (DEFAULT, ONEDNN)
STILL_FLOAT32 = 1e-5  # relative error of products that are float32; bfloat16's is above 1e-3
WORTH_IT = 1.2  # times as fast: below, the processor's moods would decide
ROUNDS = 7
_SHAPES = ((720, 768, 768), (343, 3072, 768), (64, 64, 720))  # rows, inputs, outputs of ViT-B's layers
_BATCHED = (12, 720, 64)  # heads, tokens, channels a head
_CHECKED_ROWS = 16  # of a product: what a row is computed by doesn't depend on which it is
_SPEED_SHAPE = (720, 768, 768)


@dataclass(frozen=True)
class KernelChoice:
    """Which kernel, and why.

    Attributes:
        kernel: "default" or "onednn".
        reason: one sentence without its full stop.
    """

    kernel: str
    reason: str

    def sentence(self) -> str:
        """Return what the log says."""
        return f"float32 products on the CPU: {self.kernel} ({self.reason})"


@contextmanager
def using(kernel: str) -> Iterator[None]:
    """Multiply float32 matrices on the CPU by that kernel while the context lasts, in the whole process.

    Raises:
        ValueError: there is no such kernel, or this torch can't be told to use it.
    """
    if kernel not in KERNELS:
        raise ValueError(f"the kernel of float32 products is one of {', '.join(KERNELS)}, found '{kernel}'")
    setting = _setting()
    if setting is None:
        if kernel == DEFAULT:
            yield
            return
        raise ValueError(f"torch {torch.__version__} can't be told to multiply by {ONEDNN}")
    before = setting.fp32_precision
    setting.fp32_precision = "bf16" if kernel == ONEDNN else "none"
    try:
        yield
    finally:
        setting.fp32_precision = before


def is_onednn() -> bool:
    """Return whether oneDNN multiplies float32 matrices on the CPU at present."""
    setting = _setting()
    return setting is not None and setting.fp32_precision == "bf16"


def choose_kernel(wanted: str, cache: Path | None = None) -> KernelChoice:
    """Return the kernel to use.

    Args:
        wanted: "default" and "onednn" are taken if they can be, "auto" takes oneDNN where it measures at
            least `WORTH_IT` times as fast and its products are float32.
        cache: file that remembers what was measured, for the next process on the same processor; made where
            it is missing. None: measure each time.
    """
    if wanted == DEFAULT:
        return KernelChoice(DEFAULT, "as the configuration says")
    known = None if cache is None or wanted != AUTO else _remembered(cache)
    earlier = None if known is None else KernelChoice(known.kernel, f"{known.reason}; measured earlier")
    if earlier is not None and earlier.kernel == DEFAULT:
        return earlier
    why_not = refusal()  # not remembered: machines that share the file may differ in more than it tells
    if why_not is not None:
        return KernelChoice(DEFAULT, why_not)
    if wanted == ONEDNN:
        return KernelChoice(ONEDNN, "as the configuration says")
    if earlier is not None:
        return earlier
    gain = measured_gain()
    kernel = ONEDNN if gain >= WORTH_IT else DEFAULT
    choice = KernelChoice(kernel, f"{ONEDNN} is {gain:.2f} times as fast as the default")
    if cache is not None:
        _remember(choice, cache)
    return choice


def kernel_for(wanted: str, device: torch.device) -> KernelChoice:
    """Return the kernel to use on a device, by `choose_kernel` and the user's cache; GPUs have their own."""
    if device.type != "cpu":
        return KernelChoice(DEFAULT, f"the device is {device}")
    return choose_kernel(wanted, default_cache())


def refusal() -> str | None:
    """Return why oneDNN can't be used for float32 products here, or None where it can.

    Products as training and testing have them are compared with float64, so that a processor on which oneDNN
    takes bfloat16 at its word is found out.
    """
    if _setting() is None or not torch.backends.mkldnn.is_available():
        return f"torch {torch.__version__} can't be told to multiply by {ONEDNN}"
    error = onednn_error()
    if error > STILL_FLOAT32:
        return f"{ONEDNN}'s products aren't float32 on this processor: relative error {error:.1e}"
    return None


@cache
def onednn_error() -> float:
    """Return the largest relative error of oneDNN's products, computed once a process: it can't change."""
    with using(ONEDNN):
        return max(_errors())


def measured_gain() -> float:
    """Return how many times as fast oneDNN is, from processor time, which other processes hardly change."""
    rows, inputs, outputs = _SPEED_SHAPE
    generator = torch.Generator().manual_seed(0)
    values, weights = _random(generator, rows, inputs), _random(generator, outputs, inputs)
    taken: dict[str, list[float]] = {kernel: [] for kernel in KERNELS}
    with torch.inference_mode():
        for number in range(-2, ROUNDS):
            for kernel in KERNELS:
                with using(kernel):
                    began = time.process_time()
                    F.linear(values, weights)
                    seconds = time.process_time() - began
                if number >= 0:
                    taken[kernel].append(seconds)
    return min(taken[DEFAULT]) / max(min(taken[ONEDNN]), 1e-9)


def default_cache() -> Path | None:
    """Return the file that remembers measurements, in the user's folder for caches; None without a home."""
    root = os.environ.get("XDG_CACHE_HOME")
    try:
        base = Path(root) if root else Path.home() / ".cache"
    except RuntimeError:  # a user whom the system doesn't know, as in some containers
        return None
    return base / "mtltrack" / "kernels.json"


def relative_error(product: Tensor, left: Tensor, right: Tensor) -> float:
    """Return the largest error of a product against float64, relative to its largest number.

    Args:
        product: (..., M, N), left @ right as it was computed.
        left: (..., M, K).
        right: (..., K, N).
    """
    exact = left.double() @ right.double()
    return float((product.double() - exact).abs().max() / exact.abs().max())


def _errors() -> Iterator[float]:
    """Yield the errors of layers, of their gradients by weight and by input, and of attention."""
    generator = torch.Generator().manual_seed(0)
    some = slice(0, _CHECKED_ROWS)
    with torch.inference_mode():
        for rows, inputs, outputs in _SHAPES:
            values, weights = _random(generator, rows, inputs), _random(generator, outputs, inputs)
            result = F.linear(values, weights)
            yield relative_error(result[some], values[some], weights.T)
            yield relative_error((result.T @ values)[some], result.T[some], values)
            yield relative_error((result @ weights)[some], result[some], weights)
        query = _random(generator, *_BATCHED)
        keys = query.transpose(1, 2)
        yield relative_error((query @ keys)[:, some], query[:, some], keys)


def _random(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator)


def _setting() -> Any:
    """Return torch's setting for oneDNN's products, None where this torch hasn't got it."""
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    return matmul if hasattr(matmul, "fp32_precision") else None


def _key() -> str:
    """Return what a measurement holds for: processor, torch and number of threads."""
    return f"{processor_name()} | torch {torch.__version__} | {torch.get_num_threads()} threads"


def processor_name() -> str:
    """Return what the system calls the processor, as exactly as it does."""
    told = processor_facts()
    names = ("model name", "cpu family", "model", "stepping")
    exact = " ".join(told[name] for name in names if name in told)
    return exact or platform.processor() or platform.machine()


def processor_facts() -> dict[str, str]:
    """Return what Linux tells of the processor, by its names such as "model name"; elsewhere nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _remembered(cache: Path) -> KernelChoice | None:
    """Return what the file says of this processor; a file that can't be understood says nothing."""
    try:
        entry = json.loads(cache.read_text())[_key()]
        choice = KernelChoice(str(entry["kernel"]), str(entry["reason"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return choice if choice.kernel in KERNELS else None


def _remember(choice: KernelChoice, cache: Path) -> None:
    """Add a choice to the file; a folder that can't be written only costs the next process a measurement."""
    try:
        known = json.loads(cache.read_text())
        entries = dict(known) if isinstance(known, dict) else {}
    except (OSError, ValueError):
        entries = {}
    entries[_key()] = asdict(choice)
    passing = cache.with_name(f"{cache.name}.{os.getpid()}")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        passing.write_text(json.dumps(entries, indent=1))
        passing.replace(cache)
    except OSError:
        return
