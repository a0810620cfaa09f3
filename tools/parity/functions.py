"""Compare single functions of model and losses (`functions.pt`); the data's are in `functions_data.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtltrack.evaluation.online import clip_box, hann_window
from mtltrack.losses import boxes as box_functions
from mtltrack.losses.focal import gaussian_heatmap, gaussian_radius, heatmap_focal_loss
from mtltrack.models.backbones.vit import OneStreamViT
from mtltrack.models.history import memory_mask, template_memory_mask
from mtltrack.models.layers.elimination import eliminate, keep_rate, template_mask, template_rows
from mtltrack.models.layers.memory import PromptMemory, extend_keys, read_memory
from mtltrack.tasks.box import decode_center, decode_center_top
from parity import recipe
from parity.report import Report


def heatmap(reference: dict[Any, Any], report: Report) -> None:
    for size, entry in reference.items():
        cells = int(size) // 16
        radius = gaussian_radius(entry["boxes"][:, 2:] * cells)
        report.value(f"heatmap {size}: radius", radius, entry["radius"])
        maps = gaussian_heatmap(entry["boxes"], cells)
        expected = torch.stack(list(entry["maps"]))
        report.value(f"heatmap {size}: maps", maps, expected)
        report.decision(f"heatmap {size}: positive cells", torch.equal(maps == 1, expected == 1))


def boxes(reference: dict[str, Any], report: Report) -> None:
    a, b = reference["a_xywh"], reference["b_xywh"]
    xyxy = box_functions.boxes_xywh_to_xyxy(a)
    other = box_functions.boxes_xywh_to_xyxy(b)
    centre = box_functions.boxes_xyxy_to_cxcywh(xyxy)
    report.value("boxes: xyxy", xyxy, reference["xyxy"], "box")
    report.value("boxes: cxcywh", centre, reference["cxcywh"], "box")
    report.value("boxes: back", box_functions.boxes_cxcywh_to_xyxy(centre), reference["back"], "box")
    report.value("boxes: xywh", box_functions.boxes_xyxy_to_xywh(xyxy), reference["xywh"], "box")
    report.value("boxes: iou", box_functions.box_iou(xyxy, other), reference["iou"])
    loss = box_functions.giou_loss(xyxy, other)
    report.value("boxes: giou", 1 - loss, reference["giou"])
    report.value("boxes: giou_loss", loss.mean(), reference["giou_loss"], "loss")
    empty, unit = torch.tensor([[0.3, 0.3, 0.3, 0.3]]), torch.tensor([[0.1, 0.1, 0.4, 0.4]])
    for name, second in (("zero_vs_zero", empty), ("zero_vs_box", unit)):
        giou, iou = reference[name]
        report.value(f"boxes: {name} iou", box_functions.box_iou(empty, second), iou)
        if name == "zero_vs_zero":  # with another box the value depends on that box, which isn't recorded
            report.value(f"boxes: {name} giou", 1 - box_functions.giou_loss(empty, second), giou)
    report.decision(
        "boxes: an inverted box is refused", _refuses_inverted(unit) == bool(reference["inverted"])
    )


def _refuses_inverted(unit: Tensor) -> bool:
    try:
        box_functions.giou_loss(unit[:, [2, 3, 0, 1]], unit)
    except ValueError:
        return True
    return False


def clip_boxes(reference: dict[str, Any], report: Report) -> None:
    for margin in (10, 0):
        ours = [clip_box(box, reference["H"], reference["W"], margin) for box in reference["boxes"]]
        report.value(f"clip_box: margin {margin}", ours, reference[f"margin{margin}"], "box")


def focal(reference: dict[str, Any], report: Report) -> None:
    probabilities = torch.rand((4, 1, 24, 24), generator=recipe.gen("focal/p")).clamp(1e-4, 1 - 1e-4)
    target = reference["target"]
    cases = {
        "normal": (probabilities, target),
        "no_positive": (probabilities, target * 0.9),
        "zeros": (probabilities, torch.zeros_like(target)),
        "one_image": (probabilities[:1], target[:1]),
    }
    for name, (p, t) in cases.items():
        p = p.clone().requires_grad_()
        loss = heatmap_focal_loss(p, t, reduction="batch")
        loss.backward()
        assert p.grad is not None
        expected = reference[name]
        report.value(f"focal {name}: loss", loss, expected["loss"], "loss")
        report.value(f"focal {name}: grad_sum", p.grad.sum(), expected["grad_sum"], "grad")
        report.value(f"focal {name}: grad_abs", p.grad.abs().sum(), expected["grad_abs"], "grad")
        report.value(f"focal {name}: grad_first", p.grad.flatten()[:32], expected["grad_first"])


def hann(reference: dict[Any, Any], report: Report) -> None:
    for key, expected in reference.items():
        size = int(str(key).rsplit("_", 1)[-1])
        report.value(f"hann {key}", hann_window(size, centred=not str(key).startswith("not")), expected)


def ce_template_mask(reference: dict[str, Any], report: Report) -> None:
    for key, entry in reference.items():
        size, kind = key.split("_", 1)
        mask = template_mask(kind, entry["boxes"], int(size), 16)
        rows = template_rows(kind, entry["boxes"], int(size), 16)
        if entry["mask"] is None:
            report.decision(f"ce_template_mask {key}", mask is None and rows.index is None)
            continue
        report.decision(f"ce_template_mask {key}", mask is not None and torch.equal(mask, entry["mask"]))
        spread = entry["mask"].float() / entry["mask"].sum(1, keepdim=True)
        if rows.index is not None:
            spread = spread[:, rows.index]
        report.value(f"ce_template_mask {key}: weights", rows.weights, spread)


def keep_rates(reference: dict[str, Any], report: Report) -> None:
    """Each entry's name tells its arguments; its list starts at epoch 0."""
    known = {"hiptrack_20_80_0.7": (20, 100, 0.7), "base0.5_warm0_total10": (0, 10, 0.5)}
    for key, expected in reference.items():
        report.decision(f"keep_rate {key}: arguments understood", key in known)
        if key in known:
            ours = [keep_rate(epoch, *known[key]) for epoch in range(len(expected))]
            report.value(f"keep_rate {key}", ours, expected, "box")


def candidate_elimination(reference: dict[str, Any], report: Report) -> None:
    attention = torch.rand((2, 12, 720, 720), generator=recipe.gen("ce/attn"))
    tokens = torch.randn((2, 720, 8), generator=recipe.gen("ce/tok"))
    template, centre = 144, 65
    numbers = torch.arange(576).expand(2, -1)
    for key, expected in reference.items():
        if key == "gen":
            continue
        ratio, kind = key.split("_")
        rows = slice(centre, centre + 1) if kind == "ctr" else slice(0, template)
        scores = attention[:, :, rows, template:].mean(2).mean(1)
        outcome = eliminate(scores, tokens, template, float(ratio), numbers)
        for i in range(2):
            report.sets(f"elimination {key}: kept {i}", outcome.kept[i], expected["keep"][i])
        report.decision(
            f"elimination {key}: nothing removed", (outcome.removed is None) == (expected["removed"] is None)
        )
        if outcome.removed is not None and expected["removed"] is not None:
            for i in range(2):
                report.sets(f"elimination {key}: removed {i}", outcome.removed[i], expected["removed"][i])
        report.decision(f"elimination {key}: tokens left", outcome.tokens.shape[1] == expected["n"])
        report.value(f"elimination {key}: tokens_sum", outcome.tokens.sum(1), expected["tokens_sum"])


def memory_masks(reference: dict[str, Any], report: Report) -> None:
    removed = [numbers.long() for numbers in reference["removed"]]
    for i, box in enumerate(reference["cxcywh"]):
        row = torch.tensor([box])
        corner = box_functions.boxes_xyxy_to_xywh(box_functions.boxes_cxcywh_to_xyxy(row))
        ours = {
            "masks": memory_mask(row, 384, removed, 24),
            "masks_no_ce": memory_mask(row, 384, [], 24),
            "xywh_masks": template_memory_mask(corner, 384),
        }
        for key, mask in ours.items():
            packed = np.packbits(mask.numpy().astype(np.uint8).reshape(-1))
            report.decision(f"memory_mask: {key} {i}", np.array_equal(packed, reference[key][i].numpy()))


def memory_readout(reference: dict[str, Any], report: Report) -> None:
    def draw(name: str, *shape: int) -> Tensor:
        return torch.randn(shape, generator=recipe.gen(name))

    query = draw("mem/q", 1, 64, 6, 6).flatten(2).transpose(1, 2)  # (1, 36, 64)
    memory = PromptMemory(capacity=3)
    held: list[Tensor] = []
    for t, expected in enumerate(reference["steps"]):
        key = draw(f"mem/k{t}", 1, 64, 6, 6).flatten(2).transpose(1, 2)
        value = draw(f"mem/v{t}", 1, 32, 1, 6, 6).flatten(2).transpose(1, 2)
        memory.write(key, value)
        held = [*held, key][-3:]
        name = f"memory_readout step {t}"
        report.decision(f"{name}: entries", memory.count == expected["count"])
        readout = memory.read(query).transpose(1, 2).reshape(1, 32, 6, 6)
        report.value(f"{name}: readout", readout, expected["readout"])
        keys = torch.cat(held, dim=1)
        report.value(f"{name}: mem_k_sum", keys.sum(-1).flatten(), expected["mem_k_sum"])
        # reading unit vectors instead of values gives the affinity itself
        affinity = read_memory(query, extend_keys(keys), torch.eye(keys.shape[1])[None])
        report.value(f"{name}: affinity_max", affinity.amax(-1), expected["affinity_max"])


def pos_embed(reference: dict[str, Any], report: Report) -> None:
    source = 0.02 * torch.randn((1, 197, 768), generator=recipe.gen("pos/src"))
    for key, expected in reference.items():
        size = int(key[-3:])
        backbone = OneStreamViT(768, 1, 12, size // 2, size)
        with torch.no_grad():
            backbone.pos_embed.copy_(source)
        backbone.resize_position_tables()
        report.value(f"pos_embed {key}: template", backbone.pos_embed_z[..., ::32], expected["z_c24"])
        report.value(f"pos_embed {key}: search", backbone.pos_embed_x[..., ::32], expected["x_c24"])


def decode(reference: dict[str, Any], report: Report) -> None:
    def draw(name: str, channels: int) -> Tensor:
        return torch.rand((5, channels, 24, 24), generator=recipe.gen(name))

    score, size, offset = draw("dec/s", 1), draw("dec/z", 2), draw("dec/o", 2)
    report.value("decode: bbox", decode_center(score, size, offset)[0], reference["bbox"], "box")
    windowed = decode_center(hann_window(24) * score, size, offset)[0]
    report.value("decode: bbox_hann", windowed, reference["bbox_hann"], "box")
    top = decode_center_top(score[:1], size[:1], offset[:1], 50)[0]
    report.value("decode: top50", top, reference["top50"], "box")


COMPARISONS: dict[str, Callable[[dict[Any, Any], Report], None]] = {
    "heatmap": heatmap,
    "boxes": boxes,
    "clip_box": clip_boxes,
    "focal": focal,
    "hann": hann,
    "ce_template_mask": ce_template_mask,
    "keep_rate": keep_rates,
    "candidate_elimination": candidate_elimination,
    "memory_mask": memory_masks,
    "memory_readout": memory_readout,
    "pos_embed": pos_embed,
    "decode": decode,
}
