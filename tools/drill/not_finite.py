"""Losses and gradients that aren't finite, in every task, on every rank."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from tools.drill.injections import GRADIENT, LOSS, mark, not_finite
from tools.drill.row import Row
from tools.drill.tiny import TASKS, TinyTraining, same_bits, tiny_clip

from mtltrack.core.errors import TrainingError

WANTED = "step refused, all state kept bit for bit, task and sample named"


def run(short: bool, folder: Path) -> list[Row]:  # noqa: ARG001 - as every part of the drill
    """Return what steps do that must not be made; the same in the short drill."""
    return [*one_process_rows(), patience_row()]


def one_process_rows() -> list[Row]:
    """Put a fault into each task's loss, and into its gradient."""
    training = TinyTraining(Accelerator(cpu=True), batch_norm="batch", max_bad_steps=1000)
    training.step(tiny_clip(4, 1))
    before, rows = training.state(), []
    for kind in (LOSS, GRADIENT):
        wrong = []
        for number, task in enumerate(TASKS):
            clip = mark(tiny_clip(4, 2), task, number % 4)
            with not_finite(training.tracker.heads()[task], kind, float("inf" if number % 2 else "nan")):
                refused = training.step(clip).refused or ""
            named = f"task {task}" in refused and refused.endswith(f"made up / s2 (sample {number % 4})")
            if not (named and same_bits(before, training.state())):
                wrong.append(task)
        found = f"not so: {', '.join(wrong)}" if wrong else "so it is"
        rows.append(Row(f"{kind} not finite, 1 rank, each of {len(TASKS)} tasks", WANTED, found, not wrong))
    return rows


def patience_row(most: int = 3) -> Row:
    """Count the steps in a row until training gives up."""
    training = TinyTraining(Accelerator(cpu=True), max_bad_steps=most)
    steps, end = 0, ""
    with not_finite(training.tracker.heads()["box"], LOSS, float("nan")):
        while not end and steps < 2 * most:
            steps += 1
            try:
                training.step(mark(tiny_clip(2, 3), "box", 0))
            except TrainingError as error:
                end = str(error)
    passed = steps == most and end.startswith(f"{most} steps in a row were not finite")
    return Row(f"TRAIN.MAX_BAD_STEPS {most}", f"ends with step {most}", f"ended with step {steps}", passed)


def rank_rows(folder: Path) -> list[Row]:
    """Put the same faults into one of two ranks."""
    rows = []
    found = torch.load(folder / "faults.pt", weights_only=True)
    for kind in (LOSS, GRADIENT):
        cases = [case for case in found if case["kind"] == kind]
        wrong = [
            f"{case['task']} on rank {case['rank']}"
            for case in cases
            if not all(
                kept and refused is not None and all(part in refused for part in case["sample"])
                for refused, kept in case["told"]
            )
        ]
        check = f"{kind} not finite on one of 2 ranks, {len(cases)} cases: each task, each rank"
        rows.append(
            Row(check, f"both ranks: {WANTED}", f"not so: {wrong}" if wrong else "so it is", not wrong)
        )
    return rows
