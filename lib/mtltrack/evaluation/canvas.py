"""A frame that is drawn on: outlines, translucent areas and letters whose sizes follow the frame's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)
FAINT: Colour = (196, 202, 210)
_REGULAR, _BOLD = 400, 650  # weights of the letters
_SUB = 4  # bits behind the point of the coordinates that OpenCV draws with


@cache
def _font() -> Any:
    """OpenCV's built-in font that has Chinese characters, too; loading it takes a moment."""
    return cv2.FontFace("uni")


class Canvas:
    """A copy of a frame; every method draws into `image`. Coordinates are 0-based frame pixels.

    Args:
        rgb: (H, W, 3) uint8; it stays as it is.

    Attributes:
        image: the picture, (H, W, 3) uint8.
        line: width of outlines in pixels.
        letters: size of the letters in pixels.
        border: width of the frame that an alarm draws, in pixels.
    """

    def __init__(self, rgb: Image) -> None:
        self.image = np.array(rgb, dtype=np.uint8, order="C")
        self.height, self.width = self.image.shape[:2]
        shorter = min(self.height, self.width)
        self.line = max(1, round(shorter / 320))
        self.letters = max(9, round(6 + shorter / 45))
        self.border = max(2, round(shorter / 90))

    def shade(self, mask: NDArray[Any], colour: Colour, opacity: float) -> None:
        """Tint the pixels where `mask` (H, W) isn't 0, and draw its outline."""
        mask = np.ascontiguousarray(mask != 0, dtype=np.uint8)
        x, y, w, h = cv2.boundingRect(mask)
        if w == 0:
            return
        part, inside = self.image[y : y + h, x : x + w], mask[y : y + h, x : x + w]
        tinted = cv2.addWeighted(part, 1 - opacity, np.full_like(part, colour), opacity, 0.0)
        cv2.copyTo(tinted, inside, part)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(self.image, outlines, -1, colour, self.line, cv2.LINE_AA)

    def polygon(self, points: NDArray[Any], colour: Colour, opacity: float) -> None:
        """Outline a polygon (V, 2) and tint what is inside."""
        corners = np.round(np.clip(points, -8192, 8192) * (1 << _SUB)).astype(np.int32)
        inside = np.zeros((self.height, self.width), dtype=np.uint8)
        cv2.fillPoly(inside, [corners], (1,), cv2.LINE_8, _SUB)
        x, y, w, h = cv2.boundingRect(inside)
        part = self.image[y : y + h, x : x + w]
        if w:
            tinted = cv2.addWeighted(part, 1 - opacity, np.full_like(part, colour), opacity, 0.0)
            cv2.copyTo(tinted, inside[y : y + h, x : x + w], part)
        cv2.polylines(self.image, [corners], True, colour, self.line, cv2.LINE_AA, _SUB)

    def box(self, box_xyxy: Sequence[float], colour: Colour) -> None:
        """Outline the pixels that a box covers; one that isn't a number or has no size isn't drawn."""
        x1, y1, x2, y2 = (float(value) for value in box_xyxy)
        if np.isfinite([x1, y1, x2, y2]).all() and x2 > x1 and y2 > y1:
            corners = (round(x1), round(y1)), (round(x2) - 1, round(y2) - 1)
            cv2.rectangle(self.image, *corners, colour, self.line)

    def extent(self, text: str, bold: bool = False) -> int:
        """Return the width of a text in pixels."""
        weight = _BOLD if bold else _REGULAR
        return int(cv2.getTextSize((self.width, self.height), text, (0, 0), _font(), self.letters, weight)[2])

    def write(self, text: str, left: int, baseline: int, colour: Colour, bold: bool = False) -> None:
        """Write a text whose first letter stands at (left, baseline)."""
        if not text:
            return
        weight = _BOLD if bold else _REGULAR
        cv2.putText(self.image, text, (left, baseline), colour, _font(), self.letters, weight)

    def darken(self, left: int, top: int, right: int, bottom: int, opacity: float = 0.6) -> None:
        """Darken a rectangle, so that letters can be read on any picture."""
        part = self.image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        part[:] = (part * (1 - opacity)).astype(np.uint8)

    def name_area(
        self, text: str, points: NDArray[Any], colour: Colour, avoid: Sequence[float] | None = None
    ) -> None:
        """Write the name of a polygon (V, 2) into it: in its middle, or near a corner.

        Args:
            text: the name.
            points: the polygon; nothing is written where neither its middle nor a corner is in the frame.
            colour: of the letters.
            avoid: a box xyxy that should stay free.
        """
        middle = points.mean(axis=0)
        edge, width, size = max(2, self.letters // 4), self.extent(text), self.letters
        free: list[tuple[int, int]] = []
        taken: list[tuple[int, int]] = []
        for x, y in [middle, *(points + 0.25 * (middle - points))]:
            if 0 <= x < self.width and 0 <= y < self.height:
                left = min(max(int(x) - width // 2, edge), max(self.width - width - edge, edge))
                baseline = min(max(int(y) + size // 2, size + edge), self.height - edge)
                label = (left - edge, baseline - size, left + width + edge, baseline + edge)
                (taken if avoid is not None and _meet(label, avoid) else free).append((left, baseline))
        if free or taken:
            left, baseline = (free or taken)[0]
            self.darken(left - edge, baseline - size, left + width + edge, baseline + edge, 0.45)
            self.write(text, left, baseline, colour)

    def tag(
        self,
        text: str,
        box_xyxy: Sequence[float],
        colour: Colour,
        *,
        below: bool = False,
        clock: bool = False,
    ) -> None:
        """Write a text on a filled label above a box or below it, inside of the frame.

        Args:
            text: what to write.
            box_xyxy: the box that it belongs to.
            colour: of the label; the letters are black or white, whichever can be read on it.
            below: under the box instead of above it.
            clock: with the picture of a clock before the text.
        """
        ink = BLACK if 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2] > 110 else WHITE
        edge, size = max(2, self.letters // 4), self.letters
        room = round(size * 1.15) if clock else 0
        width, height = self.extent(text, bold=True) + 2 * edge + room, size + 2 * edge
        half = self.line // 2  # an outline is centred on the box's outermost pixels
        left = min(max(round(box_xyxy[0]) - half, 0), max(self.width - width, 0))
        above, under = round(box_xyxy[1]) - half - height, round(box_xyxy[3]) + half
        if below:
            top = under if under + height <= self.height else above
        else:
            top = above if above >= 0 else under
        top = min(max(top, 0), max(self.height - height, 0))
        cv2.rectangle(self.image, (left, top), (left + width - 1, top + height - 1), colour, -1)
        if clock:
            self._clock(left + edge + size // 2, top + edge + size // 2, round(size * 0.42), ink)
        self.write(text, left + edge + room, top + edge + round(size * 0.86), ink, bold=True)

    def _clock(self, x: int, y: int, radius: int, ink: Colour) -> None:
        thin = max(1, self.letters // 12)
        cv2.circle(self.image, (x, y), radius, ink, thin, cv2.LINE_AA)
        cv2.line(self.image, (x, y), (x, y - round(radius * 0.65)), ink, thin, cv2.LINE_AA)
        cv2.line(self.image, (x, y), (x + round(radius * 0.5), y), ink, thin, cv2.LINE_AA)

    def panel(self, rows: Sequence[tuple[str, str]], avoid: Sequence[float] | None = None) -> None:
        """Write rows of a faint name and its value on a dark ground in the top left corner.

        Args:
            rows: names and values.
            avoid: a box xyxy; when it is in the way, the panel stands in the top right corner, unless it is
                in the way there, too.
        """
        if not rows:
            return
        size, edge = self.letters, max(4, self.letters // 2)
        step = round(size * 1.4)
        second = edge + max((self.extent(f"{name}  ") for name, _ in rows if name), default=0)
        starts = [second if name else edge for name, _ in rows]
        width = max(start + self.extent(text) for start, (_, text) in zip(starts, rows, strict=True)) + edge
        top = left = self.border  # an alarm's frame doesn't cover it
        bottom, other = top + step * len(rows) + edge // 2, self.width - self.border - width
        if avoid is not None and _meet((left, top, left + width, bottom), avoid):
            if other > left and not _meet((other, top, other + width, bottom), avoid):
                left = other
        self.darken(left, top, left + width, bottom)
        for number, (start, (name, text)) in enumerate(zip(starts, rows, strict=True), start=1):
            baseline = top + round(step * number - 0.25 * size) + edge // 4
            self.write(name, left + edge, baseline, FAINT)
            self.write(text, left + start, baseline, WHITE)

    def alarm(self, text: str, colour: Colour) -> None:
        """Frame the picture and write a text in the middle of its lower edge."""
        border = self.border
        for side in (np.s_[:border], np.s_[-border:], np.s_[:, :border], np.s_[:, -border:]):
            self.image[side] = colour
        size, edge = self.letters, self.letters // 2
        width = self.extent(text, bold=True) + 2 * edge
        left, top = max((self.width - width) // 2, 0), self.height - border - size - 2 * edge
        cv2.rectangle(self.image, (left, top), (left + width, self.height - 1), colour, -1)
        self.write(text, left + edge, top + edge + round(size * 0.86), WHITE, bold=True)


def _meet(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two boxes xyxy have an area in common."""
    low = np.maximum(first[:2], second[:2])
    return bool((np.minimum(first[2:], second[2:]) > low).all())
