"""Which settings a resumed run must find as they were, by their keys in the YAML."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

from mtltrack.core.config import config_from_dict


class Rule(Enum):
    """What a change of a key means for a run that goes on."""

    REFUSED = "the run would not be the one that it was"
    BY_STAGE = "compared stage by stage: free for stages that have not begun"
    TAKEN = "the weights don't depend on it, or a run that goes on no longer reads it"


# pattern, rule, why; the first that fits counts
RULES: tuple[tuple[str, Rule, str], ...] = (
    ("DATA.VAL.*", Rule.TAKEN, "validation changes no weight"),
    ("DATA.MAX_BAD_FRACTION", Rule.TAKEN, "says when to give up"),
    ("DATA.MAX_JUMP", Rule.TAKEN, "never read"),
    ("DATA.*", Rule.REFUSED, "decides which samples there are"),
    ("MODEL.PRETRAIN_FILE", Rule.TAKEN, "was read when the run began"),
    ("MODEL.HIDDEN_DIM", Rule.TAKEN, "never read"),
    ("MODEL.EXTRA_MERGER", Rule.TAKEN, "never read"),
    ("MODEL.RETURN_*", Rule.TAKEN, "never read"),
    ("MODEL.*", Rule.REFUSED, "decides which model it is"),
    ("TASKS*", Rule.REFUSED, "decides which heads the model has"),
    ("TEST.*", Rule.TAKEN, "read in testing only"),
    ("TRAIN.EPOCH", Rule.BY_STAGE, "length of a stage"),
    ("TRAIN.STAGE?_EPOCHS", Rule.BY_STAGE, "length of a stage"),
    ("TRAIN.BOX_EPOCHS", Rule.BY_STAGE, "length of a stage"),
    ("TRAIN.LR", Rule.BY_STAGE, "rate of a stage"),
    ("TRAIN.STAGE?_LR", Rule.BY_STAGE, "rate of a stage"),
    ("TRAIN.BOX_LR", Rule.BY_STAGE, "rate of a stage"),
    ("TRAIN.BACKBONE_MULTIPLIER", Rule.BY_STAGE, "rate of a stage"),
    ("TRAIN.WEIGHT_DECAY", Rule.BY_STAGE, "optimizer of a stage"),
    ("TRAIN.OPTIMIZER", Rule.BY_STAGE, "optimizer of a stage"),
    ("TRAIN.LR_DROP_EPOCH", Rule.BY_STAGE, "schedule of a stage"),
    ("TRAIN.SCHEDULER.*", Rule.BY_STAGE, "schedule of a stage"),
    ("TRAIN.WEIGHTING*", Rule.BY_STAGE, "balancing rule of a stage"),
    ("TRAIN.TWO_STAGE", Rule.BY_STAGE, "which stages there are"),
    ("TRAIN.FREEZE_BACKBONE*", Rule.BY_STAGE, "what a stage trains"),
    ("TRAIN.DISTINCT_EPOCHS", Rule.BY_STAGE, "samples of a stage"),
    ("TRAIN.FEATURE_CACHE*", Rule.TAKEN, "the same features, read instead of computed"),
    ("TRAIN.MATMUL", Rule.TAKEN, "the same products, rounded otherwise"),
    ("TRAIN.NUM_WORKER", Rule.TAKEN, "samples don't depend on who loads them"),
    ("TRAIN.LOADER_TIMEOUT", Rule.TAKEN, "says when to give up"),
    ("TRAIN.PRINT_INTERVAL", Rule.TAKEN, "only told"),
    ("TRAIN.VAL_EPOCH_INTERVAL", Rule.TAKEN, "validation changes no weight"),
    ("TRAIN.SAVE_*", Rule.TAKEN, "only written"),
    ("TRAIN.KEEP_*", Rule.TAKEN, "only written"),
    ("TRAIN.AUDIT_*", Rule.TAKEN, "only watched"),
    ("TRAIN.MAX_BAD_STEPS", Rule.TAKEN, "says when to give up"),
    ("TRAIN.FREEZE_LAYERS", Rule.TAKEN, "never read"),
    ("TRAIN.DEEP_SUPERVISION", Rule.TAKEN, "never read"),
    ("TRAIN.CHECKPOINT_ACTIVATIONS", Rule.TAKEN, "the same gradient with less memory"),
    ("TRAIN.*", Rule.REFUSED, "decides what a step does: batch, losses, precision, clipping"),
)
PLACES = frozenset({"ROOT"})  # of a data set: where it lies; what lies there is compared by its fingerprint


def rule_of(key: str) -> Rule:
    """Return what a change of a key means; one that is unknown here must stay as it was."""
    return next((rule for pattern, rule, _ in RULES if fnmatchcase(key, pattern)), Rule.REFUSED)


def flat(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return the leaves of nested dictionaries by their dotted keys."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        inner = isinstance(value, Mapping) and value
        leaves.update(flat(value, f"{path}{key}.") if inner else {f"{path}{key}": value})
    return leaves


def defaults() -> dict[str, Any]:
    """Return what every key of the project is when it isn't given, by its dotted name."""
    return flat(config_from_dict({}).dump())


def changes(saved: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return key -> (was, is) of what differs between two configurations.

    A key that wasn't there when the run was saved was at its default: defaults are what was done without it.
    """
    old, new, default = flat(saved), flat(own), defaults()
    old = {**{key: default[key] for key in new if key in default}, **old}
    return {
        key: (old.get(key), new.get(key))
        for key in sorted(set(old) | set(new))
        if _decisive(old.get(key)) != _decisive(new.get(key))
    }


def _decisive(value: Any) -> Any:
    """Return a value without the places of data sets; a run may go on where the data lie elsewhere."""
    if isinstance(value, Mapping):
        return {key: item for key, item in value.items() if str(key).upper() not in PLACES}
    if isinstance(value, list | tuple):
        return [_decisive(item) for item in value]
    return value
