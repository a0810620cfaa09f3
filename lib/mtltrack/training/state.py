"""Everything that a run's future and its log depend on: taken from a trainer, and put back into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mtltrack.training.randomness import random_state, restore_random_state
from mtltrack.training.reporting import EpochReport
from mtltrack.training.resuming import run_identity
from mtltrack.training.sharding import gathered, spread


def state_of_rank(current: Any, report: EpochReport | None) -> dict[str, Any]:
    """Return what each rank has of its own.

    Args:
        current: the trainer's `StageRun`.
        report: of the epoch that is running, None between epochs.
    """
    return {
        "random": random_state(),
        "report": None if report is None else report.state_dict(),
        "watch": None if current.watch is None else current.watch.state_dict(),
        "refusals": current.runner.refusals,
    }


def state_of_run(trainer: Any, current: Any, ranks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return all that resuming needs but the weights.

    Args:
        trainer: see `Trainer`.
        current: its `StageRun`.
        ranks: `state_of_rank` of each.
    """
    scaler, average = trainer.accelerator.scaler, trainer.average
    return {
        "run": run_identity(trainer.settings, trainer.stages, trainer.about.config),
        "kernel": trainer.settings.kernel,
        "position": vars(trainer.position),
        "stage": current.stage.name,
        "optimizer": gathered(current.optimizer.state_dict()),
        "scheduler": current.scheduler.state_dict(),
        "balancing": current.rule.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
        "average": None if average is None else average.state_dict(),
        "best": trainer.best.state_dict(),
        "memory": trainer.memory.state_dict(),
        "ranks": list(ranks),
    }


def restore_stage(trainer: Any, current: Any, state: Mapping[str, Any]) -> None:
    """Put back what `state_of_run` took, into the stage that has just been entered."""
    rank = trainer.accelerator.process_index
    trainer.memory.load_state_dict(state["memory"])
    own = state["ranks"][rank] if rank < len(state["ranks"]) else None
    if trainer.position.in_stage:
        parameters = [item for group in current.optimizer.param_groups for item in group["params"]]
        current.optimizer.load_state_dict(spread(state["optimizer"], parameters))
        current.scheduler.load_state_dict(state["scheduler"])
        current.rule.load_state_dict(state["balancing"])
        if own is not None:
            current.runner.refusals = own["refusals"]
            if current.watch is not None and own["watch"] is not None:
                current.watch.load_state_dict(own["watch"])
    if trainer.accelerator.scaler is not None and state["scaler"] is not None:
        trainer.accelerator.scaler.load_state_dict(state["scaler"])
    if own is not None:
        restore_random_state(own["random"])


def restore_report(trainer: Any, report: EpochReport, state: Mapping[str, Any]) -> None:
    """Put back what the steps of the epoch had measured before the run was interrupted in it."""
    own = state["ranks"][trainer.accelerator.process_index]
    if own["report"] is not None:
        report.load_state_dict(own["report"], trainer.accelerator.device)
