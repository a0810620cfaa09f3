from __future__ import annotations

import pytest
import torch
from torch import nn

from mtltrack.core.errors import ConfigError
from mtltrack.core.types import Clip, TaskOutput, Tokens
from mtltrack.models.task_graph import TaskGraph


class Sum(nn.Module):
    """Adds up what it reads; notes when it ran."""

    def __init__(self, *reads: str) -> None:
        super().__init__()
        self.reads = reads
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, tokens: Tokens, upstream: dict[str, TaskOutput], clip: Clip) -> TaskOutput:
        total = tokens.search.mean() + sum(output.features.sum() for output in upstream.values())
        return TaskOutput((self.scale * total).reshape(1, 1, 1, 1), {})


def tokens() -> Tokens:
    return Tokens(torch.zeros(1, 1, 1), torch.zeros(1, 1, 4, 1), (2, 2))


def clip() -> Clip:
    return Clip(
        torch.zeros(1, 3, 2, 2),
        torch.zeros(1, 4),
        torch.zeros(1, 1, 3, 4, 4),
        torch.zeros(1, 1, 2, 3),
        torch.zeros(1, 1),
    )


def box(requires_grad: bool = False) -> TaskOutput:
    return TaskOutput(torch.ones(1, 1, 1, 1, requires_grad=requires_grad), {})


def test_order_follows_the_edges_not_the_listing() -> None:
    graph = TaskGraph({"ocr": Sum("plate"), "cls": Sum(), "plate": Sum("box")})
    assert graph.order.index("plate") < graph.order.index("ocr")
    assert graph.needed(["ocr"]) == ["plate", "ocr"]
    assert set(graph.run(tokens(), box(), clip())) == {"box", "ocr", "cls", "plate"}
    assert set(graph.run(tokens(), box(), clip(), ["cls"])) == {"box", "cls"}


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({"plate": Sum("plate")}, "TASKS.plate: the head reads itself"),
        ({"ocr": Sum("plat"), "plate": Sum()}, r"TASKS.ocr: the head reads 'plat'.*Did you mean 'plate'\?"),
        ({"a": Sum("b"), "b": Sum("a")}, "in a circle: (a -> b -> a|b -> a -> b)"),
    ],
)
def test_bad_edges_name_the_heads(heads: dict[str, nn.Module], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TaskGraph(heads)


def test_detach_cuts_exactly_one_edge() -> None:
    heads = {"plate": Sum("box"), "ocr": Sum("plate", "box")}
    for detach, reaches in (({}, True), ({"ocr": ["plate"]}, False)):
        for head in heads.values():
            head.zero_grad()
        source = box(requires_grad=True)
        outputs = TaskGraph(heads, detach).run(tokens(), source, clip())
        outputs["ocr"].features.sum().backward()
        assert (heads["plate"].scale.grad is not None) == reaches
        assert float(source.features.grad) == (2.0 if reaches else 1.0)  # by the plate, and directly


def test_detach_of_an_edge_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"TASKS\.plate\.DETACH names 'cls', but that head reads box"):
        TaskGraph({"plate": Sum("box"), "cls": Sum()}, {"plate": ["cls"]})
