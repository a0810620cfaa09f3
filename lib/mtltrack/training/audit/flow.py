"""A record of every tensor operation of a forward pass: what read what, where it stands, what it lost."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

PACKAGE = str(Path(__file__).resolve().parents[2])
HERE = str(Path(__file__).resolve().parent)
LIBRARIES = ("site-packages", "dist-packages", sysconfig.get_paths()["stdlib"])
LEAVES_TORCH = {
    "item", "tolist", "numpy", "__array__", "__float__", "__int__", "__bool__", "__index__",
}  # fmt: skip
SHAPE_ONLY = {  # their result says nothing of their input's values
    "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like",
    "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor", "size", "dim", "type",
}  # fmt: skip
SILENT = {
    "shape",
    "dtype",
    "device",
    "requires_grad",
    "grad",
    "grad_fn",
    "is_cuda",
    "ndim",
    "is_leaf",
    "_base",
}


@dataclass(frozen=True)
class Place:
    """A line of code: the nearest one that isn't a library's, and the module that it runs in."""

    file: str
    line: int
    function: str
    module: str = ""

    def __str__(self) -> str:
        module = f" ({self.module})" if self.module else ""
        return f"{self.file}:{self.line} in {self.function}{module}"


@dataclass
class Operation:
    """One call of a tensor function.

    Attributes:
        name: "detach", "argmax", "clamp", ...
        place: where it stands; None inside a library that nobody of ours called.
        inputs: numbers of the tensors read.
        outputs: numbers of the tensors made or written.
        needed: inputs that required a gradient.
        graph: whether an output requires a gradient.
        in_place: whether it writes into its first argument.
        no_grad: where gradients were switched off, None while they are on.
    """

    name: str
    place: Place | None
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    needed: frozenset[int]
    graph: bool
    in_place: bool
    no_grad: Place | None = None

    def __str__(self) -> str:
        where = f" at {self.place}" if self.place is not None else ""
        if self.no_grad is not None:
            return f"{self.name} under no_grad (switched off at {self.no_grad}){where}"
        return f"{self.name}{where}"


@dataclass
class FlowRecorder(TorchFunctionMode):
    """Records the operations run under it. Tensors are kept alive, so that each keeps its number.

    Args:
        model: names its modules in places.
        gradients: also note the largest gradient of every tensor in the backward pass to come.
    """

    model: nn.Module
    gradients: bool = False
    operations: list[Operation] = field(default_factory=list)
    largest: dict[int, float] = field(default_factory=dict)
    finite: dict[int, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._alive: dict[int, Tensor] = {}
        self._numbers: dict[int, int] = {}
        self._names = {id(module): name for name, module in self.model.named_modules()}
        self._off: Place | None = None

    def number(self, tensor: Tensor) -> int:
        """Return the number of a tensor: another one each time that it is written in place."""
        self._alive[id(tensor)] = tensor
        return self._numbers.setdefault(id(tensor), len(self._numbers))

    def _renumbered(self, tensor: Tensor) -> int:
        self._alive[id(tensor)] = tensor
        self._numbers[id(tensor)] = -len(self.operations) - 1  # no tensor that was made has a negative one
        return self._numbers[id(tensor)]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        if name in ("__get__", "__set__"):
            name = getattr(getattr(func, "__self__", None), "__name__", name)
        if name == "_set_grad_enabled":
            if args and args[0]:
                self._off = None
            elif torch.is_grad_enabled():
                self._off = self._place(sys._getframe(1))
            return func(*args, **kwargs)
        if name in SILENT or name in SHAPE_ONLY or name.startswith("register_"):
            return func(*args, **kwargs)
        read = list(_tensors((args, kwargs)))
        inputs = tuple(self.number(tensor) for tensor in read)
        needed = frozenset(self.number(tensor) for tensor in read if tensor.requires_grad)
        result = func(*args, **kwargs)
        writes = _writes(name) or kwargs.get("inplace") is True
        in_place = writes and bool(args) and isinstance(args[0], Tensor)
        if in_place:
            made = [args[0], *([args[0]._base] if args[0]._base is not None else [])]
        else:
            made = [tensor for tensor in _tensors(result) if all(tensor is not other for other in read)]
        if made or name in LEAVES_TORCH:
            place = self._place(sys._getframe(1))
            outputs = tuple(self._renumbered(t) if in_place else self.number(t) for t in made)
            graph = any(tensor.requires_grad for tensor in made)
            off = None if torch.is_grad_enabled() else self._off or place
            self.operations.append(Operation(name, place, inputs, outputs, needed, graph, in_place, off))
            self._note(made)
        return result

    def _note(self, made: list[Tensor]) -> None:
        for tensor in made:
            if not tensor.is_floating_point():
                continue
            number = self.number(tensor)
            self.finite[number] = bool(torch.isfinite(tensor.detach()).all())
            if self.gradients and tensor.requires_grad:
                tensor.register_hook(lambda gradient, number=number: self.take(number, gradient))

    def take(self, number: int, gradient: Tensor) -> None:
        """Note the gradient of a tensor."""
        largest = float(gradient.detach().abs().max()) if gradient.numel() else 0.0
        self.largest[number] = max(largest, self.largest.get(number, 0.0)) if largest == largest else largest

    def _place(self, frame: FrameType | None) -> Place | None:
        """Walk out to the first line that is neither a library's nor the audit's own."""
        found: tuple[str, int, str] | None = None
        while frame is not None:
            file = frame.f_code.co_filename
            if found is None and _is_ours(file):
                found = (
                    _short(file),
                    frame.f_lineno,
                    getattr(frame.f_code, "co_qualname", frame.f_code.co_name),
                )
            if found is not None or not file.startswith(HERE):
                owner = frame.f_locals.get("self")
                if isinstance(owner, nn.Module) and self._names.get(id(owner)):
                    if found is not None:
                        return Place(*found, module=self._names[id(owner)])
            if file.startswith(HERE):
                break
            frame = frame.f_back
        return None if found is None else Place(*found)


def _is_ours(file: str) -> bool:
    if file.startswith(HERE) or file.startswith("<"):
        return False
    return file.startswith(PACKAGE) or not any(library in file for library in LIBRARIES)


def _short(file: str) -> str:
    """Return a path as people know it: from the package's or the working folder on."""
    path = Path(file)
    for root in (Path(PACKAGE).parents[1], Path.cwd()):
        if path.is_relative_to(root):
            return str(path.relative_to(root))
    return file


def _writes(name: str) -> bool:
    if name.startswith("__"):
        return name == "__setitem__" or (
            name.startswith("__i") and name not in ("__invert__", "__index__", "__int__")
        )
    return name.endswith("_")


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
