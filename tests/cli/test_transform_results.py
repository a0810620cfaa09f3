"""`tracking/transform_got10k.py` and `tracking/transform_trackingnet.py`."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from mtltrack.cli.transform_results import build_parser, main
from mtltrack.evaluation.submission import SERVERS


@pytest.fixture(autouse=True)
def _no_local_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = tmp_path / "local.yaml"
    local.write_text("data_dir: data\nsave_dir: out\n")
    monkeypatch.setenv("MTLTRACK_LOCAL", str(local))


def write_results(folder: Path, server: str, frames: int = 2) -> Path:
    folder.mkdir(parents=True)
    for name in SERVERS[server].names():
        (folder / f"{name}.txt").write_text("1\t2\t30\t40\n" + "1.5\t2\t30\t40\n" * (frames - 1))
        (folder / f"{name}_time.txt").write_text("0.1\n" * frames)
    return folder


def write_data(root: Path, frames: int = 2) -> Path:
    """GOT-10k's test split with pictures of four pixels."""
    _, data = cv2.imencode(".jpg", np.zeros((2, 2, 3), np.uint8))
    for name in SERVERS["got10k"].names():
        folder = root / "test" / name
        folder.mkdir(parents=True)
        (folder / "groundtruth.txt").write_text("1,2,30,40\n")
        for number in range(1, frames + 1):
            (folder / f"{number:08d}.jpg").write_bytes(data.tobytes())
    return root


def test_got10k_by_the_peers_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_results(tmp_path / "out/test/tracking_results/hiptrack/some_003/got10k", "got10k")
    write_data(tmp_path / "data" / "got10k")
    arguments = ["--tracker_name", "hiptrack", "--cfg_name", "some", "--runid", "3"]
    assert main("got10k", arguments) == 0
    said = capsys.readouterr()
    out = folder.parent / "got10k_submit.zip"
    assert f"180 sequences, 360 boxes of {folder}" in said.out and str(out) in said.out
    assert said.err == ""
    with zipfile.ZipFile(out) as archive:
        names = archive.namelist()
        assert archive.read("GOT-10k_Test_000180/GOT-10k_Test_000180_001.txt") == (
            b"1.000,2.000,30.000,40.000\n1.500,2.000,30.000,40.000\n"
        )
    assert len(names) == 360 and "GOT-10k_Test_000001/GOT-10k_Test_000001_time.txt" in names
    assert len(list(folder.iterdir())) == 360, "the results stay"


def test_trackingnet_of_another_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = write_results(tmp_path / "raw", "trackingnet"), tmp_path / "send.zip"
    lengths = tmp_path / "lengths.json"
    lengths.write_text(json.dumps(dict.fromkeys(SERVERS["trackingnet"].names(), 2)))
    wanted = ["--results", str(folder), "--out", str(out), "--ground-truth", str(lengths)]
    assert main("trackingnet", wanted) == 0
    with zipfile.ZipFile(out) as archive:
        assert len(archive.namelist()) == 511 and all("/" not in name for name in archive.namelist())

    lengths.write_text(json.dumps(dict.fromkeys(SERVERS["trackingnet"].names(), 3)))
    out.unlink()
    capsys.readouterr()
    assert main("trackingnet", wanted) == 1
    said = capsys.readouterr().err
    assert said.count("has 2 boxes, but the sequence has 3 frames") == 8 and "and 503 more" in said
    assert not out.exists()


def test_a_folder_with_a_line_a_frame_tells_the_lengths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = write_results(tmp_path / "raw", "got10k"), tmp_path / "send.zip"
    common = ["--results", str(folder), "--out", str(out)]
    assert main("got10k", [*common, "--without-lengths"]) == 0
    assert "note: the numbers of boxes weren't checked: the list of names" in capsys.readouterr().err
    with zipfile.ZipFile(out) as archive:
        archive.extractall(tmp_path / "sent")
    assert main("got10k", [*common, "--ground-truth", str(tmp_path / "sent")]) == 0
    assert "note" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the results by --tracker_name and --cfg_name, or their folder by --results"),
        (["--tracker_name", "hiptrack"], "--tracker_name and --cfg_name belong together"),
        (["--results", "x", "--runid", "1"], "--runid belongs to --tracker_name and --cfg_name"),
        (["--results", "x"], "or skip this check by --without-lengths"),
        (
            ["--results", "x", "--ground-truth", "y", "--without-lengths"],
            "give one of --ground-truth and --without-lengths",
        ),
        (["--results", "x", "--ground-truth", "y"], "'y' is neither a file nor a folder"),
        (["--results", "x", "--dataset-root", "y"], "--dataset-root 'y' is no folder"),
        (["--results", "x", "--without-lengths"], "no results of GOT-10k: 'x' is no folder"),
    ],
)
def test_wrong_flags(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("got10k", arguments) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", 'wanted {"<seq>": frames, ...}, found a list'),
        ("{", "is no JSON of"),
        ('{"a": 0}', "'a' has 0 frames; wanted a whole number, at least 1"),
        ('{"a": true}', "'a' has True frames"),
        ('{"a": 2}', "lacks 180 of them: GOT-10k_Test_000001, "),
    ],
)
def test_wrong_lengths(text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "lengths.json"
    path.write_text(text)
    assert main("got10k", ["--results", str(tmp_path), "--ground-truth", str(path)]) == 1
    assert message in capsys.readouterr().err


def test_public_first_boxes_tell_no_length(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "anno"
    folder.mkdir()
    arguments = ["--results", str(tmp_path), "--ground-truth", str(folder)]
    assert main("trackingnet", arguments) == 1
    assert "holds no file of TrackingNet's test sequences" in capsys.readouterr().err
    for name in SERVERS["trackingnet"].names():
        (folder / f"{name}.txt").write_text("1,2,3,4\n")
    assert main("trackingnet", arguments) == 1
    assert "hold one box each, the public first one" in capsys.readouterr().err


def test_the_archive_must_be_a_zip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_results(tmp_path / "raw", "got10k")
    assert main("got10k", ["--results", str(folder), "--without-lengths", "--out", "x.tar"]) == 1
    assert "--out 'x.tar' must end in .zip" in capsys.readouterr().err


def test_an_incomplete_data_set_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_data(tmp_path / "got10k", frames=1)
    for path in (root / "test" / "GOT-10k_Test_000007").iterdir():
        path.unlink()
    assert main("got10k", ["--results", str(tmp_path), "--dataset-root", str(root)]) == 1
    assert "lacks 1 of them: GOT-10k_Test_000007" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("server", "forms"),
    [
        ("got10k", "such as GOT-10k_Test_000001.txt or GOT-10k_Test_000001/GOT-10k_Test_000001_001.txt\n"),
        ("trackingnet", f"such as {SERVERS['trackingnet'].names()[0]}.txt\n"),
    ],
)
def test_a_folder_without_lengths_names_each_form_once(
    server: str, forms: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(server, ["--results", str(tmp_path), "--ground-truth", str(tmp_path)]) == 1
    assert capsys.readouterr().err.endswith(forms)


@pytest.mark.parametrize(("server", "with_times"), [("got10k", True), ("trackingnet", False)])
def test_the_help_names_the_files_that_are_needed(server: str, with_times: bool) -> None:
    assert ("<seq>_time.txt" in build_parser(server).format_help()) == with_times
