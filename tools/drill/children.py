"""Children of this process: forked with everything imported, and never waited for without end."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

LONGEST = 600.0  # seconds that a child may take on a busy machine


def in_child(work: Callable[[], int]) -> int:
    """Fork, do `work` in the child, which exits with what it returns, and return the child's number."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        os.setsid()  # its loader processes are killed with it
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        status = work()
    finally:
        os._exit(status)


def kill_group(child: int) -> None:
    """Kill a child and all that it started."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(child, signal.SIGKILL)


def wait_for(child: int, longest: float = LONGEST) -> int:
    """Return a child's exit status, negative after a signal; one that hangs is killed."""
    deadline = time.monotonic() + longest
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    kill_group(child)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
