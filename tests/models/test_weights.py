from __future__ import annotations

import os
import pickle
import re
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mtltrack.core.errors import CheckpointError
from mtltrack.models.inert_pickle import Placeholder
from mtltrack.models.tracker import Tracker
from mtltrack.models.weights import (
    LoadReport,
    kind_of,
    load_into,
    read_weights_file,
    state_dict_of,
)


class _Stat:
    def __init__(self) -> None:
        self.history = [1.0, 2.0]


@pytest.fixture
def foreign_module(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class of a module that exists while the file is written and not while it is read."""
    module = types.ModuleType("lib_of_others")
    kind = type("StatValue", (_Stat,), {"__module__": "lib_of_others"})
    module.StatValue = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lib_of_others", module)
    return kind


def test_a_published_checkpoint_is_read_without_its_classes(
    tmp_path: Path, foreign_module: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = torch.randn(6, 4)
    content = {
        "epoch": 300,
        "net": {"a.weight": weights, "a.rows": weights[2:4].t(), "count": torch.tensor(3)},
        "stats": {"train": {"loss": foreign_module()}},
        "settings": foreign_module(),
    }
    path = tmp_path / "OSTrack_ep0300.pth.tar"
    torch.save(content, path)
    monkeypatch.delitem(sys.modules, "lib_of_others")
    read = read_weights_file(path)
    assert read["epoch"] == 300
    assert isinstance(read["settings"], Placeholder) and isinstance(
        read["stats"]["train"]["loss"], Placeholder
    )
    state = state_dict_of(read, path)
    assert torch.equal(state["a.weight"], weights) and torch.equal(state["a.rows"], weights[2:4].t())
    assert int(state["count"]) == 3


class _Attack:
    """Runs a command when it is unpickled by anything that trusts the file."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def test_a_malicious_file_runs_nothing(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    path = tmp_path / "bad.pth.tar"
    torch.save({"net": {"a": torch.zeros(1)}, "settings": _Attack(f"touch {witness}")}, path)
    assert torch.equal(state_dict_of(read_weights_file(path), path)["a"], torch.zeros(1))
    assert not witness.exists()
    pickle.loads(pickle.dumps(_Attack(f"touch {witness}")))  # the attack itself works
    assert witness.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02.",  # nothing on the stack
        b"\x80\x02X\x02\x00\x00\x00\xff\xfe.",  # text that isn't UTF-8
        b"\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # more bytes than there are
        b"\x80\x02}]K\x01s.",  # a list as a key
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x0c\x00\x00\x00__defaults__)s\x86b.",
    ],
)
def test_malformed_pickles_are_refused_and_leave_the_reader_as_it_was(tmp_path: Path, data: bytes) -> None:
    """The last one tries to change the defaults of the function that rebuilds tensors."""
    path = tmp_path / "bad.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3")
    with pytest.raises(CheckpointError, match=r"bad\.pth"):
        read_weights_file(path)


def test_compressed_archives_and_damaged_safetensors_are_refused(tmp_path: Path) -> None:
    good, packed = tmp_path / "good.pth", tmp_path / "packed.pth"
    torch.save({"net": {"a": torch.zeros(1000)}, "settings": _Attack("true")}, good)
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(CheckpointError, match="is compressed, which torch doesn't do"):
        read_weights_file(packed)
    damaged = tmp_path / "bad.safetensors"
    damaged.write_bytes(b"\x00" * 40)
    with pytest.raises(CheckpointError, match=r"bad\.safetensors is damaged"):
        read_weights_file(damaged)


def test_entries_that_are_no_plain_tensors_are_named(tmp_path: Path) -> None:
    path = tmp_path / "sparse.pth"
    torch.save({"net": {"a": torch.zeros(1), "b": _Attack("true")}}, path)
    with pytest.raises(CheckpointError, match=r"1 entries of 'net' aren't plain tensors.*: b"):
        state_dict_of(read_weights_file(path), path)


def test_unreadable_files_say_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no weights file at .*; correct the path$"):
        read_weights_file(tmp_path / "none.pth")
    garbage = tmp_path / "garbage.pth"
    garbage.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="can't be read safely: it is damaged"):
        read_weights_file(garbage)
    good = tmp_path / "good.pth"
    torch.save({"net": {"a": torch.zeros(100)}}, good)
    cut = tmp_path / "cut.pth"
    cut.write_bytes(good.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"cut\.pth"):
        read_weights_file(cut)
    empty = tmp_path / "empty.pth"
    torch.save({"epoch": 3}, empty)
    with pytest.raises(CheckpointError, match="wanted tensors under 'net' or 'model', found epoch"):
        state_dict_of(read_weights_file(empty), empty)


def load(tracker: Tracker, state: dict[str, torch.Tensor]) -> LoadReport:
    return load_into(tracker, state, kind_of(state), Path("file.pth"), ["cls_head."])


def test_kinds_and_what_each_may_miss(make_tracker: Callable[..., Tracker]) -> None:
    hiptrack = make_tracker().state_dict()
    published = {key: value for key, value in hiptrack.items() if not key.startswith("cls_head.")}
    report = load(make_tracker(), published)
    assert report.kind == "hiptrack" and all(name.startswith("cls_head.") for name in report.new)
    base = {key: value for key, value in published.items() if key.startswith(("backbone.", "box_head."))}
    report = load(make_tracker(), base)
    assert report.kind == "ostrack"
    assert {name.split(".")[0] for name in report.new} == {
        "HIP",
        "key_proj",
        "key_comp",
        "searchRegionFusion",
        "cls_head",
    }
    assert "newly initialised" in report.sentence()


def test_unexplained_names_are_errors_that_list_them(make_tracker: Callable[..., Tracker]) -> None:
    state = make_tracker().state_dict()
    del state["backbone.norm.weight"]
    state["backbone.extra"] = torch.zeros(1)
    state["box_head.conv5_ctr.bias"] = torch.zeros(7)
    with pytest.raises(CheckpointError) as caught:
        load(make_tracker(), state)
    text = str(caught.value)
    assert "1 missing:\n    backbone.norm.weight" in text
    assert "1 unexpected:\n    backbone.extra" in text
    assert "box_head.conv5_ctr.bias: file (7,), model (1,)" in text


def test_every_name_is_listed_and_the_first_line_says_it_all(make_tracker: Callable[..., Tracker]) -> None:
    state = {**make_tracker().state_dict(), **{f"extra.{number}": torch.zeros(1) for number in range(12)}}
    with pytest.raises(CheckpointError) as caught:
        load(make_tracker(), state)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(
        "file.pth (hiptrack weights) doesn't fit the model: 0 missing, 12 unexpected, 0"
    )
    assert lines[1:3] == ["  12 unexpected:", "    extra.0"]
    assert lines[-2:] == ["    extra.10", "    extra.11"] and len(lines) == 14


def test_weights_of_another_model_are_called_so(make_tracker: Callable[..., Tracker]) -> None:
    state = {f"layer.{number}.conv.weight": torch.zeros(1) for number in range(60)}
    with pytest.raises(CheckpointError) as caught:
        load(make_tracker(), state)
    first, *rest = str(caught.value).splitlines()
    assert re.match(
        r"file\.pth is of another model by its 60 names, of which the model has 0: \d+ missing, "
        r"60 unexpected, 0 of another shape\. Name weights of this project",
        first,
    )
    assert len(rest) <= 2 * (1 + 10 + 1)


def test_a_text_file_is_no_weights_file_and_the_reason_is_whole(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.pth"
    garbage.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"no weights file, or .* \(Found: Unsupported operand 110\)$"):
        read_weights_file(garbage)
    garbage.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"\(Found: EOFError\)$"):
        read_weights_file(garbage)


def test_pretraining_gives_the_backbone_and_its_position_tables(make_tracker: Callable[..., Tracker]) -> None:
    source = make_tracker()
    with torch.no_grad():
        source.backbone.pos_embed.normal_()
        source.backbone.resize_position_tables()
    pretraining = {
        key.removeprefix("backbone."): value
        for key, value in source.state_dict().items()
        if key.startswith("backbone.") and "pos_embed_" not in key
    }
    pretraining["decoder_embed.weight"] = torch.zeros(2, 2)
    target = make_tracker()
    report = load(target, pretraining)
    assert report.kind == "backbone" and report.ignored == ["decoder_embed.weight"]
    assert torch.equal(target.backbone.blocks[2].mlp.fc1.weight, source.backbone.blocks[2].mlp.fc1.weight)
    torch.testing.assert_close(target.backbone.pos_embed_x, source.backbone.pos_embed_x)
