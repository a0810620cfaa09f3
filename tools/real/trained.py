"""What the scores of real data share: options, training first, the weights to score, writing the scores."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from mtltrack.cli import train
from mtltrack.cli.build import build_tracker, load_weights
from mtltrack.cli.command import say
from mtltrack.cli.test import checkpoint_notes, find_checkpoint
from mtltrack.core.config import Config, find_config, load_config
from mtltrack.core.errors import ConfigError, TrainingError
from mtltrack.core.paths import local_settings
from mtltrack.data.sequences import SequenceDataset, SequenceInfo
from mtltrack.models.tracker import Tracker


def score_parser(description: str | None, task: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every score has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("tracker_name", help="the model: hiptrack, ostrack")
    parser.add_argument("tracker_param", help=f"name of the configuration; it has a task {task}")
    parser.add_argument("--train", action="store_true", help="train it first, as tracking/train.py does")
    parser.add_argument("--checkpoint", help="weights to score; without it the newest below save_dir")
    parser.add_argument("--save_dir", help="folder of all output; without it that of local.yaml")
    parser.add_argument("--seed", type=int, default=42, help="seed of training and of what is drawn (42)")
    parser.add_argument("--out", type=Path, help="also write the scores to this JSON file")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings on top of the YAML"
    )
    return parser


def configuration(options: argparse.Namespace, task: str) -> Config:
    """Return the configuration that the options name.

    Raises:
        ConfigError: it hasn't the task.
    """
    path = find_config(options.tracker_name, options.tracker_param)
    cfg = load_config(path, options.cfg_options, script=options.tracker_name)
    if task not in cfg.TASKS:
        raise ConfigError(f"{path} has no task {task}; its tasks: {', '.join(cfg.TASKS) or 'none'}")
    return cfg


def trained(options: argparse.Namespace, cfg: Config, console: Console) -> tuple[Tracker, Path]:
    """Train if that is asked for; return the tracker with the weights that the options name, and their file.

    Raises:
        TrainingError: training ended with an error, which it has told.
    """
    if options.train:
        arguments = ["--script", options.tracker_name, "--config", options.tracker_param, "--mode", "single"]
        arguments += ["--seed", str(options.seed), "--resume", "never"]
        arguments += ["--save_dir", options.save_dir] if options.save_dir else []
        arguments += ["--cfg-options", *options.cfg_options] if options.cfg_options else []
        if train.main(arguments) != 0:
            raise TrainingError("training failed, so there is nothing to score")
    save_dir = Path(options.save_dir).expanduser() if options.save_dir else local_settings().save_dir
    checkpoint, why = find_checkpoint(
        options.checkpoint, save_dir, options.tracker_name, options.tracker_param, cfg.TEST.EPOCH
    )
    say(console, f"weights {checkpoint} ({why})")
    for note in checkpoint_notes(checkpoint, cfg.dump(), cfg.TASKS):
        say(console, f"note: {note}")
    net = build_tracker(cfg, options.tracker_name)
    load_weights(net, checkpoint)
    return net, checkpoint


def write_scores(path: Path | None, content: Mapping[str, Any]) -> None:
    """Write the scores where `--out` says, if it does."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


class OneSequence:
    """One sequence of a data set as a data set of its own, so that each is drawn equally often."""

    num_sequences = 1

    def __init__(self, source: SequenceDataset, number: int) -> None:
        self.source, self.number, self.name = source, number, source.name

    def sequence_name(self, i: int) -> str:
        return self.source.sequence_name(self.number + i)

    def sequence(self, i: int) -> SequenceInfo:
        return self.source.sequence(self.number + i)

    def image(self, i: int, frame: int) -> np.ndarray:
        return self.source.image(self.number + i, frame)

    def mask(self, i: int, frame: int) -> np.ndarray:
        return self.source.mask(self.number + i, frame)
