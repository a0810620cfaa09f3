"""Signals that ask to leave: remembered once, echoes passed over, a second one obeyed at once."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from mtltrack.training import signals
from mtltrack.training.signals import StoppedError, StopSignals


def test_the_first_signal_is_remembered_and_an_echo_changes_nothing(capfd):
    before = {name: signal.getsignal(getattr(signal, name)) for name in signals.SIGNALS}
    told = []
    with StopSignals(told.append) as stop:
        assert stop.number == stop.agreed() == 0
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # torchrun hands on what Slurm has sent already
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == stop.agreed() == signal.SIGTERM and told == [signal.SIGTERM]
    assert capfd.readouterr().err == "SIGTERM: leaving after this step\n"
    assert {name: signal.getsignal(getattr(signal, name)) for name in signals.SIGNALS} == before


def test_a_later_signal_ends_the_process_at_once():
    child = os.fork()
    if child == 0:
        signals.PATIENCE = 0.05
        with StopSignals():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def test_other_threads_leave_signals_alone():
    handlers = []

    def enter():
        with StopSignals():
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]


@pytest.mark.parametrize(("number", "name", "status"), [(15, "SIGTERM", 143), (2, "SIGINT", 130)])
def test_the_exit_status_is_a_shells(number, name, status):
    stopped = StoppedError(number, "after step 3 of the run")
    assert stopped.status == status and str(stopped) == f"stopped by {name} after step 3 of the run"
