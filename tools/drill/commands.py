"""The training command in several processes, on one host and on two that share the loopback address."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from tools.drill.small import small_yaml
from torch import Tensor

YAML = small_yaml(
    (8, 5),
    {
        "STAGE1_EPOCHS": 1,
        "STAGE2_EPOCHS": 2,
        "STAGE2_LR": 1.0e-3,
        "BATCH_SIZE": 2,
        "PRINT_INTERVAL": 1,
        "VAL_EPOCH_INTERVAL": 1,
        "SAVE_INTERVAL_STEPS": 1,
        "DROP_PATH_RATE": 0.0,
        "BN": "frozen",
    },
    eliminates=False,
)
SECONDS = 900.0  # that a run may take at most


def prepare(folder: Path) -> Path:
    """Write the configuration below a folder, in which the commands then run, and return the folder."""
    place = folder / "experiments" / "ostrack"
    place.mkdir(parents=True, exist_ok=True)
    (place / "small.yaml").write_text(YAML, encoding="utf-8")
    return folder


def free_port() -> int:
    """Return a port of this host that nobody listens to now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(folder: Path, run: str, *options: str) -> subprocess.Popen[str]:
    """Start a training that writes below `folder`/`run`; what it says goes to `run`.txt."""
    command = [sys.executable, "-m", "mtltrack.cli.train", "--script", "ostrack", "--config", "small"]
    with (folder / f"{run}.txt").open("a", encoding="utf-8") as said:
        return subprocess.Popen(
            [*command, "--save_dir", run, *options],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
        )


def finish(process: subprocess.Popen[str]) -> int:
    """Wait for a process and return its status; one that takes too long is killed with its children."""
    try:
        return process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        for child in [*descendants(process.pid), process.pid]:
            os.kill(child, signal.SIGKILL)
        return process.wait()


def said(folder: Path, run: str) -> str:
    """Return what a run has said so far."""
    path = folder / f"{run}.txt"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def weights(folder: Path, run: str, epoch: int = 3) -> dict[str, Tensor]:
    """Return the weights after an epoch of a run."""
    path = folder / run / "checkpoints" / "train" / "ostrack" / "small" / f"OSTrack_ep{epoch:04d}.pth.tar"
    net: dict[str, Tensor] = torch.load(path, weights_only=True)["net"]
    return net


def figures(folder: Path, run: str) -> list[str]:
    """Return the lines of a run that say what validation found, without the time."""
    path = folder / run / "logs" / "ostrack-small.log"
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line[line.index("val ") :] for line in lines if " val " in line]


def one_process(folder: Path, run: str = "one") -> int:
    return finish(start(folder, run, "--cfg-options", "TRAIN.BATCH_SIZE=4"))


def two_processes(folder: Path, run: str, *options: str) -> int:
    return finish(start(folder, run, "--mode", "multiple", "--nproc_per_node", "2", *options))


def two_hosts(folder: Path, run: str, *options: str, kill_at: str = "") -> list[int]:
    """Run one process on each of two hosts: two commands that meet at a port of the loopback address.

    Args:
        folder: see `prepare`.
        run: its name.
        options: of both commands.
        kill_at: what the run says when the process of the second host is killed; "" for never.
    """
    common = ["--mode", "multi_node", "--nproc_per_node", "1", "--world-size", "2", "--ip", "127.0.0.1"]
    common += ["--port", str(free_port()), *options]
    hosts = [start(folder, run, *common, "--rank", str(rank)) for rank in range(2)]
    if kill_at:
        signalled(hosts[1], folder, run, kill_at, signal.SIGKILL, local_rank="0")
    return [finish(host) for host in hosts]


def killed_once(folder: Path, run: str, sign: str, *options: str) -> tuple[int, bool]:
    """Run two processes and kill the second one when the run says `sign`; torchrun starts both again.

    Returns:
        The command's status, and whether a process was killed.
    """
    options = ("--mode", "multiple", "--nproc_per_node", "2", "--max-restarts", "1", *options)
    process = start(folder, run, *options)
    killed = signalled(process, folder, run, sign, signal.SIGKILL)
    return finish(process), killed


def stopped(folder: Path, run: str, sign: str, seconds: float) -> tuple[int, float]:
    """Run two processes and let the second one hang when the run says `sign`.

    Args:
        folder: see `prepare`.
        run: its name.
        sign: see `killed_once`.
        seconds: --timeout.

    Returns:
        The command's status, and the seconds until the other process failed.
    """
    process = start(folder, run, "--mode", "multiple", "--nproc_per_node", "2", "--timeout", str(seconds))
    signalled(process, folder, run, sign, signal.SIGSTOP)
    begun = time.monotonic()
    for _ in waiting(process):
        if "training failed" in said(folder, run):
            break
    took = time.monotonic() - begun
    return finish(process), took


def signalled(
    process: subprocess.Popen[str], folder: Path, run: str, sign: str, number: int, local_rank: str = "1"
) -> bool:
    """Send a signal to a process of a run as soon as the run says `sign`; tell whether it was sent."""
    for _ in waiting(process):
        if sign in said(folder, run):
            for pid in descendants(process.pid):
                if environment(pid).get("LOCAL_RANK") == local_rank:
                    os.kill(pid, number)
                    return True
    return False


def waiting(process: subprocess.Popen[str], pause: float = 0.02) -> Iterator[None]:
    """Yield now and then while a process runs, for a limited time."""
    end = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < end:
        yield
        time.sleep(pause)


def descendants(pid: int) -> list[int]:
    """Return the processes below one, as Linux tells them; the nearest first."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with vanishing():
            for child in map(int, task.read_text(encoding="ascii").split()):
                found += [child, *descendants(child)]
    return found


def environment(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with; empty if it is gone."""
    with vanishing():
        raw = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
        return dict(entry.split("=", 1) for entry in raw.split("\0") if "=" in entry)
    return {}


@contextmanager
def vanishing() -> Iterator[None]:
    """Bear with a process that ends while it is looked at."""
    try:
        yield
    except (FileNotFoundError, ProcessLookupError):
        return


def in_ranks(folder: Path, checks: Sequence[str]) -> str:
    """Run checks of `in_ranks.py` in two processes; each leaves `<check>.pt` in the folder.

    Those that have left it there are not made again.

    Returns:
        What went wrong, "" for nothing.
    """
    checks = [check for check in checks if not (folder / f"{check}.pt").is_file()]
    if not checks:
        return ""
    script = str(Path(__file__).with_name("in_ranks.py"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*torchrun, script, str(folder), *checks],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return "" if done.returncode == 0 else done.stderr[-3000:]
