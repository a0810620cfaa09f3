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


def test_a_still_labels_plate_and_text_but_no_vehicle():
    data = RenderedPlates(5, seed=1, kinds=["china_blue"])
    info, image = data.sequence(2), data.image(2, 0)
    height, width = image.shape[:2]
    assert image.dtype == np.uint8 and image.shape[2] == 3
    assert info.name == data.sequence_name(2) == "plate1-000002"
    assert not info.is_video and not info.box_labelled and info.has_text
    assert info.boxes_xywh.tolist() == [[0, 0, width, height]]
    x1, y1, x2, y2 = info.plates[0].box_xyxy
    assert 0 <= x1 < x2 <= width + 1e-6 and 0 <= y1 < y2 <= height + 1e-6 and 63 <= x2 - x1 <= 201
    assert len(info.plates[0].text) == 7


def test_the_box_is_where_the_plate_is():
    """A white plate, found again by its brightness against darker surroundings."""
    plate = Plate(np.full((64, 256, 3), 255, np.uint8), "A", (0.5, 0.12), "germany")
    found = 0
    for seed in range(20):
        still = photograph(np.random.default_rng(seed), plate)
        grey = still.image.astype(float).mean(2)
        x1, y1, x2, y2 = still.box_xyxy
        level = np.median(grey[round((y1 + y2) / 2) - 2 : round((y1 + y2) / 2) + 2])
        outside = np.concatenate(
            [grey[: max(1, int(y1) - 3)].ravel(), grey[:, : max(1, int(x1) - 3)].ravel()]
        )
        if outside.max() > 0.7 * level:
            continue  # a bright vehicle
        found += 1
        rows, columns = np.nonzero(grey > 0.85 * level)
        assert [columns.min(), rows.min()] == pytest.approx([x1, y1], abs=4)
        assert [columns.max(), rows.max()] == pytest.approx([x2, y2], abs=4)
    assert found >= 4


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
