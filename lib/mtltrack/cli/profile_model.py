"""`python tracking/profile_model.py`: parameters, operations and time a frame of a configuration."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from mtltrack.cli.build import build_tracker
from mtltrack.cli.command import make_console, run_command, say
from mtltrack.cli.test import devices_of
from mtltrack.core.config import Config, find_config, load_config
from mtltrack.evaluation.online import OnlineTracker
from mtltrack.models.tracker import Tracker

EXAMPLES = """examples:
  python tracking/profile_model.py --script hiptrack --config hiptrack_cls
  python tracking/profile_model.py --script ostrack --config ostrack_256 --device cpu --frames 20
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="profile_model.py",
        description="Count parameters and operations of a model with random weights, and time it a frame.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--script", default="hiptrack", help="the model: hiptrack, ostrack")
    parser.add_argument("--config", default="hiptrack", help="name of the configuration")
    parser.add_argument(
        "--frames", type=int, default=30, help="frames to time, after 12 that warm up and fill the memory"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1; without it a GPU if there is one")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings on top of the YAML"
    )
    return parser


def count_parameters(net: Tracker) -> dict[str, tuple[int, int]]:
    """Return part -> (parameters, those that are not frozen) for each part of the tracker, and "all"."""
    counts = {
        name: (
            sum(parameter.numel() for parameter in part.parameters()),
            sum(parameter.numel() for parameter in part.parameters() if parameter.requires_grad),
        )
        for name, part in net.named_children()
    }
    counts = {name: count for name, count in counts.items() if count[0]}
    every = list(net.parameters())
    counts["all"] = (sum(p.numel() for p in every), sum(p.numel() for p in every if p.requires_grad))
    return counts


def freeze_as_trained(net: Tracker, cfg: Config, script: str) -> None:
    """Freeze what training freezes in its last stage: the backbone, where the configuration says so."""
    train = cfg.TRAIN
    freeze = script == "hiptrack" if train.FREEZE_BACKBONE is None else train.FREEZE_BACKBONE
    if freeze and not train.TWO_STAGE:
        net.backbone.requires_grad_(False)


def random_frame(generator: np.random.Generator) -> np.ndarray:
    """Return a frame (720, 1280, 3) of noise."""
    return generator.integers(0, 256, (720, 1280, 3), dtype=np.uint8)


def count_operations(step: Callable[[], object]) -> int:
    """Return the floating point operations (a multiplication and an addition are two) of a call."""
    counter = FlopCounterMode(display=False)
    with counter:
        step()
    return int(counter.get_total_flops())


def time_frames(step: Callable[[], object], frames: int) -> list[float]:
    """Return seconds a call; each call ends with a copy to the host, so nothing is left running."""
    seconds = []
    for _ in range(frames):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return seconds


def run_profile(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    console = make_console()
    cfg = load_config(
        find_config(arguments.script, arguments.config), arguments.cfg_options, script=arguments.script
    )
    net = build_tracker(cfg, arguments.script)
    freeze_as_trained(net, cfg, arguments.script)
    device = devices_of(arguments.device, 1)[0]
    tracker = OnlineTracker(net, cfg, device)

    table = Table(title=f"{arguments.script} {arguments.config}", title_justify="left", box=SIMPLE_HEAD)
    for column, side in (("part", "left"), ("parameters", "right"), ("trainable", "right")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    for name, (count, trainable) in count_parameters(net).items():
        table.add_row(name, f"{count:,}", f"{trainable:,}")
    console.print(table)

    image = random_frame(np.random.default_rng(0))
    tracker.initialize(image, [600.0, 300.0, 80.0, 60.0])

    def step() -> object:
        return tracker.track(image)

    for _ in range(11):
        step()
    operations = count_operations(step)  # by now the history reads from stored frames
    seconds = time_frames(step, max(1, arguments.frames))
    milliseconds = 1000 * float(np.median(seconds))
    say(
        console,
        f"operations a frame: {operations / 1e9:.2f} GFLOPs (a multiplication and an addition are two)",
    )
    say(
        console,
        f"time a frame on {device}: {milliseconds:.2f} ms (median of {len(seconds)}, {cfg.TEST.PRECISION}), "
        f"{1000 / milliseconds:.1f} frames a second, {torch.get_num_threads()} threads",
    )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return run_command(run_profile, build_parser().parse_args(argv))
