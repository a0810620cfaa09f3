"""What the log of a training begins with: versions, commit, configuration, data."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from mtltrack.core.paths import checkout_root
from mtltrack.data.fingerprint import fingerprint
from mtltrack.data.sampler import ClipDataset

PACKAGES = ("mtltrack", "torch", "torchvision", "timm", "accelerate", "numpy", "opencv-python")


def header(config: Mapping[str, Any], seed: int, data: Mapping[str, str]) -> list[str]:
    """Return the lines that say what a run was made of.

    Args:
        config: the whole configuration as plain values.
        seed: of the run.
        data: fingerprint of each data set, by its name.
    """
    return [
        f"versions: Python {platform.python_version()}, " + ", ".join(map(_version, PACKAGES)),
        f"device: {_device()}; commit: {commit(checkout_root())}",
        f"configuration: sha256 {config_digest(config)}, seed {seed}",
        *(f"data {name}: {mark}" for name, mark in data.items()),
    ]


def fingerprints(split: str, clips: ClipDataset) -> dict[str, str]:
    """Return the fingerprints of a split's data sets, by split and name."""
    return {
        f"{split} {name}": fingerprint(source)
        for name, source in zip(clips.source_names, clips.sources, strict=True)
    }


def config_digest(config: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that are the same for equal configurations."""
    text = json.dumps(config, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def commit(folder: Path | None) -> str:
    """Return the commit of the checkout that the code runs from, "none" outside of one."""
    if folder is None or not (folder / ".git").exists():
        return "none"
    try:
        name = _git(folder, "rev-parse", "HEAD")[:12]
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({type(error).__name__})"
    return f"{name} with changes" if changed else name


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} not installed"


def _device() -> str:
    if not torch.cuda.is_available():
        return f"CPU, {torch.get_num_threads()} threads"
    return (
        f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    )
