"""The alert head: the head contract, where its gradient goes, the hard rule online, its metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.tasks.contract import (
    BATCH,
    CHANNELS,
    FRAMES,
    GRID,
    check_head,
    make_clip,
    make_tokens,
    masked_loss,
)
from torch import Tensor

from mtltrack.core.errors import ConfigError
from mtltrack.core.rle import encode_mask
from mtltrack.core.types import Clip, FrameContext, TaskOutput, Tokens
from mtltrack.tasks.alert import AlertHead
from mtltrack.tasks.box import CenterHead

SQUARE = np.array([[0, 0], [100, 0], [100, 100], [0, 100]], dtype=float)
NEAR = {"seconds": 1.0, "overlap": 0.3, "seconds_scale": 1.0, "overlap_scale": 0.1, "speed": 0.5}


def zones_tensor(*polygons: list[list[float]]) -> Tensor:
    """Zones (B, T, Z, 4, 2), the same for all clips and frames."""
    return torch.tensor(polygons, dtype=torch.float32).expand(BATCH, FRAMES, -1, -1, -1)


def make_labels() -> dict[str, Tensor]:
    return {
        "valid": torch.ones(BATCH, FRAMES, dtype=torch.bool),
        "target": torch.tensor([[True, True], [False, True], [False, False]]),
        "stopped": torch.tensor([[2.0, 3.0], [0.5, 1.5], [0.0, 0.0]]),
        # the crop shows frame pixels 0-128; the zone is its left part, cut off at an angle
        "zones": zones_tensor([[0, 0], [70, 0], [60, 128], [0, 128]]),
    }


def make_alert_clip(labels: dict[str, Tensor] | None = None) -> Clip:
    affine = torch.tensor([[2.0, 0, 0.5], [0, 2, 0.5]]).expand(BATCH, FRAMES, 2, 3)
    times = torch.tensor([[0.0, 1.0], [5, 5.5], [100, 103]], dtype=torch.float64)
    return replace(make_clip(), affine=affine, timestamps=times, labels={"alert": labels} if labels else {})


def make_box(seed: int = 0) -> CenterHead:
    torch.manual_seed(seed)
    return CenterHead(channels=CHANNELS, grid=GRID, hidden=16).eval()


def read_box(box: CenterHead, tokens: Tokens) -> TaskOutput:
    rows = [box.predict(tokens.search_maps()[:, i]) for i in range(FRAMES)]
    return TaskOutput(None, {name: torch.stack([row[name] for row in rows], dim=1) for name in rows[0]})


def answers(head: AlertHead, clip: Clip, box: CenterHead) -> Callable[[Tokens], TaskOutput]:
    return lambda tokens: head(tokens, {"box": read_box(box, tokens)}, clip)


def from_boxes(boxes_cxcywh: Tensor, clip: Clip, **arguments: object) -> dict[str, Tensor]:
    """Run a head on given boxes (B, T, 4)."""
    head = AlertHead(centre="argmax", **{**NEAR, **arguments})
    return head(make_tokens(), {"box": TaskOutput(None, {"boxes_cxcywh": boxes_cxcywh})}, clip).predictions


@pytest.mark.parametrize("gate", ["straight_through", "soft"])
@pytest.mark.parametrize("centre", ["straight_through", "soft", "argmax"])
def test_contract(gate: str, centre: str) -> None:
    head, labels = AlertHead(gate=gate, centre=centre, **NEAR), make_labels()
    check_head(head, answers(head, make_alert_clip(labels), make_box()), labels)
    assert float(head.speed_shift.grad.abs()) == 0  # after the empty labels: zero, not None


@pytest.mark.parametrize(
    ("centre", "reached"),
    [("straight_through", True), ("soft", True), ("argmax", False)],
)
def test_the_gradient_reaches_sizes_offsets_scores_and_tokens(centre: str, reached: bool) -> None:
    head, box, tokens, labels = AlertHead(centre=centre, **NEAR), make_box(), make_tokens(), make_labels()
    output = answers(head, make_alert_clip(labels), box)(tokens)
    masked_loss(head, output, labels).backward()
    for branch in ("size", "offset"):
        for name, parameter in box.named_parameters():
            if branch in name:
                assert torch.isfinite(parameter.grad).all() and parameter.grad.any(), name
    scores = [parameter.grad for name, parameter in box.named_parameters() if "ctr" in name]
    assert all(gradient is not None and gradient.any() for gradient in scores) == reached
    assert any(gradient is not None and gradient.any() for gradient in scores) == reached
    assert torch.isfinite(tokens.search.grad).all() and tokens.search.grad.any()
    assert head.speed_shift.grad.any()


def test_straight_through_centres_have_the_hard_value() -> None:
    labels, box, tokens = make_labels(), make_box(), make_tokens()
    clip = make_alert_clip(labels)
    hard, through, soft = (
        AlertHead(centre=centre, **NEAR)(tokens, {"box": read_box(box, tokens)}, clip).predictions["overlap"]
        for centre in ("argmax", "straight_through", "soft")
    )
    torch.testing.assert_close(hard, through)
    assert not torch.allclose(hard, soft)


def test_overlap_and_clock_are_those_of_the_frame() -> None:
    labels = make_labels()
    labels["zones"] = zones_tensor([[0, 0], [64, 0], [64, 128], [0, 128]], [[0, 0]] * 4)
    # 32 x 32 frame pixels around x = 56 (a quarter right of the zone), then around x = 64
    boxes = torch.tensor([[0.4375, 0.5, 0.25, 0.25], [0.5, 0.5, 0.25, 0.25]]).expand(BATCH, FRAMES, 4)
    found = from_boxes(boxes, make_alert_clip(labels))
    torch.testing.assert_close(found["overlap"], torch.tensor([[0.75, 0.5]]).expand(BATCH, 2))
    # 8 of 32 pixels: a quarter of a size in 1, 0.5 and 3 seconds; the threshold is half a size a second
    torch.testing.assert_close(found["speed"], torch.tensor([[0, 0.25], [0, 0.5], [0, 1 / 12]]))
    assert found["stopped"].tolist() == [[2, 3], [0.5, 0], [0, 3]]
    assert found["seconds"].tolist() == [[0, 1], [0, 0.5], [0, 3]]
    assert found["red"].tolist() == [[True, True], [False, False], [False, True]]
    assert torch.equal(found["red"], found["hard"])
    assert torch.equal(found["stopped"].detach(), found["hard_stopped"])
    mirrored = replace(
        make_alert_clip(labels),
        affine=torch.tensor([[-2.0, 0, 126.5], [0, 2, 0.5]]).expand(BATCH, FRAMES, 2, 3),
    )
    flipped = from_boxes(boxes * torch.tensor([-1.0, 1, 1, 1]) + torch.tensor([1.0, 0, 0, 0]), mirrored)
    torch.testing.assert_close(flipped["overlap"], found["overlap"])


def test_frames_known_to_be_without_the_target_hold_the_clock() -> None:
    clip = make_alert_clip(make_labels())
    # half a crop is two sizes: too fast in 1 s and in 3 s
    boxes = torch.tensor([[0.2, 0.5, 0.25, 0.25], [0.7, 0.5, 0.25, 0.25]]).expand(BATCH, FRAMES, 4)
    assert from_boxes(boxes, clip)["stopped"][:, 1].tolist() == [0, 0, 0]
    seen = torch.tensor([[True, False]] * 2 + [[False, False]])
    clip.labels["box"] = {"valid": seen}
    # the last clip has no box labels at all, which says nothing about where the target is
    assert from_boxes(boxes, clip)["stopped"].tolist() == [[2, 2], [0.5, 0.5], [0, 0]]


def test_without_labels_nothing_alerts_and_all_is_finite() -> None:
    head = AlertHead()
    for labels in ({}, {"alert": {"valid": torch.zeros(BATCH, FRAMES, dtype=torch.bool)}}):
        clip = replace(make_alert_clip(), labels=labels)
        output = answers(head, clip, make_box())(make_tokens())
        for name, value in output.predictions.items():
            assert torch.isfinite(value.float()).all(), name
        assert not output.predictions["overlap"].any() and not output.predictions["red"].any()
        value = output.predictions["stopped"][0, 1]
        assert 0 <= float(value.detach()) <= 1


def test_the_learned_threshold_stays_between_half_and_twice() -> None:
    head = AlertHead(speed=0.4)
    assert float(head.speed_threshold().detach()) == pytest.approx(0.4)
    for shift, wanted in ((1e9, 0.8), (-1e9, 0.2)):
        with torch.no_grad():
            head.speed_shift.fill_(shift)
        assert float(head.speed_threshold().detach()) == pytest.approx(wanted)
        assert head.session({}).rule.speed == pytest.approx(wanted)


def test_a_mask_can_say_what_lies_in_the_zone() -> None:
    head, labels = AlertHead(centre="argmax", source="mask", **NEAR), make_labels()
    assert head.reads == ("box", "seg") and AlertHead.reads == ("box",)
    labels["zones"] = zones_tensor([[0, 0], [64, 0], [64, 128], [0, 128]])
    boxes = torch.tensor([0.5, 0.5, 0.5, 0.5]).expand(BATCH, FRAMES, 4)
    logits = torch.full((BATCH, FRAMES, 16, 16), -20.0)
    logits[..., 4:12, 4:8] = 20.0  # the left half of the box; its right half is background
    logits.requires_grad_()
    upstream = {"box": TaskOutput(None, {"boxes_cxcywh": boxes}), "seg": TaskOutput(None, {"logits": logits})}
    output = head(make_tokens(), upstream, make_alert_clip(labels))
    torch.testing.assert_close(output.predictions["overlap"].detach(), torch.ones(BATCH, FRAMES))
    upstream["seg"].predictions["logits"] = logits[..., :, :] * 0 - 20  # an empty mask: the box counts
    output = head(make_tokens(), upstream, make_alert_clip(labels))
    torch.testing.assert_close(output.predictions["overlap"].detach(), torch.full((BATCH, FRAMES), 0.5))


def test_the_gradient_reaches_a_mask() -> None:
    head, labels = AlertHead(centre="argmax", source="mask", **NEAR), make_labels()
    labels["zones"] = zones_tensor([[0, 0], [64, 0], [64, 128], [0, 128]])
    logits = torch.full((BATCH, FRAMES, 16, 16), -2.0)
    logits[..., 4:12, 6:11] = 1.0
    logits.requires_grad_()
    boxes = torch.tensor([0.5, 0.5, 0.5, 0.5]).expand(BATCH, FRAMES, 4)
    upstream = {"box": TaskOutput(None, {"boxes_cxcywh": boxes}), "seg": TaskOutput(None, {"logits": logits})}
    masked_loss(head, head(make_tokens(), upstream, make_alert_clip(labels)), labels).backward()
    assert torch.isfinite(logits.grad).all() and logits.grad.any()


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({"gate": "hard"}, "TASKS.alert.GATE is 'hard'; allowed: straight_through, soft"),
        ({"centre": "mean"}, "TASKS.alert.CENTRE is 'mean'; allowed: straight_through, soft, argmax"),
        ({"source": "plate"}, "TASKS.alert.SOURCE is 'plate'; allowed: box, mask"),
        ({"measure": "area"}, "measure is 'area'; allowed: ioa, iou, footprint"),
        ({"seconds_scale": 0}, "TASKS.alert.SECONDS_SCALE is 0; it must be above 0"),
        ({"speed_scale": -1}, "TASKS.alert.SPEED_SCALE is -1"),
        ({"min_score": 2}, "TASKS.alert.MIN_SCORE is 2; it must be in [0, 1]"),
    ],
)
def test_wrong_settings_are_named(arguments: dict, wanted: str) -> None:
    with pytest.raises(ConfigError) as error:
        AlertHead(**arguments)
    assert wanted in str(error.value)


def test_a_box_head_without_scores_needs_the_argmax() -> None:
    boxes = {"box": TaskOutput(None, {"boxes_cxcywh": torch.full((BATCH, FRAMES, 4), 0.5)})}
    with pytest.raises(ConfigError, match=r"no score map\. Set TASKS\.alert\.CENTRE: argmax"):
        AlertHead()(make_tokens(), boxes, make_alert_clip())


def frame(time: float, left: float = 10.0, score: float = 0.9, **results: object) -> FrameContext:
    box = (left, 20.0, 20.0, 20.0)
    return FrameContext(round(time) + 1, time, (640, 360), box, score, np.eye(2, 3), 64, results)


def test_a_session_follows_the_hard_rule() -> None:
    session = AlertHead().session({"yard": SQUARE, "far": SQUARE + 300})
    first = session.update(None, frame(0.0))
    assert first == {"alert": False, "stopped": 0.0, "overlap": 1.0, "zone": "yard", "speed": None}
    assert session.update(None, frame(120.0))["alert"] is False
    result = session.update(None, frame(120.5))
    assert result == {"alert": True, "stopped": 120.5, "overlap": 1.0, "zone": "yard", "speed": 0.0}
    result = session.update(None, frame(121.5, left=30.0))  # one size in a second
    assert result["alert"] is False and result["stopped"] == 0 and result["speed"] == pytest.approx(1.0)


def test_the_clock_starts_with_the_box_that_the_tracker_is_given() -> None:
    session = AlertHead().session({"yard": SQUARE})
    session.start((10.0, 20.0, 20.0, 20.0), 7.0)
    assert session.update(None, frame(130.0))["stopped"] == 123.0


def test_a_session_holds_an_alert_while_the_target_is_hidden() -> None:
    session = AlertHead(gap=5.0, min_score=0.4).session({"yard": SQUARE})
    for time in (0.0, 130.0):
        session.update(None, frame(time))
    hidden = session.update(None, frame(133.0, left=300.0, score=0.1))  # the tracker's box is somewhere else
    assert hidden == {"alert": True, "stopped": 130.0, "overlap": 1.0, "zone": "yard", "speed": None}
    assert session.update(None, frame(134.0))["stopped"] == 134
    lost = session.update(None, frame(140.0, score=0.1))
    assert lost == {"alert": False, "stopped": 0.0, "overlap": 0.0, "zone": None, "speed": None}


def test_without_zones_the_clock_runs_and_nothing_alerts() -> None:
    session = AlertHead().session({})
    session.update(None, frame(0.0))
    assert session.update(None, frame(500.0)) == {
        "alert": False,
        "stopped": 500.0,
        "overlap": 0.0,
        "zone": None,
        "speed": 0.0,
    }


def test_a_session_reads_the_mask_of_the_frame() -> None:
    session = AlertHead(source="mask").session({"yard": SQUARE})
    mask = np.zeros((360, 640), dtype=np.uint8)
    mask[40:80, 80:160] = 1  # 20 of its 80 columns lie in the zone; the box doesn't
    answer = {"mask": encode_mask(mask)}
    assert session.update(None, frame(0.0, left=200.0, seg=answer))["overlap"] == pytest.approx(0.25)
    assert session.update(None, frame(1.0, left=200.0))["overlap"] == 0
    empty = {"mask": encode_mask(np.zeros((360, 640), dtype=np.uint8))}
    assert session.update(None, frame(2.0, left=50.0, seg=empty))["overlap"] == 1


def test_a_zone_that_iou_cant_reach_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    session = AlertHead(measure="iou").session({"yard": SQUARE})
    with caplog.at_level(logging.WARNING):
        for time in range(3):
            session.update(None, frame(time))
    assert [record.message.split(":")[0] for record in caplog.records] == ["alert"]
    assert "zone 'yard' can't turn red: it is 25 times as large" in caplog.text


def test_decoding_gives_plain_numbers() -> None:
    one = torch.zeros(1, 1)
    output = TaskOutput(None, {"logit": one, "stopped": one + 7, "overlap": one + 0.5, "speed": one + 2})
    assert AlertHead().decode(output) == [[{"stopped": 7, "overlap": 0.5, "speed": 2, "probability": 0.5}]]


def test_metrics_of_labelled_frames() -> None:
    def rows(*values: list[float]) -> Tensor:
        return torch.tensor(values)

    output = TaskOutput(
        None,
        {
            # probabilities 1/4, 3/4; 1/2, 1/2; the last clip isn't labelled
            "logit": rows([-np.log(3), np.log(3)], [0, 0], [9, 9]).float(),
            "red": rows([0, 1], [0, 0], [1, 1]).bool(),
            "hard": rows([0, 1], [0, 1], [1, 1]).bool(),
            "stopped": rows([0.0, 5], [0, 2], [0, 9]),
            "hard_stopped": rows([0.0, 6], [0, 2], [0, 0]),
            "seconds": rows([0.0, 1800], [0, 1800], [0, 1800]),
        },
    )
    labels = {
        "valid": rows([1, 1], [1, 1], [0, 0]).bool(),
        "target": rows([1, 1], [0, 0], [0, 0]).bool(),
    }
    metrics = AlertHead().metrics()
    metrics.update(output, labels)
    assert metrics.compute() == {
        "brier": pytest.approx((9 / 16 + 1 / 16 + 1 / 4 + 1 / 4) / 4),
        "f1": pytest.approx(2 * 1 / (2 + 2)),
        "event_precision": 0.5,
        "event_recall": 1.0,
        "event_f1": pytest.approx(2 / 3),
        "delay_median": 1800.0,
        "delay_p95": 1800.0,
        "false_alarms_per_hour": 1.0,
        "mismatch_decisions": 0.25,
        "mismatch_seconds": 0.25,
        "mismatch_alert_time": 0.0,
    }
    metrics.reset()
    assert metrics.compute() == {}
