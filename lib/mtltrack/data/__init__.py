"""Data: sequences from folders and LMDB, clips drawn from them, batches with labels and masks.

The names below are loaded when first asked for: what only reads files, as the scoring of results does, then
needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtltrack.data.augment import CropSettings, ViewSettings
    from mtltrack.data.build import build_dataset, build_datasets
    from mtltrack.data.collate import Sample
    from mtltrack.data.faults import FaultLog
    from mtltrack.data.loader import build_loader
    from mtltrack.data.sampler import ClipDataset, EpochSampler
    from mtltrack.data.sequences import SequenceDataset, SequenceInfo

__all__ = [
    "ClipDataset",
    "CropSettings",
    "EpochSampler",
    "FaultLog",
    "Sample",
    "SequenceDataset",
    "SequenceInfo",
    "ViewSettings",
    "build_dataset",
    "build_datasets",
    "build_loader",
]
_MODULES = {
    "augment": ("CropSettings", "ViewSettings"),
    "build": ("build_dataset", "build_datasets"),
    "collate": ("Sample",),
    "faults": ("FaultLog",),
    "loader": ("build_loader",),
    "sampler": ("ClipDataset", "EpochSampler"),
    "sequences": ("SequenceDataset", "SequenceInfo"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"mtltrack.data.{module}"), name)
    raise AttributeError(f"module 'mtltrack.data' has no attribute '{name}'")
