"""Weights, gradients and the optimizer's state spread over ranks."""

from __future__ import annotations

from pathlib import Path

import torch
from tools.drill import commands
from tools.drill.row import Row
from tools.drill.tiny import largest_difference

ROUNDING = 1e-4  # of weights of about 1 after two steps


def step_rows(folder: Path) -> list[Row]:
    """Compare two steps with those of a training in which every process holds everything."""
    whole = torch.load(folder / "steps.pt", weights_only=True)["frozen"]["state"]
    found = torch.load(folder / "sharded.pt", weights_only=True)
    difference = largest_difference(whole, found["state"])
    shares = [f"{100 * held / found['all']:.0f} %" for held in found["held"]]
    refused = str(found["refused"]).startswith("gradient not finite at ") and found["kept"]
    return [
        Row(
            "TRAIN.FSDP, 2 ranks, two steps, against ranks that hold everything",
            f"weights and optimizer's state the same to {ROUNDING:g}",
            f"difference {difference:.1e}; ranks hold {' and '.join(shares)} of the weights",
            difference <= ROUNDING and max(found["held"]) < 0.6 * found["all"],
        ),
        Row(
            "TRAIN.FSDP, gradient not finite on rank 1",
            "step refused, all state kept bit for bit",
            "so it is" if refused else "not so",
            refused,
        ),
    ]


def command_row(folder: Path) -> Row:
    """Run the command, stop after two of three epochs and go on; compare with a run that spreads nothing."""
    commands.prepare(folder)
    option = ["--cfg-options", "TRAIN.FSDP=true"]
    states = [
        commands.two_processes(folder, "fsdp", *option, "TRAIN.STAGE2_EPOCHS=1"),
        commands.two_processes(folder, "fsdp", *option),
        commands.two_processes(folder, "whole"),
    ]
    right = states == [0, 0, 0] and "2 of 3 epochs are done" in commands.said(folder, "fsdp")
    difference = float("inf")
    if right:
        difference = largest_difference(commands.weights(folder, "fsdp"), commands.weights(folder, "whole"))
    return Row(
        "TRAIN.FSDP in the command, 2 processes, stopped after epoch 2 and resumed",
        "a checkpoint as without it, weights the same to 0.001",
        f"status {states}, difference {difference:.1e}",
        right and difference <= 1e-3,
    )
