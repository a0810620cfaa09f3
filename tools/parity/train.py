"""Compare training: losses, gradient norms, batch-norm statistics (`hip_*_train.pt`, `ost*.pt`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mtltrack.core.types import TaskOutput
from mtltrack.losses.boxes import boxes_xywh_to_xyxy, boxes_xyxy_to_cxcywh
from mtltrack.models.layers.elimination import keep_rate
from mtltrack.models.tracker import Tracker
from mtltrack.tasks.box import BoxMetrics
from mtltrack.training.weighting import LossReport, total_loss
from parity import recipe
from parity.models import Case, build, settle
from parity.report import Report
from parity.track import clip_of

CE_START, CE_END, CE_KEEP = 20, 100, 0.7
_CASE_KEYS = {
    *("joint", "epoch", "ce_margin_rel_min"),
    *("total", "status", "per_frame", "grad_norm", "grad_norm_total", "bn_running_mean", "no_grad"),
}
_TERMS = {"giou": "Loss/giou", "l1": "Loss/l1", "focal": "Loss/location"}


def compare_training(case: Case, reference: dict[str, Any], report: Report) -> None:
    """Compare every case of a training file; the weights are refilled before each."""
    batch, frames = reference["batch"], reference["num_search"]
    name = case.name
    template = recipe.image(f"{name}/train/z", batch, case.template_size)
    template_boxes = recipe.boxes(f"{name}/train/tb", batch, 0.4, 0.5)
    search = torch.stack(
        [recipe.image(f"{name}/train/x{i}", batch, case.search_size) for i in range(frames)], dim=1
    )
    boxes = torch.stack(
        [recipe.boxes(f"{name}/train/b{i}", batch) for i in range(frames)], dim=1
    )  # (B, T, 4)
    clip = clip_of(template, template_boxes, search)
    clip.labels["box"] = {
        "valid": torch.ones(batch, frames, dtype=torch.bool),
        "cxcywh": boxes_xyxy_to_cxcywh(boxes_xywh_to_xyxy(boxes)),
    }
    report.understood("training", reference, ("batch", "num_search", "cases"))
    tracker = build(settle(case, lambda model: _same_totals(model, clip, reference["cases"])))
    for expected in reference["cases"]:
        _compare_case(tracker, clip, expected, report)


def _same_totals(tracker: Tracker, clip: Any, cases: list[dict[str, Any]]) -> bool:
    """Tell whether the case in which most tokens are eliminated has the reference's loss."""
    expected = max(cases, key=lambda entry: entry["epoch"])
    _prepare(tracker, joint=False)
    with torch.no_grad():
        loss = _loss(tracker, clip, expected)[1].total
    return bool(abs(loss - expected["total"]) <= 1e-4 * abs(expected["total"]))


def _loss(tracker: Tracker, clip: Any, expected: dict[str, Any]) -> tuple[TaskOutput, LossReport]:
    output = tracker(clip, keep_rate=keep_rate(expected["epoch"], CE_START, CE_END, CE_KEEP))["box"]
    return output, total_loss(tracker.heads(), {"box": output}, clip, {})


def _compare_case(tracker: Tracker, clip: Any, expected: dict[str, Any], report: Report) -> None:
    name = f"joint={expected['joint']} epoch={expected['epoch']}"
    recipe.fill(tracker)
    _prepare(tracker, expected["joint"])
    report.understood(name, expected, _CASE_KEYS)
    output, loss = _loss(tracker, clip, expected)
    loss.total.backward()
    report.value(f"{name}: total", loss.total, expected["total"], "loss")
    _compare_terms(name, tracker, output, clip, expected, report)
    _compare_gradients(name, tracker, expected, report)
    buffers = dict(tracker.named_buffers())
    for key, mean in expected["bn_running_mean"].items():
        report.value(f"{name}: {key}", buffers[key], mean)


def _prepare(tracker: Tracker, joint: bool) -> None:
    """Train mode; in the frozen cases the backbone is frozen (it holds neither dropout nor batch norm)."""
    tracker.train()
    unread = tracker.unread_parameters()
    for key, parameter in tracker.named_parameters():
        parameter.requires_grad_(key not in unread)
        parameter.grad = None
    if not joint:
        tracker.backbone.requires_grad_(False)


def _compare_terms(
    name: str, tracker: Tracker, output: TaskOutput, clip: Any, expected: dict[str, Any], report: Report
) -> None:
    head, labels = tracker.box_head, clip.labels["box"]
    terms = {key: value.mean(0) for key, value in head.loss_terms(output, labels).items()}  # (T,) each
    totals = sum(head.term_weights[key] * value for key, value in terms.items())
    overlaps = [_overlap(output, labels, t) for t in range(clip.num_frames)]
    for t, frame in enumerate(expected["per_frame"]):
        report.value(f"{name} frame {t}: total", totals[t], frame["Loss/total"], "loss")
        for key, theirs in _TERMS.items():
            report.value(f"{name} frame {t}: {key}", terms[key][t], frame[theirs], "loss")
        report.value(f"{name} frame {t}: IoU", overlaps[t], frame["IoU"], "box")
        boxes = output.predictions["boxes_cxcywh"][:, t]
        report.value(f"{name} frame {t}: pred_boxes", boxes, frame["pred_boxes"][:, 0], "box")
    status = expected["status"]
    report.value(f"{name}: status total", totals.sum(), status["Loss/total"], "loss")
    for key, theirs in _TERMS.items():
        report.value(f"{name}: status {key}", terms[key].sum(), status[theirs], "loss")
    report.value(f"{name}: status IoU", sum(overlaps) / len(overlaps), status["IoU"], "box")


def _overlap(output: TaskOutput, labels: dict[str, Tensor], t: int) -> float:
    metrics = BoxMetrics()
    boxes = {"boxes_cxcywh": output.predictions["boxes_cxcywh"][:, t : t + 1]}
    metrics.update(TaskOutput(None, boxes), {key: value[:, t : t + 1] for key, value in labels.items()})
    return metrics.compute()["IoU"]


def _compare_gradients(name: str, tracker: Tracker, expected: dict[str, Any], report: Report) -> None:
    gradients = {key: p.grad for key, p in tracker.named_parameters() if p.grad is not None}
    norms = {key: float(gradient.double().norm()) for key, gradient in gradients.items()}
    total = float(torch.tensor(list(norms.values()), dtype=torch.float64).norm())
    reference_total = expected["grad_norm_total"]
    report.value(f"{name}: grad_norm_total", total, reference_total, "grad")
    without = {key for key, _ in tracker.named_parameters()} - set(gradients)
    report.decision(f"{name}: parameters without gradient", without == set(expected["no_grad"]))
    report.decision(f"{name}: parameters with gradient", set(norms) == set(expected["grad_norm"]))
    for key in sorted(set(norms) & set(expected["grad_norm"])):
        norm = expected["grad_norm"][key]
        tolerance = 5e-3 * norm + 5e-7 * reference_total
        report.value(f"{name}: gradient of {key}", norms[key], norm, "grad", tolerance=tolerance)
