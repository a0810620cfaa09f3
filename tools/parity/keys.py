"""Compare state-dict names and shapes with those of published checkpoints (`*_keys.json`)."""

from __future__ import annotations

from typing import Any

import torch

from mtltrack.models.backbones.vit import OneStreamViT
from mtltrack.models.history import HistoryNetwork
from mtltrack.models.tracker import Tracker
from mtltrack.tasks.box import CenterHead
from parity.report import Report


def is_key_list(content: dict[str, Any]) -> bool:
    """Tell whether a file maps names to [shape, dtype]."""
    return bool(content) and all(
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], list)
        and isinstance(value[1], str)
        for value in content.values()
    )


def compare_keys(name: str, content: dict[str, Any], report: Report) -> None:
    """Build the model that the list describes and compare every name, shape and type.

    Width, depth and sizes are read from the list's own shapes, so that any size of either family is
    understood.
    """
    width = content["backbone.norm.weight"][0][0]
    depth = 1 + max(int(key.split(".")[2]) for key in content if key.startswith("backbone.blocks."))
    template, search = (round(content[f"backbone.pos_embed_{side}"][0][1] ** 0.5) * 16 for side in "zx")
    hiptrack = any(key.startswith("HIP.") for key in content)
    with torch.device("meta"):
        backbone = OneStreamViT(
            width, depth, width // 64, 224, 224, temporal_embedding="backbone.temporal_pos_embed_x" in content
        )
        backbone.pos_embed_z = torch.nn.Parameter(torch.empty(1, (template // 16) ** 2, width))
        backbone.pos_embed_x = torch.nn.Parameter(torch.empty(1, (search // 16) ** 2, width))
        head = CenterHead(width, search // 16, hidden=content["box_head.conv1_ctr.0.weight"][0][0])
        tracker = Tracker(backbone, head, HistoryNetwork(width) if hiptrack else None)
    ours = {
        key: [list(v.shape), str(v.dtype).removeprefix("torch.")] for key, v in tracker.state_dict().items()
    }
    report.decision(f"{name}: nothing missing", not set(content) - set(ours))
    report.decision(f"{name}: nothing unexpected", not set(ours) - set(content))
    for key in sorted(set(ours) & set(content)):
        report.decision(f"{name}: {key}", ours[key] == content[key])
