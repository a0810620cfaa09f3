"""Success and precision by hand, and the published analysis as recorded in the references."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from mtltrack.core.errors import DataError
from mtltrack.core.registry import METRICS
from mtltrack.metrics import got10k
from mtltrack.metrics.preparation import fill_empty_predictions, valid_frames
from mtltrack.metrics.success import OnePassEvaluation, curves, sequence_errors

TRUTH = np.array([[10.0, 10, 20, 10]] * 4)


def shifted(*amounts: float) -> np.ndarray:
    boxes = TRUTH.copy()
    boxes[:, 0] += amounts
    return boxes


def test_curves_by_hand() -> None:
    # overlaps 1, 1, 12/28, 0 (of 20 x 10 boxes shifted by 0, 0, 8, 40 pixels)
    errors = sequence_errors(shifted(99, 0, 8, 40), TRUTH)
    assert errors.overlap == pytest.approx([1, 1, 3 / 7, 0])
    assert errors.centre.tolist() == [0, 0, 8, 40] and errors.centre_norm == pytest.approx([0, 0, 0.4, 2])
    found = curves(errors)
    # 3 frames of 4 above 0 to 0.40 (9 thresholds), 2 above 0.45 to 0.95 (11), none above 1
    assert found.scores() == pytest.approx(
        {
            "AUC": (9 * 0.75 + 11 * 0.5) / 21,
            "OP50": 0.5,
            "OP75": 0.5,
            "Precision": 0.75,
            "NormPrecision": 0.5,
            # two frames of 4 up to 0.39 (40 thresholds), three from 0.40 on (11)
            "NormPrecisionAUC": (40 * 0.5 + 11 * 0.75) / 51,
        }
    )
    assert found.precision[7] == 0.5 and found.precision[8] == 0.75 and found.norm_precision[50] == 0.75
    assert errors.average_overlap == pytest.approx((2 + 3 / 7) / 4)


def test_first_frame_is_the_truth() -> None:
    assert sequence_errors(shifted(500, 0, 0, 0), TRUTH).overlap[0] == 1.0


def test_empty_predictions_repeat_the_one_before() -> None:
    pred = np.array([[1.0, 1, 5, 5], [2, 2, 0, 5], [3, 3, 5, 0], [4, 4, 5, 5], [0, 0, 0, 0]])
    filled = fill_empty_predictions(pred, np.zeros(5, dtype=bool))
    assert filled[:, 0].tolist() == [1, 1, 1, 4, 4]
    skipped = fill_empty_predictions(pred, np.array([False, False, True, False, False]))
    assert skipped[:, 0].tolist() == [1, 1, 3, 4, 4]


def test_empty_first_prediction_is_handed_on() -> None:
    pred = shifted(0, 0, 0, 0)
    pred[:2] = 0
    assert sequence_errors(pred, TRUTH).overlap.tolist() == [1, 0, 1, 1]


def test_lengths() -> None:
    longer = np.concatenate([TRUTH, TRUTH])
    assert sequence_errors(longer, TRUTH).overlap.tolist() == [1, 1, 1, 1]
    longer[-1] = 0  # an empty box behind the last frame doesn't matter
    assert sequence_errors(longer, TRUTH).overlap.tolist() == [1, 1, 1, 1]
    assert sequence_errors(TRUTH[:3], TRUTH).overlap.tolist() == [1, 1, 1, 0]
    with pytest.raises(DataError, match="the results have 3 boxes, the ground truth has 4"):
        sequence_errors(TRUTH[:3], TRUTH, np.ones(4), protocol="lasot")


@pytest.mark.parametrize("bad", [[np.nan, 1, 1, 1], [1, 1, -1, 1]])
def test_bad_predictions_name_their_line(bad: list[float]) -> None:
    pred = TRUTH.copy()
    pred[2] = bad
    with pytest.raises(DataError, match="line 3 holds"):
        sequence_errors(pred, TRUTH)


def test_nan_truth_is_for_uav_alone() -> None:
    truth = TRUTH.copy()
    truth[1] = np.nan
    with pytest.raises(DataError, match="NaN in line 2"):
        sequence_errors(TRUTH, truth)
    errors = sequence_errors(TRUTH, truth, protocol="uav")
    assert errors.valid.tolist() == [True, False, True, True] and errors.centre[1] == -1


def test_lasot_wants_visibility() -> None:
    with pytest.raises(DataError, match="'lasot' is scored with visibility flags"):
        sequence_errors(TRUTH, TRUTH, protocol="lasot")


def test_visibility_must_fit() -> None:
    with pytest.raises(DataError, match="4 true boxes but 3 visibility flags"):
        sequence_errors(TRUTH, TRUTH, [1, 1, 1])


def test_frames_without_a_target() -> None:
    truth = TRUTH.copy()
    truth[3] = 0
    published = sequence_errors(TRUTH, truth)
    assert published.overlap[3] == -1 and np.isinf(published.centre[3]) and published.centre_norm[3] == -1
    scores = curves(published).scores()
    assert scores["OP50"] == 0.75 and scores["Precision"] == 0.75 and scores["NormPrecision"] == 1.0
    excluded = curves(published, exclude_invalid=True).scores()
    assert excluded["OP50"] == 1.0 and excluded["NormPrecision"] == pytest.approx(
        4 / 3
    )  # the published analysis
    corrected = sequence_errors(TRUTH, truth, invalid_counts_as_hit=False)
    assert curves(corrected).scores()["NormPrecision"] == 0.75
    assert curves(corrected, exclude_invalid=True).scores()["NormPrecision"] == 1.0


def test_validity_rules() -> None:
    truth = np.array([[1.0, 1, 5, 5], [0, 3, 5, 5], [-2, 3, 5, 5], [3, 3, 0, 5]])
    assert valid_frames(truth).tolist() == [True, True, True, False]
    assert valid_frames(truth, validity="all").tolist() == [True, False, False, False]
    with pytest.raises(DataError, match=r"validity must be 'size' or 'all', not 'al'. Did you mean 'all'"):
        valid_frames(truth, validity="al")  # type: ignore[arg-type]


def test_nothing_valid() -> None:
    errors = sequence_errors(TRUTH, TRUTH, np.zeros(4))
    assert np.isnan(errors.average_overlap) and curves(errors).scores()["AUC"] == 0.0
    with pytest.raises(DataError, match="no frame of the sequence has a valid target"):
        curves(errors, exclude_invalid=True)
    with pytest.raises(DataError, match="nothing to score: 0 predicted boxes"):
        sequence_errors([], TRUTH)


def test_every_sequence_has_the_same_weight() -> None:
    metric: OnePassEvaluation = METRICS.create("OnePassEvaluation")
    metric.update(TRUTH, TRUTH)
    metric.update(shifted(0, 99, 99, 99)[:2], TRUTH[:2])
    found = metric.compute()
    assert found["OP50"] == pytest.approx((1 + 0.5) / 2) and found["mIoU"] == pytest.approx(0.75)
    metric.reset()
    with pytest.raises(DataError, match="no sequence to average over"):
        metric.compute()


def test_got10k_by_hand() -> None:
    metric: got10k.GOT10kMetric = METRICS.create("GOT10kMetric")
    # from the second frame on: overlaps 1, 10 / 30, hidden
    one = metric.update(shifted(99, 0, 10, 40), TRUTH, cover=[8, 8, 1, 0])
    assert one == pytest.approx({"ao": 2 / 3, "sr": 0.5, "sr75": 0.5})
    metric.update(TRUTH[:2], TRUTH[:2])
    assert metric.compute() == pytest.approx({"ao": (1 + 1 / 3 + 1) / 3, "sr": 2 / 3, "sr75": 2 / 3})
    with pytest.raises(DataError, match="the results have 3 boxes, the ground truth has 4"):
        metric.update(TRUTH[:3], TRUTH)
    with pytest.raises(DataError, match="4 true boxes but 2 cover values"):
        metric.update(TRUTH, TRUTH, cover=[1, 1])


def load_comparison() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "tools" / "parity" / "evaluation.py"
    spec = importlib.util.spec_from_file_location("parity_evaluation", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Collected:
    """Takes comparisons and keeps those that are off."""

    def __init__(self) -> None:
        self.compared = 0
        self.off: list[str] = []

    def value(
        self,
        name: str,
        ours: torch.Tensor,
        reference: torch.Tensor,
        kind: str,
        tolerance: float | None = None,
    ) -> None:
        assert kind == "exact" and tolerance == 1e-6
        self.compared += ours.numel()
        if not torch.allclose(ours, reference, rtol=0.0, atol=tolerance):
            self.off.append(name)

    def decision(self, name: str, same: bool) -> None:
        self.compared += 1
        if not same:
            self.off.append(name)


def test_published_analyses_are_equalled_on_the_references(references_root: Path) -> None:
    folder = references_root / "eval"
    if not folder.is_dir():
        pytest.skip(f"no evaluation references in {folder}")
    report = Collected()
    used = load_comparison().compare(folder, report)
    assert not report.off, report.off[:10]
    assert {path.name for path in used} >= {
        "peer_per_sequence.json",
        "peer_aggregate.json",
        "got10k_toolkit.json",
    }
    assert report.compared > 80_000


def test_the_comparison_notices_a_difference() -> None:
    comparison = load_comparison()
    report = Collected()
    comparison.compare_numbers(report, "a", [1.0, float("nan")], [1.0, None])
    comparison.compare_numbers(report, "inf", [float("inf")], ["inf"])
    assert not report.off
    comparison.compare_numbers(report, "value", [1.0, 2.0], [1.0, 2.00001])
    comparison.compare_numbers(report, "length", [1.0], [1.0, 2.0])
    comparison.compare_numbers(report, "nan", [1.0], [None])
    assert report.off == ["value", "length length", "nan nan and inf"]


def test_the_comparison_knows_forms_by_their_content(tmp_path: Path) -> None:
    comparison = load_comparison()
    report = Collected()
    assert comparison.compare(tmp_path, report) == set()
    assert report.off == ["the folder holds reference figures"]
    (tmp_path / "renamed.json").write_text('{"note": {}, "results": {}}')
    (tmp_path / "other.json").write_text('{"a": 1}')
    report = Collected()
    assert comparison.compare(tmp_path, report) == {tmp_path / "renamed.json"}
    assert report.off == ["other.json is of a known form"]
