import pytest
import torch

from mtltrack.core.kernels import DEFAULT, ONEDNN, using
from mtltrack.models.layers.attention import attend


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
