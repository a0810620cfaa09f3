"""Whether a resumed run is the run that was saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mtltrack.core.errors import TrainingError
from mtltrack.training.optimizers import optimizer_settings
from mtltrack.training.settings import Position, TrainSettings
from mtltrack.training.stages import Stage
from mtltrack.training.weighting import world_size


def run_identity(settings: TrainSettings, stages: Sequence[Stage]) -> dict[str, Any]:
    """Return what must be the same for a resumed run to be the same run; plain types."""
    return {
        "seed": settings.seed,
        "stages": [[stage.name, sorted(stage.trains)] for stage in stages],
        "epochs": [stage.epochs for stage in stages],
        "optimizers": [
            {
                **optimizer_settings(stage, settings.weight_decay, settings.optimizer),
                "TRAIN.WEIGHTING": dict(settings.weighting) if len(stage.losses) > 1 else {"TYPE": "fixed"},
            }
            for stage in stages
        ],
        "ranks": world_size(),
        "accumulation_steps": settings.accumulation_steps,
        "started_from": settings.started_from,
    }


def need_same_run(
    saved: Mapping[str, Any], own: Mapping[str, Any], stages: Sequence[Stage], place: Position
) -> None:
    """Make sure that a run can go on where another stopped.

    Args:
        saved: identity of the run that was saved.
        own: of this one.
        stages: of this one.
        place: where the saved one stopped.

    Raises:
        TrainingError: names every setting that must be what it was.
    """
    different = [
        f"{key}: was {saved.get(key)}, is {own[key]}"
        for key in ("seed", "stages")
        if saved.get(key) != own[key]
    ]
    different = different or _changed_rates(saved["optimizers"], own["optimizers"], stages, place)
    different = different or _changed_lengths(saved["epochs"], stages, place)
    if different:
        raise TrainingError(
            "the checkpoint belongs to another run ("
            + "; ".join(different)
            + "); restore these settings, or give --resume never to start afresh"
        )


def _changed_rates(
    saved: Sequence[Mapping[str, Any]],
    own: Sequence[Mapping[str, Any]],
    stages: Sequence[Stage],
    place: Position,
) -> list[str]:
    """Name the changed settings of every stage that had begun: its optimizer goes on with the old ones.

    Those of a stage to come are free: it starts with an optimizer and a balancing rule of its own.
    """
    begun = place.stage + (place.stage_epoch > 0)
    return [
        f"{key} in stage '{stage.name}': was {before.get(key)}, is {now.get(key)}"
        for stage, before, now in list(zip(stages, saved, own, strict=True))[:begun]
        for key in dict.fromkeys([*before, *now])
        if before.get(key) != now.get(key)
    ]


def _changed_lengths(saved: Sequence[int], stages: Sequence[Stage], place: Position) -> list[str]:
    """Name the stages that are over and had another length; the one that is running may be lengthened."""
    return [
        f"epochs of stage '{stage.name}', which is over: was {epochs}, is {stage.epochs}"
        for stage, epochs in zip(stages[: place.stage], saved[: place.stage], strict=True)
        if stage.epochs != epochs
    ]
