from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tasks.contract import BATCH, CHANNELS, FRAMES, GRID, check_head, make_clip, make_tokens

from mtltrack.core.errors import ConfigError
from mtltrack.core.rle import decode_mask
from mtltrack.core.types import FrameContext, TaskOutput, Tokens
from mtltrack.data.crops import crop_affine, crop_window, cut_mask
from mtltrack.tasks.seg import SegHead

SIDE = 64  # of the contract's search regions
BOX_CHANNELS = 6


def make_head(**arguments: Any) -> SegHead:
    torch.manual_seed(0)
    return SegHead(CHANNELS, {"box": BOX_CHANNELS}, hidden_dim=16, stem=4, **arguments)


def make_box(score_map: bool = True) -> TaskOutput:
    """What the box head answers, everything with gradient."""
    generator = torch.Generator().manual_seed(1)
    predictions = {"boxes_cxcywh": 0.2 + 0.5 * torch.rand(BATCH, FRAMES, 4, generator=generator)}
    if score_map:
        predictions["score_map"] = 0.01 + 0.9 * torch.rand(BATCH, FRAMES, 1, GRID, GRID, generator=generator)
    features = torch.randn(BATCH, FRAMES, GRID * GRID, BOX_CHANNELS, generator=generator)
    return TaskOutput(
        features.requires_grad_(), {name: value.requires_grad_() for name, value in predictions.items()}
    )


def make_labels() -> dict[str, torch.Tensor]:
    """Squares, and one frame in which the target can't be seen."""
    mask = torch.zeros(BATCH, FRAMES, SIDE, SIDE, dtype=torch.uint8)
    mask[:, :, 20:40, 10:30] = 1
    mask[1, 1] = 0
    return {"valid": torch.ones(BATCH, FRAMES, dtype=torch.bool), "mask": mask}


@pytest.mark.parametrize(
    ("arguments", "score_map"), [({}, True), ({"stride": 2}, True), ({"dice_weight": 0.5}, False)]
)
def test_contract(arguments: dict[str, Any], score_map: bool) -> None:
    head = make_head(**arguments)

    def answer(tokens: Tokens) -> TaskOutput:
        return head(tokens, {"box": make_box(score_map)}, make_clip())

    check_head(head, answer, make_labels())
    cells = SIDE // arguments.get("stride", 4)
    output = answer(make_tokens())
    assert output.predictions["logits"].shape == (BATCH, FRAMES, cells, cells)
    assert output.features is not None and output.features.shape == (BATCH, FRAMES, 1, head.feature_channels)


def test_gradient_reaches_the_features_of_the_box_but_not_its_answer() -> None:
    head, box, labels = make_head(), make_box(), make_labels()
    terms = head.loss_terms(head(make_tokens(), {"box": box}, make_clip()), labels)
    sum(value.sum() for value in terms.values()).backward()
    assert box.features is not None and box.features.grad is not None
    assert torch.isfinite(box.features.grad).all()
    assert (box.features.grad.abs().sum((2, 3)) > 0).all()  # of every frame, the one without target too
    assert box.predictions["boxes_cxcywh"].grad is None and box.predictions["score_map"].grad is None


def test_another_target_changes_the_mask() -> None:
    """The query alone decides between two objects that look the same; here only the box's answer differs."""
    head, box = make_head().eval(), make_box()
    moved = TaskOutput(box.features, {**box.predictions, "boxes_cxcywh": box.predictions["boxes_cxcywh"] / 2})
    other = TaskOutput(-box.features, box.predictions)
    with torch.no_grad():
        logits = [
            head(make_tokens(), {"box": b}, make_clip()).predictions["logits"] for b in (box, moved, other)
        ]
    assert not torch.allclose(logits[0], logits[1]) and not torch.allclose(logits[0], logits[2])


def test_loss_terms_by_hand() -> None:
    labels = make_labels()
    terms = make_head().loss_terms(TaskOutput(None, {"logits": torch.zeros(BATCH, FRAMES, 16, 16)}), labels)
    torch.testing.assert_close(terms["bce"], torch.full((BATCH, FRAMES), math.log(2)))
    half = SIDE * SIDE / 2  # the sum of all probabilities
    assert float(terms["dice"][0, 0]) == pytest.approx(1 - (400 + 1) / (half + 400 + 1))
    assert float(terms["dice"][1, 1]) == pytest.approx(1 - 1 / (half + 1))


def test_loss_is_least_for_the_mask_itself() -> None:
    labels = make_labels()
    logits = torch.full((BATCH, FRAMES, 16, 16), -20.0)
    empty = make_head().loss_terms(TaskOutput(None, {"logits": logits.clone()}), labels)
    assert float(empty["bce"][1, 1] + empty["dice"][1, 1]) < 1e-4
    # the cells of the square, 20:40 x 10:30 in pixels of 4; half of the outer columns
    logits[:, :, 5:10, 3:7] = 20.0
    logits[:, :, 5:10, [2, 7]] = 0.0
    found = make_head().loss_terms(TaskOutput(None, {"logits": logits}), labels)
    assert float(found["dice"][0, 0]) < 0.1 < 0.9 < float(empty["dice"][0, 0])


def test_decoding_by_hand() -> None:
    head = make_head()
    logits = torch.full((1, 2, 4, 4), -math.log(3))
    logits[0, 0] = math.log(3)
    seen, empty = head.decode(TaskOutput(None, {"logits": logits}))[0]
    assert seen["probabilities"].shape == (16, 16) and seen["probabilities"].dtype == np.float32
    np.testing.assert_allclose(seen["probabilities"], 0.75, rtol=1e-6)
    assert seen["confidence"] == pytest.approx(0.75)
    np.testing.assert_allclose(empty["probabilities"], 0.25, rtol=1e-6)
    assert empty["confidence"] == 0.0


def context(size: tuple[int, int], affine: np.ndarray, crop_size: int) -> FrameContext:
    return FrameContext(1, 0.0, size, (0.0, 0.0, 1.0, 1.0), 1.0, affine, crop_size)


def disk(size: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    return (np.hypot(x - centre[0], y - centre[1]) <= radius).astype(np.uint8)


def same_but_for_a_pixel(
    found: np.ndarray, size: tuple[int, int], centre: tuple[float, float], radius: float
) -> bool:
    """Whether the mask holds the disk less a pixel all around, and nothing beyond a pixel around it."""
    least, most = disk(size, centre, radius - 1), disk(size, centre, radius + 1)
    return bool((found >= least).all() and (found <= most).all())


@pytest.mark.parametrize(
    ("box_xywh", "factor"),
    [
        ((60.0, 50.0, 40.0, 30.0), 4.0),  # enlarged
        ((20.3, 11.7, 110.0, 95.0), 2.0),  # made smaller, beyond the frame on two sides
        ((130.0, 90.0, 60.0, 50.0), 3.0),  # beyond the other two
    ],
)
@pytest.mark.parametrize("mirrored", [False, True])
def test_mask_of_a_crop_comes_back_to_its_place(
    box_xywh: tuple[float, ...], factor: float, mirrored: bool
) -> None:
    size, crop_size = (200, 150), 128
    x, y, w, h = box_xywh
    centre, radius = (x + w / 2 - 3, y + h / 2 + 2), 0.45 * min(w, h)
    frame_mask = disk(size, centre, radius)
    probabilities = cut_mask(frame_mask, crop_window(box_xywh, factor), crop_size)
    affine = crop_affine(box_xywh, factor, crop_size)
    if mirrored:
        probabilities = np.ascontiguousarray(probabilities[:, ::-1])
        affine = affine @ np.array([[-1.0, 0.0, crop_size - 1], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    answer = {"probabilities": probabilities, "confidence": 0.5}
    result = make_head().session({}).update(answer, context(size, affine, crop_size))
    found = decode_mask(result["mask"], "result")
    assert found.shape == (150, 200) and result["area"] == int(found.sum())
    assert same_but_for_a_pixel(found, size, centre, radius)
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize("stride", [2, 4])
def test_logits_become_a_mask_of_the_frame(stride: int) -> None:
    """Logits that fall off linearly from a disk's edge, in cells: their zero is where the mask must end."""
    size, crop_size, box_xywh = (320, 240), 96, (100.0, 80.0, 60.0, 40.0)
    affine = crop_affine(box_xywh, 3.0, crop_size)
    cells = (np.arange(crop_size // stride) + 0.5) * stride - 0.5
    x, y = np.meshgrid(cells, cells)
    logits = 20.0 - np.hypot(x - 45.0, y - 50.0)
    output = TaskOutput(None, {"logits": torch.from_numpy(logits).float()[None, None]})
    head = make_head(stride=stride)
    result = head.session({}).update(head.decode(output)[0][0], context(size, affine, crop_size))
    centre = affine @ (45.0, 50.0, 1.0)
    found = decode_mask(result["mask"], "result")
    assert same_but_for_a_pixel(found, size, (centre[0], centre[1]), 20.0 * affine[0, 0])
    assert 0.5 < result["confidence"] < 1.0


def test_nothing_lies_beyond_the_search_region() -> None:
    size, crop_size = (100, 80), 32
    answer = {"probabilities": np.ones((32, 32), dtype=np.float32), "confidence": 1.0}
    session = make_head().session({})
    window = crop_window((40.0, 30.0, 8.0, 8.0), 2.0)
    result = session.update(answer, context(size, crop_affine((40.0, 30.0, 8.0, 8.0), 2.0, 32), crop_size))
    expected = np.zeros((80, 100), dtype=np.uint8)
    expected[window.top : window.top + 16, window.left : window.left + 16] = 1
    np.testing.assert_array_equal(decode_mask(result["mask"], "result"), expected)
    outside = session.update(answer, context(size, crop_affine((200.0, 30.0, 8.0, 8.0), 2.0, 32), crop_size))
    assert outside["area"] == 0 and not decode_mask(outside["mask"], "result").any()


def test_metrics_by_hand(tmp_path: Path) -> None:
    metrics = make_head().metrics()
    assert math.isnan(metrics.compute()["J"])
    mask = torch.zeros(1, 4, 16, 16, dtype=torch.uint8)
    mask[0, :3, :, :8] = 1
    logits = torch.full((1, 4, 4, 4), -9.0)
    logits[0, 0, :, :2] = 9.0  # the mask
    logits[0, 1] = 9.0  # everything: half of it right
    valid = torch.tensor([[True, True, False, True]])  # and an empty one, rightly
    metrics.update(TaskOutput(None, {"logits": logits}), {"valid": valid, "mask": mask})
    scores = metrics.compute()
    assert scores["J"] == pytest.approx((1 + 0.5 + 1) / 3) and scores["J_recall"] == pytest.approx(2 / 3)
    assert scores["F"] == pytest.approx(2 / 3)  # everything has no outline
    metrics.figure("masks").savefig(tmp_path / "masks.png")
    assert (tmp_path / "masks.png").stat().st_size > 1000
    metrics.update(
        TaskOutput(None, {"logits": logits}), {"valid": torch.zeros(1, 4, dtype=torch.bool), "mask": mask}
    )
    assert metrics.compute() == scores
    metrics.reset()
    assert math.isnan(metrics.compute()["F"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"stride": 3},
            "TASKS.seg needs STRIDE 4 or 2, HIDDEN_DIM and STEM of at least 1; found 3, 64 and 16",
        ),
        ({"stem": 0}, "found 4, 64 and 0"),
        ({"upstream_channels": {}}, "reads the box head's features, but this MODEL.HEAD.TYPE offers none"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SegHead(**{"channels": CHANNELS, "upstream_channels": {"box": 6}, **arguments})
