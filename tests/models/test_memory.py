import math
from collections.abc import Callable

import pytest
import torch

from mtltrack.models.layers import memory as memory_module
from mtltrack.models.layers.memory import PromptMemory, extend_keys, read_memory


def plain_readout(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The formula as it is written: softmax of -|q - k|^2 / sqrt(Ck) up to a constant of each query."""
    distance = torch.cdist(query, keys) ** 2
    return (-distance / math.sqrt(query.shape[-1])).softmax(-1) @ values


@pytest.mark.parametrize("value_width", [8, 20, 384])
def test_readout_is_the_plain_formula(value_width: int) -> None:
    torch.manual_seed(0)
    query, keys = torch.randn(2, 7, 16, dtype=torch.float64), torch.randn(2, 30, 16, dtype=torch.float64)
    values = torch.randn(2, 30, value_width, dtype=torch.float64)
    ours = read_memory(query, extend_keys(keys), values)
    torch.testing.assert_close(ours, plain_readout(query, keys, values))


@pytest.mark.parametrize("reader", [memory_module._read_fused, memory_module._read_in_chunks])
@pytest.mark.parametrize("tokens", [1, 255, 700])
def test_both_forms_of_reading_are_the_plain_formula(
    reader: Callable[..., torch.Tensor], tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU in chunks of 256 memory tokens here; affinities of hundreds must not overflow."""
    monkeypatch.setattr(memory_module, "CHUNK_SCORES", 1)
    torch.manual_seed(0)
    query, keys = 6 * torch.randn(2, 7, 16), 6 * torch.randn(2, tokens, 16)
    values = torch.randn(2, tokens, 20)
    exact = plain_readout(query.double(), keys.double(), values.double())
    torch.testing.assert_close(reader(query, extend_keys(keys), values).double(), exact, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("far", [1.0, 12.0])
def test_the_chunk_with_the_nearest_keys_may_come_last(far: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far keys first, near ones last: with 12 their affinities differ by hundreds, more than floats hold."""
    monkeypatch.setattr(memory_module, "CHUNK_SCORES", 1)
    monkeypatch.setattr(memory_module, "SHORTEST_CHUNK", 10)
    torch.manual_seed(0)
    query = torch.randn(2, 5, 16)
    keys = torch.cat([far * torch.randn(2, 25, 16), query + 0.1, far * torch.randn(2, 12, 16)], dim=1)
    values = torch.randn(2, 42, 6)
    exact = plain_readout(query.double(), keys.double(), values.double())
    ours = read_memory(query, extend_keys(keys), values).double()
    torch.testing.assert_close(ours, exact, atol=2e-5, rtol=1e-4)


def test_what_a_query_reads_does_not_depend_on_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit: features of samples are kept on disk, and come again beside others."""
    monkeypatch.setattr(memory_module, "CHUNK_SCORES", 1)
    monkeypatch.setattr(memory_module, "SHORTEST_CHUNK", 10)
    torch.manual_seed(0)
    query, keys, values = torch.randn(2, 5, 16), torch.randn(2, 42, 16), torch.randn(2, 42, 6)
    far = torch.cat([query[:1], 20 * query[1:]])  # the second can't take the short way, the first can
    near, beside = (read_memory(each, extend_keys(keys), values)[0] for each in (query, far))
    assert torch.equal(near, beside)


@pytest.mark.parametrize("largest", [60.0, -1.0])  # as it is, and never enough: the running softmax
def test_chunks_pass_the_gradient_of_the_whole(largest: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "LARGEST_EXPONENT", largest)
    monkeypatch.setattr(memory_module, "CHUNK_SCORES", 1)
    monkeypatch.setattr(memory_module, "SHORTEST_CHUNK", 3)
    torch.manual_seed(0)
    tensors = [
        torch.randn(2, n, c, dtype=torch.float64, requires_grad=True) for n, c in ((3, 4), (7, 4), (7, 6))
    ]
    assert torch.autograd.gradcheck(lambda q, k, v: read_memory(q, extend_keys(k), v), tensors)


def test_readout_passes_gradient_to_everything() -> None:
    torch.manual_seed(0)
    tensors = [
        torch.randn(1, n, c, dtype=torch.float64, requires_grad=True) for n, c in ((3, 4), (5, 4), (5, 6))
    ]
    assert torch.autograd.gradcheck(lambda q, k, v: read_memory(q, extend_keys(k), v), tensors)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_floats_tell_keys_apart_that_lie_close_together(dtype: torch.dtype) -> None:
    """A squared length of some 600 in one bfloat16 alone would be up to 2 off, and the read-out 14 %."""
    torch.manual_seed(0)
    scene = 3 * torch.randn(1, 1, 64)
    tensors = (
        scene + 0.3 * torch.randn(1, 40, 64),
        scene + 0.3 * torch.randn(1, 200, 64),
        torch.randn(1, 200, 96),
    )
    query, keys, values = (tensor.to(dtype) for tensor in tensors)
    exact = plain_readout(query.double(), keys.double(), values.double())

    def error(extended: torch.Tensor) -> float:
        return float((read_memory(query, extended, values).double() - exact).norm() / exact.norm())

    assert error(extend_keys(keys)) < 0.004  # a last rounding and one of the weights
    if dtype == torch.bfloat16:
        assert error(torch.cat([keys, keys.pow(2).sum(-1, keepdim=True)], dim=-1)) > 0.1
    memory = PromptMemory(capacity=2)
    memory.write(keys, values)
    assert torch.equal(memory.last()[0], keys)
    torch.testing.assert_close(memory.read(query), read_memory(query, extend_keys(keys), values))


def test_short_floats_pass_the_same_gradient() -> None:
    torch.manual_seed(0)
    keys, weights = torch.randn(1, 5, 8), torch.randn(1, 3, 5)

    def gradient(keys: torch.Tensor) -> torch.Tensor:
        leaf = keys.clone().requires_grad_()
        query = torch.ones(1, 3, 8, dtype=keys.dtype)
        read = read_memory(query, extend_keys(leaf), torch.eye(5, dtype=keys.dtype)[None])
        (read.float() * weights).sum().backward()
        assert leaf.grad is not None
        return leaf.grad.float()

    exact = gradient(keys.bfloat16().float())
    assert (gradient(keys.bfloat16()) - exact).norm() < 0.02 * exact.norm()


def test_a_memory_takes_the_type_that_comes() -> None:
    memory = PromptMemory(capacity=2)
    memory.write(torch.ones(1, 4, 8), torch.ones(1, 4, 6))
    memory.write(torch.ones(1, 4, 8).bfloat16(), torch.ones(1, 4, 6).bfloat16())
    assert memory.count == 1 and memory.last()[0].dtype == torch.bfloat16


def test_ring_buffer_forgets_the_oldest() -> None:
    torch.manual_seed(0)
    memory = PromptMemory(capacity=2)
    entries = [(torch.randn(1, 4, 8), torch.randn(1, 4, 6)) for _ in range(3)]
    query = torch.randn(1, 5, 8)
    for keys, values in entries:
        memory.write(keys, values)
    assert memory.count == 2
    keys, values = (torch.cat(parts, dim=1) for parts in zip(*entries[1:], strict=True))
    torch.testing.assert_close(memory.read(query), plain_readout(query, keys, values))
    last_keys, last_values = memory.last()
    assert torch.equal(last_keys, entries[2][0]) and torch.equal(last_values, entries[2][1])


def test_clear_leaves_nothing_and_reading_nothing_is_an_error() -> None:
    memory = PromptMemory(capacity=2)
    memory.write(torch.zeros(1, 4, 8), torch.zeros(1, 4, 6))
    memory.clear()
    assert memory.count == 0
    with pytest.raises(RuntimeError, match="the prompt memory is empty"):
        memory.read(torch.zeros(1, 5, 8))
    with pytest.raises(ValueError, match=r"MODEL.MAX_MEM is 0"):
        PromptMemory(0)


def test_the_matrix_of_entries_and_queries_is_never_stored() -> None:
    """On a CPU it is read in chunks: four of them here, and nothing as large as two is allocated."""
    tokens = 4 * memory_module.CHUNK_SCORES // 300
    query, keys, values = (
        torch.randn(1, 300, 16),
        extend_keys(torch.randn(1, tokens, 16)),
        torch.randn(1, tokens, 24),
    )
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        read_memory(query, keys, values)
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert largest < 2 * 4 * memory_module.CHUNK_SCORES
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        plain_readout(query, keys[..., :-1], values)
    assert max(event.cpu_memory_usage for event in profile.events()) >= 300 * tokens * 4
