"""TRAIN.WEIGHTING and TRAIN.TASK_CLIP_NORM as they are written in a YAML."""

from __future__ import annotations

import pytest

from mtltrack.core.config import config_from_dict
from mtltrack.core.errors import ConfigError


def load(**train):
    tasks = {"cls": {"TYPE": "ClsHead"}, "alert": {"TYPE": "AlertHead"}}
    return config_from_dict({"TASKS": tasks, "TRAIN": train}, name="mine.yaml", script="ostrack").TRAIN


def test_fixed_weights_and_no_limits_are_the_default():
    assert load().WEIGHTING == {"TYPE": "fixed"} and load().TASK_CLIP_NORM == {}


def test_a_rule_is_a_name_or_a_mapping():
    assert load(WEIGHTING="famo").WEIGHTING == {"TYPE": "famo"}
    assert load(WEIGHTING={"TYPE": "cagrad", "C": 0.2}).WEIGHTING == {"TYPE": "cagrad", "C": 0.2}
    without = load(WEIGHTING={"TYPE": "cagrad", "C": None})  # takes away what a base file gave
    assert without.WEIGHTING == {"TYPE": "cagrad"}


@pytest.mark.parametrize("value", [3, [], {"C": 0.2}, "", {"TYPE": ""}])
def test_anything_else_is_refused(value):
    text = "TRAIN.WEIGHTING: found .*; allowed: a text, not empty or a mapping with the keys TYPE"
    with pytest.raises(ConfigError, match=text):
        load(WEIGHTING=value)


def test_limits_are_positive_and_of_tasks_that_are_there():
    assert load(TASK_CLIP_NORM={"alert": 1, "box": 0.5}).TASK_CLIP_NORM == {"alert": 1.0, "box": 0.5}
    with pytest.raises(ConfigError, match=r"TASK_CLIP_NORM.alert: found 0; allowed: a number above 0"):
        load(TASK_CLIP_NORM={"alert": 0})
    text = r"TASK_CLIP_NORM.alrt: there is no task 'alrt'; allowed: box, cls, alert. Did you mean 'alert'"
    with pytest.raises(ConfigError, match=text):
        load(TASK_CLIP_NORM={"alrt": 1})
