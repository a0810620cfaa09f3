"""`tracking/test.py --threads --num_gpus --device`: what works on which device, and what is said of it."""

from __future__ import annotations

import pytest
import torch

from mtltrack.cli.test import build_parser, device_notes, devices_of


def notes(monkeypatch: pytest.MonkeyPatch, there: int, *flags: str) -> list[str]:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    arguments = build_parser().parse_args(["hiptrack", "hiptrack", *flags])
    return device_notes(arguments, devices_of(arguments.device, arguments.num_gpus))


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices_of(None, 4) == ["cuda:0", "cuda:1"] and devices_of(None, 1) == ["cuda:0"]
    assert devices_of("cpu", 4) == ["cpu"]


def test_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    assert notes(monkeypatch, 1) == []
    assert notes(monkeypatch, 4, "--num_gpus", "4", "--threads", "8") == []


def test_fewer_gpus_than_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert notes(monkeypatch, 1, "--num_gpus", "4", "--threads", "4") == [
        "--num_gpus 4, but only cuda:0 is there"
    ]
    assert notes(monkeypatch, 0, "--num_gpus", "2", "--threads", "2") == [
        "--num_gpus 2, but only cpu is there"
    ]
    assert notes(monkeypatch, 4, "--num_gpus", "4") == [
        "--num_gpus 4 with --threads 0 uses 1: give as many --threads"
    ]
    assert notes(monkeypatch, 4, "--num_gpus", "2", "--device", "cuda:1") == [
        "--num_gpus 2 has no effect beside --device cuda:1"
    ]
