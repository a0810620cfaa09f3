"""Data: sequences from folders and LMDB, clips drawn from them, batches with labels and masks."""

from mtltrack.data.augment import CropSettings, ViewSettings
from mtltrack.data.build import build_dataset, build_datasets
from mtltrack.data.collate import Sample, collate
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
    "collate",
]
