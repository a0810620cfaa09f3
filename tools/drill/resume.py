"""Kill a training with signal 9 wherever it happens to be, let it go on, and compare all of it bit for bit.

The children are forked from this process, which has everything imported: a run of a few dozen steps then
takes a second, and a hundred kills some minutes. Half of the kills come while a checkpoint is being written:
the child says so through a pipe when the writing begins, and dies a random moment later.
"""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from tools.drill.children import in_child, kill_group, wait_for
from tools.drill.row import Row
from tools.drill.small import small_yaml

from mtltrack.cli import train as train_command
from mtltrack.cli.build import build_tracker
from mtltrack.cli.build_data import build_loaders
from mtltrack.core.config import load_config
from mtltrack.metrics.classification import confusion_figure
from mtltrack.training import checkpoint
from mtltrack.training.monitors import Monitor, Monitors, RunInfo

TRAIN = {
    "STAGE1_EPOCHS": 2,
    "STAGE2_EPOCHS": 2,
    "STAGE2_LR": 1.0e-4,
    "BATCH_SIZE": 4,
    "PRINT_INTERVAL": 2,
    "VAL_EPOCH_INTERVAL": 2,
    "SAVE_INTERVAL_STEPS": 2,
    "AUDIT_INTERVAL": 2,
    "EMA": 0.9,
    "DROP_PATH_RATE": 0.2,
    "WEIGHTING": "dwa",
    "SAVE_BEST": {"METRIC": "total"},
}
SCRIPT, CONFIG, NET, EPOCHS = "ostrack", "drill", "OSTrack", 4


class Notes(Monitor):
    """Writes every figure of a run to a file, a line each, as exact as it is."""

    def __init__(self, info: RunInfo) -> None:
        super().__init__(info)
        info.save_dir.mkdir(parents=True, exist_ok=True)
        self._file = (info.save_dir / "figures.jsonl").open("a", encoding="utf-8")

    def _note(self, group: str, step: int, values: Any) -> None:
        self._file.write(
            json.dumps([group, step, {name: repr(value) for name, value in values.items()}]) + "\n"
        )
        self._file.flush()

    def progress(self, progressed: Any) -> None:
        values = {**progressed.scalars, **{f"weight {k}": v for k, v in progressed.weights.items()}}
        values.update({f"rate {k}": v for k, v in progressed.rates.items()}, norm=progressed.grad_norm)
        self._note("train", progressed.global_step, values)

    def scalars(self, group: str, values: Any, epoch: int, global_step: int) -> None:  # noqa: ARG002
        self._note(group, global_step, values)

    def gradients(self, values: Any, global_step: int) -> None:
        self._note("gradients", global_step, values)

    def close(self) -> None:
        self._file.close()


@dataclass
class Run:
    """A training below a folder of its own."""

    folder: Path
    workers: int

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints" / "train" / SCRIPT / CONFIG

    def train(self) -> int:
        """Train in this process, as the command does, and return its exit status."""
        options = [f"TRAIN.NUM_WORKER={self.workers}"]
        arguments = ["--script", SCRIPT, "--config", CONFIG, "--save_dir", str(self.folder)]
        return train_command.main([*arguments, "--cfg-options", *options])

    def figures(self) -> dict[tuple[str, int], str]:
        """Return every figure by group and step.

        Raises:
            ValueError: a step was told twice, with another figure.
        """
        found: dict[tuple[str, int], str] = {}
        for line in (self.folder / "figures.jsonl").read_text(encoding="utf-8").splitlines():
            try:
                group, step, values = json.loads(line)
            except json.JSONDecodeError:
                continue  # the line that was being written
            text = json.dumps(values, sort_keys=True)
            if found.setdefault((group, step), text) != text:
                raise ValueError(f"{group} at step {step}: {found[group, step]} and {text}")
        return found

    def result(self) -> dict[str, Any]:
        """Return the last epoch's files: weights, their average, the state of everything else."""
        stem = self.checkpoints / f"{NET}_ep{EPOCHS:04d}"
        names = {"weights": ".pth.tar", "average": "_ema.pth.tar", "state": ".resume.pt"}
        files = {name: Path(f"{stem}{suffix}") for name, suffix in names.items()}
        files["best"] = self.checkpoints / f"{NET}_best.pth.tar"
        found = {name: torch.load(path, weights_only=True) for name, path in files.items()}
        for content in found.values():  # the number of loader processes stands in there
            content.get("run", content).pop("config")
        return found


def difference(one: Any, other: Any, place: str = "") -> str:
    """Return where two contents differ first, "" when they are equal bit for bit."""
    if isinstance(one, torch.Tensor):
        same = isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
        return "" if same else place or "/"
    if isinstance(one, dict):
        if not isinstance(other, dict) or list(one) != list(other):
            return place or "/"
        return next((text for key in one if (text := difference(one[key], other[key], f"{place}/{key}"))), "")
    if isinstance(one, list | tuple):
        if not isinstance(other, list | tuple) or len(one) != len(other):
            return place or "/"
        pairs = enumerate(zip(one, other, strict=True))
        return next((text for i, (a, b) in pairs if (text := difference(a, b, f"{place}/{i}"))), "")
    return "" if one == other or (one != one and other != other) else f"{place}: {one} and {other}"


# ------------------------------------------------------------------------------------------------- children


@contextmanager
def told_when_writing(tell: Callable[[], object]) -> Iterator[None]:
    """Call `tell` whenever a checkpoint begins to be written."""
    write = checkpoint._write

    def tell_and_write(content: dict[str, Any], path: Path) -> None:
        tell()
        write(content, path)

    checkpoint._write = tell_and_write
    try:
        yield
    finally:
        checkpoint._write = write


def telling_child(run: Run) -> tuple[int, BinaryIO]:
    """Train in a child; return its number, and a pipe that gives a byte whenever it begins a checkpoint."""
    ours, theirs = os.pipe()

    def work() -> int:
        with told_when_writing(lambda: os.write(theirs, b"w")):
            return run.train()

    child = in_child(work)
    os.close(theirs)
    return child, os.fdopen(ours, "rb")


def counted_writes(run: Run) -> tuple[int, int]:
    """Train to the end; return how many checkpoint files were written, and the exit status."""
    child, pipe = telling_child(run)
    with pipe:
        writes = len(pipe.read())
    return writes, wait_for(child)


def killed_at(run: Run, seconds: float) -> bool:
    """Train and kill after some seconds; False when the run was over before."""
    child = in_child(run.train)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.002)
    kill_group(child)
    return wait_for(child) == -signal.SIGKILL


def killed_while_writing(run: Run, number: int, delay: float) -> bool:
    """Train and kill `delay` seconds after the `number`-th checkpoint began to be written."""
    child, pipe = telling_child(run)
    with pipe:
        if len(pipe.read(number)) == number:
            time.sleep(delay)
            kill_group(child)
    return wait_for(child) == -signal.SIGKILL


# --------------------------------------------------------------------------------------------------- drill


def prepare(folder: Path, **train: Any) -> None:
    """Write the configuration below a folder as the command wants it; `train` changes keys of TRAIN."""
    experiments = folder / "experiments" / SCRIPT
    experiments.mkdir(parents=True, exist_ok=True)
    (experiments / f"{CONFIG}.yaml").write_text(
        small_yaml((12, 4), {**TRAIN, **train}, dropout=0.3), encoding="utf-8"
    )


def warm_up(folder: Path) -> None:
    """Import whatever a training needs, once for all children."""
    cfg = load_config(folder / "experiments" / SCRIPT / f"{CONFIG}.yaml")
    build_tracker(cfg)
    confusion_figure(torch.zeros(2, 2), ["a", "b"])
    build_loaders(cfg)
    gc.collect()
    gc.freeze()  # a child needn't look through all of it


def killed_somewhere(run: Run, writing: bool, writes: int, seconds: float, chance: random.Random) -> bool:
    """Kill a run at a random point; False when it was over before."""
    if writing:
        return killed_while_writing(run, chance.randint(1, writes), chance.uniform(0.0, 0.004))
    return killed_at(run, chance.uniform(0.05, 1.0) * seconds)


@contextmanager
def forked(folder: Path) -> Iterator[None]:
    """Prepare this process and a folder for children that train in it."""
    prepare(folder)
    warm_up(folder)
    before, threads = Path.cwd(), torch.get_num_threads()
    build, train_command.build_monitors = train_command.build_monitors, lambda info: Monitors([Notes(info)])
    torch.set_num_threads(1)  # a forked process has lost the others, and would wait for them for ever
    given, os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS"), "1"  # training keeps to it
    os.chdir(folder)
    try:
        yield
    finally:
        gc.unfreeze()
        os.chdir(before)
        del os.environ["OMP_NUM_THREADS"]
        if given is not None:
            os.environ["OMP_NUM_THREADS"] = given
        train_command.build_monitors = build
        torch.set_num_threads(threads)


def finish(run: Run) -> int:
    """Train to the end in a child and return its exit status."""
    return wait_for(in_child(run.train))


@dataclass
class Tally:
    """What came of the kills."""

    equal: int = 0
    fault: str = ""

    def compare(self, run: Run, reference: Run) -> None:
        """Let a run go on to its end and compare it with the one that was never interrupted."""
        status = finish(run)
        if status != 0:
            self.fault = self.fault or f"{run.folder.name} ended with status {status}"
            return
        try:
            figures = run.figures()
        except ValueError as error:
            self.fault = self.fault or f"{run.folder.name}: {error}"
            return
        found = difference(reference.result(), run.result()) or difference(reference.figures(), figures)
        self.equal += not found
        self.fault = self.fault or (found and f"{run.folder.name}: {found}")


def drill(folder: Path, workers: int, kills: int, chance: random.Random) -> Row:
    """Kill and resume a training `kills` times, half of them while it writes."""
    check = f"kill -9 at {kills} random points, half of them while writing, {workers} loader processes"
    wanted = "weights, optimizer, average, state and every logged figure bit-equal to the uninterrupted run's"
    reference = Run(folder / f"whole{workers}", workers)
    started = time.monotonic()
    writes, status = counted_writes(reference)
    seconds = time.monotonic() - started
    if status != 0:
        return Row(check, wanted, f"the uninterrupted run ended with status {status}", False)
    tally = Tally()
    for number in range(kills):
        run = Run(folder / f"killed{workers}-{number:03d}", workers)
        while not killed_somewhere(run, number % 2 == 1, writes, seconds, chance):
            shutil.rmtree(run.folder)  # it was over before
            seconds *= 0.9
        tally.compare(run, reference)
    found = f"{tally.equal} of {kills} bit-equal"
    return Row(check, wanted, found + (f"; {tally.fault}" if tally.fault else ""), tally.equal == kills)


def run(short: bool, folder: Path) -> list[Row]:
    """Make the drill.

    Args:
        short: 4 kills in place of 50, for each number of loader processes.
        folder: where the trainings go.
    """
    with forked(folder):
        chance = random.Random(0)
        return [drill(folder, workers, 4 if short else 50, chance) for workers in (0, 2)]
