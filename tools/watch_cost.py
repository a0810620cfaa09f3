"""Measure what watching gradients costs a training, in time of the processor.

Makes some steps of each stage of training on made-up clips with every label, and times a look at the
gradients (every TRAIN.AUDIT_INTERVAL steps), the whole matrix with its picture (every AUDIT_FULL_INTERVAL),
and finding out what the heads read (once a stage), beside a step without them. Reading and decoding samples
would make a step longer. Exit status 1 when looks and matrices together cost more than --most percent.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from accelerate.utils import set_seed
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mtltrack.cli.audit import audited_clip, chosen_stages
from mtltrack.cli.build import build_tracker
from mtltrack.cli.command import make_console, run_command
from mtltrack.cli.train_setup import make_accelerator, make_stages, train_settings
from mtltrack.core.config import find_config, load_config
from mtltrack.core.errors import ConfigError
from mtltrack.core.types import Clip
from mtltrack.training.monitors import Monitor, Monitors
from mtltrack.training.stages import Stage
from mtltrack.training.trainer import Trainer

EXAMPLES = """examples:
  python tools/watch_cost.py --script hiptrack --config hiptrack_mtl_tiny
  python tools/watch_cost.py --script hiptrack --config hiptrack_cls_tiny --stage joint --batch 4 --steps 3
"""


class Costs(NamedTuple):
    """Seconds of the processor in one stage of training.

    Attributes:
        step: a step without any look, the median.
        look: at the last shared stage and one head, the mean (looks take turns).
        matrix: a look at the whole matrix.
        reading: finding out what the heads read.
    """

    step: float
    look: float
    matrix: float
    reading: float

    def share(self, interval: int, full_interval: int) -> float:
        """Return the part of a training's time that looks and matrices take, in percent; 0: none."""
        cost = (self.look / interval if interval else 0) + (
            self.matrix / full_interval if full_interval else 0
        )
        return 100 * cost / self.step


class Silent(Monitor):
    """Hears everything and writes nothing."""

    def __init__(self) -> None:
        pass


class Clock:
    """Adds up the time of the processor that a function takes."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *arguments: Any) -> Any:
        began = time.process_time()
        result = self.function(*arguments)
        self.seconds += time.process_time() - began
        return result


def measure(trainer: Trainer, stage: Stage, clip: Clip, steps: int) -> Costs:
    """Make steps of a stage and time what is in them."""
    trainer.position.stage = trainer.stages.index(stage)  # heads of later stages don't run yet
    current = trainer.enter(stage)
    trainer.tracker.train()
    watch = current.watch
    assert watch is not None
    watch.prepare, watch.look = Clock(watch.prepare), Clock(watch.look)
    alone, looks, reading = [], [], []
    for interval, full, number in ((0, 0, steps + 1), (1, 0, steps + 1), (0, 1, 1)):
        watch.interval, watch.full_interval = interval, full
        for _ in range(number):
            watch.prepare.seconds = watch.look.seconds = 0.0
            began = time.process_time()
            current.runner.run([clip], None)
            trainer.position.step += 1
            seconds = time.process_time() - began
            if not (interval or full):
                alone.append(seconds)
            looks.append(watch.look.seconds)
            reading.append(watch.prepare.seconds)
    trainer.leave(current)
    first = steps + 1  # of the looks; it, like the first step, is not counted
    return Costs(
        statistics.median(alone[1:]), statistics.fmean(looks[first + 1 : -1]), looks[-1], reading[first]
    )


def table_of(found: dict[str, Costs], interval: int, full_interval: int) -> Table:
    """Lay the costs out, in steps and in percent of the training."""
    table = Table(box=SIMPLE_HEAD)
    for column in (
        "stage",
        "seconds a step",
        f"look at {interval} steps",
        f"matrix at {full_interval}",
        "what heads read, once",
        "together",
    ):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage, costs in found.items():
        table.add_row(
            stage,
            f"{costs.step:.3f}",
            f"{100 * costs.look / costs.step:.1f} % of a step: {costs.share(interval, 0):.2f} %",
            f"{costs.matrix / costs.step:.1f} steps: {costs.share(0, full_interval):.2f} %",
            f"{costs.reading / costs.step:.1f} steps",
            f"{costs.share(interval, full_interval):.2f} %",
        )
    return table


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="watch_cost.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--script", required=True, help="the model: hiptrack, ostrack")
    parser.add_argument("--config", required=True, help="name of the configuration, without .yaml")
    parser.add_argument(
        "--stage", action="append", default=[], help="only this stage of training; repeatable (all)"
    )
    parser.add_argument("--batch", type=int, default=16, help="clips (16)")
    parser.add_argument("--frames", type=int, default=2, help="search frames a clip (2)")
    parser.add_argument("--steps", type=int, default=6, help="steps with and without a look (6)")
    parser.add_argument("--seed", type=int, default=42, help="of weights and clips (42)")
    parser.add_argument("--most", type=float, default=1.0, help="percent of the time that may go there (1)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings on top of the YAML"
    )
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    if options.steps < 1:
        raise ConfigError(f"--steps {options.steps}: at least 1 is needed")
    torch.set_num_threads(options.threads)
    cfg = load_config(find_config(options.script, options.config), options.cfg_options, script=options.script)
    intervals = cfg.TRAIN.AUDIT_INTERVAL, cfg.TRAIN.AUDIT_FULL_INTERVAL
    if not any(intervals):
        raise ConfigError("TRAIN.AUDIT_INTERVAL and AUDIT_FULL_INTERVAL are 0: nothing is watched")
    set_seed(options.seed)
    tracker = build_tracker(cfg, options.script)
    stages = make_stages(tracker, cfg, options.script)
    chosen = chosen_stages(stages, options.stage)
    options.data = "synthetic"
    clip = audited_clip(tracker, cfg, options)
    settings = replace(train_settings(cfg, options.seed, "none"), audit_interval=1, audit_full_interval=1)
    trainer = Trainer(
        tracker, stages, settings, [], accelerator=make_accelerator(cfg), monitors=Monitors([Silent()])
    )
    found = {stage.name: measure(trainer, stage, clip, options.steps) for stage in chosen}
    console = make_console()
    console.print(table_of(found, *intervals))
    most = max(costs.share(*intervals) for costs in found.values())
    verdict = "no more" if most <= options.most else "MORE"
    console.print(f"at most {most:.2f} % of the time: {verdict} than {options.most:g} %", highlight=False)
    return 0 if most <= options.most else 1


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command(run, parse(arguments))


if __name__ == "__main__":
    sys.exit(main())
