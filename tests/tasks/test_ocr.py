"""The reader: the contract of heads, which box it looks at, where gradients go, decoding and fusing."""

import math

import pytest
import torch
from tests.tasks.contract import BATCH, CHANNELS, FRAMES, check_head, make_clip, make_tokens

from mtltrack.core.errors import ConfigError
from mtltrack.core.types import FrameContext, TaskOutput
from mtltrack.tasks.ocr import FusedReading, OCRHead

ALPHABET = "0123AB"
COLUMNS = 6


def make_head(**arguments):
    small = {"hidden_dim": 8, "columns": COLUMNS, "alphabet": ALPHABET, "glimpse": (16, 24), "width": 8}
    return OCRHead(CHANNELS, upstream_channels={"plate": CHANNELS}, **{**small, "dropout": 0.0, **arguments})


def text_labels():
    codes = torch.tensor([[1, 2, 2], [3, 0, 0], [4, 5, 6]])[:, None].repeat(1, FRAMES, 1)
    length = torch.tensor([[3], [1], [3]]).repeat(1, FRAMES)
    boxes = torch.tensor([0.5, 0.6, 0.3, 0.1]).repeat(BATCH, FRAMES, 1)
    valid = torch.ones(BATCH, FRAMES, dtype=torch.bool)
    return {"valid": valid, "codes": codes, "length": length, "cxcywh": boxes}


def plate_output(features, boxes=(0.5, 0.6, 0.28, 0.12)):
    """What the plate head would say, its features made of the tokens."""
    return TaskOutput(features, {"cxcywh": torch.tensor(boxes).repeat(BATCH, FRAMES, 1).requires_grad_()})


def test_contract():
    torch.manual_seed(0)
    head, clip = make_head(), make_clip(detail=32)

    def answer(tokens):
        return head(tokens, {"plate": plate_output(tokens.search[:, :, :3])}, clip)

    check_head(head, answer, text_labels())


def test_shapes_and_widths():
    head = make_head()
    assert head.alphabet == ALPHABET and head.feature_channels == 8
    tokens = make_tokens()
    output = head(tokens, {"plate": plate_output(tokens.search[:, :, :3])}, make_clip(detail=32))
    assert output.predictions["logits"].shape == (BATCH, FRAMES, COLUMNS, len(ALPHABET) + 1)
    assert output.features.shape == (BATCH, FRAMES, COLUMNS, 8)


def text_loss(head, plate, labels, clip):
    output = head(make_tokens(), {"plate": plate}, clip)
    return head.loss_terms(output, labels)["ctc"].sum(), output


def test_the_texts_loss_reaches_the_predicted_box_and_the_plates_features():
    head = make_head(truth_until=0.0, truth_gone=0.0).train()
    head.schedule(1.0)
    labels = text_labels()
    clip = make_clip(detail=32, labels={"ocr": labels})
    features = torch.randn(BATCH, FRAMES, 2, CHANNELS, requires_grad=True)
    plate = plate_output(features)
    boxes = plate.predictions["cxcywh"]
    loss, output = text_loss(head, plate, labels, clip)
    loss.backward()
    assert torch.equal(output.predictions["glimpse_cxcywh"], boxes)
    for gradient in (features.grad, boxes.grad):
        assert torch.isfinite(gradient).all()
        assert (gradient.abs().sum(-1) > 0).all()


def test_with_the_true_box_the_loss_still_reaches_the_plates_features():
    head = make_head(jitter=0.0).train()
    head.schedule(0.0)
    labels = text_labels()
    features = torch.randn(BATCH, FRAMES, 2, CHANNELS, requires_grad=True)
    plate = plate_output(features)
    loss, output = text_loss(head, plate, labels, make_clip(detail=32, labels={"ocr": labels}))
    loss.backward()
    assert torch.equal(output.predictions["glimpse_cxcywh"], labels["cxcywh"])
    assert float(features.grad.abs().sum()) > 0
    boxes = plate.predictions["cxcywh"]
    assert boxes.grad is None or float(boxes.grad.abs().sum()) == 0


def looked_at_truth(head, labels, boxes=(0.5, 0.6, 0.28, 0.12)):
    """Which frames' true box was looked at, in training mode."""
    plate = plate_output(make_tokens().search[:, :, :2], boxes)
    _, output = text_loss(head, plate, labels, make_clip(detail=32, labels={"ocr": labels}))
    return ~(output.predictions["glimpse_cxcywh"] == plate.predictions["cxcywh"]).all(-1)


def test_the_true_box_gives_way_to_the_predicted_one():
    head = make_head(truth_until=0.4, truth_gone=0.8)
    shares = []
    for progress in (0.0, 0.4, 0.6, 0.8, 1.0):
        head.schedule(progress)
        shares.append(head.truth_share)
    assert shares == pytest.approx([1.0, 1.0, 0.5, 0.0, 0.0])
    head.train()
    assert not looked_at_truth(head, text_labels()).any()
    head.schedule(0.0)
    labels = text_labels()
    labels["valid"][1] = False
    assert looked_at_truth(head, labels).tolist() == [[True] * FRAMES, [False] * FRAMES, [True] * FRAMES]


def test_a_predicted_box_beside_the_plate_is_not_learned_from():
    head = make_head().train()
    head.schedule(1.0)
    assert looked_at_truth(head, text_labels(), boxes=(0.1, 0.1, 0.1, 0.1)).all()


def test_outside_training_the_predicted_box_is_looked_at():
    head = make_head().eval()
    assert not looked_at_truth(head, text_labels()).any()


def test_the_jitter_stays_within_its_share():
    head = make_head(jitter=0.1).train()
    boxes = torch.tensor([0.5, 0.6, 0.3, 0.1]).repeat(200, 1)
    moved = head._jittered(boxes)
    assert float(((moved - boxes)[:, :2] / boxes[:, 2:]).abs().max()) <= 0.1
    assert float((moved[:, 2:] / boxes[:, 2:]).log().abs().max()) <= 0.1 + 1e-6
    assert float(moved.std(0).min()) > 0


def test_texts_that_dont_fit_and_frames_without_one_cost_nothing():
    head = make_head().eval()
    labels = text_labels()
    labels["codes"] = torch.ones(BATCH, FRAMES, 5, dtype=torch.int64)
    labels["length"] = torch.tensor([[5], [3], [3]]).repeat(1, FRAMES)  # 5 equal ones need 9 columns
    labels["valid"][2] = False
    _, output = text_loss(head, plate_output(make_tokens().search[:, :, :2]), labels, make_clip(detail=32))
    loss = head.loss_terms(output, labels)["ctc"]
    assert (loss[0] == 0).all() and (loss[1] > 0).all() and (loss[2] == 0).all()


def test_a_clip_without_detail_view_is_refused():
    with pytest.raises(ConfigError, match=r"TASKS\.ocr .*DATA\.DETAIL: \{SIZE: 256, FACTOR: 2\.0\}"):
        make_head()(make_tokens(), {"plate": plate_output(make_tokens().search)}, make_clip())


def test_a_plate_head_without_features_is_refused():
    with pytest.raises(ConfigError, match=r"features of TASKS\.plate, but that head offers none"):
        make_head()(make_tokens(), {"plate": plate_output(None)}, make_clip(detail=32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_dim": 6}, "HIDDEN_DIM must be a multiple of 4 and WIDTH one of 8; found 6 and 8"),
        ({"width": 12}, "found 8 and 12"),
        ({"glimpse": (20, 24)}, r"GLIMPSE is \[height, width\].*found \[20, 24\]"),
        ({"columns": 7}, r"COLUMNS is 7; a glimpse of 24 pixels has 1 to 6 columns"),
        ({"beam": -1}, "BEAM of at least 0"),
        ({"truth_until": 0.9, "truth_gone": 0.5}, r"TRUTH_UNTIL <= TRUTH_GONE <= 1; found 0, 0\.9 and 0\.5"),
        ({"alphabet": "latn"}, "Did you mean 'latin'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        make_head(**arguments)


def sharp_logits(path, sure=0.9):
    """One clip of one frame whose columns hold these classes with this probability."""
    classes = len(ALPHABET) + 1
    probabilities = torch.full((len(path), classes), (1 - sure) / (classes - 1))
    probabilities[torch.arange(len(path)), torch.tensor(path)] = sure
    return TaskOutput(None, {"logits": probabilities.log()[None, None]})


@pytest.mark.parametrize("beam", [0, 4])
def test_decoding_gives_text_and_confidences(beam):
    answer = make_head(beam=beam).decode(sharp_logits([0, 5, 5, 0, 5, 2]))[0][0]
    assert answer["text"] == "AA1"
    assert answer["characters"] == pytest.approx([0.9, 0.9, 0.9])
    assert 0.9**6 < answer["confidence"] < 1  # the best path, and some that collapse to the same


def test_a_beam_finds_what_the_best_path_misses():
    logits = torch.tensor([[0.4, 0.3, 0.3, 0, 0, 0, 0], [0.4, 0.3, 0.3, 0, 0, 0, 0]]).clamp_min(1e-9).log()
    output = TaskOutput(None, {"logits": logits[None, None]})
    nothing = make_head().decode(output)[0][0]
    assert nothing == {"text": "", "confidence": 0.0, "characters": []}
    found = make_head(beam=5).decode(output)[0][0]
    assert found["text"] in "01" and found["confidence"] == pytest.approx(0.33, abs=1e-6)


def test_metrics_count_labelled_frames_only():
    head = make_head()
    output = sharp_logits([0, 5, 5, 0, 5, 2])  # AA1
    logits = output.predictions["logits"].repeat(1, 3, 1, 1)
    labels = {
        "valid": torch.tensor([[True, True, False]]),
        "codes": torch.tensor([[[5, 5, 2], [5, 2, 0], [1, 0, 0]]]),
        "length": torch.tensor([[3, 2, 1]]),
    }
    metrics = head.metrics()
    metrics.update(TaskOutput(None, {"logits": logits}), labels)
    assert metrics.compute() == {"exact": 0.5, "cer": pytest.approx(1 / 5), "length": 0.5}


def test_readings_of_a_track_are_fused_by_vote():
    fused = FusedReading()
    assert fused.best() == {"text": "", "confidence": 0.0, "frames": 0}
    fused.add("AB12", 0.5, [0.9, 0.9, 0.8, 0.9])
    assert fused.best() == {"text": "AB12", "confidence": pytest.approx(0.9**3 * 0.8), "frames": 1}
    fused.add("A812", 0.4, [0.9, 0.5, 0.9, 0.9])
    fused.add("AB17", 0.3, [0.9, 0.8, 0.9, 0.4])
    fused.add("AB1", 0.9, [0.9, 0.9, 0.9])  # 0.9 votes for three characters, 1.2 for four
    fused.add("", 0.0, [])
    best = fused.best()
    assert best["text"] == "AB12" and best["frames"] == 4
    second, third = (0.5 * 0.9 + 0.3 * 0.8) / 1.2, (0.5 * 0.8 + 0.4 * 0.9 + 0.3 * 0.9) / 1.2
    fourth = (0.5 * 0.9 + 0.4 * 0.9) / 1.2
    assert best["confidence"] == pytest.approx(0.9 * second * third * fourth)


def frame(**results):
    return FrameContext(1, 0.0, (64, 48), (0, 0, 1, 1), 1.0, torch.eye(2, 3).numpy(), 64, results)


def test_a_session_reads_only_where_a_plate_is_seen():
    session = make_head().session({})
    answer = {"text": "AB", "confidence": 0.8, "characters": [0.9, 0.9]}
    first = session.update(answer, frame(plate={"present": True}))
    assert first["text"] == "AB" and first["fused"]["text"] == "AB" and first["fused"]["frames"] == 1
    second = session.update({**answer, "text": "XY"}, frame(plate={"present": False}))
    assert second["text"] == "" and second["confidence"] == 0.0 and second["characters"] == []
    assert second["fused"] == first["fused"]
    third = session.update(answer, frame())
    assert third["fused"]["frames"] == 2 and math.isclose(third["fused"]["confidence"], 0.81)
