"""Winograd's form of a 3 x 3 convolution, for inference in float32 on a CPU.

Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016, section 4.1, F(2 x 2, 3 x 3):
the output is cut into tiles of 2 x 2, each of which takes a patch d of 4 x 4 of the input, neighbours
overlapping by two,

    Y = A^T [sum over input channels of (G g G^T) * (B^T d B)] A

          | 1  0 -1  0 |        |  1    0    0  |
    B^T = | 0  1  1  0 |    G = | 1/2  1/2  1/2 |    A^T = | 1  1  1  0 |
          | 0 -1  1  0 |        | 1/2 -1/2  1/2 |          | 0  1 -1 -1 |
          | 0  1  0 -1 |        |  0    0    1  |

with the product taken entry by entry. For each of the 16 entries the sum over channels is a matrix product of
(tiles, Cin) and (Cin, Cout): 16 multiplications where the plain form has 36 a tile. The transforms' factors
are 1 and 1/2, so that in float32 the result rounds about as much as the plain form's does. Larger tiles take
fewer multiplications, but have factors that round more.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

WORTHWHILE_CHANNELS = 75  # measured on maps of 12 x 12 to 48 x 48
TILES_AT_ONCE = 400  # more of them leave the cache, with fewer a product mostly waits for its weights
BIAS_ENTRY = 5  # entry (1, 1) of the 4 x 4: A^T makes it part of all four pixels of a tile with factor 1


def suits(convolution: nn.Module) -> bool:
    """Return whether a layer is a convolution of 3 x 3 with stride 1, zero padding 1 and a single group."""
    return (
        isinstance(convolution, nn.Conv2d)
        and convolution.kernel_size == (3, 3)
        and convolution.stride == (1, 1)
        and convolution.padding in ((1, 1), "same")
        and convolution.dilation == (1, 1)
        and convolution.groups == 1
        and convolution.padding_mode == "zeros"
    )


def pays(in_channels: int, out_channels: int) -> bool:
    """Return whether this form is the faster one, where matrix products run about as fast as convolutions.

    It is compared with the plain form whose weights are packed once (see `mtltrack.models.packed`).

    The transforms take time in proportion to Cin + Cout for each pixel, and save some in proportion to
    Cin * Cout. They pay where Cin Cout / (Cin + Cout) is large enough.

    Args:
        in_channels: Cin.
        out_channels: Cout.
    """
    return in_channels * out_channels >= WORTHWHILE_CHANNELS * (in_channels + out_channels)


@torch.no_grad()
def transformed_weight(weight: Tensor) -> Tensor:
    """Return G g G^T of every kernel, (Cout, Cin, 3, 3) -> (16, Cin, Cout); 16 / 9 of the weight's bytes.

    Raises:
        ValueError: the kernels aren't 3 x 3.
    """
    if weight.dim() != 4 or weight.shape[2:] != (3, 3):
        raise ValueError(f"weights of 3 x 3 kernels are (Cout, Cin, 3, 3); these are {tuple(weight.shape)}")
    taps = weight.permute(2, 3, 1, 0).contiguous()  # (3, 3, Cin, Cout)
    taps = _spread_taps(_spread_taps(taps, 0), 1)  # (4, 4, Cin, Cout)
    return taps.flatten(0, 1)


def winograd_conv(x: Tensor, transformed: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve with padding 1 and stride 1, (B, Cin, H, W) -> (B, Cout, H, W).

    Fastest on maps in the channels-last layout; the result is in that layout. Torch refuses it where a
    gradient is asked for.

    Args:
        x: maps of any layout.
        transformed: from `transformed_weight`.
        bias: (Cout,).
    """
    batch, channels, height, width = x.shape
    out_channels = transformed.shape[2]
    rows, columns = _tiles_along(height), _tiles_along(width)
    padded = x.new_zeros(batch, 2 * rows + 2, 2 * columns + 2, channels)
    padded[:, 1 : height + 1, 1 : width + 1] = x.permute(0, 2, 3, 1)
    result = x.new_empty(batch, rows, 2, columns, 2, out_channels)
    band = math.ceil(rows / math.ceil(batch * rows * columns / TILES_AT_ONCE))
    for first in range(0, rows, band):
        last = min(first + band, rows)
        _convolve_band(padded[:, 2 * first : 2 * last + 2], transformed, bias, result[:, first:last])
    result = result.view(batch, 2 * rows, 2 * columns, out_channels)
    return result[:, :height, :width].permute(0, 3, 1, 2)


def _convolve_band(padded: Tensor, transformed: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Convolve rows of tiles, (B, 2 h + 2, 2 w + 2, Cin) -> `out` (B, h, 2, w, 2, Cout)."""
    batch, rows, _, columns, _, out_channels = out.shape
    channels = padded.shape[-1]
    upright = padded.new_empty(4, batch, rows, 2 * columns + 2, channels)
    _transform_input(padded, 1, upright)
    patches = padded.new_empty(4, 4, batch, rows, columns, channels)
    _transform_input(upright, 3, patches.transpose(0, 1))

    products = torch.bmm(patches.view(16, -1, channels), transformed)  # (16, tiles, Cout)
    if bias is not None:
        products[BIAS_ENTRY] += bias
    products = products.view(4, 4, batch, rows, columns, out_channels)

    upright = padded.new_empty(2, 4, batch, rows, columns, out_channels)
    _transform_output(products, upright)
    _transform_output(upright.transpose(0, 1), out.permute(4, 2, 0, 1, 3, 5))


def _tiles_along(pixels: int) -> int:
    return (pixels + 1) // 2


def _spread_taps(taps: Tensor, axis: int) -> Tensor:
    """Apply G along an axis of 3, which gets 4."""
    first, middle, last = taps.unbind(axis)
    outer, middle = (first + last) / 2, middle / 2
    return torch.stack([first, outer + middle, outer - middle, last], dim=axis)


def _transform_input(maps: Tensor, axis: int, out: Tensor) -> None:
    """Apply B^T along an axis of 2 n + 2 pixels: the four entries lead in `out`, where the axis has n."""
    count = maps.shape[axis] // 2 - 1
    even, odd = maps.unflatten(axis, (count + 1, 2)).unbind(axis + 1)
    first, third = even.narrow(axis, 0, count), even.narrow(axis, 1, count)
    second, fourth = odd.narrow(axis, 0, count), odd.narrow(axis, 1, count)
    torch.sub(first, third, out=out[0])
    torch.add(second, third, out=out[1])
    torch.sub(third, second, out=out[2])
    torch.sub(second, fourth, out=out[3])


def _transform_output(entries: Tensor, out: Tensor) -> None:
    """Apply A^T along the leading axis of 4, which has 2 in `out`."""
    torch.add(entries[1], entries[2], out=out[0])
    out[0] += entries[0]
    torch.sub(entries[1], entries[2], out=out[1])
    out[1] -= entries[3]
