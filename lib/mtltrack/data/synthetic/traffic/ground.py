"""The ground: carriageway, kerbs, pavements, grass, markings, and the grain of their surfaces.

Colours here are those of the surfaces themselves, in pixel values; light comes later.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.textures import noise
from mtltrack.data.synthetic.traffic.camera import Camera
from mtltrack.data.synthetic.traffic.road import FAR, SIDE_STREET, Road
from mtltrack.data.synthetic.traffic.scene import Plan, Zone

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Colour = tuple[float, float, float]
KERB = 0.18  # metres
GRAINY = 60.0  # metres; farther away no grain can be seen
BITS = 4


class Brush:
    """Draws polygons of the ground into a picture.

    Args:
        image: drawn into, uint8 RGB.
        camera: of the picture.
    """

    def __init__(self, image: Image, camera: Camera) -> None:
        self.image, self.camera = image, camera
        self.nearest = _nearest(camera)

    def polygon(self, ground: Array, colour: Colour) -> None:
        """Fill a convex polygon (N, 2) on the ground; the part behind the camera is cut off."""
        kept = self._before_camera(ground)
        if len(kept) >= 3:
            pixels = np.clip(self.camera.project_ground(kept) - 0.5, -30000, 30000)
            fixed = np.round(pixels * 2**BITS).astype(np.int32)
            cv2.fillConvexPoly(self.image, fixed, colour, cv2.LINE_AA, BITS)

    def strip(self, left: float, right: float, near: float, far: float, colour: Colour) -> None:
        """Fill a rectangle along the road."""
        self.polygon(np.array([[left, near], [right, near], [right, far], [left, far]]), colour)

    def _before_camera(self, ground: Array) -> Array:
        """Cut off what isn't at least `nearest` metres before the camera along the way it looks."""
        seen = self.camera.project(np.column_stack([ground, np.zeros(len(ground))]))[:, 2] - self.nearest
        kept = []
        for k in range(len(ground)):
            before, here = seen[k - 1], seen[k]
            if (before >= 0) != (here >= 0):
                share = before / (before - here)
                kept.append(ground[k - 1] + share * (ground[k] - ground[k - 1]))
            if here >= 0:
                kept.append(ground[k])
        return np.array(kept)


def _nearest(camera: Camera) -> float:
    """Return how near the ground is drawn, metres along the way the camera looks: below the frame."""
    return max(float(camera.ground_depth(np.array([2.3 * camera.centre[1]]))[0]), 0.3)


def paint_ground(rng: np.random.Generator, image: Image, plan: Plan, camera: Camera) -> None:
    """Paint the ground of a plan over the whole picture."""
    road = plan.road
    brush = Brush(image, camera)
    verge = rng.choice(["grass", "paving", "gravel"])
    base = {"grass": (92, 108, 62), "paving": (150, 146, 140), "gravel": (140, 130, 114)}[str(verge)]
    image[:] = _varied(rng, base, 10)
    _paint_surfaces(rng, brush, road)
    _paint_wear(rng, brush, road)
    _grain(rng, image, camera)
    _paint_markings(rng, brush, road)
    for zone in plan.zones.values():
        _paint_zone(rng, brush, road, zone)


def _varied(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    r, g, b = np.clip(np.add(colour, rng.uniform(-spread, spread)), 0, 255)
    return (float(r), float(g), float(b))


def _paint_surfaces(rng: np.random.Generator, brush: Brush, road: Road) -> None:
    asphalt = _varied(rng, (104, 104, 106), 16)
    paving = _varied(rng, (158, 154, 148), 16)
    kerb = _varied(rng, (178, 176, 170), 10)
    near, far = -20.0, 3 * FAR
    brush.strip(road.left - road.walk, road.right + road.walk, near, far, paving)
    brush.strip(road.left - KERB, road.right + KERB, near, far, kerb)
    if road.corner is not None:
        y, side = road.corner
        half, edge = SIDE_STREET / 2, road.right if side > 0 else road.left
        x = sorted((edge, edge + side * 60))
        brush.strip(x[0], x[1], y - half - road.walk, y + half + road.walk, paving)
        brush.strip(x[0], x[1], y - half, y + half, asphalt)
    brush.strip(road.left, road.right, near, far, asphalt)
    brush.strip(road.left, road.left + 0.35, near, far, _varied(rng, asphalt, 12))
    brush.strip(road.right - 0.35, road.right, near, far, _varied(rng, asphalt, 12))


def _paint_wear(rng: np.random.Generator, brush: Brush, road: Road) -> None:
    """Paint wheel tracks, patches and covers."""
    overlay = Brush(brush.image.copy(), brush.camera)
    for x, _ in road.lanes:
        for offset in (-0.8, 0.8):
            overlay.strip(x + offset - 0.3, x + offset + 0.3, -20, 3 * FAR, (84, 84, 86))
        overlay.strip(x - 0.25, x + 0.25, -20, 3 * FAR, (94, 92, 90))
    for _ in range(int(rng.integers(2, 7))):
        x, y = float(rng.uniform(road.left, road.right - 2)), float(rng.uniform(3, 40))
        tone = float(rng.uniform(60, 150))
        overlay.strip(x, x + float(rng.uniform(0.8, 3)), y, y + float(rng.uniform(1, 7)), (tone, tone, tone))
    cv2.addWeighted(overlay.image, 0.35, brush.image, 0.65, 0, dst=brush.image)
    for _ in range(int(rng.integers(1, 5))):
        x, y = (float(rng.uniform(road.left + 0.5, road.right - 0.5)), float(rng.uniform(4, 30)))
        angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        brush.polygon(np.column_stack([x + 0.34 * np.cos(angle), y + 0.34 * np.sin(angle)]), (66, 64, 62))


def _grain(rng: np.random.Generator, image: Image, camera: Camera) -> None:
    """Add the surfaces' unevenness: fine grain that fades with the distance, and wide stains."""
    depth = camera.ground_depth(np.arange(image.shape[0]) + 0.5)
    first = int(np.searchsorted(-depth, -GRAINY))  # rows above are farther away
    below = image[first:]
    if len(below) < 2:
        return
    lower = Camera(camera.position, camera.axes, camera.focal, camera.centre - [0, first])
    total = np.zeros(below.shape[:2], np.float32)
    for metres, cells, height in ((3.0, 24, 26.0), (22.0, 4, 30.0)):
        texture = np.round(255 * noise(rng, 256, 256, cells=cells, octaves=4)).astype(np.uint8)
        matrix = lower.ground_matrix() @ np.diag([metres / 256, metres / 256, 1.0])
        seen = cv2.warpPerspective(texture, matrix, below.shape[1::-1], borderMode=cv2.BORDER_REFLECT)
        fade = height * np.clip(metres * camera.focal / depth[first:] / 300, 0, 1)
        total += (seen.astype(np.float32) / 255 - 0.5) * fade[:, None].astype(np.float32)
    cv2.add(below, cv2.merge([total] * 3), dst=below, dtype=cv2.CV_8U)


def _paint_markings(rng: np.random.Generator, brush: Brush, road: Road) -> None:
    white = _varied(rng, (206, 206, 202), 14)
    yellow = _varied(rng, (200, 160, 50), 10)
    centre = yellow if rng.random() < 0.4 else white
    if rng.random() < 0.4:
        for x in (-0.12, 0.12):
            brush.strip(x - 0.06, x + 0.06, -20, 2 * FAR, centre)
    else:
        _dashes(brush, 0.0, 3.0, 4.5, centre)
    for x, _ in road.lanes:
        border = abs(x) + 1.6
        inner = [other for other, _ in road.lanes if other * x > 0 and abs(other) > abs(x)]
        if inner:
            _dashes(brush, float(np.sign(x)) * border, 2.0, 4.0, white)
    for strip in road.strips:
        _bays(rng, brush, strip, white)
    if rng.random() < 0.35:
        _crossing(brush, road, float(rng.uniform(8, 30)), white)


def _paint_zone(rng: np.random.Generator, brush: Brush, road: Road, zone: Zone) -> None:
    """Paint a no-parking zone on the carriageway: hatched, or only its border; many aren't marked at all."""
    low, high = zone.low.copy(), zone.high.copy()
    low[0], high[0] = np.clip([low[0], high[0]], road.left + 0.1, road.right - 0.1)
    style, wide = rng.random(), 0.11
    if style < 0.4 or (high - low).min() < 1:
        return
    colour = _varied(rng, (204, 166, 52) if rng.random() < 0.7 else (196, 196, 192), 12)
    for x in (low[0], high[0] - wide):
        brush.strip(x, x + wide, low[1], high[1], colour)
    for y in (low[1], high[1] - wide):
        brush.strip(low[0], high[0], y, y + wide, colour)
    if style < 0.6:
        return
    corners = np.array([low, [high[0], low[1]], high, [low[0], high[1]]], np.float32)
    for start in np.arange(low[0] - (high[1] - low[1]), high[0], 1.1):
        line = np.array([[start, low[1]], [start + 1.4 * wide, low[1]]])
        slanted = np.concatenate([line, line[::-1] + (high[1] - low[1])]).astype(np.float32)
        _, stripe = cv2.intersectConvexConvex(slanted, corners)
        if stripe is not None and len(stripe) >= 3:
            brush.polygon(stripe.reshape(-1, 2).astype(np.float64), colour)


def _dashes(brush: Brush, x: float, length: float, gap: float, colour: Colour) -> None:
    for y in np.arange(-10, 1.2 * FAR, length + gap):
        brush.strip(x - 0.07, x + 0.07, float(y), float(y) + length, colour)


def _bays(rng: np.random.Generator, brush: Brush, strip: float, colour: Colour) -> None:
    """Paint the border of a parking strip, and perhaps the borders between its bays."""
    inner = strip - np.sign(strip) * 1.15
    brush.strip(inner - 0.06, inner + 0.06, -20, 1.5 * FAR, colour)
    if rng.random() < 0.5:
        return
    outer = strip + np.sign(strip) * 1.1
    for y in np.arange(-6, 60, 6.0):
        brush.strip(min(inner, outer), max(inner, outer), float(y) - 0.06, float(y) + 0.06, colour)


def _crossing(brush: Brush, road: Road, y: float, colour: Colour) -> None:
    for x in np.arange(road.left + 0.4, road.right - 0.5, 1.0):
        brush.strip(float(x), float(x) + 0.5, y, y + 3.2, colour)
