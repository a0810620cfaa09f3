"""The data set of rendered sequences: moving textured targets, textured backgrounds, true labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.conditions import condition_names, priority_order
from mtltrack.core.errors import DataError, did_you_mean
from mtltrack.core.registry import DATASETS
from mtltrack.data.sequences import SequenceInfo
from mtltrack.data.synthetic.conditions import Truth, truth
from mtltrack.data.synthetic.motion import Plan, make_plan
from mtltrack.data.synthetic.render import Looks, make_looks, render

SMALLEST = 32  # pixels; below that a target is a few pixels large


@DATASETS.register_module()
class SyntheticSequences:
    """Rendered sequences; frame f of sequence i is a pure function of the arguments, i and f.

    A longer sequence starts with the frames of a shorter one. The first frames show no condition; then each
    stretch of 24 frames brings in one condition, sometimes two. Labels are measured on the scene (see
    `conditions.truth`).

    Args:
        num_sequences: how many sequences, at least 1.
        num_frames: frames of each, at least 1.
        size: width and height of the frames in pixels, each at least 32.
        seed: number of the rendered world; other seeds give other textures and motions.
        conditions: names of the conditions to bring in ("Normal" is a stretch without any); None: all ten.
        fps: frames a second, for time stamps.

    Raises:
        DataError: an argument is out of range, or a condition's name is unknown.
    """

    name = "SyntheticSequences"
    labelled_tasks = ("cls",)

    def __init__(
        self,
        num_sequences: int = 50,
        num_frames: int = 120,
        size: Sequence[int] = (320, 240),
        seed: int = 0,
        conditions: Sequence[str] | None = None,
        fps: float = 30.0,
    ) -> None:
        if num_sequences < 1 or num_frames < 1 or seed < 0 or fps <= 0:
            raise DataError(
                "SyntheticSequences needs NUM_SEQUENCES and NUM_FRAMES of at least 1, SEED of at least 0 and "
                f"FPS above 0; found {num_sequences}, {num_frames}, {seed} and {fps}."
            )
        if len(size) != 2 or min(size) < SMALLEST:
            raise DataError(
                f"SyntheticSequences' SIZE is [width, height], each at least {SMALLEST}; found {list(size)}."
            )
        self.num_frames = num_frames
        self.size = (int(size[0]), int(size[1]))
        self.seed = seed
        self.conditions = _known(condition_names() if conditions is None else conditions)
        self.fps = fps
        self._num_sequences = num_sequences
        self._last: tuple[int, Plan, Looks] | None = None  # a clip's frames share them: draw them once
        self._known: dict[int, SequenceInfo] = {}

    @property
    def num_sequences(self) -> int:
        return self._num_sequences

    def sequence(self, i: int) -> SequenceInfo:
        """Return boxes, visibility and condition labels of sequence `i`; made once, then remembered."""
        if i not in self._known:
            self._known[i] = self._label(i)
        return self._known[i]

    def _label(self, i: int) -> SequenceInfo:
        plan = self._plan(i)
        truths = [truth(plan, frame) for frame in range(self.num_frames)]
        flags = np.stack([item.flags for item in truths])  # (F, 10)
        valid = np.ones(self.num_frames, bool)
        return SequenceInfo(
            name=self.sequence_name(i),
            boxes_xywh=np.stack([item.box_xywh for item in truths]),
            visible=np.array([item.visible for item in truths]),
            fps=self.fps,
            whole_length=self.num_frames,
            labels={"cls": {"valid": valid, "index": single_labels(flags), "flags": flags}},
        )

    def image(self, i: int, frame: int) -> NDArray[np.uint8]:
        """Return frame `frame` (from 0) of sequence `i` as (H, W, 3) uint8 RGB."""
        self._check_frame(frame)
        if self._last is None or self._last[0] != i:
            plan = self._plan(i)
            self._last = (i, plan, make_looks(plan))
        _, plan, looks = self._last
        return render(plan, looks, frame)

    def mask(self, i: int, frame: int) -> NDArray[np.uint8]:  # noqa: ARG002
        """Refuse: these sequences have no masks."""
        raise DataError(f"{self.name} has no masks; TrafficSequences are rendered with masks.")

    def truth(self, i: int, frame: int) -> Truth:
        """Return box, visibility and flags of one frame."""
        self._check_frame(frame)
        return truth(self._plan(i), frame)

    def sequence_name(self, i: int) -> str:
        """Return the name of sequence `i`, which tells the seed."""
        return f"synthetic{self.seed}-{i:04d}"

    def _plan(self, i: int) -> Plan:
        if not 0 <= i < self._num_sequences:
            raise DataError(f"no rendered sequence {i}: NUM_SEQUENCES is {self._num_sequences}, from 0 on")
        return make_plan(self.seed, i, self.size, self.conditions)

    def _check_frame(self, frame: int) -> None:
        if not 0 <= frame < self.num_frames:
            raise DataError(f"no rendered frame {frame}: NUM_FRAMES is {self.num_frames}, from 0 on")

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_last": None, "_known": {}}  # a worker makes its own


def _known(names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        if name not in condition_names():
            raise DataError(
                f"'{name}' in CONDITIONS is no scene condition.{did_you_mean(name, condition_names())} "
                f"Choose from: {', '.join(condition_names())}."
            )
    if len(set(names)) != len(names):
        raise DataError(f"CONDITIONS names a condition twice: {', '.join(names)}")
    return tuple(names)


def single_labels(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return (F,) class numbers for (F, 10) flags: of the flagged, the first in the order of priority."""
    order = np.array(priority_order())
    return order[flags[:, order].argmax(axis=1)].astype(np.int64)
