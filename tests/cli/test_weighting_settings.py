"""From TRAIN.WEIGHTING in a file to the settings of training."""

from __future__ import annotations

import pytest

from mtltrack.cli.train_setup import need_rule, train_settings
from mtltrack.core.config import config_from_dict, load_config
from mtltrack.core.errors import ConfigError


def test_training_is_told_rule_and_limits():
    cfg = config_from_dict(
        {"TRAIN": {"WEIGHTING": {"TYPE": "dwa", "TEMPERATURE": 3}, "TASK_CLIP_NORM": {"box": 2}}},
        script="ostrack",
    )
    need_rule(cfg)
    settings = train_settings(cfg, seed=1, started_from="none")
    assert settings.weighting == {"TYPE": "dwa", "TEMPERATURE": 3}
    assert settings.task_clip_norms == {"box": 2.0}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("WEIGHTING: dwq", "mine.yaml:2: TRAIN.WEIGHTING: 'dwq' is not a registered balancing rule.*'dwa'"),
        ("WEIGHTING: {TYPE: dwa, TEMP: 1}", "mine.yaml:2: TRAIN.WEIGHTING.TEMP: dwa has no such argument"),
        ("WEIGHTING: {TYPE: famo, LR: 0}", "mine.yaml:2: TRAIN.WEIGHTING famo: LR is 0; wanted a number"),
    ],
)
def test_a_wrong_rule_is_named_with_its_line_before_anything_begins(tmp_path, line, text):
    path = tmp_path / "mine.yaml"
    path.write_text(f"TRAIN:\n  {line}\n")
    with pytest.raises(ConfigError, match=text):
        need_rule(load_config(path, script="ostrack"))
