"""Tracking online: one frame in, one box out, and what the task heads say about the frame."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtltrack.core.types import BOX, Clip, FrameContext
from mtltrack.core.zones import check_polygon
from mtltrack.data.crops import crop_affine, sample_target, transform_image_to_crop
from mtltrack.evaluation.arithmetic import Arithmetic
from mtltrack.evaluation.sessions import TaskSessions, asked_tasks
from mtltrack.evaluation.targets import Target, View, check_first_box, check_frame
from mtltrack.evaluation.transfer import Predictions, Uploader, joined, row_of, to_host
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
        net: the tracker; it is put into evaluation mode, and its layers keep their weights packed where that
            is faster (TEST.PACK_WEIGHTS, see `mtltrack.models.packed`).
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
        self._upload = Uploader(self.device, list(cfg.DATA.MEAN), list(cfg.DATA.STD))
        self.template_size, self.template_factor = cfg.TEST.TEMPLATE_SIZE, cfg.TEST.TEMPLATE_FACTOR
        self.search_size, self.search_factor = cfg.TEST.SEARCH_SIZE, cfg.TEST.SEARCH_FACTOR
        self.tasks = asked_tasks(net.graph, cfg.TEST.TASKS if tasks is None else tasks)
        self._running: dict[str, Any] = {task: net.graph.heads[task] for task in net.graph.needed(self.tasks)}
        needs_detail = any(getattr(head, "needs_detail", False) for head in self._running.values())
        self.detail = cfg.DATA.DETAIL if needs_detail else None
        self.fps = cfg.TEST.FPS
        self.arithmetic = Arithmetic.of(cfg, self.device)
        self.arithmetic.prepare(self.net)
        self.window = hann_window(self.search_size // cfg.MODEL.BACKBONE.STRIDE).to(self.device)
        self._target: Target | None = None
        self._told_fps = False

    @property
    def state(self) -> list[float] | None:
        """The box of the frame before, x, y, w, h in pixels; None before `initialize`."""
        return None if self._target is None else self._target.box_xywh

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
        self._target = self.start(rgb, box_xywh, timestamp, zones)

    def start(
        self,
        rgb: np.ndarray,
        box_xywh: Sequence[float],
        timestamp: float | None = None,
        zones: Mapping[str, Any] | None = None,
    ) -> Target:
        """Return a target for `track_together`; arguments and errors are those of `initialize`."""
        check_frame(rgb)
        box = check_first_box(box_xywh)
        polygons = {name: check_polygon(points, f"zone '{name}'") for name, points in (zones or {}).items()}
        began = 0.0 if timestamp is None else float(timestamp)
        sessions = TaskSessions(self._running, self.tasks, polygons, box, began)
        crop, factor = sample_target(rgb, box, self.template_factor, self.template_size)
        exact = torch.tensor(box)
        template_box = transform_image_to_crop(exact, exact, factor, self.template_size)
        return Target(
            template=self._upload.images([crop]),
            template_box=template_box[None].to(self.device),
            memory=self.net.new_memory(),
            sessions=sessions,
            box_xywh=box,
            start=began,
            last_timestamp=began,
        )

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
        if self._target is None:
            raise RuntimeError("call initialize(rgb, box_xywh) before track(rgb)")
        answer = self.track_together([self._target], [rgb], [timestamp])[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def track_together(
        self,
        targets: Sequence[Target],
        images: Sequence[np.ndarray],
        timestamps: Sequence[float | None],
    ) -> list[dict[str, Any] | Exception]:
        """Find each target in the next frame of its own video, all in one batch.

        Args:
            targets: from `start`; they may be at different frames.
            images: a frame (H, W, 3) uint8 for each; the videos' sizes may differ.
            timestamps: of these frames, see `track`.

        Returns:
            For each target what `track` returns, or the error that `track` would raise. An error ends that
            video alone, except that a device without room for the batch ends them all.
        """
        found: list[Any] = []
        for target, rgb, timestamp in zip(targets, images, timestamps, strict=True):
            try:
                found.append(self._look(target, rgb, timestamp))
            except Exception as error:  # it is the answer for this video
                found.append(error)
        seen = [number for number, view in enumerate(found) if isinstance(view, View)]
        views = [found[number] for number in seen]
        predictions = self._predict([targets[number] for number in seen], views)
        for number, view, answers in zip(seen, views, predictions, strict=True):
            found[number] = answers
            if not isinstance(answers, Exception):
                try:
                    found[number] = self._answer(targets[number], view, answers)
                except Exception as error:  # as above
                    found[number] = error
        return found

    def _look(self, target: Target, rgb: np.ndarray, timestamp: float | None) -> View:
        """Cut the next frame around the box of the one before."""
        check_frame(rgb)
        target.advance(self._time(target, timestamp))
        box = target.box_xywh
        crop, factor = sample_target(rgb, box, self.search_factor, self.search_size)
        affine = crop_affine(box, self.search_factor, self.search_size)
        detail = None
        if self.detail is not None:
            place = self.detail.FACTOR, self.detail.SIZE
            detail = sample_target(rgb, box, *place)[0], crop_affine(box, *place)
        return View(crop, affine, factor, (rgb.shape[1], rgb.shape[0]), detail)

    def _predict(self, targets: Sequence[Target], views: Sequence[View]) -> list[Predictions | Exception]:
        """Run the network; return the predictions for each target, or what went wrong.

        When a batch fails, nothing was written to a memory yet, so that each target is run alone to see whose
        fault it is.
        """
        if not targets:
            return []
        count = len(targets)
        try:
            return list(self._run(targets, views))
        except Exception as error:  # it is the answer for this video, or for one of them
            failure = error
        if count == 1:
            return [failure]
        if isinstance(failure, torch.OutOfMemoryError):
            return [_of_batch(failure, f"the device has no memory for {count} videos in one batch")] * count
        alone = [self._predict([target], [view])[0] for target, view in zip(targets, views, strict=True)]
        if any(isinstance(answers, Exception) for answers in alone):
            return alone
        return [_of_batch(failure, f"a batch of {count} videos fails, though each alone doesn't")] * count

    def _run(self, targets: Sequence[Target], views: Sequence[View]) -> list[Predictions]:
        clip = self._clip(targets, views)
        indices, memories = [target.frame_index for target in targets], [target.memory for target in targets]
        with self.arithmetic.applied():
            outputs = self.net.track_videos(clip, indices, memories, self.tasks, self._windowed_box)
            found = outputs[BOX].predictions
            packed = {BOX: {"boxes": found["boxes_cxcywh"][:, 0], "score": self._score(found)}}
            for task, head in self._running.items():
                packed[task] = {name: outputs[task].predictions[name] for name in head.decode_keys}
            answers = to_host(packed)
        return [row_of(answers, row) for row in range(len(targets))]

    def _answer(self, target: Target, view: View, answers: Predictions) -> dict[str, Any]:
        """Map a target's box to its frame, note it, and ask the heads' sessions."""
        box = answers[BOX]["boxes"][0] * self.search_size / view.factor
        width, height = view.size
        placed = self._to_frame(target.box_xywh, box.tolist(), view.factor)
        target.box_xywh = clip_box(placed, height, width, margin=MARGIN)
        x, y, w, h = (float(value) for value in target.box_xywh)
        told = float(answers[BOX]["score"][0])
        frame = FrameContext(
            target.frame_index,
            target.last_timestamp,
            view.size,
            (x, y, w, h),
            told,
            view.affine,
            self.search_size,
        )
        tasks = target.sessions.results(answers, frame)
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

    def _to_frame(
        self, before_xywh: Sequence[float], box_cxcywh: Sequence[float], factor: float
    ) -> list[float]:
        """Map a box from the search region (frame scale, its own origin) to the frame's pixels, xywh."""
        cx, cy, w, h = box_cxcywh
        half = 0.5 * self.search_size / factor
        left = before_xywh[0] + 0.5 * before_xywh[2] - half
        top = before_xywh[1] + 0.5 * before_xywh[3] - half
        return [cx + left - 0.5 * w, cy + top - 0.5 * h, w, h]

    def _clip(self, targets: Sequence[Target], views: Sequence[View]) -> Clip:
        clip = Clip(
            template=joined([target.template for target in targets]),
            template_boxes_xywh=joined([target.template_box for target in targets]),
            search=self._upload.images([view.crop for view in views])[:, None],
            affine=self._upload.affines([view.affine for view in views]),
            timestamps=self._upload.times([target.last_timestamp for target in targets]),
        )
        details = [view.detail for view in views if view.detail is not None]
        if details:
            clip.detail = self._upload.images([crop for crop, _ in details])[:, None]
            clip.detail_affine = self._upload.affines([affine for _, affine in details])
        return clip

    def _time(self, target: Target, given: float | None) -> float:
        if given is not None:
            return float(given)
        if not self._told_fps:
            _log.info("no time stamps given: assuming TEST.FPS = %g frames a second", self.fps)
            self._told_fps = True
        return target.start + (target.frame_index + 1) / self.fps


def _of_batch(cause: Exception, text: str) -> Exception:
    """Return the error of all videos of a batch."""
    error = RuntimeError(f"{text}: {type(cause).__name__}: {cause}; give a smaller --batch")
    error.__cause__ = cause
    return error
