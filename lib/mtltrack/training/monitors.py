"""Those who watch a training: the terminal, the log file, TensorBoard. A new one is a class and its name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from torch import Tensor

from mtltrack.core.registry import MONITORS
from mtltrack.training.optimizers import PartRow
from mtltrack.training.stages import Stage

DEFAULT_MONITORS = ("ConsoleMonitor", "LogFileMonitor", "TensorBoardMonitor", "BadSampleMonitor")


@dataclass(frozen=True)
class RunInfo:
    """Which run is watched, and where it writes."""

    save_dir: Path
    script: str
    config: str

    @property
    def tensorboard_dir(self) -> Path:
        return self.save_dir / "tensorboard" / "train" / self.script / self.config

    @property
    def log_file(self) -> Path:
        return self.save_dir / "logs" / f"{self.script}-{self.config}.log"

    @property
    def bad_samples_file(self) -> Path:
        return self.log_file.with_suffix(".bad_samples.jsonl")


@dataclass(frozen=True)
class Progressed:
    """What is known after a step; `scalars` are means since the last report.

    Attributes:
        stage: name of the stage.
        epoch: of the run, from 1.
        epochs: of the run.
        step: of the epoch, from 1.
        steps: of the epoch.
        global_step: optimizer steps of the run.
        scalars: "total", "<task>", "<task>/<term>".
        rates: learning rate by optimizer group.
        weights: what the balancing rule did, mean factor by "<task>", and by "<task>/clip" what the limit of
            its gradient made of it; empty with fixed weights.
        grad_norm: mean norm before clipping.
        samples_per_second: over all ranks.
        seconds_left: of the run.
    """

    stage: str
    epoch: int
    epochs: int
    step: int
    steps: int
    global_step: int
    scalars: Mapping[str, float]
    rates: Mapping[str, float]
    grad_norm: float
    samples_per_second: float
    seconds_left: float
    weights: Mapping[str, float] = field(default_factory=dict)

    def line(self) -> str:
        """Return the report as one line for people."""
        weights = f"weights {format_scalars(self.weights)}  " if self.weights else ""
        return (
            f"[{self.stage}] epoch {self.epoch}/{self.epochs} step {self.step}/{self.steps}  "
            f"{format_scalars(self.scalars)}  {weights}grad {self.grad_norm:.3g}  "
            f"lr {format_rates(self.rates)}  {self.samples_per_second:.1f} samples/s  "
            f"left {format_seconds(self.seconds_left)}"
        )


def format_scalars(scalars: Mapping[str, float]) -> str:
    """Return names and values; a task's only term that is as large as the task isn't told a second time."""
    tasks = [name.partition("/")[0] for name in scalars if "/" in name]
    return "  ".join(
        f"{name} {value:.4g}"
        for name, value in scalars.items()
        if "/" not in name
        or tasks.count(name.partition("/")[0]) > 1
        or scalars.get(name.partition("/")[0]) != value
    )


def format_rates(rates: Mapping[str, float]) -> str:
    """Return one number when all groups learn at the same rate, else every group's."""
    texts = {name: f"{rate:.3g}" for name, rate in rates.items()}
    same = set(texts.values())
    return same.pop() if len(same) == 1 else " ".join(f"{name} {text}" for name, text in texts.items())


def format_seconds(seconds: float) -> str:
    return str(timedelta(seconds=max(0, round(seconds))))


class Monitor:
    """A watcher of a training. Each method is told about one event; what isn't overridden is ignored."""

    def __init__(self, info: RunInfo) -> None:
        self.info = info

    def start(self, global_step: int) -> None:
        """The run starts, or goes on after `global_step` steps."""

    def message(self, text: str) -> None:
        """Something to say to people."""

    def stage(self, stage: Stage, rows: Sequence[PartRow]) -> None:
        """A stage starts; `rows` is its table."""

    def epoch(self, stage: str, epoch: int, epochs: int, steps: int, done: int = 0) -> None:
        """An epoch of `steps` steps starts, or goes on after `done` of them."""

    def step(self) -> None:
        """A step was made; called at every step, must be cheap."""

    def progress(self, progressed: Progressed) -> None:
        """Every PRINT_INTERVAL steps, and at the end of an epoch."""

    def scalars(self, group: str, values: Mapping[str, float], epoch: int, global_step: int) -> None:
        """Means of an epoch ("epoch") or of a validation ("val")."""

    def gradients(self, values: Mapping[str, float], global_step: int) -> None:
        """Norms `grad/<task>/<stage of the model>` and cosines `conflict/<task>_<task>` of one step."""

    def faults(self, part: str, epoch: int, records: Sequence[Mapping[str, Any]]) -> None:
        """Bad data that an epoch ("train") or a validation ("val") met, see `FaultLog.records`; or none."""

    def images(self, name: str, images: Tensor, global_step: int) -> None:
        """Pictures, (N, 3, H, W) uint8."""

    def figure(self, name: str, figure: Any, global_step: int) -> None:
        """A matplotlib figure."""

    def broken_off(self, reason: str) -> None:
        """The run ends before its end, for a reason which its caller will print."""

    def close(self) -> None:
        """The run has ended, well or not."""


class Monitors:
    """Hands every event on to all monitors; without any it is silent (other ranks than the first).

    Args:
        monitors: those who watch.
    """

    def __init__(self, monitors: Iterable[Monitor] = ()) -> None:
        self.monitors = list(monitors)

    def tell(self, event: Callable[[Monitor], object]) -> None:
        """Tell each monitor: `monitors.tell(lambda monitor: monitor.message("hello"))`."""
        for monitor in self.monitors:
            event(monitor)

    def message(self, text: str) -> None:
        """Say something to people."""
        self.tell(lambda monitor: monitor.message(text))

    def close(self) -> None:
        """The run has ended."""
        self.tell(lambda monitor: monitor.close())


def build_monitors(info: RunInfo, names: Iterable[str] = DEFAULT_MONITORS) -> Monitors:
    """Return the monitors registered as `names`; an unknown name is an error that lists them."""
    return Monitors(MONITORS.create(name, info=info) for name in names)


def plain_table(stage: Stage, rows: Sequence[PartRow]) -> str:
    """Return the stage's table as plain text."""
    header = ("module", "parameters", "trainable", "state", "learning rate", "group")
    cells = [header, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    return "\n".join([_title(stage), *lines])


def _title(stage: Stage) -> str:
    return f"stage '{stage.name}': {stage.epochs} epoch(s), losses of {', '.join(sorted(stage.losses))}"


def _cells(row: PartRow) -> tuple[str, ...]:
    rate = "-" if row.lr is None else f"{row.lr:.3g}"
    return row.module, f"{row.parameters:,}", f"{row.trainable:,}", row.state, rate, row.group


@MONITORS.register_module()
class ConsoleMonitor(Monitor):
    """A progress bar with losses and the time left on a terminal; plain lines elsewhere."""

    def __init__(self, info: RunInfo, console: Console | None = None) -> None:
        super().__init__(info)
        self.console = console or Console(file=sys.stdout, soft_wrap=True, highlight=False)
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def message(self, text: str) -> None:
        self.console.print(text, markup=False)

    def stage(self, stage: Stage, rows: Sequence[PartRow]) -> None:
        if not self.console.is_terminal:
            self.message(plain_table(stage, rows))
            return
        table = Table(title=_title(stage), title_justify="left")
        for name in ("module", "parameters", "trainable", "state", "learning rate", "group"):
            table.add_column(
                name, justify="right" if name in ("parameters", "trainable", "learning rate") else "left"
            )
        for row in rows:
            table.add_row(*_cells(row), style=None if row.trainable else "dim")
        self.console.print(table)

    def epoch(self, stage: str, epoch: int, epochs: int, steps: int, done: int = 0) -> None:
        if not self.console.is_terminal:
            return
        self._stop_bar()
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn())
        self._bar = Progress(*columns, TextColumn("{task.fields[state]}"), console=self.console)
        self._task = self._bar.add_task(
            f"[cyan]{stage}[/] {epoch}/{epochs}", total=steps, completed=done, state=""
        )
        self._bar.start()

    def step(self) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task)

    def progress(self, progressed: Progressed) -> None:
        if self._bar is None or self._task is None:
            self.message(progressed.line())
            return
        losses = {name: value for name, value in progressed.scalars.items() if "/" not in name}
        state = f"{format_scalars(losses)}  {progressed.samples_per_second:.1f}/s"
        self._bar.update(self._task, state=f"{state}  left {format_seconds(progressed.seconds_left)}")
        if progressed.step == progressed.steps:
            self._stop_bar()

    def scalars(self, group: str, values: Mapping[str, float], epoch: int, global_step: int) -> None:  # noqa: ARG002
        self.message(f"{group} {epoch}: {format_scalars(values)}")

    def close(self) -> None:
        self._stop_bar()

    def _stop_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


@MONITORS.register_module()
class LogFileMonitor(Monitor):
    """Plain lines with the time of day in `<save_dir>/logs/<script>-<config>.log`; a resumed run appends."""

    def __init__(self, info: RunInfo) -> None:
        super().__init__(info)
        info.log_file.parent.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = info.log_file.open("a", encoding="utf-8")

    def message(self, text: str) -> None:
        now = datetime.now().strftime("%Y-%m-%d %H:%M:%S")
        self._file.writelines(f"{now}  {line}\n" for line in text.splitlines())
        self._file.flush()

    def stage(self, stage: Stage, rows: Sequence[PartRow]) -> None:
        self.message(plain_table(stage, rows))

    def progress(self, progressed: Progressed) -> None:
        self.message(progressed.line())

    def scalars(self, group: str, values: Mapping[str, float], epoch: int, global_step: int) -> None:  # noqa: ARG002
        self.message(f"{group} {epoch}: {format_scalars(values)}")

    def broken_off(self, reason: str) -> None:
        self.message(reason)

    def close(self) -> None:
        self._file.close()


@MONITORS.register_module()
class TensorBoardMonitor(Monitor):
    """Curves, pictures, figures under `<save_dir>/tensorboard/train/<script>/<config>`, by optimizer step."""

    def __init__(self, info: RunInfo) -> None:
        super().__init__(info)
        self._writer: Any = None

    def start(self, global_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # points that a crashed run wrote after the step that is resumed from would stand twice
        self._writer = SummaryWriter(str(self.info.tensorboard_dir), purge_step=global_step + 1)

    def message(self, text: str) -> None:
        pass

    def progress(self, progressed: Progressed) -> None:
        step = progressed.global_step
        for name, value in progressed.scalars.items():
            self._writer.add_scalar(f"train/{name}", value, step)
        for name, value in progressed.weights.items():
            self._writer.add_scalar(f"weighting/{name}", value, step)
        for group, rate in progressed.rates.items():
            self._writer.add_scalar(f"lr/{group}", rate, step)
        self._writer.add_scalar("train/grad_norm", progressed.grad_norm, step)
        self._writer.add_scalar("speed/samples_per_second", progressed.samples_per_second, step)
        self._writer.add_scalar("train/epoch", progressed.epoch, step)

    def scalars(self, group: str, values: Mapping[str, float], epoch: int, global_step: int) -> None:  # noqa: ARG002
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, global_step)
        self._writer.flush()

    def gradients(self, values: Mapping[str, float], global_step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, global_step)

    def images(self, name: str, images: Tensor, global_step: int) -> None:
        self._writer.add_images(name, images, global_step)

    def figure(self, name: str, figure: Any, global_step: int) -> None:
        self._writer.add_figure(name, figure, global_step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
