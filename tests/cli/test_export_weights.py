"""Checkpoints as safetensors: the same weights, what is known of them, and no damage unseen."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mtltrack.cli.export_weights import main
from mtltrack.core.errors import CheckpointError
from mtltrack.models.weights import read_weights_file
from mtltrack.training.checkpoint import Description, save_weights

ABOUT = Description("OSTrack", {"TRAIN": {"LR": 1e-4}}, ("Occlusion", "Normal"), "0123")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "OSTrack_ep0007.pth.tar"
    shared = torch.arange(6.0)
    state = {"backbone.a": shared.view(2, 3).t(), "box_head.b": shared, "n": torch.tensor(3)}
    save_weights(path, state, ABOUT, epoch=7, stage="joint")
    return path


def test_the_file_holds_the_weights_and_what_is_known_of_them(checkpoint, capsys):
    assert main([str(checkpoint)]) == 0
    path = checkpoint.with_name("OSTrack_ep0007.safetensors")
    assert capsys.readouterr().out.startswith(f"wrote {path}: 3 tensors, ")
    before, after = read_weights_file(checkpoint), read_weights_file(path)
    assert after.keys() == before.keys()
    for name, tensor in before.pop("net").items():
        assert torch.equal(after["net"][name], tensor) and after["net"][name].dtype == tensor.dtype
    after.pop("net")
    assert after == before
    assert torch.equal(load_file(path)["box_head.b"], torch.arange(6.0))  # as anybody reads it
    with safe_open(str(path), framework="pt") as file:
        assert json.loads(file.metadata()["config"]) == {"TRAIN": {"LR": 1e-4}}
    assert [file.name for file in path.parent.iterdir() if file.name.startswith(".")] == []


def test_flipped_bits_are_all_seen(checkpoint):
    path = checkpoint.with_name("a.safetensors")
    assert main([str(checkpoint), "--out", str(path)]) == 0
    whole, chance = path.read_bytes(), random.Random(0)
    for bit in chance.sample(range(8 * len(whole)), 200):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = read_weights_file(path)
        except CheckpointError:
            continue
        path.write_bytes(whole)  # only a blank of the header's text may change without a change of meaning
        assert str(found) == str(read_weights_file(path)), f"bit {bit}"
    path.write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match="damaged"):
        read_weights_file(path)


def test_safetensors_of_others_are_read_without_a_digest(tmp_path):
    path = tmp_path / "vit.safetensors"
    save_file({"blocks.0.a": torch.ones(2)}, path, metadata={"epoch": "not ours"})
    assert set(read_weights_file(path)) == {"net"}


def test_weights_of_others_are_exported_without_claims(tmp_path):
    path = tmp_path / "vit.pth"
    torch.save({"model": {"a": torch.ones(2)}, "epoch": 3}, path)
    assert main([str(path)]) == 0
    assert set(read_weights_file(tmp_path / "vit.safetensors")) == {"net"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nowhere.pth"], "error: no weights file at nowhere.pth"),
        (["{file}", "--out", "x.pth"], r"error: --out x.pth: the name must end in .safetensors"),
        (["{file}", "--out", "{file}/x.safetensors"], r"can't be written \(Not a directory\)"),
    ],
)
def test_what_cannot_be_exported_is_told(checkpoint, capsys, arguments, text):
    assert main([argument.format(file=checkpoint) for argument in arguments]) == 1
    assert re.search(text, capsys.readouterr().err)
