"""Each head learns a few rendered clips by heart: if it can't do that, it can't learn anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.nn.utils import clip_grad_norm_

from mtltrack.cli.build import build_tracker
from mtltrack.cli.build_data import TRAIN, build_clips
from mtltrack.core.config import Config, find_config, load_config
from mtltrack.core.errors import DataError
from mtltrack.core.types import Clip
from mtltrack.data.collate import Sample, collate
from mtltrack.models.tracker import Tracker
from mtltrack.training.weighting import total_loss

MOST_DRAWS = 600
CHECK_INTERVAL = 20  # steps
RATE = 1e-3
CLIP_NORM = 1.0


@dataclass(frozen=True)
class Goal:
    """When a head knows its clips by heart.

    Attributes:
        metric: of the head's own metrics.
        least: the value wanted.
        kinds: which rendered sequences show enough of what it learns.
    """

    metric: str
    least: float
    kinds: tuple[str, ...]


GOALS = {
    "cls": Goal("macro_f1", 1.0, ("pass", "stop", "park", "outside", "leave", "approach")),
    "seg": Goal("J", 0.9, ("pass", "stop", "approach")),
    "plate": Goal("AP50", 1.0, ("approach",)),
    "ocr": Goal("exact", 1.0, ("approach",)),
    "alert": Goal("f1", 1.0, ("park", "outside", "leave")),
}


@dataclass(frozen=True)
class Outcome:
    """What became of a head: `value` of its goal's metric after `steps` steps and `seconds` seconds."""

    task: str
    value: float
    steps: int
    seconds: float

    @property
    def reached(self) -> bool:
        return self.value >= GOALS[self.task].least


def small_config(script: str, config: str, task: str) -> Config:
    """Return a configuration with one head and those that it reads, on rendered clips that suit it."""
    path = find_config(script, config)
    every = load_config(path, script=script)
    if task not in every.TASKS:
        raise DataError(f"{path} has no task '{task}'; it has {', '.join(every.TASKS)}")
    reads = build_tracker(every).graph.needed([task])
    options = [
        f"{section}=null"
        for other in every.TASKS
        if other not in reads
        for section in (f"TASKS.{other}", f"TRAIN.{other.upper()}_WEIGHT")
    ]
    kinds = ", ".join(GOALS[task].kinds)
    options += [
        f"DATA.TRAIN.DATASETS_NAME=[{{TYPE: TrafficSequences, NUM_SEQUENCES: 40, KINDS: [{kinds}]}}]",
        "DATA.TRAIN.DATASETS_RATIO=[1]",
        "DATA.TRANSFORMS=[]",
    ]
    return load_config(path, options, script=script)


def draw_clips(cfg: Config, task: str, number: int, seed: int) -> Clip:
    """Return a batch of clips whose every frame is labelled for the task; half of those of alerts show one.

    Raises:
        DataError: the rendered world doesn't give as many.
    """
    clips = build_clips(cfg, TRAIN, seed=seed)
    chosen: list[Sample] = []
    for draw in range(MOST_DRAWS):
        sample = clips[(0, draw)]
        labels = sample.labels[task]
        if not bool(labels["valid"].all()):
            continue
        if task == "alert" and bool(labels["target"].any()) != (len(chosen) % 2 == 0):
            continue
        chosen.append(sample)
        if len(chosen) == number:
            return collate(chosen)
    raise DataError(
        f"only {len(chosen)} of {MOST_DRAWS} rendered clips are labelled for '{task}', not {number}"
    )


def learn_by_heart(
    task: str,
    *,
    script: str,
    config: str,
    clips: int,
    steps: int,
    seed: int,
    tell: Callable[[int, float], None],
) -> Outcome:
    """Train a small tracker on a few clips until the head's answers are right, or `steps` are over.

    Args:
        task: the head.
        script: name of the tracker.
        config: a configuration that has the head.
        clips: how many clips.
        steps: at most.
        seed: of weights and clips.
        tell: called with the steps made and the metric.
    """
    cfg = small_config(script, config, task)
    torch.manual_seed(seed)
    tracker = build_tracker(cfg)
    batch = draw_clips(cfg, task, clips, seed).normalised(list(cfg.DATA.MEAN), list(cfg.DATA.STD))
    began, value, made = time.monotonic(), 0.0, 0
    for made in training_steps(tracker, cfg, batch, steps):
        if made % CHECK_INTERVAL == 0 or made == steps:
            value = score(tracker, task, batch)
            tell(made, value)
            if value >= GOALS[task].least:
                break
    return Outcome(task, value, made, time.monotonic() - began)


def training_steps(tracker: Tracker, cfg: Config, batch: Clip, steps: int) -> Iterator[int]:
    """Train everything on one batch; yield the number of each step."""
    lambdas = {name: cfg.task_weight(name) for name in cfg.TASKS}
    parameters = [parameter for parameter in tracker.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps, pct_start=0.1)
    for step in range(1, steps + 1):
        tracker.train()
        for head in tracker.task_parts().values():
            if hasattr(head, "schedule"):
                head.schedule(step / steps)
        total_loss(tracker.heads(), tracker(batch), batch, lambdas).total.backward()
        clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()
        rates.step()
        optimizer.zero_grad(set_to_none=True)
        yield step


@torch.no_grad()
def score(tracker: Tracker, task: str, batch: Clip) -> float:
    """Return the goal's metric of the head on the clips, as in testing: eval mode, its own plate boxes."""
    tracker.eval()
    metrics = tracker.heads()[task].metrics()
    metrics.update(tracker(batch)[task], batch.labels[task])
    return float(metrics.compute()[GOALS[task].metric])
