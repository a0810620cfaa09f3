"""A copy of a network for the frame loop on a CPU, whose weights lie as oneDNN wants them.

For every product oneDNN first brings the weights into its own blocked layout, and in lower precision autocast
first rounds them: work on 100 million numbers at each frame, always with the same result. Here it is done
once, at the first call. The arithmetic stays the same.
"""

from __future__ import annotations

import copy
import math
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def can_pack() -> bool:
    """Return whether this torch has the operations, tried out on small products."""
    linear, convolution = nn.Linear(8, 8), nn.Conv2d(8, 8, 3, padding=1)
    try:
        with torch.inference_mode():
            rows, maps = torch.ones(2, 8), torch.ones(1, 8, 4, 4)
            same = torch.allclose(PackedLinear(linear, torch.float32)(rows), linear(rows), atol=1e-5)
            packed = PackedConv2d(convolution, torch.float32)
            return same and torch.allclose(packed(maps), convolution(maps), atol=1e-5)
    except (AttributeError, RuntimeError):  # they are not part of torch's public interface
        return False


def packed_copy(net: Network, dtype: torch.dtype = torch.float32) -> Network:
    """Return a network that computes the same and shares all parameters and buffers.

    Linear layers and convolutions keep their weights packed; a GELU between two layers is applied while the
    first one's product is written. Layers pack anew after a change of their weights in place.

    Args:
        net: on the CPU, in evaluation mode. It stays as it is.
        dtype: that of the products: float32, or what autocast is told around the calls.
    """
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())}
    twin = copy.deepcopy(net, shared)
    for module in list(twin.modules()):
        if isinstance(module, Mlp) and _is_plain_gelu(module.act) and type(module.fc1) is nn.Linear:
            module.fc1 = PackedLinear(module.fc1, dtype, gelu=True)
            module.act = nn.Identity()
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, PackedLinear(child, dtype))
            elif type(child) is nn.Conv2d and child.padding_mode == "zeros":
                setattr(module, name, PackedConv2d(child, dtype))
    return twin


def _is_plain_gelu(activation: nn.Module) -> bool:
    return isinstance(activation, nn.GELU) and activation.approximate == "none"


class _Packed(nn.Module):
    """What both kinds of layers share: the packed weights, and when they may be used."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    dtype: torch.dtype

    def _take_over(self, layer: nn.Module, dtype: torch.dtype) -> None:
        nn.Module.__init__(self)
        for name, value in vars(layer).items():
            if name not in ("training", "_parameters", "_buffers", "_modules") and not name.startswith("_"):
                setattr(self, name, value)
        self.weight, self.bias = layer.weight, layer.bias
        self.dtype = dtype
        self._packed: Tensor | None = None
        self._packed_bias: Tensor | None = None
        self._key: tuple[int, ...] = ()
        self.train(layer.training)

    def _applies(self, x: Tensor) -> bool:
        """Return whether the product is one that the packed weights are for."""
        if torch.is_grad_enabled() or x.device.type != "cpu" or x.numel() == 0:
            return False
        lowered = torch.is_autocast_enabled("cpu")
        return (torch.get_autocast_dtype("cpu") if lowered else x.dtype) == self.dtype

    def _weights(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the packed weights and the bias, packed anew if the weights have changed."""
        key = tuple(value for part in (self.weight, self.bias) if part is not None for value in _mark(part))
        if self._packed is None or key != self._key:
            self._packed = self._pack(self.weight.detach().to(self.dtype), x)
            self._packed_bias = None if self.bias is None else self.bias.detach().to(self.dtype)
            self._key = key
        return self._packed, self._packed_bias

    def _pack(self, weight: Tensor, x: Tensor) -> Tensor:
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        """Leave the packed weights out of copies: they have no other form than in this process."""
        return {**self.__dict__, "_packed": None, "_packed_bias": None, "_key": ()}


def _mark(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


class PackedLinear(_Packed, nn.Linear):
    """A linear layer with packed weights, (..., in) -> (..., out).

    Args:
        linear: whose parameters it shares.
        dtype: of the product.
        gelu: apply GELU to the result.
    """

    def __init__(self, linear: nn.Linear, dtype: torch.dtype, gelu: bool = False) -> None:
        self._take_over(linear, dtype)
        self.gelu = gelu

    def forward(self, x: Tensor) -> Tensor:
        if not self._applies(x):
            result = F.linear(x, self.weight, self.bias)
            return F.gelu(result) if self.gelu else result
        weight, bias = self._weights(x)
        after = ("gelu", [], "none") if self.gelu else ("none", [], "")
        return torch.ops.mkldnn._linear_pointwise(x.to(self.dtype), weight, bias, *after)

    def _pack(self, weight: Tensor, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._reorder_linear_weight(weight, math.prod(x.shape[:-1]))


class PackedConv2d(_Packed, nn.Conv2d):
    """A convolution with packed weights, (B, Cin, H, W) -> (B, Cout, H', W').

    Args:
        convolution: whose parameters it shares.
        dtype: of the product.
    """

    def __init__(self, convolution: nn.Conv2d, dtype: torch.dtype) -> None:
        self._take_over(convolution, dtype)

    def forward(self, x: Tensor) -> Tensor:
        if not self._applies(x):
            return self._conv_forward(x, self.weight, self.bias)
        weight, bias = self._weights(x)
        return torch.ops.mkldnn._convolution_pointwise(
            x.to(self.dtype), weight, bias, self.padding, self.stride, self.dilation, self.groups,
            "none", [], "",
        )  # fmt: skip

    def _pack(self, weight: Tensor, x: Tensor) -> Tensor:
        return torch._C._nn.mkldnn_reorder_conv2d_weight(
            weight.to_mkldnn(), self.padding, self.stride, self.dilation, self.groups, list(x.shape)
        )
