"""The mask task: which pixels of the search region belong to the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mtltrack.core.errors import ConfigError
from mtltrack.core.precision import in_full
from mtltrack.core.registry import HEADS
from mtltrack.core.rle import encode_mask
from mtltrack.core.types import BOX, Clip, FrameContext, TaskOutput, Tokens
from mtltrack.losses.masks import dice_loss, mask_bce
from mtltrack.metrics.masks import MaskMetrics
from mtltrack.models.layers.pixels import PixelDecoder, TargetQuery

THRESHOLD = 0.5  # a pixel belongs to the target where its probability is above it
STRIDES = (2, 4)
INITIAL_LOGIT = -2.0  # most of a search region isn't the target


@HEADS.register_module()
class SegHead(nn.Module):
    """The target's mask: a query made of the box head's features times an embedding of every pixel.

    The form is MaskFormer's (Cheng et al., NeurIPS 2021, section 3.2: mask = sigmoid(query . embedding)) with
    one query, made from the tracked target instead of learned, and a much smaller pixel decoder.

    Predictions: `logits` (B, T, H / stride, W / stride), unbounded; above 0 on the target.

    The loss is taken on the logits enlarged to the label's pixels, so that the cells on an edge learn the
    values whose interpolation puts the edge between them. The alternative, the share of each cell that the
    mask covers as its target, costs a sixteenth, but its Dice term prefers full cells: the best mask that can
    be learned of an object some 40 pixels wide reaches J = 0.92 in place of 0.98 (stride 4).

    Args:
        channels: C of the search tokens.
        upstream_channels: width of the box head's features, by "box".
        hidden_dim: width of query and embedding.
        stem: channels of the first of the convolutions over the region's pixels.
        stride: pixels of the search region a cell of the mask, 4 or 2.
        bce_weight: weight of the cross-entropy.
        dice_weight: weight of the Dice loss.

    Raises:
        ConfigError: an argument is out of range, or the box head offers no features.
    """

    task = "seg"
    reads: tuple[str, ...] = (BOX,)
    decode_keys: tuple[str, ...] = ("logits",)
    boundaries: ClassVar[dict[str, str]] = {
        "box.score_map": "the scores only say where to look",
        "box.boxes_cxcywh": "the box only says where a pixel lies",
    }

    def __init__(
        self,
        channels: int,
        upstream_channels: Mapping[str, int],
        hidden_dim: int = 64,
        stem: int = 16,
        stride: int = 4,
        bce_weight: float = 1.0,
        dice_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if stride not in STRIDES or hidden_dim < 1 or stem < 1:
            raise ConfigError(
                "TASKS.seg needs STRIDE 4 or 2, HIDDEN_DIM and STEM of at least 1; found "
                f"{stride}, {hidden_dim} and {stem}"
            )
        if BOX not in upstream_channels:
            raise ConfigError("SegHead reads the box head's features, but this MODEL.HEAD.TYPE offers none")
        self.stride = stride
        self.feature_channels = hidden_dim
        self.term_weights = {"bce": bce_weight, "dice": dice_weight}
        self.query = TargetQuery(upstream_channels[BOX], hidden_dim)
        self.decoder = PixelDecoder(channels, hidden_dim, stem, stride)
        self.bias = nn.Parameter(torch.tensor(INITIAL_LOGIT))

    def forward(self, tokens: Tokens, upstream: Mapping[str, TaskOutput], clip: Clip) -> TaskOutput:
        """Predict the mask of every frame; `features` (B, T, 1, hidden_dim) are the queries."""
        box = upstream[BOX]
        shape = tokens.search.shape[:2]
        assert box.features is not None
        scores = box.predictions.get("score_map")
        query = self.query(
            box.features.flatten(0, 1), None if scores is None else scores.flatten(0, 1).flatten(1)
        )  # (BT, D)
        embedding = self.decoder(
            tokens.search_maps().flatten(0, 1),
            clip.search.flatten(0, 1),
            box.predictions["boxes_cxcywh"].detach().flatten(0, 1),
        )  # (BT, D, h, w)
        logits = in_full(torch.einsum("nd,ndhw->nhw", query, embedding)) / query.shape[1] ** 0.5 + self.bias
        return TaskOutput(query.unflatten(0, shape)[:, :, None], {"logits": logits.unflatten(0, shape)})

    def loss_terms(self, output: TaskOutput, labels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return {"bce": (B, T), "dice": (B, T)}.

        Args:
            output: the head's predictions.
            labels: `valid` (B, T) and `mask` (B, T, H, W) uint8, 1 on the target; a mask without a pixel says
                that the target can't be seen.
        """
        logits, masks = output.predictions["logits"], labels["mask"].flatten(0, 1)
        enlarged = _enlarge(logits.flatten(0, 1), masks.shape[-2:])  # (BT, H, W)
        return {
            "bce": mask_bce(enlarged, masks).view(logits.shape[:2]),
            "dice": dice_loss(enlarged, masks).view(logits.shape[:2]),
        }

    def decode(self, output: TaskOutput) -> list[list[dict[str, Any]]]:
        """Return, a clip and frame, `probabilities` (H, W) float32 in [0, 1] of the search region's pixels
        and `confidence`, their mean over the mask (0 where no pixel is in it).
        """
        logits = output.predictions["logits"].detach().float()
        size = (logits.shape[-2] * self.stride, logits.shape[-1] * self.stride)
        probabilities = _enlarge(logits.flatten(0, 1), size).sigmoid().unflatten(0, logits.shape[:2])
        return [[_describe(frame) for frame in clip] for clip in probabilities.numpy()]

    def session(self, zones: Mapping[str, NDArray[Any]]) -> MaskSession:
        """Return what puts the masks of a video into its frames."""
        del zones
        return MaskSession()

    def metrics(self) -> SegMetrics:
        return SegMetrics()


def _enlarge(logits: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Enlarge maps (N, h, w) to pixels (N, *size)."""
    return F.interpolate(logits[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def _describe(probabilities: NDArray[np.float32]) -> dict[str, Any]:
    inside = probabilities > THRESHOLD
    confidence = float(probabilities[inside].mean()) if inside.any() else 0.0
    return {"probabilities": probabilities, "confidence": confidence}


def full_frame_mask(probabilities: NDArray[np.float32], frame: FrameContext) -> NDArray[np.uint8]:
    """Put the mask of a search region into its frame.

    Args:
        probabilities: (h, w) of the region, in [0, 1].
        frame: where the region was cut from.

    Returns:
        (H, W) uint8, 1 where the probability, interpolated, is above 0.5; 0 beyond the region.
    """
    width, height = frame.size
    mask = np.zeros((height, width), dtype=np.uint8)
    rows, columns = probabilities.shape
    across, down = frame.crop_size / columns, frame.crop_size / rows
    # from the map's cells to the crop's pixels, both named by their centres, and on to the frame's
    to_crop = np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])
    to_frame = frame.affine @ to_crop
    corners = to_frame @ np.array([[-0.5, columns - 0.5], [-0.5, rows - 0.5], [1, 1]])  # opposite ones
    first = np.maximum(np.ceil(corners.min(axis=1)), 0).astype(int)
    last = np.minimum(np.floor(corners.max(axis=1)), (width - 1, height - 1)).astype(int)
    if (last < first).any():
        return mask
    to_frame[:, 2] -= first
    across_window, down_window = last - first + 1
    part = cv2.warpAffine(
        probabilities,
        to_frame,
        (int(across_window), int(down_window)),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,  # the outer half of the outermost cells
    )
    mask[first[1] : last[1] + 1, first[0] : last[0] + 1] = part > THRESHOLD
    return mask


class MaskSession:
    """Turns the masks of search regions into masks of whole frames; keeps nothing between frames."""

    def update(self, answer: Any, frame: FrameContext) -> dict[str, Any]:
        """Return {"mask": COCO run-length object of the whole frame, "area": its pixels, "confidence": ...}.

        Args:
            answer: one frame's entry of `SegHead.decode`.
            frame: the frame.
        """
        mask = full_frame_mask(answer["probabilities"], frame)
        return {
            "mask": encode_mask(mask),
            "area": int(cv2.countNonZero(mask)),
            "confidence": answer["confidence"],
        }


class SegMetrics:
    """J and F (see `mtltrack.metrics.masks`) of the masks in the search region, at the labels' resolution."""

    MOST_EXAMPLES = 8

    def __init__(self) -> None:
        self.masks = MaskMetrics()
        self._examples: list[tuple[NDArray[np.float32], NDArray[np.uint8]]] = []

    def update(self, output: TaskOutput, labels: dict[str, Tensor]) -> None:
        """Add the labelled frames of a batch."""
        valid = labels["valid"]
        target = labels["mask"][valid]  # (N, H, W)
        if not len(target):
            return
        logits = output.predictions["logits"].detach()[valid].float()
        probabilities = _enlarge(logits, target.shape[-2:]).sigmoid()
        for predicted, true in zip(probabilities.cpu().numpy(), target.cpu().numpy(), strict=True):
            self.masks.update((predicted > THRESHOLD).astype(np.uint8), true)
            if len(self._examples) < self.MOST_EXAMPLES:
                self._examples.append((predicted, true))

    def collected(self) -> dict[str, Any]:
        """Return what was counted and drawn, for another process to `merge`."""
        return {"masks": self.masks.collected(), "examples": self._examples}

    def merge(self, collected: Mapping[str, Any]) -> None:
        """Add what another one `collected`, behind the own."""
        self.masks.merge(collected["masks"])
        self._examples = [*self._examples, *collected["examples"]][: self.MOST_EXAMPLES]

    def compute(self) -> dict[str, float]:
        """Return the mean J and F over the frames and the share of frames with J above 0.5, in [0, 1]."""
        scores = self.masks.compute()
        return {"J": scores["J_mean"], "F": scores["F_mean"], "J_recall": scores["J_recall"]}

    def figure(self, title: str = "") -> Any:
        """Draw some frames as a matplotlib figure: probabilities, and the labelled outline."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        count = max(len(self._examples), 1)
        figure = Figure(figsize=(1.8 * count, 2.2), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title)
        for axes, (predicted, true) in zip(
            figure.subplots(1, count, squeeze=False)[0], self._examples, strict=False
        ):
            axes.imshow(predicted, vmin=0.0, vmax=1.0, cmap="Blues")
            if 0 < true.mean() < 1:
                axes.contour(true, levels=[0.5], colors="red", linewidths=1.0)
            axes.set_axis_off()
        return figure

    def reset(self) -> None:
        self.masks.reset()
        self._examples.clear()
