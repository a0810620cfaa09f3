"""The contract that every head keeps; a head's own test file calls `check_head`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mtltrack.core.types import Clip, Labels, TaskOutput, Tokens

BATCH, FRAMES, GRID, CHANNELS = 3, 2, 4, 16


def make_tokens() -> Tokens:
    """Random tokens that require gradient; half of the second frame's are removed."""
    generator = torch.Generator().manual_seed(0)
    search = torch.randn(BATCH, FRAMES, GRID * GRID, CHANNELS, generator=generator).requires_grad_()
    kept = torch.ones(BATCH, FRAMES, GRID * GRID, dtype=torch.bool)
    kept[:, 1, ::2] = False
    template = torch.randn(BATCH, 4, CHANNELS, generator=generator)
    return Tokens(template, search, (GRID, GRID), kept=kept)


def make_clip(detail: int | None = None, labels: Labels | None = None) -> Clip:
    """A clip of zeros.

    Args:
        detail: side in pixels of a detail view with random pixels, which shows what the search crop shows.
        labels: labels of the clip.
    """
    clip = Clip(
        template=torch.zeros(BATCH, 3, 32, 32),
        template_boxes_xywh=torch.zeros(BATCH, 4),
        search=torch.zeros(BATCH, FRAMES, 3, 64, 64),
        affine=torch.zeros(BATCH, FRAMES, 2, 3),
        timestamps=torch.zeros(BATCH, FRAMES),
        labels=labels or {},
    )
    if detail is not None:
        generator = torch.Generator().manual_seed(1)
        clip.detail = torch.randn(BATCH, FRAMES, 3, detail, detail, generator=generator)
        scale = 64 / detail
        shift = scale / 2 - 0.5  # both views begin at the same edge, half a pixel before their first centre
        clip.affine = torch.eye(2, 3).repeat(BATCH, FRAMES, 1, 1)
        clip.detail_affine = torch.tensor([[scale, 0, shift], [0, scale, shift]]).repeat(BATCH, FRAMES, 1, 1)
    return clip


def masked_loss(head: nn.Module, output: TaskOutput, labels: dict[str, Tensor]) -> Tensor:
    """The loss as the trainer takes it: weighted terms over the labelled frames."""
    terms = head.loss_terms(output, labels)
    assert set(terms) == set(head.term_weights)
    for name, value in terms.items():
        assert value.shape == (BATCH, FRAMES), name
        assert torch.isfinite(value[labels["valid"]]).all(), name
    zero = torch.zeros(BATCH, FRAMES)
    return sum(
        head.term_weights[name] * torch.where(labels["valid"], value, zero).sum()
        for name, value in terms.items()
    )


def check_head(head: nn.Module, answer: Callable[[Tokens], TaskOutput], labels: dict[str, Tensor]) -> None:
    """Check shapes, finite loss, gradients, empty labels, decoding, metrics and the state's round trip.

    Args:
        head: the head.
        answer: runs the head on tokens.
        labels: a full set of labels for `BATCH` clips of `FRAMES` frames.
    """
    head.train()
    tokens = make_tokens()
    output = answer(tokens)
    assert output.features is not None and output.features.shape[:2] == (BATCH, FRAMES)
    assert all(value.shape[:2] == (BATCH, FRAMES) for value in output.predictions.values())
    masked_loss(head, output, labels).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    assert float(tokens.search.grad.abs().sum()) > 0
    _check_empty_labels(head, answer, labels)
    _check_decoding(head, answer, labels)
    _check_state(head, answer)


def _check_empty_labels(
    head: nn.Module, answer: Callable[[Tokens], TaskOutput], labels: dict[str, Tensor]
) -> None:
    head.zero_grad()
    tokens = make_tokens()
    empty = {**labels, "valid": torch.zeros(BATCH, FRAMES, dtype=torch.bool)}
    loss = masked_loss(head, answer(tokens), empty)
    assert float(loss.detach()) == 0.0
    loss.backward()
    assert tokens.search.grad is None or float(tokens.search.grad.abs().max()) == 0.0


def _check_decoding(
    head: nn.Module, answer: Callable[[Tokens], TaskOutput], labels: dict[str, Tensor]
) -> None:
    head.eval()
    with torch.no_grad():
        output = answer(make_tokens())
    small = TaskOutput(None, {name: output.predictions[name] for name in head.decode_keys})
    answers = head.decode(small)
    assert len(answers) == BATCH and all(len(row) == FRAMES for row in answers)
    metrics = head.metrics()
    metrics.update(output, labels)
    scores = metrics.compute()
    assert scores and all(isinstance(value, float) for value in scores.values())
    metrics.reset()


def _check_state(head: nn.Module, answer: Callable[[Tokens], TaskOutput]) -> None:
    head.eval()
    with torch.no_grad():
        before = answer(make_tokens()).predictions
        state = {name: value.clone() for name, value in head.state_dict().items()}
        for parameter in head.parameters():
            parameter.add_(1.0)
        head.load_state_dict(state)
        after = answer(make_tokens()).predictions
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
