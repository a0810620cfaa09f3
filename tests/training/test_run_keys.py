"""Every key of the configuration says what its change means for a run that goes on."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from mtltrack.core.config import Config
from mtltrack.training.run_keys import RULES, Rule, changes, flat, rule_of


def keys_of(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """Yield the dotted keys of all values that a configuration holds."""
    for name, field in model.model_fields.items():
        inner = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        section = next((kind for kind in inner if issubclass(kind, BaseModel) and name != "TASKS"), None)
        if section is None:
            yield f"{path}{name}"
        else:
            yield from keys_of(section, f"{path}{name}.")


KEYS = [*keys_of(Config), "TRAIN.CLS_WEIGHT", "TRAIN.WEIGHTING.TYPE", "TASKS.cls.TYPE", "DATA.DETAIL"]


def test_every_key_has_one_rule_and_every_rule_a_key():
    assert len(KEYS) > 120 and "TRAIN.SCHEDULER.GAMMA" in KEYS and "DATA.SEARCH.SIZE" in KEYS
    for key in KEYS:
        assert any(fnmatchcase(key, pattern) for pattern, _, _ in RULES), (
            f"{key}: say in run_keys what it means"
        )
    first = {key: next(pattern for pattern, _, _ in RULES if fnmatchcase(key, pattern)) for key in KEYS}
    assert {pattern for pattern, _, _ in RULES} == set(first.values())  # no pattern is without effect
    assert all(why for _, _, why in RULES)


@pytest.mark.parametrize(
    ("rule", "keys"),
    [
        (Rule.REFUSED, "DATA.SEARCH.SIZE DATA.TRAIN.DATASETS_NAME DATA.TRAIN.SAMPLE_PER_EPOCH DATA.MEAN"),
        (Rule.REFUSED, "DATA.REDUCED_DECODE"),
        (Rule.REFUSED, "MODEL.BACKBONE.DEPTH TASKS TASKS.cls.HIDDEN_DIM TRAIN.BATCH_SIZE TRAIN.CLS_WEIGHT"),
        (Rule.REFUSED, "TRAIN.GRAD_CLIP_NORM TRAIN.AMP TRAIN.PRECISION TRAIN.ACCUMULATION_STEPS TRAIN.EMA"),
        (Rule.REFUSED, "TRAIN.BN TRAIN.FREEZE_CLS_EPOCH TRAIN.CLS_LOSS_TYPE TRAIN.A_KEY_TO_COME NEW.KEY"),
        (Rule.BY_STAGE, "TRAIN.LR TRAIN.STAGE2_EPOCHS TRAIN.STAGE1_LR TRAIN.WEIGHTING TRAIN.SCHEDULER.TYPE"),
        (Rule.BY_STAGE, "TRAIN.DISTINCT_EPOCHS"),
        (Rule.TAKEN, "TRAIN.FEATURE_CACHE TRAIN.FEATURE_CACHE.DIR TRAIN.FEATURE_CACHE.MAX_GB"),
        (Rule.TAKEN, "TRAIN.NUM_WORKER TRAIN.PRINT_INTERVAL TRAIN.SAVE_INTERVAL_STEPS TRAIN.SAVE_BEST.MODE"),
        (Rule.TAKEN, "TEST.EPOCH DATA.VAL.DATASETS_NAME MODEL.PRETRAIN_FILE TRAIN.AUDIT_INTERVAL"),
    ],
)
def test_what_a_change_means(rule: Rule, keys: str):
    assert {key: rule_of(key) for key in keys.split()} == dict.fromkeys(keys.split(), rule)


def test_changes_are_found_leaf_by_leaf_wherever_the_data_lie():
    def config(**changed: Any) -> dict[str, Any]:
        root = changed.get("root", "/one")
        names = ["LASOT", {"TYPE": "FolderSequences", "ROOT": root, "FPS": changed.get("fps", 30)}]
        return {"DATA": {"TRAIN": {"DATASETS_NAME": names}}, "TRAIN": {"TASK_CLIP_NORM": {}}}

    assert changes(config(), config()) == changes(config(), config(root="/other")) == {}
    ((key, (was, now)),) = changes(config(), config(fps=25)).items()
    assert key == "DATA.TRAIN.DATASETS_NAME" and was[1]["FPS"] == 30 and now[1]["FPS"] == 25
    assert flat({"A": {"B": 1, "C": {}}, "D": [2]}) == {"A.B": 1, "A.C": {}, "D": [2]}
    assert changes({"A": {"B": 1}}, {"A": {"B": 1, "C": 2}}) == {"A.C": (None, 2)}


def test_a_key_that_came_later_was_at_its_default():
    before = {"DATA": {"REDUCED_DECODE": False}}
    assert changes({}, before) == {}
    assert changes({}, {"DATA": {"REDUCED_DECODE": True}}) == {"DATA.REDUCED_DECODE": (False, True)}
