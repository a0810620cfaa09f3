"""Run by torchrun: one step on this rank's half of a batch; rank 0 saves the weights. See test_ranks.py."""

from __future__ import annotations

import sys

import torch
from accelerate import Accelerator
from standins import half, joint_clip, still_tracker

from mtltrack.core.errors import DataError
from mtltrack.training.averages import Averages
from mtltrack.training.monitors import Monitors
from mtltrack.training.reporting import EpochPlace, EpochReport
from mtltrack.training.step import StepRunner


def main(path: str) -> None:
    accelerator = Accelerator(cpu=True)
    tracker = still_tracker()
    parameters = [parameter for parameter in tracker.parameters() if parameter.requires_grad]
    model, optimizer = accelerator.prepare(tracker, torch.optim.SGD(parameters, lr=0.5))
    runner = StepRunner(
        accelerator=accelerator,
        tracker=tracker,
        model=model,
        optimizer=optimizer,
        lambdas={"cls": 0.1},
        excluded=(),
        mean=[0.5] * 3,
        std=[0.2] * 3,
        grad_clip_norm=0.0,
    )
    clip = half(joint_clip(), accelerator.process_index)
    pieces = [half(clip, 0), half(clip, 1)]  # two micro-batches
    result = runner.run(pieces, None)
    averages = Averages()
    averages.add(result.scalars, result.measured)
    means = averages.take()
    if accelerator.process_index == 1:
        clip.labels["cls"]["value"][:] = float("nan")  # only this rank's loss isn't finite
    refused = runner.run([clip], None).refused
    assert refused is not None, "both ranks refuse"
    faults = ""
    report = EpochReport(Monitors(), EpochPlace("joint", 1, 1, 1, 0), print_interval=1)
    if accelerator.process_index == 1:
        clip.sources[0]["bad"] = ["img/0003.jpg can't be read"]  # only this rank's sample is bad
    report.add(1, [clip], result, {})
    try:
        report.max_bad_fraction = 0.0
        report.finish()
    except DataError as error:
        faults = str(error)
    assert faults, "both ranks stop"
    if accelerator.is_main_process:
        found = {"net": dict(tracker.state_dict()), "means": means, "refused": refused, "faults": faults}
        torch.save(found, path)
    accelerator.wait_for_everyone()
    del runner, model, optimizer
    accelerator.free_memory()
    accelerator.end_training()


if __name__ == "__main__":
    main(sys.argv[1])
