import copy
from collections.abc import Iterator

import pytest
import torch
from timm.layers import Mlp
from torch import nn

from mtltrack.core.kernels import DEFAULT, ONEDNN, using
from mtltrack.models.packed import (
    PackedConv2d,
    PackedLinear,
    PackedMlp,
    WinogradConv2d,
    can_pack,
    pack,
    unpack,
    unpacked,
)

pytestmark = [
    pytest.mark.skipif(not can_pack(), reason="this torch has no packed weights"),
    pytest.mark.usefixtures("onednn_is_float32"),
]


class Small(nn.Module):
    """A convolution, a perceptron and a layer that two names lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(16, 16, 1, groups=4, bias=False)
        self.mlp = Mlp(16, 32)
        self.head = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 5, bias=False))
        self.same = self.head[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.grouped(self.convolution(x)).flatten(2).transpose(1, 2)
        return self.head(tokens + self.mlp(tokens)) + self.same(tokens)


@pytest.fixture(autouse=True)
def _onednn() -> Iterator[None]:
    with using(ONEDNN):
        yield


@pytest.fixture
def small() -> Small:
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(2, 3, 10, 12, generator=torch.Generator().manual_seed(1))


def test_a_packed_network_computes_the_same(small: Small, image: torch.Tensor) -> None:
    before = dict(small.named_parameters())
    with torch.inference_mode():
        wanted, narrow = small(image), small(image[:1, :, :5])
        pack(small)
        torch.testing.assert_close(small(image), wanted, atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(small(image[:1, :, :5]), narrow, atol=2e-6, rtol=1e-5)
    assert type(small.mlp) is PackedMlp and type(small.mlp.fc1) is PackedLinear
    assert type(small.convolution) is PackedConv2d and small.same is small.head[1]
    after = dict(small.named_parameters())
    assert list(before) == list(after) and all(before[name] is after[name] for name in after)


def test_the_packed_weights_are_what_is_used(small: Small, image: torch.Tensor) -> None:
    pack(small)
    with torch.inference_mode():
        wanted = small(image)
        small.same._packed_bias = torch.ones(5)
        torch.testing.assert_close(small(image), wanted + 2)
    with unpacked(small), torch.inference_mode():
        torch.testing.assert_close(small(image), wanted)
    with torch.inference_mode():  # they were kept
        torch.testing.assert_close(small(image), wanted + 2)


def test_unpacking_leaves_nothing_behind(small: Small, image: torch.Tensor) -> None:
    def content() -> dict[str, object]:
        modules = small.named_modules()
        return {name: (type(m), set(vars(m)), set(m._parameters), set(m._buffers)) for name, m in modules}

    before = content()
    pack(small)
    with torch.inference_mode():
        small(image)
    unpack(small)
    assert content() == before
    unpack(small)  # again: nothing to do


def test_packing_twice_changes_the_type_of_the_products(small: Small, image: torch.Tensor) -> None:
    with torch.inference_mode():
        wanted = small(image)
        pack(small, torch.bfloat16)
        pack(small)
        assert torch.allclose(small(image), wanted, atol=1e-5)
        assert small.same.packed_dtype == torch.float32


def test_packing_again_keeps_what_is_packed(small: Small, image: torch.Tensor) -> None:
    """Several trackers may share a network."""
    pack(small)
    with torch.inference_mode():
        small(image)
    held = small.same._packed
    pack(small)
    assert held is not None and small.same._packed is held


def test_float32_weights_are_left_where_onednn_was_not_chosen(small: Small, image: torch.Tensor) -> None:
    pack(small)
    with using(DEFAULT), torch.inference_mode():
        small(image)
    assert small.same._packed is None


def test_large_convolutions_take_winograds_form() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(160, 160, 3, padding=1), nn.Conv2d(160, 160, 3, padding=1, stride=2))
    x = torch.randn(2, 160, 9, 7)
    with torch.inference_mode():
        wanted = net.double()(x.double())
        net.float()
        pack(net)
        torch.testing.assert_close(net(x).double(), wanted, atol=2e-6, rtol=1e-5)
        names = set(net.state_dict())
        assert names == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert [type(layer) for layer in net] == [WinogradConv2d, PackedConv2d]
    pack(net, torch.bfloat16)
    assert [type(layer) for layer in net] == [PackedConv2d, PackedConv2d]
    unpack(net)
    assert [type(layer) for layer in net] == [nn.Conv2d, nn.Conv2d]


def test_changed_weights_are_packed_anew(small: Small, image: torch.Tensor) -> None:
    pack(small)
    with torch.inference_mode():
        before = small(image)
    with torch.no_grad():
        small.head[1].weight.mul_(3.0)
        small.convolution.bias.add_(1.0)
    with torch.inference_mode():
        after = small(image)
        with unpacked(small):
            torch.testing.assert_close(after, small(image), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(before, after)


def test_bfloat16_is_what_autocast_computes(small: Small, image: torch.Tensor) -> None:
    pack(small, torch.bfloat16)
    with torch.inference_mode():
        with unpacked(small), torch.autocast("cpu", dtype=torch.bfloat16):
            rough = small(image).float()
        with unpacked(small):
            exact = small(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(small(image).float(), rough, atol=0.02, rtol=0.02)
            with torch.autocast("cpu", enabled=False):  # a layer that is kept in full precision
                torch.testing.assert_close(small(image), exact)
        torch.testing.assert_close(small(image), exact)


def test_gradients_pass_as_without_packing(small: Small, image: torch.Tensor) -> None:
    wanted = torch.autograd.grad(small(image).sum(), list(small.parameters()))
    pack(small)
    got = torch.autograd.grad(small(image).sum(), list(small.parameters()))
    for ours, plain in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, plain)
    small.requires_grad_(False)
    (into,) = torch.autograd.grad(small(image.requires_grad_()).sum(), image)  # through frozen layers
    assert into.abs().sum() > 0
    assert small.same._packed is None  # nothing of this could use packed weights


def test_frozen_layers_are_packed_in_training_too(small: Small, image: torch.Tensor) -> None:
    small.requires_grad_(False)
    wanted = small(image)
    pack(small)
    torch.testing.assert_close(small(image), wanted, atol=2e-6, rtol=1e-5)
    assert small.same._packed is not None


def test_an_empty_batch_is_no_problem(small: Small) -> None:
    pack(small)
    with torch.inference_mode():
        assert small.head(torch.zeros(0, 16)).shape == (0, 5)


def test_a_used_network_can_be_copied(small: Small, image: torch.Tensor) -> None:
    pack(small)
    with torch.inference_mode():
        wanted = small(image)
        again = copy.deepcopy(small)
        assert again.same._packed is None and again.same.weight is not small.same.weight
        torch.testing.assert_close(again(image), wanted)


@pytest.mark.parametrize("activation", [nn.GELU(approximate="tanh"), nn.ReLU()])
def test_only_the_exact_gelu_is_joined(activation: nn.Module) -> None:
    torch.manual_seed(0)
    mlp = Mlp(8, 16).eval()
    mlp.act = activation
    with torch.inference_mode():
        wanted = mlp(torch.ones(2, 8))
        pack(mlp)
        torch.testing.assert_close(mlp(torch.ones(2, 8)), wanted)


def test_trying_out_draws_no_random_number() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert can_pack() and torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("fault", [AttributeError("no such operation"), RuntimeError("not built")])
def test_a_torch_without_the_operations_is_told_apart(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise fault

    monkeypatch.setattr(PackedLinear, "_pack", fail)
    assert not can_pack()


def test_operations_that_compute_something_else_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = PackedLinear.forward
    monkeypatch.setattr(PackedLinear, "forward", lambda self, x: forward(self, x) + 1e-3)
    assert not can_pack()


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_by_name_is_left_to_torch(padding: str) -> None:
    torch.manual_seed(0)
    layer, maps = nn.Conv2d(2, 3, 5, padding=padding), torch.randn(1, 2, 7, 6)
    with torch.inference_mode():
        wanted = layer(maps)
        pack(layer)
        torch.testing.assert_close(layer(maps), wanted)


@pytest.mark.parametrize("channels", [4, 150])  # plain, Winograd's form
def test_an_image_without_a_batch(channels: int) -> None:
    torch.manual_seed(0)
    layer, image = nn.Conv2d(channels, channels, 3, padding=1), torch.randn(channels, 4, 5)
    with torch.inference_mode():
        wanted = layer(image)
        pack(layer)
        torch.testing.assert_close(layer(image), wanted)


def test_a_bias_alone_may_learn() -> None:
    layer = nn.Linear(4, 2)
    layer.weight.requires_grad_(False)
    pack(layer)
    (gradient,) = torch.autograd.grad(layer(torch.ones(3, 4)).sum(), layer.bias)
    assert gradient.tolist() == [3, 3]


@pytest.mark.parametrize("name", ["fc1", "act", "fc2"])
def test_hooks_of_a_perceptrons_layers_are_called(name: str) -> None:
    called: list[str] = []
    mlp = Mlp(8, 16).eval()
    pack(mlp)
    mlp.get_submodule(name).register_forward_hook(lambda *_: called.append(name))
    with torch.inference_mode():
        mlp(torch.ones(2, 8))
    assert called == [name]


def test_weights_made_for_inference_alone_are_not_packed() -> None:
    """Such tensors don't count how often they were written to."""
    with torch.inference_mode():
        layer = nn.Linear(4, 2)
        pack(layer)
        layer(torch.ones(1, 4))
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)
        assert layer(torch.ones(1, 4)).tolist() == [[4, 4]]
