"""What of a gradient arrives at the other end of a stack, and over which paths it can go."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from flow.designs import DESIGNS, UNIT, build_stack


class Setting(NamedTuple):
    """A design at a depth (layers) and a gain (in Kaiming's deviation), with its norms or without."""

    design: str
    norm: bool
    gain: float
    depth: int


class Sizes(NamedTuple):
    """`batch` samples of `width` channels and `side` x `side` places (or so many tokens)."""

    batch: int
    width: int
    side: int


class Flow(NamedTuple):
    """One stack's gradient; decades are log10 of a ratio, 0 where the norm is kept.

    Attributes:
        input_decades: of |dL/dx at the input| to |dL/dx at the output|.
        weight_decades: of the first block's weight gradient to the last block's.
    """

    input_decades: float
    weight_decades: float


class Measured(NamedTuple):
    """A setting and what was found with each seed."""

    setting: Setting
    flows: list[Flow]


def norm_of(tensors: Sequence[Tensor]) -> float:
    """Return the Euclidean norm over all entries, summed in float64 (float32 overflows at 1e19)."""
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


def decades(above: float, below: float) -> float:
    """Return log10(above / below): -inf where nothing arrives, inf where it overflows."""
    if math.isnan(above) or math.isnan(below) or math.isinf(above) or below == 0:
        return math.inf
    return math.log10(above) - math.log10(below) if above > 0 else -math.inf


def weights_of(block: nn.Module) -> list[nn.Parameter]:
    """Return the weights of a block's layers, without biases and norms."""
    return [parameter for parameter in block.parameters() if parameter.dim() > 1]


def measure_flow(stack: nn.Sequential, x: Tensor, cotangent: Tensor) -> Flow:
    """Send a gradient back through a stack of blocks, L = sum(cotangent * stack(x))."""
    x = x.detach().requires_grad_()
    first, last = weights_of(stack[0]), weights_of(stack[-1])
    found = torch.autograd.grad(stack(x), [x, *first, *last], cotangent)
    shaped = norm_of(found[1 : 1 + len(first)]), norm_of(found[1 + len(first) :])
    return Flow(decades(norm_of(found[:1]), norm_of([cotangent])), decades(*shaped))


def draw_normal(design: str, sizes: Sizes, generator: torch.Generator) -> Tensor:
    """Draw normal numbers of the shape that a design takes and gives."""
    places = sizes.side * sizes.side
    if DESIGNS[design].hands_on == "tokens":
        return torch.randn((sizes.batch, places, sizes.width), generator=generator)
    return torch.randn((sizes.batch, sizes.width, sizes.side, sizes.side), generator=generator)


def draw_input(design: str, sizes: Sizes, generator: torch.Generator) -> Tensor:
    """Draw an input like what the design's blocks hand on, so that the first block is like all others."""
    numbers = draw_normal(design, sizes, generator)
    return numbers.relu() if DESIGNS[design].hands_on == "relu" else numbers


def measure_setting(setting: Setting, sizes: Sizes, seed: int) -> Flow:
    """Draw weights, input and cotangent from a seed and measure."""
    generator = torch.Generator().manual_seed(seed)
    x = draw_input(setting.design, sizes, generator)
    cotangent = draw_normal(setting.design, sizes, generator)
    stack = build_stack(setting.design, setting.depth, sizes.width, setting.norm, setting.gain, generator)
    return measure_flow(stack, x, cotangent)


def measure_all(
    settings: Sequence[Setting], sizes: Sizes, seeds: int, told: Callable[[str], None]
) -> list[Measured]:
    """Measure every setting with the seeds 0, 1, ...; `told` hears of each that starts."""
    found = []
    for setting in settings:
        told(f"{setting.design}, {setting.depth} layers, gain {setting.gain:g}")
        found.append(Measured(setting, [measure_setting(setting, sizes, seed) for seed in range(seeds)]))
    return found


class Paths(NamedTuple):
    """Layers that a gradient passes from a block's output to its input, and the block's weights.

    Attributes:
        longest: 3x3 convolutions (linear layers of a transformer) on the longest path.
        shortest: the same on the shortest.
        shortest_all: on the shortest path, 1x1 convolutions counted too.
        parameters: weights of the block.
    """

    longest: int
    shortest: int
    shortest_all: int
    parameters: int


def count_paths(design: str, width: int) -> Paths:
    """Count by walking the graph that autograd built for one block."""
    generator = torch.Generator().manual_seed(0)
    stack = build_stack(design, UNIT, width, True, 1.0, generator)
    x = draw_input(design, Sizes(2, width, 4), generator).requires_grad_()
    output = stack(x)
    lengths = path_lengths(output, x, is_layer)
    everything = path_lengths(output, x, is_weighted)
    parameters = sum(weight.numel() for weight in weights_of(stack))
    return Paths(max(lengths), min(lengths), min(everything), parameters)


def is_weighted(node: Any) -> bool:
    """Say whether an operation multiplies by weights: a convolution or a linear layer."""
    return node.name().startswith(("ConvolutionBackward", "AddmmBackward"))


def is_layer(node: Any) -> bool:
    """Say whether an operation counts as a layer of the depth: a 3x3 convolution or a linear layer."""
    if node.name().startswith("ConvolutionBackward"):
        return bool(node._saved_weight.shape[-1] == 3)
    return is_weighted(node)


def path_lengths(output: Tensor, x: Tensor, counts: Callable[[Any], bool]) -> set[int]:
    """Return how many operations that count lie on the ways from an output back to a leaf `x`."""
    lengths: dict[Any, set[int]] = defaultdict(set)
    pending = [(output.grad_fn, 0)]
    while pending:
        node, length = pending.pop()
        if node is None or length in lengths[node]:
            continue
        lengths[node].add(length)
        here = length + counts(node)
        pending += [(following, here) for following, _ in node.next_functions]
    return next(found for node, found in lengths.items() if getattr(node, "variable", None) is x)
