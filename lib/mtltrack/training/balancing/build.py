"""From TRAIN.WEIGHTING to a rule."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from mtltrack.core.errors import ConfigError, UnknownNameError, did_you_mean
from mtltrack.core.registry import BALANCING
from mtltrack.training.balancing.rule import BalancingRule, Fixed


def build_rule(weighting: Mapping[str, Any], tasks: Sequence[str]) -> BalancingRule:
    """Return the rule of a stage.

    Args:
        weighting: TRAIN.WEIGHTING, {TYPE: name, arguments in capital letters}.
        tasks: whose losses count in the stage; of a single one there is nothing to balance.

    Raises:
        ConfigError: an unknown rule or argument, a value that the rule refuses, or an extra that isn't
            installed.
    """
    name = str(weighting["TYPE"])
    try:
        kind = BALANCING.get(name)
    except UnknownNameError as error:
        raise ConfigError(f"TRAIN.WEIGHTING: {error}") from error
    arguments = {key.lower(): value for key, value in weighting.items() if key != "TYPE"}
    accepted = [key for key in inspect.signature(kind).parameters if key != "tasks"]
    for key in arguments:
        if key not in accepted:
            names = [argument.upper() for argument in accepted]
            takes = ", ".join(names) or "none"
            near = did_you_mean(key.upper(), names)
            raise ConfigError(
                f"TRAIN.WEIGHTING.{key.upper()}: {name} has no such argument.{near} It takes: {takes}."
            )
    try:
        rule: BalancingRule = kind(tasks=tasks, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"TRAIN.WEIGHTING {name}: {error}") from error
    return rule if len(tasks) > 1 else Fixed(tasks)
