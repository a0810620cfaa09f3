"""The alert task: whether the target has stood still for too long in a zone. See docs/alert.md."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mtltrack.core.errors import ConfigError, did_you_mean
from mtltrack.core.precision import in_full
from mtltrack.core.registry import HEADS
from mtltrack.core.rle import decode_mask
from mtltrack.core.stopping import Box, StopClock, StopRule, largest_overlap, unreachable_zones
from mtltrack.core.types import Clip, FrameContext, TaskOutput, Tokens
from mtltrack.core.zones import Zones
from mtltrack.losses.alert import GATES, alert_logit, alert_loss, stop_clock, stop_gate, zone_overlaps
from mtltrack.losses.boxes import boxes_cxcywh_to_xyxy
from mtltrack.metrics.events import EventScores, FrameScores, MismatchScores
from mtltrack.models.layers.places import boxes_in_frame, mask_boxes, mean_cell

CENTRES = ("straight_through", "soft", "argmax")
SOURCES = ("box", "mask")
SHARPNESS = {"soft": 20.0, "straight_through": 4.0}
"""e0 / delta of each gate, where SPEED_SCALE isn't given: a soft gate mustn't leak, not even with boxes that
tremble, and the gradient of a straight-through gate should reach speeds far from the threshold."""
ALERT = "alert"
_log = logging.getLogger(__name__)


@HEADS.register_module()
class AlertHead(nn.Module):
    """Soft form of the stop rule on the clip's boxes, zones and time stamps.

    The clip's clock starts from the label `stopped` of its first frame, without gradient: back-propagation
    through time ends there. Without labels it starts at 0 and knows no zone. Frames whose box is known to be
    absent hold the clock. The one parameter is the speed threshold, which can move between half and twice
    `speed`.

    Predictions (B, T): `logit` of the alert, `stopped` in seconds (soft), `overlap` in [0, 1], the largest of
    all zones, `speed` in sizes a second (0 in the first frame), `red` (bool, the soft decision),
    `hard_stopped` and `hard` (bool) by the hard rule on the same boxes, `seconds` since the clip's first
    frame. Features (B, T, 1, 3) in (0, 1): stood too long, lies in a zone, stands still.

    Args:
        seconds: tau_t, how long a target may stand still.
        overlap: tau_o in [0, 1), how much of it may lie in a zone.
        measure: ioa, iou or footprint, see `mtltrack.core.stopping.StopRule`.
        gate: straight_through or soft, see `mtltrack.losses.alert.stop_gate`.
        centre: where the centre comes from. straight_through: the box head's best cell, with the gradient of
            the score map's mean cell, so that training sees the centre that the rule will see and the score
            branch learns too; soft: the mean cell itself; argmax: the best cell, no gradient to the scores.
        source: what lies in a zone: the box, or the mask of the seg head (the box of the same first and
            second moments). The clock always runs on the box.
        seconds_scale: s_t, in seconds.
        overlap_scale: s_o.
        speed: e0 in box sizes a second: slower than this is standing still.
        speed_scale: delta of the gate; None for e0 / 20 (soft) or e0 / 4 (straight_through).
        gap: seconds that the target may be out of sight.
        step: shortest time in seconds over which a speed is measured, see `mtltrack.core.stopping.StopRule`.
        min_score: online, a frame with a lower score of the box head counts as one without the target.
    """

    task = "alert"
    reads: tuple[str, ...] = ("box",)
    decode_keys: tuple[str, ...] = ("logit", "stopped", "overlap", "speed")
    boundaries: ClassVar[dict[str, str]] = {
        "stopped": "the seconds before the clip are a number: back-propagation through time ends there"
    }

    def __init__(
        self,
        seconds: float = 120.0,
        overlap: float = 0.3,
        measure: str = "ioa",
        gate: str = "straight_through",
        centre: str = "straight_through",
        source: str = "box",
        seconds_scale: float = 2.0,
        overlap_scale: float = 0.05,
        speed: float = 0.15,
        speed_scale: float | None = None,
        gap: float = 10.0,
        step: float = 0.5,
        min_score: float = 0.1,
    ) -> None:
        super().__init__()
        scale = speed / SHARPNESS.get(gate, 1.0) if speed_scale is None else speed_scale
        _check_choices(GATE=(gate, GATES), CENTRE=(centre, CENTRES), SOURCE=(source, SOURCES))
        self.rule = StopRule(seconds, overlap, measure, speed, gap, step)
        _check_scales(SECONDS_SCALE=seconds_scale, OVERLAP_SCALE=overlap_scale, SPEED_SCALE=scale)
        if not 0 <= min_score <= 1:
            raise ConfigError(f"TASKS.alert.MIN_SCORE is {min_score}; it must be in [0, 1]")
        if source == "mask":
            self.reads = ("box", "seg")
        self.gate, self.centre, self.source = gate, centre, source
        self.seconds_scale, self.overlap_scale, self.speed_scale = seconds_scale, overlap_scale, scale
        self.min_score = min_score
        self.term_weights = {ALERT: 1.0}
        self.feature_channels = 3
        self.speed_shift = nn.Parameter(torch.zeros(()))

    def speed_threshold(self) -> Tensor:
        """Return the learned e0 in sizes a second, between half and twice the configured one."""
        return self.rule.speed * torch.exp2(torch.tanh(self.speed_shift))

    def forward(self, tokens: Tokens, upstream: Mapping[str, TaskOutput], clip: Clip) -> TaskOutput:
        """Run clock and overlap over the clip's frames."""
        del tokens
        boxes = in_full(upstream["box"].predictions["boxes_cxcywh"])  # (B, T, 4)
        boxes = torch.cat([self._centres(upstream["box"], boxes), boxes[..., 2:]], dim=-1)
        size = (clip.search.shape[-2], clip.search.shape[-1])
        framed = boxes_in_frame(boxes, clip.affine, size)
        zones, start, visible = _labels_of(clip, boxes.dtype)
        times = clip.timestamps - clip.timestamps[:, :1]
        threshold = self.speed_threshold()

        def run_clock(gate: str) -> tuple[Tensor, Tensor]:
            settings = self.speed_scale, self.rule.gap, self.rule.step, gate, visible
            return stop_clock(framed[..., :2], framed[..., 2:], times, start, threshold, *settings)

        stopped, speed = run_clock(self.gate)
        with torch.no_grad():
            hard, _ = run_clock("straight_through")
        if self.source == "mask":
            boxes = mask_boxes(in_full(upstream["seg"].predictions["logits"]), boxes)
        corners = boxes_cxcywh_to_xyxy(boxes_in_frame(boxes, clip.affine, size))
        overlap = zone_overlaps(corners, zones, self.rule.measure).amax(-1)  # (B, T)
        too_long = (stopped - self.rule.seconds) / self.seconds_scale
        in_zone = (overlap - self.rule.overlap) / self.overlap_scale
        still = stop_gate(speed, threshold, self.speed_scale, "soft")
        features = torch.stack([too_long.sigmoid(), in_zone.sigmoid(), still], dim=-1)[:, :, None]
        predictions = {
            "logit": alert_logit(too_long, in_zone),
            "stopped": stopped,
            "overlap": overlap,
            "speed": speed,
            "red": torch.minimum(too_long, in_zone) > 0,
            "hard_stopped": hard,
            "hard": (hard > self.rule.seconds) & (overlap > self.rule.overlap),
            "seconds": times,
        }
        return TaskOutput(features, predictions)

    def _centres(self, box: TaskOutput, boxes: Tensor) -> Tensor:
        """Return the targets' centres (B, T, 2) in [0, 1] of the crop."""
        if self.centre == "argmax":
            return boxes[..., :2]
        if "score_map" not in box.predictions:
            raise ConfigError(
                f"TASKS.alert.CENTRE is '{self.centre}', but this box head has no score map. "
                "Set TASKS.alert.CENTRE: argmax, or MODEL.HEAD.TYPE: CENTER."
            )
        scores, offsets = (in_full(box.predictions[name]) for name in ("score_map", "offset_map"))
        if self.centre == "soft":
            return mean_cell(scores, offsets)
        soft = mean_cell(scores, offsets.detach())  # the best cell's offset has its gradient already
        return boxes[..., :2] + (soft - soft.detach())

    def loss_terms(self, output: TaskOutput, labels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return {"alert": (B, T)}, binary cross-entropy on the logit.

        Args:
            output: the head's predictions.
            labels: `target` (B, T) bool.
        """
        return {ALERT: alert_loss(output.predictions["logit"], labels["target"])}

    def decode(self, output: TaskOutput) -> list[list[dict[str, float]]]:
        """Return, a clip and frame, `probability`, `stopped` (s), `overlap`, `speed` (sizes a second)."""
        values = dict(output.predictions)
        values["probability"] = values.pop("logit").float().sigmoid()
        rows = {name: value.tolist() for name, value in values.items()}
        batch, frames = values["probability"].shape
        return [
            [{name: row[b][t] for name, row in rows.items()} for t in range(frames)] for b in range(batch)
        ]

    def session(self, zones: Zones) -> AlertSession:
        """Start the hard rule on a video, with the learned speed threshold.

        Args:
            zones: name -> (V, 2) polygon in frame pixels.
        """
        rule = replace(self.rule, speed=float(self.speed_threshold().detach()))
        return AlertSession(rule, zones, min_score=self.min_score, from_mask=self.source == "mask")

    def metrics(self) -> AlertMetrics:
        return AlertMetrics()


def _check_choices(**choices: tuple[str, tuple[str, ...]]) -> None:
    for key, (value, allowed) in choices.items():
        if value not in allowed:
            near = did_you_mean(str(value), allowed)
            raise ConfigError(f"TASKS.alert.{key} is '{value}'; allowed: {', '.join(allowed)}.{near}")


def _check_scales(**scales: float) -> None:
    for key, value in scales.items():
        if not (value > 0 and math.isfinite(value)):
            raise ConfigError(f"TASKS.alert.{key} is {value}; it must be above 0 and finite")


def _labels_of(clip: Clip, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return zones (B, T, Z, V, 2), seconds stood still at the start (B,), and where the target is (B, T)."""
    labels, size = clip.labels.get(ALERT, {}), (clip.batch_size, clip.num_frames)
    zones, start = labels.get("zones"), labels.get("stopped")
    nothing = clip.affine.new_zeros(*size, 1, 3, 2, dtype=dtype)
    seconds = clip.affine.new_zeros(size[0], dtype=dtype) if start is None else start[:, 0].to(dtype)
    box = clip.labels.get("box")
    visible = None
    if box is not None:  # where no frame has a box, boxes are unlabelled, and nothing is said of the target
        visible = box["valid"] | ~box["valid"].any(dim=1, keepdim=True)
    return (nothing if zones is None else zones.to(dtype)), seconds, visible


class AlertSession:
    """The hard rule on one video, frame by frame.

    Args:
        rule: thresholds, measure, speed and gap.
        zones: name -> (V, 2) polygon in frame pixels; without any nothing alerts, and the clock still runs.
        min_score: a frame with a lower score is one without the target.
        from_mask: measure the overlap of the seg head's mask, where the frame has one.
    """

    def __init__(self, rule: StopRule, zones: Zones, min_score: float = 0.1, from_mask: bool = False) -> None:
        self.rule, self.zones, self.min_score, self.from_mask = rule, dict(zones), min_score, from_mask
        self.clock = StopClock(rule)
        self._place: tuple[float, str | None] = (0.0, None)
        self._warned = False

    def start(self, box_xywh: tuple[float, ...], timestamp: float) -> None:
        """Start the clock with the box that the tracker is started with."""
        left, top, width, height = box_xywh
        self.clock.update(np.array([left, top, left + width, top + height]), timestamp)

    def update(self, answer: Any, frame: FrameContext) -> dict[str, Any]:
        """Return the frame's alert, from the tracker's box.

        `alert` bool, `stopped` seconds, `overlap` in [0, 1], `zone` the name of the zone with the largest
        overlap or None, `speed` in sizes a second or None where there was no step. While the target is out
        of sight seconds and overlap are held, as long as the rule's gap allows.
        """
        del answer  # the crop's soft values; people get the hard rule
        left, top, width, height = frame.box_xywh
        seen = frame.score >= self.min_score
        box = np.array([left, top, left + width, top + height])
        stopped = self.clock.update(box if seen else None, frame.timestamp)
        if seen:
            self._warn_once(width * height)
            self._place = largest_overlap(self._shape(frame, box), self.zones, self.rule.measure)
        elif not stopped:
            self._place = (0.0, None)
        overlap, zone = self._place
        known = seen and not math.isnan(self.clock.speed)
        return {
            "alert": self.rule.is_red(stopped, overlap),
            "stopped": stopped,
            "overlap": overlap,
            "zone": zone,
            "speed": self.clock.speed if known else None,
        }

    def _shape(self, frame: FrameContext, box_xyxy: Box) -> Box:
        """Return the box whose overlap counts: the mask's, or the tracker's where there is no mask."""
        encoded = (frame.results.get("seg") or {}).get("mask") if self.from_mask else None
        if not encoded:
            return box_xyxy
        pixels = np.nonzero(decode_mask(encoded, "the mask of the seg head"))  # rows, columns
        if not len(pixels[0]):
            return box_xyxy
        y, x = (values + 0.5 for values in pixels)
        half_width, half_height = (math.sqrt(3 * (values.var() + 1 / 12)) for values in (x, y))
        centre_x, centre_y = x.mean(), y.mean()
        return np.array(
            [
                centre_x - half_width,
                centre_y - half_height,
                centre_x + half_width,
                centre_y + half_height,
            ]
        )

    def _warn_once(self, vehicle_area: float) -> None:
        if not self._warned:
            self._warned = True
            for message in unreachable_zones(self.zones, vehicle_area, self.rule):
                _log.warning("alert: %s", message)


class AlertMetrics:
    """Scores of the labelled frames; each clip is a timeline of its own.

    Of frames brier, of the probability, and f1, of the hard rule; of the hard rule's events event_precision,
    event_recall, event_f1, delay_median, delay_p95 and false_alarms_per_hour (`mtltrack.metrics.events`);
    between the soft and the hard rule mismatch_decisions, mismatch_seconds and mismatch_alert_time.
    """

    def __init__(self) -> None:
        self.frames, self.events, self.mismatch = FrameScores(), EventScores(), MismatchScores()

    def update(self, output: TaskOutput, labels: dict[str, Tensor]) -> None:
        values = {name: value.detach().cpu().numpy() for name, value in output.predictions.items()}
        probability = output.predictions["logit"].detach().double().sigmoid().cpu().numpy()
        valid, target = labels["valid"].cpu().numpy(), labels["target"].cpu().numpy()
        self.frames.update(probability[valid], values["hard"][valid], target[valid])
        for clip in np.flatnonzero(valid.any(axis=1)):
            keep = valid[clip]
            row = {name: value[clip][keep] for name, value in values.items()}
            self.events.update(row["hard"], target[clip][keep], row["seconds"])
            self.mismatch.update(row["red"], row["hard"], row["stopped"], row["hard_stopped"], row["seconds"])

    def compute(self) -> dict[str, float]:
        """Return the scores that can be told; those that need what wasn't seen are left out."""
        scores = {**self.frames.compute(), **self.events.compute(), **self.mismatch.compute()}
        return {name: value for name, value in scores.items() if not math.isnan(value)}

    def collected(self) -> list[dict[str, Any]]:
        """Return what was counted, for another process to `merge`."""
        return [scores.collected() for scores in (self.frames, self.events, self.mismatch)]

    def merge(self, collected: Sequence[Mapping[str, Any]]) -> None:
        """Add what another one `collected`, behind the own."""
        for scores, counts in zip((self.frames, self.events, self.mismatch), collected, strict=True):
            scores.merge(counts)

    def reset(self) -> None:
        for scores in (self.frames, self.events, self.mismatch):
            scores.reset()
