"""Glimpses: what is sampled, where, and how it depends on the box."""

import pytest
import torch
import torch.nn.functional as F

from mtltrack.models.layers.glimpse import ColumnContext, ColumnEncoder, boxes_in_view, take_glimpses


def ramps(height=40, width=60, dtype=torch.float64):
    """An image whose two channels are the x and y of a pixel's centre, in [0, 1]."""
    x = ((torch.arange(width, dtype=dtype) + 0.5) / width).expand(height, width)
    y = ((torch.arange(height, dtype=dtype) + 0.5) / height)[:, None].expand(height, width)
    return torch.stack([x, y])[None]


def test_a_glimpse_shows_the_box_at_the_wanted_size():
    box = torch.tensor([[0.5, 0.4, 0.4, 0.2]], dtype=torch.float64)
    glimpse = take_glimpses(ramps(), box, (8, 16))[0]
    # pixel k of n lies at low + (k + 0.5) / n * size
    x = 0.3 + (torch.arange(16, dtype=torch.float64) + 0.5) / 16 * 0.4
    y = 0.3 + (torch.arange(8, dtype=torch.float64) + 0.5) / 8 * 0.2
    torch.testing.assert_close(glimpse[0], x.expand(8, 16))
    torch.testing.assert_close(glimpse[1], y[:, None].expand(8, 16))


def test_the_margin_is_a_share_of_each_side():
    box = torch.tensor([[0.5, 0.5, 0.2, 0.2]], dtype=torch.float64)
    wider = torch.tensor([[0.5, 0.5, 0.3, 0.24]], dtype=torch.float64)
    with_margin = take_glimpses(ramps(), box, (8, 8), (0.25, 0.1))
    torch.testing.assert_close(with_margin, take_glimpses(ramps(), wider, (8, 8)))
    both = torch.tensor([[0.5, 0.5, 0.3, 0.3]], dtype=torch.float64)
    torch.testing.assert_close(
        take_glimpses(ramps(), box, (8, 8), 0.25), take_glimpses(ramps(), both, (8, 8))
    )


def test_the_whole_image_at_its_own_size_is_the_image():
    image = torch.rand(1, 3, 16, 24, dtype=torch.float64)
    whole = torch.tensor([[0.5, 0.5, 1.0, 1.0]], dtype=torch.float64)
    # four samples at a quarter of a pixel from the centre: bilinear, then averaged
    near = F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)
    expected = F.avg_pool2d(near, 2)[..., 1:-1, 1:-1]  # the edge mixes with the 0 beyond
    torch.testing.assert_close(take_glimpses(image, whole, (16, 24))[..., 1:-1, 1:-1], expected)


def smooth_image():
    y, x = torch.meshgrid(torch.linspace(0, 6, 30), torch.linspace(0, 9, 40), indexing="ij")
    return torch.stack([torch.sin(x) * torch.cos(y), torch.sin(x + y)])[None].double()


def test_the_gradient_reaches_the_box_and_is_right():
    image = smooth_image()
    boxes = torch.tensor([[0.487, 0.52, 0.413, 0.231]], dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 8, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def score(boxes):
        return (take_glimpses(image, boxes, (8, 12), 0.1)[0] * weights).sum()

    (gradient,) = torch.autograd.grad(score(boxes), boxes)
    step = 1e-6
    for i in range(4):
        shift = torch.zeros_like(boxes)
        shift[0, i] = step
        with torch.no_grad():
            difference = (score(boxes + shift) - score(boxes - shift)) / (2 * step)
        assert float(gradient[0, i]) == pytest.approx(float(difference), rel=1e-5)
        assert abs(float(gradient[0, i])) > 1e-3


@pytest.mark.parametrize(
    "box",
    [[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, -0.2, 0.1], [3.0, -2.0, 0.1, 0.1], [0.5, 0.5, 40.0, 40.0]],
)
def test_no_box_makes_glimpse_or_gradient_infinite(box):
    boxes = torch.tensor([box], requires_grad=True)
    glimpse = take_glimpses(torch.rand(1, 3, 20, 20), boxes, (8, 16), 0.1)
    glimpse.sum().backward()
    assert torch.isfinite(glimpse).all() and torch.isfinite(boxes.grad).all()


def test_a_tiny_box_is_shown_two_pixels_large():
    tiny = torch.tensor([[0.5, 0.5, 1e-4, 1e-4]], dtype=torch.float64)
    two = torch.tensor([[0.5, 0.5, 2 / 60, 2 / 40]], dtype=torch.float64)
    torch.testing.assert_close(take_glimpses(ramps(), tiny, (8, 8)), take_glimpses(ramps(), two, (8, 8)))


def test_boxes_are_carried_into_the_view():
    """A view of the search crop's middle half, once as it is and once mirrored."""
    boxes = torch.tensor([[0.5, 0.375, 0.25, 0.1], [0.3, 0.5, 0.2, 0.1]])
    view = torch.tensor([[[0.5, 0.0, 0.25], [0.0, 0.5, 0.25]], [[-0.5, 0.0, 0.75], [0.0, 0.5, 0.25]]])
    expected = torch.tensor([[0.5, 0.25, 0.5, 0.2], [0.9, 0.5, 0.4, 0.2]])
    torch.testing.assert_close(boxes_in_view(boxes, view), expected)


def test_columns_keep_their_place_from_left_to_right():
    torch.manual_seed(0)
    encoder = ColumnEncoder(columns=12, hidden_dim=8, height=16, width=8)
    glimpse = torch.rand(1, 3, 16, 48, requires_grad=True)
    columns = encoder(glimpse)
    assert columns.shape == (1, 12, 8)
    # group normalisation sees everything a little; a column depends most on its own part
    (gradient,) = torch.autograd.grad(columns[0, 9].square().sum(), glimpse)
    strength = gradient.abs().sum((0, 1, 2)).view(12, 4).sum(1)
    assert int(strength.argmax()) in (8, 9, 10)


def test_the_width_is_averaged_to_fewer_columns():
    encoder = ColumnEncoder(columns=7, hidden_dim=8, height=16, width=8)
    assert encoder(torch.zeros(2, 3, 16, 48)).shape == (2, 7, 8)


def test_columns_ask_other_features_of_another_width():
    torch.manual_seed(0)
    context = ColumnContext(8, context_dim=6, columns=5, heads=2)
    other = torch.randn(2, 3, 6, requires_grad=True)
    out = context(torch.randn(2, 5, 8), other)
    out[..., 0].sum().backward()
    assert out.shape == (2, 5, 8) and float(other.grad.abs().sum()) > 0
