"""GOT-10k's splits."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_files import numbers_of, write, write_boxes, write_images

from mtltrack.core.errors import DataError
from mtltrack.evaluation.benchmarks import got10k


def make(root: Path, part: str, names: list[str], labels: bool = True) -> None:
    for name in names:
        folder = write_images(root / part / name, range(1, 4), 8)
        write_boxes(folder / "groundtruth.txt", 3 if labels else 1)
        if labels:
            write(folder / "absence.label", "0\n1\n0\n")
            write(folder / "cover.label", "8\n0\n4\n")
    write(root / part / "list.txt", "\n".join(names) + "\n")


def test_val_and_test(tmp_path: Path) -> None:
    make(tmp_path, "val", ["GOT-10k_Val_000002", "GOT-10k_Val_000001"])
    make(tmp_path, "test", ["GOT-10k_Test_000001"], labels=False)
    val, test = got10k.load_val(tmp_path), got10k.load_test(tmp_path)
    assert [item.name[-1] for item in val.sequences] == ["2", "1"]  # in the order of list.txt
    first = val.sequences[0]
    assert first.visible is not None and first.visible.tolist() == [True, False, True]
    assert first.cover is not None and first.cover.tolist() == [8, 0, 4]
    assert not first.one_based and numbers_of(first) == [1, 2, 3]
    assert val.notes == (f"2 sequences in {tmp_path}, the benchmark has 180",)
    assert not test.sequences[0].scorable and len(test.sequences[0]) == 3
    with pytest.raises(DataError, match="only the box of the first frame is known"):
        test.sequences[0].cut(2, 3)


def test_without_list_and_labels(tmp_path: Path) -> None:
    make(tmp_path, "val", ["a", "b"])
    for name in ("absence.label", "cover.label"):
        (tmp_path / "val" / "a" / name).unlink()
    (tmp_path / "val" / "b" / "groundtruth.txt").unlink()
    found = got10k.load_val(tmp_path)
    assert found.notes[0] == f"1 of the 2 sequences are not in {tmp_path}: b"
    assert found.sequences[0].visible is None and found.sequences[0].cover is None
    (tmp_path / "val" / "list.txt").unlink()
    assert [item.name for item in got10k.load_val(tmp_path).sequences] == ["a"]


def test_ltrval_takes_lines_of_list_txt(tmp_path: Path) -> None:
    make(tmp_path, "train", ["a", "b", "c"])
    path = write(tmp_path / "got10k_val_split.txt", "2\n0\n")
    found = got10k.load_ltrval(tmp_path)
    assert [item.name for item in found.sequences] == ["c", "a"] and not found.notes
    path.write_text("3\n")
    with pytest.raises(DataError, match=r"'3' is neither a sequence of list.txt nor its number from 0 to 2"):
        got10k.load_ltrval(tmp_path)
    path.unlink()
    with pytest.raises(
        DataError,
        match=r"got10k_ltrval: there is no file .*got10k_val_split\.txt.*ltr/data_specs of pytracking",
    ):
        got10k.load_ltrval(tmp_path)


def test_missing_data(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"got10k_val: there is no folder .*/val\. Below its root, .*val/<seq>/\{\*\.jpg"
    ):
        got10k.load_val(tmp_path)
    with pytest.raises(DataError, match=r"got10k_ltrval: there is no file .*train/list\.txt"):
        got10k.load_ltrval(tmp_path)
    make(tmp_path, "val", ["a"])
    (tmp_path / "val" / "a" / "cover.label").write_text("8\n")
    with pytest.raises(DataError, match=r"cover\.label: has 1 entries, but the ground truth beside it has 3"):
        got10k.load_val(tmp_path)
