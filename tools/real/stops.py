"""Ask the stop rule about real traffic, real parking and rendered parking.

    python tools/real/stops.py [--data ../shared/data] [--clips 60] [--out stops.json]

moving traffic: every moving blob of stop/traffic_moving/bgs_video02.avi is a target, the whole image a zone.
    Must hold: at least 20 tracks, no alert at SECONDS.
moving camera: the boxes of three LaSOT tracks (30 frames a second), the whole image a zone; reported only.
    Their camera follows the target, and a target that keeps its place in the picture stands still for a clock
    that sees nothing but the picture.
parking lot: the spaces of the PKLot folder. Must hold: red is who was there in the photograph before, ten
    minutes ago, and nobody else.
rendered clips: true boxes, zones and time stamps. Must hold: every clip in which the vehicle stands too
    long alerts, and no other.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from blobs import follow, frame_rate, moving_blobs, read_frames
from rich.table import Table

from mtltrack.cli.command import make_console, run_command, say
from mtltrack.core.errors import ConfigError, DataError
from mtltrack.core.paths import test_data_root
from mtltrack.core.stopping import StopRule, largest_overlap, stopped_seconds
from mtltrack.data.annotations import parse_boxes
from mtltrack.data.build import build_dataset
from mtltrack.data.sequences import SequenceInfo

VIDEO = Path("stop") / "traffic_moving" / "bgs_video02.avi"
LASOT, LASOT_RATE = Path("stop") / "lasot_boxes", 30.0
PKLOT = Path("stop") / "pklot_ufpr05"
LEAST_TRACKS = 20


@dataclass
class Row:
    """What the rule says of one source.

    Attributes:
        source: what was asked.
        targets: tracks, spaces or clips.
        hours: that they were watched, all together.
        longest: seconds that one of them stood still at the most.
        alerts: targets that alert at SECONDS.
        short: targets that alert at SHORT.
        expected: how many must alert at SECONDS; None where that isn't known.
        wrong: targets that alert and mustn't, or don't and must.
    """

    source: str
    targets: int = 0
    hours: float = 0.0
    longest: float = 0.0
    alerts: int = 0
    short: int = 0
    expected: int | None = None
    wrong: int = 0

    def add(
        self, stopped: np.ndarray, overlap: np.ndarray, times: np.ndarray, rule: StopRule, short: float
    ) -> bool:
        """Count a target by its timelines (F,); returns whether it alerts."""
        red = bool(((stopped > rule.seconds) & (overlap > rule.overlap)).any())
        self.targets += 1
        self.hours += float(times[-1] - times[0]) / 3600
        self.longest = max(self.longest, float(stopped.max()))
        self.alerts += red
        self.short += bool(((stopped > short) & (overlap > rule.overlap)).any())
        return red


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, help="folder of test data; without it $MTLTRACK_DATA")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long a vehicle may stand (120)")
    parser.add_argument("--short", type=float, default=5.0, help="a second limit that is reported (5)")
    parser.add_argument("--clips", type=int, default=60, help="rendered clips (60)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the rendered clips (0)")
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    return parser.parse_args(arguments)


def ask_video(path: Path, rule: StopRule, short: float) -> Row:
    """Ask about the moving blobs of a video; the whole image is a zone, so their overlap is 1."""
    row, rate = Row("moving traffic", expected=0), frame_rate(path)
    for track in follow(moving_blobs(read_frames(path))):
        times = (track.first + np.arange(len(track.boxes))) / rate
        stopped = stopped_seconds(np.array(track.boxes), np.array(track.seen), times, rule)
        row.wrong += row.add(stopped, np.ones(len(times)), times, rule, short)
    return row


def ask_lasot(folder: Path, rule: StopRule, short: float) -> Row:
    """Ask about tracks of boxes in a picture that is one zone."""
    row = Row("moving camera")
    for path in sorted(folder.glob("*.txt")):
        if path.name.endswith(".att.txt"):  # attributes, not boxes
            continue
        boxes, _ = parse_boxes(path.read_text(encoding="utf-8"), str(path), zero_is_absent=True)
        visible = ~np.isnan(boxes).any(axis=1)
        times = np.arange(len(boxes)) / LASOT_RATE
        stopped = stopped_seconds(corners(np.nan_to_num(boxes)), visible, times, rule)
        row.add(stopped, np.ones(len(times)), times, rule, short)
    return row


def corners(boxes_xywh: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)


def timelines(info: SequenceInfo, rule: StopRule) -> tuple[np.ndarray, np.ndarray]:
    """Return seconds (F,) and the largest overlap with a zone (F,), 0 where the target isn't there."""
    boxes = corners(info.boxes_xywh)
    stopped = stopped_seconds(boxes, info.visible, info.times(), rule)
    overlap = [
        largest_overlap(box, info.zones, rule.measure)[0] if seen else 0.0
        for box, seen in zip(boxes, info.visible, strict=True)
    ]
    return stopped, np.array(overlap)


def ask_lot(folder: Path, rule: StopRule, short: float) -> Row:
    """Ask about parking spaces; who was there in the photograph before has stood for too long."""
    row, lot = (
        Row("parking lot", expected=0),
        build_dataset({"TYPE": "PkLot", "ROOT": str(folder), "SECONDS": rule.seconds}),
    )
    for i in range(lot.num_sequences):
        info = lot.sequence(i)
        stopped, overlap = timelines(info, rule)
        stayed = bool((info.visible[1:] & info.visible[:-1]).any())
        row.wrong += row.add(stopped, overlap, info.times(), rule, short) != stayed
        row.expected = (row.expected or 0) + stayed
    return row


def ask_rendered(count: int, seed: int, rule: StopRule, short: float) -> list[Row]:
    """Ask about rendered clips, those with and those without an alert apart."""
    rows = [Row("rendered, parked too long in a zone", expected=0), Row("rendered, all others", expected=0)]
    clips = build_dataset(
        {"TYPE": "TrafficSequences", "NUM_SEQUENCES": count, "SEED": seed, "ALERT_SECONDS": rule.seconds}
    )
    for i in range(clips.num_sequences):
        info = clips.sequence(i)
        stopped, overlap = timelines(info, rule)
        wanted = any(info.alerts.values())
        row = rows[0 if wanted else 1]
        row.wrong += row.add(stopped, overlap, info.times(), rule, short) != wanted
        row.expected = (row.expected or 0) + wanted
    return rows


def violations(rows: Sequence[Row]) -> list[str]:
    """Return what must hold and doesn't."""
    found = [
        f"{row.source}: {row.alerts} targets alert, {row.expected} must ({row.wrong} are wrong)"
        for row in rows
        if row.expected is not None and row.wrong
    ]
    return found + [
        f"{row.source}: only {row.targets} tracks, wanted at least {LEAST_TRACKS}"
        for row in rows
        if row.source == "moving traffic" and row.targets < LEAST_TRACKS
    ]


def show(rows: Sequence[Row], rule: StopRule, short: float) -> Table:
    settings = f"SPEED {rule.speed:g} sizes/s, STEP {rule.step:g} s, {rule.measure} > {rule.overlap:g}"
    table = Table(title=f"Who stands too long: {settings}", title_justify="left")
    for column in (
        "source",
        "targets",
        "hours",
        "longest s",
        f"> {rule.seconds:g} s",
        "must",
        f"> {short:g} s",
    ):
        table.add_column(column, justify="left" if column == "source" else "right")
    for row in rows:
        must = "-" if row.expected is None else str(row.expected)
        figures = (row.targets, f"{row.hours:.2f}", f"{row.longest:.1f}", row.alerts, must, row.short)
        table.add_row(row.source, *map(str, figures))
    return table


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit status: 1 where something that must hold doesn't."""
    if options.clips < 1:
        raise ConfigError(f"--clips is {options.clips}; it must be at least 1")
    root = options.data or test_data_root()
    for part in (VIDEO, LASOT, PKLOT):
        if not (root / part).exists():
            raise DataError(f"{root / part} doesn't exist. Set MTLTRACK_DATA, or give --data.")
    console, rule = make_console(), replace(StopRule(), seconds=options.seconds)
    rows = [
        ask_video(root / VIDEO, rule, options.short),
        ask_lasot(root / LASOT, rule, options.short),
        ask_lot(root / PKLOT, rule, options.short),
        *ask_rendered(options.clips, options.seed, rule, options.short),
    ]
    console.print(show(rows, rule, options.short))
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        content = {"rule": asdict(rule), "short": options.short, "rows": [asdict(row) for row in rows]}
        options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    broken = violations(rows)
    for text in broken:
        say(console, f"violated: {text}")
    say(console, "violated" if broken else "all that must hold holds")
    return 1 if broken else 0


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command(run, parse(arguments))


if __name__ == "__main__":
    sys.exit(main())
