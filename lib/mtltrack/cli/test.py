"""`python tracking/test.py`: run a trained tracker over test data and write result files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mtltrack.cli.command import add_data_options, dataset_key, make_console, results_root, run_command, say
from mtltrack.core.config import find_config, load_config
from mtltrack.core.errors import CheckpointError, DataError
from mtltrack.core.kernels import kernel_for
from mtltrack.core.paths import local_settings, need_writable
from mtltrack.core.seal import Checked, check_file
from mtltrack.evaluation.benchmarks import Benchmark, load_benchmark, parse_ranges
from mtltrack.evaluation.benchmarks.known import LOADERS
from mtltrack.evaluation.overlay import write_overlay
from mtltrack.evaluation.progress import RunProgress
from mtltrack.evaluation.provenance import Provenance
from mtltrack.evaluation.results import ResultFolder
from mtltrack.evaluation.runner import RunSummary, Settings, run
from mtltrack.evaluation.slots import FrameTracker
from mtltrack.models.weights import read_weights_file, state_dict_of
from mtltrack.training.files import CheckpointFolder, newest_weights

EXAMPLES = """examples:
  python tracking/test.py hiptrack hiptrack_cls --dataset otb --threads 2
  python tracking/test.py hiptrack hiptrack_cls --dataset ~/videos --video
  python tracking/test.py hiptrack hiptrack --dataset lasot --batch 8 --threads 2 --num_gpus 2
  python tracking/test.py hiptrack hiptrack_cls_tiny --dataset ../shared/data/sot \\
      --frames Crossing=81:120 --frames Car4_0001-0250=181:250 --decimals 2
  python tracking/test.py ostrack ostrack_256 --dataset lasot --checkpoint OSTrack_ep0300.pth.tar --runid 1
"""


@dataclass(frozen=True)
class TrackerFromCheckpoint:
    """Builds the online tracker; worker processes get a copy.

    Attributes:
        script: the model, such as hiptrack.
        config: path of the YAML.
        options: KEY=VALUE texts on top of it.
        checkpoint: the weights.
        checked: their digest, which isn't computed again.
    """

    script: str
    config: Path
    options: tuple[str, ...]
    checkpoint: Path
    checked: Checked | None = None

    def __call__(self, device: str | None) -> FrameTracker:
        from mtltrack.cli.build import build_trained
        from mtltrack.evaluation.online import OnlineTracker

        cfg = load_config(self.config, self.options, script=self.script)
        net = build_trained(cfg, self.script, self.checkpoint, self.checked)
        return OnlineTracker(net, cfg, device)


def build_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="test.py",
        description="Run a trained tracker over test data; writes boxes, what the heads say, and times.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tracker_name", help="the model: hiptrack, ostrack")
    parser.add_argument(
        "tracker_param", help="name of the configuration, experiments/<tracker_name>/<name>.yaml"
    )
    parser.add_argument(
        "--dataset",
        "--dataset_name",
        dest="dataset",
        default="otb",
        help=f"a benchmark ({', '.join(LOADERS)}) or a folder of sequences (otb)",
    )
    parser.add_argument("--sequence", help="only this one: its name, or its number from 0")
    add_data_options(parser)
    parser.add_argument("--runid", type=int, help="results go to <tracker_param>_<runid as three digits>")
    parser.add_argument(
        "--threads", type=int, default=0, help="processes that share the sequences; 0, 1: this one (0)"
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=1,
        help="sequences that a process follows at once, their frames in one batch (1)",
    )
    parser.add_argument("--num_gpus", type=int, default=1, help="GPUs that the processes take in turn (1)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1; without it a GPU if there is one")
    parser.add_argument(
        "--checkpoint", help="weights to test; without it TEST.EPOCH's, else the newest below save_dir"
    )
    parser.add_argument("--save_dir", help="folder of checkpoints and results; without it that of local.yaml")
    parser.add_argument("--results", help="folder of results; without it <save_dir>/test/tracking_results")
    parser.add_argument(
        "--decimals", type=int, default=0, help="digits after the point; 0 truncates to integers (0)"
    )
    parser.add_argument("--video", action="store_true", help="also write <results>/.../videos/<sequence>.mp4")
    parser.add_argument("--force", action="store_true", help="run sequences that have results, too")
    parser.add_argument("--debug", type=int, default=0, help="1: tracebacks with every error (0)")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings on top of the YAML"
    )
    return parser


def find_checkpoint(
    given: str | None, save_dir: Path, script: str, config: str, epoch: int
) -> tuple[Path, str]:
    """Return the weights to test and why these.

    Args:
        given: `--checkpoint`, or None.
        save_dir: holds checkpoints/train/<script>/<config>.
        script: the model.
        config: name of the configuration.
        epoch: TEST.EPOCH, which is taken when its file exists.

    Raises:
        CheckpointError: there is no such file, or none at all.
    """
    if given is not None:
        path = Path(given).expanduser()
        if not path.is_file():
            raise CheckpointError(f"--checkpoint '{given}' is no file")
        return path, "--checkpoint"
    folder = save_dir / "checkpoints" / "train" / script / config
    try:
        newest = newest_weights(folder)
    except CheckpointError as error:
        command = f"python tracking/train.py --script {script} --config {config} --save_dir {save_dir}"
        raise CheckpointError(f"{error} ({command}), or name a file by --checkpoint") from error
    wanted = CheckpointFolder(folder, newest.name.rsplit("_ep", 1)[0]).weights_file(epoch)
    return (wanted, "TEST.EPOCH") if wanted.is_file() else (newest, "the newest")


def checkpoint_notes(
    checkpoint: Path, config: dict[str, Any], tasks: Iterable[str], checked: Checked | None = None
) -> list[str]:
    """Return what the user should know before testing: settings of MODEL that differ, heads without weights.

    Args:
        checkpoint: the weights; a file of the published code says nothing of its configuration.
        config: the configuration to test with, plain.
        tasks: names of its task heads.
        checked: see `read_weights_file`.
    """
    content = read_weights_file(checkpoint, checked)
    stored = content.get("config")
    notes = []
    if isinstance(stored, dict) and "MODEL" in stored:
        texts = differences(stored["MODEL"], config["MODEL"])
        notes += [f"differs from the checkpoint's own configuration: {text}" for text in texts]
    names = state_dict_of(content, checkpoint)
    for task in tasks:
        if not any(name.startswith(f"{task}_head.") for name in names):
            notes.append(f"the checkpoint has no weights of {task}_head: what '{task}' answers is random")
    return notes


def differences(stored: Any, given: Any, path: str = "MODEL") -> list[str]:
    """Return one sentence for each key that differs between two nested dictionaries."""
    if isinstance(stored, dict) and isinstance(given, dict):
        keys = [*stored, *(key for key in given if key not in stored)]
        return [
            text for key in keys for text in differences(stored.get(key), given.get(key), f"{path}.{key}")
        ]
    return [] if stored == given else [f"{path}: trained with {stored!r}, tested with {given!r}"]


def devices_of(device: str | None, num_gpus: int) -> list[str | None]:
    """Return the devices that worker processes take in turn."""
    if device is not None:
        return [device]
    if not torch.cuda.is_available():
        return ["cpu"]
    return [f"cuda:{index}" for index in range(max(1, min(num_gpus, torch.cuda.device_count())))]


def device_notes(arguments: argparse.Namespace, devices: Sequence[str | None]) -> list[str]:
    """Return what the user should know when fewer GPUs work than `--num_gpus` says."""
    wanted = arguments.num_gpus
    if wanted <= 1:
        return []
    if arguments.device is not None:
        return [f"--num_gpus {wanted} has no effect beside --device {arguments.device}"]
    if arguments.threads < wanted and len(devices) > max(1, arguments.threads):
        used = max(1, arguments.threads)
        return [f"--num_gpus {wanted} with --threads {arguments.threads} uses {used}: give as many --threads"]
    if len(devices) < wanted:
        return [f"--num_gpus {wanted}, but only {', '.join(map(str, devices))} is there"]
    return []


def run_test(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    console = make_console()
    if arguments.threads < 0 or arguments.decimals < 0:
        raise DataError("--threads and --decimals must be 0 or more")
    if arguments.batch < 1:
        raise DataError(f"--batch must be 1 or more, found {arguments.batch}")
    results = results_root(arguments.results, arguments.save_dir)
    need_writable(results, "--save_dir" if arguments.results is None else "--results")
    config = find_config(arguments.tracker_name, arguments.tracker_param)
    cfg = load_config(config, arguments.cfg_options, script=arguments.tracker_name)
    save_dir = Path(arguments.save_dir).expanduser() if arguments.save_dir else local_settings().save_dir
    checkpoint, reason = find_checkpoint(
        arguments.checkpoint, save_dir, arguments.tracker_name, arguments.tracker_param, cfg.TEST.EPOCH
    )
    benchmark = load_benchmark(
        arguments.dataset,
        parse_ranges(arguments.frames),
        arguments.sequence,
        one_based=not arguments.zero_based,
    )
    plain = cfg.dump()
    say(console, f"configuration {config}")
    say(console, f"weights {checkpoint} ({reason})")
    checked = check_file(checkpoint)
    for note in checkpoint_notes(checkpoint, plain, cfg.TASKS, checked):
        say(console, f"note: {note}")
    for note in benchmark.notes:
        say(console, f"note: {note}")
    folder = ResultFolder.of(
        results,
        arguments.tracker_name,
        arguments.tracker_param,
        arguments.runid,
        benchmark.name,
    )
    decisive: dict[str, Any] = {key: plain[key] for key in ("MODEL", "TEST", "TASKS") if key in plain}
    # it only chooses among weights, which are told by their digest
    decisive["TEST"] = {key: value for key, value in plain["TEST"].items() if key != "EPOCH"}
    if cfg.DATA.DETAIL is not None:
        decisive["DETAIL"] = plain["DATA"]["DETAIL"]
    made_by = Provenance.of(checkpoint, checked.sha256, decisive, dataset_key(arguments.dataset))
    options = tuple(arguments.cfg_options)
    settings = Settings(folder, arguments.decimals, arguments.debug, made_by, arguments.batch)
    devices = devices_of(arguments.device, arguments.num_gpus)
    for note in device_notes(arguments, devices):
        say(console, f"note: {note}")
    if devices == ["cpu"]:
        choice = kernel_for(cfg.TEST.MATMUL, torch.device("cpu"))
        say(console, choice.sentence())
        options += (f"TEST.MATMUL={choice.kernel}",)  # worker processes would measure one each
    factory = TrackerFromCheckpoint(arguments.tracker_name, config, options, checkpoint, checked)
    with RunProgress(len(benchmark.sequences), console) as progress:
        summary = run(
            factory,
            benchmark.sequences,
            settings,
            threads=arguments.threads,
            devices=devices,
            force=arguments.force,
            progress=progress,
        )
    if arguments.video:
        _write_videos(console, benchmark, folder, summary, cfg.TEST.FPS)
    return _conclude(console, summary, folder)


def _write_videos(
    console: Console, benchmark: Benchmark, folder: ResultFolder, summary: RunSummary, fps: float
) -> None:
    for sequence in benchmark.sequences:
        if sequence.name not in summary.failed:
            path = write_overlay(sequence, folder, folder.path / "videos" / f"{sequence.name}.mp4", fps)
            say(console, f"video {path}")


def _conclude(console: Console, summary: RunSummary, folder: ResultFolder) -> int:
    """Say what became of the sequences; return the exit status."""
    done = f"{len(summary.done)} run, {len(summary.skipped)} there already, {len(summary.failed)} failed"
    speed = f"; {summary.frames_per_second:.1f} frames a second a process" if summary.done else ""
    say(console, f"{done}{speed}")
    say(console, f"results {folder.path}")
    for note in summary.notes:
        print(f"warning: {note}", file=sys.stderr)
    for name, text in summary.failed.items():
        print(f"error: sequence '{name}': {text}", file=sys.stderr)
    return 1 if summary.failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return run_command(run_test, build_parser().parse_args(argv))
