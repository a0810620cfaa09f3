"""Score the masks of a tracker on videos of the DAVIS layout, beside predictors that know only boxes.

    python tools/real/masks.py ostrack ostrack_seg_tiny --train --save_dir output/masks
    python tools/real/masks.py ostrack ostrack_seg_tiny --save_dir output/masks --out masks.json
    python tools/real/masks.py ostrack ostrack_seg_tiny --save_dir output/masks --frames car-shadow=25:40

The tracker is started on the box around the first frame's mask and follows the target online; its masks of
the whole frames are compared with the true ones by J and F. The first frame, which is given, and the last are
left out, as the benchmark does. --frames scores a part of a video, such as the frames that training did not
see: the tracker then starts on the first of them.

Beside it stand the tracker's own box, filled; the first frame's box, filled and held still; and the true
box of each frame, filled: no predictor, but the most that boxes alone can reach.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))

from trained import configuration, score_parser, trained, write_scores

from mtltrack.cli.command import make_console, run_command
from mtltrack.core.errors import DataError
from mtltrack.core.paths import test_data_root
from mtltrack.core.rle import decode_mask
from mtltrack.data.datasets.davis import Davis
from mtltrack.evaluation.benchmarks import parse_ranges
from mtltrack.evaluation.online import OnlineTracker
from mtltrack.metrics.masks import MaskMetrics

TASK = "seg"
HEAD, BOX, STILL, TRUE_BOX = "mask head", "its box, filled", "first box, held still", "true box, filled"
COLUMNS = ("J_mean", "J_recall", "F_mean", "F_recall")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = score_parser(__doc__, TASK)
    parser.add_argument("--data", type=Path, help="folder with the videos; without it $MTLTRACK_DATA/vos")
    parser.add_argument("--resolution", default="480p", help="folder below JPEGImages (480p)")
    parser.add_argument(
        "--frames",
        metavar="VIDEO=FIRST:LAST",
        action="append",
        default=[],
        help="only these videos, and of each only these frames, from 1, both included; repeatable",
    )
    return parser.parse_args(arguments)


def videos(options: argparse.Namespace) -> Davis:
    """Return the videos to score.

    Raises:
        DataError: there are none.
    """
    root = options.data if options.data is not None else test_data_root() / "vos"
    if not root.is_dir():
        raise DataError(f"there is no folder {root}. Name the videos' folder by --data, or set MTLTRACK_DATA")
    return Davis(root, options.resolution, ranges=parse_ranges(options.frames) or None)


def fill(box_xywh: Sequence[float] | np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the mask (H, W) uint8 of the pixels whose centres lie in a box of frame pixels."""
    x, y, w, h = (float(value) for value in box_xywh)
    rows, columns = np.arange(shape[0]) + 0.5, np.arange(shape[1]) + 0.5
    inside = ((rows >= y) & (rows <= y + h))[:, None] & ((columns >= x) & (columns <= x + w))[None, :]
    return inside.astype(np.uint8)


def score_video(tracker: OnlineTracker, data: Davis, i: int, metrics: Mapping[str, MaskMetrics]) -> int:
    """Track one video and add its frames to the scores of every predictor; returns how many were scored.

    Raises:
        DataError: the first frame doesn't show the target, or a mask can't be used.
    """
    info = data.sequence(i)
    if info.num_frames < 3 or not info.visible[0]:
        raise DataError(
            f"'{info.name}' needs at least three frames, the first with the target's mask; found "
            f"{info.num_frames}. Choose others by --frames, or take the video out."
        )
    masked = np.zeros(info.num_frames, dtype=bool) if info.masked is None else info.masked
    first, times = info.boxes_xywh[0], info.times()
    tracker.initialize(data.image(i, 0), first.tolist(), float(times[0]))
    for frame in range(1, info.num_frames - 1):
        answer = tracker.track(data.image(i, frame), float(times[frame]))
        if frame in info.faults:
            raise DataError(info.faults[frame])
        if not masked[frame]:
            continue
        truth = data.mask(i, frame)
        shown = fill(info.boxes_xywh[frame], truth.shape) if info.visible[frame] else np.zeros_like(truth)
        predicted = {
            HEAD: decode_mask(answer["tasks"][TASK]["mask"], f"'{info.name}', frame {frame}"),
            BOX: fill(answer["target_bbox"], truth.shape),
            STILL: fill(first, truth.shape),
            TRUE_BOX: shown,
        }
        for name, mask in predicted.items():
            metrics[name].update(mask, truth, info.name)
    return int(masked[1:-1].sum())


def show(metrics: Mapping[str, MaskMetrics], counts: Mapping[str, int]) -> Table:
    """Return the table of all predictors on all videos, in percent."""
    table = Table(title="masks of whole frames, percent", title_justify="left")
    table.add_column("video")
    table.add_column("frames", justify="right")
    table.add_column("predictor")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for video, count in counts.items():
        for name, found in metrics.items():
            scores = found.sequences()[video]
            table.add_row(video, str(count), name, *(f"{100 * scores[column]:.1f}" for column in COLUMNS))
    for name, found in metrics.items():
        scores = found.compute()
        cells = (f"{100 * scores[column]:.1f}" for column in COLUMNS)
        table.add_row("mean", str(sum(counts.values())), name, *cells)
    return table


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    console = make_console()
    data = videos(options)
    cfg = configuration(options, TASK)
    net, checkpoint = trained(options, cfg, console)
    tracker = OnlineTracker(net, cfg, "cuda" if torch.cuda.is_available() else "cpu", tasks=[TASK])
    metrics = {name: MaskMetrics() for name in (HEAD, BOX, STILL, TRUE_BOX)}
    counts = {
        data.sequence_name(i): score_video(tracker, data, i, metrics) for i in range(data.num_sequences)
    }
    console.print(show(metrics, counts))
    content = {
        "checkpoint": str(checkpoint),
        "frames": counts,
        "videos": {name: found.sequences() for name, found in metrics.items()},
        "means": {name: found.compute() for name, found in metrics.items()},
    }
    write_scores(options.out, content)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command(run, parse(arguments))


if __name__ == "__main__":
    sys.exit(main())
