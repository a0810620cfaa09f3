"""Scores of what the task heads said, from `.tasks.jsonl` files and labels; one function a task.

Each takes the sequences of one tracker and returns `TaskScores`, or None where no labelled frame was
answered. Beside the tracker's row stand those of constant answers that never look at a frame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtltrack.core.alphabets import normalise_text
from mtltrack.core.conditions import UNLABELLED, condition_names, normal_index
from mtltrack.core.errors import DataError
from mtltrack.core.rle import decode_mask
from mtltrack.evaluation.labelled import LabelledResults
from mtltrack.evaluation.task_tables import Scores, TaskScores
from mtltrack.metrics.classification import ConditionMetrics
from mtltrack.metrics.detection import DetectionMetrics
from mtltrack.metrics.events import EventScores, FrameScores
from mtltrack.metrics.masks import MaskMetrics
from mtltrack.metrics.text import TextMetrics

_LEAST, _MOST = 1e-9, 1 - 1e-9  # probabilities whose logit is finite


def score_cls(results: Sequence[LabelledResults]) -> TaskScores | None:
    """Scene conditions: one label or flags, as the tracker was trained.

    The constant answer is the most common condition of the labels or, for flags, each flag's share.

    Raises:
        DataError: the tracker has other classes.
    """
    parts = {}
    for one in results:
        labels = one.info.labels.get("cls")
        if labels is None:
            continue
        answers = one.answers("cls", np.flatnonzero(labels["valid"]))
        if answers:
            multi = "flags" in next(iter(answers.values()))
            parts[one.name] = _chances(answers, one.name), _condition_targets(labels, list(answers), multi)
    if not parts:
        return None
    chances, targets = (torch.cat(values) for values in zip(*parts.values(), strict=True))
    multi = targets.ndim == 2
    total = _condition_metrics(chances, targets, multi)
    constant = _condition_metrics(_constant_chances(targets, chances.shape[1]), targets, multi)
    return TaskScores(
        {"": _counted(total), "most common answer": _counted(constant)},
        {name: _counted(_condition_metrics(*part, multi)) for name, part in parts.items()},
        total,
    )


def _chances(answers: Mapping[int, Mapping[str, Any]], sequence: str) -> torch.Tensor:
    """Return (N, K) probabilities of the classes."""
    names = condition_names()
    multi = "flags" in next(iter(answers.values()))
    wanted = len(names) - multi  # Normal is the absence of every flag
    for answer in answers.values():
        if len(answer["probabilities"]) != wanted:
            raise DataError(
                f"the results of '{sequence}' have {len(answer['probabilities'])} classes, the labels "
                f"{wanted}: {', '.join(names[:wanted])}"
            )
    return torch.tensor([answer["probabilities"] for answer in answers.values()], dtype=torch.float64)


def _condition_targets(labels: Mapping[str, NDArray[Any]], frames: list[int], multi: bool) -> torch.Tensor:
    """Return (N,) class numbers, or (N, K) flags, -100 where a flag isn't known."""
    if not multi:
        return torch.from_numpy(labels["index"][frames])
    flags = np.where(labels["known"], labels["flags"], UNLABELLED)[frames]
    return torch.from_numpy(np.delete(flags, normal_index(), axis=1))


def _condition_metrics(chances: torch.Tensor, targets: torch.Tensor, multi: bool) -> ConditionMetrics:
    """Return the filled accumulator: probabilities go in as the logits that have them."""
    names = condition_names()
    names = tuple(name for i, name in enumerate(names) if i != normal_index()) if multi else names
    metric = ConditionMetrics(names, multi_label=multi)
    chances = chances.clamp(_LEAST, _MOST)
    metric.update(chances.logit() if multi else chances.log(), targets)
    return metric


def _constant_chances(targets: torch.Tensor, classes: int) -> torch.Tensor:
    known = targets != UNLABELLED
    if targets.ndim == 2:
        shares = (targets * known).sum(0) / known.sum(0).clamp(min=1)
        return shares.double().expand(len(targets), -1)
    row = torch.zeros(classes, dtype=torch.float64)
    row[torch.bincount(targets[known], minlength=classes).argmax()] = 1.0
    return row.expand(len(targets), -1)


def _counted(metric: ConditionMetrics) -> Scores:
    return {"frames": metric.count, **metric.compute()}


def score_seg(results: Sequence[LabelledResults]) -> TaskScores | None:
    """Masks: J and F as DAVIS defines them, in the frame's pixels, means over sequences.

    The first frame isn't scored, which the tracker gets; the last one is. The other row takes the tracker's
    box, filled, for the mask.
    """
    said, filled = MaskMetrics(), MaskMetrics()
    frames: Counter[str] = Counter()
    for one in results:
        for frame, answer in one.answers("seg", one.masks).items():
            true = one.mask(frame)
            where = f"the result's mask of '{one.name}', frame {frame + one.info.first_frame}"
            mask = np.zeros_like(true) if not answer.get("mask") else decode_mask(answer["mask"], where)
            if mask.shape != true.shape:
                raise DataError(
                    f"{where} is {mask.shape[1]} x {mask.shape[0]} pixels, the label's "
                    f"({one.info.mask_where[frame]}) {true.shape[1]} x {true.shape[0]}"
                )
            said.update(mask, true, one.name)
            filled.update(_filled(one.boxes_xywh[frame], true.shape), true, one.name)
            frames[one.name] += 1
    if not frames:
        return None
    rows = {"": said, "its box, filled": filled}
    return TaskScores(
        {name: {"frames": frames.total(), **_few(metric.compute())} for name, metric in rows.items()},
        {name: {"frames": frames[name], **_few(scores)} for name, scores in said.sequences().items()},
    )


def _few(scores: Scores) -> Scores:
    """Return mean and recall of J and F."""
    return {key: scores[key] for key in ("J_mean", "J_recall", "F_mean", "F_recall")}


def _filled(box_xywh: NDArray[np.float64], size: tuple[int, ...]) -> NDArray[np.uint8]:
    mask = np.zeros(size, dtype=np.uint8)
    if np.isfinite(box_xywh).all():
        x, y, w, h = box_xywh
        left, top, right, bottom = (max(round(value), 0) for value in (x, y, x + w, y + h))
        mask[top:bottom, left:right] = 1
    return mask


def score_plate(results: Sequence[LabelledResults]) -> TaskScores | None:
    """Plates: average precision of one box a frame, and presence.

    The constant answer says that there is a plate in every frame, at the labels' mean place in the tracker's
    box.
    """
    said, constant = DetectionMetrics(), DetectionMetrics()
    pairs = [(one, one.answers("plate", one.info.plates)) for one in results]
    pairs = [(one, answers) for one, answers in pairs if answers]
    if not pairs:
        return None
    place = _mean_place(pairs)
    sequences = {}
    for one, answers in pairs:
        alone = DetectionMetrics()
        true, present = _true_plates(one, list(answers))
        boxes = np.array([answer.get("bbox") or [0.0] * 4 for answer in answers.values()])
        sure = [answer["confidence"] for answer in answers.values()]
        for metric in (said, alone):
            metric.update(sure, boxes, present, true)
        constant.update(np.ones(len(true)), _placed(one.boxes_xywh[list(answers)], place), present, true)
        sequences[one.name] = {"frames": alone.count, **alone.compute()}
    rows = {"": said, "mean place in its box": constant}
    return TaskScores(
        {name: {"frames": metric.count, **metric.compute()} for name, metric in rows.items()}, sequences
    )


def _true_plates(one: LabelledResults, frames: list[int]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return boxes (N, 4) xyxy, 0 where there is none, and presence (N,)."""
    boxes = [one.info.plates[frame].box_xyxy for frame in frames]
    present = np.array([box is not None for box in boxes])
    return np.array([box or (0.0,) * 4 for box in boxes], dtype=np.float64), present


def _mean_place(
    pairs: Sequence[tuple[LabelledResults, Mapping[int, Any]]],
) -> NDArray[np.float64]:
    """Return x1, y1, x2, y2 of the mean plate, in widths and heights of the tracker's box from its corner."""
    places = [np.zeros((0, 4))]
    for one, answers in pairs:
        true, present = _true_plates(one, list(answers))
        x, y, w, h = one.boxes_xywh[list(answers)].T
        usable = present & (w > 0) & (h > 0)
        shift, scale = np.stack([x, y, x, y], axis=1), np.stack([w, h, w, h], axis=1)
        places.append(((true - shift) / np.where(usable[:, None], scale, 1.0))[usable])
    every = np.concatenate(places)
    return every.mean(axis=0) if len(every) else np.array([0.4, 0.6, 0.6, 0.7])


def _placed(boxes_xywh: NDArray[np.float64], place: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y, w, h = np.nan_to_num(boxes_xywh).T
    return np.stack([x, y, x, y], axis=1) + place * np.stack([w, h, w, h], axis=1)


def score_ocr(results: Sequence[LabelledResults]) -> TaskScores | None:
    """Plate texts, brought into one form: this frame's reading, and the one fused over the frames so far.

    "last fused reading" scores one text a sequence, that of its last labelled frame. The constant answer is
    the most common text of the labels.
    """
    frame, fused, last, constant = (TextMetrics() for _ in range(4))
    counts = [0, 0]
    sequences, texts = {}, []
    for one in results:
        known = {f: normalise_text(plate.text) for f, plate in one.info.plates.items() if plate.text}
        answers = one.answers("ocr", [f for f, text in known.items() if text])
        if not answers:
            continue
        truth = [known[f] for f in answers]
        read = [normalise_text(answer["text"]) for answer in answers.values()]
        joined = [normalise_text((answer.get("fused") or answer)["text"]) for answer in answers.values()]
        alone = TextMetrics()
        for metric in (frame, alone):
            metric.update(read, truth)
        fused.update(joined, truth)
        last.update(joined[-1:], truth[-1:])
        sequences[one.name] = {"frames": len(truth), **alone.compute()}
        texts += truth
        counts = [counts[0] + len(truth), counts[1] + 1]
    if not texts:
        return None
    constant.update([Counter(texts).most_common(1)[0][0]] * len(texts), texts)
    rows = {"": frame, "fused readings": fused, "last fused reading": last, "most common text": constant}
    return TaskScores(
        {name: {"frames": counts[metric is last], **metric.compute()} for name, metric in rows.items()},
        sequences,
    )


def score_alert(results: Sequence[LabelledResults]) -> TaskScores | None:
    """Alerts as events in time (see `mtltrack.metrics.events`), and `f1` of single frames.

    The constant answer is an alert that never ends.
    """
    rows = {"": (EventScores(), FrameScores()), "always alert": (EventScores(), FrameScores())}
    sequences: dict[str, Scores] = {}
    for one in results:
        answers = one.answers("alert", one.info.alerts)
        if not answers:
            continue
        red = np.array([bool(answer["alert"]) for answer in answers.values()])
        true = np.array([one.info.alerts[frame] for frame in answers])
        times = one.info.times()[list(answers)]
        alone = EventScores(), FrameScores()
        for pair, decision in ((rows[""], red), (alone, red), (rows["always alert"], np.ones_like(red))):
            pair[0].update(decision, true, times)
            pair[1].update(decision.astype(float), decision, true)
        sequences[one.name] = _alert_scores(*alone)
    return (
        TaskScores({name: _alert_scores(*pair) for name, pair in rows.items()}, sequences)
        if sequences
        else None
    )


def _alert_scores(events: EventScores, frames: FrameScores) -> Scores:
    counts = {"frames": frames.frames, "events": events.true, "alarms": events.predicted}
    return {**counts, **events.compute(), "frame_f1": frames.compute()["f1"]}


SCORERS: dict[str, Callable[[Sequence[LabelledResults]], TaskScores | None]] = {
    "cls": score_cls,
    "seg": score_seg,
    "plate": score_plate,
    "ocr": score_ocr,
    "alert": score_alert,
}


def score_tasks(results: Sequence[LabelledResults]) -> dict[str, TaskScores]:
    """Return task -> scores, of the tasks that have answers and labels."""
    found = {task: scorer(results) for task, scorer in SCORERS.items()}
    return {task: scores for task, scores in found.items() if scores is not None}
