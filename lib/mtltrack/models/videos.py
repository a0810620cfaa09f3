"""Videos that share a batch, each at a frame of its own: what they read from their memories and write there.

With V videos a batch of B rows holds B / V rows of each in turn, as a rule one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from mtltrack.models.history import HistoryNetwork
from mtltrack.models.layers.memory import PromptMemory

Entry = tuple[Tensor, Tensor]  # keys (b, N, Ck) and values (b, N, Cv)


def rows_of(chosen: Sequence[int], videos: int, tensor: Tensor) -> Tensor:
    """Return the rows of some of the videos; of all of them, the tensor itself."""
    if len(chosen) == videos:
        return tensor
    parts = tensor.chunk(videos)
    return torch.cat([parts[video] for video in chosen])


def read_memories(
    history: HistoryNetwork,
    key: Tensor,
    template: tuple[Tensor, Tensor, Tensor],
    early: Sequence[int],
    memories: Sequence[PromptMemory],
) -> Tensor:
    """Read for each video what it reads at its frame.

    Templates have entries of one size and are read together; memories differ in length and are read in turn.

    Args:
        history: the network.
        key: (B, N, Ck), see `HistoryNetwork.search_key`.
        template: what `HistoryNetwork.template_entry` takes, of all videos.
        early: numbers of the videos that read the template; the others read their memory.
        memories: the videos' own.

    Returns:
        (B, N, Cv).
    """
    videos = len(memories)
    found: dict[int, Tensor] = {}
    if early:
        rows = partial(rows_of, early, videos)
        read = history.read(rows(key), *history.template_entry(*map(rows, template)))
        found.update(zip(early, read.chunk(len(early)), strict=True))
    for video, query in enumerate(key.chunk(videos)):
        if video not in found:
            found[video] = memories[video].read(query)
    return found[0] if videos == 1 else torch.cat([found[video] for video in range(videos)])


def new_entries(
    history: HistoryNetwork,
    key: Tensor,
    frame: tuple[Tensor, Tensor, Tensor],
    removed: Sequence[Tensor],
    written: Sequence[int],
    videos: int,
) -> dict[int, Entry]:
    """Make the memory entries of the videos whose frame is written, all in one pass of the mask encoder.

    Args:
        history: the network.
        key: (B, N, Ck), see `HistoryNetwork.search_key`.
        frame: search (B, 3, H, W), its maps (B, C, h, w) and the predicted boxes_cxcywh (B, 4).
        removed: (B, n) numbers of the tokens that each elimination removed.
        written: numbers of these videos.
        videos: how many share the batch.

    Returns:
        number of the video -> its entry.
    """
    if not written:
        return {}
    rows = partial(rows_of, written, videos)
    values = history.search_value(*map(rows, frame), [rows(numbers) for numbers in removed])
    keys = rows(key)
    count = len(written)
    return dict(zip(written, zip(keys.chunk(count), values.chunk(count), strict=True), strict=True))
