from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from mtltrack.core.types import Clip
from mtltrack.models.tracker import Tracker

Make = Callable[..., Tracker]
MakeClip = Callable[..., Clip]


def grad_reaches(tracker: Tracker, part: str) -> bool:
    grads = [p.grad for p in {**tracker.tracker_parts(), **tracker.task_parts()}[part].parameters()]
    return any(grad is not None and float(grad.abs().sum()) > 0 for grad in grads)


@pytest.mark.parametrize("history", [True, False])
def test_shapes_for_any_width_and_number_of_frames(
    make_tracker: Make, make_clip: MakeClip, history: bool
) -> None:
    for width, frames in ((24, 1), (16, 2), (32, 4)):
        outputs = make_tracker(history, width=width)(make_clip(frames=frames))
        box = outputs["box"]
        assert box.predictions["boxes_cxcywh"].shape == (2, frames, 4)
        assert box.predictions["score_map"].shape == (2, frames, 1, 4, 4)
        assert box.features is not None and box.features.shape == (2, frames, 16, 6)
        assert outputs["cls"].predictions["logits"].shape == (2, frames, 10)


@pytest.mark.parametrize("history", [True, False])
def test_frames_at_once_and_one_by_one_are_equal(
    make_tracker: Make, make_clip: MakeClip, history: bool
) -> None:
    clip = make_clip()
    answers = []
    for at_once in (True, False):
        tracker = make_tracker(history, frames_at_once=at_once).eval()
        answers.append(tracker(clip))
    for task, output in answers[0].items():
        for name, value in output.predictions.items():
            torch.testing.assert_close(value, answers[1][task].predictions[name], rtol=1e-4, atol=1e-5)


def test_every_loss_reaches_the_backbone(make_tracker: Make, make_clip: MakeClip) -> None:
    clip = make_clip()
    for task in ("box", "cls"):
        tracker = make_tracker()
        tracker(clip)[task].predictions[
            "boxes_cxcywh" if task == "box" else "logits"
        ].square().sum().backward()
        for part in ("backbone", "history", task):
            assert grad_reaches(tracker, part), f"{task} does not reach {part}"
        other = "cls" if task == "box" else "box"
        assert not grad_reaches(tracker, other)


def test_a_frozen_backbone_records_nothing(make_tracker: Make, make_clip: MakeClip) -> None:
    tracker = make_tracker()
    tracker.backbone.requires_grad_(False)
    assert not tracker.encode(*_inputs(make_clip())).search.requires_grad
    tracker.backbone.norm.requires_grad_(True)
    assert tracker.encode(*_inputs(make_clip())).search.requires_grad


def _inputs(clip: Clip) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return clip.template, clip.template_boxes_xywh, clip.search


def test_removed_tokens_are_zero_and_marked(make_tracker: Make, make_clip: MakeClip) -> None:
    tokens = make_tracker(history=False).eval().encode(*_inputs(make_clip()))
    assert tokens.kept is not None and tokens.kept.sum(-1).unique().tolist() == [8]  # half of 16
    assert float(tokens.search[~tokens.kept].detach().abs().max()) == 0.0
    assert float(tokens.search[tokens.kept].detach().abs().sum(-1).min()) > 0.0
    everything = make_tracker(history=False).eval().encode(*_inputs(make_clip()), keep_rate=1.0)
    assert everything.kept is None and everything.removed == []


def test_no_gradient_passes_through_the_memory_mask(make_tracker: Make, make_clip: MakeClip) -> None:
    """Frame 2 reads what frame 1 wrote; the predicted size decides only on the mask of that entry."""
    tracker = make_tracker()
    output = tracker(make_clip(frames=2))["box"]
    output.predictions["score_map"][:, 1].sum().backward()
    for name, parameter in tracker.box_head.named_parameters():
        if "_size" in name:
            assert parameter.grad is None or float(parameter.grad.abs().sum()) == 0.0, name


def test_online_the_first_frames_read_the_template_and_later_ones_the_memory(
    make_tracker: Make, make_clip: MakeClip
) -> None:
    tracker = make_tracker().eval()
    clip = make_clip(batch=1, frames=1)
    memory = tracker.new_memory()
    assert memory is not None
    counts = []
    with torch.no_grad():
        for index in range(1, 25):
            tracker.track(clip, index, memory)
            counts.append(memory.count)
    written = [i + 1 for i, (a, b) in enumerate(zip([0, *counts], counts, strict=False)) if b > a]
    assert written == [
        5,
        10,
        12,
    ]  # every fourth after 10 until the three places are taken; then the oldest goes
    assert memory.count == 3


def test_online_frame_equals_the_clip_of_one(make_tracker: Make, make_clip: MakeClip) -> None:
    tracker = make_tracker().eval()
    clip = make_clip(batch=1, frames=1)
    with torch.no_grad():
        once = tracker(clip)
        online = tracker.track(clip, 1, tracker.new_memory())
    for task in ("box", "cls"):
        for name, value in once[task].predictions.items():
            torch.testing.assert_close(online[task].predictions[name], value)


def test_state_dict_has_the_published_names(make_tracker: Make) -> None:
    prefixes = {key.split(".")[0] for key in make_tracker().state_dict()}
    assert prefixes == {
        "backbone",
        "box_head",
        "HIP",
        "key_proj",
        "key_comp",
        "searchRegionFusion",
        "cls_head",
    }
    tracker = make_tracker()
    names = [name for name, _ in tracker.named_parameters()]
    assert len(names) == len(set(names))
    assert tracker.unread_parameters() == {n for n, p in tracker.named_parameters() if not p.requires_grad}


def test_moving_and_copying_moves_the_history_too(make_tracker: Make, make_clip: MakeClip) -> None:
    import copy

    tracker = make_tracker().double()
    clone = copy.deepcopy(tracker)
    assert clone.history is not None and clone.history.HIP is clone.HIP
    assert next(clone.history.parameters()).dtype == torch.float64
    clip = make_clip()
    clip = replace(clip, template=clip.template.double(), search=clip.search.double())
    assert clone(clip)["box"].predictions["offset_map"].shape == (2, 3, 2, 4, 4)


def test_heads_that_nobody_asks_for_do_not_run(make_tracker: Make, make_clip: MakeClip) -> None:
    assert set(make_tracker()(make_clip(), tasks=[])) == {"box"}
