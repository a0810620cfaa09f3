"""Files that load without executing anything, written whole or not at all; choosing what to resume."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from standins import make_tracker

from mtltrack.core.errors import CheckpointError
from mtltrack.training import checkpoint
from mtltrack.training.checkpoint import (
    DamagedError,
    Description,
    load_newest,
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
    prune,
    set_aside,
    set_newer_aside,
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


def test_others_may_read_what_the_user_lets_them_read(folder):
    before = os.umask(0o027)
    try:
        write_atomically({"x": 1}, folder.weights_file(1))
    finally:
        os.umask(before)
    assert folder.weights_file(1).stat().st_mode & 0o777 == 0o640


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(folder, monkeypatch):
    path = folder.weights_file(1)
    write_atomically({"x": 1}, path)

    def broken(content, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint.torch, "save", broken)
    with pytest.raises(CheckpointError, match=r"can't be written \(disk full\).*make room"):
        write_atomically({"x": 2}, path)
    assert [file.name for file in folder.folder.iterdir()] == [path.name]
    assert torch.load(path, weights_only=True) == {"x": 1}


def names(folder: CheckpointFolder) -> list[str]:
    return sorted(file.name for file in folder.folder.iterdir() if file.is_file())


def test_the_newest_resume_files_stay_and_the_weights_that_are_wanted(folder):
    for epoch in (1, 2, 10):
        save(folder, epoch)
    inside = save(folder, 2, 25)
    assert folder.resume_files() == [*map(folder.resume_file, (1, 2)), inside, folder.resume_file(10)]
    prune(folder, keep_resume=2, keep_weights=0)
    weights = [f"HIPTrack_ep{epoch:04d}.pth.tar" for epoch in (1, 2, 10)]
    states = ["HIPTrack_ep0002_step00000025.resume.pt", "HIPTrack_ep0010.resume.pt"]
    assert names(folder) == sorted([*weights, *states])
    state, checkpoint = load_resume(folder.resume_file(10))
    assert state["position"] == {"epoch": 10} and checkpoint["epoch"] == 10
    state, checkpoint = load_resume(inside)
    assert state["position"] == {"epoch": 2} and set(checkpoint) == {"net", "epoch"}
    assert newest_weights(folder.folder) == folder.weights_file(10)
    save(folder, 1)
    prune(folder, keep_resume=3, keep_weights=1)  # epoch 1 can be resumed only with its weights
    assert names(folder) == sorted([weights[0], weights[2], "HIPTrack_ep0001.resume.pt", *states])


def test_what_to_resume(folder):
    assert find_resume(folder, "auto") == find_resume(folder, "never") == []
    path = save(folder, 3)
    assert find_resume(folder, "auto") == [path] and find_resume(folder, "never") == []
    assert find_resume(folder, str(path)) == [path]
    assert find_resume(folder, str(folder.weights_file(3))) == [path]
    newer = save(folder, 3, 31)
    assert find_resume(folder, "auto") == [newer, path]
    with pytest.raises(CheckpointError, match=r"ep0002.*doesn't exist.*HIPTrack_ep0003.resume.pt"):
        find_resume(folder, str(folder.weights_file(2)))


def test_damaged_lonely_and_foreign_files_are_named(folder):
    path = save(folder, 3)
    folder.weights_file(3).unlink()
    with pytest.raises(CheckpointError, match=r"needs HIPTrack_ep0003.pth.tar beside it"):
        load_resume(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DamagedError, match=r"resume.pt can't be read \("):
        load_resume(path)
    torch.save({"format": 5, "weights": {}}, path)  # as somebody else would
    with pytest.raises(DamagedError, match="has lost its digest"):
        load_resume(path)
    write_atomically({"format": 4}, path)
    with pytest.raises(
        CheckpointError, match=r"format 4; this version reads 5.*--script_prv.*--resume never"
    ):
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
        "HIPTrack_ep0003.resume.pt",
        "HIPTrack_ep0012.pth.tar",
        "HIPTrack_ep0012.resume.pt",
    ]
    assert find_resume(folder, "auto") == []
    save(folder, 1)
    assert newest_weights(folder.folder) == folder.weights_file(1)
    second = set_aside(folder)  # within the same second
    assert second != first and load_resume(second / "HIPTrack_ep0001.resume.pt")[0]["position"]


def test_a_damaged_newest_state_gives_way_to_the_one_before_it_loudly(folder):
    older, newer = save(folder, 3), save(folder, 4)
    newer.write_bytes(newer.read_bytes()[:-100])
    said: list[str] = []
    path, (state, checkpoint) = load_newest(find_resume(folder, "auto"), said.append)
    assert path == older and state["position"] == {"epoch": 3} and checkpoint["epoch"] == 3
    assert len(said) == 1 and said[0].startswith("WARNING: ")
    assert str(newer) in said[0] and "Going back to the state before it, HIPTrack_ep0003.resume.pt" in said[0]
    folder.average_file(4).write_bytes(b"the average of epoch 4")
    aside = set_newer_aside(folder, path)
    assert sorted(file.name for file in aside.iterdir()) == [
        "HIPTrack_ep0004.pth.tar",
        "HIPTrack_ep0004.resume.pt",
        "HIPTrack_ep0004_ema.pth.tar",
    ]
    assert folder.resume_files() == [older] and newest_weights(folder.folder) == folder.weights_file(3)
    save_weights(folder.weights_file(4), make_tracker(), ABOUT, epoch=4, stage="joint")  # then a crash
    assert set_newer_aside(folder, path) is None and folder.weights_file(4).exists()
    folder.weights_file(3).unlink()
    with pytest.raises(
        DamagedError, match=r"which is gone\. There is no other to fall back to.*--resume never"
    ):  # not in silence
        load_newest(find_resume(folder, "auto"), said.append)
    assert load_newest([], said.append) is None


def test_a_state_from_elsewhere_puts_all_of_the_folder_aside(folder, tmp_path):
    save(folder, 3)
    elsewhere = tmp_path / "elsewhere" / "HIPTrack_ep0001.resume.pt"
    elsewhere.parent.mkdir()
    assert set_newer_aside(folder, elsewhere) is not None and names(folder) == []


def test_a_state_that_was_renamed_keeps_the_weights_that_it_may_need(folder):
    renamed = save(folder, 3).rename(folder.folder / "before_the_change.resume.pt")
    save(folder, 4)
    assert load_resume(renamed)[1]["epoch"] == 3
    aside = set_newer_aside(folder, renamed)
    assert [file.name for file in aside.iterdir()] == ["HIPTrack_ep0004.resume.pt"]
    assert names(folder) == ["HIPTrack_ep0003.pth.tar", "HIPTrack_ep0004.pth.tar", renamed.name]


def test_what_a_killed_process_left_is_found(folder):
    save(folder, 1)
    rest = folder.folder / ".HIPTrack_ep0002.pth.tar.abc.tmp"
    rest.write_bytes(b"half")
    assert folder.unfinished() == [rest]
