"""Two processes on halves of a batch, in micro-batches, train as one process on the whole batch does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from standins import joint_clip, still_tracker

from mtltrack.training.step import StepRunner

FOLDER = Path(__file__).parent


@pytest.mark.slow
def test_two_ranks_with_uneven_labels_make_the_step_of_one(tmp_path):
    path = tmp_path / "two.pt"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(FOLDER), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(FOLDER / "two_ranks.py"), str(path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = torch.load(path, weights_only=True)

    tracker = still_tracker()
    parameters = [parameter for parameter in tracker.parameters() if parameter.requires_grad]
    runner = StepRunner(
        accelerator=Accelerator(cpu=True),
        tracker=tracker,
        model=tracker,
        optimizer=torch.optim.SGD(parameters, lr=0.5),
        lambdas={"cls": 0.1},
        excluded=(),
        mean=[0.5] * 3,
        std=[0.2] * 3,
        grad_clip_norm=0.0,
    )
    result = runner.run([joint_clip()], None)
    for name, value in tracker.state_dict().items():
        torch.testing.assert_close(found["net"][name], value, msg=name)
    for name, value in result.scalars.items():
        assert found["means"][name] == pytest.approx(value.item(), rel=1e-5), name
    # the sample of the other rank is named: row 5 of the eight, the only one with a label there
    assert found["refused"].startswith("loss not finite: task cls (error) at set / s0-5")
    assert found["faults"].startswith("1 of 8 samples were bad (12.50%)")  # all on rank 1
