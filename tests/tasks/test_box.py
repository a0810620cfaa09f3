from __future__ import annotations

import pytest
import torch
from tests.tasks.contract import BATCH, CHANNELS, FRAMES, GRID, check_head

from mtltrack.core.registry import HEADS
from mtltrack.core.types import TaskOutput, Tokens
from mtltrack.tasks.box import CornerHead, MlpHead, bounded_sigmoid, decode_center, decode_center_top

LABELS = {
    "valid": torch.ones(BATCH, FRAMES, dtype=torch.bool),
    "cxcywh": torch.tensor([0.5, 0.4, 0.3, 0.2]).expand(BATCH, FRAMES, 4),
}


@pytest.mark.parametrize("loss", ["GIOU", "CIOU"])
@pytest.mark.parametrize("name", ["CENTER", "CORNER", "MLP", "DFL"])
def test_contract(name: str, loss: str) -> None:
    torch.manual_seed(0)
    head = HEADS.create(name, channels=CHANNELS, grid=GRID, hidden=16, iou_loss=loss)
    assert loss.lower() in head.term_weights

    def answer(tokens: Tokens) -> TaskOutput:
        maps = tokens.search_maps()
        frames = [head.predict(maps[:, t]) for t in range(FRAMES)]
        joined = {key: torch.stack([frame[key] for frame in frames], dim=1) for key in frames[0]}
        features = joined.pop("features").flatten(3).transpose(2, 3)
        assert features.shape[-1] == head.feature_channels
        return TaskOutput(features, joined)

    check_head(head, answer, LABELS)


def test_the_box_is_read_at_the_best_cell() -> None:
    score = torch.zeros(1, 1, 4, 4)
    score[0, 0, 2, 1] = 0.9  # row 2, column 1
    size = torch.zeros(1, 2, 4, 4)
    size[0, :, 2, 1] = torch.tensor([0.3, 0.6])
    offset = torch.zeros(1, 2, 4, 4)
    offset[0, :, 2, 1] = torch.tensor([0.5, 0.25])
    boxes, scores = decode_center(score, size, offset)
    torch.testing.assert_close(boxes, torch.tensor([[1.5 / 4, 2.25 / 4, 0.3, 0.6]]))
    assert float(scores) == pytest.approx(0.9)
    score[0, 0, 0, 0] = 0.5
    top, _ = decode_center_top(score, size, offset, 2)
    torch.testing.assert_close(top[0, 1], torch.tensor([0.0, 0.0, 0.0, 0.0]))


def test_scores_stay_away_from_one_in_half_precision() -> None:
    p = bounded_sigmoid(torch.tensor([100.0, -100.0], dtype=torch.bfloat16))
    assert p.dtype == torch.float32
    assert p.tolist() == [pytest.approx(1 - 1e-4), pytest.approx(1e-4)]
    assert torch.isfinite(torch.log(1 - p)).all()


def test_corner_head_reads_the_expected_corner() -> None:
    head = CornerHead(CHANNELS, GRID, hidden=16).eval()
    probability = torch.zeros(1, GRID * GRID)
    probability[0, 1 * GRID + 2] = 0.5  # row 1, column 2
    probability[0, 3 * GRID + 2] = 0.5  # row 3, column 2
    torch.testing.assert_close(head._expected(probability), torch.tensor([[2 / 4, 2 / 4]]))


def test_mlp_head_has_the_published_parameters() -> None:
    names = set(MlpHead(8, GRID).state_dict())
    assert names == {f"layers.{i}.{kind}" for i in range(3) for kind in ("weight", "bias")}


def test_channels_must_be_divisible() -> None:
    with pytest.raises(ValueError, match=r"MODEL.HEAD.NUM_CHANNELS is 20; it must be a multiple of 8"):
        HEADS.create("CENTER", channels=CHANNELS, grid=GRID, hidden=20)
