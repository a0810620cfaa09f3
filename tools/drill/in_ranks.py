"""Run by torchrun: what two processes find out together; rank 0 writes it down for the one that started them.

python -m torch.distributed.run --standalone --nproc_per_node 2 tools/drill/in_ranks.py FOLDER CHECK ...
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.drill.injections import BACKWARD, FORWARD, GRADIENT, LOSS, little_memory, mark, not_finite
from tools.drill.tiny import (
    MEAN,
    STD,
    TASKS,
    TinyTraining,
    largest_difference,
    same_bits,
    share_of,
    tables_of,
    tiny_clip,
    tiny_tracker,
    validation_clips,
)

from mtltrack.training.refusals import local
from mtltrack.training.validation import validate

BATCH = 4  # of a rank
WHOLE = 2 * BATCH
STEPS = {"frozen": ("frozen", 1), "accumulated": ("frozen", 2), "batch": ("batch", 1)}


def steps(accelerator: Accelerator) -> dict[str, Any]:
    """Two steps on this rank's half of the batches, by name of `STEPS`."""
    found: dict[str, Any] = {}
    for name, (batch_norm, accumulation) in STEPS.items():
        training = TinyTraining(accelerator, batch_norm=batch_norm)
        scalars = []
        for seed in range(2):
            half = share_of(tiny_clip(WHOLE, seed, labelled=0.4), accelerator.process_index, 2)
            result = training.step(*[share_of(half, piece, accumulation) for piece in range(accumulation)])
            scalars.append(gather_object([{key: float(value) for key, value in result.scalars.items()}]))
        found[name] = {"state": training.state(), "scalars": scalars}
    return found


def sharded(accelerator: Accelerator) -> dict[str, Any]:
    """The same two steps with the weights spread over the ranks."""
    training = TinyTraining(accelerator, sharded=True)
    names = dict(training.tracker.named_parameters())
    held = sum(local(parameter).numel() for parameter in names.values())
    for seed in range(2):
        training.step(share_of(tiny_clip(WHOLE, seed, labelled=0.4), accelerator.process_index, 2))
    before = training.state()
    clip = mark(share_of(tiny_clip(WHOLE, 2), accelerator.process_index, 2), "seg", 1)
    with (
        not_finite(training.tracker.heads()["seg"], GRADIENT, 0.0)
        if accelerator.process_index
        else nullcontext()
    ):
        refused = training.step(clip).refused
    return {
        "state": before,
        "held": gather_object([held]),
        "all": sum(parameter.numel() for parameter in names.values()),
        "refused": refused,
        "kept": same_bits(before, training.state()),
    }


def faults(accelerator: Accelerator) -> list[dict[str, Any]]:
    """A loss or a gradient that isn't finite, in each task, on each rank."""
    training = TinyTraining(accelerator, batch_norm="batch", max_bad_steps=1000)
    training.step(tiny_clip(BATCH, accelerator.process_index))
    before, found = training.state(), []
    for number, task in enumerate(TASKS):
        for kind in (LOSS, GRADIENT):
            for rank in range(accelerator.num_processes):
                here = accelerator.process_index == rank
                clip = mark(tiny_clip(BATCH, 10 + accelerator.process_index), task, number % BATCH)
                fault = not_finite(
                    training.tracker.heads()[task], kind, float("inf" if number % 2 else "nan")
                )
                with fault if here else nullcontext():
                    refused = training.step(clip).refused
                kept = same_bits(before, training.state())
                told = gather_object([(refused, kept)])
                sample = f"task {task}", f"made up / s{10 + rank} (sample {number % BATCH})"
                found.append({"task": task, "kind": kind, "rank": rank, "told": told, "sample": sample})
    return found


def memory(accelerator: Accelerator) -> dict[str, Any]:
    """Rank 1 alone runs out of memory, in the forward or in the backward pass, until a clip goes alone."""
    whole = [tiny_clip(WHOLE, seed, labelled=0.4) for seed in range(2)]
    found: dict[str, Any] = {}
    for weighting in ("fixed", "famo", "pcgrad"):
        states = {}
        for when in (None, FORWARD, BACKWARD):
            training = TinyTraining(accelerator, weighting=weighting)
            little = when is not None and accelerator.process_index == 1
            with little_memory(training.tracker, str(when), 1) if little else nullcontext():
                for clip in whole if weighting == "fixed" else whole[:1]:
                    training.step(share_of(clip, accelerator.process_index, 2))
            states[when] = training.state()
            if when is not None:
                most = gather_object([training.runner.passes.memory.most])
                difference = largest_difference(states[None], states[when])
                found[f"{weighting} {when}"] = {"difference": difference, "most": most, "said": training.said}
    return found


def validation(accelerator: Accelerator) -> dict[str, Any]:
    """The ranks share the batches of a validation."""
    clips = validation_clips()
    middle = -(-len(clips) // 2)
    own = clips[:middle] if accelerator.is_main_process else clips[middle:]
    tracker = tiny_tracker()
    found = validate(
        tracker,
        own,
        accelerator=accelerator,
        lambdas=dict.fromkeys(TASKS, 1.0),
        mean=MEAN,
        std=STD,
        shared=True,
    )
    seen = gather_object([(source["sequence"], source["index"]) for clip in own for source in clip.sources])
    tables = tables_of(found.metrics) if accelerator.is_main_process else {}
    return {"scalars": found.scalars, "seen": seen, "tables": tables}


CHECKS = {check.__name__: check for check in (steps, sharded, faults, memory, validation)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where <check>.pt is written")
    parser.add_argument("checks", nargs="+", choices=list(CHECKS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    for name in options.checks:
        found = CHECKS[name](accelerator)
        if accelerator.is_main_process:
            torch.save(found, options.folder / f"{name}.pt")
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    accelerator.end_training()


if __name__ == "__main__":
    main()
