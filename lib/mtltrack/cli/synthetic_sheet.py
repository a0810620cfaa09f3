"""Pictures that show what is rendered: an example of each scene condition, with its labels drawn in."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from mtltrack.core.conditions import condition_names, normal_index
from mtltrack.core.errors import DataError
from mtltrack.data.synthetic.sequences import SyntheticSequences
from mtltrack.data.synthetic.traffic.sequences import TrafficSequences

Image = NDArray[np.uint8]
Picker = Callable[[int, bool], NDArray[np.float64]]
CAPTION = 24  # pixels above a picture
GREEN, MAGENTA, YELLOW, ORANGE, RED = (
    (90, 255, 60),
    (255, 60, 230),
    (255, 230, 40),
    (255, 160, 30),
    (255, 30, 30),
)
SEARCHED = 90  # sequences that are looked through for clear examples
LARGE = 0.02  # share of the frame that an example's target covers at least


def traffic_sheet(seed: int, columns: int = 3, width: int = 426) -> Image:
    """Return a picture of rendered traffic: each condition, by day or by night, an alert, a plate to read.

    Boxes are green, masks magenta, plates yellow, zones orange, or red when the target has stood too long.
    """
    world = TrafficSequences(SEARCHED, seed=seed)
    used: set[int] = set()
    cells = []
    for number, name in enumerate(condition_names()):
        i, frame = _clearest(world, used, bool(number % 2), _shows(world, number), name)
        when = "night" if world.plan(i).light.night else "day"
        cells.append(_framed(_drawn(world, i, frame), f"{name}, {when}", width))
    i, frame = _clearest(world, used, None, lambda i, _: _alerting(world, i), "alert")
    stood = world.truth(i).stopped[frame]
    cells.append(_framed(_drawn(world, i, frame), f"alert: standing for {stood:.0f} s", width))
    i, frame = _clearest(world, used, False, lambda i, _: _readable(world, i), "plate")
    cells.append(_framed(_drawn(world, i, frame), f"plate {world.sequence(i).plates[frame].text}", width))
    rows = [np.hstack(cells[k : k + columns]) for k in range(0, len(cells), columns)]
    return np.vstack(rows)


def _clearest(
    world: TrafficSequences, used: set[int], night: bool | None, worth: Picker, what: str
) -> tuple[int, int]:
    """Return (sequence, frame) of the first good example in a sequence that isn't used yet.

    Args:
        world: looked through.
        used: sequences that are taken; the chosen one is added.
        night: by night, by day, or None: either.
        worth: (sequence, strictly) -> (F,) how good each of its frames is, 0 for not at all.
        what: it shows, for the message.
    """
    for strict in (True, False):
        for i in range(world.num_sequences):
            if i in used or (night is not None and world.plan(i).light.night != night and strict):
                continue
            values = worth(i, strict)
            if values.max() > (LARGE if strict else 0):
                used.add(i)
                return i, int(values.argmax())
    raise DataError(f"seed {world.settings.seed} renders no example of: {what}. Choose another --seed.")


def _shows(world: TrafficSequences, number: int) -> Picker:
    """Return a picker of frames that show this condition, strictly: nothing else; the larger the better."""

    def worth(i: int, strict: bool) -> NDArray[np.float64]:
        truth = world.truth(i)
        alone = truth.flags[:, number] & (truth.flags.sum(axis=1) == 1 if strict else True)
        width, height = world.settings.size
        area = truth.boxes_xywh[:, 2:].prod(axis=1) / (width * height)
        clear = (truth.inside - truth.covered > 0.35) & (area < 0.22)
        if condition_names()[number] == "Occlusion":
            clear &= truth.covered > 0.3
        if number != normal_index():
            clear &= np.array([_steep(truth.flags[:, number], frame) for frame in range(len(area))])
        return np.where(alone & clear, area, 0.0)

    return worth


def _steep(flags: NDArray[np.bool_], frame: int, margin: int = 2) -> bool:
    """Say whether a flag is set around a frame too, not only just."""
    return bool(flags[max(frame - margin, 0) : frame + margin + 1].all())


def _alerting(world: TrafficSequences, i: int) -> NDArray[np.float64]:
    truth = world.truth(i)
    quiet = truth.flags[:, normal_index()] & (truth.covered < 0.05)
    return np.where(truth.alerts & quiet, truth.stopped, 0.0)


def _readable(world: TrafficSequences, i: int) -> NDArray[np.float64]:
    truth = world.truth(i)
    widths = np.array([plate.width if plate.readable else 0.0 for plate in truth.plates])
    return np.where(truth.flags[:, normal_index()], widths, 0.0)


def _drawn(world: TrafficSequences, i: int, frame: int) -> Image:
    """Return a frame with its labels drawn in."""
    info, image, mask = world.sequence(i), world.image(i, frame), world.mask(i, frame)
    edges, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, edges, -1, MAGENTA, 1, cv2.LINE_AA)
    for polygon in info.zones.values():
        colour = RED if info.alerts[frame] else ORANGE
        cv2.polylines(image, [np.round(polygon).astype(np.int32)], True, colour, 2, cv2.LINE_AA)
    x, y, w, h = np.round(info.boxes_xywh[frame]).astype(int).tolist()
    cv2.rectangle(image, (x, y), (x + w, y + h), GREEN, 1, cv2.LINE_AA)
    plate = info.plates[frame].box_xyxy
    if plate is not None:
        left, top, right, bottom = (round(value) for value in plate)
        cv2.rectangle(image, (left - 1, top - 1), (right + 1, bottom + 1), YELLOW, 1, cv2.LINE_AA)
    return image


def textures_sheet(seed: int, columns: int = 5, width: int = 256) -> Image:
    """Return a picture of the ten conditions of the textured world, the true box drawn in green."""
    cells = []
    for number, name in enumerate(condition_names()):
        world = SyntheticSequences(20, 30, seed=seed, conditions=[name])
        i, frame = _middle_of_first(world, number)
        image = world.image(i, frame)
        x, y, w, h = np.round(world.truth(i, frame).box_xywh).astype(int).tolist()
        cv2.rectangle(image, (x, y), (x + w, y + h), GREEN, 1, cv2.LINE_AA)
        cells.append(_framed(image, name, width))
    rows = [np.hstack(cells[k : k + columns]) for k in range(0, len(cells), columns)]
    return np.vstack(rows)


def _middle_of_first(world: SyntheticSequences, number: int) -> tuple[int, int]:
    """Return (sequence, frame) in the middle of the first stretch that shows condition `number`."""
    for i in range(number, world.num_sequences):
        shown = np.flatnonzero(world.sequence(i).labels["cls"]["flags"][:, number])
        if len(shown) > 8:
            return i, int(shown[len(shown) // 2])
    raise DataError(f"seed {world.seed} renders no {condition_names()[number]}; choose another --seed.")


def _framed(image: Image, caption: str, width: int) -> Image:
    """Return a picture at `width` pixels with a caption above it."""
    scale = width / image.shape[1]
    picture = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    framed = cv2.copyMakeBorder(picture, CAPTION, 4, 4, 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    cv2.putText(framed, caption, (5, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (30, 30, 30), 1, cv2.LINE_AA)
    return framed
