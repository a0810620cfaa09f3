"""The differentiable layers against central differences, and the gates that are declared exclusions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from derivatives.comparison import BY_DIFFERENCES, Check, Outcome, by_differences, compare, normal, uniform
from derivatives.losses import random_boxes
from mtltrack.losses.alert import box_polygon_areas, stop_clock, stop_gate, zone_overlaps
from mtltrack.losses.boxes import boxes_cxcywh_to_xyxy
from mtltrack.models.layers.glimpse import boxes_in_view, take_glimpses
from mtltrack.models.layers.location import local_mean, sample_maps
from mtltrack.models.layers.places import boxes_in_frame, mask_boxes, mean_cell
from mtltrack.tasks.box import CornerHead
from mtltrack.tasks.box_distribution import DistributionHead

TOLERANCE = 1e-6
# a star, which isn't convex, and a triangle with its last corner repeated, in the unit square
ZONES = torch.tensor(
    [
        [[0.1, 0.15], [0.5, 0.35], [0.9, 0.12], [0.68, 0.52], [0.88, 0.93], [0.48, 0.71], [0.13, 0.87]],
        [[0.2, 0.1], [0.95, 0.33], [0.41, 0.9], [0.41, 0.9], [0.41, 0.9], [0.41, 0.9], [0.41, 0.9]],
    ],
    dtype=torch.float64,
)
VIEW = torch.tensor([[[0.5, 0.0, 0.2], [0.0, 0.6, 0.3]], [[-0.4, 0.0, 0.9], [0.0, 0.4, 0.1]]]).double()
CLOCK = {"threshold": 0.15, "scale": 0.05, "gap": 10.0, "step": 0.5}


def smooth_images() -> Tensor:
    """Return (2, 3, 16, 20) images."""
    return normal(2, 3, 16, 20, seed=8)


def crop_boxes() -> Tensor:
    """Return boxes (2, 4) cxcywh of these images: inside, and reaching beyond the edge."""
    return torch.tensor([[0.47, 0.53, 0.31, 0.42], [0.83, 0.22, 0.46, 0.37]], dtype=torch.float64)


def _crops() -> Iterator[tuple[str, Callable[[], tuple]]]:
    yield "crop", lambda: (lambda i, b: take_glimpses(i, b, (4, 6), 0.1), smooth_images(), crop_boxes())
    yield "boxes_in_view", lambda: (lambda b: boxes_in_view(b, VIEW), crop_boxes())
    yield (
        "sample_maps",
        lambda: (lambda m: sample_maps(m, VIEW, 3, 4), normal(2, 3, 4, 5)),
    )


def _overlaps() -> Iterator[tuple[str, Callable[[], tuple]]]:
    boxes = random_boxes(12, 20, smallest=0.2)[:, None]  # the share of a small box bends fast
    yield (
        "polygon_overlap",
        lambda: (lambda b, z: box_polygon_areas(b, z), random_boxes(12, 20)[:, None], ZONES.clone()),
    )
    for measure in ("ioa", "iou", "footprint"):
        yield (
            f"zone_overlap_{measure}",
            lambda measure=measure: (
                lambda b, z: zone_overlaps(b, z.expand(12, 1, *z.shape), measure),
                boxes,
                ZONES.clone(),
            ),
        )


def clock_inputs() -> tuple[Tensor, Tensor]:
    """Return centres and sizes (2, 6, 2) of targets that nearly stand still, 40 pixels large."""
    return 300 + normal(2, 6, 2, seed=9, scale=2.0), uniform(2, 6, 2, seed=10, low=30, high=50)


def run_clock(centres: Tensor, sizes: Tensor, threshold: Tensor, gate: str) -> Tensor:
    """Return seconds and speeds, (2, 2, 6); one frame comes too early, one is hidden."""
    times = torch.tensor([[0.0, 1.0, 2.0, 2.2, 3.5, 4.5], [0.0, 0.7, 1.9, 3.0, 4.0, 5.5]]).double()
    start = torch.tensor([50.0, 0.0]).double()
    visible = torch.ones(2, 6, dtype=torch.bool)
    visible[1, 2] = False
    settings = {**CLOCK, "threshold": threshold}
    return torch.stack(stop_clock(centres, sizes, times, start, gate=gate, visible=visible, **settings))


def _clock() -> Iterator[tuple[str, Callable[[], tuple]]]:
    threshold = torch.tensor(0.15, dtype=torch.float64)
    yield (
        "soft_clock",
        lambda: (lambda c, s, e: run_clock(c, s, e, "soft"), *clock_inputs(), threshold),
    )
    yield (
        "stop_gate_soft",
        lambda: (lambda v, e: stop_gate(v, e, 0.05, "soft"), uniform(9, high=0.4), threshold),
    )


def _places() -> Iterator[tuple[str, Callable[[], tuple]]]:
    yield (
        "soft_argmax",
        lambda: (
            mean_cell,
            uniform(2, 2, 1, 4, 5, low=0.02, high=0.98),
            normal(2, 2, 2, 4, 5, seed=1, scale=0.3),
        ),
    )
    yield (
        "local_mean",
        lambda: (
            lambda z, e: torch.cat([part.flatten() for part in local_mean(z, e, 1)]),
            normal(2, 2, 4, 5, scale=2),
            normal(2, 2, 3, 4, 5, seed=1),
        ),
    )
    yield "corner_soft_argmax", lambda: (_corners, normal(2, 9))
    yield "distribution_mean", lambda: (_sizes, normal(1, 8, 2, 2))
    yield "mask_boxes", lambda: (mask_boxes, normal(1, 2, 5, 6, scale=2), uniform(1, 2, 4))
    affine = torch.tensor([[1.5, 0.1, 20.0], [-0.2, 1.4, 7.0]], dtype=torch.float64)
    yield "boxes_in_frame", lambda: (lambda b: boxes_in_frame(b, affine, (64, 64)), uniform(5, 4))
    yield "box_corners", lambda: (boxes_cxcywh_to_xyxy, uniform(5, 4))


def _corners(logits: Tensor) -> Tensor:
    head = CornerHead(8, 3, hidden=8)
    return head._expected(logits.softmax(1))


def _sizes(logits: Tensor) -> Tensor:
    head = DistributionHead(8, 3, hidden=8)
    return head.read_sizes(logits)["size_map"]


# --- declared exclusions


def straight_through_gate() -> Outcome:
    """Forward the hard gate, exactly; backward the soft gate's slope."""
    speed, threshold = uniform(9, high=0.4), torch.tensor(0.15, dtype=torch.float64)

    def gate(kind: str) -> Callable[..., Tensor]:
        return lambda v, e: stop_gate(v, e, 0.05, kind)

    forward = gate("straight_through")(speed, threshold)
    slopes = []
    for kind in ("straight_through", "soft"):
        inputs = [speed.clone().requires_grad_(), threshold.clone().requires_grad_()]
        slopes.append(torch.autograd.grad(gate(kind)(*inputs).sum(), inputs))
    hard = (speed < threshold).double()
    outcome = compare((forward, hard), *zip(*slopes, strict=True))
    outcome.note = "value of the hard gate, slope of the soft one"
    return outcome


def straight_through_clock() -> Outcome:
    """The clock with hard gates: what differences see once each gate's soft part is held."""
    threshold = torch.tensor(0.15, dtype=torch.float64)
    return by_differences(
        lambda c, s, e: run_clock(c, s, e, "straight_through"), *clock_inputs(), threshold, hold=True
    )


def truncation() -> Outcome:
    """No gradient into the seconds that a clip begins with: there back-propagation through time ends."""
    centres, sizes = clock_inputs()
    start = torch.tensor([50.0, 20.0], dtype=torch.float64, requires_grad=True)
    moving = centres.requires_grad_()
    seconds, _ = stop_clock(
        moving, sizes, torch.arange(6.0).expand(2, 6).double(), start, gate="soft", **CLOCK
    )
    found = torch.autograd.grad(seconds.sum(), [start, moving], allow_unused=True)
    reached = torch.tensor([found[0] is not None, float(found[1].abs().sum()) > 0]).double()
    return compare((reached, torch.tensor([0.0, 1.0]).double()))


def checks() -> list[Check]:
    """Return one check a layer, and those of the exclusions."""
    found = [
        Check(f"layers/{name}", BY_DIFFERENCES, TOLERANCE, lambda make=make: by_differences(*make()))
        for group in (_crops, _overlaps, _clock, _places)
        for name, make in group()
    ]
    return [
        *found,
        Check("exclusions/straight_through_gate", "hard value, soft slope", 1e-12, straight_through_gate),
        Check(
            "exclusions/straight_through_clock",
            f"{BY_DIFFERENCES}, gates held",
            TOLERANCE,
            straight_through_clock,
        ),
        Check("exclusions/clock_start", "no gradient", 0.0, truncation),
    ]
