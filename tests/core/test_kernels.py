import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mtltrack.core import kernels
from mtltrack.core.kernels import AUTO, DEFAULT, ONEDNN, choose_kernel, is_onednn, relative_error, using


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    """Products are compared once a process; these tests stand in for several processors."""
    kernels.onednn_error.cache_clear()
    yield
    kernels.onednn_error.cache_clear()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Stand in for the measurements: the gains that come, one a call."""
    gains = [2.0, 1.1]
    monkeypatch.setattr(kernels, "refusal", lambda: None)
    monkeypatch.setattr(kernels, "measured_gain", lambda: gains.pop(0))
    return gains


def test_a_kernel_is_used_while_the_context_lasts() -> None:
    before = torch.backends.mkldnn.matmul.fp32_precision
    with using(ONEDNN):
        assert is_onednn()
        with using(DEFAULT):
            assert not is_onednn()
        assert is_onednn()
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_an_unknown_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="one of default, onednn, found 'mkl'"), using("mkl"):
        pass


def test_products_by_either_kernel_are_float32() -> None:
    values, weights = torch.randn(40, 300), torch.randn(300, 50)
    for kernel in (DEFAULT, ONEDNN) if kernels.refusal() is None else (DEFAULT,):
        with using(kernel):
            assert relative_error(values @ weights, values, weights) < 2e-6


def test_the_relative_error_by_hand() -> None:
    left, right = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0], [0.5, -4.0]])  # product 4, -8
    assert relative_error(torch.tensor([[4.0, -7.0]]), left, right) == pytest.approx(1 / 8)


def test_what_the_configuration_names_is_taken(measured: list[float]) -> None:
    assert choose_kernel(DEFAULT).kernel == DEFAULT
    assert choose_kernel(ONEDNN).sentence() == (
        "float32 products on the CPU: onednn (as the configuration says)"
    )
    assert len(measured) == 2  # nothing was measured


def test_onednn_is_chosen_where_it_gains_enough(measured: list[float]) -> None:
    first, second = choose_kernel(AUTO), choose_kernel(AUTO)
    assert (first.kernel, second.kernel) == (ONEDNN, DEFAULT)
    assert first.reason == "onednn is 2.00 times as fast as the default"


@pytest.mark.parametrize("wanted", [AUTO, ONEDNN])
def test_products_that_are_not_float32_are_refused(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor on which oneDNN takes the permission to round."""
    monkeypatch.setattr(kernels.F, "linear", lambda x, w: (x.bfloat16() @ w.bfloat16().T).float())
    choice = choose_kernel(wanted)
    assert choice.kernel == DEFAULT
    assert "products aren't float32 on this processor: relative error" in choice.reason


@pytest.mark.parametrize("wanted", [AUTO, ONEDNN])
def test_a_torch_without_the_setting_keeps_its_kernel(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_setting", lambda: None)
    choice = choose_kernel(wanted)
    assert choice.kernel == DEFAULT and "can't be told to multiply by onednn" in choice.reason
    assert not is_onednn()
    with using(DEFAULT):
        pass
    with pytest.raises(ValueError, match="can't be told"), using(ONEDNN):
        pass


def test_a_measurement_is_remembered(measured: list[float], tmp_path: Path) -> None:
    cache = tmp_path / "new" / "kernels.json"
    first = choose_kernel(AUTO, cache)
    again = choose_kernel(AUTO, cache)
    assert again.kernel == first.kernel == ONEDNN and again.reason.endswith("; measured earlier")
    assert len(measured) == 1
    (key,) = json.loads(cache.read_text())
    assert torch.__version__ in key and f"{torch.get_num_threads()} threads" in key


@pytest.mark.parametrize("content", ["", "[]", "{", '{"KEY": {"kernel": "mkl", "reason": ""}}', '{"KEY": 3}'])
def test_a_cache_that_cannot_be_understood_is_measured_anew(
    content: str, measured: list[float], tmp_path: Path
) -> None:
    cache = tmp_path / "kernels.json"
    cache.write_text(content.replace("KEY", kernels._key()))
    assert choose_kernel(AUTO, cache).kernel == ONEDNN and len(measured) == 1
    assert json.loads(cache.read_text())[kernels._key()]["kernel"] == ONEDNN


def test_a_cache_that_cannot_be_written_is_done_without(measured: list[float], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert choose_kernel(AUTO, tmp_path / "file" / "kernels.json").kernel == ONEDNN


def test_the_cache_lies_in_the_users_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert kernels.default_cache() == Path("/somewhere/mtltrack/kernels.json")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert kernels.default_cache() == Path.home() / ".cache/mtltrack/kernels.json"


def test_the_measured_gain_is_a_ratio_of_times() -> None:
    assert 0.05 < kernels.measured_gain() < 50


def test_what_is_remembered_may_not_hold_on_the_next_machine(
    measured: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose_kernel(AUTO, tmp_path / "kernels.json").kernel == ONEDNN
    monkeypatch.setattr(kernels, "refusal", lambda: "its products aren't float32")
    choice = choose_kernel(AUTO, tmp_path / "kernels.json")
    assert (choice.kernel, choice.reason) == (DEFAULT, "its products aren't float32")


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert kernels.default_cache() is None
