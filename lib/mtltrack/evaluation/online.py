"""Tracking online: one frame in, one box out, and what the task heads say about the frame."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtltrack.core.precision import half_type
from mtltrack.core.types import Clip, FrameContext, normalise
from mtltrack.core.zones import check_polygon
from mtltrack.data.crops import crop_affine, sample_target, transform_image_to_crop
from mtltrack.evaluation.sessions import TaskSessions, asked_tasks
from mtltrack.models.tracker import Tracker
from mtltrack.tasks.box import decode_center

MARGIN = 10  # pixels of the box that always stay in the frame, and its least side
_log = logging.getLogger(__name__)


def hann_window(size: int, centred: bool = True) -> Tensor:
    """Return the (size, size) window that punishes large displacements.

    Args:
        size: cells along each side of the score map.
        centred: peak in the middle; otherwise at the corners, wrapped around.
    """
    if centred:
        line = torch.hann_window(size + 2, periodic=False)[1:-1]
    else:
        half = torch.hann_window(size + 2, periodic=True)[(size + 2) // 2 :]
        half = torch.cat([half, torch.zeros(1)])[: size // 2 + 1]
        line = torch.cat([half, half[1 : size - size // 2].flip(0)])
    return line[:, None] * line[None, :]


def clip_box(box_xywh: Sequence[float], height: float, width: float, margin: float = 0) -> list[float]:
    """Clip a box into a frame, leaving at least `margin` pixels of it inside.

    Args:
        box_xywh: pixels.
        height: of the frame.
        width: of the frame.
        margin: pixels that stay inside, and the least side of the result.
    """
    x, y, w, h = box_xywh
    x1, x2 = min(max(0, x), width - margin), min(max(margin, x + w), width)
    y1, y2 = min(max(0, y), height - margin), min(max(margin, y + h), height)
    return [x1, y1, max(margin, x2 - x1), max(margin, y2 - y1)]


class OnlineTracker:
    """Track one target through a video.

    `initialize` starts a sequence and forgets the one before; nothing else is kept. A frame costs one copy
    from the device to the host: box, score and the heads' answers together.

    Args:
        net: the tracker; it is put into evaluation mode.
        cfg: its configuration (`load_config`).
        device: where to run; None for the device that `net` is on.
        tasks: the heads that are asked; they and those that they read are the only ones that run. None for
            TEST.TASKS, and that absent for all heads.

    Raises:
        ConfigError: `tasks` or TEST.TASKS names a head that isn't there; TEST.PRECISION is fp16 on a CPU.
    """

    def __init__(
        self,
        net: Tracker,
        cfg: Any,
        device: str | torch.device | None = None,
        tasks: Iterable[str] | None = None,
    ) -> None:
        self.device = torch.device(device) if device is not None else next(net.parameters()).device
        self.net = net.to(self.device).eval()
        self.mean, self.std = list(cfg.DATA.MEAN), list(cfg.DATA.STD)
        self.template_size, self.template_factor = cfg.TEST.TEMPLATE_SIZE, cfg.TEST.TEMPLATE_FACTOR
        self.search_size, self.search_factor = cfg.TEST.SEARCH_SIZE, cfg.TEST.SEARCH_FACTOR
        self.tasks = asked_tasks(net.graph, cfg.TEST.TASKS if tasks is None else tasks)
        self._running: dict[str, Any] = {task: net.graph.heads[task] for task in net.graph.needed(self.tasks)}
        needs_detail = any(getattr(head, "needs_detail", False) for head in self._running.values())
        self.detail = cfg.DATA.DETAIL if needs_detail else None
        self.fps = cfg.TEST.FPS
        self.precision = half_type(cfg.TEST.PRECISION, self.device, "TEST.PRECISION")
        self.window = hann_window(self.search_size // cfg.MODEL.BACKBONE.STRIDE).to(self.device)
        self.state: list[float] | None = None
        self._told_fps = False

    def initialize(
        self,
        rgb: np.ndarray,
        box_xywh: Sequence[float],
        timestamp: float | None = None,
        zones: Mapping[str, Any] | None = None,
    ) -> None:
        """Start a sequence.

        Args:
            rgb: (H, W, 3) uint8 first frame.
            box_xywh: the target in it, 0-based pixels.
            timestamp: seconds; None assumes TEST.FPS frames a second from 0 on.
            zones: name -> (V, 2) polygon in 0-based frame pixels, an array or a list of points, for heads
                that need zones.

        Raises:
            ValueError: the frame isn't uint8 RGB, or the box isn't four finite numbers with a positive size.
            DataError: a zone is no polygon.
        """
        _check_frame(rgb)
        box = [float(value) for value in box_xywh]
        if len(box) != 4 or not all(map(math.isfinite, box)) or box[2] <= 0 or box[3] <= 0:
            raise ValueError(
                f"the first box must be [x, y, w, h] with w > 0 and h > 0, found {list(box_xywh)}"
            )
        polygons = {name: check_polygon(points, f"zone '{name}'") for name, points in (zones or {}).items()}
        self._start = 0.0 if timestamp is None else float(timestamp)
        self._sessions = TaskSessions(self._running, self.tasks, polygons, box, self._start)
        crop, factor = sample_target(rgb, box, self.template_factor, self.template_size)
        self._template = self._upload(crop)
        exact = torch.tensor(box)
        template_box = transform_image_to_crop(exact, exact, factor, self.template_size)
        self._template_box = template_box[None].to(self.device)
        self._memory = self.net.new_memory()
        self.state = box
        self.frame_index = 0
        self._last_timestamp = self._start

    def track(self, rgb: np.ndarray, timestamp: float | None = None) -> dict[str, Any]:
        """Find the target in the next frame.

        Args:
            rgb: (H, W, 3) uint8.
            timestamp: seconds, later than the frame before; None assumes TEST.FPS.

        Returns:
            target_bbox: [x, y, w, h] in pixels of the frame.
            score: the score map at the chosen cell, in [0, 1].
            tasks: one entry for each head that is asked: what its session makes of the frame, or what its
                `decode` says of the crop where it has none.

        Raises:
            RuntimeError: `initialize` wasn't called, or a head fails, which is named with the frame.
            ValueError: the frame isn't uint8 RGB, or the time stamp doesn't increase.
        """
        if self.state is None:
            raise RuntimeError("call initialize(rgb, box_xywh) before track(rgb)")
        _check_frame(rgb)
        time = self._timestamp(timestamp, self.frame_index + 1)
        clip, affine, factor = self._clip(rgb, time)
        self.frame_index += 1
        with torch.inference_mode(), self._autocast():
            outputs = self.net.track(clip, self.frame_index, self._memory, self.tasks, self._windowed_box)
            found = outputs["box"].predictions
            packed = {"box": {"boxes": found["boxes_cxcywh"][:, 0], "score": self._score(found)}}
            for task, head in self._running.items():
                packed[task] = {name: outputs[task].predictions[name] for name in head.decode_keys}
            answers = _to_host(packed)
        box = answers["box"]["boxes"][0] * self.search_size / factor
        height, width = rgb.shape[:2]
        self.state = clip_box(self._to_frame(box.tolist(), factor), height, width, margin=MARGIN)
        x, y, w, h = (float(value) for value in self.state)
        told = float(answers["box"]["score"][0])
        frame = FrameContext(
            self.frame_index, time, (width, height), (x, y, w, h), told, affine, self.search_size
        )
        tasks = self._sessions.results(answers, frame)
        return {"target_bbox": [x, y, w, h], "score": told, "tasks": tasks}

    def _windowed_box(self, predictions: Mapping[str, Tensor]) -> Tensor:
        """Read the box (B, 4) where the score weighed by the window is highest."""
        if "score_map" not in predictions:
            return predictions["boxes_cxcywh"]
        scores, sizes, offsets = (predictions[name] for name in ("score_map", "size_map", "offset_map"))
        return decode_center(self.window * scores, sizes, offsets)[0]

    def _score(self, predictions: Mapping[str, Tensor]) -> Tensor:
        """Return the score (B,) at the cell that the box was read at, not weighed by the window."""
        if "score_map" not in predictions:
            return predictions["scores"][:, 0]
        scores = predictions["score_map"][:, 0]
        cell = (self.window * scores).flatten(1).argmax(1, keepdim=True)
        return scores.flatten(1).gather(1, cell)[:, 0]

    def _to_frame(self, box_cxcywh: Sequence[float], factor: float) -> list[float]:
        """Map a box from the search region (frame scale, its own origin) to the frame's pixels, xywh."""
        assert self.state is not None
        cx, cy, w, h = box_cxcywh
        half = 0.5 * self.search_size / factor
        left = self.state[0] + 0.5 * self.state[2] - half
        top = self.state[1] + 0.5 * self.state[3] - half
        return [cx + left - 0.5 * w, cy + top - 0.5 * h, w, h]

    def _clip(self, rgb: np.ndarray, timestamp: float) -> tuple[Clip, np.ndarray, float]:
        """Cut the frame around the box of the one before: the clip, the crop's affine and its scale."""
        assert self.state is not None
        crop, factor = sample_target(rgb, self.state, self.search_factor, self.search_size)
        affine = crop_affine(self.state, self.search_factor, self.search_size)
        clip = Clip(
            template=self._template,
            template_boxes_xywh=self._template_box,
            search=self._upload(crop)[:, None],
            affine=self._upload_affine(affine),
            timestamps=torch.tensor([[timestamp]], dtype=torch.float64).to(self.device, non_blocking=True),
        )
        if self.detail is not None:
            factor_size = self.detail.FACTOR, self.detail.SIZE
            clip.detail = self._upload(sample_target(rgb, self.state, *factor_size)[0])[:, None]
            clip.detail_affine = self._upload_affine(crop_affine(self.state, *factor_size))
        return clip, affine, factor

    def _upload_affine(self, affine: np.ndarray) -> Tensor:
        """Send an affine to the device, (2, 3) float64 -> (1, 1, 2, 3) float32."""
        return torch.from_numpy(affine).float()[None, None].to(self.device, non_blocking=True)

    def _upload(self, crop: np.ndarray) -> Tensor:
        """Send a uint8 crop to the device and normalise it there, (H, W, 3) -> (1, 3, H, W)."""
        pixels = torch.from_numpy(crop)
        if self.device.type == "cuda":
            pixels = pixels.pin_memory().to(self.device, non_blocking=True)
        return normalise(pixels.permute(2, 0, 1)[None], self.mean, self.std)

    def _timestamp(self, given: float | None, index: int) -> float:
        if given is None:
            if not self._told_fps:
                _log.info("no time stamps given: assuming TEST.FPS = %g frames a second", self.fps)
                self._told_fps = True
            given = self._start + index / self.fps
        if given <= self._last_timestamp:
            raise ValueError(
                f"time stamps must increase: frame {index} is at {given} s, the one before at "
                f"{self._last_timestamp} s"
            )
        self._last_timestamp = float(given)
        return self._last_timestamp

    def _autocast(self) -> Any:
        if self.precision is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)


def _check_frame(rgb: np.ndarray) -> None:
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        found = f"{rgb.dtype} {rgb.shape}" if isinstance(rgb, np.ndarray) else type(rgb).__name__
        raise ValueError(f"a frame must be a uint8 RGB array (H, W, 3), found {found}")


def _to_host(packed: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Copy all tensors to the host in one go."""
    flat = torch.cat([value.float().flatten() for entry in packed.values() for value in entry.values()]).cpu()
    unpacked: dict[str, dict[str, Tensor]] = {}
    start = 0
    for task, entry in packed.items():
        unpacked[task] = {}
        for name, value in entry.items():
            unpacked[task][name] = flat[start : start + value.numel()].view(value.shape)
            start += value.numel()
    return unpacked
