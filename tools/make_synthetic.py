"""Write rendered sequences as a folder that training and testing read, or one picture that shows them.

    python tools/make_synthetic.py --sequences 8 --frames 126 --out output/synthetic
    python tools/make_synthetic.py --sheet docs/synthetic.jpg

The folder has the OTB layout, `<out>/<sequence>/img/0001.jpg ...` and `groundtruth_rect.txt` (x,y,w,h, pixels
counted from 1), and the scene conditions in `<out>/<sequence>/<sequence>.jsonl`. So it can be given
to `tracking/test.py --dataset <out>`, and to training as FolderSequences with CLS_ANN_DIR the same folder.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from mtltrack.core.conditions import condition_names, conditions
from mtltrack.core.errors import DataError, MtltrackError
from mtltrack.data.synthetic.conditions import Truth
from mtltrack.data.synthetic.sequences import SyntheticSequences


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Write rendered sequences with boxes and scene conditions.")
    parser.add_argument("--sequences", type=int, default=8, help="how many (8)")
    parser.add_argument("--frames", type=int, default=126, help="frames of each (126)")
    parser.add_argument("--out", type=Path, help="folder to write; must be new or empty")
    parser.add_argument("--size", type=int, nargs=2, default=(320, 240), metavar=("W", "H"), help="pixels")
    parser.add_argument("--seed", type=int, default=0, help="another seed renders another world (0)")
    parser.add_argument("--conditions", nargs="+", help=f"of: {', '.join(condition_names())}; default all")
    parser.add_argument("--format", choices=("jpg", "png"), default="jpg", help="image files (jpg)")
    parser.add_argument("--sheet", type=Path, help="write one picture with an example of each condition")
    parsed = parser.parse_args(arguments)
    if parsed.out is None and parsed.sheet is None:
        parser.error("say what to write: --out FOLDER, --sheet FILE, or both")
    return parsed


def write_folder(world: SyntheticSequences, out: Path, suffix: str) -> None:
    """Write all sequences below `out`."""
    if out.exists() and any(out.iterdir()):
        raise DataError(f"--out {out} already holds files; name a new folder, or empty this one.")
    for i in track(range(world.num_sequences), description="rendering", disable=not sys.stdout.isatty()):
        write_sequence(world, i, out / world.sequence_name(i), suffix)


def write_sequence(world: SyntheticSequences, i: int, folder: Path, suffix: str) -> None:
    """Write the images, the boxes and the side-car file of sequence `i`."""
    (folder / "img").mkdir(parents=True)
    boxes, lines = [], []
    for frame in range(world.num_frames):
        file = f"img/{frame + 1:04d}.{suffix}"
        write_image(folder / file, world.image(i, frame))
        truth = world.truth(i, frame)
        x, y, w, h = truth.box_xywh
        boxes.append(f"{x + 1:.2f},{y + 1:.2f},{w:.2f},{h:.2f}")
        lines.append(json.dumps(side_car(folder.name, frame, file, truth, world.fps)))
    (folder / "groundtruth_rect.txt").write_text("\n".join(boxes) + "\n", encoding="utf-8")
    (folder / f"{folder.name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def side_car(sequence: str, frame: int, file: str, truth: Truth, fps: float) -> dict[str, object]:
    """Return the line of one frame (0-based here, 1-based in the file); boxes x1, y1, x2, y2, 0-based."""
    x, y, w, h = (round(float(value), 2) for value in truth.box_xywh)
    groups: dict[str, dict[str, object]] = {"cv_response": {}, "vlm_response": {}}
    for condition in conditions():
        if condition.group:
            groups[condition.group][condition.key] = {"flag": bool(truth.flags[condition.index]), "conf": 1.0}
    return {
        "sequence_name": sequence,
        "frame_id": frame + 1,
        "frame_file": file,
        "ground_truth_bbox": [x, y, round(x + w, 2), round(y + h, 2)],
        **groups,
        "timestamp": round(frame / fps, 6),
    }


def write_image(path: Path, rgb: np.ndarray) -> None:
    quality = [cv2.IMWRITE_JPEG_QUALITY, 92] if path.suffix == ".jpg" else []
    if not cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), quality):
        raise DataError(f"{path} could not be written; is the disk full, or the folder read-only?")


def draw_sheet(seed: int, columns: int = 5, width: int = 256) -> np.ndarray:
    """Return a picture of the ten conditions, the true box drawn in green."""
    cells = []
    for number, name in enumerate(condition_names()):
        world = SyntheticSequences(20, 30, seed=seed, conditions=[name])
        i, frame = clearest(world, number)
        cells.append(labelled(world.image(i, frame), world.truth(i, frame).box_xywh, name, width))
    rows = [np.hstack(cells[k : k + columns]) for k in range(0, len(cells), columns)]
    return np.vstack(rows)


def clearest(world: SyntheticSequences, number: int) -> tuple[int, int]:
    """Return (sequence, frame) in the middle of the first stretch that shows condition `number`."""
    for i in range(number, world.num_sequences):
        shown = np.flatnonzero(world.sequence(i).labels["cls"]["flags"][:, number])
        if len(shown) > 8:
            return i, int(shown[len(shown) // 2])
    raise DataError(f"seed {world.seed} renders no {condition_names()[number]}; choose another --seed")


def labelled(image: np.ndarray, box_xywh: np.ndarray, name: str, width: int) -> np.ndarray:
    """Return the frame at `width` pixels with its box and a caption above it."""
    scale = width / image.shape[1]
    picture = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    x, y, w, h = np.round(box_xywh * scale).astype(int)
    cv2.rectangle(picture, (x, y), (x + w, y + h), (90, 255, 60), 1, cv2.LINE_AA)
    framed = cv2.copyMakeBorder(picture, 26, 4, 4, 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    cv2.putText(framed, name, (5, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (30, 30, 30), 1, cv2.LINE_AA)
    return framed


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    began = time.perf_counter()
    try:
        if options.sheet is not None:
            write_image(options.sheet, draw_sheet(options.seed))
            print(f"picture: {options.sheet}")
        if options.out is not None:
            world = SyntheticSequences(
                options.sequences, options.frames, options.size, options.seed, options.conditions
            )
            write_folder(world, options.out, options.format)
            frames, seconds = world.num_sequences * world.num_frames, time.perf_counter() - began
            speed = f"{frames / seconds:.0f} a second"
            print(f"{world.num_sequences} sequences, {frames} frames in {options.out} ({speed})")
    except MtltrackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
