"""What a precision does to single frames: both trackers cut every frame around the same box."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mtltrack.data.images import decode_image
from mtltrack.evaluation.benchmarks.stored import Frame
from mtltrack.evaluation.online import OnlineTracker
from precision.findings import BoxDifference, RunError, distance
from precision.sources import Source


def from_same_crops(
    source: Source, tracker: OnlineTracker, reference: OnlineTracker, name: str
) -> BoxDifference:
    """Track with the reference, and let the other tracker answer each of its crops, too.

    Each keeps its own template and memory.

    Args:
        source: the sequences.
        tracker: in the precision to look at.
        reference: in the one that it is compared with.
        name: of the first, for messages.

    Raises:
        RunError: a tracker failed on a frame.
    """
    boxes: list[list[list[float]]] = [[], []]
    for sequence in source.sequences:
        start = (sequence.boxes_xywh[0] - sequence.shift).tolist()
        first = _read(sequence.frames[0])
        times = [None] * len(sequence) if sequence.timestamps is None else sequence.timestamps.tolist()
        targets = [each.start(first, start, times[0], sequence.zones) for each in (tracker, reference)]
        for frame in range(1, len(sequence)):
            targets[0].box_xywh = list(targets[1].box_xywh)
            image = _read(sequence.frames[frame])
            for each, target, found in zip((tracker, reference), targets, boxes, strict=True):
                answer = each.track_together([target], [image], [times[frame]])[0]
                if isinstance(answer, Exception):
                    number = sequence.first_frame + frame
                    raise RunError(f"'{sequence.name}', frame {number}, in {name}: {answer}")
                found.append(answer["target_bbox"])
    ours, theirs = (np.array(found, dtype=np.float64).reshape(-1, 4) for found in boxes)
    return distance(ours, theirs)


def _read(path: Frame) -> NDArray[np.uint8]:
    image: NDArray[np.uint8] = decode_image(path.read_bytes(), str(path))
    return image
