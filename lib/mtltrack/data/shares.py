"""How several processes share the batches of a validation, and the samples of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch.utils.data import Dataset

from mtltrack.data.collate import Sample
from mtltrack.data.sampler import ClipDataset, EpochSampler

FILLER = -1  # stands for a sample where a rank has none left


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


class WholeEpochSampler(EpochSampler):
    """Gives every sample of an epoch exactly once over all ranks, and every rank as many batches.

    Shares differ by one sample at most. Where that gives some ranks a batch more than others, these get a
    `FILLER` for it.

    Args:
        length: samples an epoch.
        batch_size: of the loader, which must not leave out a last batch.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(self, length: int, batch_size: int, rank: int, world_size: int) -> None:
        super().__init__(length, rank=rank, world_size=world_size)
        most = -(-length // world_size)  # samples of the first rank
        lacks_a_batch = -(-most // batch_size) > -(-self._share() // batch_size)
        self.fillers = int(lacks_a_batch)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        yield from super().__iter__()
        for _ in range(self.fillers):
            yield self.epoch, FILLER

    def __len__(self) -> int:
        return self._share() + self.fillers


class FilledClips(Dataset[Sample]):
    """Clips, and for the number `FILLER` one without any label: it weighs nothing and isn't counted.

    Args:
        clips: the samples proper.
    """

    def __init__(self, clips: ClipDataset) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: tuple[int, int]) -> Sample:
        epoch, number = index
        if number != FILLER:
            return self.clips[index]
        sample = self.clips[epoch, 0]
        labels = {
            task: {**entry, "valid": torch.zeros_like(entry["valid"])}
            for task, entry in sample.labels.items()
        }
        return replace(sample, labels=labels, source={})
