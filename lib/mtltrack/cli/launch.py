"""Start the processes of a training on several devices or machines."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

import torch

from mtltrack.core.errors import ConfigError

SINGLE = "single"
MULTIPLE = "multiple"
MULTI_NODE = "multi_node"


def add_launch_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say on which devices a training runs."""
    group = parser.add_argument_group("devices")
    group.add_argument(
        "--mode",
        choices=[SINGLE, MULTIPLE, MULTI_NODE],
        default=SINGLE,
        help="one process; several on this machine; several on several machines (single)",
    )
    group.add_argument(
        "--nproc_per_node", type=int, help="processes on this machine (the number of its GPUs)"
    )
    group.add_argument("--world-size", type=int, help="multi_node: number of machines")
    group.add_argument("--rank", type=int, help="multi_node: number of this machine, from 0")
    group.add_argument("--ip", default="127.0.0.1", help="multi_node: address of machine 0 (127.0.0.1)")
    group.add_argument("--port", type=int, default=20000, help="multi_node: a free port of machine 0 (20000)")


def launch(module: str, arguments: Sequence[str]) -> int:
    """Run `python -m module` in several processes by torchrun and wait for them.

    Args:
        module: what each process runs.
        arguments: of the command, those of `add_launch_options` among them.

    Returns:
        torchrun's exit status, not 0 when a process failed.
    """
    status = subprocess.run(torchrun_command(module, arguments), check=False).returncode
    return 128 - status if status < 0 else status  # ended by a signal: as a shell says it


def torchrun_command(module: str, arguments: Sequence[str]) -> list[str]:
    """Return the command as a list of arguments: nothing of it is ever read by a shell.

    Raises:
        ConfigError: an option that the mode needs is missing.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_launch_options(parser)
    options, rest = parser.parse_known_args(list(arguments))
    processes = torch.cuda.device_count() if options.nproc_per_node is None else options.nproc_per_node
    if processes < 1:
        raise ConfigError(
            f"--mode {options.mode} needs --nproc_per_node, processes on this machine, at least 1; "
            f"GPUs found here: {torch.cuda.device_count()}"
        )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
    if options.mode == MULTI_NODE:
        machines, number = options.world_size, options.rank
        if machines is None or number is None or not 0 <= number < machines:
            raise ConfigError(
                "--mode multi_node needs --world-size, how many machines, and --rank, from 0 to one less; "
                f"found --world-size {machines} --rank {number}"
            )
        command += ["--nnodes", str(machines), "--node_rank", str(number)]
        command += ["--master_addr", options.ip, "--master_port", str(options.port)]
    else:
        command.append("--standalone")
    return [*command, "-m", module, *rest, "--mode", SINGLE]
