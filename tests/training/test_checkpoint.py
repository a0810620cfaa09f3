"""Files that load without executing anything, written whole or not at all; choosing what to resume."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from standins import make_tracker

from mtltrack.core.errors import CheckpointError
from mtltrack.training import checkpoint
from mtltrack.training.checkpoint import (
    Description,
    load_resume,
    plain,
    save_resume,
    save_weights,
    write_atomically,
)
from mtltrack.training.files import (
    CheckpointFolder,
    find_resume,
    newest_weights,
    set_aside,
)

ABOUT = Description(
    "HIPTrack", {"TRAIN": {"LR": 1e-4}, "TASKS": {"cls": {"TYPE": "ClsHead"}}}, ("Occlusion", "Normal")
)


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder.of_run(tmp_path, "hiptrack", "tiny", "HIPTrack")


def all_types(value) -> set[type]:
    if isinstance(value, dict):
        return {type(value)}.union(*(all_types(item) for pair in value.items() for item in pair))
    if isinstance(value, list | tuple):
        return {type(value)}.union(*(all_types(item) for item in value))
    return {type(value)}


def save(folder: CheckpointFolder, epoch: int, step: int | None = None) -> Path:
    path, state = folder.resume_file(epoch, step), {"position": {"epoch": epoch}}
    if step is not None:
        save_resume(path, state, {"net": make_tracker().state_dict(), "epoch": epoch})
        return path
    weights = folder.weights_file(epoch)
    save_weights(weights, make_tracker(), ABOUT, epoch=epoch, stage="joint")
    save_resume(path, state, weights.name)
    return path


def test_a_checkpoint_has_the_published_name_and_holds_plain_types_only(folder, tmp_path):
    save(folder, 7)
    path = tmp_path / "checkpoints" / "train" / "hiptrack" / "tiny" / "HIPTrack_ep0007.pth.tar"
    content = torch.load(path, weights_only=True)
    assert set(content) == {"net", "net_type", "epoch", "stage", "config", "classes", "alphabet"}
    assert (content["net_type"], content["epoch"], content["stage"]) == ("HIPTrack", 7, "joint")
    assert content["classes"] == ["Occlusion", "Normal"] and content["alphabet"] is None
    assert content["config"]["TASKS"]["cls"]["TYPE"] == "ClsHead"
    assert all_types(content) <= {dict, list, str, int, float, type(None), torch.Tensor}
    assert content["net"].keys() == make_tracker().state_dict().keys()


def test_plain_turns_relatives_of_plain_types_into_them_and_refuses_objects():
    view = torch.arange(10.0, requires_grad=True)[2:4]
    found = plain(OrderedDict(a=np.float64(1.5), b=(np.int64(2), True), c=Path("x"), d=view))
    assert type(found) is dict and found["a"] == 1.5 and type(found["a"]) is float
    assert found["b"] == (2, True) and type(found["b"][0]) is int and type(found["b"][1]) is bool
    assert found["c"] == "x" and found["d"].untyped_storage().nbytes() == 8 and not found["d"].requires_grad
    with pytest.raises(CheckpointError, match="plain types and tensors only; found object"):
        plain({"x": [object()]})


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(folder, monkeypatch):
    path = folder.weights_file(1)
    write_atomically({"x": 1}, path)

    def broken(content, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint.torch, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        write_atomically({"x": 2}, path)
    assert [file.name for file in folder.folder.iterdir()] == [path.name]
    assert torch.load(path, weights_only=True) == {"x": 1}


def test_only_the_newest_resume_file_stays_and_every_checkpoint_does(folder):
    for epoch in (1, 2, 10):
        save(folder, epoch)
    assert sorted(file.name for file in folder.folder.iterdir()) == [
        "HIPTrack_ep0001.pth.tar",
        "HIPTrack_ep0002.pth.tar",
        "HIPTrack_ep0010.pth.tar",
        "HIPTrack_ep0010.resume.pt",
    ]
    state, weights = load_resume(folder.resume_file(10))
    assert state["position"] == {"epoch": 10} and weights["epoch"] == 10
    assert newest_weights(folder.folder) == folder.weights_file(10)


def test_what_to_resume(folder):
    assert find_resume(folder, "auto") is None and find_resume(folder, "never") is None
    path = save(folder, 3)
    assert find_resume(folder, "auto") == path and find_resume(folder, "never") is None
    assert find_resume(folder, str(path)) == path
    assert find_resume(folder, str(folder.weights_file(3))) == path
    with pytest.raises(CheckpointError, match=r"ep0002.*doesn't exist.*HIPTrack_ep0003.resume.pt"):
        find_resume(folder, str(folder.weights_file(2)))


def test_damaged_lonely_and_foreign_files_are_named(folder):
    path = save(folder, 3)
    folder.weights_file(3).unlink()
    with pytest.raises(CheckpointError, match=r"needs HIPTrack_ep0003.pth.tar beside it"):
        load_resume(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="may be damaged; use --resume never"):
        load_resume(path)
    write_atomically({"format": 99}, path)
    with pytest.raises(CheckpointError, match=r"resume format 99; this version reads 4.*--resume never"):
        load_resume(path)
    with pytest.raises(CheckpointError, match="train that configuration first"):
        newest_weights(folder.folder)


def test_an_earlier_runs_checkpoints_are_moved_out_of_the_way(folder):
    assert set_aside(folder) is None
    for epoch in (3, 12):
        save(folder, epoch)
    other = folder.folder / "notes.pth.tar"
    other.write_text("no checkpoint", encoding="utf-8")
    first = set_aside(folder)
    assert first.parent == folder.folder / "earlier" and other.exists()
    assert sorted(file.name for file in first.iterdir()) == [
        "HIPTrack_ep0003.pth.tar",
        "HIPTrack_ep0012.pth.tar",
        "HIPTrack_ep0012.resume.pt",
    ]
    assert find_resume(folder, "auto") is None
    save(folder, 1)
    assert newest_weights(folder.folder) == folder.weights_file(1)
    second = set_aside(folder)  # within the same second
    assert second != first and load_resume(second / "HIPTrack_ep0001.resume.pt")[0]["epoch"] == 1
