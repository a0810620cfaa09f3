"""Which kernel a training takes: measured once, then kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mtltrack.cli import train_setup
from mtltrack.cli.train_setup import kernel_of_run
from mtltrack.core import kernels
from mtltrack.core.config import config_from_dict
from mtltrack.core.kernels import DEFAULT, ONEDNN

CPU = torch.device("cpu")


@pytest.fixture
def gain(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> dict[str, float]:
    """What the measurement finds, and how often it is asked."""
    found = {"gain": 2.0, "asked": 0}

    def measured() -> float:
        found["asked"] += 1
        return found["gain"]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernels, "measured_gain", measured)
    monkeypatch.setattr(kernels, "refusal", lambda: None)
    monkeypatch.setattr(train_setup, "refusal", lambda: None)
    return found


def chosen(state: dict[str, Any] | None = None, deterministic: bool = False, **train: Any) -> tuple[str, str]:
    choice = kernel_of_run(config_from_dict({"TRAIN": train}), CPU, state, deterministic)
    return choice.kernel, choice.reason


def test_a_new_run_measures(gain: dict[str, float]) -> None:
    assert chosen() == (ONEDNN, "onednn is 2.00 times as fast as the default")
    assert chosen() == (ONEDNN, "onednn is 2.00 times as fast as the default; measured earlier")
    assert gain["asked"] == 1


def test_a_run_that_goes_on_keeps_its_kernel(gain: dict[str, float]) -> None:
    assert chosen({"kernel": DEFAULT}) == (DEFAULT, "as before")
    gain["gain"] = 0.5
    assert chosen({"kernel": ONEDNN}) == (ONEDNN, "as before")
    assert chosen({}) == (DEFAULT, "as before")  # a state from before there was a choice
    assert gain["asked"] == 0


def test_a_kernel_named_in_the_configuration_goes_before(gain: dict[str, float]) -> None:
    assert chosen({"kernel": ONEDNN}, MATMUL="default") == (DEFAULT, "as the configuration says")
    assert chosen({"kernel": DEFAULT}, MATMUL="onednn") == (ONEDNN, "as the configuration says")
    assert gain["asked"] == 0


def test_another_processor_may_not_have_the_kernel(
    gain: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_setup, "refusal", lambda: "its products aren't float32")
    assert chosen({"kernel": ONEDNN}) == (
        DEFAULT,
        "the run had onednn before and goes on with other roundings: its products aren't float32",
    )
    assert chosen({"kernel": DEFAULT}) == (DEFAULT, "as before")


def test_deterministic_measures_nothing(gain: dict[str, float]) -> None:
    assert chosen(deterministic=True) == (DEFAULT, "--deterministic")
    assert chosen({"kernel": ONEDNN}, deterministic=True) == (ONEDNN, "as before")
    assert chosen(deterministic=True, MATMUL="onednn") == (ONEDNN, "as the configuration says")
    assert gain["asked"] == 0


def test_gpus_have_kernels_of_their_own(gain: dict[str, float]) -> None:
    choice = kernel_of_run(config_from_dict({}), torch.device("cuda", 1), {"kernel": ONEDNN}, False)
    assert (choice.kernel, choice.reason) == (DEFAULT, "the device is cuda:1")
    assert gain["asked"] == 0


def test_a_kernel_must_do_for_all_processes(gain: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "onednn's products aren't float32 on this processor"
    monkeypatch.setattr(train_setup, "gather_object", lambda own: [*own, reason])
    assert chosen() == (DEFAULT, f"of one process, {reason}")
