import pytest
import torch
from torch import nn

from mtltrack.core.config import config_from_dict
from mtltrack.core.errors import ConfigError
from mtltrack.core.kernels import is_onednn
from mtltrack.evaluation.arithmetic import Arithmetic
from mtltrack.models.packed import PackedLinear, can_pack

CPU = torch.device("cpu")


def arithmetic(**test: object) -> Arithmetic:
    return Arithmetic.of(config_from_dict({"TEST": test}), CPU)


@pytest.mark.usefixtures("onednn_is_float32")
@pytest.mark.parametrize("kernel", ["default", "onednn"])
def test_kernel_and_precision_hold_within_the_context(kernel: str) -> None:
    ones = torch.ones(2, 2, requires_grad=True)
    before = is_onednn()
    with arithmetic(MATMUL=kernel, PRECISION="bf16").applied():
        assert is_onednn() == (kernel == "onednn")
        assert (ones @ ones).dtype == torch.bfloat16 and torch.is_inference_mode_enabled()
    with arithmetic(MATMUL=kernel).applied():
        assert (ones @ ones).dtype == torch.float32
    assert is_onednn() == before and (ones @ ones).requires_grad


@pytest.mark.skipif(not can_pack(), reason="this torch has no packed weights")
@pytest.mark.usefixtures("onednn_is_float32")
@pytest.mark.parametrize(
    ("test", "packed"),
    [
        ({"MATMUL": "onednn"}, torch.float32),
        ({"MATMUL": "onednn", "PRECISION": "bf16"}, torch.bfloat16),
        ({"MATMUL": "default", "PRECISION": "bf16"}, torch.bfloat16),
        ({"MATMUL": "default"}, None),
        ({"MATMUL": "onednn", "PACK_WEIGHTS": False}, None),
    ],
)
def test_weights_are_packed_where_it_is_faster(test: dict[str, object], packed: torch.dtype | None) -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    arithmetic(**test).prepare(net)
    assert (net[0].packed_dtype if isinstance(net[0], PackedLinear) else None) == packed


def test_gpus_keep_their_kernels_and_weights() -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    found = Arithmetic.of(config_from_dict({"TEST": {"MATMUL": "onednn"}}), torch.device("cuda", 1))
    found.prepare(net)
    assert found.kernel.kernel == "default" and found.kernel.reason == "the device is cuda:1"
    assert type(net[0]) is nn.Linear


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(ConfigError, match=r"TEST\.PRECISION is fp16, which needs a GPU"):
        arithmetic(PRECISION="fp16")
