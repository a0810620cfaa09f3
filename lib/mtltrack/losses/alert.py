"""The alert's differentiable form: overlap of boxes with zones, a stop clock, the soft alert and its loss.

The hard rule that people rely on stands in `mtltrack.core.stopping`; everything here says the same of tensors
and lets the gradient through.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mtltrack.core.precision import in_full
from mtltrack.core.registry import LOSSES
from mtltrack.core.stopping import FOOTPRINT_SHARE, LEAST_SIDE, MEASURES

GATES = ("straight_through", "soft")
_ROUNDING = 8.0  # areas below this many roundings are zero


def polygon_areas(polygons: Tensor) -> Tensor:
    """Return the areas of simple polygons, (..., V, 2) -> (...), whichever way round they are listed."""
    centred = polygons - polygons[..., :1, :]
    following = centred.roll(-1, dims=-2)
    cross = centred[..., 0] * following[..., 1] - centred[..., 1] * following[..., 0]  # (..., V)
    return cross.sum(-1).abs() / 2


def box_polygon_areas(boxes_xyxy: Tensor, polygons: Tensor) -> Tensor:
    """Return the exact areas that boxes and simple polygons, convex or not, have in common.

    A polygon's part inside a box is what lies, column by column, between the box's upper side and the
    polygon's boundary cut to the box, counted plus or minus by the boundary's direction. Each edge is cut
    where it meets the box's sides; between the cuts the boundary is a straight line, whose mean is its
    middle. So the value is exact, and so is the gradient almost everywhere: moving a side changes the area by
    the length of it that lies in the polygon.

    Args:
        boxes_xyxy: (..., 4); without width or height the area is 0.
        polygons: (..., V, 2), the same unit. Vertices may be repeated; a polygon of one point has no area.

    Returns:
        (...) areas, broadcast; exactly 0, with zero gradient, where box and polygon are apart.
    """
    left, top, right, bottom = boxes_xyxy[..., None, :].unbind(-1)  # (..., 1) each
    width, height = (right - left).clamp(min=0), (bottom - top).clamp(min=0)
    x, y = polygons[..., 0] - left, polygons[..., 1] - top  # (..., V)
    dx, dy = x.roll(-1, dims=-1) - x, y.roll(-1, dims=-1) - y
    enter, leave = _stretch(x, dx, width)
    with torch.no_grad():  # the height is continuous where an edge meets the upper or lower side
        first, second = _stretch(y, dy, height)
    first = torch.minimum(torch.maximum(first, enter), leave)
    second = torch.minimum(torch.maximum(second, enter), leave)
    cuts = torch.stack([enter, first, second, leave], dim=-1)  # (..., V, 4)
    middles = y[..., None] + dy[..., None] * (cuts[..., 1:] + cuts[..., :-1]) / 2
    strips = torch.minimum(middles.clamp(min=0), height[..., None])  # (..., V, 3)
    area = ((cuts[..., 1:] - cuts[..., :-1]) * strips).sum(-1).mul(dx).sum(-1).abs()  # (...)
    noise = _ROUNDING * torch.finfo(area.dtype).eps * (dx.abs().sum(-1) * height[..., 0]).detach()
    return torch.where(area > noise, area, torch.zeros_like(area))


def _stretch(start: Tensor, length: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
    """Return the shares of an edge, in [0, 1], between which its coordinate lies in [0, side]."""
    parallel = length.abs() <= torch.finfo(length.dtype).eps * side
    slope = torch.where(parallel, torch.ones_like(length), length)
    at_start, at_end = -start / slope, (side - start) / slope
    enter = torch.minimum(at_start, at_end).clamp(0, 1)
    leave = torch.maximum(at_start, at_end).clamp(0, 1)
    inside = ((start > 0) & (start < side)).to(start.dtype)
    return torch.where(parallel, 0.0, enter), torch.where(parallel, inside, leave)


def zone_overlaps(boxes_xyxy: Tensor, zones: Tensor, measure: str = "ioa") -> Tensor:
    """Return the overlap of each box with each of its zones.

    Args:
        boxes_xyxy: (..., 4) frame pixels.
        zones: (..., Z, V, 2) polygons in frame pixels; the last vertex may be repeated, absent zones are all
            zero.
        measure: "ioa", "iou" or "footprint", see `mtltrack.core.stopping.StopRule`.

    Returns:
        (..., Z) in [0, 1]; 0 for absent zones and for boxes without area.
    """
    if measure not in MEASURES:
        raise ValueError(f"the measure of an overlap is {measure!r}; allowed: {', '.join(MEASURES)}")
    if measure == "footprint":
        left, top, right, bottom = boxes_xyxy.unbind(-1)
        boxes_xyxy = torch.stack([left, bottom - FOOTPRINT_SHARE * (bottom - top), right, bottom], dim=-1)
    sides = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0)
    area = sides.prod(-1)[..., None]  # (..., 1)
    common = box_polygon_areas(boxes_xyxy[..., None, :], zones)  # (..., Z)
    whole = area + polygon_areas(zones) - common if measure == "iou" else area.expand_as(common)
    some = area > 0
    return torch.where(some, common / torch.where(some, whole, torch.ones_like(whole)), 0.0).clamp(max=1)


def stop_gate(speed: Tensor, threshold: Tensor | float, scale: float, gate: str) -> Tensor:
    """Return how much a target of this speed stands still, in [0, 1].

    Args:
        speed: e in box sizes a second, any shape.
        threshold: e0, in the same unit.
        scale: delta of the sigmoid.
        gate: "soft" is sigmoid((e0 - e) / delta), which is never quite 1, so that a clock leaks: at 10 Hz,
            120 s read 15 s with e0 / delta = 5. "straight_through" is 1 or 0 by e < e0, with the soft gate's
            gradient.
    """
    if gate not in GATES:
        raise ValueError(f"the stop gate is {gate!r}; allowed: {', '.join(GATES)}")
    soft = torch.sigmoid((threshold - speed) / scale)
    if gate == "soft":
        return soft
    return (speed < threshold).to(soft.dtype) + (soft - soft.detach())


def stop_clock(
    centres: Tensor,
    sizes: Tensor,
    times: Tensor,
    start: Tensor,
    threshold: Tensor | float,
    scale: float,
    gap: float,
    step: float = 0.0,
    gate: str = "straight_through",
    visible: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run `mtltrack.core.stopping.StopClock` over clips, T <- q (T + dt), so that gradients pass.

    Args:
        centres: (B, T, 2) frame pixels.
        sizes: (B, T, 2) width and height in frame pixels; below one pixel they count as one.
        times: (B, T) seconds; a frame that isn't later than the last sighting leaves the clock as it is.
        start: (B,) seconds already stood still at each clip's first frame. No gradient passes into it: that
            is where back-propagation through time is cut.
        threshold: e0 in sizes a second.
        scale: delta of the gate.
        gap: seconds that the target may be out of sight.
        step: shortest time in seconds over which a speed is measured.
        gate: see `stop_gate`.
        visible: (B, T) bool, where the target is seen; None for everywhere.

    Returns:
        seconds (B, T) and speeds (B, T), 0 where there was no step.
    """
    if visible is None:
        visible = torch.ones(times.shape, dtype=torch.bool, device=times.device)
    sides = sizes.clamp(min=LEAST_SIDE)
    size = sides.prod(-1).sqrt()  # (B, T)
    stopped = start.detach().to(size.dtype)
    known = missed = torch.zeros_like(visible[:, 0])  # (B,)
    last, last_time, seen = centres[:, 0], times[:, 0], times[:, 0]
    seconds, speeds = [], []
    for i in range(times.shape[1]):
        here, passed = visible[:, i], times[:, i] - last_time
        forget = known & (missed | ~here) & (times[:, i] - seen > gap)
        stopped = torch.where(forget, torch.zeros_like(stopped), stopped)
        known = known & ~forget
        judged = known & here & (passed > 0) & (passed >= step)
        lapse = torch.where(judged, passed, torch.ones_like(passed)).to(size.dtype)
        speed = torch.linalg.vector_norm(centres[:, i] - last, dim=-1) / (size[:, i] * lapse)
        stood = stop_gate(speed, threshold, scale, gate) * (stopped + lapse)
        stopped = torch.where(judged, stood, stopped)
        seconds.append(stopped)
        speeds.append(torch.where(judged, speed, torch.zeros_like(speed)))
        begins = here & (judged | ~known)
        last = torch.where(begins[:, None], centres[:, i], last)
        last_time = torch.where(begins, times[:, i], last_time)
        seen = torch.where(here, times[:, i], seen)
        known, missed = known | here, ~here
    return torch.stack(seconds, dim=1), torch.stack(speeds, dim=1)


def alert_logit(duration: Tensor, overlap: Tensor) -> Tensor:
    """Return the logit of p = sigmoid(a) sigmoid(b), `-logsumexp(-a, -b, -a - b)`: finite at any a and b.

    Where both thresholds are met exactly p is 1/4, not 1/2: decide by min(a, b) > 0.

    Args:
        duration: a = (T - tau_t) / s_t.
        overlap: b = (o - tau_o) / s_o, the same shape.
    """
    return -torch.logsumexp(torch.stack([-duration, -overlap, -duration - overlap]), dim=0)


@LOSSES.register_module(name="ALERT")
def alert_loss(logit: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of the soft alert, logit and bool of one shape -> that shape."""
    logit = in_full(logit)
    return F.binary_cross_entropy_with_logits(logit, target.to(logit.dtype), reduction="none")
