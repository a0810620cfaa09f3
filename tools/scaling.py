"""What more processes bring: measured on this machine, or modelled for a cluster.

    python tools/scaling.py measure --script ostrack --config ostrack_tiny --processes 1 2
    python tools/scaling.py model --parameters 92.4e6 --step 0.5 --bandwidth 100e9 12.5e9 1.25e9

`measure` trains some steps with a thread a process, the batch of a step being the same, and takes the
median of the samples a second. `model` adds the time of a ring all-reduce of the gradients to that of a step:
the two don't overlap, because the gradients are exchanged when all of them are there.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence

RANKS = (1, 2, 4, 8, 16, 32)
BYTES = 4  # of a gradient: float32
RATE = re.compile(r"([\d.]+) samples/s")


def exchange_seconds(parameters: float, ranks: int, bandwidth: float, latency: float) -> float:
    """Return the time of a ring all-reduce: 2 (N - 1) / N of the bytes at the bandwidth, 2 (N - 1) messages.

    Args:
        parameters: that train.
        ranks: N.
        bandwidth: bytes a second between two neighbours, one way.
        latency: seconds of a message.
    """
    return 2 * (ranks - 1) / ranks * BYTES * parameters / bandwidth + 2 * (ranks - 1) * latency


def efficiency(parameters: float, step: float, ranks: int, bandwidth: float, latency: float) -> float:
    """Return the speed a rank as a share of that of one alone, its batch being the same: weak scaling."""
    return step / (step + exchange_seconds(parameters, ranks, bandwidth, latency))


def model_table(parameters: float, step: float, bandwidths: Sequence[float], latency: float) -> str:
    """Return a Markdown table: efficiency and milliseconds that are added, by bandwidth and ranks."""
    lines = ["| bandwidth, processes: | " + " | ".join(f"{ranks}" for ranks in RANKS) + " |"]
    lines.append("|---|" + "---|" * len(RANKS))
    for bandwidth in bandwidths:
        cells = []
        for ranks in RANKS:
            share = efficiency(parameters, step, ranks, bandwidth, latency)
            added = 1000 * exchange_seconds(parameters, ranks, bandwidth, latency)
            cells.append(f"{100 * share:.0f} % (+{added:.0f} ms)")
        lines.append(f"| {bandwidth / 1e9:g} GB/s | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def measured_rate(script: str, config: str, processes: int, batch: int, steps: int) -> float:
    """Return the median samples a second of a short training, over all processes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mtltrack.cli.train", "--script", script, "--config", config]
        command += ["--save_dir", folder, "--resume", "never"]
        if processes > 1:
            command += ["--mode", "multiple", "--nproc_per_node", str(processes)]
        command += ["--cfg-options", f"TRAIN.BATCH_SIZE={batch // processes}", "TRAIN.NUM_WORKER=0"]
        command += [f"DATA.TRAIN.SAMPLE_PER_EPOCH={batch * steps}", "DATA.VAL.DATASETS_NAME=[]"]
        command += ["TRAIN.PRINT_INTERVAL=1", "TRAIN.AUDIT_INTERVAL=0", "TRAIN.AUDIT_FULL_INTERVAL=0"]
        command += ["DATA.VAL.DATASETS_RATIO=[]", "TRAIN.TWO_STAGE=false", "TRAIN.EPOCH=1"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    rates = [float(rate) for rate in RATE.findall(done.stdout)]
    if done.returncode != 0 or len(rates) < 2:
        raise SystemExit(f"the training failed: {done.stderr.strip().splitlines()[-1:]}")
    return statistics.median(rates[1:])  # the first step warms up


def measure_table(script: str, config: str, processes: Sequence[int], batch: int, steps: int) -> str:
    """Return a Markdown table of the measured rates."""
    lines = ["| processes | batch of each | samples/s | times one process |", "|---|---|---|---|"]
    first = 0.0
    for number in processes:
        rate = measured_rate(script, config, number, batch, steps)
        first = first or rate
        lines.append(f"| {number} | {batch // number} | {rate:.1f} | {rate / first:.2f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    measure = kinds.add_parser("measure", help="train some steps here")
    measure.add_argument("--script", required=True)
    measure.add_argument("--config", required=True)
    measure.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    measure.add_argument("--batch", type=int, default=16, help="samples of a step, over all processes (16)")
    measure.add_argument("--steps", type=int, default=12, help="steps of each training (12)")
    model = kinds.add_parser("model", help="calculate for a cluster")
    model.add_argument("--parameters", type=float, required=True, help="that train")
    model.add_argument("--step", type=float, required=True, help="seconds of a step of one process")
    model.add_argument("--bandwidth", type=float, nargs="+", required=True, help="bytes a second, one way")
    model.add_argument("--latency", type=float, default=20e-6, help="seconds of a message (2e-5)")
    given = parser.parse_args()
    if given.kind == "model":
        print(model_table(given.parameters, given.step, given.bandwidth, given.latency))
    else:
        print(measure_table(given.script, given.config, given.processes, given.batch, given.steps))
    return 0


if __name__ == "__main__":
    sys.exit(main())
