"""Start the processes of a training on several devices or machines."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from mtltrack.core.errors import ConfigError
from mtltrack.training.signals import SIGNALS, StopSignals

SINGLE = "single"
MULTIPLE = "multiple"
MULTI_NODE = "multi_node"
RESTARTS = "TORCHELASTIC_RESTART_COUNT"  # torchrun's: how often the processes have been started again
TIMEOUT = 1800.0
TORCHRUN_SIGNALS = "TORCHELASTIC_SIGNALS_TO_HANDLE"
LAUNCHED = "MTLTRACK_LAUNCHED"  # when the command was given, seconds since 1970
MEETING = "mtltrack"
# Processes that are started again must meet at a new place: in the old one, torchrun's own store, they would
# find the addresses of those that are gone.
APART = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"


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
    group.add_argument(
        "--local_addr", help="multi_node with --max-restarts: this machine's address (its name)"
    )
    group.add_argument(
        "--max-restarts",
        type=int,
        default=0,
        help="multiple, multi_node: when a process dies, start all of them again up to so many times; they "
        "go on from the newest checkpoint (0)",
    )


def add_timeout_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that every process of a training reads itself."""
    parser.add_argument(
        "--timeout",
        type=float,
        default=TIMEOUT,
        metavar="SECONDS",
        help=f"several processes: how long one waits for another before it fails ({TIMEOUT:g})",
    )


def launch(module: str, arguments: Sequence[str]) -> int:
    """Run `python -m module` in several processes by torchrun and wait for them.

    Args:
        module: what each process runs.
        arguments: of the command, those of `add_launch_options` among them.

    A signal that asks to leave is handed on, once: torchrun hands it on to the processes and waits for them.

    Returns:
        torchrun's exit status, not 0 when a process failed; 128 and the signal's number after a signal.
    """
    environment = {
        **os.environ,
        LAUNCHED: repr(time.time()),
        APART: "1",
        TORCHRUN_SIGNALS: "SIGHUP,SIGQUIT," + ",".join(SIGNALS),
    }
    # in a session of its own: Ctrl-C reaches this process alone, and torchrun but once
    process = subprocess.Popen(torchrun_command(module, arguments), env=environment, start_new_session=True)
    with StopSignals(process.send_signal) as stop:
        status = process.wait()
    if stop.number:
        return 128 + stop.number
    return 128 - status if status < 0 else status  # ended by a signal: as a shell says it


def written_since_launch(path: Path) -> bool:
    """Tell whether a file is newer than the command that started this process and the others.

    False where nothing was started again: then a file of the run can only be an earlier run's.
    """
    if os.environ.get(RESTARTS, "0") == "0" or LAUNCHED not in os.environ:
        return False
    return path.stat().st_mtime >= float(os.environ[LAUNCHED])


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
    if options.max_restarts < 0:
        raise ConfigError(f"--max-restarts is {options.max_restarts}; wanted 0 or more")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
    if options.max_restarts > 0:
        command += ["--max-restarts", str(options.max_restarts)]
    if options.mode == MULTI_NODE:
        machines, number = options.world_size, options.rank
        if machines is None or number is None or not 0 <= number < machines:
            raise ConfigError(
                "--mode multi_node needs --world-size, how many machines, and --rank, from 0 to one less; "
                f"found --world-size {machines} --rank {number}"
            )
        command += ["--nnodes", str(machines)]
        if options.max_restarts == 0:
            command += ["--node_rank", str(number)]
            command += ["--master_addr", options.ip, "--master_port", str(options.port)]
        else:  # processes that are started again must find one another: machine 0 keeps a meeting point
            command += ["--rdzv_backend", "c10d", "--rdzv_id", MEETING]
            command += ["--rdzv_endpoint", f"{options.ip}:{options.port}"]
            command += ["--rdzv_conf", f"is_host={int(number == 0)}"]
            if options.local_addr is not None:
                command += ["--local_addr", options.local_addr]
    else:
        command.append("--standalone")
    return [*command, "-m", module, *rest, "--mode", SINGLE]
