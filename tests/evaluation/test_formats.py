"""Results and ground truth of other programs, each format from a tiny file written by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from mtltrack.core.errors import DataError
from mtltrack.evaluation.formats import find_results, load_truths, match_names
from mtltrack.evaluation.formats.finding import FoundResults
from mtltrack.evaluation.results import parse_lines

BOXES = [[1.0, 2.0, 3.0, 4.0], [5.5, 6.0, 7.0, 8.0]]


def only(root: Path, *sequences: str) -> FoundResults:
    (results,) = find_results(root, sequences or ("a",)).values()
    return results


@pytest.mark.parametrize(
    "text",
    [
        "1\t2\t3\t4\n5.5\t6\t7\t8\n",
        "1,2,3,4\n5.5,6,7,8",
        "1.0, 2.0, 3.0, 4.0\r\n5.50, 6.00, 7.00, 8.00\r\n\r\n",
        "  1   2 3 4\n5.5 6 7 8 \n",
        "1;2;3;4\n5.5;6;7;8\n",
        "1,2\t3 4,\n5.5e0,6,7,8\n",
        "\ufeff1,2,3,4\n5.5,6,7,8\n",
        "[[1, 2, 3, 4], [5.5, 6, 7, 8]]",
        '{"res": [[1, 2, 3, 4], [5.5, 6, 7, 8]], "fps": 20}',
        '[{"seqName": "a", "startFrame": 1, "resType": "rect", "res": [[1, 2, 3, 4], [5.5, 6, 7, 8]]}]',
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.json", "a.csv", "a.txt.gz"])
def test_the_content_of_a_file_says_what_it_is(tmp_path: Path, text: str, name: str) -> None:
    data = text.encode("utf-8")
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert only(tmp_path).read("a").tolist() == BOXES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3,4\n5,6,7\n", r"a\.txt', line 2: wanted 4 numbers x, y, w, h, found '5,6,7'"),
        ("1,2,3,4\n\n5,6,7,8\n", r"a\.txt', line 2: wanted 4 numbers"),
        ("1,2,3,4\nx,6,7,8\n", r"a\.txt', line 2: .* found 'x,6,7,8'"),
        ("", r"a\.txt' is empty; wanted a line x, y, w, h"),
        ("[[1, 2, 3, 4],\n [5, 6", r"a\.txt', line 2, column 7: not JSON \(Expecting ',' delimiter\)"),
        ("[[1, 2, 3, 4], [5, 6, 7]]", r"a\.txt', box 2: wanted \[x, y, w, h\], found \[5, 6, 7\]"),
        ("[[1, 2, 3, null]]", r"box 1: wanted \[x, y, w, h\], found \[1, 2, 3, None\]"),
        ("[[1, 1, 2, 1, 2, 2, 1, 2]]", r"box 1: .* Eight numbers are the corners of a polygon"),
        ("[]", r"a\.txt': wanted a list of boxes \[x, y, w, h\], one a frame; found \[\]"),
        ('{"boxes": []}', r"a\.txt': wanted 'res' with the boxes; found the keys boxes"),
        ('{"res": [], "resType": "affine"}', r"boxes of the kind 'affine' can't be read; wanted 'rect'"),
        ('[{"evalType": "TRE", "res": []}, {}]', r"holds 2 runs \(TRE\); wanted one, of a one-pass"),
        ("\x00\xff", r"a\.txt' is no text: .* Wanted lines x, y, w, h, or JSON"),
    ],
)
def test_what_cannot_be_read_names_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        only(tmp_path).read("a")


def test_a_damaged_archive(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"1,2,3,4\n")[:-9])
    with pytest.raises(DataError, match=r"can't read '.*a\.txt\.gz': Compressed file ended"):
        only(tmp_path).read("a")


def test_all_lines_at_once_are_what_each_line_is() -> None:
    text = "1.25,-2e3\tnan 4\n.5;6,7,  80000000000000000001\n"
    at_once = parse_lines(text, Path("x"), 4)
    assert np.array_equal(
        at_once, [[1.25, -2000.0, np.nan, 4.0], [0.5, 6.0, 7.0, float(80000000000000000001)]], equal_nan=True
    )
    assert parse_lines("", Path("x"), 4).shape == (0, 4)
    assert parse_lines("1\n2\n", Path("x"), 1).tolist() == [[1.0], [2.0]]


def test_folders_as_the_got10k_toolkit_writes_them(tmp_path: Path) -> None:
    for tracker in ("siam", "kcf"):
        for name in ("GOT-10k_Val_000001", "GOT-10k_Val_000002"):
            folder = tmp_path / tracker / name
            folder.mkdir(parents=True)
            for repetition in ("001", "002"):
                (folder / f"{name}_{repetition}.txt").write_text(f"1,2,3,4\n5,6,7,{int(repetition)}\n")
            (folder / f"{name}_time.txt").write_text("9.0,9.0\n0.25,0.5\n")
    found = find_results(tmp_path, ["GOT-10k_Val_000001"])
    assert list(found) == ["kcf", "siam"]
    results = found["siam"]
    assert list(results.sources) == ["GOT-10k_Val_000001", "GOT-10k_Val_000002"]
    assert results.read("GOT-10k_Val_000001")[1].tolist() == [5, 6, 7, 1]  # the first repetition
    assert results.fps("GOT-10k_Val_000001") == 4.0
    assert results.where("GOT-10k_Val_000002").name == "GOT-10k_Val_000002_001.txt"


def test_flat_folders_of_several_trackers_with_other_files_beside_them(tmp_path: Path) -> None:
    for place in ("one", "group/two/base"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "a.txt").write_text("1 2 3 4\n5 6 7 8\n")
        (tmp_path / place / "a_time.txt").write_text("1\n0.1\n")
    (tmp_path / "README.txt").write_text("notes")
    (tmp_path / "one" / "run.json").write_text("{}")
    (tmp_path / "one" / "analysis_gt.json").write_text("{}")
    found = find_results(tmp_path, ["a"])
    assert list(found) == ["group/two/base", "one"]
    assert list(found["one"].sources) == ["a"] and found["one"].fps("a") == pytest.approx(10.0)
    assert found["one"].tasks("a") == tmp_path / "one" / "a.tasks.jsonl"
    assert not found["one"].has("b")


@pytest.mark.parametrize(
    "content",
    [
        {"a": BOXES, "b": BOXES[:1]},
        {"a": {"res": BOXES, "fps": 12.5}, "b": {"res": BOXES[:1]}},
        [{"seqName": "a", "res": BOXES, "fps": 12.5}, {"seqName": "b", "res": BOXES[:1]}],
    ],
)
def test_one_json_file_of_all_sequences(tmp_path: Path, content: object) -> None:
    path = tmp_path / "kcf.json"
    path.write_text(json.dumps(content))
    found = find_results(path, ["a", "b"])
    assert list(found) == ["kcf"]
    assert found["kcf"].read("a").tolist() == BOXES and len(found["kcf"].read("b")) == 1
    assert found["kcf"].fps("a") == (None if isinstance(content, dict) and content["a"] is BOXES else 12.5)


def test_two_files_of_one_sequence_and_the_truth_beside_the_trackers(tmp_path: Path) -> None:
    for place in ("gt", "mine"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.txt").write_text("1 2 3 4\n")
    assert list(find_results(tmp_path, ["a"], tmp_path / "gt")) == ["mine"]
    (tmp_path / "mine" / "a.json").write_text("[[1, 2, 3, 4]]")
    results = find_results(tmp_path, ["a"], tmp_path / "gt")["mine"]
    with pytest.raises(DataError, match=r"a\.txt' and 'a\.json' beside it both are of 'a'; remove one"):
        results.read("a")


def test_where_there_are_no_results(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--results '.*none' is neither a folder nor a file"):
        find_results(tmp_path / "none", ["a"])
    with pytest.raises(DataError, match=r"no results in .* in its folders: wanted <seq>\.txt with lines"):
        find_results(tmp_path, ["a"])
    (tmp_path / "a.mat").touch()
    with pytest.raises(DataError, match=r"'.*a\.mat' is MATLAB's: write its boxes as text"):
        find_results(tmp_path, ["a"])
    (tmp_path / "x.txt").write_text("1 2 3 4\n")
    with pytest.raises(
        DataError, match="are of none of the ground truth's 2 sequences: found x; wanted a, b"
    ):
        find_results(tmp_path, ["a", "b"])
    with pytest.raises(DataError, match=r"x\.txt' is one file: wanted JSON {sequence: .* or give the folder"):
        find_results(tmp_path / "x.txt", ["x"])


def test_names_that_are_written_differently() -> None:
    wanted = ["Basketball", "Jogging-1", "Jogging-2", "car", "bike1", "Boy"]
    found = ["BasketBall", "jogging_1", "jogging.2", "car", "uav_bike1", "extra"]
    matched, notes, unknown = match_names(wanted, found)
    assert matched == {
        "Basketball": "BasketBall",
        "Jogging-1": "jogging_1",
        "Jogging-2": "jogging.2",
        "car": "car",
        "bike1": "uav_bike1",
    }
    assert notes[0] == "'BasketBall' is taken for 'Basketball'" and len(notes) == 4
    assert unknown == ["extra"]
    assert match_names(["A"], ["a", "a_", "A"])[0] == {"A": "A"}
    assert match_names(["Ab"], ["ab", "AB"])[0] == {}  # either could be meant


def test_results_under_the_names_of_the_ground_truth(tmp_path: Path) -> None:
    for name in ("BasketBall", "other"):
        (tmp_path / f"{name}.txt").write_text("1 2 3 4\n")
    results, notes = only(tmp_path, "Basketball").named_as(["Basketball"])
    assert results.has("Basketball") and results.read("Basketball").tolist() == [[1, 2, 3, 4]]
    assert notes == [
        "'BasketBall' is taken for 'Basketball'",
        "1 result(s) of no sequence of the ground truth (other)",
    ]


def write_pysot(path: Path, **entry: object) -> Path:
    content = {"a": {"video_dir": "a", "init_rect": BOXES[0], "gt_rect": BOXES, **entry}}
    data = json.dumps(content).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["OTB.json", "OTB.json.gz"])
def test_ground_truth_as_pysot_has_it(tmp_path: Path, name: str) -> None:
    names = ["a/img/0001.jpg", "a/img/0002.jpg"]
    path = write_pysot(tmp_path / name, img_names=names, attr=["Occlusion"], absent=[1, 0])
    (truth,) = load_truths(path)
    assert truth.boxes_xywh.tolist() == BOXES and truth.attributes == {"Occlusion"}
    assert truth.visible is not None and truth.visible.tolist() == [True, False]
    assert truth.frames == ()  # the images aren't there
    (tmp_path / "data" / "a" / "img").mkdir(parents=True)
    (tmp_path / "data" / names[0]).touch()
    (truth,) = load_truths(path, tmp_path / "data")
    assert truth.frames == tuple(tmp_path / "data" / item for item in names)
    (truth,) = load_truths(write_pysot(tmp_path / "plain.json", attr=None))
    assert truth.visible is None and truth.attributes == frozenset()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"img_names": ["1.jpg"]}, "'a': 2 boxes in gt_rect, but 1 img_names"),
        ({"absent": [1]}, "'a': 2 boxes in gt_rect, but 1 values in 'absent'"),
        ({"gt_rect": [[1, 2, 3, 4], [1, 2]]}, r"'a', gt_rect, box 2: wanted \[x, y, w, h\], found \[1, 2\]"),
    ],
)
def test_faults_in_pysots_ground_truth(tmp_path: Path, entry: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_truths(write_pysot(tmp_path / "gt.json", **entry))


def test_what_is_no_ground_truth(tmp_path: Path) -> None:
    path = tmp_path / "gt.json"
    for text, message in (
        ("1,2,3,4", "is one file, but no JSON; give the folder"),
        ("[]", "wanted {sequence: {'gt_rect'"),
        ('{"a": [1]}', r"'a': wanted an object with 'gt_rect'; found \[1\]"),
        ('{"a": {"boxes": 1}}', "wanted an object with 'gt_rect'; found the keys boxes"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            load_truths(path)
    with pytest.raises(DataError, match=r"--ground-truth '.*none' is neither a folder nor a file"):
        load_truths(tmp_path / "none")
    with pytest.raises(DataError, match=r"--images '.*none' is no folder"):
        load_truths(path, tmp_path / "none")


def test_ground_truth_in_the_layouts_of_got10k_and_otb(tmp_path: Path) -> None:
    place = tmp_path / "val"
    for name, files in {
        "v1": {
            "groundtruth.txt": "1,2,3,4\n5,6,7,8\n",
            "absence.label": "0\n1\n",
            "cover.label": "8\n0\n",
        },
        "Jogging": {
            "groundtruth_rect.1.txt": "1 2 3 4\n",
            "groundtruth_rect.2.txt": "2 2 3 4\n",
            "attrs.txt": "OCC,DEF",
        },
    }.items():
        (place / name).mkdir(parents=True)
        for file, text in files.items():
            (place / name / file).write_text(text)
    (place / "list.txt").write_text("v1\n")  # names, no boxes
    truths = {truth.name: truth for truth in load_truths(place)}
    assert list(truths) == ["Jogging-1", "Jogging-2", "v1"]
    assert truths["Jogging-2"].boxes_xywh[0, 0] == 2.0 and truths["Jogging-2"].attributes == {"OCC", "DEF"}
    visible, cover = truths["v1"].visible, truths["v1"].cover
    assert visible is not None and visible.tolist() == [True, False]
    assert cover is not None and cover.tolist() == [8, 0]
    (place / "v1" / "cover.label").write_text("8\n")
    with pytest.raises(DataError, match=r"v1/cover\.label: has 1 entries, but the ground truth .* has 2"):
        load_truths(place)


def test_ground_truth_in_folders_with_and_without_images(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.txt").write_text("1,2,3,4\n5,6,7,8\n")
    (truth,) = load_truths(tmp_path / "flat")
    assert truth.name == "a" and truth.frames == ()
    images = tmp_path / "images" / "a"
    images.mkdir(parents=True)
    for number in (1, 2):
        (images / f"{number}.jpg").touch()
    (truth,) = load_truths(tmp_path / "flat", tmp_path / "images")
    assert [path.name for path in truth.frames] == ["1.jpg", "2.jpg"]
    (images / "3.jpg").touch()  # which image belongs to which box isn't known
    assert load_truths(tmp_path / "flat", tmp_path / "images")[0].frames == ()
