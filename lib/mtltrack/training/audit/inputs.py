"""What a head really reads: each of its inputs is watched, and changed to see whether a loss follows.

A loss that changes with an input depends on it, whatever automatic differentiation says: this is how the
audit knows where a gradient is due without asking the gradient.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mtltrack.core.types import Clip

TOKENS = "tokens"
UPSTREAM = "upstream"  # the argument of a head's forward() that holds the outputs of the heads it reads


@dataclass(frozen=True, order=True)
class Edge:
    """One tensor that a head is given.

    Attributes:
        source: "tokens", or the head that it comes from.
        name: "search", "features", "boxes_cxcywh", ...
        task: the head that reads it.
    """

    source: str
    name: str
    task: str

    def __str__(self) -> str:
        return f"{self.source}.{self.name} -> {self.task}"


@dataclass
class HeadCall:
    """One call of a head: its arguments by name, as they came."""

    head: nn.Module
    arguments: dict[str, Any]
    edges: dict[Edge, Tensor] = field(default_factory=dict)


@contextmanager
def watched_inputs(heads: Mapping[str, nn.Module]) -> Iterator[dict[str, HeadCall]]:
    """Note each head's call, and hand it aliases of its tensors: a gradient at an alias came over that edge.

    Args:
        heads: task -> head; those that aren't called as modules stay unknown.
    """
    calls: dict[str, HeadCall] = {}

    def watch(task: str) -> Callable[..., Any]:
        def before(head: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            bound = inspect.signature(head.forward).bind(*args, **kwargs).arguments
            call = HeadCall(head, dict(bound))

            def alias(path: tuple[str, ...], tensor: Tensor) -> Tensor:
                edge = _edge(task, path)
                if edge is None or not tensor.is_floating_point():
                    return tensor
                call.edges[edge] = tensor.view_as(tensor)
                return call.edges[edge]

            calls[task] = call
            return (), {name: _mapped(value, (name,), alias) for name, value in bound.items()}

        return before

    handles = [head.register_forward_pre_hook(watch(task), with_kwargs=True) for task, head in heads.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _edge(task: str, path: tuple[str, ...]) -> Edge | None:
    if path[0] == UPSTREAM and len(path) > 2:
        return Edge(path[1], path[-1], task)
    return Edge(TOKENS, path[-1], task)


def _mapped(value: Any, path: tuple[str, ...], change: Callable[[tuple[str, ...], Tensor], Tensor]) -> Any:
    """Return `value` with every tensor in it changed; a clip is data, which no gradient is due to."""
    if isinstance(value, Tensor):
        return change(path, value)
    if isinstance(value, Clip):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value,
            **{
                item.name: _mapped(getattr(value, item.name), (*path, item.name), change)
                for item in fields(value)
            },
        )
    if isinstance(value, Mapping):
        return {key: _mapped(item, (*path, str(key)), change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(item, (*path, str(i)), change) for i, item in enumerate(value))
    return value


Terms = Callable[[Any], Mapping[str, Tensor]]


@torch.no_grad()
def used_edges(call: HeadCall, terms: Terms) -> dict[str, set[Edge]]:
    """Return term -> the edges that it depends on: its value changes when the tensor there does.

    Args:
        call: as the head was called.
        terms: the head's output -> its loss terms.
    """

    def run(arguments: dict[str, Any]) -> Mapping[str, Tensor]:
        torch.manual_seed(0)  # a head may draw: from the true or the predicted box, say
        return terms(call.head.forward(**arguments))

    base = run(call.arguments)
    used: dict[str, set[Edge]] = {term: set() for term in base}
    generator = torch.Generator().manual_seed(0)
    for edge in call.edges:

        def disturb(path: tuple[str, ...], tensor: Tensor, edge: Edge = edge) -> Tensor:
            if _edge(edge.task, path) != edge or not tensor.is_floating_point():
                return tensor
            noise = torch.randn(tensor.shape, generator=generator).to(tensor)
            return tensor + noise * (tensor.std(correction=0) + 1e-3)

        arguments = {name: _mapped(value, (name,), disturb) for name, value in call.arguments.items()}
        for term, value in run(arguments).items():
            if not torch.equal(value, base[term]):
                used[term].add(edge)
    return used
