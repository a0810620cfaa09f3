"""Drawing the plan of a sequence: scene by scene until one suits the story."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError
from mtltrack.core.stopping import StopRule
from mtltrack.data.synthetic.plates import Plate, draw_plate
from mtltrack.data.synthetic.traffic.cast import flowing, parked
from mtltrack.data.synthetic.traffic.episodes import BROUGHT_IN, LEAD, draw_episodes
from mtltrack.data.synthetic.traffic.lights import draw_light
from mtltrack.data.synthetic.traffic.occluders import called_for
from mtltrack.data.synthetic.traffic.ordering import footprint_at, is_nearer
from mtltrack.data.synthetic.traffic.placement import Stage, place_target
from mtltrack.data.synthetic.traffic.road import VIEWS, draw_camera, draw_road
from mtltrack.data.synthetic.traffic.scene import Actor, Plan, Zone, bounds, boxes_meet, silhouettes
from mtltrack.data.synthetic.traffic.story import ALERTING, KINDS, Story, draw_story
from mtltrack.data.synthetic.traffic.vehicles import draw_vehicle
from mtltrack.data.synthetic.traffic.zoning import draw_zones

Array = NDArray[np.float64]
ATTEMPTS = 200
NATURAL = ("Scale Variation", "Variance in Appearance", "Partial Visibility")
FREE = 0.4  # share of the sequences in which the target may do all of these
NATURAL_SHARE = 0.25  # of the others, each
GOLDEN = 0.6180339887498949
CLOSE_VIEWS = ("gate", "gate", "pole", "bridge")
SHAKE = 3.0  # whole pixels, at the most


@dataclass(frozen=True)
class Settings:
    """The arguments of TrafficSequences that shape a plan; see there."""

    seed: int
    frames: int
    size: tuple[int, int]
    fps: float
    conditions: tuple[str, ...]
    kinds: tuple[str, ...]
    plate_kinds: tuple[str, ...]
    rule: StopRule


def make_plan(settings: Settings, sequence: int) -> Plan:
    """Draw what is fixed for a sequence from (seed, sequence).

    Raises:
        DataError: no view of the road suits (tiny or very narrow frames).
    """
    key = (settings.seed, sequence)
    kind = _kind(settings, sequence)
    plates = _plates(settings, key)
    for attempt in range(ATTEMPTS):
        plan = _draw(np.random.default_rng([*key, 0, attempt]), settings, key, kind, plates)
        if plan is not None:
            return plan
    raise DataError(
        f"no view of the road shows a target of a useful size in frames of {settings.size[0]} x "
        f"{settings.size[1]} pixels (kind '{kind}'). Choose a SIZE nearer to 640 x 360."
    )


def _plates(settings: Settings, key: tuple[int, int]) -> tuple[Plate, Plate]:
    """Draw the target's plate, and the one that all other vehicles carry."""
    rng = np.random.default_rng([*key, 5])
    kind = settings.plate_kinds[int(rng.integers(len(settings.plate_kinds)))]
    return draw_plate(rng, kind), draw_plate(rng, kind)


def _kind(settings: Settings, sequence: int) -> str:
    """Choose a kind so that any few sequences in a row have them in about the right shares."""
    shares = np.array([KINDS[kind] for kind in settings.kinds])
    start = np.random.default_rng([settings.seed, 1]).random()
    place = (start + sequence * GOLDEN) % 1.0
    return settings.kinds[min(int(np.searchsorted(np.cumsum(shares / shares.sum()), place)), len(shares) - 1)]


def _order(settings: Settings, sequence: int) -> tuple[str, ...]:
    """Return the conditions that the episodes bring in, in this sequence's order."""
    brought = [name for name in settings.conditions if name in BROUGHT_IN]
    order = np.random.default_rng([settings.seed, 2]).permutation(len(brought))
    start = 3 * sequence  # few sequences of several episodes each bring in all conditions
    return tuple(brought[order[(start + k) % len(order)]] for k in range(len(order)))


def _draw(
    rng: np.random.Generator, settings: Settings, key: tuple[int, int], kind: str, plates: tuple[Plate, Plate]
) -> Plan | None:
    """Draw one scene; None when the target can't be seen well in it, or no zone fits."""
    story = draw_story(rng, kind, settings.frames, settings.fps, settings.rule.seconds)
    road, side = draw_road(rng), int(rng.choice([-1, 1]))
    if road.corner is not None and rng.random() < 0.5:
        side = road.corner[1]  # where the target can turn off
    view = str(rng.choice(CLOSE_VIEWS if kind == "approach" else (*VIEWS, "gate")))
    wanted = NATURAL if rng.random() < FREE else [name for name in NATURAL if rng.random() < NATURAL_SHARE]
    natural = frozenset(wanted) & frozenset(settings.conditions)
    stage = Stage(road, draw_camera(rng, view, road, side, settings.size), settings.size, side, natural)
    placed = place_target(rng, stage, draw_vehicle(rng, plates[0]), story)
    if placed is None:
        return None
    target, story = placed
    zones = _zones(rng, settings, stage, target, story)
    if zones is None:
        return None
    episodes = draw_episodes(rng, _order(settings, key[1]), settings.frames)
    called = [called_for(rng, stage, target, story, episode, plates[1]) for episode in episodes]
    guests = [
        actor for actors, _ in called for actor in actors if not _starts_before(stage, actor, target, story)
    ]
    figures = [figure for _, figures in called for figure in figures]
    taken = {float(actor.path.points[0, 0]) for actor in guests}
    ways = [target.poses(story.times)[:, :1], *(figure.places(story.times)[:, :1] for figure in figures)]
    taken |= {x for x, _ in road.lanes if min(np.abs(way - x).min() for way in ways) < 1.8}
    traffic = flowing(rng, stage, taken, plates[1])
    others = [*guests, *(actor for actor in traffic if not _starts_before(stage, actor, target, story))]
    still = parked(rng, stage, target, story, plates[1])
    return Plan(
        key=key,
        size=settings.size,
        view=view,
        road=road,
        camera=stage.camera,
        light=draw_light(rng),
        story=story,
        target=target,
        others=(*others, *(actor for actor in still if not _hides_long(stage, actor, target, story))),
        figures=tuple(figures),
        episodes=episodes,
        zones=zones,
        shake=_shake(rng, settings),
    )


def _starts_before(stage: Stage, actor: Actor, target: Actor, story: Story) -> bool:
    """Say whether a vehicle hides the target in the first frames, which must show it well."""
    times = story.times[:LEAD]
    points, own = (silhouettes(stage.camera, a.vehicle, a.poses(times)) for a in (actor, target))
    return bool(boxes_meet(points, bounds(own)).any())


def _hides_long(stage: Stage, actor: Actor, target: Actor, story: Story) -> bool:
    """Say whether a parked vehicle stands before the target at the start, or where the target halts."""
    times = np.append(story.times[:1], story.halt if np.isfinite(story.halt) else story.times[:0])
    own = bounds(silhouettes(stage.camera, target.vehicle, target.poses(times)))
    points = silhouettes(stage.camera, actor.vehicle, actor.poses(times))
    there = footprint_at(actor.vehicle.footprint(), actor.poses(times)[0])
    return any(
        meets and is_nearer(there, footprint_at(target.vehicle.footprint(), pose), stage.camera.position[:2])
        for meets, pose in zip(boxes_meet(points, own), target.poses(times), strict=True)
    )


def _zones(
    rng: np.random.Generator, settings: Settings, stage: Stage, target: Actor, story: Story
) -> dict[str, Zone] | None:
    """Draw zones that fit the story: around the place where the target stands, or clear of it."""
    moment = story.halt if np.isfinite(story.halt) else float(story.times[len(story.times) // 2])
    pose = target.poses(np.array([moment]))
    box = bounds(silhouettes(stage.camera, target.vehicle, pose))[0]
    if not np.isfinite(box).all():
        return None
    inside = story.kind in (*ALERTING, "stop") or (story.kind != "outside" and rng.random() < 0.5)
    return draw_zones(rng, stage, box, pose[0], inside, settings.rule.overlap, settings.rule.measure)


def _shake(rng: np.random.Generator, settings: Settings) -> Array:
    """Return (F, 2) whole pixels by which frames are shifted: most cameras stand firm, some sway in gusts."""
    frames = np.arange(settings.frames)[:, None]
    strength = float(rng.choice([0.0, 0.8, 2.0], p=[0.45, 0.3, 0.25])) * settings.size[0] / 640
    period, phase = rng.uniform(2.5, 9, (3, 2)), rng.uniform(0, 2 * np.pi, (3, 2))
    sway = np.sin(2 * np.pi * frames[..., None] / period.T + phase.T).sum(axis=-1) / 1.7  # (F, 2)
    gust = 0.35 + 0.65 * np.sin(2 * np.pi * frames / rng.uniform(40, 90) + rng.uniform(0, 6)) ** 2
    return np.round(np.clip(strength * sway * gust, -SHAKE, SHAKE))
