"""The task graph: heads run in the order in which they read one another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from torch import nn

from mtltrack.core.errors import ConfigError, did_you_mean
from mtltrack.core.types import BOX, Clip, TaskOutput, Tokens


class TaskGraph:
    """Order and edges of the heads that run after the box head.

    Args:
        heads: task name -> head; each head has `reads`, the names of the heads that it attends to.
        detach: task name -> names of heads whose features it reads without passing gradient back.

    Raises:
        ConfigError: a head reads itself, a head that isn't there, or heads read one another in a circle; or
            `detach` names an edge that doesn't exist.
    """

    def __init__(
        self, heads: Mapping[str, nn.Module], detach: Mapping[str, Iterable[str]] | None = None
    ) -> None:
        self.heads = dict(heads)
        self.reads = {task: tuple(getattr(head, "reads", ())) for task, head in self.heads.items()}
        self.detach = {task: frozenset(names) for task, names in (detach or {}).items()}
        self._check_edges()
        try:
            order = list(TopologicalSorter(self.reads).static_order())
        except CycleError as error:
            circle = " -> ".join(error.args[1])
            raise ConfigError(f"TASKS: the heads read one another in a circle: {circle}") from error
        self.order = [task for task in order if task != BOX]

    def _check_edges(self) -> None:
        known = [BOX, *self.heads]
        for task, names in self.reads.items():
            for name in names:
                if name == task:
                    raise ConfigError(f"TASKS.{task}: the head reads itself")
                if name not in known:
                    raise ConfigError(
                        f"TASKS.{task}: the head reads '{name}', which isn't in "
                        f"TASKS.{did_you_mean(name, known)} "
                        f"Present: {', '.join(known)}."
                    )
        for task, names in self.detach.items():
            for name in names:
                if name not in self.reads.get(task, ()):
                    edges = ", ".join(self.reads.get(task, ())) or "nothing"
                    raise ConfigError(f"TASKS.{task}.DETACH names '{name}', but that head reads {edges}")

    def needed(self, wanted: Iterable[str]) -> list[str]:
        """Return, in running order, the wanted tasks and every task that they read."""
        needed: set[str] = set()
        stack = [task for task in wanted if task != BOX]
        while stack:
            task = stack.pop()
            if task not in self.heads:
                raise KeyError(
                    f"no head '{task}'.{did_you_mean(task, self.heads)} Present: {', '.join(self.heads)}"
                )
            if task not in needed:
                needed.add(task)
                stack.extend(name for name in self.reads[task] if name != BOX)
        return [task for task in self.order if task in needed]

    def run(
        self, tokens: Tokens, box: TaskOutput, clip: Clip, wanted: Iterable[str] | None = None
    ) -> dict[str, TaskOutput]:
        """Run the heads over all frames of the clip.

        Args:
            tokens: the backbone's tokens, fused with the history where there is one.
            box: the box head's output.
            clip: the batch; heads may read its time stamps or its detail view.
            wanted: tasks to answer; None for all.

        Returns:
            task -> output, the box's included.
        """
        outputs = {BOX: box}
        for task in self.order if wanted is None else self.needed(wanted):
            upstream = {name: self._edge(task, name, outputs[name]) for name in self.reads[task]}
            outputs[task] = self.heads[task](tokens, upstream, clip)
        return outputs

    def _edge(self, task: str, name: str, output: TaskOutput) -> TaskOutput:
        if name not in self.detach.get(task, ()):
            return output
        features = None if output.features is None else output.features.detach()
        predictions = {key: value.detach() for key, value in output.predictions.items()}
        return replace(output, features=features, predictions=predictions)
