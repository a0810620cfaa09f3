"""Which gradient is due where: worked out from what is declared, never from automatic differentiation.

A term's gradient flows back along the edges of the task graph. It is due in the term's own head; over every
tensor that the head really reads (`inputs.used_edges`) in the head that made it, or, over the tokens, in
backbone and history; not over edges in DETACH or a head's `boundaries`, and not in what is frozen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mtltrack.core.types import BOX
from mtltrack.training.audit.inputs import TOKENS, Edge
from mtltrack.training.audit.model_stages import ELSEWHERE, ModelStage
from mtltrack.training.stages import Stage

Uses = Mapping[str, Mapping[str, set[Edge]]]  # task -> term -> edges that the term depends on


CHIEF = ("search", "features")  # what a source is read for where nothing else is known
UNUSED = "the loss doesn't depend on it"
MAY = "?"  # ends a name in a head's `reaches` where the gradient may be zero


class Need(Enum):
    """What is expected of a gradient: it must be there, may be there, must not be there."""

    REQUIRED = "required"
    ALLOWED = "allowed"
    FORBIDDEN = "forbidden"


@dataclass(frozen=True)
class Expected:
    """What is expected, and why."""

    need: Need
    why: str


class Wiring:
    """The declared ways of the gradients in one stage of training.

    Args:
        tracker: with `tracker_parts()`, `task_parts()`, `heads()`; heads with `reads`, and optionally
            `reaches` (term -> stages of the head that it reaches, as the report names them; "size?" may be
            zero) and `boundaries` ("plate.cxcywh" -> why the head reads it without gradient).
        stage: of training.
        given: task -> edges over which its head is handed something.
        uses: from `inputs.used_edges`; a task that isn't in it is taken to read the tokens and all that its
            head declares.
    """

    def __init__(self, tracker: Any, stage: Stage, given: Mapping[str, set[Edge]], uses: Uses) -> None:
        self.stage = stage
        self.heads: dict[str, Any] = dict(tracker.heads())
        self.trunk = [part for part in tracker.tracker_parts() if part != BOX]
        self.unread = set(tracker.unread_parameters())
        graph = getattr(tracker, "graph", None)
        self.detach: Mapping[str, Any] = {} if graph is None else graph.detach
        self.given, self.uses = given, uses

    # ------------------------------------------------------------------------------------------------ edges

    def edges(self, task: str, term: str | None = None) -> set[Edge]:
        """Return what a term, or any term of the task, depends on.

        A head that depends on nothing of what it declares to read is held to its word: else a loss whose
        inputs are all overwritten would be due nowhere.
        """
        reads = set(getattr(self.heads[task], "reads", ()))
        if task not in self.uses:
            return {Edge(TOKENS, "search", task)} | {Edge(name, "features", task) for name in reads}
        every: set[Edge] = set().union(*self.uses[task].values())
        found = every if term is None else self.uses[task].get(term, set())
        sources = {edge.source for edge in every}
        owed = reads - sources if sources else reads | {TOKENS}
        return found | {edge for edge in self.given[task] if edge.source in owed and edge.name in CHIEF}

    def boundary(self, edge: Edge) -> str | None:
        """Return why an edge is declared to carry no gradient, or None where it should."""
        if edge.source in self.detach.get(edge.task, ()):
            return f"TASKS.{edge.task}.DETACH names {edge.source}"
        declared = getattr(self.heads[edge.task], "boundaries", {})
        reason: str | None = declared.get(f"{edge.source}.{edge.name}")
        return reason

    def carries(self, source: str) -> bool:
        """Tell whether something that trains stands behind `source` ("tokens" or a head)."""
        if source == TOKENS:
            return any(part in self.stage.trains for part in self.trunk)
        if source in self.stage.trains:
            return True
        return any(self.carries(e.source) for e in self.edges(source) if self.boundary(e) is None)

    def edge(self, edge: Edge, term: str | None = None) -> Expected:
        """Return what is expected of the gradient that a term of `edge.task` sends over the edge."""
        reason = self.boundary(edge)
        if edge.task not in self.stage.losses:
            return Expected(Need.FORBIDDEN, f"the loss of {edge.task} doesn't count in this stage")
        if reason is not None:
            return Expected(Need.FORBIDDEN, reason)
        if edge not in self.edges(edge.task, term):
            return Expected(Need.ALLOWED, UNUSED)
        if not self.carries(edge.source):
            return Expected(Need.ALLOWED, f"nothing behind {edge.source} trains")
        return Expected(Need.REQUIRED, f"{edge.task} reads {edge.source}.{edge.name}")

    # ---------------------------------------------------------------------------------------- model stages

    def reached(self, task: str, term: str | None = None, *, every: bool = False) -> dict[str, str]:
        """Return the parts that the gradient of a term reaches, each with the way that it comes.

        Args:
            task: of the term.
            term: None for any of the task.
            every: follow every edge that is there, also those on which nothing depends.
        """
        ways = {task: task}

        def edges(task: str, term: str | None) -> list[Edge]:
            return sorted(self.edges(task, term) | (self.given.get(task, set()) if every else set()))

        stack = [(edge, task) for edge in edges(task, term)]
        while stack:
            edge, way = stack.pop()
            if self.boundary(edge) is not None:
                continue
            way = f"{way} <- {edge.source}"
            if edge.source == TOKENS:
                for part in self.trunk:
                    ways.setdefault(part, way)
            elif edge.source not in ways:
                ways[edge.source] = way
                stack += [(further, way) for further in edges(edge.source, None)]
        return ways

    def trains(self, model_stage: ModelStage) -> bool:
        """Tell whether this stage of training trains a stage of the model."""
        return model_stage.part in self.stage.trains and not set(model_stage.parameters) <= self.unread

    def cell(self, task: str, term: str | None, model_stage: ModelStage) -> Expected:
        """Return what is expected of the gradient of a term (None: of the task's loss) on a stage."""
        part = model_stage.part
        if task not in self.stage.losses:
            return Expected(Need.FORBIDDEN, f"the loss of {task} doesn't count in this stage")
        if part == ELSEWHERE:
            return Expected(Need.ALLOWED, "it belongs to no part of the tracker")
        if not self.trains(model_stage):
            return Expected(Need.FORBIDDEN, f"{part} is frozen in this stage")
        if part == task:
            return self._own(task, term, model_stage)
        ways = self.reached(task, term)
        if part not in ways and part in self.reached(task, term, every=True):
            return Expected(Need.ALLOWED, "the loss doesn't depend on it here")
        if part not in ways:
            return Expected(Need.FORBIDDEN, f"the task graph has no way from {task} to {part}")
        if part in self.trunk:
            return Expected(Need.REQUIRED, ways[part])
        return Expected(Need.ALLOWED, f"{ways[part]}: some stage of {part}")

    def _own(self, task: str, term: str | None, model_stage: ModelStage) -> Expected:
        head = self.heads[task]
        declared: Mapping[str, Sequence[str]] = getattr(head, "reaches", {})
        if term is None:
            return Expected(Need.REQUIRED, f"own head of {task}")
        if term in declared:
            return self._declared(
                declared[term], model_stage.inner, f"{type(head).__name__}.reaches['{term}']"
            )
        if len(head.term_weights) == 1:
            return Expected(Need.REQUIRED, f"own head of {task}")
        return Expected(Need.ALLOWED, f"own head of {task}: some stage")

    @staticmethod
    def _declared(names: Sequence[str], inner: str, source: str) -> Expected:
        for name in names:
            stem = name.removesuffix(MAY)
            if inner == stem or inner.startswith(f"{stem}."):
                need = Need.ALLOWED if name.endswith(MAY) else Need.REQUIRED
                return Expected(need, f"{source} names {name}")
        return Expected(Need.FORBIDDEN, f"{source} doesn't name it")

    def needed_parts(self, task: str, term: str | None) -> dict[str, str]:
        """Return the parts of which at least one stage must have a gradient, each with the way to it."""
        if task not in self.stage.losses:
            return {}
        return {part: way for part, way in self.reached(task, term).items() if part in self.stage.trains}
