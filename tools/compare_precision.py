"""Track the same sequences in float32, bf16 and, on a GPU, fp16, and show what that does to the results.

Each run goes through the real path of testing: the online tracker with TEST.PRECISION, result files, the
analysis of boxes, and the scores of every head that has labels. Beside the scores stands how far the boxes
are from those of the first precision: as tracked, where a small difference moves the next crop and so grows
with the frames, and frame by frame from the same crop, which is what the precision itself does.

A difference of scores means something when it is larger than what chance makes. So each of these runs is
also made from first boxes that are --moved by a tenth and two tenths of a pixel to the right and to the left;
a second table has the means of these runs and how far they lie apart. --seeds names weights of other seeds of
training, tracked in the first precision. --trained compares weights that were trained otherwise, such as with
TRAIN.AMP.

Labels lie beside the sequences as files (see docs/data.md). A folder in DAVIS's layout is scored by its
masks; --attributes gives OTB sequences their scene conditions.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from precision.findings import Finding, RunError, as_json, collected, compare_boxes, score_runs, tables
from precision.picture import draw
from precision.same_crops import from_same_crops
from precision.sources import Source, read_source

from mtltrack.cli.build import build_tracker, load_weights
from mtltrack.cli.command import make_console, run_command, say, show
from mtltrack.cli.test import devices_of, find_checkpoint
from mtltrack.core.config import find_config, load_config
from mtltrack.core.errors import ConfigError, DataError
from mtltrack.core.paths import local_settings, test_data_root
from mtltrack.core.precision import HALF_TYPES
from mtltrack.evaluation.benchmarks import parse_ranges
from mtltrack.evaluation.online import OnlineTracker
from mtltrack.evaluation.results import ResultFolder, write_bytes, write_text
from mtltrack.evaluation.runner import Settings, run

FULL = "fp32"
DECIMALS = 6  # of the boxes: rounding to whole pixels would hide small differences, and enlarge others
REAL = "sot"  # below $MTLTRACK_DATA
EXAMPLES = """examples:
  python tools/compare_precision.py --script hiptrack --config hiptrack_mtl_tiny --save_dir output/demo \\
      --frames Crossing=81:120 --frames Car4_0001-0250=181:250
  python tools/compare_precision.py --script hiptrack --config hiptrack_cls_tiny --checkpoint seed0.pth.tar \\
      --seeds seed1.pth.tar seed2.pth.tar --trained "TRAIN.AMP"=amp.pth.tar --out output/precision
  python tools/compare_precision.py --script ostrack --config ostrack_seg_tiny --save_dir output/masks \\
      --dataset ../shared/data/vos --precisions fp32 bf16
"""


@dataclass(frozen=True)
class Run:
    """One way to track: a name, weights, a precision, and by how many pixels the first box is moved."""

    name: str
    weights: Path
    precision: str
    moved: float = 0.0

    def moves(self, other: Run) -> bool:
        """Whether this is the other run from another first box."""
        return self.name.startswith(f"{other.name}, start ")


def build_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="compare_precision.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--script", required=True, help="the model: hiptrack, ostrack")
    parser.add_argument("--config", required=True, help="name of the configuration, without .yaml")
    parser.add_argument(
        "--checkpoint", help="weights; without it TEST.EPOCH's, else the newest below save_dir"
    )
    parser.add_argument("--save_dir", help="folder of training's output; without it that of local.yaml")
    parser.add_argument(
        "--dataset",
        action="append",
        metavar="NAME|DIR",
        help="a benchmark, a folder of sequences or one in DAVIS's layout; repeatable ($MTLTRACK_DATA/sot)",
    )
    parser.add_argument(
        "--frames",
        action="append",
        default=[],
        metavar="SEQ=FIRST:LAST",
        help="only these frames of a sequence, counted from 1; repeatable",
    )
    parser.add_argument(
        "--attributes",
        type=Path,
        metavar="FILE",
        help="JSON file of OTB's attributes, from which scene conditions follow",
    )
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=[FULL, *HALF_TYPES],
        help="the first is what the others are compared with (fp32 bf16, and fp16 on a GPU)",
    )
    parser.add_argument(
        "--seeds", nargs="+", type=Path, default=[], metavar="FILE", help="weights of other seeds"
    )
    parser.add_argument(
        "--trained",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="weights that were trained otherwise, tracked in the first precision; repeatable",
    )
    parser.add_argument(
        "--moved",
        type=float,
        nargs="*",
        default=[0.1, 0.2],
        metavar="PIXELS",
        help="how far the first box is moved to see what chance does; '--moved' alone: not at all (0.1 0.2)",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1; without it a GPU if there is one")
    parser.add_argument(
        "--out", metavar="DIR", help="also write results, precision.json and precision.png there"
    )
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings on top of the YAML"
    )
    return parser


def runs_of(options: argparse.Namespace, checkpoint: Path, device: torch.device) -> list[Run]:
    """Return the runs, the reference first; those of other seeds are called "seed 1", "seed 2", ...

    Raises:
        DataError: weights aren't there, or --trained isn't NAME=FILE.
    """
    precisions = options.precisions or [FULL, "bf16", *(["fp16"] if device.type == "cuda" else [])]
    first = precisions[0]
    found = [Run(name, checkpoint, name) for name in dict.fromkeys(precisions)]
    for given in options.trained:
        name, _, file = given.rpartition("=")
        if not name or not file:
            raise DataError(f"--trained {given}: wanted NAME=FILE, for example TRAIN.AMP=amp.pth.tar")
        found.append(Run(f"trained: {name}", Path(file).expanduser(), first))
    found += moved_runs(found, options.moved)
    found += [Run(f"seed {i}", path.expanduser(), first) for i, path in enumerate(options.seeds, start=1)]
    names = [item.name for item in found]
    for item in found:
        if names.count(item.name) > 1:
            raise DataError(f"--trained names '{item.name}' twice; give each weights a name of its own")
        if not item.weights.is_file():
            raise DataError(f"the weights of '{item.name}' are no file: {item.weights}")
    return found


def moved_runs(runs: Sequence[Run], distances: Sequence[float]) -> list[Run]:
    """Return each of the runs from first boxes moved to both sides.

    Raises:
        DataError: a distance isn't above 0 and below 10 pixels.
    """
    for pixels in distances:
        if not 0 < pixels < 10:
            raise DataError(f"--moved {pixels:g}: wanted a few tenths of a pixel, above 0 and below 10")
    return [
        replace(item, name=f"{item.name}, start {moved:+g} px", moved=moved)
        for pixels in distances
        for item in runs
        for moved in (pixels, -pixels)
    ]


def sources_of(options: argparse.Namespace) -> list[Source]:
    """Return the data sets.

    Raises:
        DataError: there are none, or --frames names a sequence that none of them has.
    """
    given = options.dataset or [str(test_data_root() / REAL)]
    if options.dataset is None and not Path(given[0]).is_dir():
        raise DataError(f"there is no folder {given[0]}. Name sequences by --dataset, or set MTLTRACK_DATA")
    ranges = parse_ranges(options.frames)
    found = [read_source(dataset, ranges, options.attributes) for dataset in given]
    names = {sequence.name for source in found for sequence in source.sequences}
    lost = [name for name in ranges if name not in names]
    if lost:
        raise DataError(
            f"--frames names '{lost[0]}', which no --dataset has. There: {', '.join(sorted(names))}."
        )
    return found


def build(options: argparse.Namespace, item: Run, device: torch.device) -> OnlineTracker:
    """Return the tracker of a run."""
    path = find_config(options.script, options.config)
    changed = [*options.cfg_options, f"TEST.PRECISION={item.precision}"]
    cfg = load_config(path, changed, script=options.script)
    net = build_tracker(cfg, options.script)
    load_weights(net, item.weights)
    return OnlineTracker(net, cfg, device)


def folder_name(name: str) -> str:
    """Return a run's name as a folder's."""
    return re.sub(r"[^\w.+-]+", "_", name)


def need_own_folders(items: Sequence[str], sources: Sequence[str]) -> None:
    """Refuse runs, or data sets, whose results would lie in one folder.

    Raises:
        ConfigError: names them.
    """
    for names, what in ((items, "runs (--trained)"), (sources, "data sets (--dataset)")):
        for name in names:
            same = [other for other in names if folder_name(other) == folder_name(name)]
            if len(same) > 1:
                both = " and ".join(map(repr, same))
                raise ConfigError(f"the {what} {both} would write to one folder; name them otherwise")


def track(
    options: argparse.Namespace, item: Run, source: Source, device: torch.device, folder: Path
) -> ResultFolder:
    """Track the sequences of a data set and return the folder of the results.

    Raises:
        RunError: a sequence failed.
    """
    results = ResultFolder(folder / source.name / folder_name(item.name))
    settings, sequences = Settings(results, DECIMALS), source.moved(item.moved)
    summary = run(lambda _: build(options, item, device), sequences, settings, force=True)
    for name, why in summary.failed.items():
        raise RunError(f"'{name}' in {item.name} ({item.weights}): {why}")
    return results


def compare(
    options: argparse.Namespace, items: Sequence[Run], source: Source, device: torch.device, folder: Path
) -> Finding:
    """Track a data set in every run and compare."""
    results = {item.name: track(options, item, source, device, folder) for item in items}
    scores = score_runs(source, results)
    first, *others = items
    seeds = [item.name for item in items if item.name.startswith("seed ")]
    hidden = {*seeds, *(item.name for item in items if item.moved)}
    starts = {
        item.name: collected(scores, [item.name, *(other.name for other in items if other.moves(item))])
        for item in items
        if any(other.moves(item) for other in items)
    }
    return Finding(
        name=source.name,
        frames=source.frames,
        reference=first.name,
        scores={item.name: scores[item.name] for item in items if item.name not in hidden},
        boxes={item.name: compare_boxes(source, results[item.name], results[first.name]) for item in others},
        same_crop={
            item.name: from_same_crops(
                source, build(options, item, device), build(options, first, device), item.name
            )
            for item in others
            if item.precision != first.precision and not item.moved
        },
        starts=starts,
        seeds=collected(scores, [first.name, *seeds]) if seeds else {},
    )


def compare_all(options: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    console = make_console()
    device = torch.device(devices_of(options.device, 1)[0] or "cpu")
    cfg = load_config(find_config(options.script, options.config), options.cfg_options, script=options.script)
    save_dir = Path(options.save_dir).expanduser() if options.save_dir else local_settings().save_dir
    checkpoint, why = find_checkpoint(
        options.checkpoint, save_dir, options.script, options.config, cfg.TEST.EPOCH
    )
    say(console, f"weights {checkpoint} ({why})")
    items, sources = runs_of(options, checkpoint, device), sources_of(options)
    need_own_folders([item.name for item in items], [source.name for source in sources])
    setting: dict[str, Any] = {
        "script": options.script,
        "config": options.config,
        "device": str(device),
        "torch": torch.__version__,
        "runs": {item.name: {"weights": str(item.weights), "precision": item.precision} for item in items},
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if options.out is None else Path(options.out).expanduser()
        findings = [compare(options, items, source, device, folder) for source in sources]
    for finding in findings:
        for table in tables(finding):
            show(console, table)
    if options.out is not None:
        write_text(folder / "precision.json", as_json(setting, findings))
        write_bytes(folder / "precision.png", draw(findings))
        say(console, f"written to {folder}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return run_command(compare_all, build_parser().parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
