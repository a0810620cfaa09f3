"""Connectionist temporal classification: the loss of a text read column by column."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mtltrack.core.alphabets import BLANK
from mtltrack.core.precision import in_full
from mtltrack.core.registry import LOSSES


@LOSSES.register_module(name="CTC")
def ctc_loss(logits: Tensor, codes: Tensor, lengths: Tensor) -> Tensor:
    """Negative log probability of each text, per character.

    Graves et al., "Connectionist temporal classification", ICML 2006, equation 8: the probability of a text
    is the sum over all paths of columns that collapse to it (runs become one character, blanks vanish). Here
    each sample's value is divided by its number of characters, so that long texts don't weigh more; an empty
    text divides by 1. A text that the columns can't emit (`emittable`) would cost infinity; it gives 0 with
    zero gradient.

    Args:
        logits: (N, W, K) scores of the K classes in W columns, unbounded; class 0 is the blank. Taken to
            float32 first (float64 stays).
        codes: (N, L) int64 classes of the characters, from 1; anything behind a text's end.
        lengths: (N,) int64 number of characters, 0 to L.

    Returns:
        (N,) losses in nats a character.
    """
    log_probabilities = F.log_softmax(in_full(logits), dim=-1).transpose(0, 1)  # (W, N, K)
    columns = torch.full_like(lengths, logits.shape[1])
    loss = F.ctc_loss(
        log_probabilities, codes, columns, lengths, blank=BLANK, reduction="none", zero_infinity=True
    )
    return loss / lengths.clamp_min(1)


def emittable(codes: Tensor, lengths: Tensor, columns: int) -> Tensor:
    """Say which texts fit: length plus one blank between equal neighbours is at most the number of columns.

    Args:
        codes: (N, L) int64 classes, from 1.
        lengths: (N,) int64.
        columns: W of the logits.

    Returns:
        (N,) bool.
    """
    place = torch.arange(1, codes.shape[1], device=codes.device)
    equal = (codes[:, 1:] == codes[:, :-1]) & (place < lengths[:, None])  # (N, L - 1)
    return lengths + equal.sum(1) <= columns
