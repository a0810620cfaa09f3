"""The tracker as a server of TraX, the protocol by which the VOT toolkit runs trackers.

The toolkit starts a process and sends frames as paths of image files: a first one with the targets' regions,
then one after another; each is answered with a region a target. New targets may come with any frame, and a
new first frame starts another video. The library of the protocol is `trax` (pip install vot-trax).
"""

from __future__ import annotations

import configparser
import io
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError
from mtltrack.core.rle import decode_mask
from mtltrack.evaluation.results import write_text
from mtltrack.evaluation.slots import FrameTracker, read_rgb

MASK_TASK = "seg"
TIMEOUT = 300  # seconds that the toolkit waits for an answer: the first one takes the loading of the weights


class Targets:
    """The targets of one video, each with a tracker of its own; trackers are kept for the next video.

    Args:
        factory: makes a tracker; all may share one network.
    """

    def __init__(self, factory: Callable[[], FrameTracker]) -> None:
        self._factory = factory
        self._trackers: list[FrameTracker] = []
        self.count = 0

    def start(self) -> None:
        """Begin a video without targets."""
        self.count = 0

    def add(self, rgb: NDArray[np.uint8], boxes_xywh: Iterable[Sequence[float]]) -> None:
        """Follow more targets from this frame on."""
        for box in boxes_xywh:
            if self.count == len(self._trackers):
                self._trackers.append(self._factory())
            self._trackers[self.count].initialize(rgb, [float(value) for value in box])
            self.count += 1

    def track(self, rgb: NDArray[np.uint8]) -> list[dict[str, Any]]:
        """Return the answer of each tracker, in the order in which the targets came."""
        return [tracker.track(rgb) for tracker in self._trackers[: self.count]]


def mask_box(mask: NDArray[Any], offset: tuple[int, int] = (0, 0)) -> list[float]:
    """Return the box x, y, w, h around a mask (H, W) whose first pixel lies at `offset` (x, y).

    Raises:
        DataError: no pixel is set.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise DataError("the mask of a target is empty in the frame in which it should be followed from")
    size = columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
    return [float(columns[0] + offset[0]), float(rows[0] + offset[1]), float(size[0]), float(size[1])]


def region_box(region: Any) -> list[float]:
    """Return the box x, y, w, h of a TraX region: a rectangle, polygon or mask.

    Raises:
        DataError: the region is none of them, or has no pixel.
    """
    if region.type == "rectangle":
        return [float(value) for value in region.bounds()]
    if region.type == "polygon":
        corners = np.array([region.get(index) for index in range(region.size())])
        low, high = corners.min(axis=0), corners.max(axis=0)
        return [float(value) for value in (*low, *(high - low))]
    if region.type == "mask":
        return mask_box(region.array(), region.offset())
    raise DataError(f"a target is given by a region of the kind '{region.type}', which can't be followed")


def answer_region(trax: ModuleType, answer: Mapping[str, Any], masks: bool) -> tuple[Any, dict[str, Any]]:
    """Return the region and the properties that answer a frame.

    Args:
        trax: the library.
        answer: what `track` says.
        masks: answer the mask of the task "seg"; it may be empty, which says that the target isn't seen.
    """
    properties = {"confidence": float(answer.get("score", 1.0))}
    if masks:
        mask = decode_mask(answer["tasks"][MASK_TASK]["mask"], "the mask to be answered")
        return trax.Mask.create(np.ascontiguousarray(mask, dtype=np.uint8)), properties
    x, y, w, h = (float(value) for value in answer["target_bbox"])
    return trax.Rectangle.create(x, y, w, h), properties


def serve(trax: ModuleType, factory: Callable[[], FrameTracker], masks: bool, name: str = "") -> int:
    """Answer the toolkit until it ends the session.

    Args:
        trax: the library.
        factory: see `Targets`.
        masks: take and answer masks; otherwise rectangles.
        name: of the tracker.

    Returns:
        The number of frames answered.

    Raises:
        Exception: whatever the tracker raises, after the toolkit was told of it.
    """
    targets, frames = Targets(factory), 0
    kind = trax.Region.MASK if masks else trax.Region.RECTANGLE
    server = trax.Server([kind], [trax.Image.PATH], tracker_name=name, multiobject=True)
    try:
        while True:
            request = server.wait()
            if request.type == trax.TraxStatus.QUIT:
                break
            server.status(_answer(trax, request, targets, masks))
            frames += 1
    except Exception as error:
        _quit(trax, server, f"{type(error).__name__}: {error}")
        raise
    _quit(trax, server, None)
    return frames


def _answer(
    trax: ModuleType, request: Any, targets: Targets, masks: bool
) -> list[tuple[Any, dict[str, Any]]]:
    """Return region and properties of each target; those that are new are answered as they were given."""
    rgb = read_rgb(Path(request.image["color"].path()))
    if request.type == trax.TraxStatus.INITIALIZE:
        targets.start()
        answers = []
    else:
        answers = [answer_region(trax, answer, masks) for answer in targets.track(rgb)]
    new = list(request.objects or ())
    targets.add(rgb, [region_box(region) for region, _ in new])
    return [*answers, *((region, {}) for region, _ in new)]


def _quit(trax: ModuleType, server: Any, reason: str | None) -> None:
    """End the session; a toolkit that is gone already needs no word."""
    try:
        server.quit(reason)
    except trax.TraxException as error:
        if reason is None:
            raise DataError(f"the session with the VOT toolkit didn't end as it should: {error}") from error


def registry_entry(path: Path, identifier: str, label: str, command: Sequence[str]) -> None:
    """Add a tracker to a `trackers.ini`, or replace its entry.

    Args:
        path: the file; it may not exist.
        identifier: its name for the toolkit: letters, digits and underscores.
        label: its name for people.
        command: words of the command that starts the server.

    Raises:
        DataError: the name can't be used, or the file isn't such a list.
    """
    if not identifier.replace("_", "a").isalnum() or not identifier.isascii() or identifier[0].isdigit():
        raise DataError(
            f"the VOT toolkit takes letters, digits and _ for a tracker's name, not '{identifier}': "
            "give another by --name"
        )
    entries = configparser.ConfigParser()
    try:
        if path.is_file():
            entries.read_string(path.read_text(encoding="utf-8"), str(path))
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' isn't a list of trackers that could be added to: {error}") from error
    entries[identifier] = {
        "label": label.replace("%", "%%"),
        "protocol": "trax",
        "command": shlex.join(command).replace("%", "%%"),
        "timeout": str(TIMEOUT),
    }
    text = io.StringIO()
    entries.write(text)
    write_text(path, text.getvalue())
