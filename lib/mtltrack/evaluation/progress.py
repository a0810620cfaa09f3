"""Shows how a run gets on: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class RunProgress:
    """Told by `mtltrack.evaluation.runner.run` of each event.

    Args:
        total: number of sequences.
        console: where to write; a new one when None.
    """

    def __init__(self, total: int, console: Console | None = None) -> None:
        self.console = console or Console()
        self.total = total
        self.finished = 0
        self._frames, self._start = 0, time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> RunProgress:
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("[progress.description]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[rate]}"),
                console=self.console,
            )
            self._task = self._bar.add_task("sequences", total=self.total, rate="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: str, sequence: str, frames: int, seconds: float) -> None:
        """Take an event: "start", "done", "failed" or "skipped"."""
        if event == "start":
            if self._bar is not None:
                self._bar.update(self._task, description=sequence)
            return
        self.finished += 1
        self._frames += frames
        if self._bar is not None:
            self._bar.update(self._task, completed=self.finished, rate=self._rate())
        self.console.print(self._line(event, sequence, frames, seconds), markup=False, highlight=False)

    def _rate(self) -> str:
        """Return what all processes together do, reading of images and first frames included."""
        seconds = time.monotonic() - self._start
        return f"{self._frames / seconds:.1f} frames/s" if self._frames and seconds > 0 else ""

    def _line(self, event: str, sequence: str, frames: int, seconds: float) -> str:
        head = f"[{self.finished}/{self.total}] {sequence}: "
        if event == "done":
            rate = f", {(frames - 1) / seconds:.1f} frames a second" if seconds > 0 else ""
            return f"{head}{frames} frames{rate}"
        return head + ("results exist, skipped (--force runs it again)" if event == "skipped" else event)
