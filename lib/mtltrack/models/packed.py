"""Layers on a CPU whose weights lie as oneDNN wants them, for passes without gradient.

For every product oneDNN first brings the weights into its own blocked layout, and in lower precision autocast
first rounds them: work on 100 million numbers at each frame, always with the same result. Packed layers do it
once, at their first call. The arithmetic stays the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import Tensor, nn
from torch.nn.utils import skip_init

from mtltrack.core.kernels import ONEDNN, is_onednn, using
from mtltrack.models.layers.winograd import pays, suits, transformed_weight, winograd_conv


def pack(net: nn.Module, dtype: torch.dtype = torch.float32) -> None:
    """Let the linear layers and convolutions of a network keep their weights packed.

    The modules stay the objects that they are, with their parameters, names and hooks; only their class
    changes, as with torch's parametrizations. Passes that need a gradient, other devices and other types of
    numbers go the usual way, and weights that were changed in place are packed anew, so that a packed network
    can be used like any other. It holds its weights twice. In float32, convolutions of 3 x 3 that gain by it
    take Winograd's form.

    Args:
        net: any network; it computes the same as before.
        dtype: of the products: float32 while oneDNN multiplies such (see `kernels.using`), or what autocast
            is told around the calls.
    """
    for module in _all_modules(net):
        packed = _packed_class(module, dtype)
        if packed is None or (type(module) is packed and getattr(module, "packed_dtype", dtype) == dtype):
            continue  # left as it is, or packed like this already
        module.__class__ = packed
        if isinstance(module, _PackedWeights):
            module.forget(dtype)


def unpack(net: nn.Module) -> None:
    """Undo `pack`; what isn't packed stays as it is."""
    for module in _all_modules(net):
        if type(module) in _UNPACKED:
            for name in _PackedWeights.OWN:
                vars(module).pop(name, None)
            module.__class__ = _UNPACKED[type(module)]


@contextmanager
def unpacked(net: nn.Module) -> Iterator[None]:
    """Let a packed network compute as if it weren't while the context lasts; packed weights are kept."""
    before = {module: type(module) for module in _all_modules(net) if type(module) in _UNPACKED}
    for module, packed in before.items():
        module.__class__ = _UNPACKED[packed]
    try:
        yield
    finally:
        for module, packed in before.items():
            module.__class__ = packed


def packing_type(device: torch.device, lowered: torch.dtype | None) -> torch.dtype | None:
    """Return the type of products for which packing pays on a device, None where it doesn't or can't be done.

    Args:
        device: where the network runs.
        lowered: what autocast computes in, None without it. Packed float32 products are oneDNN's, so that
            they are for those alone who have chosen it, see `mtltrack.core.kernels`.
    """
    dtype = lowered or (torch.float32 if is_onednn() else None)
    pays = device.type == "cpu" and dtype in (torch.float32, torch.bfloat16)
    return dtype if pays and can_pack() else None


def pack_where_faster(device: torch.device, lowered: torch.dtype | None, *nets: nn.Module) -> None:
    """Pack networks where that pays, see `packing_type`."""
    dtype = packing_type(device, lowered)
    if dtype is not None:
        for net in nets:
            pack(net, dtype)


def can_pack() -> bool:
    """Return whether this torch has the operations, tried out on small products; draws no random numbers."""
    linear = skip_init(nn.Linear, 8, 8)
    convolution = skip_init(nn.Conv2d, 8, 8, 3, padding=1)
    for parameter in (*linear.parameters(), *convolution.parameters()):
        nn.init.constant_(parameter, 0.5)
    rows, maps = torch.arange(16.0).view(2, 8), torch.arange(128.0).view(1, 8, 4, 4)
    try:
        with torch.inference_mode(), using(ONEDNN):
            for layer, x in ((linear, rows), (convolution, maps)):
                wanted = layer(x)
                pack(layer)
                if not torch.allclose(layer(x), wanted, atol=1e-5):
                    return False
    except (AttributeError, RuntimeError, ValueError):  # they are not part of torch's public interface
        return False
    return True


def _all_modules(net: nn.Module) -> list[nn.Module]:
    """Return all modules, those of a tracker's history too, some of which are only registered there."""
    history = getattr(net, "history", None)
    extra = history.modules() if isinstance(history, nn.Module) else ()
    return list(dict.fromkeys([*net.modules(), *extra]))


def _packed_class(module: nn.Module, dtype: torch.dtype) -> type[nn.Module] | None:
    """Return the class that packing makes of a module's, None where it stays."""
    packed = _PACKED.get(_UNPACKED.get(type(module), type(module)))
    if not isinstance(module, nn.Conv2d) or packed is None:
        return packed
    if dtype == torch.float32 and suits(module) and pays(module.in_channels, module.out_channels):
        return WinogradConv2d
    numbers = not isinstance(module.padding, str)  # oneDNN's operation doesn't know "same" and "valid"
    return packed if numbers and module.padding_mode == "zeros" else None


class _PackedWeights(nn.Module):
    """What packed layers share: the packed weights, and when they may be used."""

    OWN = ("packed_dtype", "_packed", "_packed_bias", "_packed_mark")
    weight: nn.Parameter
    bias: nn.Parameter | None

    def forget(self, dtype: torch.dtype) -> None:
        """Drop the packed weights; the next call packs them as `dtype`."""
        self.packed_dtype = dtype
        self._packed: Tensor | None = None
        self._packed_bias: Tensor | None = None
        self._packed_mark: tuple[int, ...] = ()

    def applies(self, x: Tensor) -> bool:
        """Return whether the product is one that the packed weights are for."""
        if x.device.type != "cpu" or x.numel() == 0:
            return False
        if isinstance(self, nn.Conv2d) and x.dim() != 4:  # an image without a batch
            return False
        own = [self.weight] if self.bias is None else [self.weight, self.bias]
        if torch.is_grad_enabled() and (x.requires_grad or any(item.requires_grad for item in own)):
            return False
        if any(item.is_inference() for item in own):  # nothing tells when such are written to
            return False
        if self.packed_dtype == torch.float32 and not is_onednn():
            return False
        lowered = torch.is_autocast_enabled("cpu")
        return (torch.get_autocast_dtype("cpu") if lowered else x.dtype) == self.packed_dtype

    def packed(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the packed weights and the bias, packed anew if the weights have changed."""
        mark = _mark(self.weight) + (() if self.bias is None else _mark(self.bias))
        if self._packed is None or mark != self._packed_mark:
            with torch.no_grad():
                self._packed = self._pack(self.weight.to(self.packed_dtype), x)
                self._packed_bias = None if self.bias is None else self.bias.detach().to(self.packed_dtype)
            self._packed_mark = mark
        return self._packed, self._packed_bias

    def _pack(self, weight: Tensor, x: Tensor) -> Tensor:
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        """Leave the packed weights out of copies: they have no form outside this process."""
        return {**self.__dict__, "_packed": None, "_packed_bias": None, "_packed_mark": ()}


def _mark(tensor: Tensor) -> tuple[int, ...]:
    """Return what changes when a tensor is replaced, moved or written to."""
    return tensor.data_ptr(), tensor._version


class PackedLinear(_PackedWeights, nn.Linear):
    """A linear layer with packed weights, (..., in) -> (..., out)."""

    def forward(self, x: Tensor) -> Tensor:
        return self._product(x, ("none", [], "")) if self.applies(x) else super().forward(x)

    def with_gelu(self, x: Tensor) -> Tensor:
        """Return GELU of the layer's result, applied while the product is written."""
        return self._product(x, ("gelu", [], "none")) if self.applies(x) else F.gelu(super().forward(x))

    def _product(self, x: Tensor, after: tuple[str, list[float], str]) -> Tensor:
        weight, bias = self.packed(x)
        return torch.ops.mkldnn._linear_pointwise(x.to(self.packed_dtype), weight, bias, *after)

    def _pack(self, weight: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002 - good for any number of rows
        return torch.ops.mkldnn._reorder_linear_weight(weight)


class PackedConv2d(_PackedWeights, nn.Conv2d):
    """A convolution with packed weights, (B, Cin, H, W) -> (B, Cout, H', W')."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.applies(x):
            return super().forward(x)
        weight, bias = self.packed(x)
        return torch.ops.mkldnn._convolution_pointwise(
            x.to(self.packed_dtype), weight, bias, self.padding, self.stride, self.dilation, self.groups,
            "none", [], "",
        )  # fmt: skip

    def _pack(self, weight: Tensor, x: Tensor) -> Tensor:
        return torch._C._nn.mkldnn_reorder_conv2d_weight(
            weight.to_mkldnn(), self.padding, self.stride, self.dilation, self.groups, list(x.shape)
        )


class WinogradConv2d(_PackedWeights, nn.Conv2d):
    """A convolution of 3 x 3 in Winograd's form, (B, Cin, H, W) -> (B, Cout, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return winograd_conv(x, *self.packed(x)) if self.applies(x) else super().forward(x)

    def _pack(self, weight: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002 - the same for all maps
        return transformed_weight(weight)


class PackedMlp(Mlp):
    """timm's perceptron whose first layer applies an exact GELU itself, (B, N, C) -> (B, N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        first = self.fc1
        joined = isinstance(self.act, nn.GELU) and self.act.approximate == "none"
        if not (joined and isinstance(first, PackedLinear)) or _is_watched(first) or _is_watched(self.act):
            return super().forward(x)
        return self.drop2(self.fc2(self.norm(self.drop1(first.with_gelu(x)))))


def _is_watched(module: nn.Module) -> bool:
    """Return whether somebody hooked into the module's own calls."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


_PACKED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: PackedLinear,
    nn.Conv2d: PackedConv2d,
    Mlp: PackedMlp,
}
_UNPACKED = {**{packed: plain for plain, packed in _PACKED.items()}, WinogradConv2d: nn.Conv2d}
