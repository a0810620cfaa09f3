import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from mtltrack.core.registry import LOSSES


def test_names_of_the_configuration_are_registered() -> None:
    for name in ("CE", "FOCAL", "LABEL_SMOOTH", "BCE"):
        assert callable(LOSSES.get(name))


def test_cross_entropy_by_hand_and_ignored() -> None:
    logits = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    loss = LOSSES.get("CE")(logits, torch.tensor([1, -100]))
    assert loss.tolist() == [pytest.approx(0.6931472), 0.0]


def test_label_smoothing_by_hand() -> None:
    # two classes, p = 1/2 each: the loss is log 2 whatever the smoothing
    loss = LOSSES.get("LABEL_SMOOTH")(torch.zeros(1, 2), torch.tensor([0]), smoothing=0.2)
    assert float(loss) == pytest.approx(0.6931472)
    # logits (log 3, 0): p = 3/4, 1/4; targets 0.9 and 0.1
    logits = torch.tensor([[3.0, 1.0]]).log()
    expected = -(0.9 * torch.log(torch.tensor(0.75)) + 0.1 * torch.log(torch.tensor(0.25)))
    torch.testing.assert_close(
        LOSSES.get("LABEL_SMOOTH")(logits, torch.tensor([0]), smoothing=0.2), expected[None]
    )


def test_softmax_focal_of_two_classes_is_the_binary_focal_loss() -> None:
    torch.manual_seed(0)
    z = torch.randn(20, dtype=torch.float64)
    logits = torch.stack([z / 2, -z / 2], dim=1)  # softmax over these is (sigmoid(z), 1 - sigmoid(z))
    ours = LOSSES.get("FOCAL")(logits, torch.zeros(20, dtype=torch.long), alpha=0.25, gamma=2.0)
    theirs = sigmoid_focal_loss(z, torch.ones(20, dtype=torch.float64), alpha=0.25, gamma=2.0)
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-7)


def test_focal_gradient_has_the_closed_form() -> None:
    torch.manual_seed(1)
    logits = torch.randn(6, 5, requires_grad=True)
    target = torch.tensor([0, 1, 2, 3, 4, -100])
    alpha, gamma = 0.25, 2.0
    LOSSES.get("FOCAL")(logits, target, alpha=alpha, gamma=gamma).sum().backward()
    p = logits.detach().softmax(-1)
    pt = p.gather(1, target.clamp_min(0)[:, None])
    factor = alpha * (gamma * (1 - pt) ** (gamma - 1) * pt * pt.log() - (1 - pt) ** gamma)
    expected = factor * (torch.nn.functional.one_hot(target.clamp_min(0), 5) - p)
    expected[5] = 0
    torch.testing.assert_close(logits.grad, expected, rtol=1e-4, atol=1e-6)


def test_bce_averages_over_the_labels() -> None:
    loss = LOSSES.get("BCE")(torch.zeros(2, 9), torch.ones(2, 9, dtype=torch.bool))
    assert loss.tolist() == [pytest.approx(0.6931472)] * 2


def test_bce_leaves_out_labels_that_are_not_known() -> None:
    logits = torch.tensor([[0.0, 3.0, -3.0], [3.0, 3.0, 3.0]], requires_grad=True)
    target = torch.tensor([[1, -100, 0], [-100, -100, -100]])
    loss = LOSSES.get("BCE")(logits, target)
    # log 2 of the first, log(1 + e^-3) of the third
    assert loss.tolist() == [pytest.approx((0.6931472 + 0.0485873) / 2), 0.0]
    loss.sum().backward()
    assert logits.grad is not None and logits.grad[0, 1] == 0 and not logits.grad[1].any()
    assert float(logits.grad[0, 0]) == pytest.approx(-0.25)  # (1/2 - 1) / 2 known labels
