"""The labels of a clip: what each task's head is to learn from its frames, as far as their source tells.

Each task named in TASKS gets an entry in every sample: its arrays have the frames T in front, `valid` (T,)
says which frames are labelled, and an unlabelled frame holds zeros (class number -100; the clock of an alert
runs on between labelled frames). Only what is asked for is worked out. Shapes and units are those of
`Clip.labels`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mtltrack.core.alphabets import encode_text
from mtltrack.core.conditions import UNLABELLED, condition_names, normal_index
from mtltrack.core.errors import ConfigError
from mtltrack.core.rle import check_mask_size
from mtltrack.core.stopping import StopRule, stopped_seconds
from mtltrack.core.types import BOX
from mtltrack.data.augment import CutFrame
from mtltrack.data.effects import spread_points, to_view, view_box
from mtltrack.data.labels import condition_labels
from mtltrack.data.sampling import FrameChoice
from mtltrack.data.sequences import PlateLabel, SequenceDataset, SequenceInfo
from mtltrack.data.transforms import Rendered
from mtltrack.data.value_checks import check_classes, check_finite, check_in_frame

LEAST_OF_PLATE = 0.5
"""Share of a plate that must lie inside the search crop for its box to be learned."""
LEAST_OF_TEXT = 0.9
"""Share of a plate that must lie inside the view that is read for its text to be learned."""
LEAST_ROWS = 8
"""Height of a plate in the smallest things that a rendered blur leaves to be told apart, for its text."""

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class ClipParts:
    """What the labels of a clip are made from.

    Attributes:
        source: the data set, for masks.
        sequence: number of the sequence in it.
        info: what is known of the sequence.
        choice: the frames that were drawn.
        search: their crops.
        sizes: width and height in pixels of each search frame.
    """

    source: SequenceDataset
    sequence: int
    info: SequenceInfo
    choice: FrameChoice
    search: Sequence[CutFrame]
    sizes: Sequence[tuple[int, int]]

    @property
    def frames(self) -> list[int]:
        """Numbers of the search frames, from 0."""
        return self.choice.search

    @property
    def crop_size(self) -> int:
        return int(self.search[0].image.shape[0])

    def where(self, frame: int) -> str:
        """Name a frame in a message."""
        return f"{self.source.name}, sequence {self.info.name}, frame {frame + self.info.first_frame}"


class ClipLabels:
    """Makes the labels of the box and of the tasks that a run trains.

    Args:
        tasks: their names; of a name that isn't known here the source's own labels are taken.
        alphabet: the characters of plate texts; needed for the task ocr.
        text_columns: columns of the reader (TASKS.ocr.COLUMNS): what CTC can emit at most.
        stop_rule: when a target stands still, of the task alert; None for the rule's defaults.
        num_classes: of the task cls (TASKS.cls.NUM_CLASSES); None: as many as there are conditions.

    Raises:
        ConfigError: the task ocr without an alphabet.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        alphabet: str | None = None,
        text_columns: int = 24,
        stop_rule: StopRule | None = None,
        num_classes: int | None = None,
    ) -> None:
        if "ocr" in tasks and not alphabet:
            raise ConfigError(
                "the task ocr needs an alphabet to write texts with: name one in TASKS.ocr.ALPHABET"
            )
        self.tasks = tuple(tasks)
        self.alphabet = alphabet or ""
        self.text_columns = text_columns
        self.stop_rule = stop_rule or StopRule()
        self.num_classes = num_classes or len(condition_names())

    def __call__(self, parts: ClipParts) -> dict[str, dict[str, torch.Tensor]]:
        """Return the entry of each task.

        Raises:
            DataError: a label can't be used; names file and line.
        """
        made = {BOX: _box(parts)}
        for task in self.tasks:
            if task == "ocr":
                made[task] = _ocr(parts, self.alphabet, self.text_columns)
            elif task == "cls":
                made[task] = _cls(parts, self.num_classes)
            elif task == "alert":
                made[task] = _alert(parts, self.stop_rule)
            else:
                made[task] = _MAKERS[task](parts) if task in _MAKERS else _own_labels(parts, task)
        return {
            task: {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in entry.items()}
            for task, entry in made.items()
        }


def _box(parts: ClipParts) -> Arrays:
    boxes_xywh = torch.stack([frame.box_xywh for frame in parts.search])  # (T, 4)
    centres = boxes_xywh[:, :2] + 0.5 * boxes_xywh[:, 2:]
    return {
        "valid": np.full(len(boxes_xywh), parts.info.box_labelled),
        "cxcywh": torch.cat((centres, boxes_xywh[:, 2:]), dim=1).numpy(),
    }


def _own_labels(parts: ClipParts, task: str) -> Arrays:
    """Return what the source itself gives for a task; only `valid` where it gives nothing."""
    if task not in parts.info.labels:
        return {"valid": np.zeros(len(parts.frames), dtype=bool)}
    entry = {name: values[parts.frames] for name, values in parts.info.labels[task].items()}
    check_finite(entry, lambda k: f"{parts.where(parts.frames[k])}, task {task}")
    return entry


def _cls(parts: ClipParts, num_classes: int) -> Arrays:
    entry = _own_labels(parts, "cls")
    if "index" in entry:
        check_classes(entry["index"], entry["valid"], num_classes, lambda k: parts.where(parts.frames[k]))
    shape = (len(parts.frames), len(condition_names()))
    if "index" not in entry:
        entry["index"] = np.full(shape[0], UNLABELLED, dtype=np.int64)
        entry["flags"] = np.zeros(shape, dtype=bool)
    if "known" not in entry:  # a source that tells any flag tells all
        entry["known"] = np.repeat(entry["valid"][:, None], shape[1], axis=1)
    for k, crop in enumerate(parts.search):
        for rendered in crop.rendered:
            _add_rendered(entry, k, rendered)
    return entry


def _add_rendered(entry: Arrays, k: int, rendered: Rendered) -> None:
    """Add what was rendered onto frame `k`, which makes an unlabelled frame a labelled one."""
    flags, known = entry["flags"][k] | rendered.flags, entry["known"][k] | rendered.flags
    if not entry["valid"][k]:
        known |= rendered.known
    elif not rendered.flags.any():
        return  # the source's own label stands
    flags[normal_index()] = known[normal_index()] = False
    made = condition_labels(flags[None], np.ones(1, dtype=bool), known)
    for name, values in made.items():
        entry[name][k] = values[0]


def _seg(parts: ClipParts) -> Arrays:
    size, info = parts.crop_size, parts.info
    masks = np.zeros((len(parts.frames), size, size), dtype=np.uint8)
    valid = np.zeros(len(parts.frames), dtype=bool)
    if info.masked is None:
        return {"valid": valid, "mask": masks}
    read: dict[int, np.ndarray] = {}  # a still image is many frames of the clip
    for k, (frame, crop) in enumerate(zip(parts.frames, parts.search, strict=True)):
        if not info.masked[frame]:
            continue
        if frame not in read:
            read[frame] = parts.source.mask(parts.sequence, frame)
            check_mask_size(read[frame], parts.sizes[k], info.mask_where.get(frame) or parts.where(frame))
        masks[k] = crop.cutting.cut_mask(read[frame], size)
        for rendered in crop.rendered:
            if rendered.effect.opaque:
                masks[k][rendered.effect.hidden_pixels(crop.affine, size)] = 0
        valid[k] = True
    return {"valid": valid, "mask": masks}


def _plate(parts: ClipParts) -> Arrays:
    count, size = len(parts.frames), parts.crop_size
    present, valid = np.zeros((2, count), dtype=bool)
    boxes = np.zeros((count, 4), dtype=np.float32)
    for k, (frame, crop) in enumerate(zip(parts.frames, parts.search, strict=True)):
        plate = parts.info.plates.get(frame)
        if plate is None or _stands_for_target(plate, parts.info, frame):
            continue
        box = plate.box_xyxy
        if box is not None:
            check_in_frame(box, parts.sizes[k], f"{plate.where or parts.where(frame)}: the plate's bbox")
        seen = 0.0 if box is None else _share_seen(box, crop.affine, size, crop.rendered)
        valid[k] = seen == 0 or seen >= LEAST_OF_PLATE
        if box is not None and seen >= LEAST_OF_PLATE:
            present[k] = True
            boxes[k] = _cxcywh(np.clip(box_in_view(_uncut(box, crop), crop.affine), 0, size), size)
    return {"valid": valid, "present": present, "cxcywh": boxes}


def _ocr(parts: ClipParts, alphabet: str, columns: int) -> Arrays:
    count = len(parts.frames)
    codes: list[list[int]] = [[] for _ in range(count)]
    boxes = np.zeros((count, 4), dtype=np.float32)
    for k, (frame, crop) in enumerate(zip(parts.frames, parts.search, strict=True)):
        plate = parts.info.plates.get(frame)
        if plate is None or plate.text is None:
            continue
        where = plate.where or parts.where(frame)
        read = encode_text(plate.text, alphabet, columns, where)
        if plate.box_xyxy is not None:
            check_in_frame(plate.box_xyxy, parts.sizes[k], f"{where}: the plate's bbox")
        if _is_legible(plate, crop):
            codes[k] = read
            boxes[k] = _cxcywh(box_in_view(plate.box_xyxy, crop.affine), parts.crop_size)
    length = np.array([len(code) for code in codes], dtype=np.int64)
    padded = np.zeros((count, max(1, int(length.max()))), dtype=np.int64)
    for row, code in zip(padded, codes, strict=True):
        row[: len(code)] = code
    return {"valid": length > 0, "codes": padded, "length": length, "cxcywh": boxes}


def _stands_for_target(plate: PlateLabel, info: SequenceInfo, frame: int) -> bool:
    """Tell whether a plate fills its picture and was cut around as the target: that teaches reading alone."""
    x, y, w, h = info.boxes_xywh[frame]
    return not info.box_labelled and plate.box_xyxy == (x, y, x + w, y + h)


def _uncut(box_xyxy: Sequence[float], crop: CutFrame) -> np.ndarray:
    """Return what of a box of the frame is within the frame's border where that was moved."""
    box = np.asarray(box_xyxy, dtype=np.float64)
    for rendered in crop.rendered:
        box = rendered.effect.visible_box(box)
    return box


def _is_legible(plate: PlateLabel, crop: CutFrame) -> bool:
    """Tell whether the view that is read shows enough of a plate for its text."""
    if plate.box_xyxy is None:
        return False
    view, affine = (crop.image, crop.affine)
    if crop.detail is not None and crop.detail_affine is not None:
        view, affine = crop.detail, crop.detail_affine
    height = plate.box_xyxy[3] - plate.box_xyxy[1]
    sharp = all(height >= LEAST_ROWS * rendered.effect.finest for rendered in crop.rendered)
    return sharp and _share_seen(plate.box_xyxy, affine, view.shape[0], crop.rendered) >= LEAST_OF_TEXT


def _share_seen(
    box_xyxy: Sequence[float], affine: np.ndarray, size: int, rendered: Sequence[Rendered]
) -> float:
    """Return the share of a box of the frame that a view shows and nothing rendered hides, in [0, 1]."""
    hiding = [item.effect for item in rendered if item.effect.opaque]
    if not hiding:
        return share_inside(box_xyxy, affine, size)
    points = spread_points(np.asarray(box_xyxy, dtype=np.float64))
    in_view = to_view(points, affine) + 0.5
    seen = ((in_view > 0) & (in_view < size)).all(axis=1)
    for effect in hiding:
        seen &= ~effect.hides(points)
    return float(seen.mean())


def _alert(parts: ClipParts, rule: StopRule) -> Arrays:
    """Return zones, decision and clock; a clip that runs backwards tells nothing about standing still."""
    info, frames = parts.info, parts.frames
    valid = np.array([frame in info.alerts and not parts.choice.reversed for frame in frames])
    stopped = np.zeros(len(frames), dtype=np.float32)
    zones = np.zeros((len(frames), 1, 3, 2), dtype=np.float32)
    if valid.any():
        # in all frames: the clip's clock starts from the first one's, labelled or not
        stopped = _clock(info, rule)[frames].astype(np.float32)
        zones = np.repeat(_padded_zones(list(info.zones.values()))[None], len(frames), axis=0)
    target = np.array([bool(info.alerts.get(frame)) for frame in frames]) & valid
    return {"valid": valid, "zones": zones, "target": target, "stopped": stopped}


def _clock(info: SequenceInfo, rule: StopRule) -> np.ndarray:
    """Return (F,) seconds that the target has been standing still; worked out once a sequence."""
    if info.stopped is None:
        x, y, w, h = info.boxes_xywh.T
        boxes_xyxy = np.stack([x, y, x + w, y + h], axis=1)
        info.stopped = stopped_seconds(boxes_xyxy, info.visible, info.times(), rule)
    return info.stopped


def _padded_zones(zones: Sequence[np.ndarray]) -> np.ndarray:
    """Return (Z, V, 2) float32, Z >= 1 and V >= 3: the last vertex repeated, zeros for no zone at all."""
    corners = max([3, *(len(zone) for zone in zones)])
    padded = np.zeros((max(1, len(zones)), corners, 2), dtype=np.float32)
    for row, zone in zip(padded, zones, strict=False):
        row[:] = np.pad(zone, ((0, corners - len(zone)), (0, 0)), mode="edge")
    return padded


_MAKERS: dict[str, Callable[[ClipParts], Arrays]] = {
    "seg": _seg,
    "plate": _plate,
}


def box_in_view(box_xyxy: Sequence[float], affine: np.ndarray) -> np.ndarray:
    """Map a box of the frame into a view, exactly: by the inverse of the view's matrix.

    Args:
        box_xyxy: (4,) frame pixels.
        affine: (2, 3) view pixel -> frame pixel, a scale for each axis and perhaps a mirror image.

    Returns:
        (4,) xyxy float64 in the view's pixels.
    """
    return np.concatenate(view_box(np.asarray(box_xyxy, dtype=np.float64), affine))


def share_inside(box_xyxy: Sequence[float], affine: np.ndarray, size: int) -> float:
    """Return the share of a box's area that a view shows, in [0, 1].

    Args:
        box_xyxy: (4,) frame pixels, with an area.
        affine: (2, 3) view pixel -> frame pixel.
        size: side of the view in pixels.
    """
    x1, y1, x2, y2 = box_in_view(box_xyxy, affine)
    width, height = min(x2, size) - max(x1, 0), min(y2, size) - max(y1, 0)
    return float(max(width, 0) * max(height, 0) / ((x2 - x1) * (y2 - y1)))


def _cxcywh(box_xyxy: np.ndarray, size: int) -> np.ndarray:
    """Return centre and size in [0, 1] of a view of a box in its pixels."""
    low, high = box_xyxy[:2] / size, box_xyxy[2:] / size
    return np.concatenate([(low + high) / 2, high - low])
