"""Why a gradient isn't as expected: where in the code, from a recorded pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mtltrack.training.audit.cuts import (
    Trace,
    record,
    silent_writes,
    why_leaking,
    why_missing,
    why_not_finite,
)
from mtltrack.training.audit.inputs import HeadCall
from mtltrack.training.audit.model_stages import ModelStage
from mtltrack.training.audit.passes import Passes
from mtltrack.training.audit.readings import Verdict
from mtltrack.training.audit.report import Cell, EdgeCell
from mtltrack.training.texts import listed


class Explainer:
    """Runs the forward pass again, recorded, once for each loss that needs it.

    Args:
        tracker: names the modules.
        passes: see `Passes`.
    """

    def __init__(self, tracker: Any, passes: Passes) -> None:
        self.tracker, self.passes = tracker, passes
        self._traces: dict[tuple[str, bool], tuple[Trace, dict[str, HeadCall]]] = {}

    def _trace(self, key: str, *, gradients: bool) -> tuple[Trace, dict[str, HeadCall]]:
        calls: dict[str, HeadCall] = {}

        def run() -> Mapping[str, Any]:
            seen = self.passes.run()
            calls.update(seen.calls)
            return {term.key: loss for term, loss in seen.losses.items()}

        if (key, gradients) not in self._traces:
            self._traces[key, gradients] = record(self.tracker, run, key, gradients=gradients), calls
        return self._traces[key, gradients]

    def cells(self, key: str, stages: Mapping[ModelStage, Cell], verdict: Verdict) -> str:
        """Explain what one loss term's gradient is on some stages of the model.

        Args:
            key: of the term.
            stages: with the same verdict.
            verdict: theirs.
        """
        sources = [parameter for stage in stages for parameter in stage.parameters.values()]
        zeros = any(cell.reading.graph for cell in stages.values())
        task = key.split("/")[0]
        explanations: dict[Verdict, Callable[[], str]] = {
            Verdict.MISSING: lambda: why_missing(self._trace(key, gradients=True)[0], sources, zeros=zeros),
            Verdict.LEAKING: lambda: why_leaking(self._trace(key, gradients=False)[0], sources, task),
            Verdict.NON_FINITE: lambda: why_not_finite(self._trace(key, gradients=True)[0]),
        }
        return explanations[verdict]() if verdict in explanations else _sizes(stages)

    def edge(self, key: str, item: EdgeCell) -> str:
        """Explain why no gradient of a loss term returns over an edge."""
        trace, calls = self._trace(key, gradients=True)
        sources = [calls[item.edge.task].edges[item.edge]]
        return why_missing(trace, sources, zeros=item.graph)

    def silent_writes(self, key: str) -> str:
        """Name what writes values behind the graph's back, see `cuts.silent_writes`."""
        return silent_writes(self._trace(key, gradients=False)[0].operations)

    def error(self, key: str) -> str:
        """Name what writes in place into tensors that were read before, and may be kept for that."""
        read, writes = set[int](), []
        for operation in self._trace(key, gradients=False)[0].operations:
            if operation.in_place and operation.needed and read.intersection(operation.inputs[:1]):
                writes.append(str(operation))
            if operation.graph:
                read.update(operation.inputs)
        return f"written in place: {listed(writes, '; ', most=3)}" if writes else ""


def _sizes(stages: Mapping[ModelStage, Cell]) -> str:
    texts = [
        f"{stage.name} {cell.reading.norm:.2e} over "
        f"{sum(parameter.numel() for parameter in stage.parameters.values()):,} parameters"
        for stage, cell in stages.items()
    ]
    return f"norms: {listed(texts, most=4)}"
