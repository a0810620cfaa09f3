"""HIPTrack's historical prompt network: remember where the target was, and prompt the search region with it.

Cai et al., HIPTrack: Visual Tracking with Historical Prompts, CVPR 2024, section 3.3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtltrack.models.layers.checkpointing import run_checkpointed
from mtltrack.models.layers.elimination import python_slice_mask
from mtltrack.models.layers.memory import extend_keys, read_memory
from mtltrack.models.layers.residual import MaskEncoder, PreActivationBlock

TEMPLATE_SCALE = 2  # the template and its features are enlarged to the search region's scale


class KeyProjection(nn.Module):
    """Project features to memory keys, (B, C, h, w) -> (B, Ck, h, w)."""

    def __init__(self, channels: int, key_dim: int) -> None:
        super().__init__()
        self.key_proj = nn.Conv2d(channels, key_dim, 3, padding=1)
        nn.init.orthogonal_(self.key_proj.weight)
        nn.init.zeros_(self.key_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.key_proj(x)


class HistoricalPromptEncoder(nn.Module):
    """Holder of the mask encoder under its published name `HIP.encoder`."""

    def __init__(self, encoder: MaskEncoder) -> None:
        super().__init__()
        self.encoder = encoder


def memory_mask(
    boxes_cxcywh: Tensor, size: int, removed: list[Tensor], grid: int, correct: bool = False
) -> Tensor:
    """Rasterise predicted boxes as the masks that are written to the memory; no gradient passes.

    The published code clamps x1 below at 0, y1 only above at the size, x2 only above and y2 only below, and
    then slices with these numbers, so that a negative y1 counts from the far end and usually empties the
    mask. That is what the published weights were trained with, so it is the default.

    Args:
        boxes_cxcywh: (B, 4) in [0, 1] of the search crop.
        size: pixels of the crop.
        removed: (B, n) numbers of eliminated tokens; their pixels are cleared.
        grid: tokens along each side of the crop.
        correct: clamp all four sides into the crop instead (MODEL.CORRECT_MASK).

    Returns:
        (B, size, size) float, 0 or 1.
    """
    centre, half = boxes_cxcywh[:, :2], 0.5 * boxes_cxcywh[:, 2:]
    corners = (torch.cat([centre - half, centre + half], dim=1) * size).detach().trunc()  # (B, 4)
    mask = _box_mask(corners, size, correct)
    if removed:
        kept = mask.new_ones(len(mask), grid * grid).scatter(1, torch.cat(removed, dim=1), 0.0)
        cell = size // grid
        kept = kept.view(-1, grid, 1, grid, 1).expand(-1, -1, cell, -1, cell)
        mask = mask * kept.reshape(-1, size, size)
    return mask


def template_memory_mask(boxes_xywh: Tensor, size: int, correct: bool = False) -> Tensor:
    """Rasterise the template's boxes, (B, 4) xywh in [0, 1] -> (B, size, size); see `memory_mask`."""
    pixels = (boxes_xywh * size).detach().trunc()
    return _box_mask(torch.cat([pixels[:, :2], pixels[:, :2] + pixels[:, 2:]], dim=1), size, correct)


def _box_mask(corners: Tensor, size: int, correct: bool) -> Tensor:
    x1, y1, x2, y2 = (corners.clamp(0, size) if correct else corners).unbind(1)
    x1, y1, x2, y2 = x1.clamp_min(0), y1.clamp_max(size), x2.clamp_max(size), y2.clamp_min(0)
    rows, columns = python_slice_mask(y1, y2, size), python_slice_mask(x1, x2, size)
    return (rows[:, :, None] & columns[:, None, :]).float()


def as_tokens(maps: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C)."""
    return maps.flatten(2).transpose(1, 2)


class HistoryNetwork(nn.Module):
    """The historical prompt network.

    Its four children carry the published names, which stand at the top level of the state dict: the tracker
    adopts them (see `Tracker`).

    Args:
        channels: C of the backbone.
        key_dim: Ck.
        value_dim: Cv; None for half of C.
        encoder_width: channels of the mask encoder's first stage.
        correct_mask: see `memory_mask`.

    `checkpoint_activations`, False at first, runs the mask encoder as `run_checkpointed` does.
    """

    def __init__(
        self,
        channels: int,
        key_dim: int = 64,
        value_dim: int | None = None,
        encoder_width: int = 64,
        correct_mask: bool = False,
    ) -> None:
        super().__init__()
        value_dim = channels // 2 if value_dim is None else value_dim
        if not 0 < value_dim < channels:
            raise ValueError(
                f"MODEL.HISTORY.VALUE_DIM is {value_dim}; it must lie between 1 and C - 1 = {channels - 1}"
            )
        self.HIP = HistoricalPromptEncoder(MaskEncoder(channels, value_dim, encoder_width))
        self.key_proj = KeyProjection(channels, key_dim)
        self.key_comp = nn.Conv2d(channels, channels - value_dim, 3, padding=1)
        self.searchRegionFusion = PreActivationBlock(channels, channels)
        self.correct_mask = correct_mask
        self.checkpoint_activations = False

    def _encode(self, image: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
        encoder = self.HIP.encoder
        if self.checkpoint_activations:
            return run_checkpointed(encoder, encoder, image, maps, mask)
        return encoder(image, maps, mask)

    def template_entry(
        self, template: Tensor, template_maps: Tensor, boxes_xywh: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Make the memory entry of the template, which the first frames read.

        Args:
            template: (B, 3, Hz, Wz) normalised.
            template_maps: (B, C, hz, wz) backbone features of the template.
            boxes_xywh: (B, 4) target box in [0, 1] of the template.

        Returns:
            keys (B, N, Ck) and values (B, N, Cv), N = 4 hz wz.
        """
        image, maps = _enlarge(template), _enlarge(template_maps)
        mask = template_memory_mask(boxes_xywh, image.shape[-1], self.correct_mask)
        value = self._encode(image, maps, mask)
        return as_tokens(self.key_proj(maps)), as_tokens(value)

    def search_key(self, search_maps: Tensor) -> Tensor:
        """Return the key of a search frame, (B, C, h, w) -> (B, N, Ck): its query, and its entry's key."""
        return as_tokens(self.key_proj(search_maps))

    def search_value(
        self, search: Tensor, search_maps: Tensor, boxes_cxcywh: Tensor, removed: list[Tensor]
    ) -> Tensor:
        """Return the memory value of a search frame, (B, N, Cv).

        Args:
            search: (B, 3, H, W) normalised.
            search_maps: (B, C, h, w) backbone features.
            boxes_cxcywh: (B, 4) box that the head predicted, in [0, 1]; no gradient passes through it.
            removed: (B, n) numbers of the tokens that elimination removed.
        """
        mask = memory_mask(boxes_cxcywh, search.shape[-1], removed, search_maps.shape[-1], self.correct_mask)
        return as_tokens(self._encode(search, search_maps, mask))

    def prompt(self, search_maps: Tensor, read: Tensor) -> Tensor:
        """Join what was read with compressed search features: (B, C, h, w), (B, N, Cv) -> (B, C, h, w)."""
        readout = read.transpose(1, 2).unflatten(2, search_maps.shape[-2:])  # (B, Cv, h, w)
        return torch.cat([readout, self.key_comp(search_maps)], dim=1)

    def fuse(self, search_maps: Tensor, prompt: Tensor) -> Tensor:
        """Prompt the search features, (B, C, h, w) and (B, C, h, w) -> (B, C, h, w)."""
        return self.searchRegionFusion(search_maps + prompt)

    @staticmethod
    def read(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Read entries that aren't in a `PromptMemory`: (B, M, Ck), (B, N, Ck), (B, N, Cv) -> (B, M, Cv)."""
        return read_memory(query, extend_keys(keys), values)


def _enlarge(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=TEMPLATE_SCALE, mode="bilinear", align_corners=True)
