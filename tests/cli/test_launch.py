"""How several processes are started: torchrun's arguments, and what happens when they are started again."""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mtltrack.cli import train_setup
from mtltrack.cli.launch import LAUNCHED, RESTARTS, torchrun_command, written_since_launch
from mtltrack.cli.train import build_parser, resume_files
from mtltrack.core.config import config_from_dict
from mtltrack.core.errors import ConfigError
from mtltrack.training.files import CheckpointFolder

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def test_restarts_on_one_machine() -> None:
    given = ["--mode", "multiple", "--nproc_per_node", "2", "--max-restarts", "3", "--seed", "1"]
    assert torchrun_command("m", given) == [
        *TORCHRUN,
        *("--nproc_per_node", "2", "--max-restarts", "3", "--standalone"),
        *("-m", "m", "--seed", "1", "--mode", "single"),
    ]


@pytest.mark.parametrize(("rank", "host"), [("0", "1"), ("1", "0")])
def test_restarts_on_several_machines_meet_at_machine_0(rank: str, host: str) -> None:
    given = ["--mode", "multi_node", "--nproc_per_node", "8", "--world-size", "2", "--rank", rank]
    given += ["--ip", "10.0.0.1", "--port", "1234", "--max-restarts", "1", "--local_addr", "10.0.0.9"]
    assert torchrun_command("m", given)[3:] == [
        *("--nproc_per_node", "8", "--max-restarts", "1", "--nnodes", "2"),
        *("--rdzv_backend", "c10d", "--rdzv_id", "mtltrack", "--rdzv_endpoint", "10.0.0.1:1234"),
        *("--rdzv_conf", f"is_host={host}", "--local_addr", "10.0.0.9"),
        *("-m", "m", "--mode", "single"),
    ]


def test_a_negative_number_of_restarts_is_refused() -> None:
    given = ["--mode", "multiple", "--nproc_per_node", "2", "--max-restarts", "-1"]
    with pytest.raises(ConfigError, match="--max-restarts is -1; wanted 0 or more"):
        torchrun_command("m", given)


def test_every_process_gets_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["--mode", "multiple", "--nproc_per_node", "2", "--timeout", "7"]
    assert torchrun_command("m", given)[-4:] == ["--timeout", "7", "--mode", "single"]
    options = build_parser().parse_args(["--script", "a", "--config", "b", "--timeout", "7"])
    made: dict[str, Any] = {}
    monkeypatch.setattr(train_setup, "Accelerator", lambda **arguments: made.update(arguments))
    train_setup.make_accelerator(config_from_dict({}, script="ostrack"), options.timeout)
    (handler,) = made["kwargs_handlers"]
    assert handler.timeout == timedelta(seconds=7)


def test_processes_that_were_started_again_resume_what_this_launch_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = CheckpointFolder(tmp_path, "OSTrack")
    path = folder.resume_file(1)
    path.write_bytes(b"state")
    launched = time.time()
    os.utime(path, (launched - 60, launched - 60))  # an earlier run's
    monkeypatch.setenv(LAUNCHED, repr(launched))
    monkeypatch.setenv(RESTARTS, "1")
    assert not written_since_launch(path) and resume_files(folder, "never") == []
    os.utime(path, (launched + 60, launched + 60))
    assert written_since_launch(path) and resume_files(folder, "never") == [path]
    monkeypatch.setenv(RESTARTS, "0")
    assert resume_files(folder, "never") == []
