"""Characters of rendered plates: glyphs of real fonts, brought into the narrow even strokes of plates.

Fonts are those that OpenCV carries (Rubik, and WenQuanYi for Chinese) and those that come with matplotlib;
none is stored here. A plate's characters fill cells of equal height, so each glyph is cut to its outline,
fitted to its cell and thickened by a round pen, which hides the thinning that comes from narrowing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

DRAWN = 96  # pixels: size at which a font draws its glyph
CHINESE = ("uni", 400)


@dataclass(frozen=True)
class Style:
    """How a font becomes the writing of plates.

    Attributes:
        font: a font of OpenCV ("sans", "uni") or a file name among matplotlib's fonts.
        weights: weights to choose from, where the font has several; else (0,).
        pen: added to a format's stroke, a share of the glyph's height.
        zero: character drawn for 0: a font that crosses its zero out has "O" here.
    """

    font: str
    weights: tuple[int, ...] = (0,)
    pen: float = 0.0
    zero: str = "0"


STYLES = {
    "stroke": Style("sans", (300,), 0.05, "O"),
    "thin": Style("DejaVuSans.ttf", pen=0.01),
    "sans": Style("sans", (400, 500), 0.0, "O"),
    "bold": Style("sans", (600,), 0.0, "O"),
    "dejavu": Style("DejaVuSans.ttf", pen=0.04),
    "mono": Style("DejaVuSansMono.ttf", pen=0.03, zero="O"),
    "typewriter": Style("cmtt10.ttf", pen=0.04),
}


@lru_cache(maxsize=32)
def _face(font: str) -> cv2.FontFace:
    if font in ("sans", "uni", "italic"):
        return cv2.FontFace(font)
    import matplotlib  # its fonts are wanted, not its drawing

    return cv2.FontFace(str(Path(matplotlib.get_data_path(), "fonts", "ttf", font)))


@lru_cache(maxsize=1024)
def _glyph(font: str, weight: int, character: str) -> NDArray[np.uint8]:
    """Return a character cut to its outline, (h, w) uint8, 255 on the ink."""
    canvas = np.zeros((2 * DRAWN, 2 * DRAWN, 3), np.uint8)
    white = (255, 255, 255)
    cv2.putText(canvas, character, (DRAWN // 2, 3 * DRAWN // 2), white, _face(font), DRAWN, weight)
    mask = canvas[..., 0]
    x, y, w, h = cv2.boundingRect(mask)
    if not w:
        raise ValueError(f"the font '{font}' draws nothing for {character!r}")
    glyph = mask[y : y + h, x : x + w]
    glyph.setflags(write=False)
    return glyph


def glyph(style: str, weight: int, character: str) -> NDArray[np.uint8]:
    """Return a character's glyph in a style, (h, w) uint8, cut to its outline; some 70 pixels high."""
    if not character.isascii():
        return _glyph(*CHINESE, character)
    how = STYLES[style]
    return _glyph(how.font, weight, how.zero if character == "0" else character)


def relative_width(style: str, weight: int, character: str) -> float:
    """Return a glyph's width over that of H: little for I and 1, which don't fill a cell."""
    own, other = glyph(style, weight, character), glyph(style, weight, "H")
    return (own.shape[1] / own.shape[0]) / (other.shape[1] / other.shape[0])


def draw_glyph(
    ink: NDArray[np.uint8], shape: NDArray[np.uint8], box: tuple[float, float, float, float], pen: float
) -> None:
    """Draw a glyph into a mask, fitted to a cell and thickened.

    Args:
        ink: (H, W) uint8 mask, changed in place.
        shape: the glyph.
        box: x, y, width, height of the cell in pixels; rounded, and cut at the mask's edge.
        pen: how much thicker the strokes become, in pixels.
    """
    x, y, w, h = (round(value) for value in box)
    thick = max(0, round(pen))
    inner = cv2.resize(shape, (max(2, w - thick), max(4, h - thick)), interpolation=cv2.INTER_AREA)
    cell = cv2.copyMakeBorder(inner, thick, thick, thick, thick, cv2.BORDER_CONSTANT, value=(0,))
    if thick:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (thick + 1, thick + 1))
        cell = cv2.dilate(cell, kernel)
    x, y = x - (thick + 1) // 2, y - (thick + 1) // 2
    top, left = max(0, -y), max(0, -x)
    target = ink[max(0, y) : y + cell.shape[0], max(0, x) : x + cell.shape[1]]
    part = cell[top : top + target.shape[0], left : left + target.shape[1]]
    np.maximum(target, part, out=target)


def draw_words(
    image: NDArray[np.uint8],
    words: str,
    box: tuple[float, float, float, float],
    colour: tuple[int, int, int],
    font: str = "sans",
    weight: int = 500,
) -> None:
    """Write words into a box of an image, as large as fits, in the middle; changes the image in place.

    Args:
        image: (H, W, 3) uint8 RGB.
        words: what to write.
        box: x, y, width, height in pixels.
        colour: RGB.
        font: as in `Style`.
        weight: as in `Style`.
    """
    x, y, w, h = box
    face = _face(font)
    _, _, length, height = cv2.getTextSize((0, 0), words, (0, 0), face, 100, weight)
    size = int(min(100 * w / max(length, 1), 100 * h / max(height, 1)))
    if size < 4:
        return
    start = (round(x + (w - length * size / 100) / 2), round(y + (h + 0.72 * size) / 2))
    cv2.putText(image, words, start, colour, face, size, weight)
