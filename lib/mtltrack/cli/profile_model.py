"""`python tracking/profile_model.py`: parameters, operations, time and memory of a configuration."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mtltrack.cli.build import build_tracker
from mtltrack.cli.command import make_console, run_command, say
from mtltrack.cli.test import devices_of
from mtltrack.cli.train_setup import make_stages
from mtltrack.core.config import Config, find_config, load_config
from mtltrack.core.errors import ConfigError
from mtltrack.evaluation.arithmetic import Arithmetic
from mtltrack.evaluation.costs import (
    REST,
    FrameCost,
    Spread,
    frame_indices,
    measure_frame,
    noise_clip,
    peak_memory,
    time_calls,
)
from mtltrack.evaluation.online import OnlineTracker
from mtltrack.evaluation.results import write_text
from mtltrack.evaluation.sessions import asked_tasks
from mtltrack.models.tracker import Tracker
from mtltrack.training.stages import Stage, enter_stage, parts_of

EXAMPLES = """examples:
  python tracking/profile_model.py --script hiptrack --config hiptrack_cls
  python tracking/profile_model.py --script hiptrack --config hiptrack --memory 1 150 --json costs.json
  python tracking/profile_model.py --script ostrack --config ostrack_256 --device cpu --frames 20 --batch 4
"""
COUNTING = (
    "operations of matrix products, convolutions and attention; a multiplication and an addition are two, "
    "so halve them to compare with figures in MACs"
)
ENTRIES = (1, 10, 50, 150)
FRAME_SIZE = (720, 1280)
WARM_UP = 3


def build_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="profile_model.py",
        description="Count parameters and operations of a model with random weights, and measure its time a "
        "frame and its memory, as a whole and by part.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--script", default="hiptrack", help="the model: hiptrack (the default), ostrack")
    parser.add_argument("--config", default="hiptrack", help="name of the configuration (hiptrack)")
    parser.add_argument(
        "--frames",
        type=int,
        default=10,
        help=f"frames to time, after {WARM_UP} that warm up; 0 counts only (10)",
    )
    parser.add_argument(
        "--memory",
        type=int,
        nargs="+",
        metavar="N",
        help=f"entries of the history's memory to measure with; without it those of {ENTRIES} that "
        "MODEL.MAX_MEM allows",
    )
    parser.add_argument("--batch", type=int, default=1, help="clips in one pass of the model (1)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1; without it a GPU if there is one")
    parser.add_argument("--json", metavar="FILE", help="also write everything into this file")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings on top of the YAML"
    )
    return parser


@dataclass
class Profile:
    """What a model costs.

    Attributes:
        parameters: part -> its parameters; "all" too.
        trainable: stage of training -> part -> those that train in it; "all" too.
        frames: one entry for each number of memory entries, and one for a frame that is written.
        whole: a frame from the image to the answer, one at a time.
        memory: largest use in bytes, see `peak_memory`; "before" is the process's without the model.
        setting: what was measured on and with.
    """

    parameters: dict[str, int]
    trainable: dict[str, dict[str, int]]
    frames: list[FrameCost] = field(default_factory=list)
    whole: Spread | None = None
    memory: dict[str, float] = field(default_factory=dict)
    setting: dict[str, Any] = field(default_factory=dict)


def count_parameters(net: Tracker) -> dict[str, int]:
    """Return part -> parameters for each part of the tracker that has some, and "all"."""
    counts = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in parts_of(net).items()
    }
    return {name: count for name, count in counts.items() if count} | {
        "all": sum(parameter.numel() for parameter in net.parameters())
    }


def count_trainable(net: Tracker, stages: Iterable[Stage]) -> dict[str, dict[str, int]]:
    """Return, for each stage of training, part -> parameters that train in its first epoch, and "all"."""
    counts: dict[str, dict[str, int]] = {}
    for stage in stages:
        enter_stage(net, stage)
        counts[stage.name] = {
            name: sum(parameter.numel() for parameter in part.parameters() if parameter.requires_grad)
            for name, part in parts_of(net).items()
        }
        counts[stage.name]["all"] = sum(counts[stage.name].values())
    return counts


def memory_entries(given: Sequence[int] | None, net: Tracker) -> list[int]:
    """Return the numbers of memory entries to measure with; [0] without a history.

    Raises:
        ConfigError: more than the memory holds, fewer than one, or there is no memory.
    """
    if net.history is None:
        if given:
            raise ConfigError("--memory is of no use: this tracker has no history")
        return [0]
    most = net.history_settings.max_memory
    for entries in given or ():
        if not 1 <= entries <= most:
            raise ConfigError(f"--memory {entries}: the memory holds 1 to {most} entries (MODEL.MAX_MEM)")
    return list(given) if given else [entries for entries in ENTRIES if entries <= most] or [most]


def measure(
    net: Tracker, cfg: Config, device: torch.device, entries: list[int], batch: int, frames: int
) -> list[FrameCost]:
    """Measure the model's frames, see `Profile.frames`."""
    tasks = asked_tasks(net.graph, cfg.TEST.TASKS)
    needs = any(getattr(net.graph.heads[task], "needs_detail", False) for task in net.graph.needed(tasks))
    detail = cfg.DATA.DETAIL.SIZE if needs and cfg.DATA.DETAIL is not None else None
    clip = noise_clip(batch, cfg.TEST.TEMPLATE_SIZE, cfg.TEST.SEARCH_SIZE, device, detail)
    reading, writing = frame_indices(net)
    wanted = [(reading, count) for count in entries if reading is not None]
    wanted += [(writing, entries[0])] if writing is not None else []
    arithmetic = Arithmetic.of(cfg, device)
    arithmetic.prepare(net)
    with arithmetic.applied():
        return [
            measure_frame(net, clip, index=index, entries=count, tasks=tasks, calls=frames, warm_up=WARM_UP)
            for index, count in wanted
            if index is not None
        ]


def time_whole(net: Tracker, cfg: Config, device: torch.device, frames: int) -> Spread:
    """Time frames from the image (720 x 1280 pixels of noise) to the answer; each one waits for the last."""
    tracker = OnlineTracker(net, cfg, device)
    image = np.random.default_rng(0).integers(0, 256, (*FRAME_SIZE, 3), dtype=np.uint8)
    tracker.initialize(image, [600.0, 300.0, 80.0, 60.0])
    return Spread.of(time_calls(lambda: tracker.track(image), device, frames, 11))  # by then it is written


def profile(arguments: argparse.Namespace) -> Profile:
    """Measure what the arguments ask for."""
    device = torch.device(devices_of(arguments.device, 1)[0] or "cpu")
    before = peak_memory(torch.device("cpu")).get("process")
    cfg = load_config(
        find_config(arguments.script, arguments.config), arguments.cfg_options, script=arguments.script
    )
    net = build_tracker(cfg, arguments.script)
    entries = memory_entries(arguments.memory, net)
    trainable = count_trainable(net, make_stages(net, cfg, arguments.script))
    found = Profile(count_parameters(net), trainable)
    net.to(device).eval().requires_grad_(False)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    found.frames = measure(net, cfg, device, entries, arguments.batch, arguments.frames)
    if arguments.frames:
        found.whole = time_whole(net, cfg, device, arguments.frames)
    found.memory = peak_memory(device) | ({} if before is None else {"before": before})
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    found.setting = {
        "script": arguments.script,
        "config": arguments.config,
        "device": str(device),
        "device_name": name or platform.machine(),
        "precision": cfg.TEST.PRECISION,
        "batch": arguments.batch,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "template": cfg.TEST.TEMPLATE_SIZE,
        "search": cfg.TEST.SEARCH_SIZE,
        "counting": COUNTING,
    }
    return found


def as_json(found: Profile) -> str:
    """Return the profile as JSON; seconds, bytes and operations as they are."""
    content = asdict(found)
    for entry, cost in zip(content["frames"], found.frames, strict=True):
        entry["operations_total"] = sum(cost.operations.values())
    return json.dumps(content, indent=2) + "\n"


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    return table


def _title(cost: FrameCost) -> str:
    memory = f"{cost.entries} in memory" if cost.entries else "a frame"
    return f"{memory}, written" if cost.writes else memory


def show(console: Console, found: Profile) -> None:
    """Print the profile."""
    setting = found.setting
    stages = list(found.trainable)
    table = _table(
        f"{setting['script']} {setting['config']}, parameters",
        ["part", "all", *(f"trained in '{stage}'" for stage in stages)],
    )
    for part, count in found.parameters.items():
        table.add_row(part, f"{count:,}", *(f"{found.trainable[stage].get(part, 0):,}" for stage in stages))
    console.print(table)
    parts = list(dict.fromkeys(part for cost in found.frames for part in cost.operations if part != REST))
    title = f"template {setting['template']}, search {setting['search']}, batch {setting['batch']}"
    table = _table(f"GFLOPs, {title}", ["part", *map(_title, found.frames)])
    for part in [*parts, REST]:
        table.add_row(
            part,
            *(
                f"{cost.operations[part] / 1e9:.3f}" if part in cost.operations else ""
                for cost in found.frames
            ),
        )
    table.add_row("all", *(f"{sum(cost.operations.values()) / 1e9:.2f}" for cost in found.frames))
    padded = [cost.executed - sum(cost.operations.values()) for cost in found.frames]
    if any(padded):
        table.add_row("executed", *(f"{cost.executed / 1e9:.2f}" for cost in found.frames))
    console.print(table)
    say(console, f"  {COUNTING}")
    if any(padded):
        say(console, "  executed: with the zeros that fused attention pads the memory's keys by")
    if found.whole is not None:
        _show_times(console, found, parts)
    for key, text in (("process", "the process"), ("gpu", "the GPU's tensors")):
        if key in found.memory:
            own = f" ({found.memory['before'] / 1e6:,.0f} before the model)" if key == "process" else ""
            say(console, f"memory of {text}: {found.memory[key] / 1e6:,.0f} MB at most{own}")


def _show_times(console: Console, found: Profile, parts: list[str]) -> None:
    setting = found.setting
    where = f"{setting['device']} ({setting['device_name']}), {setting['precision']}"
    if setting["device"] == "cpu":
        where += f", {setting['threads']} threads"
    table = _table(f"milliseconds on {where}, median", ["part", *map(_title, found.frames)])
    for part in parts:
        table.add_row(
            part,
            *(f"{1000 * cost.seconds[part]:.2f}" if part in cost.seconds else "" for cost in found.frames),
        )
    totals = [cost.total for cost in found.frames if cost.total is not None]
    table.add_row("the model", *(f"{1000 * total.median:.2f}" for total in totals))
    table.add_row("10 to 90 %", *(f"{1000 * total.low:.2f} to {1000 * total.high:.2f}" for total in totals))
    table.add_row("frames a second", *(f"{setting['batch'] / total.median:.1f}" for total in totals))
    console.print(table)
    whole = found.whole
    assert whole is not None
    height, width = FRAME_SIZE
    say(
        console,
        f"time a frame on {setting['device']}, from an image of {width} x {height} to the answer: "
        f"{1000 * whole.median:.2f} ms (median of {whole.count}, {setting['precision']}; 10 to 90 %: "
        f"{1000 * whole.low:.2f} to {1000 * whole.high:.2f}), {1 / whole.median:.1f} frames a second",
    )


def run_profile(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    if arguments.frames < 0 or arguments.batch < 1:
        raise ConfigError("--frames must be 0 or more, and --batch 1 or more")
    console = make_console()
    found = profile(arguments)
    show(console, found)
    if arguments.json:
        path = Path(arguments.json).expanduser()
        write_text(path, as_json(found))
        say(console, f"written to {path}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return run_command(run_profile, build_parser().parse_args(argv))
