"""Pictures of rendered plates: deterministic, of all formats, readable, refused when asked for too much."""

import pickle

import numpy as np
import pytest

from mtltrack.core.errors import DataError
from mtltrack.data.datasets import RenderedPlates
from mtltrack.data.synthetic.plate_photos import photograph
from mtltrack.data.synthetic.plates import Plate


def test_a_picture_is_a_function_of_seed_and_number():
    first, other = RenderedPlates(30, seed=4), RenderedPlates(300, seed=4)
    forwards = [first.image(i, 0) for i in (3, 17)]
    backwards = [other.image(i, 0) for i in (17, 3)]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, backwards[::-1], strict=True))
    assert first.sequence(3).plates[0].text == other.sequence(3).plates[0].text
    assert not np.array_equal(RenderedPlates(30, seed=5).image(3, 0), forwards[0])
    again = pickle.loads(pickle.dumps(first))
    assert np.array_equal(again.image(3, 0), forwards[0])


def test_a_still_is_all_plate():
    data = RenderedPlates(5, seed=1, kinds=["china_blue"])
    info, image = data.sequence(2), data.image(2, 0)
    height, width = image.shape[:2]
    assert image.dtype == np.uint8 and image.shape[2] == 3 and 64 <= width <= 200
    assert info.name == data.sequence_name(2) == "plate1-000002"
    assert not info.is_video and not info.box_labelled and info.has_text
    assert info.plates[0].box_xyxy == (0, 0, width, height)
    assert info.boxes_xywh.tolist() == [[0, 0, width, height]]
    assert len(info.plates[0].text) == 7


def test_the_plate_stays_in_the_picture():
    """A plate with a bright spot near each end: both spots can be found in every picture."""
    image = np.zeros((64, 256, 3), np.uint8)
    image[20:44, 20:40] = image[20:44, 216:236] = 255
    plate = Plate(image, "A", (0.5, 0.12), "germany")
    for seed in range(20):
        picture = photograph(np.random.default_rng(seed), plate).image.astype(float).mean(2)
        columns = picture[picture.shape[0] // 4 : -picture.shape[0] // 4].mean(0)
        ends = columns[: len(columns) // 3].max(), columns[-(len(columns) // 3) :].max()
        assert min(ends) > columns[len(columns) // 3 : -(len(columns) // 3)].mean() + 3


def test_arguments_out_of_range_are_refused():
    with pytest.raises(DataError, match="NUM_SEQUENCES of at least 1 and SEED of at least 0; found 0 and 0"):
        RenderedPlates(0)
    with pytest.raises(DataError, match=r"KINDS names 'chine_blue'\. Did you mean 'china_blue'\?"):
        RenderedPlates(3, kinds=["chine_blue"])
    with pytest.raises(DataError, match="KINDS is empty"):
        RenderedPlates(3, kinds=[])
    with pytest.raises(DataError, match="no rendered plate 3: NUM_SEQUENCES is 3, from 0 on"):
        RenderedPlates(3).image(3, 0)
    with pytest.raises(DataError, match="RenderedPlates has no masks"):
        RenderedPlates(3).mask(0, 0)
