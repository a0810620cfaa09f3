"""Rendered plates: formats, texts, glyphs."""

import re

import numpy as np
import pytest

from mtltrack.core.alphabets import encode_text, load_alphabet, normalise_text
from mtltrack.core.errors import DataError
from mtltrack.data.synthetic.plate_glyphs import STYLES, draw_glyph, glyph, relative_width
from mtltrack.data.synthetic.plates import PLATE_KINDS, PROVINCES, draw_plate

TEXTS = {
    "germany": r"[A-Z]{2,5}\d{2,4}",
    "britain_rear": r"[A-Z]{2}\d\d[A-Z]{3}|[A-Z]\d{3}[A-Z]{3}",
    "france": r"[A-Z]{2}\d{3}[A-Z]{2}",
    "brazil": r"[A-Z]{3}\d{4}",
    "brazil_mercosul": r"[A-Z]{3}\d[A-Z]\d\d",
    "china_blue": rf"[{PROVINCES}][A-HJ-NP-Z][A-HJ-NP-Z\d]{{5}}",
    "china_green": rf"[{PROVINCES}][A-HJ-NP-Z][A-HJ-NP-Z\d]{{6}}",
}


@pytest.mark.parametrize("kind", PLATE_KINDS)
def test_each_format_gives_a_picture_in_its_proportions_and_a_text_that_can_be_learned(kind):
    plate = draw_plate(np.random.default_rng(3), kind)
    width, height = plate.size_m
    assert plate.kind == kind and plate.image.dtype == np.uint8 and plate.image.shape[0] == 64
    assert plate.image.shape[1] == pytest.approx(64 * width / height, abs=1)
    assert normalise_text(plate.text) == plate.text
    assert encode_text(plate.text, load_alphabet("chinese"), 24, "here")
    assert plate.image.mean(2).std() > 20  # there is writing on it


@pytest.mark.parametrize("kind", sorted(TEXTS))
def test_texts_follow_the_nations_patterns(kind):
    rng = np.random.default_rng(0)
    for _ in range(10):
        assert re.fullmatch(TEXTS[kind], draw_plate(rng, kind).text)


def test_a_plate_is_a_function_of_the_generator():
    first, again = (draw_plate(np.random.default_rng(7)) for _ in range(2))
    assert first.text == again.text and np.array_equal(first.image, again.image)
    other = draw_plate(np.random.default_rng(8), first.kind)
    assert other.text != first.text


def test_all_kinds_are_drawn_alike():
    rng = np.random.default_rng(0)
    assert {draw_plate(rng).kind for _ in range(120)} == set(PLATE_KINDS)


def test_an_unknown_kind_is_refused():
    with pytest.raises(
        DataError, match=r"no plate format 'germani'\. Did you mean 'germany'\? Choose from: "
    ):
        draw_plate(np.random.default_rng(0), "germani")


@pytest.mark.parametrize("style", sorted(STYLES))
def test_a_style_has_every_character_and_no_two_alike(style):
    weight = STYLES[style].weights[0]
    letters = [c for c in load_alphabet("latin") if c != "0"]  # 0 may be drawn by O
    pictures = {glyph(style, weight, c).tobytes() for c in letters}
    assert len(pictures) == len(letters)
    assert relative_width(style, weight, "1") < 1.2


def test_every_province_has_its_own_glyph():
    assert len({glyph("stroke", 300, c).tobytes() for c in PROVINCES}) == len(PROVINCES) == 31


def test_zero_is_not_crossed_out():
    """The middle of a 0 is empty in every style."""
    for style, how in STYLES.items():
        zero = glyph(style, how.weights[0], "0")
        h, w = zero.shape
        assert zero[h // 2 - 3 : h // 2 + 3, w // 2 - 2 : w // 2 + 2].max() == 0, style


def test_a_glyph_fills_its_cell_also_at_the_edge():
    ink = np.zeros((40, 60), np.uint8)
    block = np.full((70, 50), 255, np.uint8)
    draw_glyph(ink, block, (10, 5, 20, 30), pen=4)
    rows, columns = np.flatnonzero(ink.max(1)), np.flatnonzero(ink.max(0))
    assert abs(rows[0] - 5) <= 1 and abs(rows[-1] - 34) <= 1
    assert abs(columns[0] - 10) <= 1 and abs(columns[-1] - 29) <= 1
    draw_glyph(ink, block, (50, -10, 20, 30), pen=0)
    assert ink[0:20, 50:60].min() == 255 and ink[20:, 50:].max() == 0
