"""How several processes share the batches of a validation, and the samples of an epoch."""

from __future__ import annotations

from collections.abc import Iterator

from mtltrack.data.sampler import EpochSampler


class BatchSampler(EpochSampler):
    """Gives a rank some of the batches that a single process would make, one after the other.

    Put together in the order of the ranks, they are the batches of a single process, each once; the first
    ranks have one more where the number doesn't divide.

    Args:
        length: samples in all.
        batch_size: of the loader.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(self, length: int, batch_size: int, rank: int, world_size: int) -> None:
        super().__init__(length, rank=rank, world_size=world_size)
        batches = -(-length // batch_size)
        first, end = (-(-number * batches // world_size) for number in (rank, rank + 1))
        self.samples = range(first * batch_size, min(end * batch_size, length))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for number in self.samples:
            yield self.epoch, number

    def __len__(self) -> int:
        return len(self.samples)
