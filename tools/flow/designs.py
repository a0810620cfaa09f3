"""Stacks of backbone blocks of equal depth and width, with random weights of a chosen gain.

A block maps (B, C, H, W) to the same shape and holds UNIT = 4 layers on its longest path; layers are 3x3
convolutions. 1x1 convolutions, which only mix channels, are not counted. The transformer block has tokens
(B, N, C), and its four layers are those that stand one after the other: values and projection of the
attention, the two of the MLP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtltrack.core.errors import ConfigError
from mtltrack.models.layers.blocks import OneStreamBlock

UNIT = 4  # layers of a block


class Unit(nn.Sequential):
    """Convolution, normalisation, ReLU; (B, in, H, W) -> (B, out, H, W).

    Padding is circular: zeros at the border would take part of the signal away in each layer, whatever the
    design.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, norm: bool) -> None:
        convolution = conv(channels_in, channels_out, kernel)
        super().__init__(convolution, batch_norm(channels_out, norm), nn.ReLU())


def conv(channels_in: int, channels_out: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(
        channels_in, channels_out, kernel, padding=kernel // 2, padding_mode="circular", bias=False
    )


def batch_norm(channels: int, norm: bool) -> nn.Module:
    """Return a batch norm that always uses the statistics of the batch, or nothing."""
    return nn.BatchNorm2d(channels, track_running_stats=False) if norm else nn.Identity()


class PlainBlock(nn.Sequential):
    """Four units one after the other, no shortcut."""

    def __init__(self, channels: int, norm: bool) -> None:
        super().__init__(*(Unit(channels, channels, 3, norm) for _ in range(UNIT)))


class PostActivation(nn.Module):
    """Deep Residual Learning for Image Recognition (He et al. 2016), figure 2: ReLU after the sum."""

    def __init__(self, channels: int, norm: bool) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            Unit(channels, channels, 3, norm), conv(channels, channels, 3), batch_norm(channels, norm)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.branch(x))


class PreActivation(nn.Module):
    """Identity Mappings in Deep Residual Networks (He et al. 2016), figure 1b: nothing after the sum."""

    def __init__(self, channels: int, norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [batch_norm(channels, norm), nn.ReLU(), conv(channels, channels, 3)]
        self.branch = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Bottleneck(nn.Module):
    """x + unit(unit(x)), both 3x3, as in Darknet and YOLOv8: the activation stands before the sum."""

    def __init__(self, channels: int, norm: bool) -> None:
        super().__init__()
        self.branch = nn.Sequential(Unit(channels, channels, 3, norm), Unit(channels, channels, 3, norm))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class CSPBlock(nn.Module):
    """CSPNet: A New Backbone that can Enhance Learning Capability of CNN (Wang et al. 2020), figure 2b.

    One half of the channels goes through the layers and a transition, the other goes past them; a second
    transition mixes both (equations 3: x_T, x_U). The layers are two bottlenecks rather than a dense block.
    """

    def __init__(self, channels: int, norm: bool) -> None:
        super().__init__()
        half = channels // 2
        self.layers = nn.Sequential(Bottleneck(half, norm), Bottleneck(half, norm), Unit(half, half, 1, norm))
        self.transition = Unit(channels, channels, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        past, through = x.chunk(2, dim=1)  # (B, C / 2, H, W)
        return self.transition(torch.cat([past, self.layers(through)], dim=1))


class ELANBlock(nn.Module):
    """YOLOv7: Trainable bag-of-freebies sets new state-of-the-art (Wang et al. 2022), figure 2c.

    Two 1x1 convolutions to half the channels, four 3x3 after one of them; what both and the second and the
    fourth 3x3 give is joined and mixed. The width is kept, where YOLOv7's first backbone stage doubles it.
    """

    def __init__(self, channels: int, norm: bool) -> None:
        super().__init__()
        half = channels // 2
        self.past, self.into = (Unit(channels, half, 1, norm) for _ in range(2))
        self.pairs = nn.ModuleList(
            nn.Sequential(Unit(half, half, 3, norm), Unit(half, half, 3, norm)) for _ in range(2)
        )
        self.transition = Unit(4 * half, channels, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        joined = [self.past(x), self.into(x)]
        for pair in self.pairs:
            joined.append(pair(joined[-1]))
        return self.transition(torch.cat(joined, dim=1))


class C2fBlock(nn.Module):
    """YOLOv8's block: as ELAN, with one 1x1 convolution that is split in two, and bottlenecks as pairs."""

    def __init__(self, channels: int, norm: bool) -> None:
        super().__init__()
        half = channels // 2
        self.into = Unit(channels, 2 * half, 1, norm)
        self.bottlenecks = nn.ModuleList(Bottleneck(half, norm) for _ in range(2))
        self.transition = Unit(4 * half, channels, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        joined = list(self.into(x).chunk(2, dim=1))
        for bottleneck in self.bottlenecks:
            joined.append(bottleneck(joined[-1]))
        return self.transition(torch.cat(joined, dim=1))


def vit_block(channels: int, norm: bool) -> nn.Module:
    """Return the tracker's own block, four heads; without its layer norms where `norm` is false."""
    block = OneStreamBlock(channels, num_heads=4)
    if not norm:
        block.norm1, block.norm2 = nn.Identity(), nn.Identity()
    return block


class Design(NamedTuple):
    """A way to build backbones.

    Attributes:
        block: makes one block from its channels and whether it normalises.
        tier: place in the textbook ranking, larger is better; None where the ranking doesn't speak of it.
        hands_on: what leaves a block: "relu" or "sum", (B, C, H, W) with a ReLU or a sum as last operation;
            "tokens", (B, N, C).
        summary: what it is, in a few words.
    """

    block: Callable[[int, bool], nn.Module]
    tier: int | None
    hands_on: str
    summary: str


def residual_block(channels: int, norm: bool) -> nn.Module:
    return nn.Sequential(*(PostActivation(channels, norm) for _ in range(2)))


def preact_block(channels: int, norm: bool) -> nn.Module:
    return nn.Sequential(*(PreActivation(channels, norm) for _ in range(2)))


DESIGNS = {
    "plain": Design(PlainBlock, 0, "relu", "four conv-norm-ReLU"),
    "residual": Design(residual_block, 1, "relu", "two ResNet v1 blocks, ReLU after the sum"),
    "preact": Design(preact_block, 1, "sum", "two ResNet v2 blocks, nothing after the sum"),
    "csp": Design(CSPBlock, 2, "relu", "half the channels past two bottlenecks"),
    "elan": Design(ELANBlock, 2, "relu", "1x1, 1x1, two pairs of 3x3, joined"),
    "c2f": Design(C2fBlock, 2, "relu", "split 1x1, two bottlenecks, joined"),
    "vit": Design(vit_block, None, "tokens", "the tracker's own: attention, MLP"),
}


def build_stack(
    design: str, depth: int, width: int, norm: bool, gain: float, generator: torch.Generator
) -> nn.Sequential:
    """Return `depth` layers of a design; element i of the result is block i.

    Every weight is normal with deviation gain * sqrt(2 / fan-in) (Kaiming's for ReLU where gain is 1), every
    bias 0; norms scale by 1.

    Raises:
        ConfigError: depth or width doesn't fit whole blocks, or there is no such design.
    """
    if design not in DESIGNS:
        raise ConfigError(f"design {design}: there is none of that name; choose of {', '.join(DESIGNS)}")
    if depth < UNIT or depth % UNIT:
        raise ConfigError(f"depth {depth}: a block has {UNIT} layers; give a multiple of {UNIT}")
    if width < UNIT or width % UNIT:
        raise ConfigError(f"width {width}: give a multiple of {UNIT}, for halves and for heads")
    stack = nn.Sequential(*(DESIGNS[design].block(width, norm) for _ in range(depth // UNIT)))
    draw_weights(stack, gain, generator)
    return stack.train()


def draw_weights(network: nn.Module, gain: float, generator: torch.Generator) -> None:
    """Draw the weights of all convolutions and linear layers of a network; see `build_stack`."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            with torch.no_grad():
                module.weight.normal_(0, gain * (2 / fan_in) ** 0.5, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
