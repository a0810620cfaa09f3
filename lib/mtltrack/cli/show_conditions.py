"""`tools/show_conditions.py`: a picture of the conditions that `RenderConditions` renders onto frames."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mtltrack.cli.command import run_command
from mtltrack.core.conditions import condition_names
from mtltrack.core.errors import DataError
from mtltrack.data import SequenceDataset, build_dataset
from mtltrack.data.augment import ClipTransform, CropSettings, JointDraw, SampleRandom, ViewSettings
from mtltrack.data.transforms import RenderConditions
from mtltrack.data.transforms.render_conditions import KINDS

STRENGTHS = (0.1, 0.4, 0.7, 1.0)
QUALITY = 88  # of a JPEG
MARGIN, LINE = 4, 18  # pixels around a crop, and above it for its words
YES, NO = (0, 110, 0), (120, 120, 120)  # colours of the words: labelled, below the limit

EXAMPLES = """examples:
  python tools/show_conditions.py --out conditions.jpg
  python tools/show_conditions.py --data my_videos --sequence 2 --frame 40 --out conditions.jpg"""


class _InColour(ClipTransform):
    """Cuts crops as in training, but never grey: a grey crop would look like a rendered condition."""

    def draw_joint(self, rng: SampleRandom, allow_flip: bool = True) -> JointDraw:
        return JointDraw(grayscale=False, flip=super().draw_joint(rng, allow_flip).flip)


def build_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="show_conditions.py",
        description="Draw each condition that RenderConditions (DATA.TRANSFORMS) renders onto a frame, from "
        "weak to strong, with the box and the labels that follow.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", metavar="DIR", help="folder of sequences; without it, the rendered traffic")
    parser.add_argument("--sequence", type=int, default=0, help="number of the sequence, from 0; default 0")
    parser.add_argument("--frame", type=int, default=0, help="number of the frame, from 0; default 0")
    parser.add_argument("--size", type=int, default=176, help="side of a crop in pixels; default 176")
    parser.add_argument("--out", type=Path, required=True, help="the picture")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    entry = "TRAFFIC" if arguments.data is None else {"TYPE": "FolderSequences", "ROOT": arguments.data}
    sheet = draw_sheet(build_dataset(entry), arguments.sequence, arguments.frame, arguments.size)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(arguments.out), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY]):
        raise DataError(f"can't write the picture {arguments.out}. Give a name that ends in .jpg or .png.")
    print(f"wrote {arguments.out}")
    return 0


def draw_sheet(dataset: SequenceDataset, sequence: int, frame: int, size: int) -> NDArray[np.uint8]:
    """Return a picture with a row for each condition and a column for each of STRENGTHS.

    Args:
        dataset: where the frame comes from.
        sequence: its number, from 0.
        frame: its number, from 0.
        size: side of each crop in pixels.

    Raises:
        DataError: there is no such frame, or its target can't be seen.
    """
    frames = dataset.sequence(sequence).num_frames if 0 <= sequence < dataset.num_sequences else 0
    if not 0 <= frame < frames or not dataset.sequence(sequence).visible[frame]:
        raise DataError(
            f"frame {frame} of sequence {sequence} of {dataset.name} isn't there, or its target can't be "
            f"seen. There are {dataset.num_sequences} sequences, and {frames} frames in that one; both count "
            "from 0."
        )
    image = dataset.image(sequence, frame)
    box = torch.from_numpy(dataset.sequence(sequence).boxes_xywh[frame].astype(np.float32))
    rows = []
    for row, name in enumerate(KINDS):
        seeds = range(row, row + 10 * len(STRENGTHS), 10)
        pairs = zip(STRENGTHS, seeds, strict=True)
        rows.append(np.hstack([_draw(image, box, name, strength, size, seed) for strength, seed in pairs]))
    return np.vstack(rows)


def _draw(
    image: NDArray[np.uint8], box_xywh: torch.Tensor, name: str, strength: float, size: int, seed: int
) -> NDArray[np.uint8]:
    render = RenderConditions(1.0, [name], (strength, strength))
    view = ViewSettings(size, 2.5)
    transform = _InColour(CropSettings(view, view, brightness_jitter=0.0, transforms=(render,)))
    target = (image, box_xywh)
    _, (crop,) = transform(target, [target], SampleRandom(seed), allow_flip=False)
    flags = np.array(condition_names())[crop.rendered[0].flags].tolist()
    picture = np.ascontiguousarray(crop.image)
    x, y, w, h = (crop.box_xywh * size).round().int().tolist()
    cv2.rectangle(picture, (x, y), (x + w, y + h), (0, 255, 0), 1)
    tile = np.full((size + LINE + MARGIN, size + 2 * MARGIN, 3), 255, np.uint8)
    tile[LINE : LINE + size, MARGIN : MARGIN + size] = picture
    words = f"{strength:g} {', '.join(flags) or name + ': no'}"
    cv2.putText(
        tile, words, (MARGIN, LINE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.36, YES if flags else NO, 1, cv2.LINE_AA
    )
    return tile


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run_command(_run, build_parser().parse_args(arguments))
