"""Measure what TRAIN.FEATURE_CACHE gains and costs: steps of a stage whose backbone is frozen.

A step on a made-up clip is timed without the cache, with features that are there, and with features that have
to be computed and written, in turns in this process, in time of the processor (of one thread) or of the wall.
Reading and decoding samples, which a training does besides, isn't part of a step, so that a whole epoch gains
less. Weights are random: what they are doesn't matter to speed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from accelerate.utils import set_seed
from rich.box import SIMPLE_HEAD
from rich.table import Table
from speed.rounds import CLOCKS, CPU, Comparison, Form, Timer, seconds_of

from mtltrack.cli.build import build_tracker
from mtltrack.cli.command import make_console, run_command, say, show
from mtltrack.cli.train_setup import make_accelerator, make_stages, train_settings
from mtltrack.core.config import Config, find_config, load_config
from mtltrack.core.errors import ConfigError, TrainingError
from mtltrack.core.types import Clip
from mtltrack.models.tracker import Tracker
from mtltrack.training.audit.clips import ClipShape, made_up_clip
from mtltrack.training.feature_store import in_units
from mtltrack.training.frozen_features import FrozenFeatures
from mtltrack.training.stages import BACKBONE, Stage
from mtltrack.training.trainer import Trainer

EXAMPLES = """examples:
  python tools/feature_gain.py --script hiptrack --config hiptrack_cls
  python tools/feature_gain.py --script hiptrack --config hiptrack_mtl_tiny --batch 16 --rounds 7
  python tools/feature_gain.py --script ostrack --config ostrack_cls_tiny --batch 16 --folder /mnt/slow_disk
"""
MORE_THAN_ENOUGH = 10**12  # bytes


class GainBench:
    """Times the steps of one stage.

    Args:
        net: with any weights.
        cfg: its configuration.
        script: "hiptrack" or "ostrack".
        batch: clips a step.
        folder: where the features go.
        timer: makes the comparisons.
    """

    def __init__(
        self, net: Tracker, cfg: Config, script: str, batch: int, folder: Path, timer: Timer
    ) -> None:
        detail = None if cfg.DATA.DETAIL is None else cfg.DATA.DETAIL.SIZE
        frames = cfg.DATA.SEARCH.NUMBER
        shape = ClipShape(batch, frames, cfg.DATA.TEMPLATE.SIZE, cfg.DATA.SEARCH.SIZE, detail)
        self.clip = made_up_clip(net.heads(), shape, 0)
        self.batch, self.frames, self.folder, self.timer = batch, frames, folder, timer
        settings = replace(
            train_settings(cfg, 0, "none"),
            audit_interval=0,
            audit_full_interval=0,
            feature_cache=folder,
            feature_cache_bytes=MORE_THAN_ENOUGH,
        )
        stages = make_stages(net, cfg, script)
        accelerator = make_accelerator(cfg)
        self.trainer = Trainer(net.to(accelerator.device), stages, settings, [], accelerator=accelerator)

    def stage(self) -> Stage:
        """Return the stage that is measured: the first with a frozen backbone.

        Raises:
            ConfigError: there is none.
        """
        for number, stage in enumerate(self.trainer.stages):
            if BACKBONE not in stage.trains:
                self.trainer.position.stage = number
                return stage
        raise ConfigError("no stage of this configuration has a frozen backbone: there is nothing to keep")

    def run(self) -> tuple[list[Comparison], int]:
        """Return the comparisons with a step without the cache, and the bytes of a sample on the disk."""
        trainer, stage = self.trainer, self.stage()
        current = trainer.enter(stage)
        trainer.tracker.train()
        features = trainer.features
        assert features is not None

        def step(known: FrozenFeatures | None, clip: Clip) -> None:
            current.runner.passes.features = known
            made = current.runner.run([clip], None)
            if made.refused is not None:
                raise TrainingError(f"stage {stage.name}: {made.refused}")

        plain = Form(lambda: step(None, self.clip))
        name = f"stage {stage.name}, {self.batch} x {self.frames} frames"
        found = [
            self.timer.compare(f"{name}: read", Form(lambda: step(features, self.clip)), plain),
            self.timer.compare(
                f"{name}: computed and written", Form(self._new_clips(step, features)), plain, memory=False
            ),
        ]
        trainer.leave(current)
        files = [path.stat().st_size for path in self.folder.rglob("*.safetensors")]
        return found, sum(files) // len(files)

    def _new_clips(
        self, step: Callable[[FrozenFeatures | None, Clip], None], features: FrozenFeatures
    ) -> Callable[[], None]:
        """Return a step whose clip is another one each time."""
        count = 0

        def once() -> None:
            nonlocal count
            count += 1
            search = self.clip.search.clone()
            search[:, 0, 0, 0, :4] = torch.tensor(list(count.to_bytes(4, "little")), dtype=torch.uint8)
            step(features, replace(self.clip, search=search))

        return once

    def weights(self) -> float:
        """Return the seconds that making sure of the weights takes, before each epoch and validation."""
        features = self.trainer.features
        assert features is not None
        features.enter(self.stage())
        begin = partial(features.begin, training=False)
        return seconds_of(begin, self.timer.device, self.timer.clock)


def table_of(found: Sequence[Comparison]) -> Table:
    """Lay the comparisons out."""
    table = Table(box=SIMPLE_HEAD)
    for column in ("step", "ms with", "ms without", "without / with", "quartiles"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for item in found:
        with_cache, without = 1000 * item.seconds("ours"), 1000 * item.seconds("plain")
        ratio = item.ratio
        spread = f"{ratio.low:.2f} to {ratio.high:.2f}"
        table.add_row(item.name, f"{with_cache:.1f}", f"{without:.1f}", f"{ratio.median:.2f}", spread)
    return table


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="feature_gain.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--script", required=True, help="the model: hiptrack, ostrack")
    parser.add_argument("--config", required=True, help="name of the configuration, without .yaml")
    parser.add_argument("--batch", type=int, default=1, help="clips a step (1)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each comparison (5)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    parser.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default=CPU,
        help="cpu: the processor's time, for a machine that has other work too; wall: for several threads or "
        "a GPU (cpu)",
    )
    parser.add_argument("--folder", help="where the features go for a while; without it the system's own")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings on top of the YAML"
    )
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    for name in ("batch", "rounds", "threads"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name} {getattr(options, name)}: at least 1 is needed")
    if options.clock == CPU and options.threads != 1:
        raise ConfigError("--clock cpu needs --threads 1: it adds up the time of all threads")
    torch.set_num_threads(options.threads)
    cfg = load_config(find_config(options.script, options.config), options.cfg_options, script=options.script)
    set_seed(0)
    net = build_tracker(cfg, options.script)
    console = make_console()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        timer = Timer(device, options.rounds, clock=CLOCKS[options.clock])
        bench = GainBench(net, cfg, options.script, options.batch, Path(folder), timer)
        found, size = bench.run()
        weights = bench.weights()
    show(console, table_of(found))
    say(console, f"on the disk: {in_units(size)} a sample")
    say(console, f"making sure of the weights, before each epoch and validation: {weights:.2f} s")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command(run, parse(arguments))


if __name__ == "__main__":
    sys.exit(main())
