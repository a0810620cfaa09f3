"""What the processes of a training tell one another: gradients, flags, and the state they begin with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from mtltrack.training.weighting import world_size

BUCKET_BYTES = 25 * 2**20  # a few large messages cost less than many small ones


def any_rank(flags: Sequence[bool], device: torch.device) -> list[bool]:
    """Return for each flag whether it is set on any rank: a collective call, every rank must make it.

    Args:
        flags: equally many on every rank.
        device: where the ranks exchange tensors.
    """
    if world_size() == 1:
        return list(flags)
    values = torch.tensor([float(flag) for flag in flags], device=device)
    torch.distributed.all_reduce(values, op=torch.distributed.ReduceOp.MAX)
    return [value > 0 for value in values.tolist()]


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Average the gradients over the ranks, where there are several: a collective call.

    Made after the backward passes, when the ranks know that all of them came to their end: a rank that fails
    in the middle of one would leave the others waiting if the gradients travelled meanwhile.

    Args:
        parameters: with gradients, the same on every rank.
    """
    if world_size() == 1:
        return
    for gradients in buckets([parameter.grad for parameter in parameters if parameter.grad is not None]):
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        flat /= world_size()
        pieces = flat.split([gradient.numel() for gradient in gradients])
        for gradient, piece in zip(gradients, pieces, strict=True):
            gradient.copy_(piece.view_as(gradient))


def buckets(tensors: Sequence[Tensor], most_bytes: int = BUCKET_BYTES) -> Iterator[list[Tensor]]:
    """Yield tensors in their order, in lists of one type and of about `most_bytes` at most."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (size + tensor.nbytes > most_bytes or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket


@torch.no_grad()
def share_state(model: nn.Module, *, buffers_only: bool = False) -> None:
    """Give every rank rank 0's parameters and buffers, batch statistics among them: a collective call."""
    if world_size() == 1:
        return
    tensors = [buffer for buffer in model.buffers()]
    if not buffers_only:
        tensors += [parameter.data for parameter in model.parameters()]
    for tensor in tensors:
        torch.distributed.broadcast(tensor, 0)
