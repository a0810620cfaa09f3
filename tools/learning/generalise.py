"""A small tracker with every head, trained by the normal command, on clips of scenes that it has not seen."""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mtltrack.cli.build import build_tracker, load_weights
from mtltrack.cli.build_data import TRAIN, VAL, build_clips
from mtltrack.cli.test import find_checkpoint
from mtltrack.cli.train import main as train_command
from mtltrack.core.config import find_config, load_config
from mtltrack.core.errors import TrainingError
from mtltrack.core.types import BOX, Clip, TaskOutput
from mtltrack.data.collate import collate
from mtltrack.data.sampler import ClipDataset

BATCH = 16
SEEN = 320  # clips of training from which the constant answers are made
NEVER = -20.0  # logit

Labels = dict[str, Tensor]


@dataclass
class Scores:
    """Metrics by "<task>/<metric>" of the tracker and of the answers that never look.

    Attributes:
        clips: how many were scored.
        tracker: of the trained tracker.
        constant: of the constant answers.
    """

    clips: int
    tracker: dict[str, float] = field(default_factory=dict)
    constant: dict[str, float] = field(default_factory=dict)


def train(arguments: argparse.Namespace) -> float:
    """Run the training command; return its seconds.

    Raises:
        TrainingError: it failed.
    """
    command = [
        "--script",
        arguments.script,
        "--config",
        arguments.config,
        "--save_dir",
        str(arguments.save_dir),
    ]
    command += ["--mode", "single", "--seed", str(arguments.seed), "--resume", "never"]
    command += ["--cfg-options", *arguments.cfg_options] if arguments.cfg_options else []
    began = time.monotonic()
    if train_command(command) != 0:
        raise TrainingError("the training failed, see above")
    return time.monotonic() - began


def score_validation(arguments: argparse.Namespace) -> Scores:
    """Score the newest checkpoint and the constant answers on the clips of DATA.VAL."""
    cfg = load_config(
        find_config(arguments.script, arguments.config), arguments.cfg_options, script=arguments.script
    )
    tracker = build_tracker(cfg)
    checkpoint, _ = find_checkpoint(
        None, arguments.save_dir, arguments.script, arguments.config, cfg.TEST.EPOCH
    )
    load_weights(tracker, checkpoint)
    tracker.eval()
    heads = tracker.heads()
    looked = {task: head.metrics() for task, head in heads.items()}
    blind = {task: head.metrics() for task, head in heads.items()}
    answers = constant_answers(batches(build_clips(cfg, TRAIN, seed=arguments.seed), SEEN), list(heads))
    clips = build_clips(cfg, VAL, seed=arguments.seed)
    for batch in batches(clips, len(clips)):
        with torch.no_grad():
            outputs = tracker(batch.normalised(list(cfg.DATA.MEAN), list(cfg.DATA.STD)))
        for task in heads:
            labels = batch.labels[task]
            looked[task].update(outputs[task], labels)
            blind[task].update(answers[task](outputs[task], labels), labels)
    return Scores(len(clips), _named(looked), _named(blind))


def _named(metrics: dict[str, object]) -> dict[str, float]:
    found = {}
    for task, accumulator in metrics.items():
        for name, value in accumulator.compute().items():  # type: ignore[attr-defined]
            if not math.isnan(value):  # of what was labelled
                found[f"{task}/{name}"] = float(value)
    return found


def batches(clips: ClipDataset, number: int) -> Iterable[Clip]:
    """Yield the first clips of epoch 0 in batches."""
    for start in range(0, number, BATCH):
        yield collate([clips[(0, i)] for i in range(start, min(start + BATCH, number))])


# ------------------------------------------------------------------------------------------- constant answers

Answer = Callable[[TaskOutput, Labels], TaskOutput]  # the tracker's output lends its shapes, nothing else


def constant_answers(clips: Iterable[Clip], tasks: list[str]) -> dict[str, Answer]:
    """Make, from training's labels alone, the best answer of each task that never looks at the picture."""
    labels: dict[str, list[Labels]] = {task: [] for task in tasks}
    for clip in clips:
        for task in tasks:
            entry = clip.labels[task]
            labels[task].append({name: value[entry["valid"]] for name, value in entry.items()})
    return {task: MAKERS[task](entries) for task, entries in labels.items()}


def _joined(entries: list[Labels], name: str) -> Tensor:
    return torch.cat([entry[name] for entry in entries])


def _mean_box(entries: list[Labels]) -> Answer:
    box = _joined(entries, "cxcywh").mean(0)

    def answer(output: TaskOutput, labels: Labels) -> TaskOutput:
        boxes = box.expand_as(labels["cxcywh"])
        return TaskOutput(None, {**output.predictions, "boxes_cxcywh": boxes})

    return answer


def _base_rates(entries: list[Labels]) -> Answer:
    flags, known = _joined(entries, "flags"), _joined(entries, "known")
    rates = ((flags & known).sum(0) / known.sum(0).clamp(min=1)).clamp(1e-4, 1 - 1e-4)

    def answer(output: TaskOutput, labels: Labels) -> TaskOutput:
        del labels
        logits = output.predictions["logits"]
        return TaskOutput(None, {"logits": rates[: logits.shape[-1]].logit().expand_as(logits)})

    return answer


def _mean_mask(entries: list[Labels]) -> Answer:
    """Answer with the pixels that are often enough the target's: as often as suits training's masks best."""
    masks = _joined(entries, "mask").bool()  # (N, H, W)
    share = masks.float().mean(0)

    def overlap(least: float) -> float:
        answer = share > least
        return float(((masks & answer).sum((1, 2)) / (masks | answer).sum((1, 2)).clamp(min=1)).mean())

    best = max((place / 50 for place in range(50)), key=overlap)

    def answer(output: TaskOutput, labels: Labels) -> TaskOutput:
        del labels
        size = output.predictions["logits"].shape
        small = torch.nn.functional.interpolate(share[None, None], size=size[-2:], mode="area")[0, 0]
        return TaskOutput(None, {"logits": (small - best).expand(size)})

    return answer


def _mean_plate(entries: list[Labels]) -> Answer:
    present = _joined(entries, "present")
    box = _joined(entries, "cxcywh")[present].mean(0)
    chance = present.float().mean().clamp(1e-4, 1 - 1e-4)

    def answer(output: TaskOutput, labels: Labels) -> TaskOutput:
        del output
        logit = chance.logit().expand(labels["present"].shape)
        return TaskOutput(None, {"presence": logit, "cxcywh": box.expand_as(labels["cxcywh"])})

    return answer


def _usual_text(entries: list[Labels]) -> Answer:
    texts = Counter(
        tuple(codes[:length])
        for entry in entries
        for codes, length in zip(entry["codes"].tolist(), entry["length"].tolist(), strict=True)
    )
    text = texts.most_common(1)[0][0] if texts else ()

    def answer(output: TaskOutput, labels: Labels) -> TaskOutput:
        del labels
        logits = torch.full_like(output.predictions["logits"], NEVER)
        logits[..., 0] = 0.0  # blank
        for place, code in enumerate(text):  # a blank after each character keeps repeated ones apart
            logits[..., 2 * place, code] = -NEVER
        return TaskOutput(None, {"logits": logits})

    return answer


def _never_red(entries: list[Labels]) -> Answer:
    del entries

    def answer(output: TaskOutput, labels: Labels) -> TaskOutput:
        del labels
        never = {
            "logit": torch.full_like(output.predictions["logit"], NEVER),
            "red": torch.zeros_like(output.predictions["red"]),
            "hard": torch.zeros_like(output.predictions["hard"]),
        }
        return TaskOutput(None, {**output.predictions, **never})

    return answer


MAKERS: dict[str, Callable[[list[Labels]], Answer]] = {
    BOX: _mean_box,
    "cls": _base_rates,
    "seg": _mean_mask,
    "plate": _mean_plate,
    "ocr": _usual_text,
    "alert": _never_red,
}
