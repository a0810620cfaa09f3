import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtltrack.models.layers.winograd import pays, suits, transformed_weight, winograd_conv

SHAPES = [  # B, Cin, Cout, H, W
    (1, 3, 5, 8, 8),
    (2, 5, 7, 7, 9),
    (3, 4, 2, 6, 11),
    (2, 13, 1, 1, 1),
    (1, 1, 3, 1, 6),
    (2, 6, 6, 2, 1),
    (2, 1, 2, 61, 33),  # 1,054 tiles, in bands of 374, 374 and 306
]


def maps_and_weights(
    batch: int, channels: int, out_channels: int, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return (
        torch.randn(batch, channels, height, width, dtype=torch.float64),
        torch.randn(out_channels, channels, 3, 3, dtype=torch.float64),
        torch.randn(out_channels, dtype=torch.float64),
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_result_is_the_plain_convolution(shape: tuple[int, int, int, int, int]) -> None:
    x, weight, bias = maps_and_weights(*shape)
    transformed = transformed_weight(weight)
    found, wanted = winograd_conv(x, transformed, bias), F.conv2d(x, weight, bias, padding=1)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    without = F.conv2d(x, weight, padding=1)
    torch.testing.assert_close(winograd_conv(x, transformed), without, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("channels", [16, 200])
def test_rounding_in_float32_is_that_of_the_plain_convolution(channels: int) -> None:
    x, weight, bias = (tensor.float() for tensor in maps_and_weights(2, channels, 40, 13, 14))
    exact = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)

    def error(result: torch.Tensor) -> float:
        return ((result - exact).pow(2).mean().sqrt() / exact.std()).item()

    ours = error(winograd_conv(x, transformed_weight(weight), bias))
    assert ours < 3 * error(F.conv2d(x, weight, bias, padding=1))
    assert ours < 2e-6


def test_layout_of_the_maps_does_not_matter() -> None:
    x, weight, bias = maps_and_weights(2, 5, 6, 8, 10)
    transformed = transformed_weight(weight)
    wanted = winograd_conv(x, transformed, bias)
    assert wanted.is_contiguous(memory_format=torch.channels_last)
    for other in (x.contiguous(memory_format=torch.channels_last), x.mT.contiguous().mT):
        assert torch.equal(winograd_conv(other, transformed, bias), wanted)


def test_weight_of_a_centre_tap_is_worked_out_by_hand() -> None:
    """G e2 is (0, 1/2, -1/2, 0), and the transformed kernel its product with itself."""
    weight = torch.zeros(1, 2, 3, 3)
    weight[0, 1, 1, 1] = 4
    found = transformed_weight(weight)
    assert found.shape == (16, 2, 1)
    assert not found[:, 0].any()
    assert found[:, 1, 0].view(4, 4).tolist() == [[0, 0, 0, 0], [0, 1, -1, 0], [0, -1, 1, 0], [0, 0, 0, 0]]


def test_gradient_is_refused() -> None:
    x, weight, bias = maps_and_weights(1, 2, 3, 4, 4)
    transformed = transformed_weight(weight.requires_grad_())
    assert not transformed.requires_grad
    for arguments in ((x.clone().requires_grad_(), transformed), (x, transformed, bias.requires_grad_())):
        with pytest.raises(RuntimeError, match="don't support automatic differentiation"):
            winograd_conv(*arguments)


@pytest.mark.parametrize(
    ("layer", "wanted"),
    [
        (nn.Conv2d(4, 8, 3, padding=1), True),
        (nn.Conv2d(4, 8, 3, padding="same", bias=False), True),
        (nn.Conv2d(4, 8, 3), False),
        (nn.Conv2d(4, 8, 3, padding=1, stride=2), False),
        (nn.Conv2d(4, 8, 3, padding=2, dilation=2), False),
        (nn.Conv2d(4, 8, 3, padding="same", dilation=2), False),
        (nn.Conv2d(4, 8, 3, padding=1, groups=2), False),
        (nn.Conv2d(4, 8, 3, padding=1, padding_mode="reflect"), False),
        (nn.Conv2d(4, 8, 1), False),
        (nn.ConvTranspose2d(4, 8, 3, padding=1), False),
        (nn.Linear(4, 8), False),
    ],
)
def test_layers_that_it_suits(layer: nn.Module, wanted: bool) -> None:
    assert suits(layer) is wanted


def test_wide_layers_pay() -> None:
    """Cin Cout / (Cin + Cout) is to be 75."""
    assert pays(150, 150)
    assert pays(768, 84)
    assert not pays(149, 150)
    assert not pays(768, 83)


def test_other_kernels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"are \(Cout, Cin, 3, 3\); these are \(8, 4, 1, 1\)"):
        transformed_weight(torch.ones(8, 4, 1, 1))


def test_maps_with_other_channels_are_refused() -> None:
    with pytest.raises(RuntimeError, match="size"):
        winograd_conv(torch.ones(1, 1, 4, 4), transformed_weight(torch.ones(2, 3, 3, 3)))
