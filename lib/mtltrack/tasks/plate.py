"""The plate task: whether the target's licence plate can be seen, and where it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from mtltrack.core.errors import ConfigError, did_you_mean
from mtltrack.core.precision import in_full, run_in_full
from mtltrack.core.registry import HEADS, LOSSES
from mtltrack.core.types import Clip, FrameContext, TaskOutput, Tokens
from mtltrack.losses.boxes import boxes_cxcywh_to_xyxy, l1_box_loss
from mtltrack.metrics.detection import PRESENT, DetectionMetrics
from mtltrack.models.layers.location import (
    PixelEmbedding,
    QueryDecoder,
    local_mean,
    location_loss,
    sample_maps,
    view_to_search,
)

IOU_LOSSES = ("GIOU", "CIOU")
PRESENCE_LOSSES = ("BCE", "FOCAL")
FINDING = ("token_projection", "box_projection", "memory_norm", "decoder", "pixels", "location_query")
LARGEST_RATIO = 3.0  # sizes stay within exp(-3) to exp(3) of `plate_size`


@HEADS.register_module()
class PlateHead(nn.Module):
    """Presence and box of the target's plate.

    A plate is a few pixels of the search crop, far less than a token. So the place is not regressed from
    tokens: queries look at the search tokens and the box head's features (a transformer decoder), and the
    first one is compared with an embedding of every cell of a fine map, made of the pixels and of the same
    features. Around the best cell the comparison's softmax gives the centre (its mean) and what stands there
    (the mean embedding), from which size and presence are read. The pixels are those of the detail view
    where the clip has one, else the search crop's.

    Predictions: `presence` (B, T) logits; `cxcywh` (B, T, 4) in [0, 1] of the search crop, a box whether the
    plate is present or not; `location` (B, T, h, w) logits of the centre over the cells of the view;
    `view` (B, T, 2, 3), which maps [0, 1] of the view to [0, 1] of the search crop.
    Features (B, T, Q, D), the first one that of the plate.

    The choice of the best cell passes no gradient; all that is read around it does.

    Args:
        channels: C of the search tokens.
        upstream_channels: width of the features of the heads that it reads.
        hidden_dim: D, a multiple of 16 and of `attention_heads`.
        queries: Q.
        layers: of the decoder.
        attention_heads: of each attention.
        stride: pixels of the view a cell of the map; a plate should be at least a cell high. 2 suits a small
            search crop, 4 a detail view.
        window: cells on each side of the best one that the centre is the mean over.
        plate_size: width and height in [0, 1] of the view that sizes start from.
        presence_loss: BCE or FOCAL (alpha 0.25, gamma 2).
        iou_loss: GIOU or CIOU.
        presence_weight: weight of the presence loss.
        l1_weight: weight of the mean absolute difference of the corners.
        iou_weight: weight of the overlap loss.
        location_weight: weight of the cross-entropy of the map with the true centre.

    Raises:
        ConfigError: an argument is out of range.
    """

    task = "plate"
    reads: tuple[str, ...] = ("box",)
    decode_keys: tuple[str, ...] = ("presence", "cxcywh")
    needs_detail = True  # online the detail view is only cut for heads that say so
    # What stands at the place is read from the map, so every term shapes the map. Where two sides miss by the
    # same sign L1 only shifts the box: size may be 0.
    reaches: ClassVar[dict[str, tuple[str, ...]]] = {
        "presence": (*FINDING, "place", "place_norm", "presence"),
        "l1": (*FINDING, "place?", "place_norm?", "size?"),
        "iou": (*FINDING, "place", "place_norm", "size"),
        "location": FINDING,
    }
    log_size: Tensor

    def __init__(
        self,
        channels: int,
        upstream_channels: Mapping[str, int],
        hidden_dim: int = 64,
        queries: int = 4,
        layers: int = 2,
        attention_heads: int = 4,
        stride: int = 4,
        window: int = 3,
        plate_size: Sequence[float] = (0.1, 0.03),
        presence_loss: str = "BCE",
        iou_loss: str = "GIOU",
        presence_weight: float = 1.0,
        l1_weight: float = 5.0,
        iou_weight: float = 2.0,
        location_weight: float = 1.0,
    ) -> None:
        super().__init__()
        _check_choice("PRESENCE_LOSS", presence_loss, PRESENCE_LOSSES)
        _check_choice("IOU_LOSS", iou_loss, IOU_LOSSES)
        _check_sizes(hidden_dim, attention_heads, queries, layers, stride, window, plate_size)
        self.focal = presence_loss == "FOCAL"
        self.iou_loss = LOSSES.get(iou_loss)
        self.term_weights = {
            "presence": presence_weight,
            "l1": l1_weight,
            "iou": iou_weight,
            "location": location_weight,
        }
        self.feature_channels = hidden_dim
        self.window = window
        width = hidden_dim // 2  # of the map's embedding
        self.token_projection = nn.Linear(channels, hidden_dim)
        self.box_projection = nn.Linear(upstream_channels["box"], hidden_dim)
        self.memory_norm = nn.LayerNorm(hidden_dim)
        self.decoder = QueryDecoder(hidden_dim, queries, layers, attention_heads)
        self.pixels = PixelEmbedding(hidden_dim, width, stride)
        self.location_query = nn.Linear(hidden_dim, width)
        self.place = nn.Sequential(
            nn.Linear(width + 1, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, hidden_dim)
        )
        self.place_norm = nn.LayerNorm(hidden_dim)
        self.presence = _answer(hidden_dim, 1)
        self.size = _answer(hidden_dim, 2)
        self.register_buffer(
            "log_size", torch.tensor(plate_size, dtype=torch.float32).log(), persistent=False
        )

    def forward(self, tokens: Tokens, upstream: Mapping[str, TaskOutput], clip: Clip) -> TaskOutput:
        """Find the plate in every frame."""
        memory = self._memory(tokens, upstream["box"])  # (B, T, Nx, D)
        queries = self.decoder(memory, tokens.grid, tokens.kept)  # (B, T, Q, D)
        view = view_to_search(clip)  # (B, T, 2, 3)
        embedding = self._embed(clip, memory, tokens.grid, view)  # (B, T, E, h, w)
        with torch.autocast(queries.device.type, enabled=False):
            embedding = in_full(embedding)
            key = self.location_query(in_full(queries[:, :, 0]))  # (B, T, E)
            location = torch.einsum("bte,btehw->bthw", key, embedding) / math.sqrt(key.shape[-1])
            centre, found, share = local_mean(location, embedding, self.window)
        place = self.place(torch.cat([found, share[..., None]], dim=-1))
        first = self.place_norm(queries[:, :, 0] + place)  # (B, T, D)
        features = torch.cat([first[:, :, None], queries[:, :, 1:]], dim=2)
        ratio = LARGEST_RATIO * torch.tanh(run_in_full(self.size, first) / LARGEST_RATIO)
        boxes = _boxes_in_search(centre, (self.log_size + ratio).exp(), view)
        predictions = {
            "presence": run_in_full(self.presence, first).squeeze(-1),
            "cxcywh": boxes,
            "location": location,
            "view": view,
        }
        return TaskOutput(features, predictions)

    def _memory(self, tokens: Tokens, box: TaskOutput) -> Tensor:
        """Join tokens and box features of the same cells."""
        memory = self.token_projection(tokens.search)
        if box.features is None or box.features.shape[:3] != tokens.search.shape[:3]:
            found = "none" if box.features is None else tuple(box.features.shape)
            raise ConfigError(
                f"TASKS.plate: PlateHead wants box features (B, T, Nx, C) for each of the search tokens "
                f"{tuple(tokens.search.shape)}; found {found}. Choose another MODEL.HEAD.TYPE."
            )
        return self.memory_norm(memory + self.box_projection(box.features))

    def _embed(self, clip: Clip, memory: Tensor, grid: tuple[int, int], view: Tensor) -> Tensor:
        """Embed the view's cells, (B, T, E, h, w), from its pixels and the memory at the same place."""
        pixels = clip.search if clip.detail is None else clip.detail
        maps = memory.transpose(2, 3).unflatten(3, grid).flatten(0, 1)  # (B T, D, rows, columns)

        def context(height: int, width: int) -> Tensor:
            return sample_maps(maps, view.flatten(0, 1), height, width)

        return self.pixels(pixels.flatten(0, 1), context).unflatten(0, pixels.shape[:2])

    def loss_terms(self, output: TaskOutput, labels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return unweighted losses a sample and frame, each (B, T); all but presence are 0 without a plate.

        Args:
            output: the head's predictions.
            labels: `valid` (B, T), `present` (B, T) bool, `cxcywh` (B, T, 4) in [0, 1] of the search crop.
        """
        present = labels["present"] & labels["valid"]
        logits = output.predictions["presence"]
        # a masked loss still passes 0 * infinity back, so absent plates get a box that does no harm
        target = torch.where(present[..., None], in_full(labels["cxcywh"]), 0.5)
        predicted_xyxy = boxes_cxcywh_to_xyxy(output.predictions["cxcywh"]).flatten(0, 1)
        target_xyxy = boxes_cxcywh_to_xyxy(target).flatten(0, 1)
        terms = {
            "l1": l1_box_loss(predicted_xyxy, target_xyxy).view_as(logits),
            "iou": self.iou_loss(predicted_xyxy, target_xyxy, eps=1e-7, validate=False).view_as(logits),
            "location": location_loss(
                output.predictions["location"], target[..., :2], output.predictions["view"]
            ),
        }
        zero = torch.zeros_like(logits)
        terms = {name: torch.where(present, value, zero) for name, value in terms.items()}
        return {"presence": self._presence_loss(logits, present.to(logits.dtype)), **terms}

    def _presence_loss(self, logits: Tensor, present: Tensor) -> Tensor:
        if self.focal:
            return sigmoid_focal_loss(logits, present, alpha=0.25, gamma=2.0, reduction="none")
        return F.binary_cross_entropy_with_logits(logits, present, reduction="none")

    def decode(self, output: TaskOutput) -> list[list[dict[str, Any]]]:
        """Return, a clip and frame, `present`, `confidence` in [0, 1] that it is, and its box `cxcywh`, four
        floats in [0, 1] of the search crop.
        """
        confidences = output.predictions["presence"].float().sigmoid().tolist()
        boxes = output.predictions["cxcywh"].tolist()
        return [
            [
                {"present": confidence > PRESENT, "confidence": confidence, "cxcywh": box}
                for confidence, box in zip(row, places, strict=True)
            ]
            for row, places in zip(confidences, boxes, strict=True)
        ]

    def metrics(self) -> PlateMetrics:
        return PlateMetrics()

    def session(self, zones: Mapping[str, NDArray[np.float64]]) -> PlateSession:
        """Return what turns a video's answers into results."""
        del zones
        return PlateSession()


class PlateSession:
    """Puts the plate's box into the frame."""

    def update(self, answer: Any, frame: FrameContext) -> dict[str, Any]:
        """Return `present`, `confidence` and `bbox` [x1, y1, x2, y2] in frame pixels, or None when it is not
        present or lies outside the frame.
        """
        present = bool(answer["present"])
        box = frame_box(answer["cxcywh"], frame) if present else None
        return {"present": present, "confidence": float(answer["confidence"]), "bbox": box}


def frame_box(box_cxcywh: Sequence[float], frame: FrameContext) -> list[float] | None:
    """Return a box of the search crop, [0, 1], as corners in frame pixels, cut to the frame; None outside.

    The affine maps pixel centres; corners lie between pixels, half a pixel before them.
    """
    cx, cy, w, h = box_cxcywh
    corners = np.array([[cx - w / 2, cx + w / 2], [cy - h / 2, cy + h / 2]]) * frame.crop_size - 0.5
    placed = frame.affine[:, :2] @ corners + frame.affine[:, 2:] + 0.5  # (2, 2) x and y of both corners
    low, high = (np.clip(side, 0.0, frame.size) for side in (placed.min(axis=1), placed.max(axis=1)))
    return None if (high <= low).any() else [float(value) for value in (*low, *high)]


class PlateMetrics:
    """`DetectionMetrics` fed with a head's output and a clip's labels."""

    def __init__(self) -> None:
        self.detections = DetectionMetrics()

    def update(self, output: TaskOutput, labels: dict[str, Tensor]) -> None:
        valid = labels["valid"]
        boxes = output.predictions["cxcywh"].detach()
        self.detections.update(
            output.predictions["presence"].detach().float().sigmoid()[valid].cpu().numpy(),
            boxes_cxcywh_to_xyxy(boxes.float())[valid].cpu().numpy(),
            labels["present"][valid].cpu().numpy(),
            boxes_cxcywh_to_xyxy(labels["cxcywh"].float())[valid].cpu().numpy(),
        )

    def compute(self) -> dict[str, float]:
        return self.detections.compute()

    def collected(self) -> Any:
        """Return what was counted, for another process to `merge`."""
        return self.detections.collected()

    def merge(self, collected: Any) -> None:
        """Add what another one `collected`."""
        self.detections.merge(collected)

    def reset(self) -> None:
        self.detections.reset()


def _answer(width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, outputs))


def _boxes_in_search(centre: Tensor, size: Tensor, view: Tensor) -> Tensor:
    """Turn centres and sizes (B, T, 2) in [0, 1] of the view into boxes (B, T, 4) of the search crop."""
    linear, shift = view[..., :2], view[..., 2]
    moved = (linear * centre[..., None, :]).sum(-1) + shift
    return torch.cat([moved, (linear.abs() * size[..., None, :]).sum(-1)], dim=-1)


def _check_choice(key: str, found: str, allowed: Sequence[str]) -> None:
    if found not in allowed:
        near = did_you_mean(str(found), allowed)
        raise ConfigError(f"TASKS.plate.{key} is '{found}'; allowed: {', '.join(allowed)}.{near}")


def _check_sizes(
    hidden_dim: int,
    attention_heads: int,
    queries: int,
    layers: int,
    stride: int,
    window: int,
    plate_size: Sequence[float],
) -> None:
    if hidden_dim % 16 or attention_heads < 1 or hidden_dim % attention_heads:
        raise ConfigError(
            f"TASKS.plate.HIDDEN_DIM is {hidden_dim}; it must be a multiple of 16 and of ATTENTION_HEADS "
            f"({attention_heads})"
        )
    for key, value in (("QUERIES", queries), ("LAYERS", layers), ("STRIDE", stride), ("WINDOW", window)):
        if value < 1:
            raise ConfigError(f"TASKS.plate.{key} is {value}; it must be at least 1")
    if len(plate_size) != 2 or not all(0 < side <= 1 for side in plate_size):
        raise ConfigError(
            f"TASKS.plate.PLATE_SIZE is {list(plate_size)}; wanted a width and a height in (0, 1] of the view"
        )
