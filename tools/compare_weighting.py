"""Compare the balancing rules of TRAIN.WEIGHTING with each other and with tasks that are trained alone.

    .venv/bin/python tools/compare_weighting.py [--out output/weighting] [--rules fixed dwa] [--seeds 0 1 2]
    .venv/bin/python tools/compare_weighting.py --quick

A very small OSTrack with the heads box, cls, seg, plate and alert learns rendered traffic from nothing, for
some hundred steps; the clips are drawn once and kept. `alone <task>` trains the same network with the loss of
that task, and that of the box where the task reads it; `fixed, alert limited` is fixed weights with
TRAIN.TASK_CLIP_NORM {alert: 1.0}. Prints the mean and the standard deviation over the
seeds of each task's loss (unweighted) on scenes that training didn't see, and writes <out>/comparison.json.
Runs whose JSON is there are not run again. --quick is a matter of seconds and says nothing about the rules.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mtltrack.cli.build import build_tracker
from mtltrack.cli.build_data import TRAIN, VAL, build_clips
from mtltrack.cli.command import run_command
from mtltrack.cli.train_setup import train_settings
from mtltrack.core.config import Config, find_config, load_config
from mtltrack.core.errors import DataError
from mtltrack.core.registry import BALANCING
from mtltrack.core.types import BOX, Clip
from mtltrack.data.collate import collate
from mtltrack.training.checkpoint import plain
from mtltrack.training.monitors import Monitor, Monitors, Progressed, RunInfo
from mtltrack.training.stages import Stage
from mtltrack.training.trainer import Trainer
from mtltrack.training.validation import validate

ROOT = Path(__file__).resolve().parents[1]
SCRIPT, CONFIG = "ostrack", "ostrack_mtl_tiny"
ALONE = "alone "
LIMITED, LIMITS = "fixed, alert limited", {"alert": 1.0}  # a run with TRAIN.TASK_CLIP_NORM
SCENES = "TYPE: TrafficSequences, NUM_SEQUENCES: 16, KINDS: [park, leave, outside, approach]"
SMALL = (  # what makes the configuration cheap: small crops, a short and narrow network, no reader
    "DATA.SEARCH.SIZE=64",
    "DATA.SEARCH.NUMBER=2",
    "DATA.TEMPLATE.SIZE=32",
    "DATA.DETAIL=null",
    f"DATA.TRAIN.DATASETS_NAME=[{{{SCENES}}}]",
    "DATA.TRAIN.DATASETS_RATIO=[1]",
    f"DATA.VAL.DATASETS_NAME=[{{{SCENES}, SEED: 1000}}]",
    "DATA.SAMPLER_MODE=sequence",  # forwards, so that every clip has a label of the alert
    "MODEL.BACKBONE.EMBED_DIM=64",
    "MODEL.BACKBONE.DEPTH=2",
    "MODEL.BACKBONE.NUM_HEADS=2",
    "MODEL.BACKBONE.CE_LOC=[]",
    "MODEL.BACKBONE.CE_KEEP_RATIO=[]",
    "MODEL.HEAD.NUM_CHANNELS=32",
    "TASKS.ocr=null",
    "TRAIN.OCR_WEIGHT=null",
    "TASKS.seg.HIDDEN_DIM=16",
    "TASKS.plate.HIDDEN_DIM=16",
    "TRAIN.AUDIT_INTERVAL=0",
    "TRAIN.AUDIT_FULL_INTERVAL=0",
)


@dataclass(frozen=True)
class Size:
    """How large a comparison is: clips that are drawn, and the length of a run."""

    train_clips: int
    val_clips: int
    batch: int
    epochs: int
    steps: int  # an epoch


FULL = Size(train_clips=960, val_clips=128, batch=16, epochs=10, steps=60)
QUICK = Size(train_clips=8, val_clips=8, batch=4, epochs=3, steps=1)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="compare_weighting.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "output" / "weighting", help="for clips and scores"
    )
    parser.add_argument("--rules", nargs="+", help="names for TRAIN.WEIGHTING (all that are registered)")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="of weights and order (0 1 2)"
    )
    parser.add_argument("--no-alone", action="store_true", help="leave out the tasks that are trained alone")
    parser.add_argument("--quick", action="store_true", help="three steps a run, one seed: does it work?")
    parser.add_argument("--threads", type=int, default=1, help="of the matrix library (1)")
    return parser.parse_args(arguments)


# ----------------------------------------------------------------------------------------------------- clips


def small_config() -> Config:
    return load_config(find_config(SCRIPT, CONFIG), SMALL, script=SCRIPT)


def kept_clips(cfg: Config, split: str, number: int, path: Path) -> Clip:
    """Return clips as one batch: those that `path` holds, or newly drawn ones, which are then kept there."""
    about = {"number": number, "config": plain(cfg.DATA.model_dump()), "tasks": list(cfg.TASKS)}
    if path.is_file():
        stored = torch.load(path, weights_only=True)
        if stored["about"] == about:
            return Clip(**stored["clip"])
    source = build_clips(cfg, split, seed=0)
    clip = collate([source[(0, index)] for index in range(number)])
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"about": about, "clip": plain(vars(clip))}, path)
    return clip


class KeptBatches:
    """Batches of kept clips in an order that depends on seed and epoch alone; a loader for the trainer."""

    def __init__(self, clip: Clip, size: Size, seed: int) -> None:
        self.clip, self.size, self.seed, self.epoch = clip, size, seed, 0
        self.sampler = self

    def set_epoch(self, epoch: int, start: int = 0) -> None:  # noqa: ARG002 - its runs aren't resumed
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size.steps

    def __iter__(self) -> Iterator[Clip]:
        generator = torch.Generator().manual_seed(1000 * self.seed + self.epoch)
        for _ in range(self.size.steps):
            order = torch.randperm(self.clip.batch_size, generator=generator)
            yield self.clip.rows(order[: self.size.batch].tolist())


# ------------------------------------------------------------------------------------------------------ runs


class Curves(Monitor):
    """Keeps the mean factor of each task in the last report, and counts refused steps."""

    def __init__(self) -> None:
        super().__init__(RunInfo(Path(), SCRIPT, CONFIG))
        self.weights: dict[str, float] = {}
        self.refused = 0

    def progress(self, progressed: Progressed) -> None:
        self.weights = dict(progressed.weights)

    def message(self, text: str) -> None:
        self.refused += "step refused" in text


def losses_of(name: str, tracker: Any) -> frozenset[str]:
    """Return the tasks whose losses count in a run: all, or one and the box where the task reads it."""
    if not name.startswith(ALONE):
        return frozenset(tracker.heads())
    task = name.removeprefix(ALONE)
    return frozenset({task, *getattr(tracker.heads()[task], "reads", ())})


def train_and_score(name: str, seed: int, cfg: Config, size: Size, train: Clip, val: Clip) -> dict[str, Any]:
    """Train one network; return its losses on `val`, its metrics and the seconds a step."""
    rule = "fixed" if name.startswith(ALONE) or name == LIMITED else name
    cfg = cfg.model_copy(deep=True)
    cfg.TRAIN.TASK_CLIP_NORM = LIMITS if name == LIMITED else {}
    cfg.TRAIN.WEIGHTING, cfg.TRAIN.PRINT_INTERVAL = {"TYPE": rule}, size.steps
    torch.manual_seed(seed)
    tracker = build_tracker(cfg, SCRIPT)
    losses = losses_of(name, tracker)
    unread = frozenset(tracker.task_parts()) - losses
    trained = frozenset(tracker.tracker_parts()) | frozenset(tracker.task_parts())
    stage = Stage("train", size.epochs, cfg.TRAIN.LR, trained - unread, losses)
    curves, accelerator = Curves(), Accelerator(cpu=True)
    settings = train_settings(cfg, seed, "none")
    batches = KeptBatches(train, size, seed)
    trainer = Trainer(
        tracker, [stage], settings, batches, accelerator=accelerator, monitors=Monitors([curves])
    )
    began = time.process_time()
    trainer.run()
    seconds = time.process_time() - began
    rows = [val.rows(range(i, min(i + 16, val.batch_size))) for i in range(0, val.batch_size, 16)]
    found = validate(
        tracker,
        rows,
        accelerator=accelerator,
        lambdas=settings.lambdas,
        mean=settings.mean,
        std=settings.std,
    )
    return {
        "losses": {task: found.scalars[task] for task in sorted(losses)},
        "metrics": {key: value for key, value in found.scalars.items() if key.split("/")[0] in losses},
        "weights": curves.weights,
        "refused": curves.refused,
        "seconds_a_step": seconds / (size.epochs * size.steps),
    }


def run_all(
    names: Sequence[str], seeds: Sequence[int], size: Size, out: Path, console: Console
) -> dict[str, dict[int, dict[str, Any]]]:
    """Run what hasn't been run; return name -> seed -> result.

    Raises:
        DataError: a JSON that is there is of a comparison of another size or configuration.
    """
    cfg = small_config()
    about = {"size": vars(size), "settings": list(SMALL)}
    clips: list[Clip] = []
    results: dict[str, dict[int, dict[str, Any]]] = {}
    for name in names:
        for seed in seeds:
            path = out / "runs" / f"{name.replace(',', '').replace(' ', '_')}_seed{seed}.json"
            if path.is_file():
                stored = json.loads(path.read_text(encoding="utf-8"))
                if stored["about"] != about:
                    raise DataError(f"{path} is of another comparison; remove {out} or choose another --out")
                results.setdefault(name, {})[seed] = stored["result"]
                continue
            if not clips:
                clips = [
                    kept_clips(cfg, TRAIN, size.train_clips, out / "train.pt"),
                    kept_clips(cfg, VAL, size.val_clips, out / "val.pt"),
                ]
            result = train_and_score(name, seed, cfg, size, *clips)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"about": about, "result": result}, indent=1), encoding="utf-8")
            results.setdefault(name, {})[seed] = result
            console.print(f"{name}, seed {seed}: {result['seconds_a_step']:.3f} s a step", highlight=False)
    return results


# ----------------------------------------------------------------------------------------------------- table


def summary(results: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return, by run, mean and standard deviation over the seeds of each task's loss and of the change.

    The change is the mean over the tasks of (loss - loss alone) / loss alone, of the same seed, in percent;
    it is absent where a task wasn't trained alone, or to a loss of 0. Of one seed the deviation is NaN.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, by_seed in results.items():
        if name.startswith(ALONE):
            task = name.removeprefix(ALONE)
            found.setdefault("alone", {})[task] = spread([r["losses"][task] for r in by_seed.values()])
            continue
        tasks = next(iter(by_seed.values()))["losses"]
        row: dict[str, Any] = {
            task: spread([result["losses"][task] for result in by_seed.values()]) for task in tasks
        }
        changes = [change(result["losses"], results, seed) for seed, result in by_seed.items()]
        if all(value is not None for value in changes):
            row["change"] = spread([value for value in changes if value is not None])
        row["seconds"] = spread([result["seconds_a_step"] for result in by_seed.values()])
        found[name] = row
    return found


def change(
    losses: Mapping[str, float], results: Mapping[str, Mapping[int, Mapping[str, Any]]], seed: int
) -> float | None:
    """Return the mean relative change of the losses against the tasks alone with that seed, in percent."""
    alone = {task: results.get(f"{ALONE}{task}", {}).get(seed) for task in losses}
    if any(result is None for result in alone.values()):
        return None
    single = {task: float(result["losses"][task]) for task, result in alone.items() if result is not None}
    if not all(single.values()):
        return None  # a loss of 0 can't be related to
    return 100 * statistics.fmean((losses[task] - single[task]) / single[task] for task in losses)


def spread(values: Sequence[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def comparison_table(found: Mapping[str, Mapping[str, Any]], title: str) -> Table:
    """Return the table: a row a rule, a column a task."""
    tasks = list(
        dict.fromkeys(key for row in found.values() for key in row if key not in ("change", "seconds"))
    )
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("weighting")
    for name in (*tasks, "change %", "ms a step"):
        table.add_column(name, justify="right")
    for name, row in found.items():
        cells = [text(row.get(task), "{:.3f} ± {:.3f}") for task in tasks]
        cells.append(text(row.get("change"), "{:+.1f} ± {:.1f}"))
        seconds = row.get("seconds")
        cells.append("-" if seconds is None else f"{1000 * seconds[0]:.0f}")
        table.add_row(name, *cells)
    return table


def text(value: tuple[float, float] | None, form: str) -> str:
    if value is None:
        return "-"
    return form.format(*value).removesuffix(" ± nan")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    torch.set_num_threads(arguments.threads)
    BALANCING.import_from_location()
    size = QUICK if arguments.quick else FULL
    out = arguments.out / "quick" if arguments.quick else arguments.out
    seeds = arguments.seeds[:1] if arguments.quick else arguments.seeds
    rules = arguments.rules or ["fixed", LIMITED, *sorted(set(BALANCING.module_dict) - {"fixed"})]
    single = [] if arguments.no_alone else [f"{ALONE}{task}" for task in (BOX, *small_config().TASKS)]
    console = Console(soft_wrap=True)
    results = run_all([*single, *rules], seeds, size, out, console)
    found = summary(results)
    steps = size.epochs * size.steps
    console.print(comparison_table(found, f"loss on unseen scenes after {steps} steps, seeds {seeds}"))
    path = out / "comparison.json"
    path.write_text(
        json.dumps({"size": vars(size), "seeds": seeds, "table": found}, indent=1), encoding="utf-8"
    )
    console.print(f"written {path}", highlight=False)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    return run_command(run, parse(arguments))


if __name__ == "__main__":
    raise SystemExit(main())
