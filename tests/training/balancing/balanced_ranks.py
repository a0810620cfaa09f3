"""Run by torchrun: two steps with each rule on this rank's half; rank 0 saves. See test_balanced_ranks.py."""

from __future__ import annotations

import sys

import torch
from accelerate import Accelerator
from standins import half, joint_clip, still_tracker

from mtltrack.training.balancing.build import build_rule
from mtltrack.training.step import StepRunner

LIMITS = {"cls": 0.02}
LIMITED = ("fixed", "famo", "pcgrad")  # with accumulation too


def trained(accelerator: Accelerator, name: str, pieces: list, limits: dict[str, float]) -> dict:
    """Return the weights after two steps with a rule, and its weights in the second."""
    tracker = still_tracker()
    rule = build_rule({"TYPE": name}, ["box", "cls"])
    optimizer = torch.optim.SGD([p for p in tracker.parameters() if p.requires_grad], lr=0.5)
    extra = list(rule.parameters().values())
    if extra:
        optimizer.add_param_group({"params": extra, "lr": 0.1})
    model, prepared = accelerator.prepare(tracker, optimizer)
    runner = StepRunner(
        accelerator=accelerator,
        tracker=tracker,
        model=model,
        optimizer=prepared,
        lambdas={"cls": 0.5},
        excluded=(),
        mean=[0.5] * 3,
        std=[0.2] * 3,
        grad_clip_norm=0.0,
        rule=rule,
        task_clip_norms=limits,
    )
    for _ in range(2):
        result = runner.run(pieces, None)
        rule.end_epoch()
    weights = {key: value.item() for key, value in result.weights.items()}
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    accelerator.free_memory()
    return {"net": {key: value.clone() for key, value in tracker.state_dict().items()}, "weights": weights}


def main(path: str, names: list[str]) -> None:
    accelerator = Accelerator(cpu=True)
    clip = half(joint_clip(), accelerator.process_index)
    found = {}
    for name in names:
        for limits in ({}, LIMITS) if name in LIMITED else ({},):
            pieces = [half(clip, 0), half(clip, 1)] if limits else [clip]
            key = f"{name} limited" if limits else name
            found[key] = trained(accelerator, name, pieces, limits)
            other = [torch.zeros_like(value) for value in found[key]["net"].values()]
            for value, buffer in zip(found[key]["net"].values(), other, strict=True):
                buffer.copy_(value)
                torch.distributed.broadcast(buffer, 0)
                assert torch.equal(buffer, value), f"{key}: the ranks differ"
    if accelerator.is_main_process:
        torch.save(found, path)
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
