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
from mtltrack.models.layers.elimination import template_mask
from mtltrack.models.layers.memory import PromptMemory
from mtltrack.models.tracker import Tracker
from parity import recipe
from parity.models import Case, build, settle
from parity.report import Report

FRAME_KEYS = {
    *(
        "index",
        "x_name",
        "x_sha",
        "keep_rate",
        "ce_margin_rel",
        "top_gap",
    ),  # inputs, and how near the decisions are
    *("pred_boxes", "score_map", "size_map", "offset_map", "removed_indexes"),
    *("prompt_c32", "prompt_mean", "prompt_std", "feat_c48", "feat_mean", "feat_norm"),
    *("template_mask_rows", "template_mask_cols", "template_value_c32", "template_value_mean"),
    *("memory_mask", "memory_mask_sum", "mem_cnt", "mem_k_last", "mem_v_last_c32", "mem_v_mean", "mem_v_std"),
}
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
    report.understood("the file", reference, ("template_box", "ce_mask_index", "z_sha", "frames"))
    template = recipe.image(f"{case.name}/z", 1, case.template_size)
    report.decision("template input", digest(template) == reference["z_sha"])
    mask = template_mask("CTR_POINT", reference["template_box"], case.template_size, 16)
    assert mask is not None
    report.sets(
        "template tokens that decide", mask[0].nonzero().flatten(), reference["ce_mask_index"].flatten()
    )
    boxes = reference["template_box"]
    tracker = build(settle(case, lambda model: _removes_alike(model, case, template, boxes, reference)))
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
    report.understood("the file", reference, ("frames", "train"))
    template = recipe.image(f"{case.name}/z", 1, case.template_size)
    tracker = build(
        settle(case, lambda model: _removes_alike(model, case, template, torch.zeros(1, 4), reference))
    )
    for frame in reference["frames"]:
        search = recipe.image(frame["x_name"], 1, case.search_size)
        report.decision(f"{frame['x_name']}: input", digest(search) == frame["x_sha"])
        clip = clip_of(template, torch.zeros(1, 4), search[:, None])
        with torch.no_grad(), watching(tracker) as seen:
            output = tracker(clip, keep_rate=frame["keep_rate"])["box"]
        _compare_frame(frame, output, seen, report)


def _removes_alike(
    tracker: Tracker, case: Case, template: Tensor, boxes: Tensor, reference: dict[str, Any]
) -> bool:
    """Tell whether the first frame loses the same tokens as in the reference."""
    frame = reference["frames"][0]
    search = recipe.image(frame["x_name"], 1, case.search_size)[:, None]
    with torch.no_grad():
        removed = tracker.encode(template, boxes, search, frame.get("keep_rate")).removed
    expected = [numbers for numbers in frame["removed_indexes"] if numbers is not None]
    return len(removed) == len(expected) and all(
        set(mine.flatten().tolist()) == set(theirs.flatten().tolist())
        for mine, theirs in zip(removed, expected, strict=True)
    )


def _compare_frame(frame: dict[str, Any], output: TaskOutput, seen: dict[str, Any], report: Report) -> None:
    name = f"frame {frame['index']} ({frame['x_name']})"
    report.understood(name, frame, FRAME_KEYS)
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
        mean = value.mean((2, 3))
        report.value(f"{name}: template_value_mean", mean.flatten(), frame["template_value_mean"].flatten())
        for axis, key in ((2, "template_mask_rows"), (1, "template_mask_cols")):
            inside = seen["masks"][0].any(axis)[0].nonzero().flatten()
            ends = [int(inside.min()), int(inside.max())]
            report.decision(f"{name}: {key}", ends == frame[key].tolist())
    if "memory_mask" not in frame:
        return
    assert memory is not None
    mask = np.packbits(seen["masks"][-1].numpy().astype(np.uint8).reshape(-1))
    report.decision(f"{name}: memory mask", np.array_equal(mask, frame["memory_mask"].numpy()))
    total = int(seen["masks"][-1].sum())
    report.decision(f"{name}: memory_mask_sum", total == int(frame.get("memory_mask_sum", total)))
    report.decision(f"{name}: memory entries", memory.count == frame["mem_cnt"])
    keys, values = (entry.transpose(1, 2) for entry in memory.last())  # (1, C, N)
    report.value(f"{name}: mem_k_last", keys, frame["mem_k_last"])
    report.value(f"{name}: mem_v_last_c32", values[:, ::32].flatten(), frame["mem_v_last_c32"].flatten())
    report.value(f"{name}: mem_v_mean", values.mean(-1).flatten(), frame["mem_v_mean"].flatten())
    report.value(f"{name}: mem_v_std", values.std(-1).flatten(), frame["mem_v_std"].flatten())
