"""The reduction rule by hand-worked numbers, missing labels, what a head may answer."""

from __future__ import annotations

import pytest
import torch
from standins import make_clip, make_tracker
from torch import Tensor, nn

from mtltrack.core.errors import TrainingError
from mtltrack.core.types import TaskOutput
from mtltrack.training.weighting import label_counts, total_loss


class Fixed(nn.Module):
    """A head whose terms are what it was told, scaled by one parameter."""

    def __init__(self, weights: dict[str, float], **terms: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.term_weights, self.terms = weights, terms

    def answer(self) -> TaskOutput:
        return TaskOutput(None, {"scale": self.scale.reshape(1, 1)})

    def loss_terms(self, output: TaskOutput, labels: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: output.predictions["scale"] * value for name, value in self.terms.items()}


def valid(*rows: list[int]) -> Tensor:
    return torch.tensor(rows, dtype=torch.bool)


def run(heads: dict[str, Fixed], masks: dict[str, Tensor], **options):
    clip = make_clip(batch=3, frames=2, labels={task: {"valid": mask} for task, mask in masks.items()})
    outputs = {task: head.answer() for task, head in heads.items()}
    return total_loss(heads, outputs, clip, options.pop("lambdas", {"cls": 0.1}), **options)


def test_terms_are_averaged_over_the_labelled_samples_of_a_frame_and_summed_over_frames():
    box = Fixed(
        {"giou": 2.0, "l1": 5.0}, giou=torch.full((3, 2), 0.5), l1=torch.tensor([[1.0, 2], [3, 4], [5, 9]])
    )
    cls = Fixed({"ce": 1.0}, ce=torch.tensor([[1.0, 10], [2, 20], [6, 40]]))
    masks = {"box": valid([1, 1], [1, 1], [1, 1]), "cls": valid([1, 0], [0, 0], [1, 1])}
    report = run({"box": box, "cls": cls}, masks)
    # giou: 0.5 a frame, two frames: 1. l1: (1 + 3 + 5) / 3 + (2 + 4 + 9) / 3 = 8. box: 2 * 1 + 5 * 8 = 42.
    # cls: frame 1 has samples 1 and 3: (1 + 6) / 2 = 3.5; frame 2 only sample 3: 40. Together 43.5.
    assert report.terms["box/giou"].item() == pytest.approx(1.0)
    assert report.terms["box/l1"].item() == pytest.approx(8.0)
    assert report.tasks["box"].item() == pytest.approx(42.0)
    assert report.tasks["cls"].item() == pytest.approx(43.5)
    assert report.total.item() == pytest.approx(42.0 + 0.1 * 43.5)
    report.total.backward()
    assert cls.scale.grad.item() == pytest.approx(4.35)
    assert box.scale.grad.item() == pytest.approx(42.0)


def test_a_frame_without_any_label_adds_nothing():
    cls = Fixed({"ce": 1.0}, ce=torch.tensor([[1.0, 10], [2, 20], [6, 40]]))
    report = run({"cls": cls}, {"cls": valid([0, 0], [0, 1], [0, 0])})
    assert report.tasks["cls"].item() == pytest.approx(20.0)


def test_nonsense_in_unlabelled_entries_reaches_neither_loss_nor_gradient():
    terms = torch.tensor([[1.0, float("nan")], [float("inf"), 2.0], [float("nan"), float("nan")]])
    cls = Fixed({"ce": 1.0}, ce=terms.nan_to_num(posinf=7.0))
    report = run({"cls": cls}, {"cls": valid([1, 0], [0, 1], [0, 0])})
    assert report.tasks["cls"].item() == pytest.approx(3.0)
    spoilt = Fixed({"ce": 1.0}, ce=terms)
    assert run({"cls": spoilt}, {"cls": valid([1, 0], [0, 1], [0, 0])}).tasks["cls"].item() == pytest.approx(
        3.0
    )


def test_nan_labels_without_validity_give_the_gradients_of_any_other_filler():
    mask = valid([1, 0], [0, 1], [1, 1], [0, 0])

    def gradients(filler: float) -> dict[str, Tensor]:
        tracker, clip = make_tracker(), make_clip(cls_valid=mask)
        clip.labels["box"]["valid"] = mask
        for task, name in (("box", "cxcywh"), ("cls", "value")):
            clip.labels[task][name][~mask] = filler
        torch.manual_seed(0)
        outputs = tracker(clip.normalised([0.5] * 3, [0.2] * 3))
        total_loss(tracker.heads(), outputs, clip, {"cls": 0.1}).total.backward()
        return {name: p.grad for name, p in tracker.named_parameters() if p.grad is not None}

    usual = gradients(0.25)
    for filler in (float("nan"), float("inf")):
        for name, gradient in gradients(filler).items():
            assert torch.equal(gradient, usual[name]), name


@pytest.mark.parametrize("known", [True, False], ids=["all invalid", "task unknown to the batch"])
def test_no_label_is_a_zero_with_zero_gradients(known):
    box = Fixed({"l1": 1.0}, l1=torch.ones(3, 2))
    cls = Fixed({"ce": 1.0}, ce=torch.ones(3, 2))
    masks = {"box": valid([1, 1], [1, 1], [1, 1])}
    if known:
        masks["cls"] = torch.zeros(3, 2, dtype=torch.bool)
    report = run({"box": box, "cls": cls}, masks)
    report.total.backward()
    assert report.tasks["cls"].item() == 0 and report.total.item() == pytest.approx(2.0)
    assert report.terms["cls/ce"].item() == 0
    assert cls.scale.grad is not None and cls.scale.grad.item() == 0


def test_an_infinite_prediction_without_label_gives_zero_not_nan():
    cls = Fixed({"ce": 1.0}, ce=torch.ones(3, 2))
    with torch.no_grad():
        cls.scale.fill_(float("inf"))
    report = run({"cls": cls}, {})
    report.total.backward()
    assert report.total.item() == 0 and cls.scale.grad.item() == 0


def test_an_excluded_task_is_measured_but_neither_counts_nor_learns():
    box, cls = Fixed({"l1": 1.0}, l1=torch.ones(3, 2)), Fixed({"ce": 1.0}, ce=torch.ones(3, 2))
    masks = {"box": torch.ones(3, 2, dtype=torch.bool), "cls": torch.ones(3, 2, dtype=torch.bool)}
    report = run({"box": box, "cls": cls}, masks, excluded={"box"})
    report.total.backward()
    assert report.tasks["box"].item() == pytest.approx(2.0) and report.total.item() == pytest.approx(0.2)
    assert box.scale.grad is None and cls.scale.grad is not None


def test_counts_over_two_ranks_make_the_mean_of_their_losses_that_of_the_joint_batch():
    terms = [torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [100.0]])]
    masks = [valid([1], [1]), valid([1], [0])]  # together three labelled samples: (1 + 3 + 5) / 3 = 3
    losses = []
    for term, mask in zip(terms, masks, strict=True):
        head = Fixed({"ce": 1.0}, ce=term)
        clip = make_clip(batch=2, frames=1, labels={"cls": {"valid": mask}})
        counts = {"cls": torch.tensor([3.0])}
        report = total_loss({"cls": head}, {"cls": head.answer()}, clip, {"cls": 1.0}, counts=counts, ranks=2)
        losses.append(report.total.item())
    assert sum(losses) / 2 == pytest.approx(3.0)  # what DDP's average over ranks makes of it


def test_label_counts_add_up_micro_batches_a_frame():
    clips = [
        make_clip(batch=2, frames=2, cls_valid=valid([1, 0], [1, 1])),
        make_clip(batch=1, frames=2, cls_valid=valid([0, 1])),
    ]
    counts = label_counts(["box", "cls"], clips)
    assert counts["box"].tolist() == [3, 3] and counts["cls"].tolist() == [2, 2]


def test_half_precision_predictions_are_weighed_in_float32():
    head = make_tracker().cls_head
    clip = make_clip()
    output = TaskOutput(None, {"logits": torch.rand(4, 2, 2).bfloat16()})
    report = total_loss({"cls": head}, {"cls": output}, clip, {"cls": 1.0})
    assert report.total.dtype == torch.float32


@pytest.mark.parametrize(
    ("head", "lambdas", "text"),
    [
        (
            Fixed({"ce": 1.0}, ce=torch.ones(())),
            {"cls": 1.0},
            r"wanted one value a sample and frame, \(B, T\) = \(3, 2\)",
        ),
        (
            Fixed({"ce": 1.0}, dice=torch.ones(3, 2)),
            {"cls": 1.0},
            "'dice', which its term_weights don't weigh.*ce",
        ),
        (Fixed({"ce": 1.0}, ce=torch.ones(3, 2)), {}, "TRAIN.CLS_WEIGHT"),
    ],
    ids=["reduced term", "unknown term", "no lambda"],
)
def test_a_head_that_breaks_the_contract_is_named(head, lambdas, text):
    with pytest.raises(TrainingError, match=text):
        run({"cls": head}, {"cls": torch.ones(3, 2, dtype=torch.bool)}, lambdas=lambdas)
