"""Which task heads run on a video, what they keep of it, and how their answers become a frame's results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn

from mtltrack.core.errors import ConfigError, MtltrackError, did_you_mean
from mtltrack.core.types import BOX, FrameContext, HeadSession, TaskOutput
from mtltrack.models.task_graph import TaskGraph


def asked_tasks(graph: TaskGraph, wanted: Iterable[str] | None) -> list[str]:
    """Return, in running order, the task heads whose results are asked for.

    Args:
        graph: the tracker's heads.
        wanted: TEST.TASKS: names, or None for all heads; the box, which is always answered, may be among
            them.

    Raises:
        ConfigError: a name is no head of this tracker.
    """
    if wanted is None:
        return list(graph.order)
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    for name in names:
        if name != BOX and name not in graph.heads:
            heads = f"Heads: {', '.join(graph.order)}" if graph.heads else "It has no heads but the box"
            raise ConfigError(
                f"TEST.TASKS names '{name}', which is no head of this tracker."
                f"{did_you_mean(name, graph.heads)} {heads}. Correct TEST.TASKS, or add TASKS.{name}."
            )
    return [task for task in graph.order if task in names]


class TaskSessions:
    """The sessions of the heads that run on one video.

    Args:
        heads: task -> head, in running order.
        asked: the tasks whose results are wanted; the others run because these read them.
        zones: name -> (V, 2) polygon in 0-based frame pixels.
        box_xywh: the box that the tracker is started with, in 0-based frame pixels.
        timestamp: of that frame, seconds.

    Raises:
        RuntimeError: a head's session can't be started; an error in what the user gave keeps its class. Both
            name the task.
    """

    def __init__(
        self,
        heads: Mapping[str, nn.Module],
        asked: Iterable[str],
        zones: Mapping[str, NDArray[Any]],
        box_xywh: Sequence[float],
        timestamp: float,
    ) -> None:
        self._heads: dict[str, Any] = dict(heads)
        self._asked = frozenset(asked)
        self._sessions: dict[str, HeadSession] = {}
        for task, head in self._heads.items():
            if hasattr(head, "session"):
                try:
                    session = self._sessions[task] = head.session(zones)
                    if hasattr(session, "start"):
                        session.start(tuple(box_xywh), timestamp)
                except Exception as error:
                    raise _of_task(error, task, "starting a video") from error

    def results(self, answers: Mapping[str, dict[str, Tensor]], frame: FrameContext) -> dict[str, Any]:
        """Turn the heads' predictions into the frame's results.

        Args:
            answers: task -> the predictions of its `decode_keys`, on the host.
            frame: the frame as the tracker left it; its `results` is filled here, head by head.

        Returns:
            task -> result, of the tasks that were asked for.

        Raises:
            RuntimeError: a head fails; an error in what the user gave keeps its class. Both name task and
                frame.
        """
        found: dict[str, Any] = {}
        frame = replace(frame, results=found)
        for task, head in self._heads.items():
            try:
                result = head.decode(TaskOutput(None, answers[task]))[0][0]
                if task in self._sessions:
                    result = self._sessions[task].update(result, frame)
            except Exception as error:
                raise _of_task(error, task, f"frame {frame.index}") from error
            found[task] = result
        return {task: result for task, result in found.items() if task in self._asked}


def _of_task(error: Exception, task: str, when: str) -> Exception:
    """Return the error with the task's name; what the user can mend stays an error of its kind."""
    kind = type(error) if isinstance(error, MtltrackError) else RuntimeError
    said = str(error) if isinstance(error, MtltrackError) else f"{type(error).__name__}: {error}"
    return kind(f"TASKS.{task}, {when}: {said}")
