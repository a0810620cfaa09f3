"""When the memory of a device doesn't hold a batch: smaller micro-batches, more of them, the same step."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from accelerate.utils import gather_object

from mtltrack.core.errors import TrainingError
from mtltrack.core.types import Clip
from mtltrack.training.ranks import any_rank
from mtltrack.training.weighting import world_size

Answer = TypeVar("Answer")
ADVICE = (
    "lower DATA.SEARCH.NUMBER or DATA.SEARCH.SIZE, or set TRAIN.CHECKPOINT_ACTIVATIONS: true or "
    "TRAIN.PRECISION: bf16"
)


class OutOfMemory(Exception):
    """Some ranks ran out of memory in a part of a step; raised on all ranks at the same place.

    Attributes:
        texts: what happened, one a rank that it happened to.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__("; ".join(texts))
        self.texts = list(texts)


class MicroBatches:
    """How many clips go through the model at once: all of a batch until that is too many.

    Attributes:
        most: clips at once; None for whole batches.
    """

    def __init__(self) -> None:
        self.most: int | None = None

    def split(self, clips: Sequence[Clip]) -> list[Clip]:
        """Return the batches of a step in pieces of at most `most` clips, in their order."""
        if self.most is None:
            return list(clips)
        return [piece for clip in clips for piece in pieces_of(clip, self.most)]

    def halve(self, clips: Sequence[Clip], happened: Sequence[str]) -> str:
        """Halve the micro-batch, the same on every rank, and return what to tell people.

        Args:
            clips: the batches of the step that failed.
            happened: see `OutOfMemory`.

        Raises:
            TrainingError: a single clip is too many.
        """
        size = self._largest(clips)
        if size == 1:
            raise TrainingError(f"a single clip doesn't fit into memory ({'; '.join(happened)}); {ADVICE}")
        self.most = -(-size // 2)
        return (
            f"out of memory with {size} clips at once ({'; '.join(happened)}): the step is made again, and "
            f"from now on at most {self.most} go through the model at once, in more micro-batches; the "
            "samples of a step and their weights stay the same"
        )

    def _largest(self, clips: Sequence[Clip]) -> int:
        here = max(piece.batch_size for piece in self.split(clips))
        if world_size() == 1:
            return here
        return max(gather_object([here]))

    def state_dict(self) -> dict[str, Any]:
        return {"most": self.most}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.most = state["most"]


def pieces_of(clip: Clip, most: int) -> list[Clip]:
    """Return a batch in pieces of at most `most` clips."""
    if clip.batch_size <= most:
        return [clip]
    starts = range(0, clip.batch_size, most)
    return [clip.rows(range(start, min(start + most, clip.batch_size))) for start in starts]


class Attempt:
    """Makes a step part by part; after the first that runs out of memory, the others aren't made.

    A failure may happen on one rank alone, so the ranks `agree` before anything that they do together.

    Args:
        device: where the ranks exchange tensors.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.failure: str | None = None

    def run(self, work: Callable[..., Answer], *arguments: Any) -> Answer | None:
        """Return `work(*arguments)`, None after a failure."""
        if self.failure is not None:
            return None
        try:
            return work(*arguments)
        except torch.OutOfMemoryError as error:
            self.failure = (str(error).splitlines() or ["out of memory"])[0][:200]
        return None

    def agree(self, flags: Sequence[bool] = ()) -> list[bool]:
        """Return which flags are set on any rank: a collective call.

        Args:
            flags: equally many on every rank.

        Raises:
            OutOfMemory: on every rank when one of them failed.
        """
        failed, *found = any_rank([self.failure is not None, *flags], self.device)
        if failed:
            texts = [] if self.failure is None else [self.failure]
            if world_size() > 1:
                rank = torch.distributed.get_rank()
                texts = gather_object([f"rank {rank}: {text}" for text in texts])
            raise OutOfMemory(texts)
        return found


def release(device: torch.device) -> None:
    """Give memory back that nothing refers to any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
