"""Compare whole trackers on the synthetic video (`tracker_runs.json`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mtltrack.core.config import config_from_dict
from mtltrack.core.kernels import DEFAULT, ONEDNN, is_onednn
from mtltrack.evaluation.online import OnlineTracker
from mtltrack.models.tracker import Tracker
from parity import recipe
from parity.models import Case, build, parse_case, settle
from parity.report import Report
from parity.track import digest


class RecordingTracker(OnlineTracker):
    """Notes the box before it is mapped to the frame."""

    pred_box: Sequence[float]
    resize_factor: float

    def _to_frame(
        self, before_xywh: Sequence[float], box_cxcywh: Sequence[float], factor: float
    ) -> list[float]:
        self.pred_box, self.resize_factor = box_cxcywh, factor
        return super()._to_frame(before_xywh, box_cxcywh, factor)


def _settings(case: Case) -> Any:
    factor = 4.0 if case.family == "ost" and case.search_size == 256 else 5.0
    crops = {"SEARCH": {"SIZE": case.search_size, "FACTOR": factor}, "TEMPLATE": {"SIZE": case.template_size}}
    kernel = ONEDNN if is_onednn() else DEFAULT  # of the whole comparison
    return config_from_dict({"DATA": crops, "TEST": {"MATMUL": kernel}}, name=case.name)


def compare_runs(reference: dict[str, Any], report: Report) -> None:
    """Compare every run whose name tells a model."""
    for name, run in reference.items():
        case = parse_case(name)
        report.decision(f"{name}: the name tells the model", case is not None)
        if case is not None:
            _compare_run(case, run, report)


def _starts_alike(net: Tracker, case: Case, run: dict[str, Any]) -> bool:
    """Tell whether the first frame's box is the reference's."""
    with torch.no_grad():
        net.box_head.conv5_size.bias.fill_(run["size_bias"])
    tracker = RecordingTracker(net, _settings(case))
    tracker.initialize(*recipe.frame(0))
    tracker.track(recipe.frame(run["frames"][0]["frame"])[0])
    return bool(np.allclose(tracker.pred_box, run["frames"][0]["pred_box"], atol=1e-5 * case.search_size))


def _compare_run(case: Case, run: dict[str, Any], report: Report) -> None:
    case = settle(case, lambda model: _starts_alike(model, case, run))
    net = build(case)
    with torch.no_grad():
        net.box_head.conv5_size.bias.fill_(run["size_bias"])
    tracker = RecordingTracker(net, _settings(case))
    picture, box = recipe.frame(0)
    report.value(f"{case.name}: init", box, run["init"], "exact")
    tracker.initialize(picture, box)
    target = tracker._target
    assert target is not None
    report.decision(f"{case.name}: template", digest(target.template) == run["template_sha"])
    report.value(f"{case.name}: template_mean", target.template.mean(), run["template_mean"])
    if "template_box" in run:
        report.value(f"{case.name}: template_box", target.template_box[0], run["template_box"], "box")
    scale = {"tolerance": 1e-5 * case.search_size}  # pixels: a unit crop's 1e-5
    for frame in run["frames"]:
        name = f"{case.name} frame {frame['frame']}"
        report.value(f"{name}: state_before", target.box_xywh, frame["state_before"], **scale)
        answer = tracker.track(recipe.frame(frame["frame"])[0])
        report.value(f"{name}: resize_factor", tracker.resize_factor, frame["resize_factor"], "box")
        report.value(f"{name}: pred_box", tracker.pred_box, frame["pred_box"], **scale)
        report.value(f"{name}: target_bbox", answer["target_bbox"], frame["target_bbox"], **scale)
    if "mem_cnt" in run:
        memory = target.memory
        report.decision(f"{case.name}: entries", memory is not None and memory.count == run["mem_cnt"])
