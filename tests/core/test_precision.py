import pytest
import torch

from mtltrack.core.precision import full_type, in_full


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
