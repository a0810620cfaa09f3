"""The lock on a run's folder: held by one process, freed with it, named to the next."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mtltrack.cli.train import main
from mtltrack.core.errors import TrainingError
from mtltrack.training.lock import RunLock

fcntl = pytest.importorskip("fcntl", reason="Windows has no such locks")
HOLDER = """
import os, sys, time
from pathlib import Path
from mtltrack.training.lock import RunLock
lock = RunLock(Path(sys.argv[1]), "it")
if os.fork() == 0:  # a loader process, which inherits the open file
    time.sleep(60)
    os._exit(0)
print("held", flush=True)
time.sleep(60)
"""


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Let another process hold the lock; it has a child that outlives it."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            yield process
        finally:
            os.killpg(process.pid, 9)


def test_the_holder_is_named_and_a_killed_one_frees_the_run_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    with held_elsewhere(path) as other:
        said = rf"^the run is being trained: by process {other.pid} on .+ since \d{{4}}-\d\d-\d\d "
        with pytest.raises(TrainingError, match=said + r".*give another --save_dir or --config\.$"):
            RunLock(path, "the run")
        other.kill()
        other.wait()
        RunLock(path, "the run").release()  # its child still lives


def test_the_file_says_who_holds_it_and_may_lie_there_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "run.lock"
    lock = RunLock(path, "it")
    assert json.loads(path.read_text())["process"] == os.getpid() and lock.note == ""
    lock.release()
    lock.release()
    RunLock(path, "it").release()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EAGAIN])
def test_a_holder_that_has_not_written_yet_is_not_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(TrainingError, match=f"it is being trained: another process holds {tmp_path}"):
        RunLock(tmp_path / "run.lock", "it")


def test_a_file_system_without_locks_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    note = RunLock(tmp_path / "run.lock", "it").note
    assert note == "it can't be locked (No locks available). Don't start it a second time."


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.lock").mkdir()  # as root may write another user's file
    with pytest.raises(
        TrainingError, match=r"it can't be locked: .*run\.lock can't be written \(Is a directory"
    ):
        RunLock(tmp_path / "run.lock", "it")


def test_a_system_without_fcntl_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert RunLock(tmp_path / "run.lock", "it").note.startswith("it isn't locked: this system has no fcntl.")


def test_a_second_training_is_refused_before_it_writes_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "logs" / "ostrack-ostrack_tiny.lock"
    with held_elsewhere(path) as other:
        arguments = ["--script", "ostrack", "--config", "ostrack_tiny", "--save_dir", str(tmp_path)]
        assert main([*arguments, "--mode", "single"]) == 1
        run = f"ostrack/ostrack_tiny in {tmp_path}"
        said = f"training failed: {run} is being trained: by process {other.pid} on "
        assert said in capsys.readouterr().err
    assert list(tmp_path.rglob("*.*")) == [path]
