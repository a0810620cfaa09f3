"""In the frame loop the host waits for the device once: when it copies the answers.

Without a GPU the device is torch's `meta`: its tensors have no content, and whatever would need one shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mtltrack.cli.build import build_tracker
from mtltrack.core.config import Config, config_from_dict
from mtltrack.core.types import Clip
from mtltrack.data.loader import build_loader
from mtltrack.data.sampler import EpochSampler
from mtltrack.evaluation import online
from mtltrack.evaluation.online import OnlineTracker
from mtltrack.evaluation.transfer import Uploader, to_host
from mtltrack.tasks.alert import AlertHead, AlertSession

FRAMES = (1, 5, 11, 12)  # 5 and 12 are written to the memory; those from 11 on read what was written
BOX = [50, 40, 30, 20]
ZONES = {"lane": [[0, 0], [160, 0], [160, 120]]}


def settings(script: str, template: str, head: str, source: str, precision: str) -> Config:
    backbone = {"EMBED_DIM": 24, "DEPTH": 2, "NUM_HEADS": 2, "CE_LOC": [1], "CE_KEEP_RATIO": [0.7]}
    model: dict[str, Any] = {
        "BACKBONE": {"TYPE": "vit_tiny_patch16_224_ce", "CE_TEMPLATE_RANGE": template, **backbone},
        "HEAD": {"TYPE": head, "NUM_CHANNELS": 16},
    }
    if script == "hiptrack":
        model |= {"NEW_HIP": True, "HISTORY": {"KEY_DIM": 8, "ENCODER_WIDTH": 8}}
    centre = "argmax" if head == "CORNER" else "straight_through"
    tasks = {
        "cls": {"TYPE": "ClsHead", "HIDDEN_DIM": 16, "LABELS": "multi"},
        "seg": {"TYPE": "SegHead", "HIDDEN_DIM": 16, "STEM": 8},
        "plate": {"TYPE": "PlateHead", "HIDDEN_DIM": 16},
        "ocr": {"TYPE": "OCRHead", "HIDDEN_DIM": 16, "WIDTH": 8},
        "alert": {"TYPE": "AlertHead", "SOURCE": source, "CENTRE": centre},
    }
    data = {
        "SEARCH": {"SIZE": 64, "NUMBER": 1},
        "TEMPLATE": {"SIZE": 32},
        "DETAIL": {"SIZE": 64, "FACTOR": 2.0},
    }
    test = {"UPDATE_INTERVAL": 12, "PRECISION": precision}
    values = {"DATA": data, "MODEL": model, "TASKS": tasks, "TEST": test}
    return config_from_dict(values, script=script)


CASES = [
    ("hiptrack", "CTR_POINT", "CENTER", "mask", 2),
    ("hiptrack", "ALL", "DFL", "box", 1),
    ("ostrack", "GT_BOX", "CORNER", "box", 1),
]


def make(device: str, *case: str) -> OnlineTracker:
    cfg = settings(*case)
    with torch.device(device):
        return OnlineTracker(build_tracker(cfg), cfg, device)


def run(tracker: OnlineTracker, around: Callable[[], Any], videos: int) -> None:
    random = np.random.default_rng(0)
    images = list(random.integers(0, 256, (videos, 120, 160, 3), dtype=np.uint8))
    targets = [tracker.start(image, BOX, zones=ZONES) for image in images]
    for index in FRAMES if tracker.net.history is not None else FRAMES[:2]:
        for behind, target in enumerate(targets):
            target.frame_index = max(0, index - 1 - behind)
        with around():
            answers = tracker.track_together(targets, images, [None] * videos)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
            assert set(answer["tasks"]) == {"cls", "seg", "plate", "ocr", "alert"}


class Watch(TorchDispatchMode):
    """Notes what would make the host wait for a `meta` device; a copy from there is zeros, and is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.copies = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        with self:  # in inference mode composed operations arrive whole
            whole = func.decompose(*args, **kwargs)
        if whole is not NotImplemented:
            return whole
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if func is torch.ops.aten._to_copy.default and kwargs.get("device") is not None:
            there, here = (str(place).split(":")[0] for place in (kwargs["device"], tensors[0].device))
            if (here, there) == ("meta", "cpu"):
                self.copies += 1
                return torch.zeros(tensors[0].shape, dtype=kwargs.get("dtype") or tensors[0].dtype)
            if (here, there) == ("cpu", "meta") and not kwargs.get("non_blocking"):
                self.waits.append("a copy to the device that waits")
        elif any(tensor.is_meta for tensor in tensors):
            if any(not tensor.is_meta and tensor.ndim for tensor in tensors):
                self.waits.append(f"{func} with a tensor of the host")
            if func in (
                torch.ops.aten._linalg_check_errors.default,
                torch.ops.aten._local_scalar_dense.default,
            ):
                self.waits.append(f"{func} reads a value")
        return func(*args, **kwargs)


class Constants(TorchFunctionMode):
    """Notes tensors that are made on the device from numbers of the host: each is a copy that waits."""

    def __init__(self, waits: list[str]) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.__getitem__, Tensor.__setitem__) and args[0].is_meta:
            chosen = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(item, (list, np.ndarray)) for item in chosen):
                self.waits.append("an index of numbers of the host")
        made = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in ("new_tensor", "tensor", "as_tensor", "asarray") and made.is_meta:
            if func is not torch.as_tensor or not isinstance(args[0], Tensor):
                self.waits.append(f"{func.__name__} from numbers of the host")
        return made


@contextmanager
def watched(copies: int) -> Iterator[None]:
    watch = Watch()
    with Constants(watch.waits), watch:
        yield
    assert not watch.waits, sorted(set(watch.waits))
    assert watch.copies == copies


@pytest.fixture
def on_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast, unknown to `meta`, does nothing there, and a video starts without reading its threshold."""
    autocast = torch.autocast

    def of(device: str, *arguments: Any, **named: Any) -> Any:
        return nullcontext() if device == "meta" else autocast(device, *arguments, **named)

    monkeypatch.setattr(torch, "autocast", of)
    monkeypatch.setattr(AlertHead, "session", lambda head, zones: AlertSession(head.rule, zones))


@pytest.mark.parametrize(("script", "template", "head", "source", "videos"), CASES)
def test_one_wait_a_frame(
    script: str, template: str, head: str, source: str, videos: int, on_meta: None
) -> None:
    run(make("meta", script, template, head, source, "fp32"), lambda: watched(copies=1), videos)


@pytest.mark.gpu
@pytest.mark.parametrize(("script", "template", "head", "source", "videos"), CASES)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_one_wait_a_frame_on_a_gpu(
    script: str,
    template: str,
    head: str,
    source: str,
    videos: int,
    precision: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    copies: list[None] = []

    @contextmanager
    def strictly(mode: str) -> Iterator[None]:
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode(mode)
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)

    def allowed(packed: Any) -> Any:
        copies.append(None)
        with strictly("default"):
            return to_host(packed)

    monkeypatch.setattr(online, "to_host", allowed)
    torch.manual_seed(0)
    tracker = make("cuda", script, template, head, source, precision)
    run(tracker, lambda: strictly("error"), videos)
    assert len(copies) == (len(FRAMES) if script == "hiptrack" else 2)


FAULTS: list[tuple[str, Callable[[Tensor], Any]]] = [
    ("a copy to the device that waits", lambda x: torch.ones(3).to(x.device)),
    ("new_tensor from numbers of the host", lambda x: x.new_tensor([1.0])),
    ("tensor from numbers of the host", lambda x: torch.tensor([1.0], device=x.device)),
    ("an index of numbers of the host", lambda x: x[:, [0, 1]]),
    ("aten.index.Tensor with a tensor of the host", lambda x: x[torch.tensor([0, 1])]),
    ("_linalg_check_errors.default reads a value", lambda x: torch.linalg.inv(x)),
]
READS: list[Callable[[Tensor], Any]] = [
    lambda x: x.sum().item(),
    lambda x: bool(x.any()),
    lambda x: x.tolist(),
    lambda x: x.numpy(),
    lambda x: x[x > 0],
    lambda x: x.nonzero(),
]


@pytest.mark.parametrize(("told", "fault"), FAULTS, ids=[told for told, _ in FAULTS])
@pytest.mark.parametrize("inference", [True, False])
def test_each_wait_is_seen(told: str, fault: Callable[[Tensor], Any], inference: bool) -> None:
    with torch.inference_mode(inference), pytest.raises(AssertionError, match=told), watched(copies=0):
        fault(torch.zeros(3, 3, device="meta"))


@pytest.mark.parametrize("fault", READS)
def test_what_reads_a_value_fails(fault: Callable[[Tensor], Any]) -> None:
    with (
        torch.inference_mode(),
        pytest.raises((RuntimeError, NotImplementedError, TypeError, AssertionError)),
    ):
        with watched(copies=0):
            fault(torch.zeros(3, 3, device="meta"))


def test_copies_are_counted_and_uploads_that_do_not_wait_pass() -> None:
    with torch.inference_mode(), watched(copies=1):
        moved = torch.ones(3).to("meta", non_blocking=True)
        assert (2 * moved).cpu().tolist() == [0.0] * 3


def test_uploads_go_from_page_locked_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are uint8 on their way, and the host doesn't wait."""
    pinned: list[Tensor] = []
    sent: list[tuple[torch.dtype, bool]] = []

    def pin(self: Tensor) -> Tensor:
        pinned.append(self)
        return self

    def send(self: Tensor, device: Any, non_blocking: bool = False) -> Tensor:
        assert torch.device(device).type == "cuda" and self is pinned[-1]
        sent.append((self.dtype, non_blocking))
        return self

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    monkeypatch.setattr(Tensor, "to", send)
    upload = Uploader(torch.device("cuda"), [0.5] * 3, [0.5] * 3)
    assert upload.images([np.zeros((4, 4, 3), np.uint8)] * 2).shape == (2, 3, 4, 4)
    assert upload.affines([np.zeros((2, 3))]).shape == (1, 1, 2, 3) and upload.times([0.5]).shape == (1, 1)
    assert sent == [(torch.uint8, True), (torch.float32, True), (torch.float64, True)]


def test_training_sends_its_clips_without_waiting() -> None:
    clip = Clip(
        template=torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
        template_boxes_xywh=torch.zeros(2, 4),
        search=torch.zeros(2, 2, 3, 8, 8, dtype=torch.uint8),
        affine=torch.zeros(2, 2, 2, 3),
        timestamps=torch.zeros(2, 2, dtype=torch.float64),
        labels={"cls": {"valid": torch.ones(2, 2, dtype=torch.bool), "index": torch.zeros(2, 2).long()}},
        template_brightness=torch.ones(2),
        search_brightness=torch.ones(2, 2),
    )
    with watched(copies=0):
        moved = clip.to("meta")
        assert moved.search.dtype == torch.uint8 and moved.labels["cls"]["valid"].is_meta
        assert moved.normalised([0.5] * 3, [0.5] * 3).search.dtype == torch.float32


@pytest.mark.parametrize("there", [True, False])
def test_the_loader_page_locks_its_batches_for_a_gpu(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    nothing: Any = []
    assert build_loader(nothing, 1, 0, EpochSampler(1)).pin_memory is there
    assert not build_loader(nothing, 1, 0, EpochSampler(1), pin_memory=False).pin_memory
