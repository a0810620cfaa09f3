"""The box task: where the target is. Centre head, corner head, MLP head; losses, decoding, metrics."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtltrack.core.precision import in_full, run_in_full
from mtltrack.core.registry import HEADS, LOSSES
from mtltrack.core.types import TaskOutput
from mtltrack.losses.boxes import (
    box_iou,
    boxes_cxcywh_to_xyxy,
    boxes_xyxy_to_cxcywh,
    boxes_xyxy_to_xywh,
    l1_box_loss,
    order_corners,
)
from mtltrack.losses.focal import gaussian_heatmap, heatmap_focal_loss
from mtltrack.metrics.merging import Mergeable

# a score of 0.1 everywhere: CenterNet's start, from which the focal loss falls at once
INITIAL_SCORE_LOGIT = -2.19
SCORE_FLOOR = 1e-4  # scores and sizes stay this far from 0 and 1


def bounded_sigmoid(logits: Tensor) -> Tensor:
    """Sigmoid in full precision, clamped to [1e-4, 1 - 1e-4] (in bfloat16 the bound would round to 1)."""
    return in_full(logits).sigmoid().clamp(SCORE_FLOOR, 1 - SCORE_FLOOR)


def _tower(in_channels: int, channels: int, branch: str) -> dict[str, nn.Module]:
    """Four 3x3 convolutions that halve the channels, named `conv1_<branch>` to `conv4_<branch>`."""
    widths = [in_channels, channels, channels // 2, channels // 4, channels // 8]
    return {
        f"conv{i}_{branch}": nn.Sequential(
            nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(inplace=True)
        )
        for i, (a, b) in enumerate(pairwise(widths), start=1)
    }


def _climb(head: nn.Module, maps: Tensor, branch: str) -> Tensor:
    """Run one branch's `_tower`, (B, C, h, w) -> (B, hidden / 8, h, w)."""
    for i in range(1, 5):
        maps = head.get_submodule(f"conv{i}_{branch}")(maps)
    return maps


def corner_boxes(output: TaskOutput, labels: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return predicted and labelled boxes xyxy, (B, T, 4); the labelled ones cut to the crop."""
    predicted = order_corners(boxes_cxcywh_to_xyxy(in_full(output.predictions["boxes_cxcywh"])))
    return predicted, boxes_cxcywh_to_xyxy(in_full(labels["cxcywh"])).clamp(0, 1)


class BoxHead(nn.Module):
    """What every box head shares: the loss terms, decoding for people, metrics.

    Predictions (B, T, ...): `boxes_cxcywh` (B, T, 4) in [0, 1] of the crop, `scores` (B, T) in [0, 1]; the
    centre head adds `score_map` (B, T, 1, h, w), `size_map` and `offset_map` (B, T, 2, h, w).

    Args:
        giou_weight: of the overlap loss, TRAIN.GIOU_WEIGHT.
        l1_weight: TRAIN.L1_WEIGHT.
        iou_loss: the overlap loss by its name in LOSSES, GIOU or CIOU (TRAIN.BOX_IOU_LOSS); its term is
            called "giou" or "ciou".
    """

    reads: tuple[str, ...] = ()
    decode_keys: tuple[str, ...] = ("boxes_cxcywh", "scores")

    def __init__(self, giou_weight: float = 2.0, l1_weight: float = 5.0, iou_loss: str = "GIOU") -> None:
        super().__init__()
        self.iou_loss, self.iou_term = LOSSES.get(iou_loss), iou_loss.lower()
        self.term_weights = {self.iou_term: giou_weight, "l1": l1_weight}

    def predict(self, maps: Tensor) -> dict[str, Tensor]:
        """Predict from one frame's fused features (B, C, h, w); the values have a leading B."""
        raise NotImplementedError("a box head implements predict()")

    def loss_terms(self, output: TaskOutput, labels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return unweighted losses a sample and frame, each (B, T).

        Args:
            output: the head's predictions.
            labels: `cxcywh` (B, T, 4) in [0, 1] of the crop, `valid` (B, T). What stands in frames without a
                label doesn't matter: the caller masks them.
        """
        predicted, target = corner_boxes(output, labels)
        shape = predicted.shape[:2]
        predicted, target = predicted.flatten(0, 1), target.flatten(0, 1)
        return {
            self.iou_term: self.iou_loss(predicted, target, validate=False).view(shape),
            "l1": l1_box_loss(predicted, target).view(shape),
        }

    def decode(self, output: TaskOutput) -> list[list[dict[str, Any]]]:
        """Return, a clip and frame, {"box_cxcywh": [4 floats in [0, 1] of the crop], "score": float}."""
        boxes = output.predictions["boxes_cxcywh"].tolist()
        scores = output.predictions["scores"].tolist()
        return [
            [{"box_cxcywh": box, "score": score} for box, score in zip(row, marks, strict=True)]
            for row, marks in zip(boxes, scores, strict=True)
        ]

    def metrics(self) -> BoxMetrics:
        return BoxMetrics()


@HEADS.register_module(name="CENTER")
class CenterHead(BoxHead):
    """Score, offset and size maps; the box is read at the best-scored cell (OSTrack, section 3.4).

    Args:
        channels: C of the features.
        grid: cells along each side.
        hidden: channels of the first convolution (MODEL.HEAD.NUM_CHANNELS).
    """

    # Choosing the best cell has no derivative: the box's losses shape sizes and offsets, focal the scores.
    # Where two sides miss by the same sign L1 only shifts the box, else it only resizes it: either may be 0.
    reaches: ClassVar[dict[str, tuple[str, ...]]] = {
        "giou": ("offset", "size"),
        "ciou": ("offset", "size"),
        "l1": ("offset?", "size?"),
        "focal": ("ctr",),
    }
    boundaries: ClassVar[dict[str, str]] = {
        "score_map": "the box is read at the best-scored cell, and a choice has no derivative"
    }

    def __init__(self, channels: int, grid: int, hidden: int = 256, stride: int = 16, **box: Any) -> None:
        del stride  # the maps are in cells
        super().__init__(**box)
        if hidden % 8:
            raise ValueError(f"MODEL.HEAD.NUM_CHANNELS is {hidden}; it must be a multiple of 8")
        self.term_weights["focal"] = 1.0
        self.grid = grid
        self.feature_channels = 3 * (hidden // 8)
        for branch, outputs in (("ctr", 1), ("offset", 2), ("size", self.size_channels())):
            for name, module in _tower(channels, hidden, branch).items():
                self.add_module(name, module)
            self.add_module(f"conv5_{branch}", nn.Conv2d(hidden // 8, outputs, 1))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        nn.init.constant_(self.conv5_ctr.bias, INITIAL_SCORE_LOGIT)

    def size_channels(self) -> int:
        """Return how many numbers a cell says of its box's size."""
        return 2

    def read_sizes(self, logits: Tensor) -> dict[str, Tensor]:
        """Return `size_map` (B, 2, h, w), and whatever else the loss needs of these numbers."""
        return {"size_map": bounded_sigmoid(logits)}

    def predict(self, maps: Tensor) -> dict[str, Tensor]:
        """Predict from (B, C, h, w); `features` (B, 3 hidden/8, h, w) are the three branches' last maps."""
        last = {branch: _climb(self, maps, branch) for branch in ("ctr", "offset", "size")}
        score_map = bounded_sigmoid(run_in_full(self.conv5_ctr, last["ctr"]))
        offset_map = run_in_full(self.conv5_offset, last["offset"])
        sizes = self.read_sizes(run_in_full(self.conv5_size, last["size"]))
        boxes, scores = decode_center(score_map, sizes["size_map"], offset_map)
        return {
            "boxes_cxcywh": boxes,
            "scores": scores,
            "score_map": score_map,
            **sizes,
            "offset_map": offset_map,
            "features": torch.cat(list(last.values()), dim=1),
        }

    def loss_terms(self, output: TaskOutput, labels: dict[str, Tensor]) -> dict[str, Tensor]:
        terms = super().loss_terms(output, labels)
        score_map = output.predictions["score_map"]
        boxes_xywh = boxes_xyxy_to_xywh(boxes_cxcywh_to_xyxy(in_full(labels["cxcywh"]))).flatten(0, 1)
        target = gaussian_heatmap(boxes_xywh, self.grid)
        terms["focal"] = heatmap_focal_loss(score_map.flatten(0, 1), target).view(score_map.shape[:2])
        return terms


def decode_center(score_map: Tensor, size_map: Tensor, offset_map: Tensor) -> tuple[Tensor, Tensor]:
    """Read the box at the best-scored cell.

    Args:
        score_map: (B, 1, h, w), possibly weighted by a window.
        size_map: (B, 2, h, w) width and height in [0, 1] of the crop.
        offset_map: (B, 2, h, w) in cells.

    Returns:
        boxes (B, 4) cxcywh in [0, 1] of the crop and their scores (B,). No gradient passes through the
        choice.
    """
    boxes, scores = decode_center_top(score_map, size_map, offset_map, 1)
    return boxes[:, 0], scores[:, 0]


def decode_center_top(
    score_map: Tensor, size_map: Tensor, offset_map: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Read the boxes at the `count` best cells: (B, count, 4) cxcywh in [0, 1] and scores (B, count)."""
    height, width = score_map.shape[-2:]
    flat = score_map.flatten(1)
    scores, cells = flat.max(1, keepdim=True) if count == 1 else flat.topk(count, dim=1)
    where = cells[:, None].expand(-1, 2, -1)  # (B, 2, count)
    size = size_map.flatten(2).gather(2, where)
    offset = offset_map.flatten(2).gather(2, where)
    x = (cells % width + offset[:, 0]) / width
    y = (cells // width + offset[:, 1]) / height
    return torch.stack([x, y, size[:, 0], size[:, 1]], dim=-1), scores


@HEADS.register_module(name="CORNER")
class CornerHead(BoxHead):
    """Two corner heat maps, read by soft-argmax (STARK, Yan et al., ICCV 2021, section 3.1).

    A cell's coordinate is its upper left pixel, as in the published code, so that a corner is at most
    (grid - 1) / grid.
    """

    def __init__(self, channels: int, grid: int, hidden: int = 256, stride: int = 16, **box: Any) -> None:
        super().__init__(**box)
        self.grid, self.stride = grid, stride
        self.feature_channels = 2 * (hidden // 8)
        for branch in ("tl", "br"):
            for name, module in _tower(channels, hidden, branch).items():
                self.add_module(name, module)
            self.add_module(f"conv5_{branch}", nn.Conv2d(hidden // 8, 1, 1))

    def predict(self, maps: Tensor) -> dict[str, Tensor]:
        """Predict from (B, C, h, w)."""
        corners, confidences, features = [], [], []
        for branch in ("tl", "br"):
            last = _climb(self, maps, branch)
            logits = run_in_full(self.get_submodule(f"conv5_{branch}"), last)
            probability = logits.flatten(1).softmax(1)  # (B, h w)
            corners.append(self._expected(probability))
            confidences.append(probability.amax(1))
            features.append(last)
        return {
            "boxes_cxcywh": boxes_xyxy_to_cxcywh(torch.cat(corners, dim=1)),
            "scores": (confidences[0] * confidences[1]).sqrt(),
            "features": torch.cat(features, dim=1),
        }

    def _expected(self, probability: Tensor) -> Tensor:
        position = torch.arange(self.grid, device=probability.device, dtype=probability.dtype) / self.grid
        x = (probability * position.repeat(self.grid)).sum(1)
        y = (probability * position.repeat_interleave(self.grid)).sum(1)
        return torch.stack([x, y], dim=1)  # (B, 2)


@HEADS.register_module(name="MLP")
class MlpHead(BoxHead):
    """Three linear layers on the mean feature; the plainest head, for comparisons.

    It has no score of its own: `scores` is 1.
    """

    def __init__(self, channels: int, grid: int, hidden: int = 256, stride: int = 16, **box: Any) -> None:
        del grid, stride, hidden  # one box a frame; the published head is as wide as the features
        super().__init__(**box)
        self.feature_channels = channels
        widths = [channels, channels, channels, 4]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def predict(self, maps: Tensor) -> dict[str, Tensor]:
        """Predict from (B, C, h, w)."""
        x = maps.mean((2, 3))
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        boxes = bounded_sigmoid(run_in_full(self.layers[-1], x))
        return {"boxes_cxcywh": boxes, "scores": boxes.new_ones(len(boxes)), "features": maps}


class BoxMetrics(Mergeable):
    """Mean overlap of predicted and labelled boxes, `IoU`, in [0, 1]; 0 for one that isn't finite."""

    COUNTS = ("_overlaps",)

    def __init__(self) -> None:
        self.reset()

    def update(self, output: TaskOutput, labels: dict[str, Tensor]) -> None:
        predicted, target = corner_boxes(output, labels)
        overlap = box_iou(predicted.detach(), target)[labels["valid"]]
        self._overlaps += torch.nan_to_num(overlap.double(), nan=0.0).tolist()

    def compute(self) -> dict[str, float]:
        return {"IoU": math.fsum(self._overlaps) / len(self._overlaps) if self._overlaps else math.nan}

    def reset(self) -> None:
        self._overlaps: list[float] = []
