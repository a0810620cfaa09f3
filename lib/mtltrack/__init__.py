"""mtltrack: multi-task fine-tuning of ViT template/search trackers.

The names that users need most, loaded when first asked for:

    from mtltrack import load_config, build_tracker, load_weights, OnlineTracker
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "load_config": "mtltrack.core.config",
    "build_tracker": "mtltrack.cli.build",
    "load_weights": "mtltrack.cli.build",
    "OnlineTracker": "mtltrack.evaluation.online",
}
__all__ = ["OnlineTracker", "__version__", "build_tracker", "load_config", "load_weights"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'mtltrack' has no attribute '{name}'")
