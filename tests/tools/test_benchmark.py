"""The benchmark: the arithmetic of its tables, and that it runs. How fast anything is isn't tested."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from mtltrack.core.config import find_config, load_config
from mtltrack.core.errors import TrainingError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import benchmark
from speed import samples
from speed.frames import HeadCost
from speed.limit import DEFAULT, ONEDNN, Limit, LimitMeter, relative_error, shapes_for
from speed.output import COLUMNS, Findings, as_json, limit_table, print_findings, row_of
from speed.rounds import CLOCKS, CPU, WALL, Comparison, Form, Quartiles, Timer
from speed.samples import FRAMES, LoadBench, workers_seconds
from speed.steps import StepBench, measured_stages

SMALL = [
    *("--quick", "--threads", "1", "--device", "cpu", "--cfg-options"),
    *("DATA.SEARCH.SIZE=64", "DATA.TEMPLATE.SIZE=32", "MODEL.HEAD.NUM_CHANNELS=16"),
    *("MODEL.BACKBONE.EMBED_DIM=32", "MODEL.BACKBONE.DEPTH=2", "MODEL.BACKBONE.NUM_HEADS=2"),
    *("MODEL.BACKBONE.CE_LOC=[1]", "MODEL.BACKBONE.CE_KEEP_RATIO=[0.7]"),
]
HIPTRACK = ["--script", "hiptrack", "--config", "hiptrack_tiny"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def example() -> Comparison:
    """Return a comparison whose medians and ratios are easily worked out."""
    return Comparison(
        name="a frame",
        ours=[0.25, 0.125, 0.5, 0.25, 0.25],
        plain=[0.5, 0.375, 0.5, 1.0, 0.625],
        operations=30_000_000_000,
        memory={"ours": 2_000_000, "plain": 5_000_000},
    )


def test_medians_ratios_and_shares_by_hand() -> None:
    found = example()
    assert found.seconds("ours") == 0.25 and found.seconds("plain") == 0.5
    # of the rounds: 2, 3, 1, 4, 2.5
    assert found.ratio == Quartiles(low=2.0, median=2.5, high=3.0)
    assert found.rate("ours") == pytest.approx(120e9) and found.rate("plain") == pytest.approx(60e9)
    assert found.share(160e9) == pytest.approx(0.75) and found.share(None) is None


def test_an_epoch_of_samples_by_hand() -> None:
    found = Comparison("load", [2.0, 4.0, 2.0], [6.0, 8.0, 8.0], units=20)
    assert found.seconds("ours") == pytest.approx(0.1) and found.seconds("plain") == pytest.approx(0.4)
    assert found.ratio.median == pytest.approx(3.0)
    assert found.rate("ours") is None and found.share(1e9) is None
    of_samples = Comparison("load", [2.0], [4.0], units=20, operations=100)
    assert of_samples.rate("ours") == pytest.approx(50)  # a hundred in two seconds


def test_a_row_of_the_table() -> None:
    names = [f"{number} {name}" for number, name in enumerate(COLUMNS)]
    row = dict(zip(names, row_of(example(), 160e9), strict=True))
    assert row == {
        "0 ": "a frame",
        "1 ms": "250.0",
        "2 plain, ms": "500.0",
        "3 plain / ours": "2.50",
        "4 quartiles": "2.00 to 3.00",
        "5 a second": "4.00",
        "6 GFLOP": "30.0",
        "7 GFLOP/s": "120",
        "8 plain": "60",
        "9 of the limit": "75 %",
        "10 memory, MB": "2",
        "11 plain": "5",
    }
    assert row_of(Comparison("load", [1.0], [2.0]), None)[6:] == [""] * 6


def test_the_limit_is_the_best_median() -> None:
    limit = Limit("fp32", {DEFAULT: {(2, 2, 2): [1e9, 3e9, 2e9]}, ONEDNN: {(2, 2, 2): [2.5e9, 2.4e9, 9e9]}})
    assert limit.median(DEFAULT, (2, 2, 2)) == 2e9 and limit.best == 2.5e9
    console = Console(width=80)
    with console.capture() as capture:
        console.print(limit_table(limit))
    told = capture.get()
    assert "2 x 2 x 2" in told and "onednn" in told


def test_what_heads_add_by_hand() -> None:
    extra = HeadCost(["cls"], alone=[1.0, 2.0, 1.0], together=[1.1, 2.1, 1.2]).extra
    assert extra.median == pytest.approx(10) and extra.low == pytest.approx(7.5)


def test_forms_take_turns() -> None:
    calls: list[str] = []
    told: list[str] = []

    @contextmanager
    def within() -> Iterator[None]:
        calls.append("(")
        yield
        calls.append(")")

    timer = Timer(torch.device("cpu"), 2, told.append, lambda: calls.append("limit"))
    found = timer.compare(
        "work", Form(lambda: calls.append("ours")), Form(lambda: calls.append("plain"), within), warm_up=1
    )
    turns = "limit ( plain ) ours ours ( plain ) ( plain ) ours ours ( plain )".split()
    assert calls == turns  # a round of warming up, two that count, and one for the memory
    assert len(found.ours) == len(found.plain) == 2
    assert told == ["work: warming up", "work: round 1 of 2", "work: round 2 of 2"]


def test_the_processors_time_does_not_pass_while_one_waits() -> None:
    timer = Timer(torch.device("cpu"), 1, clock=CLOCKS[CPU])
    found = timer.compare(
        "wait", *(Form(lambda: time.sleep(0.05)) for _ in range(2)), warm_up=0, memory=False
    )
    assert max(found.ours + found.plain) < 0.04


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process's peak")
def test_memory_that_is_taken_for_a_while() -> None:
    form = Form(lambda: torch.ones(20_000_000).sum())
    found = Timer(torch.device("cpu"), 1).compare("work", form, Form(lambda: None), warm_up=0)
    if found.memory:  # a container may forbid to begin the peak anew
        assert 78e6 < found.memory["ours"] < 90e6 and found.memory["plain"] < 5e6


def test_products_that_are_not_float32_are_no_limit() -> None:
    values, weights = torch.ones(2, 4), torch.ones(3, 4)
    assert relative_error(torch.full((2, 3), 4.0), values, weights.T) == 0
    assert relative_error(torch.full((2, 3), 4.4), values, weights.T) == pytest.approx(0.1)
    meter = LimitMeter("fp32", torch.device("cpu"), [(8, 8, 8)])

    @contextmanager
    def spoilt() -> Iterator[None]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            yield

    meter._offer("rounded", spoilt)
    assert "its products aren't float32: relative error" in meter.found.refused["rounded"]
    meter.measure(calls=1)
    assert "rounded" not in meter.found.rates and len(meter.found.rates[DEFAULT][8, 8, 8]) == 1
    assert set(LimitMeter("bf16", torch.device("cpu"), [(8, 8, 8)])._kernels) == {DEFAULT}


def test_a_gpu_is_given_larger_products() -> None:
    on_cpu, on_gpu = (shapes_for(torch.device(name)) for name in ("cpu", "cuda"))
    assert (720, 768, 3072) in on_cpu and set(on_gpu) - set(on_cpu) == {(8192, 8192, 8192)}


def test_training_chooses_its_device(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    options = benchmark.build_parser().parse_args(["train", *HIPTRACK])
    for name in ("cuda", "cuda:0"):
        benchmark.check(options, torch.device(name))
    assert benchmark.main(["train", *HIPTRACK, "--device", "cpu"]) == 1
    told = capsys.readouterr().err
    assert "--device cpu: training takes cuda:0 here" in told and "CUDA_VISIBLE_DEVICES" in told


def test_everything_is_printed_and_written() -> None:
    limit = Limit("fp32", {DEFAULT: {(2, 2, 2): [160e9]}}, {ONEDNN: "no"})
    findings = Findings({"precision": "fp32"}, limit, {"frame": [example()]}, HeadCost(["cls"], [1.0], [1.1]))
    console = Console(width=200)
    with console.capture() as capture:
        print_findings(console, findings)
    told = capture.get()
    assert "the limit: 160 GFLOP/s" in told and "onednn isn't counted: no" in told and "75 %" in told
    assert "the heads cls together: 10.0 % of the tracker's frame more (quartiles 10.0 to 10.0)" in told
    content = json.loads(as_json(findings))
    assert content["limit"]["best"] == 160e9
    (frame,) = content["frame"]
    assert frame["ratio"] == {"low": 2.0, "median": 2.5, "high": 3.0} and frame["share"] == 0.75
    assert frame["seconds"] == {"ours": 0.25, "plain": 0.5} and frame["ours"] == example().ours
    assert content["heads"]["extra_percent"]["median"] == pytest.approx(10)


def test_frames_and_steps_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for what in ("frame", "train"):
        folder = tmp_path / what
        arguments = [what, *HIPTRACK, "--out", str(folder), "--rounds", "1"]
        entries = ["--entries", "1", "3"] if what == "frame" else []
        assert benchmark.main([*arguments, *entries, *SMALL]) == 0
    frames = json.loads((tmp_path / "frame" / benchmark.FILE).read_text())
    names = [found["name"] for found in frames["frame"]]
    assert names[:3] == ["frame, 1 in memory", "frame, 3 in memory", "frame, 1 in memory, written"]
    assert names[3] == "track(), from image to box" and "heads" not in frames
    one, three, written = (found["operations"] for found in frames["frame"][:3])
    # two entries of 16 tokens more for each of 16 queries, keys of 64 and values of 16 numbers
    assert three - one == 2 * 16 * (2 * 16) * (64 + 16) and written > one
    steps = json.loads((tmp_path / "train" / benchmark.FILE).read_text())
    assert [found["name"] for found in steps["train"]] == ["stage train, 1 x 2 frames"]
    assert steps["train"][0]["operations"] > 2 * one and steps["setting"]["threads"] == 1
    told = capsys.readouterr().out
    assert "frame: ours (fp32) and the plain form (fp32)" in told and "measuring stage train" in told


def test_heads_and_lower_precision(tmp_path: Path) -> None:
    arguments = ["frame", "--script", "ostrack", "--config", "ostrack_cls_tiny", "--precision", "bf16"]
    assert benchmark.main([*arguments, "--out", str(tmp_path), *SMALL]) == 0
    found = json.loads((tmp_path / benchmark.FILE).read_text())
    assert [frame["name"] for frame in found["frame"]] == ["frame", "track(), from image to box"]
    assert found["heads"]["tasks"] == ["cls"] and found["setting"]["precision"] == "bf16"


def test_samples_are_loaded_in_both_forms(tmp_path: Path) -> None:
    cfg = load_config(find_config("hiptrack", "hiptrack_tiny"), [], script="hiptrack")
    bench = LoadBench(cfg, tmp_path, 2, Timer(torch.device("cpu"), 1), workers=0)
    files = sorted(tmp_path.glob("sequence_0/img/*.jpg"))
    assert len(files) == FRAMES and files[0].stat().st_size > 100_000
    full, reduced = bench.run()
    for found in (full, reduced):
        assert found.units == 2 and found.name.startswith("0 worker, a template and 2 search frames")
        assert found.ours and found.plain and not found.memory
    assert full.name.endswith("search frames, decoded whole")
    shares = re.fullmatch(r".*, decoded at ((?:1(?:/[248])? \(\d+%\)(?:, )?)+)", reduced.name)
    assert shares and sum(map(int, re.findall(r"(\d+)%", shares[1]))) == pytest.approx(100, abs=2)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells it")
def test_the_time_of_workers_on_processors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    itself = SimpleNamespace(pid=os.getpid())
    monkeypatch.setattr(multiprocessing, "active_children", lambda: [itself, itself])
    before = time.process_time()
    both = workers_seconds()
    assert 2 * before <= both <= 2 * time.process_time()
    cfg = load_config(find_config("hiptrack", "hiptrack_tiny"), [], script="hiptrack")
    monkeypatch.setattr(samples, "write_sequences", lambda folder: None)
    monkeypatch.setattr(samples, "FolderSequences", lambda folder: None)
    timers = [Timer(torch.device("cpu"), 1, clock=CLOCKS[name]) for name in (CPU, CPU, WALL)]
    clocks = [
        LoadBench(cfg, tmp_path, 2, timer, workers).timer.clock
        for timer, workers in zip(timers, (1, 0, 1), strict=True)
    ]
    assert clocks == [workers_seconds, CLOCKS[CPU], CLOCKS[WALL]]


def test_the_clock_of_workers_needs_linux(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert benchmark.main(["load", *HIPTRACK, "--device", "cpu", "--threads", "1", "--clock", "cpu"]) == 1
    assert "--clock cpu: only Linux tells the time of the worker that loads" in capsys.readouterr().err


def test_a_stage_for_everything_is_added() -> None:
    arguments = [*HIPTRACK, *SMALL, "TRAIN.FREEZE_BACKBONE=true"]
    options = benchmark.build_parser().parse_args(["train", *arguments])
    cfg = load_config(find_config("hiptrack", "hiptrack_tiny"), options.cfg_options, script="hiptrack")
    bench = StepBench(benchmark._net(options, cfg), cfg, "hiptrack", 1, Timer(torch.device("cpu"), 1))
    frozen, joint = bench.trainer.stages
    assert "backbone" not in frozen.trains and joint.trains == {"backbone", "history", "box"}
    assert measured_stages([frozen, joint], bench.net) == [frozen, joint]
    bench.clip.search = bench.clip.search * float("nan")  # floating point now, so not normalised
    bench.clip.template = bench.clip.template.float()
    with pytest.raises(TrainingError, match=r"stage train: loss not finite"):
        bench.stage(0, frozen)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "--rounds 0: at least 1 is needed"),
        (["--batch", "-1"], "--batch -1: at least 1 is needed"),
        (["--threads", "0"], "--threads 0: at least 1 is needed"),
        (["--device", "cpu", "--clock", "cpu"], "--clock cpu needs --device cpu and --threads 1"),
        (["--device", "cuda"], "--device cuda: torch sees no GPU here; use cpu"),
        (["--device", "cpu", "--precision", "fp16"], "--precision fp16 needs a GPU; use bf16 or fp32"),
        (
            ["--device", "cpu", "--quick", "--entries", "151"],
            "the memory holds 1 to 150 entries (MODEL.MAX_MEM)",
        ),
    ],
)
def test_arguments_that_make_no_sense(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert benchmark.main(["frame", *HIPTRACK, *arguments]) == 1
    assert message in capsys.readouterr().err
