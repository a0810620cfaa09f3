from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from tests.tasks.contract import BATCH, CHANNELS, FRAMES, GRID, check_head, make_clip, make_tokens
from torch import Tensor

from mtltrack.core.errors import ConfigError
from mtltrack.core.types import Clip, FrameContext, TaskOutput, Tokens
from mtltrack.tasks.plate import PlateHead, frame_box

BOX_CHANNELS = 12


def make_head(**arguments: Any) -> PlateHead:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"hidden_dim": 32, "queries": 3, "stride": 4} | arguments
    return PlateHead(CHANNELS, {"box": BOX_CHANNELS}, **settings)


def with_detail(clip: Clip) -> Clip:
    """Give the clip a view of 48 pixels, three times as fine as the search crop."""
    search = torch.tensor([[3.0, 0.0, 100.0], [0.0, 3.0, 50.0]])
    detail = torch.tensor([[1.0, 0.0, 170.0], [0.0, 1.0, 120.0]])
    shape = (BATCH, FRAMES, 2, 3)
    generator = torch.Generator().manual_seed(2)
    return dataclasses.replace(
        clip,
        affine=search.expand(shape),
        detail=torch.randn(BATCH, FRAMES, 3, 48, 48, generator=generator),
        detail_affine=detail.expand(shape),
    )


def box_features() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(BATCH, FRAMES, GRID * GRID, BOX_CHANNELS, generator=generator).requires_grad_()


def upstream(features: Tensor | None = None) -> Mapping[str, TaskOutput]:
    return {"box": TaskOutput(box_features() if features is None else features, {})}


def noisy_clip() -> Clip:
    clip = make_clip()
    pixels = torch.randn(clip.search.shape, generator=torch.Generator().manual_seed(3))
    return dataclasses.replace(clip, search=pixels)


def labels() -> dict[str, Tensor]:
    """Present, absent and invalid frames; what isn't there is zero."""
    valid = torch.tensor([[True, True], [True, False], [True, True]])
    present = torch.tensor([[True, False], [True, False], [False, True]])
    boxes = torch.tensor([0.55, 0.5, 0.1, 0.04]).expand(BATCH, FRAMES, 4) * present[..., None]
    return {"valid": valid, "present": present, "cxcywh": boxes}


@pytest.mark.parametrize("detail", [False, True])
@pytest.mark.parametrize("arguments", [{}, {"presence_loss": "FOCAL", "iou_loss": "CIOU", "queries": 1}])
def test_contract(detail: bool, arguments: dict[str, Any]) -> None:
    head = make_head(**arguments)
    clip = with_detail(noisy_clip()) if detail else noisy_clip()

    def answer(tokens: Tokens) -> TaskOutput:
        return head(tokens, upstream(), clip)

    check_head(head, answer, labels())


def gradients(head: PlateHead, clip: Clip, loss: Any) -> dict[str, float]:
    """Greatest gradient at the tokens, the box features and each parameter."""
    head.zero_grad(set_to_none=True)
    tokens, features = make_tokens(), box_features()
    loss(head(tokens, upstream(features), clip)).backward()
    found = {"tokens": tokens.search.grad, "box": features.grad}
    found |= {name: parameter.grad for name, parameter in head.named_parameters()}
    assert all(torch.isfinite(value).all() for value in found.values() if value is not None)
    return {name: 0.0 if value is None else float(value.abs().max()) for name, value in found.items()}


@pytest.mark.parametrize("detail", [False, True])
def test_the_terms_reach_everything(detail: bool) -> None:
    head = make_head()
    clip = with_detail(noisy_clip()) if detail else noisy_clip()
    found = gradients(
        head, clip, lambda output: sum(t.sum() for t in head.loss_terms(output, labels()).values())
    )
    assert [name for name, value in found.items() if value == 0] == []


def test_each_term_reaches_tokens_and_box_features() -> None:
    head = make_head()
    for term in head.term_weights:
        found = gradients(
            head, noisy_clip(), lambda output, t=term: head.loss_terms(output, labels())[t].sum()
        )
        assert found["tokens"] > 0 and found["box"] > 0, term


@pytest.mark.parametrize("term", ["presence", "l1", "iou", "location"])
def test_a_term_reaches_what_the_head_says(term: str) -> None:
    head = make_head()
    found = gradients(head, noisy_clip(), lambda output: head.loss_terms(output, labels())[term].sum())
    parts: dict[str, float] = {}
    for name, value in found.items():
        part = name.split(".")[0]
        parts[part] = max(parts.get(part, 0.0), value)
    said = {name.removesuffix("?") for name in head.reaches[term]}
    sure = {name for name in head.reaches[term] if not name.endswith("?")}
    reached = {name for name, value in parts.items() if value > 0} - {"tokens", "box"}
    assert sure <= reached <= said


@pytest.mark.parametrize("coordinate", range(4))
def test_a_reader_s_loss_comes_back_through_each_number_of_the_box(coordinate: int) -> None:
    head = make_head()
    for clip in (noisy_clip(), with_detail(noisy_clip())):
        found = gradients(head, clip, lambda output: output.predictions["cxcywh"][..., coordinate].sum())
        assert found["tokens"] > 0 and found["box"] > 0
        assert found["pixels.fine.0.weight"] > 0 and found["location_query.weight"] > 0


def test_a_reader_s_loss_comes_back_through_the_features() -> None:
    found = gradients(make_head(), noisy_clip(), lambda output: output.features[:, :, 0].square().sum())
    assert found["tokens"] > 0 and found["box"] > 0 and found["pixels.fine.0.weight"] > 0


def test_terms_but_presence_are_zero_where_there_is_no_plate() -> None:
    head = make_head()
    head.eval()
    output = head(make_tokens(), upstream(), noisy_clip())
    terms = head.loss_terms(output, labels())
    present = labels()["present"]
    for name in ("l1", "iou", "location"):
        assert (terms[name][present] > 0).all() and (terms[name][~present] == 0).all(), name
    z = output.predictions["presence"]
    torch.testing.assert_close(
        terms["presence"], torch.where(present, -z.sigmoid().log(), -(-z).sigmoid().log())
    )


def test_presence_focal_by_hand() -> None:
    head = make_head(presence_loss="FOCAL")
    output = head(make_tokens(), upstream(), noisy_clip())
    z = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-2.0, 0.5]])
    output.predictions["presence"] = z
    terms = head.loss_terms(output, labels())
    p = z.sigmoid()
    expected = torch.where(labels()["present"], -0.25 * (1 - p) ** 2 * p.log(), -0.75 * p**2 * (1 - p).log())
    torch.testing.assert_close(terms["presence"], expected)


@pytest.mark.parametrize("iou_loss", ["GIOU", "CIOU"])
def test_boxes_without_area_and_wild_labels_leave_finite_gradients(iou_loss: str) -> None:
    head = make_head(iou_loss=iou_loss)
    tokens = make_tokens()
    odd = labels()
    odd["cxcywh"] = torch.tensor([0.5, 0.5, 0.0, 0.0]).expand(BATCH, FRAMES, 4).clone()
    odd["cxcywh"][1, 1] = torch.nan  # an invalid frame
    terms = head.loss_terms(head(tokens, upstream(), noisy_clip()), odd)
    assert all(torch.isfinite(value).all() for value in terms.values())
    sum(value.sum() for value in terms.values()).backward()
    assert torch.isfinite(tokens.search.grad).all()


def forced(head: PlateHead, clip: Clip, row: int, column: int) -> TaskOutput:
    """Run the head with all of the map's softmax on one cell and sizes as PLATE_SIZE says."""
    head.eval()
    with torch.no_grad():
        head.size[-1].weight.zero_()
        head.size[-1].bias.zero_()

    def embedding(pixels: Tensor, context: Any) -> Tensor:
        del context
        maps = torch.zeros(len(pixels), 16, 12, 12)
        maps[:, :, row, column] = 1.0
        return maps

    head.pixels.forward = embedding
    head.location_query = torch.nn.Linear(32, 16)
    with torch.no_grad():
        head.location_query.weight.zero_()
        head.location_query.bias.fill_(100.0)
        return head(make_tokens(), upstream(), clip)


@pytest.mark.parametrize("flipped", [False, True])
def test_a_place_in_the_detail_view_is_told_in_the_search_crop(flipped: bool) -> None:
    clip = with_detail(noisy_clip())
    if flipped:  # both crops: x counts from the right, the frame's pixels stay where they are
        mirrored = [value.clone() for value in (clip.affine, clip.detail_affine)]
        for affine, size in zip(mirrored, (64, 48), strict=True):
            affine[..., 0, 2] += affine[..., 0, 0] * (size - 1)
            affine[..., 0, 0] *= -1
        clip = dataclasses.replace(clip, affine=mirrored[0], detail_affine=mirrored[1])
    output = forced(make_head(plate_size=(0.2, 0.1)), clip, row=3, column=8)
    # cell (3, 8) of 12: its centre is the edge between pixels 33 and 34 of the view in x, 13 and 14 in y
    edge = np.array([34.0, 14.0])
    frame = clip.detail_affine[0, 0].double().numpy() @ [*(edge - 0.5), 1.0]
    search = clip.affine[0, 0].double().numpy()
    expected = (np.linalg.solve(search[:, :2], frame - search[:, 2]) + 0.5) / 64
    box = output.predictions["cxcywh"][0, 0].double().numpy()
    np.testing.assert_allclose(box[:2], expected, atol=1e-5)
    # 0.2 of 48 pixels of the view are 9.6 frame pixels, 3.2 of the search crop's 64
    np.testing.assert_allclose(box[2:], [3.2 / 64, 1.6 / 64], atol=1e-6)


def test_a_place_in_the_search_crop_is_its_cell() -> None:
    output = forced(make_head(plate_size=(0.2, 0.1)), noisy_clip(), row=3, column=8)
    np.testing.assert_allclose(output.predictions["cxcywh"][0, 0], [8.5 / 12, 3.5 / 12, 0.2, 0.1], atol=1e-6)


def context(affine: Any, size: tuple[int, int] = (640, 360)) -> FrameContext:
    return FrameContext(1, 0.0, size, (0.0, 0.0, 10.0, 10.0), 1.0, np.asarray(affine, dtype=np.float64), 64)


def test_the_session_puts_the_box_into_the_frame() -> None:
    session = make_head().session({})
    # two frame pixels a crop pixel; the crop's left edge is the frame's x = 100, its upper edge y = 50
    frame = context([[2.0, 0.0, 100.5], [0.0, 2.0, 50.5]])
    answer = {"present": True, "confidence": 0.8, "cxcywh": [0.5, 0.25, 0.25, 0.125]}
    result = session.update(answer, frame)
    assert result == {"present": True, "confidence": 0.8, "bbox": pytest.approx([148.0, 74.0, 180.0, 90.0])}
    absent = session.update({**answer, "present": False, "confidence": 0.1}, frame)
    assert absent == {"present": False, "confidence": 0.1, "bbox": None}


def test_a_mirrored_crop_gives_ordered_corners_and_the_frame_cuts_the_box() -> None:
    # crop x 0..64 is frame x 128..0
    mirrored = context([[-2.0, 0.0, 126.5], [0.0, 2.0, 0.5]])
    assert frame_box([0.25, 0.5, 0.125, 0.25], mirrored) == pytest.approx([88.0, 48.0, 104.0, 80.0])
    small = context([[2.0, 0.0, 100.5], [0.0, 2.0, 50.5]], size=(160, 80))
    assert frame_box([0.5, 0.25, 0.25, 0.125], small) == pytest.approx([148.0, 74.0, 160.0, 80.0])
    assert frame_box([0.9, 0.9, 0.1, 0.1], small) is None


def test_decoding_tells_presence_above_one_half() -> None:
    output = TaskOutput(
        None, {"presence": torch.tensor([[1.0, -1.0]]), "cxcywh": torch.tensor([[[0.5, 0.4, 0.1, 0.2]] * 2])}
    )
    first, second = make_head().decode(output)[0]
    assert first["present"] is True and first["confidence"] == pytest.approx(0.7310586)
    assert first["cxcywh"] == pytest.approx([0.5, 0.4, 0.1, 0.2]) and second["present"] is False


def test_metrics_count_labelled_frames_only() -> None:
    metrics = make_head().metrics()
    truth = labels()
    output = TaskOutput(
        None,
        {
            "presence": torch.where(truth["present"], 3.0, -3.0),
            "cxcywh": truth["cxcywh"] + torch.tensor([0.01, 0.0, 0.0, 0.0]),  # overlap 0.09 / 0.11
        },
    )
    output.predictions["presence"][1, 1] = 9.0  # an invalid frame
    metrics.update(output, truth)
    scores = metrics.compute()
    assert scores["AP50"] == pytest.approx(1.0) and scores["AP50:95"] == pytest.approx(0.7)
    assert scores["presence_accuracy"] == 1.0 and scores["presence_f1"] == 1.0
    metrics.reset()
    assert np.isnan(metrics.compute()["AP50"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"presence_loss": "HINGE"}, r"TASKS.plate.PRESENCE_LOSS is 'HINGE'; allowed: BCE, FOCAL"),
        ({"iou_loss": "DIOU"}, r"TASKS.plate.IOU_LOSS is 'DIOU'; allowed: GIOU, CIOU"),
        ({"hidden_dim": 40}, r"HIDDEN_DIM is 40; it must be a multiple of 16 and of ATTENTION_HEADS \(4\)"),
        ({"stride": 0}, r"TASKS.plate.STRIDE is 0; it must be at least 1"),
        ({"plate_size": (0.1, 0.0)}, r"PLATE_SIZE is \[0.1, 0.0\]; wanted a width and a height in \(0, 1\]"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_head(**arguments)


def test_box_features_of_other_cells_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"wants box features .* \(3, 2, 16, 16\); found \(3, 2, 1, 12\)"):
        make_head()(make_tokens(), upstream(torch.zeros(BATCH, FRAMES, 1, BOX_CHANNELS)), noisy_clip())
    with pytest.raises(ConfigError, match=r"found none\. Choose another MODEL.HEAD.TYPE"):
        make_head()(make_tokens(), {"box": TaskOutput(None, {})}, noisy_clip())
