import pytest
import torch

from mtltrack.core.kernels import DEFAULT, ONEDNN, using
from mtltrack.models.layers import attention as attention_module
from mtltrack.models.layers.attention import AttentionByHead, attend

pytestmark = pytest.mark.usefixtures("onednn_is_float32")


@pytest.fixture(autouse=True)
def _few_tokens_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_module, "FEWEST_TOKENS", 1)


def by_the_formula(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    weights = torch.einsum("bhnd,bhmd->bhnm", query, key) / query.shape[-1] ** 0.5
    mixed = torch.einsum("bhnm,bhmd->bnhd", weights.exp() / weights.exp().sum(-1, keepdim=True), value)
    return mixed.flatten(2)


@pytest.mark.parametrize("kernel", [DEFAULT, ONEDNN])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)])
def test_attention_is_the_formula(kernel: str, dtype: torch.dtype, bound: float) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(2, 3, 20, 8).to(dtype) for _ in range(3)]
    exact = by_the_formula(*(part.double() for part in parts))
    with using(kernel), torch.no_grad():
        ours = attend(*parts)
        assert (ours.dtype, ours.stride()) == (dtype, (480, 24, 1))
    assert ours.shape == (2, 20, 24) and ours.dtype == dtype
    assert float((ours.double() - exact).norm() / exact.norm()) < bound


@pytest.mark.parametrize("kernel", [DEFAULT, ONEDNN])
def test_attention_passes_its_gradient(kernel: str) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(1, 2, 5, 4, requires_grad=True) for _ in range(3)]
    exact = [part.detach().double().requires_grad_() for part in parts]
    with using(kernel):
        ours = torch.autograd.grad(attend(*parts).pow(2).sum(), parts)
    wanted = torch.autograd.grad(by_the_formula(*exact).pow(2).sum(), exact)
    for got, want in zip(ours, wanted, strict=True):
        torch.testing.assert_close(got.double(), want, atol=1e-5, rtol=1e-5)


def test_logits_stay_float32_under_autocast() -> None:
    """Logits of 40 in bfloat16 would be up to 0.125 off, and the weights with them."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 1, 30, 64).bfloat16() for _ in range(3))
    query = query * 4
    exact = by_the_formula(query.double(), key.double(), value.double())
    with using(ONEDNN), torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        ours = attend(query, key, value).double()
        rough = ((query @ key.transpose(-1, -2)) / 8).softmax(-1).bfloat16() @ value
    error, rough_error = (
        float((x.flatten() - exact.flatten()).norm() / exact.norm()) for x in (ours, rough.double())
    )
    assert error < 0.004 < rough_error


@pytest.mark.parametrize("at_once", [0, 2 * 5 * 5])
def test_the_gradient_is_the_derivative(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of heads one by one, and of both heads of a sample at once."""
    monkeypatch.setattr(attention_module, "LARGEST_AT_ONCE", at_once)
    assert len(attention_module._parts(2, 2, 5)) == (2 if at_once else 4)
    torch.manual_seed(0)
    parts = [torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(AttentionByHead.apply, parts)


def test_bfloat16_gradients_are_as_good_as_fused_attentions() -> None:
    torch.manual_seed(0)
    parts = [torch.randn(1, 2, 40, 16).bfloat16().requires_grad_() for _ in range(3)]
    exact = [part.detach().double().requires_grad_() for part in parts]
    wanted = torch.autograd.grad(by_the_formula(*exact).pow(2).sum(), exact)
    errors = []
    for kernel in (ONEDNN, DEFAULT):  # by head, fused
        with using(kernel):
            got = torch.autograd.grad(attend(*parts).pow(2).sum(), parts)
        errors.append(
            max(float((g.double() - w).norm() / w.norm()) for g, w in zip(got, wanted, strict=True))
        )
    assert errors[0] < max(2 * errors[1], 0.01)


def test_few_tokens_and_dropout_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr(AttentionByHead, "apply", never)
    parts = [torch.randn(1, 2, 20, 4) for _ in range(3)]
    with using(ONEDNN):
        assert attend(*parts, dropout=0.5).shape == (1, 20, 8)
        monkeypatch.setattr(attention_module, "FEWEST_TOKENS", 21)
        assert attend(*parts).shape == (1, 20, 8)
        monkeypatch.setattr(attention_module, "FEWEST_TOKENS", 20)
        with pytest.raises(AssertionError):
            attend(*parts)
