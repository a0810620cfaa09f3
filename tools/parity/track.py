"""Compare tracking forwards frame by frame (`hip_*_track.pt`, the frames of `ost*.pt`)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtltrack.core.types import Clip, TaskOutput
from mtltrack.models.layers.memory import PromptMemory
from mtltrack.models.tracker import Tracker
from parity import recipe
from parity.models import Case, build
from parity.report import Report

MAPS = ("score_map", "size_map", "offset_map")


def digest(tensor: Tensor) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the float32 bytes."""
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()[:16]


def clip_of(template: Tensor, template_boxes: Tensor, search: Tensor) -> Clip:
    """Wrap (B, 3, ...) template and (B, T, 3, ...) search frames that are already normalised."""
    batch, frames = search.shape[:2]
    return Clip(
        template=template,
        template_boxes_xywh=template_boxes,
        search=search,
        affine=torch.zeros(batch, frames, 2, 3),
        timestamps=torch.zeros(batch, frames, dtype=torch.float64),
    )


@contextmanager
def watching(tracker: Tracker) -> Iterator[dict[str, Any]]:
    """Note what passes inside the tracker: tokens before the fusion, prompt, memory masks and values."""
    seen: dict[str, Any] = {"masks": [], "values": []}
    encode = tracker.encode

    def watched_encode(*arguments: Any, **named: Any) -> Any:
        seen["tokens"] = encode(*arguments, **named)
        return seen["tokens"]

    tracker.encode = watched_encode  # type: ignore[method-assign]
    handles = []
    history = tracker.history
    if history is not None:
        prompt = history.prompt

        def watched_prompt(*arguments: Any) -> Tensor:
            seen["prompt"] = prompt(*arguments)
            return seen["prompt"]

        history.prompt = watched_prompt  # type: ignore[method-assign]

        def note(_module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen["masks"].append(inputs[2])
            seen["values"].append(output)

        handles.append(history.HIP.encoder.register_forward_hook(note))
    try:
        yield seen
    finally:
        del tracker.encode
        if history is not None:
            del history.prompt
        for handle in handles:
            handle.remove()


def compare_tracking(case: Case, reference: dict[str, Any], report: Report) -> None:
    """Compare a HIPTrack tracking file: frames with one memory."""
    tracker = build(case)
    template = recipe.image(f"{case.name}/z", 1, case.template_size)
    report.decision("template input", digest(template) == reference["z_sha"])
    memory = tracker.new_memory()
    for frame in reference["frames"]:
        search = recipe.image(frame["x_name"], 1, case.search_size)
        report.decision(f"{frame['x_name']}: input", digest(search) == frame["x_sha"])
        clip = clip_of(template, reference["template_box"], search[:, None])
        with torch.no_grad(), watching(tracker) as seen:
            output = tracker.track(clip, frame["index"], memory)["box"]
        _compare_frame(frame, output, seen, report)
        _compare_memory(frame, seen, memory, report)


def compare_plain(case: Case, reference: dict[str, Any], report: Report) -> None:
    """Compare an OSTrack file's frames: each for itself, some with another keep rate."""
    tracker = build(case)
    template = recipe.image(f"{case.name}/z", 1, case.template_size)
    for frame in reference["frames"]:
        search = recipe.image(frame["x_name"], 1, case.search_size)
        report.decision(f"{frame['x_name']}: input", digest(search) == frame["x_sha"])
        clip = clip_of(template, torch.zeros(1, 4), search[:, None])
        with torch.no_grad(), watching(tracker) as seen:
            output = tracker(clip, keep_rate=frame["keep_rate"])["box"]
        _compare_frame(frame, output, seen, report)


def _compare_frame(frame: dict[str, Any], output: TaskOutput, seen: dict[str, Any], report: Report) -> None:
    name = f"frame {frame['index']} ({frame['x_name']})"
    ours = output.predictions
    report.value(f"{name}: pred_boxes", ours["boxes_cxcywh"], frame["pred_boxes"], "box")
    for key in MAPS:
        report.value(f"{name}: {key}", ours[key][:, 0], frame[key])
    best = [int(maps.reshape(-1).argmax()) for maps in (ours["score_map"], frame["score_map"])]
    report.decision(f"{name}: best cell", best[0] == best[1])
    removed = seen["tokens"].removed
    expected = [numbers for numbers in frame["removed_indexes"] if numbers is not None]
    report.decision(f"{name}: eliminations", len(removed) == len(expected))
    for i, (mine, theirs) in enumerate(zip(removed, expected, strict=False)):
        report.sets(f"{name}: tokens removed at elimination {i}", mine.flatten(), theirs.flatten())
    tokens = torch.cat([seen["tokens"].template, seen["tokens"].search[:, 0]], dim=1)  # (1, Nz + Nx, C)
    report.value(f"{name}: feat_mean", tokens.mean(-1), frame["feat_mean"])
    report.value(f"{name}: feat_norm", tokens.norm(dim=-1), frame["feat_norm"])
    if frame.get("feat_c48") is not None:
        report.value(f"{name}: feat_c48", tokens[..., ::48], frame["feat_c48"])
    if "prompt_c32" in frame:
        prompt = seen["prompt"]
        report.value(f"{name}: prompt_c32", prompt[:, ::32], frame["prompt_c32"])
        report.value(f"{name}: prompt_mean", prompt.mean((2, 3)), frame["prompt_mean"])
        report.value(f"{name}: prompt_std", prompt.std((2, 3)), frame["prompt_std"])


def _compare_memory(
    frame: dict[str, Any], seen: dict[str, Any], memory: PromptMemory | None, report: Report
) -> None:
    name = f"frame {frame['index']}"
    if "template_value_c32" in frame:
        value = seen["values"][0]
        report.value(
            f"{name}: template_value_c32", value[:, ::32].flatten(), frame["template_value_c32"].flatten()
        )
    if "memory_mask" not in frame:
        return
    assert memory is not None
    mask = np.packbits(seen["masks"][-1].numpy().astype(np.uint8).reshape(-1))
    report.decision(f"{name}: memory mask", np.array_equal(mask, frame["memory_mask"].numpy()))
    report.decision(f"{name}: memory entries", memory.count == frame["mem_cnt"])
    keys, values = (entry.transpose(1, 2) for entry in memory.last())  # (1, C, N)
    report.value(f"{name}: mem_k_last", keys, frame["mem_k_last"])
    report.value(f"{name}: mem_v_last_c32", values[:, ::32].flatten(), frame["mem_v_last_c32"].flatten())
    report.value(f"{name}: mem_v_mean", values.mean(-1).flatten(), frame["mem_v_mean"].flatten())
    report.value(f"{name}: mem_v_std", values.std(-1).flatten(), frame["mem_v_std"].flatten())
