"""What `tracking/test.py` loads before its first frame: nothing heavy that it doesn't need."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCORES_AND_PICTURES = {"torchmetrics", "matplotlib", "scipy", "pandas", "tensorboard", "sklearn"}
NETWORKS = {"timm", "torchvision", "torch._dynamo"}
COMMAND = ("mtltrack.cli.test",)
WORKER = (*COMMAND, "mtltrack.cli.build", "mtltrack.evaluation.online")


@pytest.mark.parametrize(
    ("imported", "unwanted"), [(COMMAND, SCORES_AND_PICTURES | NETWORKS), (WORKER, SCORES_AND_PICTURES)]
)
def test_imports_stay_light(imported: tuple[str, ...], unwanted: set[str]) -> None:
    """A refused command needs no network, and a tracker nothing that scores or draws."""
    code = f"import sys, {', '.join(imported)}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not unwanted & set(run.stdout.split())
