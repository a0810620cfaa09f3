from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tasks.contract import BATCH, CHANNELS, FRAMES, check_head, make_clip, make_tokens

from mtltrack.core.conditions import CONDITIONS
from mtltrack.core.types import TaskOutput, Tokens
from mtltrack.tasks.cls import ClsHead


def labels() -> dict[str, torch.Tensor]:
    index = torch.tensor([[0, 9], [3, 4], [5, 0]])
    flags = torch.nn.functional.one_hot(index, 10).bool()
    return {"valid": torch.ones(BATCH, FRAMES, dtype=torch.bool), "index": index, "flags": flags}


@pytest.mark.parametrize(
    "arguments",
    [{"loss_type": "CE"}, {"loss_type": "FOCAL"}, {"loss_type": "LABEL_SMOOTH"}, {"labels": "multi"}],
)
def test_contract(arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    head = ClsHead(CHANNELS, hidden_dim=8, dropout=0.0, **arguments)

    def answer(tokens: Tokens) -> TaskOutput:
        return head(tokens, {}, make_clip())

    check_head(head, answer, labels())


def test_flags_that_a_source_cannot_tell_are_neither_learned_nor_scored() -> None:
    head = ClsHead(CHANNELS, labels="multi")
    logits = torch.zeros(1, 2, 9, requires_grad=True)
    known = torch.zeros(1, 2, 10, dtype=torch.bool)
    known[0, 0, [3, 6]] = True
    flags = torch.zeros(1, 2, 10, dtype=torch.bool)
    flags[0, 0, 3] = True
    truth = {"valid": torch.ones(1, 2, dtype=torch.bool), "flags": flags, "known": known}
    output = TaskOutput(None, {"logits": logits})
    loss = head.loss_terms(output, truth)["cls"]
    torch.testing.assert_close(loss.detach(), torch.tensor([[0.6931472, 0.0]]))  # log 2; nothing known
    loss.sum().backward()
    expected = torch.zeros(1, 2, 9)
    expected[0, 0, 3], expected[0, 0, 6] = -0.25, 0.25
    torch.testing.assert_close(logits.grad, expected)
    metrics = head.metrics()
    wrong = torch.full((1, 2, 9), 9.0)
    wrong[0, 0, 6] = -9.0  # the two known flags are right, all others would be wrong
    metrics.update(TaskOutput(None, {"logits": wrong}), truth)
    assert metrics.compute()["accuracy"] == 1.0


def test_pooling_counts_only_tokens_that_are_left() -> None:
    head = ClsHead(CHANNELS, hidden_dim=8)
    tokens = make_tokens()
    seen: list[torch.Tensor] = []
    head.hidden.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    head(tokens, {}, make_clip())
    torch.testing.assert_close(seen[0][:, 0], tokens.search[:, 0].mean(1))
    torch.testing.assert_close(seen[0][:, 1], tokens.search[:, 1].sum(1) / 8)


def test_multi_label_leaves_normal_out_and_names_it_when_nothing_is_flagged() -> None:
    head = ClsHead(CHANNELS, labels="multi")
    assert head.class_names == CONDITIONS[:9] and head.all_names == CONDITIONS
    logits = torch.full((1, 2, 9), -5.0)
    logits[0, 1, 3] = 5.0
    first, second = head.decode(TaskOutput(None, {"logits": logits}))[0]
    assert first["name"] == "Normal" and first["index"] == 9 and first["flags"] == []
    assert second["name"] == "Motion Blur" and second["index"] == 3 and second["flags"] == ["Motion Blur"]
    assert first["confidence"] == pytest.approx(1 - torch.sigmoid(torch.tensor(-5.0)).item())


def test_single_label_names_the_class() -> None:
    head = ClsHead(CHANNELS)
    logits = torch.zeros(1, 1, 10)
    logits[0, 0, 6] = 2.0
    answer = head.decode(TaskOutput(None, {"logits": logits}))[0][0]
    assert answer["name"] == "Low Resolution" and answer["index"] == 6
    assert answer["confidence"] == pytest.approx(
        float(torch.tensor(2.0).exp() / (torch.tensor(2.0).exp() + 9))
    )
    assert sum(answer["probabilities"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": "many"}, "TASKS.cls.LABELS is 'many'; allowed: single, multi"),
        ({"num_classes": 4}, "TASKS.cls.NUM_CLASSES is 4, but there are 10 class names"),
        ({"loss_type": "BCE"}, "which needs TASKS.cls.LABELS: multi"),
        (
            {"loss_type": "HINGE"},
            "'HINGE' is not a registered loss.*Registered: .*BCE, CE, .*FOCAL, .*LABEL_SMOOTH",
        ),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, KeyError), match=message):
        ClsHead(CHANNELS, **arguments)


def test_metrics_tell_scores_classes_and_a_picture(tmp_path: Path) -> None:
    head = ClsHead(CHANNELS)
    metrics = head.metrics()
    logits = torch.full((1, 4, 10), -9.0)
    for frame, predicted in enumerate((0, 0, 3, 9)):
        logits[0, frame, predicted] = 9.0
    truth = {
        "valid": torch.tensor([[True, True, True, False]]),
        "index": torch.tensor([[0, 3, 3, 5]]),
        "flags": torch.zeros(1, 4, 10, dtype=torch.bool),
    }
    metrics.update(TaskOutput(None, {"logits": logits}), truth)
    scores = metrics.compute()
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["balanced_accuracy"] == pytest.approx((1.0 + 0.5) / 2)
    assert scores["macro_f1"] == pytest.approx(2 / 3)  # precision and recall 1/2, 1 and 1, 1/2
    lines = metrics.table().splitlines()
    assert lines[1].split() == ["Occlusion", "1", "2", "50.0", "100.0", "66.7"]
    assert lines[2].split() == ["Motion", "Blur", "2", "1", "100.0", "50.0", "66.7"] and len(lines) == 3
    picture = tmp_path / "confusion.png"
    metrics.figure("conditions").savefig(picture)
    assert picture.stat().st_size > 1000
