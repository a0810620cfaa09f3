"""Scene conditions rendered onto real training frames, with their labels.

Any data set of boxes then teaches the task cls. Of the nine conditions those six can be rendered that need no
knowledge of the scene. As in the rendered world (`data.synthetic.conditions`) a flag is measured on the
result, not copied from the plan: a weak blur is no Motion Blur. The limits stand with the measures below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from mtltrack.core.conditions import condition_names
from mtltrack.core.errors import ConfigError, did_you_mean
from mtltrack.core.registry import TRANSFORMS
from mtltrack.data.effects import (
    Bar,
    Border,
    Coarseness,
    Effect,
    Fade,
    Light,
    Smear,
    inside,
    spread_points,
    view_box,
)
from mtltrack.data.transforms.base import Rendered, SceneView

if TYPE_CHECKING:
    from mtltrack.data.augment import SampleRandom

Numbers = np.random.RandomState


class Kind(NamedTuple):
    """A condition that can be rendered.

    Attributes:
        draw: view, strength in [0, 1], random numbers -> the effect.
        shows: effect, view -> whether the frame then truly shows the condition.
    """

    draw: Callable[[SceneView, float, Numbers], Effect]
    shows: Callable[[Effect, SceneView], bool]


def _extent(view: SceneView) -> np.ndarray:
    """Return width and height of the target in frame pixels."""
    return view.box_xyxy[2:] - view.box_xyxy[:2]


def _size(view: SceneView) -> float:
    return math.sqrt(_extent(view).prod())


def _blur(view: SceneView, strength: float, numbers: Numbers) -> Effect:
    """Smear along a bent path of up to 0.6 target sizes: the target alone, or the picture with it."""
    angle, bend, own = (float(value) for value in numbers.uniform([0, -1, 0], [2 * math.pi, 1, 1]))
    along = np.array([math.cos(angle), math.sin(angle)])
    aside = np.array([-along[1], along[0]])
    times = np.linspace(-0.5, 0.5, 65)[:, None]
    path = times * along + bend * times**2 * aside
    path *= 0.6 * strength * _size(view) / np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
    return Smear(path - path.mean(axis=0), view.box_xyxy if own < 0.5 else None)


def _is_blurred(effect: Effect, view: SceneView) -> bool:
    """The path is longer than a fifth of the target's size sqrt(w h)."""
    return isinstance(effect, Smear) and effect.length > 0.2 * _size(view)


def _light(view: SceneView, strength: float, numbers: Numbers) -> Effect:  # noqa: ARG001
    """Darken by up to 1.8 stops (to 29 %), or brighten by up to 1.2."""
    return Light(strength * (-1.8 if numbers.uniform() < 0.5 else 1.2))


def _is_lit_otherwise(effect: Effect, view: SceneView) -> bool:  # noqa: ARG001
    """The light changes by more than half a stop: by a factor above 1.41, or below 0.71."""
    return isinstance(effect, Light) and abs(effect.stops) > 0.5


def _coarse(view: SceneView, strength: float, numbers: Numbers) -> Effect:  # noqa: ARG001
    """Leave 40 to 8 of the camera's pixels across the target, as far as it had more."""
    across = 40 * (8 / 40) ** strength
    return Coarseness(max(_size(view) / across, 1.0))


def _is_coarse(effect: Effect, view: SceneView) -> bool:
    """The target has fewer than 400 of the camera's pixels (OTB's limit); also where nothing was rendered."""
    cell = effect.cell if isinstance(effect, Coarseness) else 1.0
    return float(_extent(view).prod()) / cell**2 < 400


def _fade(view: SceneView, strength: float, numbers: Numbers) -> Effect:  # noqa: ARG001
    """Blend the target with its surroundings until 15 % of it are left."""
    return Fade(1 - 0.85 * strength, view.box_xyxy)


def _is_faint(effect: Effect, view: SceneView) -> bool:
    """Less than 60 % of the target's look is left, and it differs from what is around it by less than 20 of
    255 levels, root mean square over the box.
    """
    return isinstance(effect, Fade) and effect.opacity < 0.6 and effect.contrast(view.image, view.affine) < 20


def _occlude(view: SceneView, strength: float, numbers: Numbers) -> Effect:
    """Put a bar before 10 % to 70 % of the target's box."""
    share = 0.1 + 0.6 * strength
    angle, start, sideways, reach = (
        float(value) for value in numbers.uniform([0, 0, 0, 1.1], [math.pi, 1 - share, 2, 3])
    )
    normal = np.array([math.cos(angle), math.sin(angle)])
    points = spread_points(view.box_xyxy)
    # between these two lines lies that share of the box
    first, last = np.quantile(points @ normal, [start, start + share])
    if sideways < 1:  # it comes from the side, and is broader than what it hides
        first, last = np.quantile(points @ normal, [0, share])
        first -= sideways * (last - first)
    along = np.array([-normal[1], normal[0]])
    middle = points.mean(axis=0)
    centre = middle + normal * ((first + last) / 2 - middle @ normal)
    half_length = reach * float(np.linalg.norm(_extent(view))) / 2
    return Bar(centre, along * half_length, normal * (last - first) / 2, _bar_texture(view, numbers))


def _bar_texture(view: SceneView, numbers: Numbers) -> np.ndarray:
    """Draw the look of a bar (32, 128, 3): one of the picture's colours stained with another, shaded."""
    shown = view.image[inside(view.affine, view.frame_size, view.image.shape)].reshape(-1, 3)
    first, second = shown[numbers.randint(len(shown), size=2)].astype(np.float64)
    stains = cv2.resize(numbers.uniform(0, 0.6, (4, 16)), (128, 32), interpolation=cv2.INTER_LINEAR)
    grain = numbers.normal(0, 5, (32, 128, 1))
    shading = 0.75 + 0.25 * np.sin(np.linspace(0.2, math.pi, 32))[:, None, None]
    colour = first + stains[..., None] * (second - first) + grain + numbers.uniform(-40, 40)
    return np.clip(colour * shading, 0, 255).astype(np.uint8)


def _is_occluded(effect: Effect, view: SceneView) -> bool:
    """The bar hides more than 15 % of the target's box."""
    return isinstance(effect, Bar) and float(effect.hides(spread_points(view.box_xyxy)).mean()) > 0.15


def _truncate(view: SceneView, strength: float, numbers: Numbers) -> Effect:
    """Let the frame end where up to 60 % of the target's box are beyond its left, top, right or low edge."""
    side = int(numbers.randint(4))
    axis, cut = side % 2, 0.6 * strength * _extent(view)[side % 2]
    limits = np.array([-np.inf, -np.inf, np.inf, np.inf])
    limits[side] = view.box_xyxy[axis] + cut if side < 2 else view.box_xyxy[axis + 2] - cut
    rest = Border(limits).visible_box(view.box_xyxy)
    return Border(limits) if _shows_middle(view, rest) else Effect()


def _is_cut_off(effect: Effect, view: SceneView) -> bool:
    """Less than 85 % of the target's box is inside the frame."""
    x1, y1, x2, y2 = effect.visible_box(view.box_xyxy)
    return bool((x2 - x1) * (y2 - y1) < 0.85 * _extent(view).prod())


KINDS = {
    "Occlusion": Kind(_occlude, _is_occluded),
    "Illumination Change": Kind(_light, _is_lit_otherwise),
    "Motion Blur": Kind(_blur, _is_blurred),
    "Partial Visibility": Kind(_truncate, _is_cut_off),
    "Low Resolution": Kind(_coarse, _is_coarse),
    "Low Contrast Object": Kind(_fade, _is_faint),
}
"""The conditions that can be rendered, by name."""


def _shows_middle(view: SceneView, box_xyxy: np.ndarray) -> bool:
    """Tell whether the middle of a box of the frame lies in the crop."""
    low, high = view_box(box_xyxy, view.affine)
    middle = (low + high) / 2
    return bool(((middle > 0) & (middle < len(view.image))).all())


@TRANSFORMS.register_module()
class RenderConditions:
    """Renders one scene condition onto a share of the search frames, and sets the labels of the task cls.

    A frame whose source tells its conditions keeps them and gets those that it shows because of the
    rendering. A frame without labels becomes labelled: of the conditions named here it is known which it
    shows, of others it isn't; the single label is the one that was rendered, or Normal. Whether such a frame
    showed a condition before isn't looked at, but for two that its box tells: a target of fewer than 400
    pixels has Low Resolution, and for one that touches the frame's border Partial Visibility isn't known
    unless it was rendered.

    Box and mask become what can still be seen (a bar hides pixels of the mask, the border cuts both), and
    plates and texts that can't be seen or read any more are no labels.

    Args:
        probability: share of the search frames that something is rendered onto, in [0, 1].
        conditions: names of the conditions to choose from; None: all six.
        strength: least and most strength, in [0, 1]. Weak effects stay below the limits of their flags.

    Raises:
        ConfigError: a value out of range, or a condition that can't be rendered.
    """

    labelled_tasks = ("cls",)

    def __init__(
        self,
        probability: float = 0.5,
        conditions: Sequence[str] | None = None,
        strength: Sequence[float] = (0.2, 1.0),
    ) -> None:
        if not 0 <= probability <= 1 or len(strength) != 2 or not 0 <= strength[0] <= strength[1] <= 1:
            raise ConfigError(
                "RenderConditions wants PROBABILITY in [0, 1] and STRENGTH [low, high] with 0 <= low <= high "
                f"<= 1; found {probability} and {list(strength)}"
            )
        self.probability = probability
        self.strength = (float(strength[0]), float(strength[1]))
        self.conditions = _known(KINDS if conditions is None else conditions)
        self._known = np.array([name in self.conditions for name in condition_names()])

    def draw(self, view: SceneView, rng: SampleRandom) -> Rendered:
        """Decide what happens to a frame, and measure what it then shows."""
        effect = Effect()
        if rng.chance(self.probability):
            kind = KINDS[rng.python.choice(self.conditions)]
            strength = float(rng.numpy.uniform(*self.strength))
            if _shows_middle(view, view.box_xyxy):
                effect = kind.draw(view, strength, rng.numpy)
        shown = {name for name in self.conditions if KINDS[name].shows(effect, view)}
        flags = np.array([name in shown for name in condition_names()])
        known = self._known.copy()
        if _touches_border(view):
            partial = condition_names().index("Partial Visibility")
            known[partial] &= flags[partial]
        return Rendered(effect, flags, known)


def _touches_border(view: SceneView) -> bool:
    box, (width, height) = view.box_xyxy, view.frame_size
    return bool((box[:2] <= 1).any() or box[2] >= width - 1 or box[3] >= height - 1)


def _known(names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        if name not in KINDS:
            raise ConfigError(
                f"RenderConditions can't render '{name}'.{did_you_mean(name, KINDS)} "
                f"CONDITIONS may name {', '.join(KINDS)}."
            )
    if not names or len(set(names)) != len(names):
        raise ConfigError(f"RenderConditions wants CONDITIONS each named once; found {list(names)}")
    return tuple(names)
