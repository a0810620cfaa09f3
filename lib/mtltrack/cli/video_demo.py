"""`python tracking/video_demo.py`: follow one target through a video file."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from mtltrack.cli.command import make_console, results_root, run_command, say
from mtltrack.cli.test import TrackerFromCheckpoint, checkpoint_notes, devices_of, find_checkpoint
from mtltrack.core.config import find_config, load_config
from mtltrack.core.errors import DataError
from mtltrack.core.paths import local_settings
from mtltrack.evaluation.overlay import VideoWriter, describe, draw
from mtltrack.evaluation.results import ResultFolder, write_results
from mtltrack.evaluation.runner import FrameTracker

EXAMPLES = """examples:
  python tracking/video_demo.py hiptrack hiptrack_cls street.mp4 --optional_box 310 140 80 60 --save_results
  python tracking/video_demo.py ostrack ostrack_256 street.mp4          draws the box with the mouse
"""
WINDOW = "mtltrack: Escape or q ends"
Image = NDArray[np.uint8]


def build_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="video_demo.py",
        description="Follow one target through a video file and show it, or write boxes and a video.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tracker_name", help="the model: hiptrack, ostrack")
    parser.add_argument("tracker_param", help="name of the configuration")
    parser.add_argument("videofile", help="a video that OpenCV can read")
    parser.add_argument(
        "--optional_box",
        type=float,
        nargs=4,
        metavar=("X", "Y", "W", "H"),
        help="the target in the first frame",
    )
    parser.add_argument(
        "--save_results", action="store_true", help="write boxes, conditions and a video with the boxes"
    )
    parser.add_argument(
        "--checkpoint", help="weights; without it TEST.EPOCH's, else the newest below save_dir"
    )
    parser.add_argument("--save_dir", help="folder of checkpoints and results; without it that of local.yaml")
    parser.add_argument("--results", help="folder of results; without it <save_dir>/test/tracking_results")
    parser.add_argument("--device", help="cpu, cuda, cuda:1; without it a GPU if there is one")
    parser.add_argument("--debug", type=int, default=0, help="1: print every frame's answer")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings on top of the YAML"
    )
    return parser


def has_display() -> bool:
    """Whether a window can be opened: there is a screen, and OpenCV was built with windows.

    The package asks for OpenCV without windows, which needs no graphics library on the machine.
    """
    gui = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    if gui is None or gui[1] == "NONE":
        return False
    return sys.platform in ("win32", "darwin") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def read_frames(path: Path) -> Iterator[Image]:
    """Yield a video's frames (H, W, 3) uint8 RGB.

    Raises:
        DataError: OpenCV can't read it, or it has no frame.
    """
    video = cv2.VideoCapture(str(path))
    try:
        count = 0
        while True:
            ok, frame = video.read()
            if not ok:
                break
            count += 1
            yield np.ascontiguousarray(frame[..., ::-1])
        if count == 0:
            raise DataError(
                f"no frame can be read from '{path}': {'no such file' if not path.exists() else 'no video'}"
            )
    finally:
        video.release()


def frame_rate(path: Path) -> float:
    """Return the frames a second that a video states; 30 where it states none."""
    video = cv2.VideoCapture(str(path))
    rate = float(video.get(cv2.CAP_PROP_FPS))
    video.release()
    return rate if rate > 0 else 30.0


def first_box(given: Sequence[float] | None, frame: Image) -> list[float]:
    """Return `--optional_box`, or let the user draw it.

    Raises:
        DataError: no box and no display, a box without size or outside of the frame, or nothing drawn.
    """
    if given is None:
        if not has_display():
            raise DataError(
                "there is no window to draw the target's box in; give it by --optional_box X Y W H "
                "(pixels of the first frame), or, on a machine with a screen, install opencv-python in "
                "place of opencv-python-headless"
            )
        given = [float(value) for value in cv2.selectROI(WINDOW, frame[..., ::-1], showCrosshair=False)]
    x, y, w, h = given
    height, width = frame.shape[:2]
    if w <= 0 or h <= 0 or x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise DataError(
            f"the target's box {list(given)} must have w, h > 0 and lie in the frame of {width}x{height}"
        )
    return [float(value) for value in given]


def load_tracker(console: Console, arguments: argparse.Namespace) -> FrameTracker:
    """Return the online tracker that the arguments name."""
    config = find_config(arguments.tracker_name, arguments.tracker_param)
    cfg = load_config(config, arguments.cfg_options, script=arguments.tracker_name)
    save_dir = Path(arguments.save_dir).expanduser() if arguments.save_dir else local_settings().save_dir
    checkpoint, reason = find_checkpoint(
        arguments.checkpoint, save_dir, arguments.tracker_name, arguments.tracker_param, cfg.TEST.EPOCH
    )
    say(console, f"weights {checkpoint} ({reason})")
    for note in checkpoint_notes(checkpoint, cfg.dump(), cfg.TASKS):
        say(console, f"note: {note}")
    factory = TrackerFromCheckpoint(arguments.tracker_name, config, tuple(arguments.cfg_options), checkpoint)
    return factory(devices_of(arguments.device, 1)[0])


def follow(
    tracker: FrameTracker, frames: Iterator[Image], box: list[float], show: Callable[[Image], bool]
) -> Iterator[tuple[dict[str, Any], float]]:
    """Yield the tracker's answer and its seconds for each frame after the first, until `show` says no.

    Args:
        tracker: was started on the first frame.
        frames: the others.
        box: the target in the first frame.
        show: takes each frame with what was found drawn into it; False ends.
    """
    for number, image in enumerate(frames, start=2):
        start = time.perf_counter()
        answer = tracker.track(image)
        seconds = time.perf_counter() - start
        box = answer["target_bbox"]
        yield answer, seconds
        lines = [f"{number}  {answer['score']:.2f}", *describe(answer["tasks"])]
        if not show(draw(image, box, lines=lines)):
            return


def run_demo(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    console = make_console()
    path = Path(arguments.videofile).expanduser()
    frames = read_frames(path)
    first = next(frames)
    box = first_box(arguments.optional_box, first)
    tracker = load_tracker(console, arguments)
    folder = ResultFolder.of(
        results_root(arguments.results, arguments.save_dir), arguments.tracker_name, arguments.tracker_param
    )
    name = f"video_{path.stem}"
    target = folder.path / "videos" / f"{name}.mp4"
    size = (first.shape[1], first.shape[0])
    boxes, times, tasks = [box], [0.0], [{"frame": 1}]
    with VideoWriter(target, size, frame_rate(path)) if arguments.save_results else nullcontext() as video:
        show = partial(_output, video, has_display())
        tracker.initialize(first, box)
        show(draw(first, box, lines=["1"]))
        for answer, seconds in follow(tracker, frames, box, show):
            boxes.append(answer["target_bbox"])
            times.append(seconds)
            tasks.append({"frame": len(boxes), "score": answer["score"], **answer["tasks"]})
            if arguments.debug > 0:
                say(console, str(tasks[-1] | {"target_bbox": answer["target_bbox"]}))
    rate = (len(boxes) - 1) / sum(times) if sum(times) > 0 else 0.0
    say(
        console,
        f"{len(boxes)} frames, {rate:.1f} frames a second; last box {[round(v, 1) for v in boxes[-1]]}",
    )
    if arguments.save_results:
        write_results(folder, name, np.array(boxes), times, tasks)
        say(console, f"written {folder.boxes(name)} and {target}")
    return 0


def _output(video: Any, show: bool, image: Image) -> bool:
    """Write and show a frame; False when the user wants to end."""
    if video is not None:
        video.write(image)
    if not show:
        return True
    cv2.imshow(WINDOW, image[..., ::-1])
    return cv2.waitKey(1) & 0xFF not in (27, ord("q"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return run_command(run_demo, build_parser().parse_args(argv))
