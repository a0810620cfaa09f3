import pytest
import torch
import torch.nn.functional as F

from mtltrack.core.errors import ConfigError
from mtltrack.core.precision import full_type, half_type, in_full, run_in_full


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.uint8, torch.float32),
        (torch.bool, torch.float32),
    ],
)
def test_nothing_is_computed_in_less_than_float32(given: torch.dtype, wanted: torch.dtype) -> None:
    values = torch.tensor([0, 1]).to(given)
    assert full_type(values) == wanted
    assert in_full(values).dtype == wanted and in_full(values).tolist() == [0, 1]


def test_what_is_full_already_is_not_copied() -> None:
    for dtype in (torch.float32, torch.float64):
        values = torch.ones(2, dtype=dtype)
        assert in_full(values) is values


def test_precisions_by_name() -> None:
    assert half_type("fp32", "cpu", "KEY") is None
    assert half_type("bf16", "cpu", "KEY") == torch.bfloat16 == half_type("bf16", "cuda", "KEY")
    assert half_type("fp16", torch.device("cuda", 1), "KEY") == torch.float16
    with pytest.raises(
        ConfigError, match=r"^KEY is fp16, which needs a GPU; the device is cpu. Use bf16 or fp32"
    ):
        half_type("fp16", "cpu", "KEY")


def test_autocast_ends_where_full_precision_is_asked_for() -> None:
    torch.manual_seed(0)
    layer, values = torch.nn.Linear(8, 4), torch.randn(3, 8)
    theta = torch.tensor([[[0.37, 0.0, 0.11], [0.0, 0.37, -0.2]]])

    def grid(theta: torch.Tensor) -> torch.Tensor:
        return F.affine_grid(theta, [1, 1, 9, 9], align_corners=False)

    exact, places = layer(values), grid(theta)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(values).dtype == torch.bfloat16 == grid(theta).dtype  # what is to be kept off
        assert torch.equal(run_in_full(layer, values), exact)
        assert torch.equal(run_in_full(grid, theta), places)
        assert run_in_full(layer, values.bfloat16()).dtype == torch.float32
    assert run_in_full(torch.add, values.double(), values).dtype == torch.float64
