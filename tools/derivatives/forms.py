"""The gradients as formulas, each written out from the loss's definition, against automatic differentiation.

s is 2 y - 1, p the sigmoid or softmax of the logits z, p_t the probability of what is true.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from derivatives.comparison import BY_FORM, Check, Outcome, by_form, compare, normal, uniform
from derivatives.losses import CODES, LENGTHS, box_pairs, class_targets, heat_maps, masks
from mtltrack.core.conditions import UNLABELLED
from mtltrack.losses.alert import alert_logit, alert_loss
from mtltrack.losses.boxes import boxes_xyxy_to_cxcywh, ciou_loss, distribution_focal_loss, giou_loss
from mtltrack.losses.classification import (
    cross_entropy,
    label_smoothed_cross_entropy,
    multi_label_bce,
    softmax_focal_loss,
)
from mtltrack.losses.ctc import ctc_loss
from mtltrack.losses.focal import heatmap_focal_loss
from mtltrack.losses.masks import EMPTY, dice_loss, mask_bce
from mtltrack.models.layers.places import mean_cell

TOLERANCE = 1e-10


# --- classification


def bce() -> Outcome:
    """p - y: per pixel of a mask its share, per flag its share of the known ones."""
    z, q = normal(3, 5, 6), masks()
    pixels = by_form(lambda z: mask_bce(z, q), [(z.sigmoid() - q) / 30], z)
    logits, flags = normal(4, 5), (normal(4, 5, seed=1) > 0).long()
    flags[0, 0] = flags[2, 3] = UNLABELLED
    known = (flags != UNLABELLED).double()
    form = known * (logits.sigmoid() - flags) / known.sum(1, keepdim=True)
    several = by_form(lambda z: multi_label_bce(z, flags), [form], logits)
    return Outcome(max(pixels.error, several.error), pixels.compared + several.compared)


def binary_focal(alpha: float = 0.25, gamma: float = 2.0) -> Outcome:
    """s alpha_t (1 - p_t)^g (g p_t log p_t + p_t - 1)."""
    z, y = normal(40, scale=2), (normal(40, seed=1) > 0).double()
    p_t = torch.where(y == 1, z.sigmoid(), (-z).sigmoid())
    alpha_t = torch.where(y == 1, alpha, 1 - alpha)
    form = (2 * y - 1) * alpha_t * (1 - p_t) ** gamma * (gamma * p_t * p_t.log() + p_t - 1)
    return by_form(lambda z: sigmoid_focal_loss(z, y, alpha, gamma), [form], z)


def softmax_focal(alpha: float = 0.25, gamma: float = 2.0) -> Outcome:
    """alpha [g (1 - p_t)^(g - 1) p_t log p_t - (1 - p_t)^g] (1[j = t] - p_j)."""
    z, target = normal(8, 5), class_targets(8, 5)
    p, one = z.softmax(1), _one_hot(target, 5)
    p_t = (p * one).sum(1, keepdim=True)
    factor = gamma * (1 - p_t) ** (gamma - 1) * p_t * p_t.log() - (1 - p_t) ** gamma
    form = alpha * torch.where(p_t > 0, factor, 0.0) * (one - p)
    return by_form(lambda z: softmax_focal_loss(z, target, alpha, gamma), [form], z)


def categorical() -> Outcome:
    """p_k - 1[k = y], and with smoothing s: p_k - (1 - s) 1[k = y] - s / K."""
    z, target, smoothing = normal(8, 5), class_targets(8, 5), 0.1
    one = _one_hot(target, 5)
    known = one.sum(1, keepdim=True)
    plain = by_form(lambda z: cross_entropy(z, target), [known * (z.softmax(1) - one)], z)
    form = known * (z.softmax(1) - (1 - smoothing) * one - smoothing / 5)
    smooth = by_form(lambda z: label_smoothed_cross_entropy(z, target, smoothing), [form], z)
    return Outcome(max(plain.error, smooth.error), plain.compared + smooth.compared)


def _one_hot(target: Tensor, classes: int) -> Tensor:
    """Return (N, K); unlabelled rows are zero."""
    known = target != UNLABELLED
    return F.one_hot(target.clamp(min=0), classes).double() * known[:, None]


def heat_map() -> Outcome:
    """On p: 2 (1 - p) log p - (1 - p)^2 / p at positives, else (1 - h)^4 (p^2 / (1 - p) - 2 p log(1 - p))."""
    p, h = uniform(2, 6, 6, low=0.02, high=0.98), heat_maps()
    positive = 2 * (1 - p) * p.log() - (1 - p) ** 2 / p
    negative = (1 - h) ** 4 * (p**2 / (1 - p) - 2 * p * (1 - p).log())
    form = torch.where(h == 1, positive, negative) / (h == 1).sum((1, 2), keepdim=True)
    return by_form(lambda p: heatmap_focal_loss(p, h), [form], p)


# --- boxes


def _sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return (boxes[:, 2:] - boxes[:, :2]).unbind(1)


def _area_gradient(sides: tuple[Tensor, Tensor], low_moves: Tensor, high_moves: Tensor) -> Tensor:
    """Return d(w h) / d(x1, y1, x2, y2): a corner that moves the side takes from it, or adds to it."""
    width, height = sides
    other = torch.stack([height, width], dim=1)
    return torch.cat([-other * low_moves, other * high_moves], dim=1)


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return intersection and union (N,) and their gradients on the corners of `a` (N, 4)."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    meet = (high > low).all(1)
    sides = tuple((high - low).clamp(min=0).unbind(1))
    common = torch.where(meet, sides[0] * sides[1], 0.0)
    moves = [meet[:, None] & (a[:, :2] > b[:, :2]), meet[:, None] & (a[:, 2:] < b[:, 2:])]
    d_common = _area_gradient(sides, *moves)
    everywhere = torch.ones_like(a[:, :2])
    union = math.prod(_sides(a)) + math.prod(_sides(b)) - common
    return common, union, d_common, _area_gradient(_sides(a), everywhere, everywhere) - d_common


def _iou_gradient(a: Tensor, b: Tensor) -> Tensor:
    common, union, d_common, d_union = (
        value if value.ndim == 2 else value[:, None] for value in _overlap(a, b)
    )
    return d_common / union - common * d_union / union**2


def _enclosing(a: Tensor, b: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
    """Return the sides of the smallest enclosing box, and which corners of `a` move it: lower, upper."""
    high, low = torch.maximum(a[:, 2:], b[:, 2:]), torch.minimum(a[:, :2], b[:, :2])
    width, height = (high - low).unbind(1)
    return (width, height), a[:, :2] < b[:, :2], a[:, 2:] > b[:, 2:]


def giou() -> Outcome:
    """L = 2 - I / U - U / C, so dL = -d(I / U) - dU / C + U dC / C^2."""
    a, b = box_pairs()
    _, union, _, d_union = _overlap(a, b)
    sides, *moves = _enclosing(a, b)
    outer = (sides[0] * sides[1])[:, None]
    form = -_iou_gradient(a, b) - d_union / outer + union[:, None] * _area_gradient(sides, *moves) / outer**2
    return by_form(lambda a: giou_loss(a, b), [form], a)


def shape_gradient(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return dv/dw and dv/dh, v = (4 / pi^2) (atan(w_g / h_g) - atan(w / h))^2."""
    (w, h), (w_g, h_g) = _sides(a), _sides(b)
    angle = torch.atan(w_g / h_g) - torch.atan(w / h)
    return (
        -(8 / math.pi**2) * angle * h / (w**2 + h**2),
        (8 / math.pi**2) * angle * w / (w**2 + h**2),
    )


def distance_gradient(a: Tensor, b: Tensor) -> Tensor:
    """Return (1 / c^2) d rho^2 - (rho^2 / c^4) d c^2 on the corners of `a`."""
    apart = (boxes_xyxy_to_cxcywh(a) - boxes_xyxy_to_cxcywh(b))[:, :2]  # a corner moves the centre by half
    (width, height), low, high = _enclosing(a, b)
    sides = torch.stack([width, height], dim=1)
    diagonal = (sides**2).sum(1, keepdim=True)
    d_diagonal = torch.cat([-2 * sides * low, 2 * sides * high], dim=1)
    squared = (apart**2).sum(1, keepdim=True)
    return torch.cat([apart, apart], dim=1) / diagonal - squared / diagonal**2 * d_diagonal


def _shape(w: Tensor, h: Tensor, b: Tensor) -> Tensor:
    w_g, h_g = _sides(b)
    return (4 / math.pi**2) * (torch.atan(w_g / h_g) - torch.atan(w / h)) ** 2


def ciou_shape() -> Outcome:
    """dv/dw = -(8 / pi^2) (...) h / (w^2 + h^2), dv/dh = +(8 / pi^2) (...) w / (w^2 + h^2)."""
    a, b = box_pairs()
    return by_form(lambda w, h: _shape(w, h, b), shape_gradient(a, b), *_sides(a))


def ciou_distance() -> Outcome:
    """(1 / c^2) d rho^2 - (rho^2 / c^4) d c^2; the second term is easily forgotten."""
    a, b = box_pairs()

    def term(a: Tensor) -> Tensor:
        (width, height), *_ = _enclosing(a, b)
        squared = (boxes_xyxy_to_cxcywh(a) - boxes_xyxy_to_cxcywh(b))[:, :2].square().sum(1)
        return squared / (width**2 + height**2)

    return by_form(term, [distance_gradient(a, b)], a)


def ciou() -> Outcome:
    """The loss's own gradient: -d IoU + the distance's + alpha dv, alpha held."""
    a, b = box_pairs()
    common, union, _, _ = _overlap(a, b)
    v = _shape(*_sides(a), b)
    alpha = (v / (1 - common / union + v))[:, None]
    by_side = torch.stack(shape_gradient(a, b), dim=1)  # (N, 2); a side grows with its upper corner
    form = -_iou_gradient(a, b) + distance_gradient(a, b) + alpha * torch.cat([-by_side, by_side], dim=1)
    return by_form(lambda a: ciou_loss(a, b), [form], a)


def dfl() -> Outcome:
    """S - q, q the two bins around the number."""
    z, y = normal(8, 7), uniform(8, seed=5, low=0.1, high=5.9)
    left, row = y.floor().long(), torch.arange(8)
    q = torch.zeros(8, 7, dtype=torch.float64)
    q[row, left], q[row, left + 1] = 1 - (y - left), y - left
    return by_form(lambda z: distribution_focal_loss(z, y), [z.softmax(1) - q], z)


# --- masks, texts, the alert, layers


def dice() -> Outcome:
    """-[2 q S - (2 I + e)] / S^2 p (1 - p), I = sum(p q), S = sum p + sum q + e."""
    z, q = normal(3, 5, 6), masks()
    p = z.sigmoid()
    common = (p * q).sum((1, 2), keepdim=True)
    total = p.sum((1, 2), keepdim=True) + q.sum((1, 2), keepdim=True) + EMPTY
    form = -(2 * q * total - (2 * common + EMPTY)) / total**2 * p * (1 - p)
    return by_form(lambda z: dice_loss(z, q), [form], z)


def ctc() -> Outcome:
    """y_k - (sum of the paths' shares that are at k), by the forward-backward recursion in float64.

    Graves et al., ICML 2006, equations 6 to 16, written out in numpy.
    """
    z = normal(3, 7, 5)
    form, values = torch.zeros_like(z), []
    for row in range(3):
        codes = CODES[row, : LENGTHS[row]].tolist()
        probability, shares = forward_backward(z[row].softmax(1).numpy(), codes)
        form[row] = (z[row].softmax(1) - torch.from_numpy(shares)) / len(codes)
        values.append(-math.log(probability) / len(codes))
    found = ctc_loss(z, CODES, LENGTHS)
    gradient = by_form(lambda z: ctc_loss(z, CODES, LENGTHS), [form], z)
    value = compare((found, torch.tensor(values, dtype=torch.float64)))
    return Outcome(max(gradient.error, value.error), gradient.compared + value.compared, "values too")


def forward_backward(probabilities: np.ndarray, codes: list[int]) -> tuple[float, np.ndarray]:
    """Return a text's probability, and of each column the shares (W, K) of its paths that are at a class."""
    states = [0]
    for code in codes:
        states += [code, 0]
    columns, count = len(probabilities), len(states)

    def sums(order: range, come: int) -> np.ndarray:
        """Run one direction; `come` is 1 for forward (states come from before) and -1 for backward."""
        found = np.zeros((columns, count))
        first = [0, 1] if come == 1 else [count - 1, count - 2]
        for state in first:
            found[order[0], state] = probabilities[order[0], states[state]]
        for before, column in pairwise(order):
            for state, code in enumerate(states):
                ways = [state, state - come]
                if code and 0 <= state - 2 * come < count and states[state - 2 * come] != code:
                    ways.append(state - 2 * come)
                total = sum(found[before, way] for way in ways if 0 <= way < count)
                found[column, state] = total * probabilities[column, code]
        return found

    forward, backward = sums(range(columns), 1), sums(range(columns - 1, -1, -1), -1)
    whole = forward[-1, -1] + forward[-1, -2]
    shares = np.zeros_like(probabilities)
    for state, code in enumerate(states):
        shares[:, code] += forward[:, state] * backward[:, state] / probabilities[:, code] / whole
    return float(whole), shares


def alert() -> Outcome:
    """sigmoid(z) - y, and of the product's logit on a: (1 - sigmoid(a)) / (1 - sigmoid(a) sigmoid(b))."""
    z, y = normal(8, scale=3), normal(8, seed=1) > 0
    loss = by_form(lambda z: alert_loss(z, y), [z.sigmoid() - y.double()], z)
    a, b = normal(8, seed=2, scale=2), normal(8, seed=3, scale=2)
    rest = 1 - a.sigmoid() * b.sigmoid()
    logit = by_form(alert_logit, [(-a).sigmoid() / rest, (-b).sigmoid() / rest], a, b)
    return Outcome(max(loss.error, logit.error), loss.compared + logit.compared)


def layer_norm(eps: float = 1e-6) -> Outcome:
    """The whole Jacobian, (gamma / sigma) (I - 1 1^T / d - x^ x^^T / d)."""
    x, gamma, beta = normal(7, scale=2), uniform(7, seed=1, low=0.5, high=2), normal(7, seed=2)
    found = torch.autograd.functional.jacobian(lambda x: F.layer_norm(x, (7,), gamma, beta, eps), x)
    sigma = (x.var(correction=0) + eps).sqrt()
    unit = (x - x.mean()) / sigma
    one = torch.ones(7, dtype=torch.float64)
    inner = torch.eye(7, dtype=torch.float64) - torch.outer(one, one) / 7 - torch.outer(unit, unit) / 7
    return compare((found, gamma[:, None] / sigma * inner))


def soft_argmax() -> Outcome:
    """Of the mean cell on a cell's log odds: its weight times its distance from the mean."""
    z, offsets = normal(1, 1, 1, 3, 4), normal(1, 1, 2, 3, 4, seed=1, scale=0.2)
    weights = z.flatten().softmax(0)
    y, x = torch.meshgrid(torch.arange(3.0), torch.arange(4.0), indexing="ij")
    forms = []
    for axis, (cell, cells) in enumerate(((x, 4), (y, 3))):
        places = (cell + offsets[0, 0, axis]).flatten() / cells
        slope = weights * (places - (weights * places).sum())
        forms.append(by_form(lambda z, axis=axis: _mean(z, offsets)[axis], [slope.view_as(z)], z))
    return Outcome(max(form.error for form in forms), sum(form.compared for form in forms))


def _mean(logits: Tensor, offsets: Tensor) -> Tensor:
    return mean_cell(logits.sigmoid(), offsets)[0, 0]


FORMS = {
    "bce": bce,
    "binary_focal": binary_focal,
    "softmax_focal": softmax_focal,
    "ce": categorical,
    "heatmap_focal": heat_map,
    "giou": giou,
    "ciou_shape": ciou_shape,
    "ciou_distance": ciou_distance,
    "ciou": ciou,
    "dfl": dfl,
    "dice": dice,
    "ctc": ctc,
    "alert": alert,
    "layer_norm": layer_norm,
    "soft_argmax": soft_argmax,
}


def checks() -> list[Check]:
    """Return one check a formula."""
    return [Check(f"forms/{name}", BY_FORM, TOLERANCE, form) for name, form in FORMS.items()]
