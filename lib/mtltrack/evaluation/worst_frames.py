"""The frames that a tracker did worst on, as pictures where there are images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mtltrack.core.errors import DataError
from mtltrack.evaluation.canvas import Canvas
from mtltrack.evaluation.report import Results, Rules, TrackerReport, Truth
from mtltrack.metrics.boxes import normalised_centre_error
from mtltrack.metrics.robustness import LOST_AT, find_failures
from mtltrack.metrics.success import SequenceErrors

WIDTH = 400  # pixels of a picture
LINE = 2  # pixels of an outline
QUALITY = 78  # of the JPEG files, of 100


@dataclass(frozen=True)
class WorstFrame:
    """The worst frame of a sequence.

    Attributes:
        tracker: whose.
        sequence: its name.
        index: of the frame, counted from 0 in the part that was scored.
        frame: its number in the whole sequence, counted from 1.
        overlap: in [0, 1].
        distance: of the centres, in sizes of the true box; inf where the result says nothing of the frame.
        lost_since: number of the first frame of the run with overlaps of at most `LOST_AT` that this frame
            belongs to; None where the target isn't lost.
        box_xywh: what the tracker said, in the ground truth's pixels; NaN where nothing.
    """

    tracker: str
    sequence: str
    index: int
    frame: int
    overlap: float
    distance: float
    lost_since: int | None
    box_xywh: tuple[float, ...]

    def words(self) -> str:
        """Return what is wrong, in words."""
        lost = "" if self.lost_since is None else f", lost since frame {self.lost_since}"
        apart = "no box" if np.isinf(self.distance) else f"{self.distance:.1f} box sizes off"
        return f"{self.sequence}, frame {self.frame}: overlap {self.overlap:.2f}, {apart}{lost}"


def worst_frames(
    report: TrackerReport, truths: Iterable[Truth], results: Results, rules: Rules, count: int
) -> list[WorstFrame]:
    """Return the worst frame of each of a tracker's `count` worst sequences, by their AUC.

    The worst frame is the one with a target and the lowest overlap; of several the one whose centre is
    farthest off, in sizes of the true box; of several the first. The first frame, which the tracker is given,
    never is.
    """
    known = {truth.name: truth for truth in truths}
    names = sorted(report.sequences, key=lambda name: report.sequences[name]["AUC"])
    found: list[WorstFrame] = []
    for name in names:
        if len(found) == count:
            break
        if (frame := _worst(report.tracker, known[name], results, rules)) is not None:
            found.append(frame)
    return found


def _worst(tracker: str, truth: Truth, results: Results, rules: Rules) -> WorstFrame | None:
    said = results.read(truth.name)
    errors = rules.errors(said, truth.boxes_xywh, truth.visible)
    overlaps, scored = errors.overlap, errors.valid.copy()
    scored[0] = False
    if not scored.any():
        return None
    boxes = np.full((len(overlaps), 4), np.nan)
    boxes[: len(said)] = said[: len(boxes)]
    distances = normalised_centre_error(boxes, truth.boxes_xywh)
    distances[np.isnan(distances)] = np.inf
    lowest = np.flatnonzero(scored & (overlaps == overlaps[scored].min()))
    index = int(lowest[np.argmax(distances[lowest])])
    return WorstFrame(
        tracker,
        truth.name,
        index,
        truth.first_frame + index,
        float(overlaps[index]),
        float(distances[index]),
        _lost_since(errors, index, truth.first_frame),
        tuple(boxes[index].tolist()),
    )


def _lost_since(errors: SequenceErrors, index: int, first_frame: int) -> int | None:
    """Return the number of the frame with which the target was lost; None where it isn't."""
    if errors.overlap[index] > LOST_AT:
        return None
    starts = find_failures(errors.overlap, errors.valid, patience=1).starts
    return first_frame + int(starts[starts <= index][-1])


def draw_worst(frame: WorstFrame, truth: Truth) -> bytes | None:
    """Return a small JPEG with the tracker's box and the true one; None where the image isn't there.

    Raises:
        DataError: the image is there, but can't be read.
    """
    if not truth.frames or not truth.frames[frame.index].is_file():
        return None
    from mtltrack.evaluation.overlay import PREDICTION_RGB, TRUTH_RGB
    from mtltrack.evaluation.slots import read_rgb

    image = read_rgb(truth.frames[frame.index])
    scale = WIDTH / image.shape[1]  # before drawing, so that lines are as thick in every picture
    size = WIDTH, max(1, round(image.shape[0] * scale))
    image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    canvas = Canvas(image)
    canvas.line = LINE
    for box, colour in (
        (truth.boxes_xywh[frame.index], TRUTH_RGB),
        (np.array(frame.box_xywh), PREDICTION_RGB),
    ):
        x, y, w, h = (box - truth.shift) * scale
        canvas.box((x, y, x + w, y + h), colour)
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(canvas.image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise DataError(f"OpenCV can't write frame {frame.frame} of '{frame.sequence}' as JPEG")
    return bytes(data)


def all_worst(
    reports: Sequence[TrackerReport],
    truths: Sequence[Truth],
    trackers: Mapping[str, Results],
    rules: Rules,
    count: int,
) -> list[WorstFrame]:
    """Return the worst frames of every tracker that has results (`worst_frames`)."""
    return [
        frame
        for report in reports
        if report.tracker in trackers
        for frame in worst_frames(report, truths, trackers[report.tracker], rules, count)
    ]
