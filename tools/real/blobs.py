"""Moving blobs of a video from a fixed camera, followed from frame to frame: targets without a detector.

OpenCV's background subtractor (MOG2) says which pixels move; specks are opened away and holes closed. A track
predicts its next box by the velocity of its last sightings, takes the blob with the largest IoU with that
prediction, or else the nearest within one box size, and ends when it has missed for too long. Blobs that
merge or split keep one track and start another: no more is needed to ask what a stop clock says of moving
traffic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from mtltrack.core.errors import DataError

WARM_UP = 25  # frames in which the subtractor only learns
LEAST_AREA = 60  # pixels; smaller blobs are noise
LEAST_IOU = 0.1
PATIENCE = 10  # frames a track may miss
LEAST_SIGHTINGS = 12  # a track with fewer isn't counted
MEMORY = 0.7  # share of the old velocity in the new one


@dataclass
class Track:
    """A blob's way through the video."""

    first: int  # frame number, from 0
    boxes: list[np.ndarray] = field(default_factory=list)  # (4,) xyxy; the prediction where it was missed
    seen: list[bool] = field(default_factory=list)
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))  # pixels a frame

    @property
    def missed(self) -> int:
        """Return for how many frames it hasn't been seen."""
        return len(self.seen) - 1 - max(i for i, seen in enumerate(self.seen) if seen)

    def predicted(self) -> np.ndarray:
        return self.boxes[-1] + np.tile(self.velocity, 2)

    def add(self, box: np.ndarray | None) -> None:
        """Take the next frame's blob, or None."""
        predicted = self.predicted()
        if box is not None and self.boxes:
            steps = self.missed + 1
            last = self.boxes[len(self.boxes) - steps]
            moved = (centre(box) - centre(last)) / steps
            share = MEMORY if len(self.boxes) > steps else 0.0
            self.velocity = share * self.velocity + (1 - share) * moved
        self.boxes.append(predicted if box is None else box)
        self.seen.append(box is not None)

    def trimmed(self) -> Track:
        """Return the track up to its last sighting."""
        end = len(self.seen) - self.missed
        return Track(self.first, self.boxes[:end], self.seen[:end], self.velocity)


def centre(box_xyxy: np.ndarray) -> np.ndarray:
    return (box_xyxy[:2] + box_xyxy[2:]) / 2


def size(box_xyxy: np.ndarray) -> float:
    return float(np.sqrt(np.prod(box_xyxy[2:] - box_xyxy[:2])))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    return common / (size(a) ** 2 + size(b) ** 2 - common)


def read_frames(path: Path) -> Iterator[np.ndarray]:
    """Yield the frames that decode, (H, W, 3) uint8.

    Raises:
        DataError: the video can't be opened or holds no frame.
    """
    capture = cv2.VideoCapture(str(path))
    found = False
    try:
        while True:
            read, image = capture.read()
            if not read:
                break
            found = True
            yield image
    finally:
        capture.release()
    if not found:
        raise DataError(f"no frame of the video {path} can be read. Correct the path, or fetch it again.")


def frame_rate(path: Path) -> float:
    """Return the frames a second that the file states.

    Raises:
        DataError: it states none.
    """
    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    if not rate > 0:
        raise DataError(f"the video {path} doesn't say how many frames a second it has")
    return float(rate)


def moving_blobs(frames: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Yield, a frame, the boxes (4,) xyxy of what moves in it."""
    subtractor = cv2.createBackgroundSubtractorMOG2(history=300, varThreshold=40, detectShadows=False)
    small, large = (cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)) for side in (3, 5))
    for number, image in enumerate(frames):
        moving = (subtractor.apply(image) > 0).astype(np.uint8)
        moving = cv2.morphologyEx(moving, cv2.MORPH_OPEN, small)
        moving = cv2.morphologyEx(moving, cv2.MORPH_CLOSE, large)
        _, _, stats, _ = cv2.connectedComponentsWithStats(moving)
        x, y, w, h, area = stats[1:].astype(float).T
        boxes = np.stack([x, y, x + w, y + h], axis=1)[area >= LEAST_AREA]
        yield list(boxes) if number >= WARM_UP else []


def follow(blobs: Iterable[list[np.ndarray]]) -> list[Track]:
    """Join blobs to tracks; returns those with at least LEAST_SIGHTINGS sightings."""
    alive: list[Track] = []
    ended: list[Track] = []
    for number, boxes in enumerate(blobs):
        chosen = assign([track.predicted() for track in alive], boxes)
        for i, track in enumerate(alive):
            track.add(boxes[chosen[i]] if i in chosen else None)
        ended += [track for track in alive if track.missed > PATIENCE]
        alive = [track for track in alive if track.missed <= PATIENCE]
        taken = set(chosen.values())
        alive += [Track(number, [box], [True]) for i, box in enumerate(boxes) if i not in taken]
    tracks = [track.trimmed() for track in ended + alive]
    return [track for track in tracks if sum(track.seen) >= LEAST_SIGHTINGS]


def assign(predicted: list[np.ndarray], boxes: list[np.ndarray]) -> dict[int, int]:
    """Return prediction -> box, best pairs first; a pair of boxes apart ranks by its distance in sizes."""
    ranked = []
    for i, guess in enumerate(predicted):
        for j, box in enumerate(boxes):
            overlap = iou(guess, box)
            distance = float(np.linalg.norm(centre(guess) - centre(box))) / max(size(guess), 1.0)
            if overlap >= LEAST_IOU or distance <= 1:
                ranked.append((overlap if overlap >= LEAST_IOU else -distance, i, j))
    chosen: dict[int, int] = {}
    for _, i, j in sorted(ranked, reverse=True):
        if i not in chosen and j not in chosen.values():
            chosen[i] = j
    return chosen
