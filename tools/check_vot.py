"""Compare `mtltrack.metrics.vot` with an installed VOT toolkit on made up runs.

    pip install vot-toolkit "attributee<0.1.10"   # best in an environment of its own: it isn't a dependency
    python tools/check_vot.py

The toolkit reads runs from files, draws their regions and analyses them; the scores here are of the
overlaps that it draws. Prints both, and exits with 1 when they differ by more than 1e-5 (the toolkit computes
the curve of the older protocol in single precision).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtltrack.metrics.vot import (
    FAILED,
    STARTED,
    TRACKED,
    UNKNOWN,
    ResetRun,
    Run,
    VotScores,
    score_multistart,
    score_resets,
)

TOLERANCE = 1e-5
SIZE = (120, 90)
LOW, HIGH = 20, 70
SKIPPED = 5  # frames from a failure to the next start
NAMES = ("accuracy", "robustness", "eao", "curve")


class Experiment:
    """As much of the toolkit's experiment as its analyses ask for."""

    anchor = "anchor"

    def __init__(self, folder: Path) -> None:
        from vot.tracker.results import Results
        from vot.workspace.storage import LocalStorage

        self._results = Results(LocalStorage(str(folder)))
        self.gathered: dict[str, list[Any]] = {}

    def results(self, tracker: object, sequence: object) -> Any:  # noqa: ARG002
        """Return where runs are stored."""
        return self._results

    def gather(self, tracker: object, sequence: Any, **rest: object) -> list[Any]:  # noqa: ARG002
        """Return the repetitions of a sequence."""
        return self.gathered[sequence.name]


def make_video(name: str, frames: int, generator: np.random.Generator, absent: float = 0.0) -> Any:
    """Return a sequence of the toolkit with a wandering box and anchors.

    Args:
        name: of the sequence.
        frames: how many.
        generator: of the box's places.
        absent: share of frames without a target; benchmarks with resets have none.
    """
    from vot.dataset import InMemorySequence
    from vot.region import Rectangle, Special

    class Video(InMemorySequence):
        size = SIZE  # the toolkit's own asks for a channel without naming one

    video = Video(name, ["color"])
    image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    place = np.array([40.0, 30.0])
    for frame in range(frames):
        place = np.clip(place + generator.normal(0, 2, 2), 0, 70)
        anchor = {0: 1, frames // 3: 1, 2 * frames // 3: -1, frames - 1: -1}.get(frame, 0)
        hidden = not anchor and generator.random() < absent
        region = Special(0) if hidden else Rectangle(float(place[0]), float(place[1]), 30.0, 24.0)
        video.append({"color": image}, region, values={"anchor": anchor})
    return video


def follow(truth: list[Any], quality: float, generator: np.random.Generator) -> list[Any]:
    """Return regions beside the true ones, further off from time to time."""
    from vot.region import Rectangle

    found, away = [], np.zeros(2)
    for region in truth:
        if generator.random() < 0.04:
            away = generator.normal(0, 30, 2) * quality
        away = away * 0.9 + generator.normal(0, 1, 2)
        x, y = (region.x, region.y) if isinstance(region, Rectangle) else (50.0, 40.0)
        found.append(Rectangle(x + float(away[0]), y + float(away[1]), 28.0, 26.0))
    return found


def check_multistart(folder: Path, generator: np.random.Generator, quality: float) -> tuple[list, VotScores]:
    """Return the toolkit's scores and ours of runs from anchors."""
    from vot.analysis import multistart
    from vot.dataset.proxy import FrameMapSequence
    from vot.experiment.multistart import find_anchors
    from vot.region import Special, calculate_overlaps
    from vot.tracker import Trajectory

    experiment = Experiment(folder)
    videos = [make_video(f"v{index}", 60 + 15 * index, generator, absent=0.05) for index in range(4)]
    ours = []
    for video in videos:
        runs = []
        forward, backward = find_anchors(video)
        for anchor in forward + backward:
            order = range(anchor, len(video)) if anchor in forward else range(anchor, -1, -1)
            proxy = FrameMapSequence(video, list(order))
            regions = follow(proxy.groundtruth(), quality, generator)
            trajectory = Trajectory(len(proxy))
            trajectory.set(0, Special(Trajectory.INITIALIZATION), {})
            for frame in range(1, len(proxy)):
                trajectory.set(frame, regions[frame], {})
            trajectory.write(experiment.results(None, video), f"{video.name}_{anchor:08d}")
            read = Trajectory.read(experiment.results(None, video), f"{video.name}_{anchor:08d}")
            overlaps = calculate_overlaps(read.regions(), proxy.groundtruth(), proxy.size)
            runs.append(Run(overlaps, [region.is_empty() for region in proxy.groundtruth()]))
        ours.append(runs)
    rows = [multistart.AccuracyRobustness().subcompute(experiment, None, video, []) for video in videos]
    accuracy, robustness, *_ = multistart.AverageAccuracyRobustness().aggregate(None, videos, rows)
    curves = [multistart.EAOCurves(high=HIGH).subcompute(experiment, None, video, []) for video in videos]
    (curve,) = multistart.EAOCurve(high=HIGH).aggregate(None, videos, curves)
    eao = float(np.mean(curve[LOW : HIGH + 1]))
    scores = score_multistart(ours, [len(video) for video in videos], low=LOW, high=HIGH)
    return [accuracy, robustness, eao, curve], scores


def check_resets(folder: Path, generator: np.random.Generator, quality: float) -> tuple[list, VotScores]:
    """Return the toolkit's scores and ours of runs with resets."""
    from vot.analysis import supervised
    from vot.region import Special, calculate_overlaps
    from vot.tracker import Trajectory

    experiment = Experiment(folder)
    videos = [make_video(f"r{index}", 60 + 15 * index, generator) for index in range(4)]
    codes = {state: Special(state) for state in (UNKNOWN, STARTED, FAILED)}
    ours = []
    for video in videos:
        experiment.gathered[video.name], runs = [], []
        for _ in range(3):
            regions = follow(video.groundtruth(), quality, generator)
            overlaps = calculate_overlaps(regions, video.groundtruth(), video.size)
            states = with_resets(overlaps)
            trajectory = Trajectory(len(video))
            for frame, state in enumerate(states):
                trajectory.set(frame, codes.get(state, regions[frame]), {})
            experiment.gathered[video.name].append(trajectory)
            runs.append(ResetRun(overlaps, states))
        ours.append(runs)
    rows = [supervised.AccuracyRobustness().subcompute(experiment, None, video, []) for video in videos]
    accuracy, failures, *_ = supervised.AverageAccuracyRobustness().aggregate(None, videos, rows)
    (curve,) = supervised.EAOCurve().subcompute(experiment, None, videos, [])
    eao = float(np.mean(curve[LOW : HIGH + 1]))
    return [accuracy, failures, eao, curve], score_resets(ours, low=LOW, high=HIGH)


def with_resets(overlaps: Sequence[float]) -> list[int]:
    """Return the state of each frame when a tracker is started again five frames after each failure."""
    states: list[int] = []
    while len(states) < len(overlaps):
        states.append(STARTED)
        while len(states) < len(overlaps) and states[-1] != FAILED:
            states.append(TRACKED if overlaps[len(states)] > 0 else FAILED)
        if states[-1] == FAILED:
            states += [UNKNOWN] * min(SKIPPED - 1, len(overlaps) - len(states))
    return states


def build_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="check_vot.py",
        description="Compare VOT's accuracy, robustness and EAO with those of an installed toolkit.",
        epilog="example: python tools/check_vot.py --trials 20",
    )
    parser.add_argument("--trials", type=int, default=5, help="of each protocol, each with other runs")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print, and return the exit status."""
    given = build_parser().parse_args(arguments)
    try:
        import vot  # noqa: F401
    except ImportError as error:
        print(f"the VOT toolkit can't be imported ({error}): pip install vot-toolkit 'attributee<0.1.10'")
        return 2
    worst = 0.0
    for trial in range(given.trials):
        for name, check in (("multistart", check_multistart), ("resets", check_resets)):
            generator = np.random.default_rng(trial)
            with tempfile.TemporaryDirectory() as folder:
                theirs, scores = check(Path(folder), generator, 0.2 + 0.4 * trial)
            ours = [getattr(scores, item) for item in NAMES]
            off = max(float(np.abs(np.subtract(a, b)).max()) for a, b in zip(theirs, ours, strict=True))
            worst = max(worst, off)
            figures = ", ".join(
                f"{item} {a:.6f} / {b:.6f}" for item, a, b in zip(NAMES[:3], theirs, ours, strict=False)
            )
            print(f"{name} {trial}: toolkit / here: {figures}; largest difference {off:.1e}")
    print(f"largest difference {worst:.1e}, allowed {TOLERANCE:.0e}")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    raise SystemExit(main())
