"""Several processes and machines: one step, one epoch, one validation, and a process that dies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from tools.drill import commands, memory, not_finite, sharded
from tools.drill.row import Row
from tools.drill.tiny import (
    MEAN,
    STD,
    TASKS,
    TinyTraining,
    largest_difference,
    same_bits,
    tables_of,
    tiny_clip,
    tiny_tracker,
    validation_clips,
)
from torch import Tensor

from mtltrack.data.shares import FILLER, BatchSampler, WholeEpochSampler
from mtltrack.training.validation import validate

STEPS = {
    "frozen": ("frozen", "batch norms frozen"),
    "accumulated": ("frozen", "batch norms frozen, two batches a step"),
    "batch": ("batch", "batch statistics"),
}
ROUNDING = 1e-4  # of weights of about 1 after two steps
BATCH = 8
KILL_AT = "epoch 2/3 step 1/2"


def run(short: bool, folder: Path) -> list[Row]:
    """Return what several processes make of a training.

    Args:
        short: leave out the runs of the command.
        folder: for what they write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fault = commands.in_ranks(folder, ["steps", "validation", "sharded", "faults", "memory"])
    if fault:
        return [Row("two processes", "they make steps", fault.splitlines()[-1], False)]
    rows = [*step_rows(folder), *sample_rows(), validation_row(folder), *sharded.step_rows(folder)]
    rows += [*not_finite.rank_rows(folder), *memory.rank_rows(folder)]
    return rows if short else [*rows, *command_rows(folder), sharded.command_row(folder)]


def step_rows(folder: Path) -> list[Row]:
    """Compare two steps of two ranks with those of one on all samples."""
    found = torch.load(folder / "steps.pt", weights_only=True)
    rows = []
    for name, (batch_norm, text) in STEPS.items():
        alone = TinyTraining(Accelerator(cpu=True), batch_norm=batch_norm)
        for seed in range(2):
            alone.step(tiny_clip(BATCH, seed, labelled=0.4))
        parts = of_parts(alone.state(), found[name]["state"])
        wanted = f"at most {ROUNDING:g}" if batch_norm == "frozen" else "reported"
        passed = parts["weights"] <= ROUNDING if batch_norm == "frozen" else True
        check = f"2 ranks x {BATCH // 2} clips against 1 x {BATCH}, two steps, uneven labels, {text}"
        figures = ", ".join(f"{part} {value:.1e}" for part, value in parts.items() if value > 0)
        rows.append(Row(check, f"largest difference {wanted}", figures or "0", passed))
    return rows


def of_parts(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the largest difference of weights, and of the statistics of batch norms."""
    found = {}
    for part, holds in (("weights", False), ("running statistics", True)):
        keys = [key for key in one if key.startswith("weights") and ("running_" in key) == holds]
        found[part] = largest_difference({key: one[key] for key in keys}, {key: other[key] for key in keys})
    return found


def sample_rows() -> list[Row]:
    """Count how often each sample of an epoch and of a validation comes, for many numbers of processes."""
    cases = [
        (length, ranks, batch) for length in range(1, 41) for ranks in range(1, 6) for batch in (1, 3, 4)
    ]
    rows = []
    for name, sampler in (("epoch", WholeEpochSampler), ("validation", BatchSampler)):
        wrong = []
        for length, ranks, batch in cases:
            shares = [[number for _, number in sampler(length, batch, rank, ranks)] for rank in range(ranks)]
            seen = sorted(number for share in shares for number in share if number != FILLER)
            batches = {-(-len(share) // batch) for share in shares}
            in_order = name == "epoch" or [number for share in shares for number in share] == seen
            uneven = name == "epoch" and len(batches) > 1
            if seen != list(range(length)) or uneven or not in_order:
                wrong.append((length, ranks, batch))
        check = f"samples of {'an' if name == 'epoch' else 'a'} {name} over ranks, {len(cases)} sizes"
        found = f"wrong for {wrong[:3]}" if wrong else "each once"
        rows.append(Row(check, "each once", found, not wrong))
    return rows


def validation_row(folder: Path) -> Row:
    """Compare a validation that two ranks share with that of one process."""
    shared = torch.load(folder / "validation.pt", weights_only=True)
    clips = validation_clips()
    lambdas = dict.fromkeys(TASKS, 1.0)
    whole = validate(
        tiny_tracker(), clips, accelerator=Accelerator(cpu=True), lambdas=lambdas, mean=MEAN, std=STD
    )
    alone, tables = whole.scalars, tables_of(whole.metrics)
    samples = [(source["sequence"], source["index"]) for clip in clips for source in clip.sources]
    seen = [tuple(sample) for sample in shared["seen"]]
    different = [name for name in alone if alone[name] != shared["scalars"].get(name)]
    different += [f"table of {task}" for task in tables if tables[task] != shared["tables"].get(task)]
    many = len(alone) + len(tables)
    found = f"{many - len(different)} of {many} figures and tables equal, {len(seen)} samples seen"
    check = f"validation of {len(samples)} clips, all heads, shared by 2 ranks, against 1"
    return Row(check, "all figures and tables equal bit for bit", found, not different and seen == samples)


def command_rows(folder: Path) -> list[Row]:
    """Run the command in two processes, on two hosts, and with a process that is killed."""
    commands.prepare(folder)
    status: dict[str, Any] = {
        "two": commands.two_processes(folder, "two"),
        "hosts": commands.two_hosts(folder, "hosts"),
        "other": commands.two_hosts(folder, "other", "--max-restarts", "1", kill_at=KILL_AT),
        "killed": commands.killed_once(folder, "killed", KILL_AT),
    }
    rows = [Row("--mode multiple --nproc_per_node 2", "status 0", str(status["two"]), status["two"] == 0)]
    if status["two"] != 0:
        return rows
    whole = commands.weights(folder, "two")
    for name, check, ended in (
        ("hosts", "--mode multi_node, 2 hosts on loopback, against --mode multiple", [0, 0]),
        ("other", "process of host 2 killed in epoch 2 with --max-restarts 1, against no kill", [0, 0]),
        ("killed", "process killed in epoch 2 with --max-restarts 1, against no kill", (0, True)),
    ):
        right = status[name] == ended
        same = right and same_bits(whole, commands.weights(folder, name))
        same = same and commands.figures(folder, name)[-1:] == commands.figures(folder, "two")[-1:]
        found = "equal" if same else f"status {status[name]}, different"
        rows.append(Row(check, "weights and last validation equal bit for bit", found, same))
    return [*rows, hang_row(folder)]


def hang_row(folder: Path, seconds: float = 5.0) -> Row:
    """Let one of two processes hang."""
    status, took = commands.stopped(folder, "hangs", KILL_AT, seconds)
    said = commands.said(folder, "hangs")
    timed_out = "Timed out" in said or "timed out" in said
    wanted = f"the other fails after {seconds:g} s, status not 0"
    found = f"failed after {took:.0f} s, status {status}" + ("" if timed_out else ", not by its time")
    passed = timed_out and status != 0 and took < 3 * seconds + 5
    return Row(f"process stopped in epoch 2, --timeout {seconds:g}", wanted, found, passed)
