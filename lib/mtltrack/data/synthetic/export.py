"""Writing rendered sequences as files: images, boxes, zones, and side-car files with every label."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import cv2
import lmdb
import numpy as np
from numpy.typing import NDArray

from mtltrack.core.conditions import conditions
from mtltrack.core.errors import DataError
from mtltrack.core.rle import encode_mask
from mtltrack.data.sequences import SequenceInfo
from mtltrack.data.synthetic.sequences import SyntheticSequences
from mtltrack.data.synthetic.traffic.sequences import TrafficSequences

Put = Callable[[str, bytes], None]
Progress = Callable[[int, int], None]
"""Called with the frames done and the frames in all."""
PARTS = ("train", "val")
BEST_COVER = 8  # GOT-10k's grade of a target in full sight


class World(Protocol):
    """What is written: a rendered data set."""

    @property
    def num_sequences(self) -> int:
        """How many sequences there are."""
        ...

    def sequence_name(self, i: int) -> str:
        """Return the name of sequence `i`."""
        ...

    def sequence(self, i: int) -> SequenceInfo:
        """Return what is known of sequence `i`."""
        ...

    def image(self, i: int, frame: int) -> NDArray[np.uint8]:
        """Return frame `frame` of sequence `i`, (H, W, 3) uint8 RGB."""
        ...


def require_empty(out: Path) -> None:
    """Raise DataError when a folder holds files already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"--out {out} already holds files; name a new folder, or empty this one.")


@contextmanager
def folder_writer(root: Path) -> Iterator[Put]:
    """Give a function that writes files below a folder; raises DataError when one can't be written."""

    def put(key: str, data: bytes) -> None:
        path = root / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise DataError(f"{path} can't be written: {error.strerror or error}.") from error

    yield put


@contextmanager
def lmdb_writer(root: Path, most_bytes: int) -> Iterator[Put]:
    """Give a function that writes into the LMDB of a folder, which may grow to `most_bytes`."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with lmdb.open(str(root), map_size=most_bytes, meminit=False) as environment:

            def put(key: str, data: bytes) -> None:
                with environment.begin(write=True) as transaction:
                    transaction.put(key.encode(), data)

            yield put
            environment.sync(True)
    except (lmdb.Error, OSError) as error:
        raise DataError(f"the LMDB {root} can't be written: {error}.") from error


def write_traffic(
    world: TrafficSequences, out: Path, part: str, quality: int, as_lmdb: bool, progress: Progress
) -> None:
    """Write rendered traffic in GOT-10k's layout, with labels beside it.

    `<out>/<part>/list.txt` and `<out>/<part>/<seq>/` with the images, groundtruth.txt (x,y,w,h from 0),
    absence.label, cover.label, meta_info.ini, `<seq>.jsonl` and zones.json. As an LMDB the first of these are
    its keys; the last two are files in any case.

    Args:
        world: what to write.
        out: an empty folder, or one to be made.
        part: train or val.
        quality: of the JPEG images, 1 to 100.
        as_lmdb: write an LMDB.
        progress: called as the work goes on.

    Raises:
        DataError: the folder isn't empty, or something can't be written.
    """
    require_empty(out)
    names = [world.sequence_name(i) for i in range(world.num_sequences)]
    width, height = world.settings.size
    most_bytes = (64 << 20) + 6 * width * height * world.num_frames * len(names)
    with (
        folder_writer(out) as put_file,
        lmdb_writer(out, most_bytes) if as_lmdb else folder_writer(out) as put,
    ):
        put(f"{part}/list.txt", ("\n".join(names) + "\n").encode())
        for i, name in enumerate(names):
            folder = f"{part}/{name}"
            info, lines = world.sequence(i), []
            for frame in range(world.num_frames):
                file = f"{frame + 1:08d}.jpg"
                put(f"{folder}/{file}", encode_image(world.image(i, frame), ".jpg", quality))
                lines.append(side_car(info, frame, file, world.mask(i, frame)))
                progress(i * world.num_frames + frame + 1, len(names) * world.num_frames)
            for file, text in _annotation(world, i).items():
                put(f"{folder}/{file}", text.encode())
            put_file(f"{folder}/{name}.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
            zones = {zone: polygon.tolist() for zone, polygon in info.zones.items()}
            put_file(f"{folder}/zones.json", (json.dumps(zones, indent=1) + "\n").encode())


def _annotation(world: TrafficSequences, i: int) -> dict[str, str]:
    """Return the text files of a sequence in GOT-10k's layout."""
    info, truth = world.sequence(i), world.truth(i)
    boxes = "".join(",".join(f"{value:.4f}" for value in box) + "\n" for box in info.boxes_xywh)
    seen = np.ceil(BEST_COVER * np.clip(truth.inside - truth.covered, 0, 1)).astype(int)
    plan = world.plan(i)
    meta = {
        "url": "rendered",
        "begin": "00:00:00",
        "anno_fps": f"{world.settings.fps:g}Hz",
        "object_class": plan.target.vehicle.body,
        "motion_class": plan.story.kind,
        "major_class": "vehicle",
        "resolution": str(plan.size),
    }
    return {
        "groundtruth.txt": boxes,
        "absence.label": "".join(f"{int(not here)}\n" for here in info.visible),
        "cover.label": "".join(f"{grade}\n" for grade in seen),
        "meta_info.ini": "[METAINFO]\n" + "".join(f"{key}: {value}\n" for key, value in meta.items()),
    }


def write_textures(world: SyntheticSequences, out: Path, suffix: str, progress: Progress) -> None:
    """Write textured sequences in OTB's layout, with the scene conditions beside them.

    `<out>/<seq>/img/0001.jpg`, `<out>/<seq>/groundtruth_rect.txt` (x,y,w,h, pixels from 1) and
    `<out>/<seq>/<seq>.jsonl`.

    Args:
        world: what to write.
        out: an empty folder, or one to be made.
        suffix: jpg or png.
        progress: called as the work goes on.

    Raises:
        DataError: the folder isn't empty, or something can't be written.
    """
    require_empty(out)
    with folder_writer(out) as put:
        for i in range(world.num_sequences):
            name, info = world.sequence_name(i), world.sequence(i)
            boxes, lines = [], []
            for frame in range(world.num_frames):
                file = f"img/{frame + 1:04d}.{suffix}"
                put(f"{name}/{file}", encode_image(world.image(i, frame), f".{suffix}", 92))
                x, y, w, h = info.boxes_xywh[frame]
                boxes.append(f"{x + 1:.2f},{y + 1:.2f},{w:.2f},{h:.2f}\n")
                lines.append(json.dumps(side_car(info, frame, file)) + "\n")
                progress(i * world.num_frames + frame + 1, world.num_sequences * world.num_frames)
            put(f"{name}/groundtruth_rect.txt", "".join(boxes).encode())
            put(f"{name}/{name}.jsonl", "".join(lines).encode())


def encode_image(rgb: NDArray[np.uint8], suffix: str, quality: int) -> bytes:
    """Return the bytes of an image file."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else []
    return bytes(cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)[1])


def side_car(
    info: SequenceInfo, frame: int, file: str, mask: NDArray[np.uint8] | None = None
) -> dict[str, Any]:
    """Return the line of one frame (0-based here, 1-based in the file); boxes x1, y1, x2, y2, 0-based.

    What the sequence doesn't know is left out.
    """
    x, y, w, h = (float(value) for value in info.boxes_xywh[frame])
    flags = info.labels["cls"]["flags"][frame]
    groups: dict[str, dict[str, Any]] = {"cv_response": {}, "vlm_response": {}}
    for condition in conditions():
        if condition.group:
            groups[condition.group][condition.key] = {"flag": bool(flags[condition.index]), "conf": 1.0}
    line: dict[str, Any] = {
        "sequence_name": info.name,
        "frame_id": frame + 1,
        "frame_file": file,
        "ground_truth_bbox": _rounded([x, y, x + w, y + h]),
        **groups,
        "timestamp": round(float(info.times()[frame]), 6),
    }
    if mask is not None:
        line["mask"] = encode_mask(mask)
    if frame in info.plates:
        plate = info.plates[frame]
        box = None if plate.box_xyxy is None else _rounded(plate.box_xyxy)
        line["plate"] = {"bbox": box, "text": plate.text}
    if frame in info.alerts:
        line["alert"] = int(info.alerts[frame])
    return line


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 2) for value in values]
