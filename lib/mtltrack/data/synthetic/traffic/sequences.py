"""The data set of the traffic world: one vehicle a sequence, with every label there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.conditions import condition_names
from mtltrack.core.errors import DataError, did_you_mean
from mtltrack.core.registry import DATASETS
from mtltrack.core.stopping import StopRule
from mtltrack.data.recent import Recent
from mtltrack.data.sequences import PlateLabel, SequenceInfo
from mtltrack.data.synthetic.plates import plate_kinds as all_plate_kinds
from mtltrack.data.synthetic.sequences import single_labels
from mtltrack.data.synthetic.traffic.looks import Looks, make_looks
from mtltrack.data.synthetic.traffic.plan import Settings, make_plan
from mtltrack.data.synthetic.traffic.render import render, render_mask
from mtltrack.data.synthetic.traffic.scene import Plan
from mtltrack.data.synthetic.traffic.story import KINDS, LEAST_FRAMES
from mtltrack.data.synthetic.traffic.truth import Truth, measure

SMALLEST = 64  # pixels a side
LOOKS_BYTES = 128 << 20  # kept in memory, about
BYTES_A_PIXEL = 11  # of what is kept of a sequence, about: background, light, pictures, models, labels
CHINESE = "china"  # these formats have characters that the Latin alphabet lacks


@DATASETS.register_module()
class TrafficSequences:
    """Rendered road traffic; frame f of sequence i is a pure function of the arguments, i and f.

    A sequence is a story told in `num_frames` frames, so one with another number of frames is another one.
    A sequence shows one target vehicle. Kinds: "pass" drives through; "stop" halts in a zone for less than
    `alert_seconds`; "park" halts in a zone for longer; "outside" halts longer, clear of all zones; "leave"
    parks in a zone for longer and drives off; "approach" comes close, or starts from close by, so that its
    plate can be read.

    Labels are measured on the scene (see `truth.measure`); `stopped` and the alert come from the vehicle's
    real speed. Zones are fixed in the picture, which a swaying camera shifts by up to 3 pixels.

    Args:
        num_sequences: how many sequences, at least 1.
        num_frames: frames of each, at least 8.
        size: width and height of the frames in pixels, each at least 64.
        seed: number of the rendered world; other seeds give other roads, vehicles and stories.
        conditions: names of the scene conditions to bring in; None: all ten. What traffic does by itself
            (a vehicle that comes closer, turns, leaves the frame, drives before the target) is labelled too.
        fps: frames a second while the target moves.
        alert_seconds, alert_overlap, measure: the hard rule of the alert, see `core.stopping.StopRule`.
        plate_kinds: formats of the plates, see `plates.plate_kinds`; None: all that are written with Latin
            letters and digits.
        kinds: kinds of sequences, from `story.KINDS`; None: all.

    Raises:
        DataError: an argument is out of range, or a name is unknown.
    """

    name = "TrafficSequences"
    labelled_tasks = ("cls", "seg", "plate", "ocr", "alert")
    rule_arguments: ClassVar[dict[str, str]] = {
        "seconds": "ALERT_SECONDS",
        "overlap": "ALERT_OVERLAP",
        "measure": "MEASURE",
    }

    def __init__(
        self,
        num_sequences: int = 50,
        num_frames: int = 120,
        size: Sequence[int] = (640, 360),
        seed: int = 0,
        conditions: Sequence[str] | None = None,
        fps: float = 10.0,
        alert_seconds: float = 120.0,
        alert_overlap: float = 0.3,
        measure: str = "ioa",
        plate_kinds: Sequence[str] | None = None,
        kinds: Sequence[str] | None = None,
    ) -> None:
        if num_sequences < 1 or num_frames < LEAST_FRAMES or seed < 0 or fps <= 0 or alert_seconds <= 0:
            raise DataError(
                f"TrafficSequences needs NUM_SEQUENCES of at least 1, NUM_FRAMES of at least {LEAST_FRAMES}, "
                f"SEED of at least 0, FPS and ALERT_SECONDS above 0; found {num_sequences}, {num_frames}, "
                f"{seed}, {fps} and {alert_seconds}."
            )
        if len(size) != 2 or min(size) < SMALLEST:
            raise DataError(
                f"TrafficSequences' SIZE is [width, height], each at least {SMALLEST}; found {list(size)}."
            )
        latin = [kind for kind in all_plate_kinds() if not kind.startswith(CHINESE)]
        self.settings = Settings(
            seed=seed,
            frames=num_frames,
            size=(int(size[0]), int(size[1])),
            fps=float(fps),
            conditions=_chosen("CONDITIONS", conditions, condition_names(), "scene condition"),
            kinds=_chosen("KINDS", kinds, tuple(KINDS), "kind of sequence"),
            plate_kinds=_chosen("PLATE_KINDS", plate_kinds, all_plate_kinds(), "plate format", tuple(latin)),
            rule=StopRule(float(alert_seconds), float(alert_overlap), measure),
        )
        self._num_sequences = num_sequences
        self._forget()

    def _forget(self) -> None:
        pixels = self.settings.size[0] * self.settings.size[1]
        self._plans: Recent[Plan] = Recent(512)
        self._truths: Recent[Truth] = Recent(512)
        self._infos: Recent[SequenceInfo] = Recent(512)
        self._looks: Recent[Looks] = Recent(max(2, LOOKS_BYTES // (BYTES_A_PIXEL * pixels)))

    @property
    def rule(self) -> StopRule:
        """The rule that alerts are labelled by."""
        return self.settings.rule

    @property
    def num_sequences(self) -> int:
        """How many sequences there are."""
        return self._num_sequences

    @property
    def num_frames(self) -> int:
        """Frames of each sequence."""
        return self.settings.frames

    def sequence_name(self, i: int) -> str:
        """Return the name of sequence `i`, which tells the seed."""
        return f"traffic{self.settings.seed}-{i:04d}"

    def sequence(self, i: int) -> SequenceInfo:
        """Return everything that is known of sequence `i` but its pixels; made once, then remembered."""
        return self._infos.get(i, self._label)

    def image(self, i: int, frame: int) -> NDArray[np.uint8]:
        """Return frame `frame` (from 0) of sequence `i` as (H, W, 3) uint8 RGB."""
        self._check_frame(frame)
        effect = self.truth(i).effects[frame]
        return render(self.plan(i), self._looks.get(i, self._make_looks), effect, frame)

    def mask(self, i: int, frame: int) -> NDArray[np.uint8]:
        """Return (H, W) uint8, 1 where the target is seen in frame `frame` (from 0) of sequence `i`."""
        self._check_frame(frame)
        return render_mask(self.plan(i), self._looks.get(i, self._make_looks), frame)

    def truth(self, i: int) -> Truth:
        """Return what is true of the frames of sequence `i`, in more detail than `sequence`."""
        return self._truths.get(i, lambda i: measure(self.plan(i), self.settings.rule))

    def plan(self, i: int) -> Plan:
        """Return the scene and the story of sequence `i`."""
        if not 0 <= i < self._num_sequences:
            raise DataError(f"no rendered sequence {i}: NUM_SEQUENCES is {self._num_sequences}, from 0 on")
        return self._plans.get(i, lambda i: make_plan(self.settings, i))

    def _make_looks(self, i: int) -> Looks:
        return make_looks(self.plan(i))

    def _label(self, i: int) -> SequenceInfo:
        plan, truth = self.plan(i), self.truth(i)
        every = np.ones(self.num_frames, bool)
        text, where = plan.target.vehicle.plate.text, self.sequence_name(i)
        known = np.ones(truth.flags.shape, bool)
        return SequenceInfo(
            name=self.sequence_name(i),
            boxes_xywh=truth.boxes_xywh,
            visible=truth.visible,
            fps=self.settings.fps,
            timestamps=plan.story.times,
            whole_length=self.num_frames,
            labels={
                "cls": {
                    "valid": every,
                    "index": single_labels(truth.flags),
                    "flags": truth.flags,
                    "known": known,
                }
            },
            plates={
                frame: PlateLabel(plate.box_xyxy, text if plate.readable else None, where)
                for frame, plate in enumerate(truth.plates)
            },
            masked=every,
            alerts={frame: bool(red) for frame, red in enumerate(truth.alerts)},
            zones=plan.polygons,
            stopped=truth.stopped,
            has_text=any(plate.readable for plate in truth.plates),
        )

    def _check_frame(self, frame: int) -> None:
        if not 0 <= frame < self.num_frames:
            raise DataError(f"no rendered frame {frame}: NUM_FRAMES is {self.num_frames}, from 0 on")

    def __getstate__(self) -> dict[str, object]:
        return {"settings": self.settings, "_num_sequences": self._num_sequences}  # a worker makes its own

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._forget()


def _chosen(
    key: str,
    names: Sequence[str] | None,
    known: Sequence[str],
    what: str,
    default: tuple[str, ...] | None = None,
) -> tuple[str, ...]:
    """Return the chosen names; raises DataError for an unknown one, one that comes twice, or none."""
    if names is None:
        return tuple(known) if default is None else default
    for name in names:
        if name not in known:
            raise DataError(
                f"'{name}' in {key} is no {what}.{did_you_mean(name, known)} Choose from: {', '.join(known)}."
            )
    if len(set(names)) != len(names):
        raise DataError(f"{key} names a {what} twice: {', '.join(names)}")
    if not names and key != "CONDITIONS":
        raise DataError(f"{key} is empty; name at least one {what}, of: {', '.join(known)}.")
    return tuple(names)
