"""Two processes with a balancing rule train as one process on the whole batch does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from balanced_ranks import LIMITED, LIMITS, trained
from standins import joint_clip

FOLDER = Path(__file__).parent
RULES = ["fixed", "uncertainty", "dwa", "famo", "pcgrad", "cagrad", "upgrad"]


@pytest.mark.slow
def test_two_ranks_with_uneven_labels_balance_as_one(tmp_path):
    pytest.importorskip("torchjd")
    path = tmp_path / "two.pt"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    places = os.pathsep.join([str(FOLDER), str(FOLDER.parent)])
    environment = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(FOLDER / "balanced_ranks.py"), str(path), *RULES],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = torch.load(path, weights_only=True)
    assert set(found) == {*RULES, *(f"{name} limited" for name in LIMITED)}
    for key, two in found.items():
        limits = LIMITS if key.endswith("limited") else {}
        alone = trained(Accelerator(cpu=True), key.split()[0], [joint_clip()], limits)
        for parameter, value in alone["net"].items():
            torch.testing.assert_close(two["net"][parameter], value, rtol=1e-4, atol=1e-6, msg=key)
        assert two["weights"] == pytest.approx(alone["weights"], rel=1e-4), key
