"""Are single labels what they may be: a box inside of its frame, finite numbers, classes that exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mtltrack.core.errors import DataError


def check_in_frame(box_xyxy: Sequence[float], size: tuple[int, int], what: str) -> None:
    """Raise DataError unless some of a box is inside of its frame.

    Args:
        box_xyxy: 0-based frame pixels.
        size: width and height of the frame.
        what: the box, and where it is written, as the message begins.
    """
    x1, y1, x2, y2 = (float(value) for value in box_xyxy)
    if not (0 < x2 and 0 < y2 and x1 < size[0] and y1 < size[1] and x1 < x2 and y1 < y2):
        shown = ", ".join(f"{value:g}" for value in (x1, y1, x2, y2))
        raise DataError(
            f"{what} lies outside of its frame, {size[0]} x {size[1]} pixels: x1, y1, x2, y2 are {shown}. "
            "Correct the box, or say that nothing can be seen."
        )


def check_finite(entry: Mapping[str, np.ndarray], where: Callable[[int], str]) -> None:
    """Raise DataError when a labelled frame has a number that isn't finite.

    Args:
        entry: arrays with the frames T in front; `valid` (T,) says which are labelled.
        where: says what a message calls a frame, by its place in the arrays, and its task.
    """
    for name, values in entry.items():
        if values.dtype.kind != "f":
            continue
        finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1) | ~entry["valid"]
        if not finite.all():
            raise DataError(f"{where(int(np.argmin(finite)))}: {name} isn't finite. Correct the label.")


def check_classes(
    index: np.ndarray, valid: np.ndarray, num_classes: int, where: Callable[[int], str]
) -> None:
    """Raise DataError when a labelled frame's class doesn't exist.

    Args:
        index: (T,) class numbers.
        valid: (T,) bool, which frames are labelled.
        num_classes: how many classes the head tells apart.
        where: what a message calls a frame, by its place in the arrays.
    """
    wrong = np.flatnonzero(valid & ((index < 0) | (index >= num_classes)))
    if len(wrong):
        raise DataError(
            f"{where(int(wrong[0]))}: class number {index[wrong[0]]}; allowed: 0 to {num_classes - 1}. "
            "Correct the label, or TASKS.cls.NUM_CLASSES."
        )
