"""Gradient norms of wide random networks, by adding up squared gains over all paths.

Weights of deviation gain * sqrt(2 / fan-in) and a ReLU multiply the squared norm of a gradient by gain^2 on
average, whatever the kernel (Delving Deep into Rectifiers, He et al. 2015, section 2.2). Gradients that came
over different random weights are uncorrelated, so their squares add.

A batch norm behind the convolution divides by the deviation of what the convolution gives, and that has
gain^2 * 2 s as variance where its inputs have s: their mean is removed. ReLUs of normal numbers have
s = (1 - 1 / pi) / 2, which makes the factor Q = pi / (pi - 1) = 1.47 without the gain (A Mean Field Theory
of Batch Normalization, Yang et al. 2019); a sum of k such terms has k s, and the factor Q / k. Where a ReLU
follows a sum (ResNet v1), and for attention, nothing is expected here.
"""

from __future__ import annotations

import math

from flow.designs import UNIT
from flow.measure import Setting

Q = math.pi / (math.pi - 1)  # of the squared norm, for convolution, batch norm and ReLU behind a ReLU


def expected_decades(setting: Setting) -> float | None:
    """Return log10 of |gradient at the input| / |gradient at the output|, or None."""
    blocks = setting.depth // UNIT
    if setting.design == "preact" and setting.norm:
        return math.log10(preact_growth(setting.gain, 2 * blocks)) / 2
    growth = normalised_growth() if setting.norm else free_growth(setting.gain)
    if setting.design not in growth:
        return None
    return blocks * math.log10(growth[setting.design]) / 2


def free_growth(gain: float) -> dict[str, float]:
    """Return by how much a block multiplies the squared norm of a gradient, without norms."""
    unit = gain**2
    both = 1 + unit**2  # an identity beside two units
    return {
        "plain": unit**4,
        "preact": both**2,
        "csp": unit / 2 * (1 + unit * both**2),
        "elan": unit**2 / 4 * (2 + unit**2 + unit**4),
        "c2f": unit**2 / 4 * (2 + both + both**2),
    }


def normalised_growth() -> dict[str, float]:
    """Return by how much a block multiplies the squared norm of a gradient, with batch norms."""
    first, second = 1 + Q**2, 1 + Q**2 / 2  # the second bottleneck reads a sum of two terms
    return {
        "plain": Q**4,
        "csp": Q / 2 * (1 + Q / 3 * first * second),
        "elan": Q**2 / 4 * (2 + Q**2 + Q**4),
        "c2f": Q**2 / 7 * (2 + first + first * second),  # of the variances 1, 1, 2, 3 at the transition
    }


def preact_growth(gain: float, branches: int) -> float:
    """Return by how much a stack of pre-activation branches multiplies the squared norm of a gradient.

    The signal's variance grows from 1 by gain^2 / Q a branch, and a branch's first norm divides by it: a
    power of the depth, where other designs have a power whose exponent is the depth.
    """
    variances = (1 + index * gain**2 / Q for index in range(branches))
    return math.prod(1 + gain**2 * Q / variance for variance in variances)
