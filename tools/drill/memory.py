"""A device whose memory doesn't hold a batch, as it is made up by an error in a pass."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from tools.drill.injections import BACKWARD, FORWARD, little_memory
from tools.drill.row import Row
from tools.drill.tiny import TinyTraining, largest_difference, tiny_clip

ROUNDING = 1e-4  # of weights of about 1 after two steps
BATCH = 4
WANTED = f"1 clip at once, the same weights to {ROUNDING:g}"


def run(short: bool, folder: Path) -> list[Row]:  # noqa: ARG001 - as every part of the drill
    """Let passes of more than one clip fail, in a step of two batches of four."""
    accelerator = Accelerator(cpu=True)
    batches = [tiny_clip(BATCH, seed, labelled=0.6) for seed in range(4)]
    states, rows = {}, []
    for when in (None, FORWARD, BACKWARD):
        training = TinyTraining(accelerator)
        if when is None:
            _two_steps(training, batches)
        else:
            with little_memory(training.tracker, when, 1):
                _two_steps(training, batches)
        states[when] = training.state()
        if when is not None:
            difference = largest_difference(states[None], states[when])
            most, told = training.runner.passes.memory.most, len(training.said)
            found = f"{most} clip at once after {told} sentences, difference {difference:.1e}"
            passed = most == 1 and told == 2 and difference <= ROUNDING
            rows.append(Row(f"no memory in the {when} pass, 2 batches of {BATCH}", WANTED, found, passed))
    return rows


def _two_steps(training: TinyTraining, batches: list) -> None:
    training.step(*batches[:2])
    training.step(*batches[2:])


def rank_rows(folder: Path) -> list[Row]:
    """Let it happen on one of two ranks, with balancing rules that need losses or gradients apart."""
    rows = []
    for name, case in torch.load(folder / "memory.pt", weights_only=True).items():
        weighting, when = name.split()
        passed = case["most"] == [1, 1] and case["difference"] <= ROUNDING and len(case["said"]) == 2
        passed = passed and all("rank 1: " in sentence for sentence in case["said"])
        found = f"{case['most']} clips at once, difference {case['difference']:.1e}"
        check = f"no memory in the {when} pass of rank 1 of 2, TRAIN.WEIGHTING {weighting}"
        rows.append(Row(check, f"both ranks: {WANTED}", found, passed))
    return rows
