"""The average of the weights: its formula, what it holds, where it is put."""

from __future__ import annotations

import pytest
import torch
from standins import make_tracker, state_of

from mtltrack.core.kernels import ONEDNN, using
from mtltrack.models.packed import can_pack, pack
from mtltrack.training.ema import WeightAverage
from mtltrack.training.stages import Stage, enter_stage


def stage(*trains: str) -> Stage:
    return Stage("joint", 1, 1e-3, frozenset(trains), frozenset({"box", "cls"}))


def test_it_follows_parameters_and_running_statistics_by_the_formula():
    tracker = make_tracker()
    enter_stage(tracker, stage("backbone", "cls"))
    average = WeightAverage(0.75)
    average.follow(tracker)
    weight, mean = tracker.cls_head.layer.bias, tracker.backbone.norm.running_mean
    with torch.no_grad():
        weight.copy_(torch.tensor([1.0, 2.0]))
        mean.fill_(4.0)
    average.follow(tracker)  # what is known stays: the values that it began with
    began = average.state_dict()["cls_head.layer.bias"].clone()
    average.update()
    expected = 0.75 * began + 0.25 * torch.tensor([1.0, 2.0])
    torch.testing.assert_close(average.state_dict()["cls_head.layer.bias"], expected)
    assert torch.equal(average.state_dict()["backbone.norm.running_mean"], torch.full((6,), 1.0))  # 0.25 * 4
    assert torch.equal(mean, torch.full((6,), 4.0))


def test_frozen_parts_cost_nothing_and_begin_with_their_weights():
    tracker = make_tracker()
    enter_stage(tracker, stage("cls"))
    average = WeightAverage(0.9)
    average.follow(tracker)
    assert set(average.state_dict()) == {"cls_head.layer.weight", "cls_head.layer.bias"}
    with torch.no_grad():
        tracker.cls_head.layer.bias += 1
    average.update()
    before = average.state_dict()["cls_head.layer.bias"].clone()
    enter_stage(tracker, stage("backbone", "box"))
    average.follow(tracker)
    held = average.state_dict()
    assert {"backbone.layer.weight", "box_head.layer.bias", "cls_head.layer.bias"} <= set(held)
    assert "backbone.norm.num_batches_tracked" not in held and "backbone.cls_token" not in held
    assert torch.equal(held["cls_head.layer.bias"], before)
    assert torch.equal(held["backbone.layer.weight"], tracker.backbone.layer.weight)


def test_it_is_put_into_the_model_and_taken_out_again():
    tracker = make_tracker()
    enter_stage(tracker, stage("backbone", "box", "cls"))
    average = WeightAverage(0.5)
    average.follow(tracker)
    with torch.no_grad():
        tracker.box_head.layer.bias += 2
    average.update()
    before, averaged = state_of(tracker), {k: v.clone() for k, v in average.weights(tracker).items()}
    assert averaged.keys() == before.keys()
    with average.applied():
        assert all(torch.equal(value, averaged[name]) for name, value in tracker.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in tracker.state_dict().items())
    assert torch.equal(averaged["box_head.layer.bias"], before["box_head.layer.bias"] - 1)


def test_a_loaded_average_goes_on():
    tracker = make_tracker()
    enter_stage(tracker, stage("cls"))
    first, second = WeightAverage(0.5), WeightAverage(0.5)
    first.follow(tracker)
    with torch.no_grad():
        tracker.cls_head.layer.bias += 2
    first.update()
    second.load_state_dict(first.state_dict())
    second.follow(tracker)
    for average in (first, second):
        average.update()
    one, other = first.state_dict(), second.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.skipif(not can_pack(), reason="this torch has no packed weights")
@pytest.mark.usefixtures("onednn_is_float32")
def test_packed_layers_compute_with_the_average_of_now():
    """Also where they ran at nothing else since the average was last put in."""
    tracker, ones = make_tracker(), torch.ones(1, 6)
    enter_stage(tracker, stage("backbone", "box", "cls"))
    average = WeightAverage(0.5)
    average.follow(tracker)
    layer = tracker.box_head.layer.requires_grad_(False)
    found = []
    with using(ONEDNN), torch.no_grad():
        pack(layer)
        layer.weight += 2  # once: from here on the average comes nearer
        for _ in range(2):
            with average.applied():
                found.append(layer(ones))
                torch.testing.assert_close(
                    found[-1], torch.nn.functional.linear(ones, layer.weight, layer.bias)
                )
            average.update()
    assert not torch.allclose(*found)
