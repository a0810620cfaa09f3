"""Score a plate head on photographs that it was not trained on, beside a box that never moves.

    python tools/real/plates.py ostrack ostrack_plate_tiny --train --save_dir output/plates
    python tools/real/plates.py ostrack ostrack_plate_tiny --save_dir output/plates --out plates.json

The photographs (openalpr's layout) are those that the configuration's own PlateScenes entry keeps for
testing; a configuration without one is scored on the testing part of $MTLTRACK_DATA/plates/scenes. There is
no vehicle's box: each photograph is cut around one that its plate implies (see PlateScenes), several times
with the jitter of DATA.SEARCH, and each crop counts as an image of its own. The constant predictor answers
every crop with the mean box of the plates in the training part's crops and with the share of crops that
show one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from mtltrack.cli import train
from mtltrack.cli.build import build_tracker, load_weights
from mtltrack.cli.build_data import crop_settings
from mtltrack.cli.command import make_console, run_command, say
from mtltrack.cli.test import checkpoint_notes, find_checkpoint
from mtltrack.core.config import Config, find_config, load_config
from mtltrack.core.errors import ConfigError, TrainingError
from mtltrack.core.paths import local_settings, test_data_root
from mtltrack.core.types import Clip
from mtltrack.data.build import build_dataset
from mtltrack.data.collate import collate
from mtltrack.data.datasets.plate_scenes import PlateScenes
from mtltrack.data.sampler import ClipDataset
from mtltrack.data.sequences import SequenceInfo
from mtltrack.losses.boxes import boxes_cxcywh_to_xyxy
from mtltrack.metrics.detection import DetectionMetrics

TASK, KIND = "plate", "PlateScenes"
BATCH = 32
COLUMNS = ("AP50", "AP50:95", "presence_accuracy")

Scores = dict[str, float]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("tracker_name", help="the model: hiptrack, ostrack")
    parser.add_argument("tracker_param", help="name of the configuration; it has a task plate")
    parser.add_argument("--train", action="store_true", help="train it first, as tracking/train.py does")
    parser.add_argument("--checkpoint", help="weights to score; without it the newest below save_dir")
    parser.add_argument("--save_dir", help="folder of all output; without it that of local.yaml")
    parser.add_argument("--crops", type=int, default=8, help="crops of each photograph (8)")
    parser.add_argument("--seed", type=int, default=42, help="seed of training and of the crops (42)")
    parser.add_argument("--out", type=Path, help="also write the scores to this JSON file")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings on top of the YAML"
    )
    return parser.parse_args(arguments)


class OneSequence:
    """One sequence of a data set as a data set of its own, so that each is drawn equally often."""

    num_sequences = 1

    def __init__(self, source: PlateScenes, number: int) -> None:
        self.source, self.number, self.name = source, number, source.name

    def sequence_name(self, i: int) -> str:
        return self.source.sequence_name(self.number + i)

    def sequence(self, i: int) -> SequenceInfo:
        return self.source.sequence(self.number + i)

    def image(self, i: int, frame: int) -> np.ndarray:
        return self.source.image(self.number + i, frame)

    def mask(self, i: int, frame: int) -> np.ndarray:
        return self.source.mask(self.number + i, frame)


def scenes(cfg: Config, split: str) -> PlateScenes:
    """Return one part of the photographs, divided as in training.

    Raises:
        ConfigError: the configuration trains on all of them.
    """
    entry: dict[str, Any] = {"TYPE": KIND, "ROOT": str(test_data_root() / "plates" / "scenes")}
    for given in cfg.DATA.TRAIN.DATASETS_NAME:
        upper = {key.upper(): value for key, value in given.items()} if isinstance(given, Mapping) else {}
        if upper.get("TYPE") == KIND:
            entry = upper
            if entry.get("SPLIT", "train") != "train":
                raise ConfigError(
                    f"DATA.TRAIN.DATASETS_NAME trains on the {entry['SPLIT']!r} part of {entry['ROOT']}: "
                    "nothing is left that it wasn't trained on. Set SPLIT: train"
                )
    dataset = build_dataset({**entry, "SPLIT": split})
    assert isinstance(dataset, PlateScenes)
    return dataset


def crops(cfg: Config, source: PlateScenes, count: int, seed: int) -> Iterator[Clip]:
    """Give batches of crops, `count` of each photograph, always the same."""
    samples = []
    for number in range(source.num_sequences):
        clips = ClipDataset(
            [OneSequence(source, number)],
            [1],
            count,
            num_search=1,
            crop=crop_settings(cfg),
            augment=False,
            seed=seed + number,
            tasks=[TASK],
        )
        samples += [clips[0, k] for k in range(count)]
    for start in range(0, len(samples), BATCH):
        yield collate(samples[start : start + BATCH])


def score_head(cfg: Config, net: Any, clips: Sequence[Clip]) -> Scores:
    """Return the scores of a tracker's plate head."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net.to(device).eval()
    metrics = net.heads()[TASK].metrics()
    with torch.no_grad():
        for clip in clips:
            moved = clip.to(device)
            output = net(moved.normalised(cfg.DATA.MEAN, cfg.DATA.STD), tasks=[TASK])[TASK]
            metrics.update(output, moved.labels[TASK])
    found: Scores = metrics.compute()
    return found


def score_constant(training: Sequence[Clip], clips: Sequence[Clip]) -> Scores:
    """Return the scores of the mean box of the training part's crops, and of how often one is there."""
    boxes, present, _ = labelled(training)
    mean = boxes[present].mean(0)
    metrics = DetectionMetrics()
    true, there, _ = labelled(clips)
    confidence = np.full(len(true), float(present.float().mean()))
    metrics.update(
        confidence,
        boxes_cxcywh_to_xyxy(mean).expand(len(true), 4).numpy(),
        there.numpy(),
        boxes_cxcywh_to_xyxy(true).numpy(),
    )
    return metrics.compute()


def labelled(clips: Sequence[Clip]) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return boxes cxcywh (N, 4) and presence (N,) of the labelled crops, and how many there are."""
    labels = [clip.labels[TASK] for clip in clips]
    boxes = torch.cat([entry["cxcywh"][entry["valid"]] for entry in labels])
    present = torch.cat([entry["present"][entry["valid"]] for entry in labels])
    return boxes, present, len(present)


def train_first(options: argparse.Namespace) -> None:
    """Train as the training command does.

    Raises:
        TrainingError: it ended with an error, which it has told.
    """
    arguments = ["--script", options.tracker_name, "--config", options.tracker_param, "--mode", "single"]
    arguments += ["--seed", str(options.seed), "--resume", "never"]
    arguments += ["--save_dir", options.save_dir] if options.save_dir else []
    arguments += ["--cfg-options", *options.cfg_options] if options.cfg_options else []
    if train.main(arguments) != 0:
        raise TrainingError("training failed, so there is nothing to score")


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    console = make_console()
    path = find_config(options.tracker_name, options.tracker_param)
    cfg = load_config(path, options.cfg_options, script=options.tracker_name)
    if TASK not in cfg.TASKS:
        raise ConfigError(f"{path} has no task plate; its tasks: {', '.join(cfg.TASKS) or 'none'}")
    if options.crops < 1:
        raise ConfigError(f"--crops is {options.crops}; it must be at least 1")
    testing, training = scenes(cfg, "test"), scenes(cfg, "train")
    if options.train:
        train_first(options)
    save_dir = Path(options.save_dir).expanduser() if options.save_dir else local_settings().save_dir
    checkpoint, why = find_checkpoint(
        options.checkpoint, save_dir, options.tracker_name, options.tracker_param, cfg.TEST.EPOCH
    )
    say(console, f"weights {checkpoint} ({why})")
    for note in checkpoint_notes(checkpoint, cfg.dump(), cfg.TASKS):
        say(console, f"note: {note}")
    net = build_tracker(cfg, options.tracker_name)
    load_weights(net, checkpoint)
    clips = list(crops(cfg, testing, options.crops, options.seed))
    fitted = list(crops(cfg, training, options.crops, options.seed))
    rows = {
        "plate head": score_head(cfg, net, clips),
        "constant box": score_constant(fitted, clips),
        "plate head, photographs trained on": score_head(cfg, net, fitted),
    }
    _, present, count = labelled(clips)
    table = Table(
        title=f"{testing.num_sequences} plates not trained on, {count} crops, percent", title_justify="left"
    )
    for column in ("", *COLUMNS):
        table.add_column(column, justify="left" if not column else "right")
    for name, scores in rows.items():
        table.add_row(name, *(f"{100 * scores[column]:.1f}" for column in COLUMNS))
    console.print(table)
    say(console, f"{int(present.sum())} of the crops show the plate")
    if options.out is not None:
        content = {"plates": testing.names, "crops": count, "checkpoint": str(checkpoint), "scores": rows}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command(run, parse(arguments))


if __name__ == "__main__":
    sys.exit(main())
