"""Each planted fault is named by the audit, and healthy models raise nothing."""

from __future__ import annotations

import pytest
from faults import FAULTS, planted
from small_models import TASKS, Small


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named(name: str) -> None:
    with planted(name) as (small, fault):
        report = small.audit(fault.stage)
    findings = [finding for _, finding in report.findings]
    assert not report.passed
    texts = "\n".join(map(str, findings))
    fitting = [
        finding
        for finding in findings
        if finding.kind == fault.kind
        and all(words in finding.where for words in fault.where)
        and all(words in finding.message for words in fault.message)
    ]
    assert fitting, f"wanted {fault.kind} {fault.where} {fault.message}; found:\n{texts}"
    if fault.alone:
        assert {finding.kind for finding in findings} == {fault.kind}, texts


EVERY = ("cls", "seg", "plate", "ocr", "alert")
HEALTHY = {
    "ostrack with conditions": {},
    "hiptrack with every head": {"script": "hiptrack", "tasks": EVERY, "frames": 3},
    "hiptrack with its backbone frozen, one stage": {
        "script": "hiptrack",
        "TRAIN": {"TWO_STAGE": False, "FREEZE_BACKBONE": True},
    },
    "corner head, frozen batch norm, every frame at once": {
        "MODEL": {"HEAD": {"TYPE": "CORNER"}, "BACKBONE": {"BATCH_FRAMES": True}},
        "TRAIN": {"BN": "frozen"},
    },
    "plain head, several conditions at a time, in bfloat16": {
        "MODEL": {"HEAD": {"TYPE": "MLP"}},
        "tasks": {"cls": {**TASKS["cls"], "LABELS": "multi"}},
        "TRAIN": {"CLS_LOSS_TYPE": "BCE"},
    },
    "edges without gradient": {
        "tasks": {
            "seg": {**TASKS["seg"], "DETACH": ["box"]},
            "plate": {**TASKS["plate"], "DETACH": ["box"]},
            "alert": {**TASKS["alert"], "DETACH": ["box"]},
        },
    },
    "conditions that stop learning": {
        "TRAIN": {"FREEZE_CLS_EPOCH": 3, "STAGE2_EPOCHS": 3, "BOX_EPOCHS": 1},
    },
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_model_raises_nothing(name: str) -> None:
    report = Small(**HEALTHY[name]).audit()
    assert report.passed, "\n".join(str(finding) for _, finding in report.findings)
    assert not report.findings
