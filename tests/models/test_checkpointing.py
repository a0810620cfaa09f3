"""Activation checkpointing changes no gradient, and the history's gradient goes back as far as it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from mtltrack.core.types import Clip
from mtltrack.models.layers.checkpointing import run_checkpointed
from mtltrack.models.tracker import Tracker

Make = Callable[..., Tracker]
MakeClip = Callable[..., Clip]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on tensors this small, threads only wait for one another
    yield
    torch.set_num_threads(threads)


def gradients(tracker: Tracker, clip: Clip) -> dict[str, Tensor]:
    torch.manual_seed(3)  # drop path
    outputs = tracker(clip)
    loss = sum(
        value.float().square().mean()
        for output in outputs.values()
        for value in output.predictions.values()
        if value.requires_grad
    )
    loss.backward()
    return {name: p.grad for name, p in tracker.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("history", [True, False])
def test_gradients_and_running_statistics_are_those_without(
    make_tracker: Make, make_clip: MakeClip, history: bool
) -> None:
    plain, saving = make_tracker(history), make_tracker(history)
    for tracker in (plain, saving):
        tracker.train()
        for block in tracker.backbone.blocks:
            block.drop_path1.drop_prob = block.drop_path2.drop_prob = 0.3
    saving.checkpoint_activations()
    expected, found = gradients(plain, make_clip()), gradients(saving, make_clip())
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-7, msg=name)
    for (name, one), other in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(one, other), name
    if history:
        steps = saving.history.HIP.encoder.bn1.num_batches_tracked  # the template, and two of three frames
        assert int(steps) == 3


def test_calls_run_again_in_the_backward_pass_and_only_where_a_gradient_is_wanted() -> None:
    calls = []

    class Doubled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(torch.is_grad_enabled())
            return (2 * x).sin()

    module, x = Doubled(), torch.ones(3, requires_grad=True)
    run_checkpointed(module, module, x).sum().backward()
    assert len(calls) == 2
    torch.testing.assert_close(x.grad, 2 * torch.full((3,), 2.0).cos())
    with torch.no_grad():
        run_checkpointed(module, module, x)
    assert len(calls) == 3


def test_checkpointing_keeps_less(make_tracker: Make, make_clip: MakeClip) -> None:
    def kept(tracker: Tracker) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            outputs = tracker(make_clip())
        del outputs
        return sum(sizes.values())

    plain, saving = make_tracker(), make_tracker()
    saving.checkpoint_activations()
    assert kept(saving) < 0.7 * kept(plain)


@pytest.mark.parametrize(
    ("steps", "reached"),
    [(None, [0, 1, 2, 3]), (0, [3]), (1, [2, 3]), (2, [1, 2, 3]), (9, [0, 1, 2, 3])],
)
def test_the_gradient_goes_back_through_the_history_as_far_as_it_is_told(
    make_tracker: Make, make_clip: MakeClip, steps: int | None, reached: list[int]
) -> None:
    tracker, clip = make_tracker(), make_clip(frames=4)
    plain = make_tracker()(clip)["box"].predictions["size_map"]
    tracker.history_steps = steps
    clip.search.requires_grad_()
    answer = tracker(clip)["box"].predictions["size_map"]
    torch.testing.assert_close(answer, plain)  # only the gradient differs
    (gradient,) = torch.autograd.grad(answer[:, 3].sum(), clip.search)
    assert [t for t in range(4) if float(gradient[:, t].abs().sum()) > 0] == reached
    declared = tracker.boundaries().get("earlier frames -> history")
    assert (declared is None) is (steps is None)


def test_the_gradients_of_several_losses_can_be_taken_one_by_one():
    def block() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.3), nn.Linear(4, 2))

    values, found = torch.rand(6, 3, generator=torch.Generator().manual_seed(1)), []
    for run in (lambda module: module(values), lambda module: run_checkpointed(module, module, values)):
        module = block()
        torch.manual_seed(2)
        first, second = run(module).square().sum(0)
        parameters = list(module.parameters())
        gradients = [
            *torch.autograd.grad(first, parameters, retain_graph=True),
            *torch.autograd.grad(second, parameters),
        ]
        found.append([*gradients, *module.buffers()])
    for plain, checkpointed in zip(*found, strict=True):
        assert torch.equal(plain, checkpointed)
