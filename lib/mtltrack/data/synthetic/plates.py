"""Licence plates of several nations, drawn with real fonts, for rendered vehicles and for the reader.

Texts are random by each format's own pattern; formats are the table `plate_formats.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from mtltrack.core.errors import DataError, did_you_mean
from mtltrack.data.synthetic.plate_glyphs import STYLES, draw_glyph, draw_words, glyph, relative_width

HEIGHT = 64  # pixels of the picture that is handed out
DRAWN = 128  # pixels at which it is drawn
PROVINCES = "京津冀晋蒙辽吉黑沪苏浙皖闽赣鲁豫鄂湘粤桂琼渝川贵云藏陕甘青宁新"
DIGITS = "0123456789"
SEPARATORS = " -:.*"
SEPARATOR_WIDTHS = {" ": 0.35, "-": 0.4, ":": 0.4, ".": 0.3, "*": 0.6}  # shares of the glyph's height
CAPTION_FONTS = [("sans", 400), ("sans", 700), ("italic", 500), ("STIXGeneralBol.ttf", 0)]

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]  # x, y, width, height in pixels


@dataclass(frozen=True)
class Plate:
    """A drawn plate.

    Attributes:
        image: (64, w, 3) uint8 RGB, seen from the front, in the plate's proportions.
        text: what it says, without separators.
        size_m: width and height in metres.
        kind: name of its format.
    """

    image: NDArray[np.uint8]
    text: str
    size_m: tuple[float, float]
    kind: str


@lru_cache(maxsize=1)
def _formats() -> dict[str, dict[str, Any]]:
    file = resources.files("mtltrack.data.synthetic").joinpath("plate_formats.yaml")
    formats: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return formats


def plate_kinds() -> tuple[str, ...]:
    """Return the names of the national formats."""
    return tuple(_formats())


def __getattr__(name: str) -> tuple[str, ...]:
    """Give `PLATE_KINDS`, without reading the table before somebody asks for it."""
    if name == "PLATE_KINDS":
        return plate_kinds()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def draw_plate(rng: np.random.Generator, kind: str | None = None) -> Plate:
    """Draw a plate with a random text; a pure function of the generator's state and `kind`.

    Args:
        rng: source of everything random.
        kind: one of `plate_kinds()`; None for any of them alike.

    Raises:
        DataError: an unknown kind.
    """
    kinds = plate_kinds()
    if kind is None:
        kind = kinds[int(rng.integers(len(kinds)))]
    if kind not in kinds:
        raise DataError(
            f"there is no plate format '{kind}'.{did_you_mean(kind, kinds)} Choose from: {', '.join(kinds)}."
        )
    entry = _formats()[kind]
    marks = _fill_pattern(rng, _choose(rng, entry["patterns"]), entry["letters"])
    width_m, height_m = entry["size_m"]
    width = round(DRAWN * width_m / height_m)
    canvas = _Canvas(rng, width, entry)
    canvas.decorate()
    canvas.write(marks)
    image = cv2.resize(canvas.finish(), (round(width * HEIGHT / DRAWN), HEIGHT), interpolation=cv2.INTER_AREA)
    text = "".join(mark for mark in marks if mark not in SEPARATORS)
    return Plate(image, text, (float(width_m), float(height_m)), kind)


def _choose(rng: np.random.Generator, options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def _between(rng: np.random.Generator, limits: tuple[float, float] | list[float]) -> float:
    return float(rng.uniform(*limits))


def _fill_pattern(rng: np.random.Generator, pattern: str, letters: str) -> str:
    """Replace a pattern's L, D, A, P and ? by characters and separators."""
    choices = {"L": letters, "D": DIGITS, "A": letters + DIGITS, "P": PROVINCES, "?": SEPARATORS}
    return "".join(str(_choose(rng, choices[mark])) if mark in choices else mark for mark in pattern)


class _Canvas:
    """A plate being drawn.

    Args:
        rng: source of everything random.
        width: pixels.
        entry: the format's row of the table.
    """

    def __init__(self, rng: np.random.Generator, width: int, entry: Mapping[str, Any]) -> None:
        self.rng, self.entry, self.width = rng, entry, width
        self.ground = np.array(_choose(rng, entry["ground"]), np.float64)
        self.ink = self._contrasting_ink()
        slope = _between(rng, entry.get("tone", [-0.05, 0.05]))
        rows = 1 + slope * np.linspace(-0.5, 0.5, DRAWN)[:, None, None]
        plain = np.broadcast_to(self.ground * rows, (DRAWN, width, 3))
        self.image = np.clip(plain, 0, 255).astype(np.uint8)
        self.left, self.right = 0.03 * width, 0.97 * width  # between them stands the text
        self.middle = DRAWN / 2.0

    def _contrasting_ink(self) -> Colour:
        """Choose a colour of the characters that stands out from the ground."""
        inks = np.array(self.entry["ink"], np.float64)
        difference = np.abs((inks - self.ground) @ [0.3, 0.59, 0.11])
        usable = np.flatnonzero(difference > min(80.0, float(difference.max()) - 1))
        r, g, b = inks[int(_choose(self.rng, usable))]
        return (int(r), int(g), int(b))

    def decorate(self) -> None:
        """Draw all but the text: scenery, band, captions, stickers, edge, screws."""
        if self.rng.random() < self.entry.get("scenery", 0.0):
            self._scenery()
        if "band" in self.entry:
            self._band(**self.entry["band"])
        if "header" in self.entry:
            self._header(**self.entry["header"])
        if "captions" in self.entry:
            self._captions(**self.entry["captions"])
        if self.rng.random() < self.entry.get("stickers", 0.0):
            self._stickers()
        self._edge()

    def _scenery(self) -> None:
        """Soft coloured shapes behind the text, as pictorial plates have them."""
        layer = self.image.copy()
        for _ in range(int(self.rng.integers(1, 5))):
            colour = tuple(int(c) for c in self.rng.integers(60, 256, 3))
            if self.rng.random() < 0.5:
                edge = self.rng.uniform(0.35, 1.0, 6) * DRAWN
                points = [[i * self.width / 5, y] for i, y in enumerate(edge)]
                outline = np.array([*points, [self.width, DRAWN], [0, DRAWN]], np.int32)
                cv2.fillPoly(layer, [outline], colour)
            else:
                centre = (int(self.rng.uniform(0, self.width)), int(self.rng.uniform(0, DRAWN)))
                axes = (int(self.rng.uniform(10, 60)), int(self.rng.uniform(8, 40)))
                cv2.ellipse(layer, centre, axes, float(self.rng.uniform(0, 180)), 0, 360, colour, -1)
        layer = cv2.GaussianBlur(layer, (0, 0), float(self.rng.uniform(0.6, 8)))
        share = float(self.rng.uniform(0.1, 0.5))
        self.image = cv2.addWeighted(layer, share, self.image, 1 - share, 0)

    def _band(self, colour: Colour, letters: str, side: str) -> None:
        if self.rng.random() < 0.12:  # older plates, and those without the Union's band
            return
        wide = round(self.rng.uniform(0.36, 0.42) * DRAWN)
        for x in (0, self.width - wide)[: 2 if side == "both" else 1]:
            cv2.rectangle(self.image, (x, 0), (x + wide, DRAWN), colour, -1)
            self._stars(x + wide / 2, 0.34 * DRAWN, 0.11 * DRAWN)
            if x == 0:
                box = (x + 0.1 * wide, 0.58 * DRAWN, 0.8 * wide, 0.34 * DRAWN)
                draw_words(self.image, letters, box, (250, 250, 250), weight=600)
        self.left = wide + 0.02 * self.width
        if side == "both":
            self.right = self.width - wide - 0.02 * self.width

    def _stars(self, x: float, y: float, radius: float) -> None:
        for angle in np.arange(12) * np.pi / 6:
            centre = (round(x + radius * np.cos(angle)), round(y + radius * np.sin(angle)))
            cv2.circle(self.image, centre, 2, (250, 210, 40), -1)

    def _header(self, colour: Colour, letters: str) -> None:
        high = round(0.24 * DRAWN)
        cv2.rectangle(self.image, (0, 0), (self.width, high), colour, -1)
        draw_words(
            self.image,
            letters,
            (0.3 * self.width, 2, 0.4 * self.width, high - 4),
            (250, 250, 250),
            weight=600,
        )
        self.middle = (DRAWN + high) / 2

    def _captions(self, share: float, words: list[str], mottos: list[str]) -> None:
        """Write the state above and, where there are mottos, one below."""
        if self.rng.random() >= share:
            return
        fonts = CAPTION_FONTS if mottos else CAPTION_FONTS[:1]
        font, weight = _choose(self.rng, fonts)
        colour = self._caption_colour() if mottos else self.ink
        w = self.rng.uniform(0.4, 0.75) * self.width
        self._caption_strip(0.0)
        box = ((self.width - w) / 2, 0.03 * DRAWN, w, self.rng.uniform(0.16, 0.24) * DRAWN)
        draw_words(self.image, _choose(self.rng, words), box, colour, font, weight)
        if mottos and self.rng.random() < 0.8:
            w = self.rng.uniform(0.35, 0.7) * self.width
            box = ((self.width - w) / 2, 0.84 * DRAWN, w, self.rng.uniform(0.1, 0.14) * DRAWN)
            draw_words(self.image, _choose(self.rng, mottos), box, self._caption_colour(), font, weight)
        if mottos:
            self.middle = self.rng.uniform(0.48, 0.58) * DRAWN
        else:
            self.middle = 0.6 * DRAWN

    def _caption_strip(self, top: float) -> None:
        """Sometimes a coloured strip behind the state's name."""
        if self.entry.get("scenery", 0.0) and self.rng.random() < 0.3:
            colour = tuple(int(c) for c in self.rng.integers(20, 240, 3))
            bottom = int(self.rng.uniform(0.18, 0.26) * DRAWN)
            cv2.rectangle(self.image, (0, int(top)), (self.width, bottom), colour, -1)

    def _caption_colour(self) -> Colour:
        if self.rng.random() < 0.5:
            return self.ink
        r, g, b = (int(c) for c in self.rng.integers(0, 256, 3))
        return (r, g, b)

    def _stickers(self) -> None:
        """Small coloured patches with month or year in the corners."""
        w, h = 0.14 * self.width, 0.17 * DRAWN
        corners = [(0.03, 0.04), (0.83, 0.04), (0.03, 0.79), (0.83, 0.79)]
        for x, y in corners:
            if self.rng.random() < 0.5:
                continue
            box = (round(x * self.width), round(y * DRAWN), round(w), round(h))
            colour = tuple(int(c) for c in self.rng.integers(40, 256, 3))
            cv2.rectangle(self.image, box, colour, -1)
            words = str(
                _choose(self.rng, ["JAN", "FEB", "MAR", "JUN", "SEP", "DEC", "07", "09", "2010", "12"])
            )
            draw_words(self.image, words, box, (20, 20, 20))

    def _edge(self) -> None:
        """The line along the edge, rounded corners, and screws."""
        line = round(_between(self.rng, [0.01, 0.035]) * DRAWN)
        if self.rng.random() < self.entry.get("line", 0.6):
            inset = round(self.rng.uniform(0.0, 0.04) * DRAWN)
            corner = (self.width - 1 - inset, DRAWN - 1 - inset)
            cv2.rectangle(self.image, (inset, inset), corner, self.ink, line, cv2.LINE_AA)
        if self.rng.random() < 0.6:
            grey = int(self.rng.uniform(30, 190))
            y = int(_choose(self.rng, [0.08, 0.12, 0.5, 0.9]) * DRAWN)
            apart = self.rng.uniform(0.2, 0.45) * self.width
            for x in (self.width / 2 - apart, self.width / 2 + apart):
                cv2.circle(self.image, (int(x), y), 4, (grey, grey, grey), -1, cv2.LINE_AA)

    def write(self, marks: str) -> None:
        """Draw the text; its cells are narrowed where they don't fit."""
        style = str(_choose(self.rng, self.entry["fonts"]))
        weight = int(_choose(self.rng, STYLES[style].weights))
        limits = self.entry["glyph"]
        height = _between(self.rng, limits["height"]) * DRAWN
        pen = (_between(self.rng, limits["stroke"]) + STYLES[style].pen) * height
        gap = _between(self.rng, limits["gap"]) * height
        widths = self._cell_widths(marks, style, weight, _between(self.rng, limits["width"]) * height, height)
        length, room = sum(widths) + gap * (len(marks) - 1), self.right - self.left
        fit = min(1.0, room / length)
        x = self.left + (room - fit * length) * _between(self.rng, [0.4, 0.6])
        y = min(self.middle - height / 2, DRAWN - height - 0.04 * DRAWN)
        mask = np.zeros((DRAWN, self.width), np.uint8)
        for mark, w in zip(marks, widths, strict=True):
            box = (x, y, fit * w, height)
            if mark in SEPARATORS:
                self._separator(mask, mark, box)
            else:
                draw_glyph(mask, glyph(style, weight, mark), box, pen if mark.isascii() else 0.3 * pen)
            x += fit * (w + gap)
        self._print(mask)

    def _cell_widths(self, marks: str, style: str, weight: int, cell: float, height: float) -> list[float]:
        def width(mark: str) -> float:
            if mark in SEPARATORS:
                return SEPARATOR_WIDTHS[mark] * height
            if mark == "0" and STYLES[style].zero == "O":
                return 0.86 * cell
            if mark in "I1":
                return cell * float(np.clip(relative_width(style, weight, mark), 0.2, 1.0))
            return cell * (1.12 if not mark.isascii() else 1.0)

        return [width(mark) for mark in marks]

    def _separator(self, mask: NDArray[np.uint8], mark: str, box: Box) -> None:
        x, y, w, h = box
        centre = (round(x + w / 2), round(y + h / 2))
        if mark == "-":
            cv2.rectangle(mask, (round(x), centre[1] - 3), (round(x + w), centre[1] + 3), (255,), -1)
        elif mark == ".":
            cv2.circle(mask, centre, round(0.06 * h) + 1, (255,), -1)
        elif mark == ":":
            for share in (0.25, 0.75):
                colour = tuple(int(c) for c in self.rng.integers(60, 230, 3))
                cv2.circle(
                    self.image, (centre[0], round(y + share * h)), round(0.16 * h), colour, -1, cv2.LINE_AA
                )
        elif mark == "*":
            colour = tuple(int(c) for c in self.rng.integers(20, 230, 3))
            angles = np.arange(7) * 2 * np.pi / 7
            radii = self.rng.uniform(0.15, 0.5, 7)[:, None] * [w, h]
            outline = centre + radii * np.stack([np.cos(angles), np.sin(angles)], 1)
            cv2.fillPoly(self.image, [outline.astype(np.int32)], colour, cv2.LINE_AA)

    def _print(self, mask: NDArray[np.uint8]) -> None:
        """Colour the characters, with the light edge and the shadow of pressed metal."""
        share = mask[..., None].astype(np.float32) / 255
        picture = self.image * (1 - share) + np.array(self.ink, np.float32) * share
        raised = mask.astype(np.float32)
        relief = np.roll(raised, (2, 2), (0, 1)) - np.roll(raised, (-2, -2), (0, 1))
        relief = cv2.GaussianBlur(relief, (0, 0), 1.2)[..., None]
        picture -= _between(self.rng, [0.0, 0.2]) * relief
        self.image = np.clip(picture, 0, 255).astype(np.uint8)

    def finish(self) -> NDArray[np.uint8]:
        """Add dirt and wear, and hand out the picture, (128, width, 3)."""
        if self.rng.random() < 0.35:
            small = self.rng.random((6, 14), dtype=np.float32)
            patches = cv2.resize(small, (self.width, DRAWN), interpolation=cv2.INTER_CUBIC)[..., None]
            share = np.clip((patches - 0.5) * self.rng.uniform(0.1, 0.9), 0, 0.5)
            dirt = np.array([105, 95, 80], np.float32)
            self.image = (self.image * (1 - share) + dirt * share).astype(np.uint8)
        return self.image
