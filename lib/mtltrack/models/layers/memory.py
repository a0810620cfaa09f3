"""The prompt memory: what the tracker remembers of earlier frames, and how it is read."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mtltrack.core.precision import in_full

LARGEST_HEAD = 256  # fused attention on GPUs takes heads up to this width
CHUNK_SCORES = 2**20  # affinities at once on a CPU: 4 MB, which stay in its cache
LARGEST_EXPONENT = 60.0  # e^60 times a million tokens is far from the end of float32, and of bfloat16
SHORTEST_CHUNK = 256  # memory tokens; below, the products are too thin
LENGTH_UNIT = 256.0  # of the coarse part of a squared length: a power of two, which divides without rounding


def extend_keys(keys: Tensor) -> Tensor:
    """Append the squared length of each key, (B, N, Ck) -> (B, N, Ck + 1); of short floats (B, N, Ck + 2).

    Keys of one scene lie close together and far from zero, so that a similarity is a small difference of
    large numbers: with |k|^2 = 600, bfloat16 rounds it by up to 2, and the read-out is 14 % off. So the
    length comes in two parts then, of `LENGTH_UNIT` and of 1; the products are added in float32.
    """
    lengths = in_full(keys).pow(2).sum(-1, keepdim=True)
    if lengths.dtype == keys.dtype:
        return torch.cat([keys, lengths], dim=-1)
    coarse = (lengths / LENGTH_UNIT).to(keys.dtype)
    with torch.no_grad():  # the whole gradient passes through the coarse part
        fine = (lengths - LENGTH_UNIT * coarse.to(lengths.dtype)).to(keys.dtype)
    return torch.cat([keys, coarse, fine], dim=-1)


def _extend_query(query: Tensor, parts: int) -> Tensor:
    """Append what weighs the parts of the keys' lengths, (..., M, Ck) -> (..., M, Ck + parts)."""
    weights = query.new_full((*query.shape[:-1], parts), -1.0)
    if parts > 1:
        weights[..., 0] = -LENGTH_UNIT
    return torch.cat([2 * query, weights], dim=-1)


def read_memory(query: Tensor, extended_keys: Tensor, values: Tensor) -> Tensor:
    """Read the memory by the L2 similarity of STCN (Cheng et al., NeurIPS 2021, section 3.2).

    The affinity `(2 q.k - |k|^2) / sqrt(Ck)` is a dot product once each key carries its squared length as
    one more channel and each query a -1 there, and it is never stored for the whole memory: a GPU reads by
    fused attention, a CPU in chunks of memory tokens.

    Args:
        query: (B, M, Ck).
        extended_keys: (B, N, Ck + 1) or (B, N, Ck + 2), see `extend_keys`.
        values: (B, N, Cv).

    Returns:
        (B, M, Cv) softmax-weighted sums of the values.
    """
    if query.device.type != "cpu":
        return _read_fused(query, extended_keys, values)
    if len(query) > 1:
        return _read_in_chunks(query, extended_keys, values)
    return _read_in_chunks(query[0], extended_keys[0], values[0])[None]  # products of matrices are faster


def _read_fused(query: Tensor, extended_keys: Tensor, values: Tensor) -> Tensor:
    """Read by fused attention.

    Its kernels want keys as wide as values: the values are split into heads, and the short keys are padded
    with zeros.
    """
    key_width, width = query.shape[-1], extended_keys.shape[-1]
    value_width = values.shape[-1]
    heads = math.ceil(value_width / LARGEST_HEAD)
    extended_query = _extend_query(query, width - key_width)
    padding = max(math.ceil(value_width / heads) - width, 0)
    width += padding
    q = _padded(extended_query, padding)[:, None].expand(-1, heads, -1, -1)  # (B, heads, M, width)
    k = _padded(extended_keys, padding)[:, None].expand(-1, heads, -1, -1)
    v = _padded(values, heads * width - value_width).unflatten(-1, (heads, width)).transpose(1, 2)
    read = F.scaled_dot_product_attention(q, k, v, scale=1 / math.sqrt(key_width))
    return read.transpose(1, 2).flatten(2)[..., :value_width]  # (B, M, Cv)


def _read_in_chunks(query: Tensor, extended_keys: Tensor, values: Tensor) -> Tensor:
    """Read some memory tokens at a time.

    The first chunk gives each query the affinity `top` relative to which weights are taken. An affinity is at
    most |q|^2 / sqrt(Ck), that of a key which equals the query: where this is near enough to `top`, no weight
    can overflow, and the other chunks need no look at their largest affinities. Where it isn't, `top` follows
    them in a running softmax (Milakov and Gimelshein, arXiv 1805.02867). Affinities and sums are at least
    float32.

    Args:
        query: (..., M, Ck).
        extended_keys: (..., N, Ck + 1 or 2).
        values: (..., N, Cv).

    Returns:
        (..., M, Cv).
    """
    key_width = query.shape[-1]
    extended_query = in_full(_extend_query(query, extended_keys.shape[-1] - key_width)) / math.sqrt(key_width)
    chunk = max(CHUNK_SCORES * key_width // query.numel(), SHORTEST_CHUNK)
    chunks = zip(extended_keys.split(chunk, dim=-2), values.split(chunk, dim=-2), strict=True)
    keys, entries = next(chunks)
    with torch.autocast("cpu", enabled=False):
        affinity = extended_query @ in_full(keys).mT  # (..., M, n)
        with torch.no_grad():  # a softmax doesn't depend on what it is taken relative to
            top = affinity.amax(-1, keepdim=True)
            room = in_full(query).pow(2).sum(-1, keepdim=True) / math.sqrt(key_width) - top
        weights = affinity.sub_(top).exp_()
        total, read = weights.sum(-1, keepdim=True), _weighted(weights, entries)
        largest = 0.0 if values.dtype == torch.float16 else LARGEST_EXPONENT
        safe = room <= largest  # (B, M, 1): each query's own matter, whatever shares its batch
        fixed = keys.shape == extended_keys.shape or bool(safe.all())  # asked only where chunks follow
        relative_query = torch.cat([extended_query, -top], dim=-1)  # for keys with a 1 more
        for keys, entries in chunks:
            ones = F.pad(in_full(keys), (0, 1), value=1.0)
            affinity = relative_query @ ones.mT
            if not fixed:
                with torch.no_grad():
                    rise = affinity.amax(-1, keepdim=True).clamp_min_(0).masked_fill_(safe, 0)
                affinity = affinity.sub_(rise)
                fading = (-rise).exp()
                total, read = total * fading, read * fading
                relative_query = torch.cat([relative_query[..., :-1], relative_query[..., -1:] - rise], -1)
            weights = affinity.exp_()
            total, read = total + weights.sum(-1, keepdim=True), read + _weighted(weights, entries)
    return (read / total).to(values.dtype)


def _weighted(weights: Tensor, entries: Tensor) -> Tensor:
    """Return sums of values weighted in their type, (..., M, n) and (..., n, Cv) -> (..., M, Cv)."""
    return in_full(weights.to(entries.dtype) @ entries)


def _padded(tensor: Tensor, channels: int) -> Tensor:
    """Append zero channels; `F.pad` by nothing would still copy the whole memory."""
    return F.pad(tensor, (0, channels)) if channels else tensor


class PromptMemory:
    """Ring buffer of memory entries, one entry a written frame; the oldest is overwritten when it is full.

    The buffers are taken once, at the first write, and kept over `clear`.

    Args:
        capacity: entries at most (MODEL.MAX_MEM).
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"the memory needs room for at least one entry, MODEL.MAX_MEM is {capacity}")
        self.capacity = capacity
        self._written = self._tokens = self._key_width = 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    @property
    def count(self) -> int:
        """Entries held."""
        return min(self._written, self.capacity)

    def clear(self) -> None:
        """Forget every entry."""
        self._written = 0

    def write(self, keys: Tensor, values: Tensor) -> None:
        """Store one frame's entry.

        Args:
            keys: (B, N, Ck), N the same for every entry.
            values: (B, N, Cv).
        """
        extended = extend_keys(keys)
        batch, tokens, _ = extended.shape
        if (
            self._keys is None
            or self._keys.shape[::2] != extended.shape[::2]
            or (self._keys.device, self._keys.dtype) != (keys.device, keys.dtype)
        ):
            self._keys = extended.new_empty(batch, self.capacity * tokens, extended.shape[-1])
            self._values = values.new_empty(batch, self.capacity * tokens, values.shape[-1])
            self._written = 0
        assert self._values is not None
        slot = self._written % self.capacity
        span = slice(slot * tokens, (slot + 1) * tokens)
        self._keys[:, span] = extended
        self._values[:, span] = values
        self._written += 1
        self._tokens, self._key_width = tokens, keys.shape[-1]

    def read(self, query: Tensor) -> Tensor:
        """Read all entries, (B, M, Ck) -> (B, M, Cv).

        Raises:
            RuntimeError: nothing was written yet.
        """
        if self.count == 0 or self._keys is None or self._values is None:
            raise RuntimeError(
                "the prompt memory is empty: frames up to 10 read the template's memory instead"
            )
        used = self.count * self._tokens
        return read_memory(query, self._keys[:, :used], self._values[:, :used])

    def last(self) -> tuple[Tensor, Tensor]:
        """Return the newest entry: keys (B, N, Ck) and values (B, N, Cv)."""
        assert self._keys is not None and self._values is not None
        slot = (self._written - 1) % self.capacity
        span = slice(slot * self._tokens, (slot + 1) * self._tokens)
        return self._keys[:, span, : self._key_width], self._values[:, span]
