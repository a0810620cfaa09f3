"""Packing: resumable, verified, growing."""

from __future__ import annotations

import os
from pathlib import Path

import lmdb
import pytest

from mtltrack.cli import make_lmdb
from mtltrack.core.errors import DataError
from mtltrack.data.pack import pack_folder, verify_lmdb


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "files"
    for n in range(30):
        path = root / f"s{n % 3}" / f"{n}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([n]) * (100 + n))
    (root / ".hidden").write_text("left out")
    return root


def entries(path: Path) -> dict[str, bytes]:
    with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return {bytes(key).decode(): bytes(value) for key, value in transaction.cursor()}


def test_values_are_the_files_and_a_second_run_writes_nothing(folder: Path, tmp_path: Path) -> None:
    first = pack_folder(folder, tmp_path / "packed")
    expected = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.bin")}
    assert entries(tmp_path / "packed") == expected
    assert (first.files, first.written, first.kept, first.size) == (
        30,
        30,
        0,
        sum(map(len, expected.values())),
    )
    again = pack_folder(folder, tmp_path / "packed", verify_all=True)
    assert (again.written, again.kept) == (0, 30)


def test_goes_on_after_an_interruption(folder: Path, tmp_path: Path) -> None:
    pack_folder(folder, tmp_path / "packed")
    with lmdb.open(str(tmp_path / "packed")) as environment, environment.begin(write=True) as transaction:
        for n in (4, 5):
            transaction.delete(f"s{n % 3}/{n}.bin".encode())
        transaction.put(b"s0/6.bin", b"half")
    result = pack_folder(folder, tmp_path / "packed", verify_all=True)
    assert (result.written, result.kept) == (3, 27)


def test_a_changed_file_of_the_same_size_is_written_again(folder: Path, tmp_path: Path) -> None:
    pack_folder(folder, tmp_path / "packed")
    changed = folder / "s1" / "7.bin"
    changed.write_bytes(b"y" * 107)
    os.utime(changed, ns=(10**18, 10**18))
    result = pack_folder(folder, tmp_path / "packed")
    assert (result.written, result.unchanged, result.compared) == (1, 29, 0)
    assert entries(tmp_path / "packed")["s1/7.bin"] == b"y" * 107
    assert pack_folder(folder, tmp_path / "packed").unchanged == 30


def test_files_of_unknown_or_other_times_are_compared_by_their_bytes(folder: Path, tmp_path: Path) -> None:
    pack_folder(folder, tmp_path / "packed")
    os.utime(folder / "s0" / "3.bin", ns=(10**18, 10**18))
    result = pack_folder(folder, tmp_path / "packed")
    assert (result.written, result.unchanged, result.compared, result.kept) == (0, 29, 1, 30)
    for path in (tmp_path / "packed").glob("sources.mdb*"):  # as packed by other programs
        path.unlink()
    (folder / "s0" / "0.bin").write_bytes(b"z" * 100)
    result = pack_folder(folder, tmp_path / "packed")
    assert (result.written, result.unchanged, result.compared) == (1, 0, 29)
    assert entries(tmp_path / "packed")["s0/0.bin"] == b"z" * 100
    assert pack_folder(folder, tmp_path / "packed").unchanged == 30


def test_room_grows_with_the_data(folder: Path, tmp_path: Path) -> None:
    (folder / "large.bin").write_bytes(bytes(3_000_000))
    pack_folder(folder, tmp_path / "packed", first_map_size=65536)
    assert len(entries(tmp_path / "packed")["large.bin"]) == 3_000_000


def test_a_wrong_value_of_the_right_size_is_found(folder: Path, tmp_path: Path) -> None:
    pack_folder(folder, tmp_path / "packed")
    with lmdb.open(str(tmp_path / "packed")) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"s0/0.bin", b"x" * 100)
    with pytest.raises(DataError, match=r"value of 's0/0\.bin' differs from the file .*0\.bin\. Delete"):
        verify_lmdb(folder, tmp_path / "packed")


def test_a_key_too_many_is_found(folder: Path, tmp_path: Path) -> None:
    pack_folder(folder, tmp_path / "packed")
    (folder / "s0" / "0.bin").unlink()
    with pytest.raises(DataError, match="holds 1 keys that aren't files"):
        pack_folder(folder, tmp_path / "packed")


def test_folders_that_can_not_be_packed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"folder .*empty holds no files"):
        pack_folder(tmp_path / "empty", tmp_path / "packed")
    with pytest.raises(DataError, match="lies within the folder"):
        pack_folder(folder, folder / "packed")
    with pytest.raises(DataError, match="no LMDB at"):
        verify_lmdb(folder, tmp_path / "none")


def test_command_prints_plain_lines_and_a_summary(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = str(tmp_path / "packed")
    assert make_lmdb.main([str(folder), target]) == 0
    output = capsys.readouterr().out
    assert "pack: 30 of 30 files" in output and "30 written, 0 were there" in output
    os.utime(folder / "s0" / "3.bin", ns=(10**18, 10**18))
    assert make_lmdb.main([str(folder), target]) == 0
    output = capsys.readouterr().out
    assert "0 written, 30 were there: 29 of the size and time of change they had when packed, 1 of" in output
    assert make_lmdb.main([str(folder), target, "--verify-only"]) == 0
    assert "all by SHA-256" in capsys.readouterr().out
    assert make_lmdb.main([str(tmp_path / "no"), target]) == 1
    assert "there is no folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        make_lmdb.main(["--help"])
    assert "lasot_lmdb" in capsys.readouterr().out
