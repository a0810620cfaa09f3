"""Measure how long scoring takes, on boxes made up for the purpose.

    python tools/benchmark_scoring.py
    python tools/benchmark_scoring.py --sequences 100 --frames 500 --trackers 3 --protocol got10k

Prints the seconds that the scores themselves take, on one core (nothing in it uses more), without reading
files; the boxes are made beforehand. Each tracker is off by its own amount, so that errors lie on all sides
of the thresholds; every twentieth frame has no target.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np

from mtltrack.metrics.batch import score_all
from mtltrack.metrics.got10k import score_all_got10k

Boxes = list[np.ndarray]


def make_truths(sequences: int, frames: int, generator: np.random.Generator) -> tuple[Boxes, Boxes]:
    """Return true boxes (frames, 4) and flags (frames,) of each sequence."""
    truths, flags = [], []
    for _ in range(sequences):
        walk = generator.normal(0, 2, (frames, 2)).cumsum(axis=0) + 400
        truths.append(np.concatenate([walk, generator.uniform(20, 120, (frames, 2))], axis=1))
        flags.append(generator.random(frames) > 0.05)
    return truths, flags


def make_predictions(truths: Boxes, spread: float, generator: np.random.Generator) -> Boxes:
    """Return boxes that are off by `spread` pixels."""
    found = [truth + generator.normal(0, spread, truth.shape) for truth in truths]
    for boxes in found:
        np.maximum(boxes[:, 2:], 1.0, out=boxes[:, 2:])
    return found


def score(protocol: str, predictions: Boxes, truths: Boxes, flags: Boxes) -> dict[str, float]:
    """Return the mean scores of one tracker."""
    if protocol == "got10k":
        sizes = [(1280.0, 720.0)] * len(truths)
        return score_all_got10k(predictions, truths, flags, sizes).mean()
    return score_all(predictions, truths, flags, protocol=protocol).mean()


def measure(
    protocol: str, sequences: int, frames: int, trackers: int
) -> tuple[float, list[dict[str, float]]]:
    """Return the seconds that scoring takes, and each tracker's scores."""
    generator = np.random.default_rng(0)
    truths, flags = make_truths(sequences, frames, generator)
    seconds, scores = 0.0, []
    for tracker in range(trackers):
        predictions = make_predictions(truths, 4.0 * (1 + tracker), generator)
        start = time.perf_counter()
        scores.append(score(protocol, predictions, truths, flags))
        seconds += time.perf_counter() - start
    return seconds, scores


def build_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="benchmark_scoring.py",
        description="Measure how long scoring takes, on made up boxes.",
        epilog="example: python tools/benchmark_scoring.py --sequences 100 --frames 500 --trackers 3",
    )
    parser.add_argument("--sequences", type=int, default=1000, help="how many (1000)")
    parser.add_argument("--frames", type=int, default=2500, help="of each sequence (2500)")
    parser.add_argument("--trackers", type=int, default=10, help="how many (10)")
    parser.add_argument(
        "--protocol",
        default="lasot",
        choices=("otb", "uav", "lasot", "got10k"),
        help="whose rules hold (lasot)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit status."""
    given = build_parser().parse_args(arguments)
    seconds, scores = measure(given.protocol, given.sequences, given.frames, given.trackers)
    total = given.sequences * given.frames * given.trackers
    print(
        f"{given.sequences} sequences x {given.frames} frames x {given.trackers} trackers, "
        f"{given.protocol}: {seconds:.1f} s on one core, {total / seconds / 1e6:.1f} million frames/s"
    )
    for tracker, row in enumerate(scores):
        print(f"  tracker {tracker}: " + ", ".join(f"{name} {value:.3f}" for name, value in row.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
