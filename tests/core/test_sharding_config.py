"""What TRAIN.FSDP can't go with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mtltrack.cli.train_setup import train_settings
from mtltrack.core.config import config_from_dict, load_config
from mtltrack.core.errors import ConfigError


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("WEIGHTING", "{TYPE: pcgrad}", "fixed"),
        ("TASK_CLIP_NORM", "{cls: 1.0}", "{}"),
        ("EMA", 0.99, "null"),
        ("FEATURE_CACHE", "{MAX_GB: 5}", "null"),
        ("PRECISION", "fp16", "fp32 or bf16"),
        ("AMP", "true", "false, with PRECISION: bf16 instead"),
        ("AUDIT_INTERVAL", 10, "0"),
        ("AUDIT_FULL_INTERVAL", 10, "0"),
    ],
)
def test_what_needs_whole_gradients_or_weights_is_refused_by_name(key, value, allowed):
    path = Path(__file__).with_name("empty.yaml")
    options = ["TRAIN.FSDP=true", "TASKS.cls.TYPE=ClsHead", f"TRAIN.{key}={value}"]
    with pytest.raises(ConfigError) as caught:
        load_config(path, options, script="ostrack")
    text = str(caught.value)
    assert re.search(rf"TRAIN\.{key}\b", text)
    assert "TRAIN.FSDP is true and each process holds a share only" in text and f"allowed: {allowed}." in text


def test_the_watch_on_gradients_is_off_unless_it_was_asked_for():
    cfg = config_from_dict({"TRAIN": {"FSDP": True}}, script="ostrack")
    settings = train_settings(cfg, 42, "none")
    assert settings.fsdp and settings.audit_interval == settings.audit_full_interval == 0
    without = config_from_dict({"TRAIN": {"FSDP": True, "AUDIT_INTERVAL": 0}}, script="ostrack")
    assert train_settings(without, 42, "none").audit_interval == 0
