"""Building a model whose parameters a file fills: without drawing random numbers that nobody would read."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

# what initialisation does to a parameter in place, as methods of tensors and as functions of torch.nn.init
_FILLS = {
    *("uniform_", "normal_", "trunc_normal_", "erfinv_", "fill_", "zero_", "mul_", "add_", "clamp_", "copy_"),
    *("constant_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "xavier_normal_"),
}


class UnfilledParameters(TorchFunctionMode):
    """Inside this context a new module's parameters keep whatever their memory holds.

    Only what writes into an `nn.Parameter` is left out: buffers and plain tensors get their values.
    `left` tells whether there are some that nobody filled.
    """

    def __init__(self) -> None:
        super().__init__()
        self._unfilled: dict[int, weakref.ref[nn.Parameter]] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _FILLS:
            target = args[0] if args else kwargs.get("tensor")
            if isinstance(target, nn.Parameter):
                self._unfilled[id(target)] = weakref.ref(target)
                return target
        return func(*args, **kwargs)

    def left(self, filled: Iterable[nn.Parameter]) -> bool:
        """Tell whether a parameter that still exists is unfilled, once `filled` are."""
        known = {id(parameter) for parameter in filled}
        alive = (reference() for reference in self._unfilled.values())
        return any(parameter is not None and id(parameter) not in known for parameter in alive)
