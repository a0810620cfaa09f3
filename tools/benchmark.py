"""Measure the speed of the frame loop, of training and of loading against their plain form and the limit.

The plain form (`tools/plain`) does the same work on the same weights as papers write it: the attention matrix
formed in every block, the memory joined from its entries at each frame and read by its whole affinity
matrix, whole images mirrored and masked by the loader; in float32, with the kernels that torch takes by
itself. Both forms run in turns in this process, the first of one round being the last of the next, so that
the ratio of each round doesn't depend on how busy the machine is. What is printed of a round's ratios
(plain / ours) are the median and the quartiles.

  frame   the tracker's forward pass at several numbers of memory entries, one with its frame written to the
          memory, and `track()` from an image of 1280 x 720 pixels to the box; with task heads in the
          configuration, what they add to a frame
  train   a step of each stage of training, forward, backward and optimizer, on made-up clips; where no stage
          trains everything, one that does is added
  load    samples from JPEG files of 1280 x 720 pixels (written for it), loaded by one worker, until they are
          normalised on the device; once with whole frames decoded, once with DATA.REDUCED_DECODE. Targets
          are as large as in GOT-10k's validation set: 45 to 561 pixels, half of them above 190
  all     the three of them

Operations are those of matrix products, convolutions and attention that the method needs, two for a
multiplication and an addition; what a form computes beyond them doesn't count. The limit is the best median
of products of matrices (F.linear), by layers of ViT-B and larger, measured between the others in the same run
and in the precision of ours; for float32 on a CPU also by oneDNN, if its products are float32. Memory is what
a call takes at most beyond what is held before it.

Weights are random: what they are doesn't matter to speed.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate.utils import set_seed
from rich.console import Console
from speed.frames import FrameBench
from speed.limit import QUICK_SHAPES, LimitMeter, shapes_for
from speed.output import Findings, as_json, print_findings
from speed.rounds import CLOCKS, CPU, WALL, Timer
from speed.samples import LoadBench
from speed.steps import StepBench, training_device

from mtltrack.cli.build import build_tracker
from mtltrack.cli.command import make_console, run_command, say
from mtltrack.cli.profile_model import ENTRIES, memory_entries
from mtltrack.cli.test import devices_of
from mtltrack.core.config import Config, find_config, load_config
from mtltrack.core.errors import ConfigError
from mtltrack.core.kernels import KernelChoice, kernel_for, processor_facts
from mtltrack.evaluation.results import write_text
from mtltrack.models.tracker import Tracker

EXAMPLES = """examples:
  python tools/benchmark.py frame --script hiptrack --config hiptrack
  python tools/benchmark.py frame --script hiptrack --config hiptrack_mtl --entries 1 --precision bf16
  python tools/benchmark.py frame --script ostrack --config ostrack_256 --threads 2
  python tools/benchmark.py frame --script hiptrack --config hiptrack --device cpu --threads 1 --clock cpu
  python tools/benchmark.py train --script hiptrack --config hiptrack --rounds 5 --batch 1
  python tools/benchmark.py load --script hiptrack --config hiptrack --device cpu --threads 1 --clock cpu
  python tools/benchmark.py all --script hiptrack --config hiptrack --out output/benchmark
  python tools/benchmark.py all --script hiptrack --config hiptrack_tiny --quick
"""
MEASURED = ("frame", "train", "load")
FILE = "benchmark.json"


@dataclass(frozen=True)
class Amounts:
    """How much is measured: rounds of frames, of steps and of epochs of samples; samples a round."""

    frame: int = 15
    train: int = 7
    load: int = 7
    samples: int = 60


FULL, QUICK = Amounts(), Amounts(2, 1, 1, 3)


class Teller:
    """Says how far the run is: a line that is written over on a terminal, one a comparison elsewhere."""

    def __init__(self, console: Console) -> None:
        self._status = console.status("") if console.is_terminal else None
        self._console, self._last = console, ""

    def __enter__(self) -> Teller:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, text: str) -> None:
        """Take a text like "what: how far"."""
        if self._status is not None:
            self._status.update(text)
            return
        what = text.split(":")[0]
        if what != self._last:
            self._last = what
            say(self._console, f"measuring {what}")


def build_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="benchmark.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("what", choices=[*MEASURED, "all"], help="what to measure")
    parser.add_argument("--script", required=True, help="the model: hiptrack, ostrack")
    parser.add_argument("--config", required=True, help="name of the configuration, without .yaml")
    parser.add_argument("--device", help="cpu, cuda, cuda:1; without it a GPU if there is one")
    parser.add_argument(
        "--precision", choices=["fp32", "bf16", "fp16"], default="fp32", help="of ours; plain is fp32 (fp32)"
    )
    parser.add_argument(
        "--entries",
        type=int,
        nargs="+",
        metavar="N",
        help=f"entries of the history's memory; without it those of {ENTRIES} that MODEL.MAX_MEM allows",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        help=f"rounds of each comparison ({FULL.frame} of frames, {FULL.train} of steps and of loading)",
    )
    parser.add_argument("--batch", type=int, default=1, help="clips a step of training (1)")
    parser.add_argument("--threads", type=int, help="CPU threads; without it torch's choice")
    parser.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default=WALL,
        help="cpu: the processor's time of one thread, for a machine that has other work too; of loading, "
        "that of the worker, which only Linux tells (wall)",
    )
    parser.add_argument("--out", metavar="DIR", help=f"also write everything into {FILE} there")
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it runs")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings on top of the YAML"
    )
    return parser


def check(options: argparse.Namespace, device: torch.device) -> None:
    """Refuse arguments that make no sense.

    Raises:
        ConfigError: names the argument.
    """
    for name in ("rounds", "batch", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name} {value}: at least 1 is needed")
    if options.precision == "fp16" and device.type != "cuda":
        raise ConfigError("--precision fp16 needs a GPU; use bf16 or fp32")
    if options.clock == CPU and (device.type != "cpu" or options.threads != 1):
        raise ConfigError(
            "--clock cpu needs --device cpu and --threads 1: it adds up the time of all threads"
        )
    if options.clock == CPU and options.what in ("load", "all") and not sys.platform.startswith("linux"):
        raise ConfigError("--clock cpu: only Linux tells the time of the worker that loads; use wall")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--device {device}: torch sees no GPU here; use cpu")
    elsewhere = device.type != training_device().type or (device.index or 0) != (training_device().index or 0)
    if options.what in ("train", "all") and elsewhere:
        raise ConfigError(
            f"--device {device}: training takes {training_device()} here; choose another GPU, or none, with "
            "CUDA_VISIBLE_DEVICES"
        )


def setting_of(options: argparse.Namespace, device: torch.device, kernel: KernelChoice) -> dict[str, object]:
    """Return what was measured on and with."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # Windows has none
    return {
        "script": options.script,
        "config": options.config,
        "precision": options.precision,
        "device": str(device),
        "processor": chip_name(device),
        "threads": torch.get_num_threads(),
        "float32 products": f"{kernel.kernel} ({kernel.reason})",
        "clock": options.clock,
        "torch": torch.__version__,
        "load average before": load,
        "time": time.strftime("%Y-%m-%d %H:%M"),
    }


def chip_name(device: torch.device) -> str:
    """Return the name of a device's processor, as far as the system tells."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor_facts().get("model name") or platform.processor() or platform.machine()


def measure(options: argparse.Namespace, cfg: Config, device: torch.device, tell: Teller) -> Findings:
    """Measure what the arguments ask for."""
    amounts = QUICK if options.quick else FULL
    chosen = MEASURED if options.what == "all" else (options.what,)
    kernel = kernel_for(cfg.TEST.MATMUL, device)
    findings = Findings(setting_of(options, device, kernel))
    training = kernel if cfg.TRAIN.MATMUL == cfg.TEST.MATMUL else kernel_for(cfg.TRAIN.MATMUL, device)
    if training is not kernel:
        findings.setting["float32 products in training"] = f"{training.kernel} ({training.reason})"
    meter = LimitMeter(
        options.precision,
        device,
        QUICK_SHAPES if options.quick else shapes_for(device),
        CLOCKS[options.clock],
    )
    if chosen != ("load",):
        findings.limit = meter.found
    for what in chosen:
        timer = Timer(
            device,
            options.rounds or getattr(amounts, what),
            tell,
            (lambda: None) if what == "load" else meter.measure,
            CLOCKS[options.clock],
        )
        if what == "frame":
            bench = FrameBench(_net(options, cfg), cfg, timer)
            findings.comparisons[what] = bench.run(memory_entries(options.entries, bench.net))
            findings.heads = bench.heads()
        elif what == "train":
            steps = StepBench(_net(options, cfg), cfg, options.script, options.batch, timer, training.kernel)
            findings.comparisons[what] = steps.run()
        else:
            with tempfile.TemporaryDirectory() as folder:
                loads = LoadBench(cfg, Path(folder), amounts.samples, timer)
                findings.comparisons[what] = loads.run()
    return findings


def _net(options: argparse.Namespace, cfg: Config) -> Tracker:
    set_seed(0)
    return build_tracker(cfg, options.script)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    device = torch.device(devices_of(options.device, 1)[0] or "cpu")
    check(options, device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    precision = [f"TEST.PRECISION={options.precision}", f"TRAIN.PRECISION={options.precision}"]
    cfg = load_config(
        find_config(options.script, options.config),
        [*options.cfg_options, *precision],
        script=options.script,
    )
    console = make_console()
    with Teller(console) as tell:
        findings = measure(options, cfg, device, tell)
    print_findings(console, findings)
    if options.out is not None:
        path = Path(options.out).expanduser() / FILE
        write_text(path, as_json(findings))
        say(console, f"written to {path}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return run_command(run, build_parser().parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
