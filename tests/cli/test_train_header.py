"""What the log of a training begins with, and the marks of data and configuration in it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from mtltrack.cli.train_header import commit, config_digest, header
from mtltrack.cli.train_setup import make_deterministic
from mtltrack.core.errors import DataError
from mtltrack.data.fingerprint import fingerprint, same_sequences
from mtltrack.data.sequences import SequenceInfo


class Source:
    """Sequences of two frames; one of them can't be read."""

    name = "source"

    def __init__(self, names=("a", "b", "c"), size=10.0, broken=()):
        self.names, self.size, self.broken = names, size, broken

    @property
    def num_sequences(self):
        return len(self.names)

    def sequence_name(self, i):
        return self.names[i]

    def sequence(self, i):
        if self.names[i] in self.broken:
            raise DataError("line 3 of groundtruth.txt")
        return SequenceInfo(self.names[i], np.full((2, 4), self.size), np.ones(2, bool))


def test_a_fingerprint_follows_names_and_boxes():
    mark = fingerprint(Source())
    assert mark == fingerprint(Source()) and mark.startswith("3 sequences ")
    of_others = [fingerprint(other) for other in (Source(("a", "b")), Source(("a", "b", "d")))]
    of_boxes = [fingerprint(other) for other in (Source(size=11.0), Source(broken=("c",)))]
    assert len({mark, *of_others, *of_boxes}) == 5
    assert [same_sequences(mark, other) for other in of_others] == [False, False]
    assert [same_sequences(mark, other) for other in of_boxes] == [True, True]


def test_the_header_names_versions_commit_configuration_and_data():
    lines = header({"TRAIN": {"LR": 1e-4}}, 7, {"TRAIN lasot": "3 sequences, abc"})
    assert f"torch {torch.__version__.split('+')[0]}" in lines[0] and lines[0].startswith(
        "versions: Python 3."
    )
    assert "commit: " in lines[1]
    assert lines[2] == f"configuration: sha256 {config_digest({'TRAIN': {'LR': 1e-4}})}, seed 7"
    assert lines[3] == "data TRAIN lasot: 3 sequences, abc"
    assert (
        config_digest({"a": 1, "b": 2}) == config_digest({"b": 2, "a": 1}) != config_digest({"a": 1, "b": 3})
    )


def test_the_commit_is_named_with_its_changes(tmp_path: Path):
    assert commit(None) == commit(tmp_path) == "none"

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    assert commit(tmp_path).startswith("unknown (CalledProcessError")  # nothing was committed yet
    file = tmp_path / "a.txt"
    file.write_text("one")
    git("add", "a.txt")
    git("commit", "-q", "-m", "first")
    assert commit(tmp_path) == git("rev-parse", "HEAD")[:12]
    file.write_text("two")
    assert commit(tmp_path).endswith(" with changes")


def test_deterministic_leaves_no_choice_to_torch(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    try:
        make_deterministic()
        assert torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
        with pytest.raises(RuntimeError, match="deterministic"):
            torch.ones(4).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]), accumulate=False)
    finally:
        torch.use_deterministic_algorithms(False)
