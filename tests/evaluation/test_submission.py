"""Archives for GOT-10k's and TrackingNet's servers."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mtltrack.core.errors import DataError
from mtltrack.evaluation import submission
from mtltrack.evaluation.benchmarks.sequence import Sequence
from mtltrack.evaluation.provenance import Provenance, Records
from mtltrack.evaluation.results import ResultFolder
from mtltrack.evaluation.submission import SERVERS, Expected, Server

NAMES = ("a", "b")
SMALL = Server("got10k_test", "GOT-10k", lambda: NAMES, with_times=True)
FLAT = Server("trackingnet", "TrackingNet", lambda: NAMES, with_times=False)
EXPECTED = Expected({"a": 2, "b": 3}, "the list")


@pytest.fixture
def folder(tmp_path: Path) -> ResultFolder:
    """Results of two sequences, one separated by tabs, one by commas."""
    root = tmp_path / "got10k"
    root.mkdir()
    (root / "a.txt").write_text("1\t2\t3\t4\n1.25\t2.5\t3\t4\n")
    (root / "a_time.txt").write_text("0.5\n0.25\n")
    (root / "b.txt").write_text("0,0,10,10\n-1.0004,0,10,10\n0.1234567,0,10,10\n")
    (root / "b_time.txt").write_text("0\n0.0100004\n1\n")
    return ResultFolder(root)


def members(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def faults(server: Server, folder: ResultFolder, expected: Expected = EXPECTED) -> str:
    with pytest.raises(DataError) as caught:
        submission.collect(server, folder, expected)
    return str(caught.value)


def test_names_of_the_test_splits() -> None:
    names = SERVERS["got10k"].names()
    assert len(names) == len(set(names)) == 180
    assert (names[0], names[-1]) == ("GOT-10k_Test_000001", "GOT-10k_Test_000180")
    names = SERVERS["trackingnet"].names()
    assert len(names) == len(set(names)) == 511
    assert all(re.fullmatch(r"[\w-]{11}_\d", name) for name in names)  # a video's id and an object's number


def test_got10k_archive(folder: ResultFolder, tmp_path: Path) -> None:
    checked = submission.collect(SMALL, folder, EXPECTED)
    size = submission.write_archive(tmp_path / "out.zip", SMALL, checked)
    assert checked.notes == [] and size == (tmp_path / "out.zip").stat().st_size
    assert members(tmp_path / "out.zip") == {
        "a/a_001.txt": "1.000,2.000,3.000,4.000\n1.250,2.500,3.000,4.000\n",
        "a/a_time.txt": "0.500000\n0.250000\n",
        "b/b_001.txt": "0.000,0.000,10.000,10.000\n-1.000,0.000,10.000,10.000\n0.123,0.000,10.000,10.000\n",
        "b/b_time.txt": "0.000000\n0.010000\n1.000000\n",
    }


def test_trackingnet_archive_is_flat_and_needs_no_times(folder: ResultFolder, tmp_path: Path) -> None:
    for name in NAMES:
        folder.times(name).unlink()
    submission.write_archive(tmp_path / "out.zip", FLAT, submission.collect(FLAT, folder, EXPECTED))
    found = members(tmp_path / "out.zip")
    assert list(found) == ["a.txt", "b.txt"] and found["a.txt"].splitlines()[1] == "1.250,2.500,3.000,4.000"


def test_same_results_make_the_same_archive(folder: ResultFolder, tmp_path: Path) -> None:
    checked = submission.collect(SMALL, folder, EXPECTED)
    for name in ("one.zip", "two.zip"):
        submission.write_archive(tmp_path / name, SMALL, checked)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("a.txt", "1,2,3,4\n1,2,nan,4\n", "a.txt', line 2: [1.0, 2.0, nan, 4.0] is no box; wanted finite"),
        ("a.txt", "1,2,3,4\n1,2,inf,4\n", "a.txt', line 2: [1.0, 2.0, inf, 4.0] is no box"),
        ("a.txt", "1,2,3,4\n1,2,3,-4\n", "a.txt', line 2: the box [1.0, 2.0, 3.0, -4.0] has a negative size"),
        ("a.txt", "1,2,3,4\n1,2,3\n", "a.txt', line 2: wanted 4 numbers x, y, w, h, found '1,2,3'"),
        ("a.txt", "1,2,3,4\n", "a.txt' has 1 boxes, but the sequence has 2 frames (the list); run it again"),
        ("a.txt", "", "a.txt' is empty"),
        ("a_time.txt", "1\n-1\n", "a_time.txt', line 2: -1.0 is no time; wanted seconds of 0 or more"),
        ("a_time.txt", "nan\n1\n", "a_time.txt', line 1: nan is no time"),
        ("a_time.txt", "1\n", "a_time.txt' has 1 times, but "),
        ("a_time.txt", "1\nx\n", "a_time.txt', line 2: wanted 1 number(s), found 'x'"),
    ],
)
def test_faults_name_file_and_line(folder: ResultFolder, file: str, text: str, message: str) -> None:
    (folder.path / file).write_text(text)
    said = faults(SMALL, folder)
    assert message in said
    assert said.startswith("these results can't be sent to GOT-10k's server:")
    assert said.endswith("Nothing was written")


def test_all_faults_are_told_at_once(folder: ResultFolder) -> None:
    folder.boxes("b").unlink()
    folder.boxes("a").write_text("1,2,3,4\n")
    said = faults(SMALL, folder, Expected({"a": 2, "b": 3}, "the list"))
    assert "1 of 2 sequences have no results in" in said and ": b; python tracking/test.py" in said
    assert "has 1 boxes, but the sequence has 2 frames" in said


def test_missing_times_are_named(folder: ResultFolder) -> None:
    folder.times("b").unlink()
    assert "1 sequences have boxes but no seconds a frame (<seq>_time.txt)" in faults(SMALL, folder)


def test_a_missing_folder_tells_how_to_make_results(tmp_path: Path) -> None:
    said = faults(FLAT, ResultFolder(tmp_path / "none"))
    assert "is no folder" in said and "--dataset trackingnet --decimals 2" in said


def test_results_of_two_checkpoints_are_refused(folder: ResultFolder) -> None:
    records = Records()
    for name, digest in zip(NAMES, "12", strict=True):
        run = Provenance(f"{digest}.pth", digest * 64, {"MODEL": digest}, "got10k_test")
        records.enter(run, Sequence(name, (Path("x"),), np.ones((1, 4))))
    (folder.path / "run.json").write_text(records.text())
    said = faults(SMALL, folder)
    assert "mixes results of 2 checkpoints: 1.pth, 2.pth" in said
    assert "mixes results of several configurations" in said


def test_notes(folder: ResultFolder) -> None:
    folder.boxes("a").write_text("1.5 2 3 4\n1 2 0 4\n")
    folder.boxes("b").write_text("0 0 9 9\n0 0 9 9\n0 0 9 9\n")
    (folder.path / "c.txt").write_text("1 2 3 4\n")
    first = {"a": np.array([1.0, 2, 3, 4]), "b": np.array([0.0, 0, 9, 11])}
    notes = submission.collect(SMALL, folder, Expected({"a": 2, "b": None}, "the list", first)).notes
    wanted = [
        "left out, since they aren't GOT-10k's test sequences: c",
        "all boxes are whole numbers, as if cut to integers",
        "1 boxes without a size, in a",
        "the first box isn't the one that the list gives, in b:",
        "the numbers of boxes weren't checked: the list doesn't tell the lengths",
    ]
    assert len(notes) == len(wanted)
    assert all(note.startswith(text) for note, text in zip(notes, wanted, strict=True))


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ({"a": 2}, "scores 2 test sequences, but the list lacks 1 of them: b. Complete it"),
        ({"a": 2, "b": 3, "c": 1}, "but the list has 1 others: c. Complete it"),
    ],
)
def test_expected_names_must_be_the_servers(lengths: dict[str, int], message: str) -> None:
    with pytest.raises(DataError) as caught:
        submission.check_names(SMALL, Expected(lengths, "the list"))
    assert message in str(caught.value)


def test_an_archive_that_reads_differently_never_takes_its_name(
    folder: ResultFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of another tracker, digits that got lost, a file too many: each is seen, nothing is left."""
    checked = submission.collect(SMALL, folder, EXPECTED)
    out = tmp_path / "deep" / "out.zip"
    right = submission.archive_entries(SMALL, checked)
    for wrong, message in (
        ({**right, "a/a_001.txt": "1,2,3,4\n1,2,3,4\n"}, "'a/a_001.txt' of the archive doesn't hold"),
        ({**right, "b/b_time.txt": "0\n0\n"}, "'b/b_time.txt' of the archive doesn't hold"),
    ):
        entries = iter([wrong, right])
        monkeypatch.setattr(submission, "archive_entries", lambda *_, items=entries: next(items))
        with pytest.raises(DataError, match=re.escape(message)):
            submission.write_archive(out, SMALL, checked)
        assert list(out.parent.iterdir()) == []
    monkeypatch.undo()
    submission.write_archive(out, SMALL, checked)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("c.txt", "")
    with pytest.raises(DataError, match=r"other files than it should: c\.txt"):
        submission.check_archive(out, SMALL, checked)
    out.write_bytes(out.read_bytes()[:-30])
    with pytest.raises(DataError, match="can't be read again"):
        submission.check_archive(out, SMALL, checked)


def test_an_archive_that_cannot_be_written(folder: ResultFolder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(json.dumps({}))
    with pytest.raises(DataError, match="can't write '"):
        submission.write_archive(
            tmp_path / "file" / "out.zip", SMALL, submission.collect(SMALL, folder, EXPECTED)
        )
