"""`python tracking/video_demo.py`: follow one target through a video file."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
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
from mtltrack.core.zones import read_zones
from mtltrack.evaluation.overlay import VideoWriter, draw
from mtltrack.evaluation.results import ResultFolder, write_results
from mtltrack.evaluation.slots import FrameTracker

EXAMPLES = """examples:
  python tracking/video_demo.py hiptrack hiptrack_cls street.mp4 --optional_box 310 140 80 60 --save_results
  python tracking/video_demo.py hiptrack hiptrack_mtl street.mp4 --optional_box 310 140 80 60 \\
      --zones zones.json --save_results
  python tracking/video_demo.py ostrack ostrack_256 street.mp4          draws the box with the mouse
"""
WINDOW = "mtltrack: Escape or q ends"
Image = NDArray[np.uint8]


def build_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="video_demo.py",
        description="Follow one target through a video file and show what the tracker says of it, or write "
        "boxes, a JSON line a frame and a video with everything drawn in.",
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
        "--zones",
        metavar="FILE",
        help='JSON {"name": [[x, y], ...]}, polygons in pixels of the frame where nothing may stop for long',
    )
    parser.add_argument(
        "--save_results", action="store_true", help="write boxes, what the heads say and a video of both"
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


def read_frames(path: Path) -> Iterator[tuple[Image, float]]:
    """Yield a video's frames (H, W, 3) uint8 RGB and their times in seconds, which increase.

    Raises:
        DataError: OpenCV can't read it, or it has no frame.
    """
    video = cv2.VideoCapture(str(path))
    step = 1 / frame_rate(path)
    try:
        count, before = 0, -step
        while True:
            ok, frame = video.read()
            if not ok:
                break
            count += 1
            stated = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
            # some files state no times: then the rate counts
            before = stated if stated > before else before + step
            yield np.ascontiguousarray(frame[..., ::-1]), before
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


@dataclass
class Screen:
    """Where the drawn frames go.

    Attributes:
        video: takes them, or None.
        window: whether they are shown, too.
        zones: name -> (V, 2) polygon in pixels.
    """

    video: VideoWriter | None
    window: bool
    zones: dict[str, NDArray[np.float64]]

    def show(self, image: Image, box: list[float], said: dict[str, Any], title: str) -> bool:
        """Draw what is said of a frame, write and show it; False when the user wants to end."""
        if self.video is None and not self.window:
            return True
        drawn = draw(image, box, None, said, self.zones, title)
        if self.video is not None:
            self.video.write(drawn)
        if not self.window:
            return True
        cv2.imshow(WINDOW, drawn[..., ::-1])
        return cv2.waitKey(1) & 0xFF not in (27, ord("q"))


def follow(
    tracker: FrameTracker, frames: Iterator[tuple[Image, float]], screen: Screen
) -> Iterator[tuple[list[float], dict[str, Any], float]]:
    """Yield box, line of `.tasks.jsonl` and the tracker's seconds for each frame after the first.

    Args:
        tracker: was started on the first frame.
        frames: the others, with their times.
        screen: shows each frame; the user may end there.
    """
    for number, (image, seconds) in enumerate(frames, start=2):
        start = time.perf_counter()
        answer = tracker.track(image, timestamp=seconds)
        taken = time.perf_counter() - start
        said = {"frame": number, "score": answer["score"], **answer["tasks"]}
        yield answer["target_bbox"], said, taken
        if not screen.show(image, answer["target_bbox"], said, f"{number}  {seconds:.2f} s"):
            return


def run_demo(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    console = make_console()
    path = Path(arguments.videofile).expanduser()
    zones = read_zones(Path(arguments.zones).expanduser()) if arguments.zones is not None else {}
    frames = read_frames(path)
    first, seconds = next(frames)
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
        screen = Screen(video, has_display(), zones)
        tracker.initialize(first, box, timestamp=seconds, zones=zones)
        screen.show(first, box, tasks[0], f"1  {seconds:.2f} s")
        for found, said, taken in follow(tracker, frames, screen):
            boxes.append(found)
            times.append(taken)
            tasks.append(said)
            if arguments.debug > 0:
                say(console, str(said | {"target_bbox": found}))
    rate = (len(boxes) - 1) / sum(times) if sum(times) > 0 else 0.0
    say(
        console,
        f"{len(boxes)} frames, {rate:.1f} frames a second; last box {[round(v, 1) for v in boxes[-1]]}",
    )
    if arguments.save_results:
        write_results(folder, name, np.array(boxes), times, tasks)
        say(console, f"written {folder.boxes(name)}, {folder.tasks(name)} and {target}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return run_command(run_demo, build_parser().parse_args(argv))
