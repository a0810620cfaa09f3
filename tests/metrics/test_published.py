"""Figures that others published, from the result files that they were made of.

STRUCK on OTB-100: results and scores (mean overlap a sequence, curves averaged over sequences) by the
authors of the benchmark's toolbox; the ground truth is that of a later collection. NanoTrackV3 on GOT-10k's
validation set: results and ground truth without flags of hidden frames and sizes of images.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mtltrack.metrics.batch import score_all
from mtltrack.metrics.boxes import centre_error, overlap, rect_iou
from mtltrack.metrics.got10k import score_all_got10k
from mtltrack.metrics.preparation import Protocol
from mtltrack.metrics.success import OVERLAP_THRESHOLDS
from mtltrack.metrics.trackingnet import score_all_trackingnet

# the toolbox leaves frames whose x, y, w or h isn't above 0 out of means, and takes -1 for their centre error
TOOLBOX = Protocol("OTB toolbox", invalid_centre_error=-1.0)


@dataclass
class Struck:
    """Boxes and published scores of 100 sequences."""

    names: list[str]
    predictions: list[np.ndarray]
    truths: list[np.ndarray]
    overlaps: np.ndarray
    success: np.ndarray
    precision: np.ndarray

    def differing(self, mean_overlaps: np.ndarray) -> set[str]:
        """Names of the sequences whose published mean overlap is another one."""
        return {self.names[index] for index in np.flatnonzero(np.abs(mean_overlaps - self.overlaps) > 1e-6)}


@pytest.fixture(scope="module")
def struck(data_root: Path) -> Struck:
    folder = data_root / "evalcheck"
    if not (folder / "otb100_STRUCK").is_dir():
        pytest.skip(f"no results of STRUCK in {folder}")
    published = json.loads((folder / "otb100_STRUCK_scores_tb100_ALL.json").read_text(encoding="utf-8"))
    with gzip.open(folder / "OTB100.json.gz") as file:
        truth = json.load(file)
    names = published["seqs"]
    results = {
        name: json.loads((folder / "otb100_STRUCK" / f"{name}.json").read_text(encoding="utf-8"))
        for name in names
    }
    return Struck(
        names,
        [np.array(results[name][0]["res"], dtype=float) for name in names],
        [np.array(truth[{"BasketBall": "Basketball"}.get(name, name)]["gt_rect"], float) for name in names],
        np.array(published["overlapScores"]),
        np.array(published["successRateList"]),
        np.array(published["precisionList"]),
    )


def test_published_struck_scores_as_the_files_stand(struck: Struck) -> None:
    scores = score_all(struck.predictions, struck.truths, names=struck.names)
    mean = scores.mean()
    assert struck.success.mean() == pytest.approx(0.4617, abs=5e-5)
    assert struck.precision[20] == pytest.approx(0.6391, abs=5e-5)
    assert mean["AUC"] == pytest.approx(0.4617, abs=0.001)
    assert mean["Precision"] == pytest.approx(0.6391, abs=0.002)
    # the other 95 are equal, with the two targets of Jogging and Skating2, David from 300 and Human4-2
    differing = struck.differing(scores.mean_overlaps)
    assert differing == {"Biker", "Crowds", "Board", "Twinnings", "Tiger1"}


def test_published_struck_scores_without_the_short_result(struck: Struck) -> None:
    kept = [index for index, name in enumerate(struck.names) if name != "ClifBar"]
    predictions = [struck.predictions[index] for index in kept]
    truths = [struck.truths[index] for index in kept]
    mean = score_all(predictions, truths).mean()
    assert (mean["AUC"], mean["Precision"]) == pytest.approx((0.4617, 0.6391), abs=0.001)
    # an independent evaluation of 99 sequences gave .4622 and .6387: the tracker's own first boxes, most
    # of which are a pixel or so off, in the place of the true ones
    errors = [
        (overlap(one, other), centre_error(one, other))
        for one, other in zip(predictions, truths, strict=True)
    ]
    auc = np.mean([(found[:, None] > OVERLAP_THRESHOLDS).mean() for found, _ in errors])
    assert (auc, np.mean([(far <= 20).mean() for _, far in errors])) == pytest.approx(
        (0.4622, 0.6387), abs=5e-5
    )


def test_published_struck_differs_by_its_rule_and_ground_truth(struck: Struck) -> None:
    scores = score_all(struck.predictions, struck.truths, validity="all", protocol=TOOLBOX)
    invalid = {
        name: int(scores.frames[index] - scores.valid_frames[index])
        for index, name in enumerate(struck.names)
        if scores.frames[index] > scores.valid_frames[index]
    }
    # Biker and Crowds have frames at the image's edge (x or y not above 0), which the rule "all" leaves out;
    # in Board and Twinnings the last true box is 0, 0, 0, 0 here and was a target there
    assert invalid == {"Biker": 7, "Crowds": 1, "Board": 1, "Twinnings": 1}
    assert struck.differing(scores.mean_overlaps) == {"Board", "Twinnings", "Tiger1"}
    for name in ("Board", "Twinnings"):
        index = struck.names.index(name)
        frames, mean = scores.frames[index], scores.mean_overlaps[index]
        last = struck.overlaps[index] * frames - mean * (frames - 1)
        assert 0.5 < last < 1  # what the last frame must have added is an overlap


def test_published_struck_scores_once_the_differences_are_undone(struck: Struck) -> None:
    truths = list(struck.truths)
    # ClifBar's result ends after 329 of 472 frames: the mean overlap takes the rest as 0, the curves leave it
    # out
    clifbar = struck.names.index("ClifBar")
    assert (len(struck.predictions[clifbar]), len(truths[clifbar])) == (329, 472)
    truths[clifbar] = truths[clifbar][:329]
    # Tiger1's result starts at frame 6, but was compared with true boxes from frame 1 on. Those of the first
    # five frames aren't in this ground truth; the first that is stands for them
    tiger = struck.names.index("Tiger1")
    truths[tiger] = np.concatenate([np.repeat(truths[tiger][:1], 5, axis=0), truths[tiger][:-5]])
    scores = score_all(struck.predictions, truths, validity="all", protocol=TOOLBOX)
    assert scores.mean_overlaps[tiger] == pytest.approx(struck.overlaps[tiger], abs=5 / 349)
    mean = scores.mean_curves()
    assert np.abs(mean.success - struck.success).max() < 1e-4
    assert np.abs(mean.precision - struck.precision).max() < 1.2e-4
    assert mean.scores()["AUC"] == pytest.approx(struck.success.mean(), abs=2e-5)
    assert mean.scores()["Precision"] == pytest.approx(0.6391, abs=1e-4)


Boxes = list[np.ndarray]


@pytest.fixture(scope="module")
def nanotrack(data_root: Path) -> tuple[Boxes, Boxes]:
    folder = data_root / "evalcheck" / "got10k_val"
    if not folder.is_dir():
        pytest.skip(f"no results of NanoTrackV3 in {folder}")
    names = sorted(path.name for path in (folder / "gt").glob("*.txt"))
    assert len(names) == 180
    read = [
        [np.loadtxt(folder / kind / name, delimiter=",") for name in names] for kind in ("NanoTrackV3", "gt")
    ]
    return read[0], read[1]


def ao_sr(found: tuple[Boxes, Boxes], **rules: object) -> tuple[float, float]:
    mean = score_all_got10k(*found, **rules).mean()  # type: ignore[arg-type]
    return mean["ao"], mean["sr"]


def test_published_nanotrack_scores(nanotrack: tuple[Boxes, Boxes]) -> None:
    assert ao_sr(nanotrack) == pytest.approx((0.719, 0.848), abs=0.003)
    assert ao_sr(nanotrack) == pytest.approx((0.7173, 0.8464), abs=5e-5)  # of an independent evaluation


def test_published_nanotrack_scores_lack_hidden_frames_alone(nanotrack: tuple[Boxes, Boxes]) -> None:
    """What each rule moves: none but the flags of hidden frames can account for both figures."""
    predictions, truths = nanotrack
    plain = np.array(ao_sr(nanotrack))

    def moved(found: tuple[Boxes, Boxes] = nanotrack, **rules: object) -> np.ndarray:
        return np.array(ao_sr(found, **rules)) - plain

    # counting the first frame, which GOT-10k's toolkit doesn't, would give .7196, published as .720
    assert moved(skip_first=False) == pytest.approx([0.0023, 0.0013], abs=5e-5)
    # results written as whole pixels
    assert np.abs(moved(([np.round(item) for item in predictions], truths))).max() < 1e-4
    # boxes that count the last pixel
    inclusive = np.concatenate([overlap(a, b)[1:] for a, b in zip(predictions, truths, strict=True)])
    assert inclusive.mean() == pytest.approx(plain[0], abs=1e-5)
    # clipping to images, of the smallest usual size that holds the sequence's true boxes
    usual = [(640.0, 480.0), (854.0, 480.0), (1280.0, 720.0), (1920.0, 1080.0), (3840.0, 2160.0)]
    corners = [(truth[:, :2] + truth[:, 2:]).max(axis=0) - 2 for truth in truths]
    sizes = [next(size for size in usual if np.all(corner <= size)) for corner in corners]
    assert moved(image_sizes=sizes) == pytest.approx([0.0002, 0.0001], abs=5e-5)
    # about 40 hidden frames of 20,827, which the tracker misses, raise both to the published digits
    ious = np.concatenate([rect_iou(a, b)[1:] for a, b in zip(predictions, truths, strict=True)])
    assert len(ious) == 20_827 and (ious == 0).sum() > 40
    shown = np.sort(ious)[40:]
    assert (round(shown.mean(), 3), round((shown > 0.5).mean(), 3)) == (0.719, 0.848)


def test_published_trackingnet_evaluation_on_the_same_boxes(nanotrack: tuple[Boxes, Boxes]) -> None:
    # what metrics.py of TrackingNet's development kit prints for these files, in percent
    kit = {"Success": 70.35572706730491, "Precision": 52.96852153517464, "NormPrecision": 76.80391995370127}
    found = score_all_trackingnet(*nanotrack).mean()
    assert {name: 100 * score for name, score in found.items()} == pytest.approx(kit, abs=1e-9)
