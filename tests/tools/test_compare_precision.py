"""`tools/compare_precision.py` on made-up sequences and an untrained network."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mtltrack.cli.build import build_tracker
from mtltrack.core.config import find_config, load_config
from mtltrack.core.errors import ConfigError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import compare_precision
from compare_precision import need_own_folders
from precision.findings import BoxDifference, Finding, as_json, distance, tables
from precision.picture import draw

CLS, SEG = "{TYPE: ClsHead, HIDDEN_DIM: 8, LABELS: multi}", "{TYPE: SegHead, HIDDEN_DIM: 8, STEM: 4}"
SMALL = ["MODEL.BACKBONE.EMBED_DIM=24", "MODEL.BACKBONE.DEPTH=3", "MODEL.HEAD.NUM_CHANNELS=8"]
OPTIONS = [f"TASKS={{cls: {CLS}, seg: {SEG}}}", *SMALL]
MODEL = ["--script", "ostrack", "--config", "ostrack_tiny", "--device", "cpu"]
FRAMES = 4


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files of untrained networks' weights, of two seeds."""
    cfg = load_config(find_config("ostrack", "ostrack_tiny"), OPTIONS, script="ostrack")
    folder, files = tmp_path_factory.mktemp("weights"), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        path = folder / f"seed{seed}.pth"
        torch.save({"net": build_tracker(cfg, "ostrack").state_dict()}, path)
        files.append(str(path))
    return files


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bright rectangle that moves right, in the layouts of OTB (sot/box) and DAVIS (vos, video car)."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    background = rng.integers(0, 90, (90, 120, 3), dtype=np.uint8)
    for frame in range(FRAMES):
        mask = np.zeros((90, 120), dtype=np.uint8)
        mask[40:60, 30 + 4 * frame : 70 + 4 * frame] = 255
        image = np.where(mask[..., None] > 0, 200, background)
        for path, pixels in (
            (root / "sot" / "box" / "img" / f"{frame + 1:04d}.png", image),
            (root / "vos" / "JPEGImages" / "480p" / "car" / f"{frame:05d}.jpg", image),
            (root / "vos" / "Annotations" / "480p" / "car" / f"{frame:05d}.png", mask),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), pixels)
    boxes = "".join(f"{31 + 4 * frame},41,40,20\n" for frame in range(FRAMES))
    (root / "sot" / "box" / "groundtruth_rect.txt").write_text(boxes)
    (root / "otb.json").write_text(json.dumps({"box": {"attr": ["IV", "OCC"]}}))
    return root


def test_every_precision_is_tracked_scored_and_compared(
    data: Path, weights: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        *MODEL,
        "--checkpoint",
        weights[0],
        "--dataset",
        str(data / "sot"),
        "--dataset",
        str(data / "vos"),
    ]
    arguments += [
        "--precisions",
        "fp32",
        "bf16",
        "--moved",
        "0.1",
        "--seeds",
        weights[1],
        "--trained",
        f"amp={weights[0]}",
    ]
    arguments += ["--frames", "box=2:4", "--out", str(tmp_path), "--cfg-options", *OPTIONS]
    assert compare_precision.main(arguments) == 0
    printed = capsys.readouterr().out
    assert (
        "bf16, from the same crops" in printed
        and "masks: J mean" in printed
        and "spread of 2 seeds" in printed
    )
    found = json.loads((tmp_path / "precision.json").read_text(encoding="utf-8"))
    sot, vos = found["data"]
    assert (sot["name"], sot["frames"], vos["name"], vos["frames"]) == ("sot", 3, "vos", 4)
    assert list(sot["scores"]) == ["fp32", "bf16", "trained: amp"]
    assert {run: len(found["AUC"]) for run, found in sot["starts"].items()} == {
        "fp32": 3,
        "bf16": 3,
        "trained: amp": 3,
    }
    same = sot["boxes"]["trained: amp"]  # the same weights in the same precision
    assert (same["mean_iou"], same["largest_pixels"], same["frames"]) == (pytest.approx(1), 0, 2)
    assert sot["scores"]["trained: amp"] == sot["scores"]["fp32"]
    assert 0 < sot["same_crop"]["bf16"]["mean_pixels"] < 1 and sot["same_crop"]["bf16"]["mean_iou"] > 0.9
    assert sot["boxes"]["fp32, start +0.1 px"]["largest_pixels"] > 0
    assert len(sot["seeds"]["AUC"]) == 2
    assert vos["scores"]["fp32"]["seg J_mean"] >= 0 and "seg J_mean" not in sot["scores"]["fp32"]
    for run in ("fp32", "bf16"):
        assert len((tmp_path / "sot" / run / "box.txt").read_text().splitlines()) == 3
    picture = cv2.imread(str(tmp_path / "precision.png"))
    assert picture is not None and picture.shape[1] > 300


def test_conditions_follow_from_attributes(data: Path, weights: list[str], tmp_path: Path) -> None:
    arguments = [*MODEL, "--checkpoint", weights[0], "--dataset", str(data / "sot"), "--precisions", "fp32"]
    arguments += ["--attributes", str(data / "otb.json"), "--moved", "--out", str(tmp_path)]
    assert compare_precision.main([*arguments, "--cfg-options", *OPTIONS]) == 0
    (found,) = json.loads((tmp_path / "precision.json").read_text(encoding="utf-8"))["data"]
    assert 0 <= found["scores"]["fp32"]["cls macro_f1"] <= 1
    assert found["boxes"] == {} == found["same_crop"] and found["seeds"] == {}


def test_distance_by_hand() -> None:
    found = distance(
        np.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 4.0, 4.0]]),
        np.array([[0.0, 0.0, 10.0, 10.0], [2.0, 0.0, 4.0, 4.0]]),  # 8 of 24 shared; two sides 2 px apart
    )
    assert found == BoxDifference(pytest.approx(2 / 3), pytest.approx(1 / 3), pytest.approx(0.5), 2.0, 2)
    assert distance(np.zeros((0, 4)), np.zeros((0, 4))).frames == 0


def test_a_difference_is_held_against_the_spread_of_seeds() -> None:
    unknown = {"cls mean_ap": math.nan}
    scores = {"fp32": {"AUC": 0.50, "AO": 0.40, **unknown}, "bf16": {"AUC": 0.51, "AO": 0.45, **unknown}}
    none = BoxDifference(math.nan, math.nan, math.nan, math.nan, 0)
    seeds = {"AUC": [0.5, 0.52], "AO": [0.4, 0.41], "cls mean_ap": [math.nan] * 2}
    lost = {"cls mean_ap": [math.nan] * 2}
    starts = {"fp32": {"AUC": [0.50, 0.52], **lost}, "bf16": {"AUC": [0.54, 0.53], **lost}}
    finding = Finding("sot", 9, "fp32", scores, {"bf16": none}, seeds=seeds, starts=starts)
    assert finding.spread("AUC") == pytest.approx(0.02) and finding.spread("mIoU") is None
    within = list(tables(finding)[0].columns[-1].cells)
    assert within == ["yes", "no", "-"]
    moved = [next(iter(column.cells)) for column in tables(finding)[1].columns]
    assert moved == ["AUC", "51.00 (50.00 to 52.00)", "53.50 (53.00 to 54.00)", "+2.50", "no"]
    assert [list(column.cells)[1] for column in tables(finding)[1].columns][-2:] == ["-", "-"]
    assert json.loads(as_json({}, [finding]))["data"][0]["boxes"]["bf16"]["mean_iou"] is None
    assert draw([finding])[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trained", "amp"], "--trained amp: wanted NAME=FILE"),
        (["--trained", "a={weights}", "--trained", "a={weights}"], "--trained names 'trained: a' twice"),
        (["--seeds", "nowhere.pth"], "the weights of 'seed 1' are no file: nowhere.pth"),
        (["--frames", "car=1:2"], "--frames names 'car', which no --dataset has. There: box."),
        (["--moved", "0"], "--moved 0: wanted a few tenths of a pixel"),
        (["--precisions", "fp32", "fp16"], "TEST.PRECISION is fp16, which needs a GPU; the device is cpu"),
    ],
)
def test_what_can_be_mended_is_said(
    data: Path, weights: list[str], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [item.replace("{weights}", weights[0]) for item in arguments]
    common = [*MODEL, "--checkpoint", weights[0], "--dataset", str(data / "sot"), "--frames", "box=1:2"]
    assert compare_precision.main([*common, *given, "--cfg-options", *OPTIONS]) == 1
    assert message in capsys.readouterr().err


def test_without_data_the_variable_is_named(
    weights: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MTLTRACK_DATA", "/nowhere")
    arguments = [*MODEL, "--checkpoint", weights[0], "--cfg-options", *OPTIONS]
    assert compare_precision.main(arguments) == 1
    assert "there is no folder /nowhere/sot. Name sequences by --dataset, or set" in capsys.readouterr().err


def test_results_of_two_runs_never_share_a_folder() -> None:
    need_own_folders(["fp32", "trained: a", "trained: b"], ["sot", "vos"])
    with pytest.raises(ConfigError, match=r"'a b' and 'a_b' would write to one folder; name them otherwise"):
        need_own_folders(["a b", "fp32", "a_b"], ["sot"])
    with pytest.raises(ConfigError, match=r"the data sets \(--dataset\) 'sot' and 'sot' would"):
        need_own_folders(["fp32"], ["sot", "vos", "sot"])
