"""Ask a training to leave: a checkpoint within ten seconds, the right exit status, and nothing lost by it."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from tools.drill.children import wait_for
from tools.drill.resume import (
    CONFIG,
    SCRIPT,
    Run,
    difference,
    finish,
    forked,
    prepare,
    telling_child,
)
from tools.drill.row import Row

from mtltrack.core.paths import checkout_root

SECONDS = 10.0
STATUS = {"SIGTERM": 143, "SIGINT": 130, "SIGUSR1": 128 + signal.SIGUSR1}


def leave_once(run: Run, name: str, writes: int, delay: float) -> tuple[int, float]:
    """Train, send a signal `delay` seconds after `writes` checkpoints; return status and seconds."""
    child, pipe = telling_child(run)
    with pipe:
        pipe.read(writes)
        time.sleep(delay)
        os.killpg(child, getattr(signal, name))  # to all of its processes, as Slurm does
        sent = time.monotonic()
        pipe.read()  # to the end: the child holds the other side until it is gone
    return wait_for(child), time.monotonic() - sent


def leaving(folder: Path, name: str, times: int, chance: random.Random, limit: float = SECONDS) -> Row:
    """Leave by a signal at random points, go on, and compare with the run that was left alone.

    Args:
        folder: where the trainings go.
        name: of the signal.
        times: how often.
        chance: decides when.
        limit: seconds that leaving may take.
    """
    reference = Run(folder / "left-alone", 0)
    if not reference.checkpoints.exists():
        finish(reference)
    right = equal = late = 0
    longest, fault = 0.0, ""
    for number in range(times):
        while True:
            run = Run(folder / f"{name}-{number}-{late}", 2 * (number % 2))
            status, seconds = leave_once(run, name, chance.randint(1, 12), chance.uniform(0.0, 0.1))
            over = status == 0 and not difference(reference.result(), run.result())
            if not over or late == times:
                break
            late += 1  # the training was over before the signal came: drawn again, a few times
        longest = max(longest, seconds)
        right += status == STATUS[name]
        ended = finish(run)
        found = f"ended with status {ended}" if ended else difference(reference.result(), run.result())
        equal += not found
        fault = fault or (found and f"; {run.folder.name}: {found}")
    return Row(
        f"{name} to all processes at {times} random points of a training, half with 2 loader processes",
        f"exit status {STATUS[name]} within {limit:g} s; the resumed run ends bit-equal",
        f"{right} of {times} with that status, the slowest after {longest:.1f} s; {equal} bit-equal"
        f"{f'; {late} were over before the signal and made again' if late else ''}{fault}",
        right == equal == times and longest < limit,
    )


def two_ranks(folder: Path, limit: float = SECONDS) -> Row:
    """Send SIGTERM to the command that started two processes; both must stop at the same step.

    Args:
        folder: where the training goes.
        limit: seconds until the checkpoint.
    """
    check = "SIGTERM to a command with two processes (gloo, torchrun)"
    wanted = f"both stop at the same step, a checkpoint within {limit:g} s, status 143 of the command"
    root = checkout_root()
    assert root is not None, "the drill runs from a checkout"
    prepare(folder, STAGE1_EPOCHS=500)
    command = [sys.executable, str(root / "tracking" / "train.py"), "--script", SCRIPT, "--config", CONFIG]
    command += ["--save_dir", "ranks", "--mode", "multiple", "--nproc_per_node", "2"]
    output = folder / "ranks.txt"
    with output.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        saved = folder / "ranks" / "checkpoints" / "train" / SCRIPT / CONFIG
        deadline = time.monotonic() + 600
        while not list(saved.glob("*.resume.pt")) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        sent = time.time()
        status = process.wait()
    steps = re.findall(r"stopped by SIGTERM after step (\d+)", output.read_text(encoding="utf-8"))
    states = sorted(saved.glob("*.resume.pt"), key=lambda path: path.stat().st_mtime)
    seconds = states[-1].stat().st_mtime - sent if states else float("inf")
    step = torch.load(states[-1], weights_only=True)["position"]["step"] if states else None
    agreed = len(steps) >= 2 and set(steps) == {str(step)}
    found = f"status {status}; steps {', '.join(steps) or 'none'}; step {step} saved after {seconds:.1f} s"
    return Row(check, wanted, found, agreed and status == STATUS["SIGTERM"] and seconds < limit)


def run(short: bool, folder: Path) -> list[Row]:
    """Make the drill.

    Args:
        short: twice each signal in place of ten times, without regard to the time, and one process only.
        folder: where the trainings go.
    """
    chance = random.Random(0)
    with forked(folder):
        times, limit = (2, 60 * SECONDS) if short else (10, SECONDS)
        rows = [leaving(folder, name, times, chance, limit) for name in STATUS]
    return rows if short else [*rows, two_ranks(folder)]
