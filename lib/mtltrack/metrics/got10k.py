"""Scores as the GOT-10k toolkit computes them: AO and SR, and its versions of the OTB, LaSOT and UAV123
curves.

They differ from `mtltrack.metrics.success`: continuous boxes, no visibility rule for the curves, and for
GOT-10k frames weighted equally over sequences, the first frame left out, boxes clipped to the image, hidden
frames (cover 0) dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError
from mtltrack.core.registry import METRICS
from mtltrack.metrics.boxes import as_boxes, centre_error, rect_iou, toolkit_centre_error
from mtltrack.metrics.ragged import (
    Indices,
    blocks,
    count_above,
    count_within,
    segment_counts,
    segment_sums,
    starts_of,
)

Array = NDArray[np.float64]
Size = tuple[float, float]

IOU_THRESHOLDS = np.linspace(0.0, 1.0, 21)
CENTRE_THRESHOLDS = np.arange(51) * 1.0
NORMALISED_THRESHOLDS = np.linspace(0.0, 0.5, 51)
SUCCESS_RATES = np.array([0.5, 0.75])
NAMES = ("ao", "sr", "sr75")


def got10k_ious(
    pred_xywh: object,
    true_xywh: object,
    cover: object = None,
    image_size: Size | None = None,
    *,
    shrink: bool = False,
    skip_first: bool = True,
    skip_hidden: bool = True,
) -> Array:
    """Return the overlaps of one sequence that AO and SR are made of.

    Args:
        pred_xywh: (N, 4) pixels.
        true_xywh: (N, 4) pixels.
        cover: (N,) visibility from 0 (hidden) to 8 (fully visible); None: unknown, so that nothing is hidden.
        image_size: (width, height) in pixels to clip boxes to, or None.
        shrink: how boxes are clipped, see `mtltrack.metrics.boxes.clip_to_image`.
        skip_first: leave out the first frame, whose box the tracker was given, as GOT-10k does.
        skip_hidden: leave out frames of cover 0, as GOT-10k does.

    Returns:
        (M,) in [0, 1], of the frames that count.

    Raises:
        DataError: lengths differ.
    """
    rows = _rows([pred_xywh], [true_xywh], [cover], [image_size], skip_first, skip_hidden, [""])
    ious: Array = rect_iou(rows.pred, rows.truth, rows.bound, shrink=shrink)
    return ious[rows.kept]


@dataclass(frozen=True)
class _Rows:
    """Sequences one after another: boxes (N, 4), image sizes (N, 2) or None, frames that count (N,)."""

    pred: Array
    truth: Array
    bound: Array | None
    kept: NDArray[np.bool_]
    starts: Indices


def _rows(
    predictions: Sequence[object],
    truths: Sequence[object],
    covers: Sequence[object],
    image_sizes: Sequence[Size | None],
    skip_first: bool,
    skip_hidden: bool,
    prefixes: Sequence[str],
) -> _Rows:
    """Check and join sequences; see `got10k_ious`."""
    pred = [as_boxes(item, "predictions", copy=False) for item in predictions]
    truth = [as_boxes(item, "the ground truth", copy=False) for item in truths]
    kept = []
    for prefix, one, other, cover in zip(prefixes, pred, truth, covers, strict=True):
        if len(one) != len(other):
            raise DataError(
                f"{prefix}the results have {len(one)} boxes, the ground truth has {len(other)}; they must be "
                "as many"
            )
        flags = np.ones(len(other), dtype=bool) if cover is None else np.asarray(cover) > 0
        if len(flags) != len(other):
            raise DataError(
                f"{prefix}{len(other)} true boxes but {len(flags)} cover values; there must be one a frame"
            )
        used = flags if skip_hidden else np.ones_like(flags)
        kept.append(np.concatenate([used[:1] & (not skip_first), used[1:]]))
    lengths = [len(item) for item in truth]
    return _Rows(
        np.concatenate(pred),
        np.concatenate(truth),
        _bounds(image_sizes, lengths, prefixes),
        np.concatenate(kept),
        starts_of(lengths),
    )


def _bounds(
    image_sizes: Sequence[Size | None], lengths: Sequence[int], prefixes: Sequence[str]
) -> Array | None:
    """Return the image's size (N, 2) for each frame, None when there is none to clip to."""
    known = [size for size in image_sizes if size is not None]
    if not known:
        return None
    if len(known) < len(lengths):
        without = prefixes[[size is None for size in image_sizes].index(True)]
        raise DataError(
            f"{without}the size of the image is unknown, but known of other sequences; boxes are clipped to "
            "images in all sequences or in none"
        )
    return np.repeat(np.array(known, dtype=np.float64), lengths, axis=0)


def ao_sr(ious: Array) -> dict[str, float]:
    """Return the average overlap and the share of frames with an overlap above 0.5 and 0.75, all in [0,
    1].
    """
    if len(ious) == 0:
        return dict.fromkeys(NAMES, float("nan"))
    each = _ao_sr_of_each(ious, np.ones(len(ious), dtype=bool), np.zeros(1, dtype=np.int64))
    return {name: float(value[0]) for name, value in zip(NAMES, each, strict=True)}


def _ao_sr_of_each(ious: Array, kept: NDArray[np.bool_], starts: Indices) -> tuple[Array, Array, Array]:
    """Return ao, sr and sr75 (S,) of the frames that count; NaN where none does."""
    counted = np.where(kept, ious, 0.0)  # an overlap of 0 adds nothing to the sum and is above no threshold
    sums = [segment_sums(counted, starts), *count_above(counted, SUCCESS_RATES, starts).T]
    number = segment_counts(kept, starts)
    unknown = np.full(len(starts), np.nan)
    ao, sr, sr75 = (np.divide(item, number, out=unknown.copy(), where=number > 0) for item in sums)
    return ao, sr, sr75


@dataclass(frozen=True)
class GOT10kScores:
    """GOT-10k's scores of S sequences of one tracker.

    Attributes:
        ao: (S,) average overlap; NaN where no frame counts.
        sr: (S,) share of frames with an overlap above 0.5.
        sr75: (S,) above 0.75.
        frames: (S,) number of frames that count: what each sequence weighs.
    """

    ao: Array
    sr: Array
    sr75: Array
    frames: NDArray[np.int64]

    def mean(self) -> dict[str, float]:
        """Return ao, sr and sr75 over all frames of all sequences."""
        used = self.frames > 0
        if not used.any():
            return dict.fromkeys(NAMES, float("nan"))
        values = (getattr(self, name)[used] for name in NAMES)
        return {
            name: float(np.average(value, weights=self.frames[used]))
            for name, value in zip(NAMES, values, strict=True)
        }


def score_all_got10k(
    predictions: Sequence[object],
    truths: Sequence[object],
    covers: Sequence[object] | None = None,
    image_sizes: Sequence[Size | None] | None = None,
    *,
    shrink: bool = False,
    skip_first: bool = True,
    skip_hidden: bool = True,
    names: Sequence[str] | None = None,
) -> GOT10kScores:
    """Score one tracker on S sequences at once; arguments are lists of those of `got10k_ious`.

    Args:
        predictions: (N, 4) of each sequence.
        truths: (N, 4) of each.
        covers: (N,) of each or None; None: unknown everywhere.
        image_sizes: of each; None: no clipping.
        shrink: see `got10k_ious`.
        skip_first: see `got10k_ious`.
        skip_hidden: see `got10k_ious`.
        names: of the sequences; an error then begins with that of the one it is about.

    Raises:
        DataError: no sequence; lengths differ; image sizes of some sequences only.
    """
    number = len(truths)
    if number == 0:
        raise DataError("no sequence to average over")
    covers = [None] * number if covers is None else covers
    image_sizes = [None] * number if image_sizes is None else image_sizes
    prefixes = [""] * number if names is None else [f"sequence '{name}': " for name in names]
    parts = []
    for block in blocks([len(item) for item in truths]):  # type: ignore[arg-type]
        rows = _rows(
            predictions[block],
            truths[block],
            covers[block],
            image_sizes[block],
            skip_first,
            skip_hidden,
            prefixes[block],
        )
        ious = rect_iou(rows.pred, rows.truth, rows.bound, shrink=shrink)
        scores = _ao_sr_of_each(ious, rows.kept, rows.starts)
        parts.append((*scores, segment_counts(rows.kept, rows.starts)))
    ao, sr, sr75, frames = (np.concatenate(item) for item in zip(*parts, strict=True))
    return GOT10kScores(ao, sr, sr75, frames)


@METRICS.register_module()
@dataclass
class GOT10kMetric:
    """Accumulates sequences; `compute` weights every frame the same, as GOT-10k's server does.

    Attributes:
        shrink: how boxes are clipped, see `mtltrack.metrics.boxes.clip_to_image`.
        skip_first: see `got10k_ious`.
        skip_hidden: see `got10k_ious`.
    """

    shrink: bool = False
    skip_first: bool = True
    skip_hidden: bool = True
    ious: list[Array] = field(default_factory=list)

    def reset(self) -> None:
        """Forget every sequence."""
        self.ious.clear()

    def update(
        self, pred_xywh: object, true_xywh: object, cover: object = None, image_size: Size | None = None
    ) -> dict[str, float]:
        """Add one sequence and return its own scores (arguments as in `got10k_ious`)."""
        self.ious.append(
            got10k_ious(
                pred_xywh,
                true_xywh,
                cover,
                image_size,
                shrink=self.shrink,
                skip_first=self.skip_first,
                skip_hidden=self.skip_hidden,
            )
        )
        return ao_sr(self.ious[-1])

    def compute(self) -> dict[str, float]:
        """Return ao, sr and sr75 over all frames of all sequences."""
        if not self.ious:
            raise DataError("no sequence to average over")
        return ao_sr(np.concatenate(self.ious))


def toolkit_curves(pred_xywh: object, true_xywh: object) -> dict[str, Array]:
    """Return the toolkit's success (21,), precision (51,) and normalised precision (51,) of one sequence.

    Frame 0 counts, with the true box in it; of two lengths the shorter is scored, as the toolkit does after a
    warning.
    """
    pred, truth = as_boxes(pred_xywh, "predictions"), as_boxes(true_xywh, "the ground truth")
    length = min(len(pred), len(truth))
    if length == 0:
        raise DataError(f"nothing to score: {len(pred)} predicted boxes, {len(truth)} true boxes")
    pred, truth = pred[:length], truth[:length]
    pred[0] = truth[0]
    start = np.zeros(1, dtype=np.int64)
    counts = {
        "success": count_above(rect_iou(pred, truth), IOU_THRESHOLDS, start),
        "precision": count_within(centre_error(pred, truth), CENTRE_THRESHOLDS, start),
        "norm_precision": count_within(toolkit_centre_error(pred, truth), NORMALISED_THRESHOLDS, start),
    }
    return {name: number[0] / length for name, number in counts.items()}


def average_toolkit_curves(items: Sequence[dict[str, Array]]) -> dict[str, Array]:
    """Return the mean of each curve over sequences."""
    if not items:
        raise DataError("no sequence to average over")
    return {name: np.mean([item[name] for item in items], axis=0) for name in items[0]}


def toolkit_scores(item: dict[str, Array]) -> dict[str, float]:
    """Return success_score (area), precision_score (20 px), normalised_precision_score
    (area again, not the value at 0.2 that papers report) and success_rate (0.5), all in [0, 1]."""
    return {
        "success_score": float(item["success"].mean()),
        "precision_score": float(item["precision"][20]),
        "normalised_precision_score": float(item["norm_precision"].mean()),
        "success_rate": float(item["success"][10]),
    }
