"""Overlap and centre errors between predicted and true boxes, row by row.

All boxes are (N, 4) arrays `x, y, w, h` in pixels. Two conventions are in use, and published figures depend
on which one a toolkit took:

* tracker analysis code (`overlap`, `centre_error`, `normalised_centre_error`): a box covers the pixels x to x
  + w - 1, both included, so that 1 is added to each extent of an intersection;
* the GOT-10k toolkit (`rect_iou`): a box is the continuous rectangle from x to x + w, may be clipped to the
  image, and the quotient is guarded by a machine epsilon and clipped to [0, 1].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError

Array = NDArray[np.float64]


def as_boxes(boxes_xywh: object, what: str = "boxes", *, copy: bool = True) -> Array:
    """Return `boxes_xywh` as float64 (N, 4), or raise `DataError` naming `what`.

    Args:
        boxes_xywh: anything that is (N, 4) numbers, or four of them.
        what: names them in errors.
        copy: False may return what was given, for callers that don't write into it.
    """
    boxes = np.array(boxes_xywh, dtype=np.float64, ndmin=2) if copy else np.asarray(boxes_xywh, np.float64)
    if boxes.size == 0:
        return boxes.reshape(0, 4)
    boxes = np.atleast_2d(boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DataError(f"{what} must have the shape (N, 4) with x, y, w, h; found {boxes.shape}")
    return boxes


def overlap(pred_xywh: Array, true_xywh: Array) -> Array:
    """Return the intersection over union (N,) of inclusive pixel boxes; NaN where both boxes are empty."""
    sides = []
    for near, extent in ((0, 2), (1, 3)):
        last = np.minimum(
            pred_xywh[:, near] + pred_xywh[:, extent] - 1.0, true_xywh[:, near] + true_xywh[:, extent] - 1.0
        )
        first = np.maximum(pred_xywh[:, near], true_xywh[:, near])
        sides.append(np.maximum(last - first + 1.0, 0.0))
    intersection = sides[0] * sides[1]
    union = areas(pred_xywh) + areas(true_xywh) - intersection
    with np.errstate(divide="ignore", invalid="ignore"):
        return intersection / union


def areas(boxes_xywh: Array) -> Array:
    """Return the areas (N,) of boxes."""
    return boxes_xywh[:, 2] * boxes_xywh[:, 3]


def box_centres(boxes_xywh: Array) -> Array:
    """Return the centres (N, 2) of inclusive pixel boxes."""
    return np.stack(_centres(boxes_xywh), axis=1)


def _centres(boxes_xywh: Array) -> tuple[Array, Array]:
    """Return the centres as x and y: numpy is several times quicker on columns than on pairs."""
    x, y, width, height = boxes_xywh.T
    return x + 0.5 * (width - 1.0), y + 0.5 * (height - 1.0)


def centre_error(pred_xywh: Array, true_xywh: Array) -> Array:
    """Return the distance (N,) of the box centres in pixels."""
    return _distance(_centres(pred_xywh), _centres(true_xywh))


def _distance(first: tuple[Array, Array], second: tuple[Array, Array]) -> Array:
    """Return the distance (N,) of points given as x and y."""
    return np.sqrt((first[0] - second[0]) ** 2 + (first[1] - second[1]) ** 2)


def normalised_centre_error(pred_xywh: Array, true_xywh: Array) -> Array:
    """Return the distance (N,) of the centres, x and y measured in widths and heights of the true box.

    A true box without extent gives inf or NaN. The centres are divided before they are subtracted, as in the
    published analysis: subtracting first rounds differently, which shows where an error falls exactly on a
    threshold.
    """
    width, height = true_xywh[:, 2], true_xywh[:, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        pred, true = ((x / width, y / height) for x, y in (_centres(pred_xywh), _centres(true_xywh)))
        return _distance(pred, true)


def toolkit_centre_error(pred_xywh: Array, true_xywh: Array) -> Array:
    """Return the normalised distance (N,) of the GOT-10k toolkit: a true box counts as at least one pixel in
    size.
    """
    (x, y), (true_x, true_y) = _centres(pred_xywh), _centres(true_xywh)
    width, height = np.maximum(true_xywh[:, 2], 1.0), np.maximum(true_xywh[:, 3], 1.0)
    return np.sqrt(((x - true_x) / width) ** 2 + ((y - true_y) / height) ** 2)


def clip_to_image(boxes_xywh: Array, bound: tuple[float, float] | Array, *, shrink: bool = False) -> Array:
    """Return the boxes clipped to an image.

    Args:
        boxes_xywh: (N, 4) pixels.
        bound: (width, height) of the image in pixels, or (N, 2), that of each box's image.
        shrink: False reproduces the GOT-10k toolkit, which moves a corner left of or above the image onto its
            edge without taking the moved distance from the extent, so such a box slides inward; True cuts the
            box.
    """
    limit = np.asarray(bound, dtype=np.float64)
    corner = np.clip(boxes_xywh[:, :2], 0.0, limit)
    extent = boxes_xywh[:, 2:]
    if shrink:
        extent = extent - (corner - boxes_xywh[:, :2])
    return np.concatenate([corner, np.clip(extent, 0.0, limit - corner)], axis=1)


def rect_iou(
    pred_xywh: Array,
    true_xywh: Array,
    bound: tuple[float, float] | Array | None = None,
    *,
    shrink: bool = False,
) -> Array:
    """Return the intersection over union (N,) in [0, 1] of continuous boxes, as the GOT-10k toolkit computes
    it.

    Args:
        pred_xywh: (N, 4) pixels.
        true_xywh: (N, 4) pixels.
        bound: (width, height) of the image to clip both boxes to, (N, 2) of each image, or None.
        shrink: how to clip, see `clip_to_image`.
    """
    if bound is not None:
        pred_xywh = clip_to_image(pred_xywh, bound, shrink=shrink)
        true_xywh = clip_to_image(true_xywh, bound, shrink=shrink)
    sides = []
    for near, extent in ((0, 2), (1, 3)):
        far = np.minimum(pred_xywh[:, near] + pred_xywh[:, extent], true_xywh[:, near] + true_xywh[:, extent])
        sides.append(np.maximum(far - np.maximum(pred_xywh[:, near], true_xywh[:, near]), 0.0))
    intersection = sides[0] * sides[1]
    union = areas(pred_xywh) + areas(true_xywh) - intersection
    return np.clip(intersection / (union + np.finfo(np.float64).eps), 0.0, 1.0)
