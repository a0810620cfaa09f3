"""Load the published configurations and compare every value (`*_config.json`)."""

from __future__ import annotations

from typing import Any

from mtltrack.core.config import config_from_dict
from parity.report import Report


def compare_config(content: dict[str, Any], report: Report) -> None:
    """Load the values as a YAML's, and compare what the loaded configuration says."""
    loaded = config_from_dict(content, name="the reference").dump()
    _compare(content, loaded, "", report)


def _compare(expected: Any, ours: Any, path: str, report: Report) -> None:
    if isinstance(expected, dict):
        for key, value in expected.items():
            present = isinstance(ours, dict) and key in ours
            report.decision(f"{path}{key}: present", present)
            if present:
                _compare(value, ours[key], f"{path}{key}.", report)
    else:
        report.decision(f"{path}: {expected!r}", ours == expected)
