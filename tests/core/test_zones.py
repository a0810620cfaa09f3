"""Zones: reading, checking, and the area that a box has in common with one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mtltrack.core.errors import DataError
from mtltrack.core.zones import box_polygon_area, check_polygon, polygon_area, read_zones

SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10]]
# a U, open at the top: 30 wide, 20 high, its notch 10 wide and 10 deep
LETTER_U = np.array([[0, 0], [10, 0], [10, 10], [20, 10], [20, 0], [30, 0], [30, 20], [0, 20]], dtype=float)


def written(folder: Path, text: str) -> Path:
    path = folder / "zones.json"
    path.write_text(text, encoding="utf-8")
    return path


def message_of(folder: Path, text: str) -> str:
    with pytest.raises(DataError) as error:
        read_zones(written(folder, text))
    return str(error.value)


def test_zones_are_read_by_name_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = written(
        tmp_path, '{\n "bus stop": [[0, 0], [4, 0], [4, 3.5]],\n "étage": [[1, 1], [2, 1], [2, 2]]}'
    )
    zones = read_zones(path)
    assert list(zones) == ["bus stop", "étage"]
    assert zones["bus stop"].dtype == np.float64
    np.testing.assert_array_equal(zones["bus stop"], [[0, 0], [4, 0], [4, 3.5]])


def test_repeated_corners_and_a_closed_ring_are_one_corner() -> None:
    polygon = check_polygon([*SQUARE, [0, 10], [0, 0]], "here")
    np.testing.assert_array_equal(np.sort(polygon, axis=0), np.sort(SQUARE, axis=0))
    assert len(polygon) == 4 and polygon_area(polygon) == 100


@pytest.mark.parametrize(
    ("points", "wanted"),
    [
        ([], "has 0 different corners"),
        ([[1, 2]], "has 1 different corner;"),
        ([[0, 0], [5, 5]], "has 2 different corners; a polygon needs at least three"),
        ([[0, 0], [5, 5], [0, 0]], "has 2 different corners"),
        ([[0, 0], [1, 1], [2, 2], [5, 5]], "zero area"),
        ([[0, 0], [10, 10], [10, 0], [0, 10]], "crosses or touches itself: the edge (0, 0)-(10, 10) meets"),
        ([[0, 0], [10, 0], [10, 10], [5, 0], [0, 10]], "crosses or touches itself"),
        ([[0, 0], [10, 0], [5, 0], [5, 8]], "crosses or touches itself"),
        ([[0, 0], [1, 0], [float("nan"), 1]], "number 3 is [nan, 1.0]"),
        ([[0, 0], [1, 0], [1, float("inf")]], "isn't finite"),
        ([[0, 0], [1, 0], [1]], "must be a list of [x, y] pairs of numbers"),
        ([["0", "0"], ["1", "0"], ["1", "1"]], "must be a list of [x, y] pairs"),
        ([[0, 0, 0], [1, 0, 0], [1, 1, 0]], "must be a list of [x, y] pairs"),
        ("square", "found 'square'"),
        (None, "found None"),
    ],
)
def test_what_is_no_simple_polygon_is_refused(points: object, wanted: str) -> None:
    with pytest.raises(DataError) as error:
        check_polygon(points, "zones.json:7: zone 'a'")
    assert str(error.value).startswith("zones.json:7: zone 'a'")
    assert wanted in str(error.value)


def test_a_message_names_file_line_and_zone_of_a_pretty_printed_file(tmp_path: Path) -> None:
    text = '{\n  "good": [[0, 0], [4, 0], [4, 3]],\n\n  "bad" : [\n    [0, 0],\n    [1, 1]\n  ]\n}'
    assert message_of(tmp_path, text).startswith(f"{tmp_path / 'zones.json'}:4: zone 'bad' has 2 different")


def test_a_zone_is_found_where_its_name_is_a_key_however_it_is_spelt(tmp_path: Path) -> None:
    text = '{"a": [[0, 0], [4, 0], [4, 3]],\n "\\u00e9": [[0, 0]]}'
    assert ":2: zone 'é'" in message_of(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"a": [[0, 0],\n [1, 0]', "zones.json:2: no JSON"),
        ("[[0, 0], [1, 0], [1, 1]]", "zones.json:1: zones must be an object of named polygons, found list"),
        ('{"a": [[0, 0], [1, 0], [1, 1]],\n"a": [[0, 0], [1, 0], [1, 1]]}', "'a' stands in the file twice"),
        ('{"a": {"x": 1}}', "found {'x': 1}"),
        ('{"a": [[0, 0], [NaN, 0], [1, 1]]}', "isn't finite"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, text: str, wanted: str) -> None:
    assert wanted in message_of(tmp_path, text)


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json: the zones can't be read"):
        read_zones(tmp_path / "nowhere.json")
    (tmp_path / "zones.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="the zones can't be read"):
        read_zones(tmp_path / "zones.json")


@pytest.mark.parametrize(
    ("box", "wanted"),
    [
        ((0, 0, 30, 20), 500),  # 600 less the notch of 100
        ((5, 5, 25, 15), 5 * 5 + 5 * 5 + 20 * 5),  # both arms and a strip of the bottom
        ((12, 0, 18, 8), 0),  # wholly in the notch
        ((40, 40, 50, 50), 0),
        ((5, 5, 5, 15), 0),  # no width
        ((9, 2, 9, 1), 0),  # corners the wrong way round
    ],
)
@pytest.mark.parametrize("step", [1, -1])
def test_area_in_common_with_a_concave_polygon(box: tuple[float, ...], wanted: float, step: int) -> None:
    assert box_polygon_area(np.array(box, dtype=float), LETTER_U[::step]) == pytest.approx(wanted)


def test_area_equals_shapely() -> None:
    shapely = pytest.importorskip("shapely")
    rng = np.random.default_rng(0)
    for _ in range(200):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radii = rng.uniform(10, 300, 9)
        polygon = np.stack([300 + radii * np.cos(angles), 300 + radii * np.sin(angles)], axis=1)
        corner = rng.uniform(0, 500, 2)
        box = np.concatenate([corner, corner + rng.uniform(5, 200, 2)])
        reference = shapely.Polygon(polygon)
        if not reference.is_valid:
            continue
        wanted = shapely.box(*box).intersection(reference).area
        whole = (box[2] - box[0]) * (box[3] - box[1])
        assert abs(box_polygon_area(box, polygon) - wanted) / whole < 1e-12
        assert polygon_area(polygon) == pytest.approx(reference.area, rel=1e-12)
        assert len(check_polygon(polygon, "star")) == 9


def test_check_polygon_agrees_with_shapely_about_what_is_simple() -> None:
    shapely = pytest.importorskip("shapely")
    rng = np.random.default_rng(1)
    simple = 0
    for _ in range(200):
        polygon = rng.integers(0, 6, (5, 2)).astype(float)
        try:
            check_polygon(polygon, "random")
            accepted = True
        except DataError:
            accepted = False
        distinct = [point for i, point in enumerate(polygon.tolist()) if point != polygon[i - 1].tolist()]
        reference = len(distinct) > 2 and shapely.Polygon(distinct).is_valid
        assert accepted == reference, polygon.tolist()
        simple += accepted
    assert 20 < simple < 180
