from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from mtltrack.core.errors import DataError
from mtltrack.core.rle import check_mask_size, decode_mask, decode_numbers, decode_png, encode_mask

COLOURS = [0, 0, 0, 128, 0, 0, 0, 128, 0]


def png(pixels: np.ndarray, palette: list[int] | None = None) -> bytes:
    image = Image.fromarray(pixels)
    if palette is not None:
        image.putpalette(palette)  # a grey image becomes one with a palette, its values numbers into it
    data = BytesIO()
    image.save(data, format="PNG")
    return data.getvalue()


def test_counts_run_down_the_columns_from_a_run_of_zeros() -> None:
    # columns 0 1 0 | 1 1 1 -> zeros 1, ones 1, zeros 1, ones 3
    mask = np.array([[0, 1], [1, 1], [0, 1]], dtype=np.uint8)
    np.testing.assert_array_equal(decode_mask({"size": [3, 2], "counts": [1, 1, 1, 3]}, "here"), mask)
    encoded = encode_mask(mask)
    assert encoded["size"] == [3, 2]
    # five bits a character from "0" on; the fourth number is 3 - 1
    assert encoded["counts"] == "1112"
    assert encode_mask(mask * np.array([[9, 255], [7, 1], [9, 2]])) == encoded  # whatever isn't 0 counts
    np.testing.assert_array_equal(decode_mask(encoded, "here"), mask)


# pycocotools makes its arrays in a way that numpy 2 warns of
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_decoding_equals_pycocotools(share: float) -> None:
    rng = np.random.default_rng(3)
    for height, width in ((1, 1), (7, 5), (240, 321)):
        mask = (rng.random((height, width)) < share).astype(np.uint8)
        mask[: height // 2, : width // 3] = 1  # long runs need more characters, shorter ones negative steps
        encoded = encode_mask(mask)
        assert coco.decode({**encoded, "counts": encoded["counts"].encode()}).tolist() == mask.tolist()
        decoded = decode_mask(encoded, "here")
        assert decoded.dtype == np.uint8 and decoded.flags.c_contiguous
        np.testing.assert_array_equal(decoded, mask)


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"counts": "11"}, r"a.jsonl:7: a mask needs size \[height, width\] above 0; found None"),
        ({"size": [2, 0], "counts": "11"}, r"above 0; found \[2, 0\]"),
        ({"size": [2, 2.0], "counts": "11"}, r"above 0; found \[2, 2.0\]"),
        ({"size": [2, 2]}, "a mask needs counts, text or whole numbers; found None"),
        ({"size": [2, 2], "counts": [10**30]}, r"a.jsonl:7: the mask's counts hold a run of more than"),
        ({"size": [2, 2], "counts": [1, 2.5]}, "a mask needs counts, text or whole numbers"),
        ({"size": [2, 2], "counts": ""}, "runs cover 0 pixels, its size 2 x 2 has 4"),
        ({"size": [2, 3], "counts": [1, 4]}, "runs cover 5 pixels, its size 3 x 2 has 6"),
        ({"size": [2, 2], "counts": [5, -1]}, "runs cover 4 pixels"),
        ({"size": [2, 2], "counts": "1!"}, "hold a character that COCO's don't"),
        ({"size": [2, 2], "counts": "1ü"}, "hold a character that COCO's don't"),
        ({"size": [2, 2], "counts": "1P"}, "counts are cut off or broken"),
        ({"size": [2, 2], "counts": "P" * 40 + "0"}, "counts are cut off or broken"),
    ],
)
def test_broken_objects_are_named(rle: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_mask(rle, "a.jsonl:7")


def test_png_values_and_palette_numbers() -> None:
    numbers = np.array([[0, 1, 2], [2, 0, 0]], dtype=np.uint8)
    np.testing.assert_array_equal(decode_numbers(png(numbers, COLOURS), "m.png"), numbers)
    np.testing.assert_array_equal(decode_png(png(numbers, COLOURS), "m.png"), numbers > 0)
    grey = numbers * 100
    np.testing.assert_array_equal(decode_numbers(png(grey), "m.png"), grey)
    coloured = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(decode_numbers(png(coloured), "m.png"), grey)
    with_alpha = np.dstack([grey, np.full_like(grey, 255)])
    np.testing.assert_array_equal(decode_numbers(png(with_alpha), "m.png"), grey)


def test_broken_pngs_are_named() -> None:
    rng = np.random.default_rng(0)
    whole = png(rng.integers(0, 255, (60, 60), dtype=np.uint8))
    for data in (b"", b"not a picture", whole[: len(whole) // 2]):
        with pytest.raises(DataError, match=r"seq/00001.png: the mask can't be read .*Write the mask again"):
            decode_png(data, "seq/00001.png")
    colours = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)
    with pytest.raises(DataError, match=r"m.png: the mask is a colour image without a palette"):
        decode_png(png(colours), "m.png")
    with pytest.raises(DataError, match=r"8 bits; found the mode I;16"):
        decode_png(png(np.full((4, 4), 300, dtype=np.uint16)), "m.png")


def test_size_is_compared_with_the_frame() -> None:
    mask = np.zeros((48, 64), dtype=np.uint8)
    check_mask_size(mask, (64, 48), "m.png")
    with pytest.raises(DataError, match=r"m.png: the mask is 64 x 48 pixels, but its frame is 48 x 64"):
        check_mask_size(mask, (48, 64), "m.png")
