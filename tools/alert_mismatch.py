"""Measure how far the soft alert departs from the hard rule, by gate and by scale.

    python tools/alert_mismatch.py [--tracks 40] [--rendered 0] [--picture docs/alert.png]

Simulated tracks: a vehicle arrives, stands for 60 to 200 seconds, leaves; about 10 frames a second at
irregular times with gaps, boxes that tremble by a hundredth of their size, a zone that covers any share of
the standing vehicle. --rendered N takes the true boxes and zones of N rendered clips instead. Both rules get
the same boxes; what is compared is the rules. With --rendered a third table compares the hard rule, for
several SPEED and STEP and with trembling boxes, with the vehicles' real speed, which the renderer knows.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.table import Table

from mtltrack.cli.command import make_console, run_command, say
from mtltrack.core.errors import ConfigError
from mtltrack.core.stopping import StopRule, stopped_seconds
from mtltrack.data.build import build_dataset
from mtltrack.data.sequences import SequenceInfo
from mtltrack.losses.alert import alert_logit, stop_clock, zone_overlaps
from mtltrack.metrics.events import MismatchScores, red_events

SIZE = (60.0, 30.0)  # pixels of a simulated vehicle
GATES = (("straight_through", 4.0), ("soft", 5.0), ("soft", 8.0), ("soft", 14.0), ("soft", 20.0))
STEPS = (0.0, 0.5)
SECONDS_SCALES, OVERLAP_SCALES = (1.0, 2.0, 5.0), (0.02, 0.05)
SPEEDS, TRUTH_STEPS, TREMBLES = (0.08, 0.15, 0.25), (0.0, 0.5, 1.0), (0.0, 0.01, 0.02)
DECISIONS = ("min(a, b) > 0", "p > 1/4", "p > 1/2")


class Timeline(NamedTuple):
    """A target's boxes (F, 4) xyxy, time stamps (F,), and overlap with its zone (F,)."""

    boxes: np.ndarray
    times: np.ndarray
    overlap: np.ndarray


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--tracks", type=int, default=40, help="simulated tracks (40)")
    parser.add_argument("--rendered", type=int, default=0, metavar="N", help="rendered clips instead")
    parser.add_argument("--seed", type=int, default=0, help="seed of the tracks (0)")
    parser.add_argument("--picture", type=Path, help="also draw soft and hard alert into this file")
    return parser.parse_args(arguments)


def simulate(
    rng: np.random.Generator, rule: StopRule, stand: float | None = None, tremble: float = 0.01
) -> Timeline:
    """Return a vehicle that arrives, stands and leaves.

    Args:
        rng: source of everything random.
        rule: for the measure of its overlap.
        stand: seconds; None for 60 to 200.
        tremble: deviation of the boxes' centres in sizes.
    """
    stand = rng.uniform(60, 200) if stand is None else stand
    gaps = np.where(rng.random(4000) < 0.01, rng.uniform(0.5, 3, 4000), rng.uniform(0.07, 0.13, 4000))
    times = np.cumsum(gaps)
    times = times[times < stand + 12]
    speed = rng.uniform(0.8, 3.0) * math.sqrt(SIZE[0] * SIZE[1])  # pixels a second, braking for 3 s
    before, after = np.clip(6 - times, 0, None), np.clip(times - 6 - stand, 0, None)
    along = speed * (
        np.where(after < 3, after**2 / 6, after - 1.5) - np.where(before < 3, before**2 / 6, before - 1.5)
    )
    centres = np.stack([300 + along, np.full(len(times), 200.0)], axis=1)
    centres = centres + rng.normal(0, tremble * math.sqrt(SIZE[0] * SIZE[1]), centres.shape)
    half = np.array(SIZE) / 2
    boxes = np.concatenate([centres - half, centres + half], axis=1)
    right = 300 + SIZE[0] * (rng.random() - 0.5)  # the zone ends somewhere under the standing vehicle
    return Timeline(
        boxes, times, overlap_of(boxes, [np.array([[0, 0], [right, 0], [right, 400], [0, 400]])], rule)
    )


def rendered_clips(count: int, seed: int) -> list[SequenceInfo]:
    clips = build_dataset({"TYPE": "TrafficSequences", "NUM_SEQUENCES": count, "SEED": seed})
    return [clips.sequence(i) for i in range(clips.num_sequences)]


def rendered(info: SequenceInfo, rule: StopRule, noise: np.ndarray | float = 0.0) -> Timeline:
    """Return the visible frames of a rendered clip, centres moved by `noise` (F, 2) sizes."""
    x, y, w, h = info.boxes_xywh[info.visible].T
    size = np.sqrt(w * h)[:, None]
    boxes = np.stack([x, y, x + w, y + h], axis=1) + np.tile(size * np.broadcast_to(noise, (len(x), 2)), 2)
    return Timeline(boxes, info.times()[info.visible], overlap_of(boxes, list(info.zones.values()), rule))


def overlap_of(boxes: np.ndarray, zones: list[np.ndarray], rule: StopRule) -> np.ndarray:
    """Return the largest overlap (F,) with a zone."""
    found = [
        zone_overlaps(torch.from_numpy(boxes), torch.from_numpy(zone.astype(float))[None, None], rule.measure)
        for zone in zones
    ]
    return torch.cat(found, dim=1).amax(1).numpy() if found else np.zeros(len(boxes))


def soft_seconds(line: Timeline, rule: StopRule, gate: str, sharpness: float) -> np.ndarray:
    boxes = torch.from_numpy(line.boxes)[None]
    centres, sizes = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    times, start = torch.from_numpy(line.times)[None], torch.zeros(1)
    scale = rule.speed / sharpness
    return stop_clock(centres, sizes, times, start, rule.speed, scale, rule.gap, rule.step, gate)[0][
        0
    ].numpy()


def decide(
    line: Timeline, stopped: np.ndarray, rule: StopRule, scales: tuple[float, float]
) -> list[np.ndarray]:
    """Return the soft rule's decisions (F,), in the order of DECISIONS."""
    a = torch.from_numpy((stopped - rule.seconds) / scales[0])
    b = torch.from_numpy((line.overlap - rule.overlap) / scales[1])
    p = alert_logit(a, b).sigmoid()
    return [(torch.minimum(a, b) > 0).numpy(), (p > 0.25).numpy(), (p > 0.5).numpy()]


def hard_seconds(line: Timeline, rule: StopRule) -> np.ndarray:
    return stopped_seconds(line.boxes, np.ones(len(line.times), dtype=bool), line.times, rule)


def compare(
    lines: Sequence[Timeline],
    hard: Sequence[np.ndarray],
    soft: Sequence[np.ndarray],
    rule: StopRule,
    scales: tuple[float, float],
) -> list[list[str]]:
    """Return a row of figures for each of DECISIONS, from the clocks (F,) of each timeline."""
    scores = [MismatchScores() for _ in DECISIONS]
    soft_events, hard_events = [0] * len(DECISIONS), 0
    for line, truth, seconds in zip(lines, hard, soft, strict=True):
        wanted = (truth > rule.seconds) & (line.overlap > rule.overlap)
        hard_events += len(red_events(wanted, line.times))
        for i, decision in enumerate(decide(line, seconds, rule, scales)):
            scores[i].update(decision, wanted, seconds, truth, line.times)
            soft_events[i] += len(red_events(decision, line.times))
    rows = []
    for score, count in zip(scores, soft_events, strict=True):
        values = score.compute()
        late = values["mismatch_alert_time"]
        told = "-" if math.isnan(late) else f"{late:.2f}"
        seconds_apart, differing = values["mismatch_seconds"], 100 * values["mismatch_decisions"]
        rows.append([f"{seconds_apart:.2f}", f"{differing:.2f}", told, f"{count} of {hard_events}"])
    return rows


def gate_table(lines: Sequence[Timeline]) -> Table:
    table = Table(title="Gates; decision by min(a, b) > 0, which knows no scales", title_justify="left")
    for column in (
        "gate",
        "e0 / delta",
        "STEP",
        "mean |T_soft - T_hard| s",
        "decisions %",
        "alert time s",
        "events",
    ):
        table.add_column(column, justify="right")
    for step in STEPS:
        rule = StopRule(step=step)
        hard = [hard_seconds(line, rule) for line in lines]
        for gate, sharpness in GATES:
            soft = [soft_seconds(line, rule, gate, sharpness) for line in lines]
            table.add_row(
                gate, f"{sharpness:g}", f"{step:g}", *compare(lines, hard, soft, rule, (2.0, 0.05))[0]
            )
    return table


def scale_table(lines: Sequence[Timeline]) -> Table:
    table = Table(title="Scales; straight-through gate, STEP 0.5", title_justify="left")
    for column in ("s_t", "s_o", "decision", "decisions %", "alert time s", "events"):
        table.add_column(column, justify="right")
    rule = StopRule()
    hard = [hard_seconds(line, rule) for line in lines]
    for seconds in SECONDS_SCALES:
        for overlap in OVERLAP_SCALES:
            rows = compare(lines, hard, hard, rule, (seconds, overlap))  # straight-through: the hard clock
            for name, row in zip(DECISIONS, rows, strict=True):
                table.add_row(f"{seconds:g}", f"{overlap:g}", name, *row[1:])
    return table


def truth_table(infos: Sequence[SequenceInfo], seed: int) -> Table:
    """Compare the hard rule with the real speed of rendered vehicles."""
    table = Table(title="The hard rule against the vehicles' real speed", title_justify="left")
    for column in ("boxes tremble", "STEP", "SPEED", "mean |T - true| s", "decisions %", "alerts", "false"):
        table.add_column(column, justify="right")
    rng = np.random.default_rng(seed)
    noises = [rng.normal(size=(int(info.visible.sum()), 2)) for info in infos]
    for tremble in TREMBLES:
        lines = [
            rendered(info, StopRule(), tremble * noise) for info, noise in zip(infos, noises, strict=True)
        ]
        for step in TRUTH_STEPS:
            for speed in SPEEDS:
                figures = against_truth(infos, lines, StopRule(speed=speed, step=step))
                table.add_row(f"{tremble:g}", f"{step:g}", f"{speed:g}", *figures)
    return table


def against_truth(infos: Sequence[SequenceInfo], lines: Sequence[Timeline], rule: StopRule) -> list[str]:
    """Return mean error (s), share of wrong decisions, how many alerting clips alert, and how many others."""
    errors, wrong, frames, hits, alerting, false = 0.0, 0, 0, 0, 0, 0
    for info, line in zip(infos, lines, strict=True):
        assert info.stopped is not None
        wanted = np.array([info.alerts[int(frame)] for frame in np.flatnonzero(info.visible)])
        seconds = hard_seconds(line, rule)
        red = (seconds > rule.seconds) & (line.overlap > rule.overlap)
        errors += float(np.abs(seconds - info.stopped[info.visible]).sum())
        wrong, frames = wrong + int((red != wanted).sum()), frames + len(red)
        alerting, hits = alerting + bool(wanted.any()), hits + bool(wanted.any() and red.any())
        false += bool(red.any() and not wanted.any())
    return [f"{errors / frames:.2f}", f"{100 * wrong / frames:.2f}", f"{hits} of {alerting}", str(false)]


def draw(path: Path, line: Timeline) -> None:
    """Draw clocks of one track, and the soft alert over the time stood still."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    clocks, alerts = figure.subplots(1, 2)
    rule = StopRule(step=0.0)
    clocks.plot(line.times, hard_seconds(line, rule), color="k", lw=2.5, label="hard, straight-through")
    for sharpness, colour in ((14.0, "tab:blue"), (8.0, "tab:green"), (5.0, "tab:red")):
        soft = soft_seconds(line, rule, "soft", sharpness)
        clocks.plot(line.times, soft, color=colour, label=f"soft, e0 / delta = {sharpness:g}")
    clocks.axhline(rule.seconds, color="0.6", ls=":")
    clocks.set(xlabel="time (s)", ylabel="stood still (s)", title="Clocks on one simulated track, STEP 0")
    clocks.legend(fontsize=8, loc="upper left")
    stood = np.linspace(100, 140, 400)
    alerts.plot(stood, stood > rule.seconds, color="k", lw=2.5, label="hard")
    for scale, overlap, colour in ((1, 0.6, "tab:blue"), (5, 0.6, "tab:green"), (2, 0.3, "tab:red")):
        a, b = torch.from_numpy((stood - rule.seconds) / scale), torch.tensor((overlap - rule.overlap) / 0.05)
        label = f"s_t = {scale}, overlap {overlap}"
        alerts.plot(stood, alert_logit(a, b.double().expand_as(a)).sigmoid(), color=colour, label=label)
    alerts.axhline(0.25, color="0.6", ls=":")
    alerts.text(100, 0.27, "1/4: both met exactly", fontsize=8, color="0.4")
    alerts.set(xlabel="stood still (s)", ylabel="p", title="Soft alert, s_o = 0.05, thresholds 120 s and 0.3")
    alerts.legend(fontsize=8, loc="upper left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    if options.tracks < 1:
        raise ConfigError(f"--tracks is {options.tracks}; it must be at least 1")
    console, rng, rule = make_console(), np.random.default_rng(options.seed), StopRule()
    infos = rendered_clips(options.rendered, options.seed) if options.rendered else []
    lines = [rendered(info, rule) for info in infos] or [simulate(rng, rule) for _ in range(options.tracks)]
    if options.picture is not None:
        draw(options.picture, simulate(np.random.default_rng(3), rule, stand=150, tremble=0))
        say(console, f"wrote {options.picture}")
    hours = sum(line.times[-1] - line.times[0] for line in lines) / 3600
    kind = "rendered clips" if options.rendered else "simulated tracks"
    say(console, f"{len(lines)} {kind}, {sum(len(line.times) for line in lines)} frames, {hours:.1f} hours")
    console.print(gate_table(lines))
    console.print(scale_table(lines))
    if infos:
        console.print(truth_table(infos, options.seed))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command(run, parse(arguments))


if __name__ == "__main__":
    sys.exit(main())
