import copy
from collections.abc import Callable

import pytest
import torch
from timm.layers import Mlp
from torch import nn

from mtltrack.models import packed as packed_module
from mtltrack.models.packed import PackedConv2d, PackedLinear, can_pack, packed_copy

pytestmark = pytest.mark.skipif(not can_pack(), reason="this torch has no packed weights")


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


@pytest.fixture
def small() -> Small:
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(2, 3, 10, 12, generator=torch.Generator().manual_seed(1))


def test_a_packed_copy_computes_the_same(small: Small, image: torch.Tensor) -> None:
    twin = packed_copy(small)
    with torch.inference_mode():
        torch.testing.assert_close(twin(image), small(image), atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(twin(image[:1, :, :5]), small(image[:1, :, :5]), atol=2e-6, rtol=1e-5)
    assert isinstance(twin.mlp.fc1, PackedLinear) and twin.mlp.fc1.gelu
    assert isinstance(twin.convolution, PackedConv2d)
    assert type(small.mlp.fc1) is nn.Linear and isinstance(small.mlp.act, nn.GELU)


def test_the_copy_shares_parameters_and_names(small: Small) -> None:
    twin = packed_copy(small)
    own, theirs = dict(small.named_parameters()), dict(twin.named_parameters())
    assert list(own) == list(theirs) and all(own[name] is theirs[name] for name in own)
    assert list(small.state_dict()) == list(twin.state_dict())


def test_changed_weights_are_packed_anew(small: Small, image: torch.Tensor) -> None:
    twin = packed_copy(small)
    with torch.inference_mode():
        before = twin(image)
    with torch.no_grad():
        small.head[1].weight.mul_(3.0)
        small.convolution.bias.add_(1.0)
    with torch.inference_mode():
        after = twin(image)
        torch.testing.assert_close(after, small(image), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(before, after)


def test_bfloat16_is_what_autocast_computes(small: Small, image: torch.Tensor) -> None:
    twin = packed_copy(small, torch.bfloat16)
    with torch.inference_mode():
        exact = small(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(twin(image).float(), small(image).float(), atol=0.02, rtol=0.02)
            with torch.autocast("cpu", enabled=False):  # a layer that is kept in full precision
                torch.testing.assert_close(twin(image), exact)
        torch.testing.assert_close(twin(image), exact)


def test_gradients_pass_as_in_the_original(small: Small, image: torch.Tensor) -> None:
    twin = packed_copy(small)
    wanted = torch.autograd.grad(small(image).sum(), list(small.parameters()))
    got = torch.autograd.grad(twin(image).sum(), list(twin.parameters()))
    for ours, plain in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, plain)


def test_an_empty_batch_is_no_problem(small: Small) -> None:
    twin = packed_copy(small)
    with torch.inference_mode():
        assert twin.head(torch.zeros(0, 16)).shape == (0, 5)


def test_a_used_copy_can_be_copied(small: Small, image: torch.Tensor) -> None:
    twin = packed_copy(small)
    with torch.inference_mode():
        wanted = twin(image)
        again = copy.deepcopy(twin)
        torch.testing.assert_close(again(image), wanted)


@pytest.mark.parametrize("activation", [nn.GELU(approximate="tanh"), nn.ReLU()])
def test_only_the_exact_gelu_is_joined(activation: nn.Module) -> None:
    torch.manual_seed(0)
    mlp = Mlp(8, 16).eval()
    mlp.act = activation
    twin = packed_copy(nn.Sequential(mlp))
    assert not twin[0].fc1.gelu
    with torch.inference_mode():
        torch.testing.assert_close(twin(torch.ones(2, 8)), mlp(torch.ones(2, 8)))


@pytest.mark.parametrize("fault", [AttributeError("no such operation"), RuntimeError("not built")])
def test_a_torch_without_the_operations_is_told_apart(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise fault

    monkeypatch.setattr(PackedLinear, "_pack", fail)
    assert not can_pack()


def test_operations_that_compute_something_else_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    forward: Callable[..., torch.Tensor] = PackedLinear.forward
    monkeypatch.setattr(packed_module.PackedLinear, "forward", lambda self, x: forward(self, x) + 1e-3)
    assert not can_pack()
