"""Means that wait on the device."""

from __future__ import annotations

import torch

from mtltrack.training.averages import Averages


def scalars(**values):
    return {name.replace("_", "/"): torch.tensor(float(value)) for name, value in values.items()}


def test_means_start_anew_after_they_are_taken():
    averages = Averages()
    averages.add(scalars(total=1))
    averages.add(scalars(total=4))
    assert averages.take() == {"total": 2.5}
    assert averages.take() == {}


def test_a_step_that_did_not_measure_a_task_does_not_dilute_its_mean():
    averages = Averages()
    averages.add(scalars(total=2, cls=6, cls_ce=6), scalars(cls=1))
    averages.add(scalars(total=4, cls=0, cls_ce="nan"), scalars(cls=0))
    assert averages.take() == {"total": 3.0, "cls": 6.0, "cls/ce": 6.0}


def test_what_was_never_measured_is_left_out():
    averages = Averages()
    averages.add(scalars(total=2, cls=0), scalars(cls=0))
    assert averages.take() == {"total": 2.0}


def test_merging_keeps_both():
    recent, whole = Averages(), Averages()
    for value in (1, 2, 6):
        recent.add(scalars(total=value))
        whole.merge(recent)
        recent.take()
    assert whole.take() == {"total": 3.0}
