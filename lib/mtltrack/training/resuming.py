"""Whether a resumed run is the run that was saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object

from mtltrack.core.errors import TrainingError
from mtltrack.data.fingerprint import same_sequences
from mtltrack.training.optimizers import optimizer_settings
from mtltrack.training.run_keys import Rule, changes, defaults, rule_of
from mtltrack.training.settings import Position, TrainSettings
from mtltrack.training.stages import Stage
from mtltrack.training.weighting import world_size


def run_identity(
    settings: TrainSettings, stages: Sequence[Stage], config: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what must be the same for a resumed run to be the same run; plain types.

    Args:
        settings: of the run.
        stages: of the run.
        config: the whole configuration as plain values.
    """
    return {
        "config": config,
        "data": dict(settings.data),
        "seed": settings.seed,
        "stages": [[stage.name, sorted(stage.trains)] for stage in stages],
        "epochs": [stage.epochs for stage in stages],
        "optimizers": [
            {
                **optimizer_settings(stage, settings.weight_decay, settings.optimizer),
                "TRAIN.WEIGHTING": dict(settings.weighting) if len(stage.losses) > 1 else {"TYPE": "fixed"},
                **_draws(stage),
            }
            for stage in stages
        ],
        "ranks": world_size(),
        "started_from": settings.started_from,
    }


def need_same_run(
    saved: Mapping[str, Any], own: Mapping[str, Any], stages: Sequence[Stage], place: Position
) -> list[str]:
    """Make sure that a run can go on where another stopped.

    Args:
        saved: identity of the run that was saved.
        own: of this one.
        stages: of this one.
        place: where the saved one stopped.

    Returns:
        One sentence for each setting that has changed and is taken.

    Raises:
        TrainingError: names every setting that must be what it was.
    """
    changed = changes(saved["config"], own["config"])
    different = [
        f"{key}: was {saved.get(key)}, is {own[key]}"
        for key in ("seed", "stages")
        if saved.get(key) != own[key]
    ]
    refused = [
        f"{key}: was {was}, is {now}" for key, (was, now) in changed.items() if rule_of(key) is Rule.REFUSED
    ]
    if saved["stages"] == own["stages"]:
        refused += _changed_rates(saved["optimizers"], own["optimizers"], stages, place)
        refused += _changed_lengths(saved["epochs"], stages, place)
    different += refused or _changed_data(saved["data"], own["data"])
    if place.epoch_step and saved["ranks"] != own["ranks"]:
        different.append(
            f"number of processes: was {saved['ranks']}, is {own['ranks']}, and the run stopped inside an "
            "epoch, whose samples they had shared among them"
        )
    if different:
        raise TrainingError(
            "the checkpoint belongs to another run ("
            + "; ".join(different)
            + "); restore these settings, give --resume never to start afresh, or begin a new run with its "
            "weights (--script_prv, --config_prv)"
        )
    told = [f"setting changed since then: {key} was {was}, is {now}" for key, (was, now) in changed.items()]
    told += [
        f"boxes changed since then, in data set {name}: the run goes on with them, but not as it would have"
        for name, mark in own["data"].items()
        if saved["data"][name] != mark
    ]
    if saved["ranks"] != own["ranks"]:
        told.append(
            f"resuming with another number of processes (was {saved['ranks']}, is {own['ranks']}): the run "
            "goes on, but not as it would have"
        )
    return told


def _draws(stage: Stage) -> dict[str, int]:
    """Return which epochs' samples a stage repeats, where it repeats any."""
    return {"TRAIN.DISTINCT_EPOCHS": stage.distinct_epochs} if stage.repeats else {}


def need_same_state(path: Path | None) -> None:
    """Make sure that all processes go on from the same state; every rank must call it.

    Args:
        path: the resume file that this rank has read, None to start afresh.

    Raises:
        TrainingError: another rank has read another one; says which.
    """
    names = gather_object(["none" if path is None else path.name])
    if len(set(names)) > 1:
        found = ", ".join(f"process {rank}: {name}" for rank, name in enumerate(names))
        raise TrainingError(
            f"the processes found different states to go on from ({found}); the --save_dir of all machines "
            "must be the same shared folder, or --resume never"
        )


def _changed_data(saved: Mapping[str, str], own: Mapping[str, str]) -> list[str]:
    """Name the data sets that hold other sequences than they did: every sample would be another.

    Boxes may change, because who is told of a wrong one corrects it and goes on.
    """
    return [
        f"data set {name}: was {saved.get(name)}, is {own.get(name)}"
        for name in dict.fromkeys([*saved, *own])
        if name not in saved or name not in own or not same_sequences(saved[name], own[name])
    ]


def _changed_rates(
    saved: Sequence[Mapping[str, Any]],
    own: Sequence[Mapping[str, Any]],
    stages: Sequence[Stage],
    place: Position,
) -> list[str]:
    """Name the changed settings of every stage that had begun: its optimizer goes on with the old ones.

    Those of a stage to come are free: it starts with an optimizer and a balancing rule of its own.
    """
    begun, default = place.stage + place.in_stage, defaults()
    return [
        f"{key} in stage '{stage.name}': was {before.get(key, default.get(key))}, "
        f"is {now.get(key, default.get(key))}"
        for stage, before, now in list(zip(stages, saved, own, strict=True))[:begun]
        for key in dict.fromkeys([*before, *now])
        if before.get(key, default.get(key)) != now.get(key, default.get(key))
    ]


def _changed_lengths(saved: Sequence[int], stages: Sequence[Stage], place: Position) -> list[str]:
    """Name the stages that are over and had another length; the one that is running may be lengthened."""
    return [
        f"epochs of stage '{stage.name}', which is over: was {epochs}, is {stage.epochs}"
        for stage, epochs in zip(stages[: place.stage], saved[: place.stage], strict=True)
        if stage.epochs != epochs
    ]
