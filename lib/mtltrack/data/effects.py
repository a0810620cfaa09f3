"""Effects that a condition has on the picture of a scene, defined in pixels of the frame.

An effect is drawn once for a frame and rendered into every view that is cut from it (the search crop, the
detail view): each view comes with the matrix (2, 3) that maps its pixels (x, y, 1) to the frame's. Views are
scaled and perhaps mirrored, never turned.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mtltrack.data.pixels import (
    Image,
    Points,
    blend,
    carry_over,
    change_light,
    coarsen,
    hard_box,
    smear,
    soft_box,
)

GRID = 24  # points a side of a box on which a share of it is measured


class Effect:
    """No effect; what an effect can say of itself.

    Attributes:
        opaque: whether it hides parts of the scene, see `hides`.
        finest: size in frame pixels of the smallest thing that can still be told apart; 0: as before.
    """

    opaque = False
    finest = 0.0

    def render(self, image: Image, affine: Points) -> Image:  # noqa: ARG002  # shared by all effects
        """Return a view (h, w, 3) uint8 RGB with the effect; `image` itself is left as it is."""
        return image

    def hides(self, points_xy: Points) -> NDArray[np.bool_]:
        """Return which points (N, 2), pixel indices of the frame, can no longer be seen: (N,)."""
        return np.zeros(len(points_xy), dtype=bool)

    def visible_box(self, box_xyxy: Points) -> Points:
        """Return what is left of a box (4,) in frame pixels when the frame's border changes."""
        return box_xyxy

    def hidden_pixels(self, affine: Points, size: int) -> NDArray[np.bool_]:
        """Return (size, size) bool, which pixels of a view it hides."""
        rows, columns = np.indices((size, size)).reshape(2, -1)
        return self.hides(to_frame(np.stack([columns, rows], axis=1), affine)).reshape(size, size)


def render_view(effect: Effect, image: Image, affine: Points, frame_size: tuple[int, int]) -> Image:
    """Return a view with an effect; the padding beyond the frame stays as it is.

    Args:
        effect: what to render.
        image: (size, size, 3) uint8 RGB; left as it is.
        affine: (2, 3) view pixel -> frame pixel.
        frame_size: width and height of the frame in pixels.
    """
    part = inside(affine, frame_size, image.shape[:2])
    shown = image[part]
    if type(effect) is Effect or not shown.size:
        return image
    moved = affine.copy()
    moved[:, 2] = affine @ [part[1].start, part[0].start, 1]
    result = image.copy()
    result[part] = effect.render(shown, moved)
    return result


def inside(affine: Points, frame_size: tuple[int, int], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return rows and columns of a view whose pixels show the frame."""
    low, high = view_box(np.array([0.0, 0.0, *frame_size]), affine)
    first = np.clip(np.ceil(low - 0.5), 0, shape[1::-1]).astype(int)
    last = np.clip(np.floor(high - 0.5) + 1, first, shape[1::-1]).astype(int)
    return slice(first[1], last[1]), slice(first[0], last[0])


def to_frame(points_xy: Points, affine: Points) -> Points:
    """Map pixel indices (N, 2) of a view to pixel indices of the frame."""
    return points_xy @ affine[:, :2].T + affine[:, 2]


def to_view(points_xy: Points, affine: Points) -> Points:
    """Map pixel indices (N, 2) of the frame to pixel indices of a view."""
    return (points_xy - affine[:, 2]) / affine.diagonal()


@dataclass(frozen=True)
class Light(Effect):
    """More or less light: factor 2^stops, saturating softly."""

    stops: float

    def render(self, image: Image, affine: Points) -> Image:  # noqa: ARG002
        return change_light(image, self.stops)


@dataclass(frozen=True)
class Coarseness(Effect):
    """A camera with fewer pixels: `cell` frame pixels become one."""

    cell: float

    @property
    def finest(self) -> float:  # type: ignore[override]
        return self.cell

    def render(self, image: Image, affine: Points) -> Image:
        return coarsen(image, self.cell / abs(affine[0, 0]))


@dataclass(frozen=True)
class Smear(Effect):
    """Motion during the exposure: the mean over a path.

    Attributes:
        path: (P, 2) places in frame pixels relative to the middle of the exposure.
        box_xyxy: what moved; None for the whole picture, when the camera did.
    """

    path: Points
    box_xyxy: Points | None = None

    @property
    def finest(self) -> float:  # type: ignore[override]
        return float(np.ptp(self.path, axis=0).max())

    @property
    def length(self) -> float:
        """Length of the path in frame pixels."""
        return float(np.linalg.norm(np.diff(self.path, axis=0), axis=1).sum())

    def render(self, image: Image, affine: Points) -> Image:
        steps = self.path / affine.diagonal()
        if self.box_xyxy is None:
            return smear(image, steps)
        low, high = view_box(self.box_xyxy, affine)
        reach = np.abs(steps).max(axis=0)
        return blend(image, smear(image, steps), soft_box(low - reach, high + reach, image.shape[:2]))


@dataclass(frozen=True)
class Fade(Effect):
    """A target that looks like what is around it.

    Attributes:
        opacity: share of the target's own look that is left, in [0, 1].
        box_xyxy: the target's box in frame pixels.
    """

    opacity: float
    box_xyxy: Points

    def render(self, image: Image, affine: Points) -> Image:
        part, low, high = self._around(image, affine)
        result = image.copy()
        share = (1 - self.opacity) * soft_box(low, high, image[part].shape[:2])
        result[part] = blend(image[part], carry_over(image[part], low, high), share)
        return result

    def contrast(self, image: Image, affine: Points) -> float:
        """Return how much the faded target differs from its surroundings: levels of 255, rms over the box.

        Args:
            image: a view without the effect that shows part of the target.
            affine: its matrix.
        """
        part, low, high = self._around(image, affine)
        target = hard_box(low, high, image[part].shape[:2]) > 0
        difference = image[part][target].astype(np.float32) - carry_over(image[part], low, high)[target]
        return self.opacity * float(np.sqrt(np.mean(difference**2))) if difference.size else 0.0

    def _around(self, image: Image, affine: Points) -> tuple[tuple[slice, slice], Points, Points]:
        """Return the part of a view within a target's size of the target, and the target's box in it."""
        low, high = view_box(self.box_xyxy, affine)
        limits = np.array(image.shape[1::-1])
        first = np.clip(np.floor(2 * low - high), 0, limits - 1).astype(int)
        last = np.clip(np.ceil(2 * high - low), first + 1, limits).astype(int)
        return (slice(first[1], last[1]), slice(first[0], last[0])), low - first, high - first


@dataclass(frozen=True)
class Bar(Effect):
    """Something that stands before the target: a post, a rail, a branch.

    Attributes:
        centre: (2,) frame pixel index.
        along: (2,) half of its length as a vector in frame pixels.
        across: (2,) half of its width.
        texture: (h, w, 3) uint8, its look; the width runs along.
    """

    centre: Points
    along: Points
    across: Points
    texture: Image
    opaque = True

    def render(self, image: Image, affine: Points) -> Image:
        corners = [
            self.centre + a * self.along + b * self.across for a, b in ((1, 1), (-1, 1), (-1, -1), (1, -1))
        ]
        mask = np.zeros(image.shape[:2], dtype=np.uint8)
        outline = np.round(to_view(np.array(corners), affine) * 16).astype(np.int32)
        cv2.fillConvexPoly(mask, outline, 255, cv2.LINE_AA, shift=4)
        height, width = self.texture.shape[:2]
        # (texture pixel - middle) / half = coordinate along and across, each in [-1, 1] on the bar
        basis = np.linalg.inv(np.stack([self.along, self.across], axis=1))
        scale = np.diag([(width - 1) / 2, (height - 1) / 2]) @ basis
        matrix = scale @ np.column_stack([affine[:, :2], affine[:, 2] - self.centre])
        matrix[:, 2] += [(width - 1) / 2, (height - 1) / 2]
        look = cv2.warpAffine(
            self.texture,
            matrix,
            (image.shape[1], image.shape[0]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return blend(image, look, mask.astype(np.float32) / 255)

    def hides(self, points_xy: Points) -> NDArray[np.bool_]:
        basis = np.linalg.inv(np.stack([self.along, self.across], axis=1))
        return (np.abs((points_xy - self.centre) @ basis.T) <= 1).all(axis=1)


@dataclass(frozen=True)
class Border(Effect):
    """A frame that ends earlier: black beyond, as where a crop reaches out of its frame.

    Attributes:
        limits_xyxy: (4,) what is left of the frame, in its pixels.
    """

    limits_xyxy: Points
    opaque = True

    def render(self, image: Image, affine: Points) -> Image:
        low, high = view_box(self.limits_xyxy, affine)
        return np.where(hard_box(low, high, image.shape[:2])[..., None] > 0.5, image, np.uint8(0))

    def hides(self, points_xy: Points) -> NDArray[np.bool_]:
        centres = points_xy + 0.5
        return ((centres < self.limits_xyxy[:2]) | (centres > self.limits_xyxy[2:])).any(axis=1)

    def visible_box(self, box_xyxy: Points) -> Points:
        low, high = self.limits_xyxy[[0, 1, 0, 1]], self.limits_xyxy[[2, 3, 2, 3]]
        return np.clip(box_xyxy, low, high)


def spread_points(box_xyxy: Points) -> Points:
    """Return (GRID^2, 2) pixel indices of the frame, evenly spread over a box, to measure shares of it on."""
    steps = (np.arange(GRID) + 0.5) / GRID
    x = box_xyxy[0] + steps * (box_xyxy[2] - box_xyxy[0]) - 0.5
    y = box_xyxy[1] + steps * (box_xyxy[3] - box_xyxy[1]) - 0.5
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def view_box(box_xyxy: Points, affine: Points) -> tuple[Points, Points]:
    """Return the low and the high corner of a frame's box in a view's pixels (pixel i covers [i, i + 1))."""
    corners = np.sort(to_view(box_xyxy.reshape(2, 2) - 0.5, affine), axis=0) + 0.5
    return corners[0], corners[1]
