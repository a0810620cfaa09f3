"""Rebuild the references' models from a case name: `hip_d4`, `hip_full`, `ost256_full`, ..."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from mtltrack.models.backbones.vit import OneStreamViT
from mtltrack.models.history import HistoryNetwork
from mtltrack.models.packed import pack_where_faster
from mtltrack.models.tracker import Tracker
from mtltrack.tasks.box import CenterHead
from parity import recipe

_CASE = re.compile(r"^(?P<family>hip|ost)(?P<size>\d*)_(?P<depth>full|d\d+)(?=_|$|\.)")
_FULL_DEPTH = 12
_STATED = (4, 12)
_DEFAULT_SIZE = {"hip": 384, "ost": 256}


@dataclass(frozen=True)
class Case:
    """One reference model.

    Attributes:
        name: `hip_d4` and so on; part of the inputs' names.
        family: hip or ost.
        search_size: pixels; the template is half as large.
        depth: blocks.
        ce_loc: blocks after whose attention tokens are eliminated.
    """

    name: str
    family: str
    search_size: int
    depth: int
    ce_loc: tuple[int, ...]

    @property
    def template_size(self) -> int:
        return self.search_size // 2


def elimination_places(depth: int) -> list[tuple[int, ...]]:
    """Return where a model of this depth may eliminate, the likeliest first.

    The references state 3, 6, 9 for 12 blocks and 1, 2, 3 for 4; for another depth their outputs must tell.
    """
    quarter = max(depth // 4, 1)
    tries = [(quarter, 2 * quarter, 3 * quarter), (1, 2, 3), (3, 6, 9), (0, 1, 2)]
    return list(dict.fromkeys(places for places in tries if places[-1] < depth))


def parse_case(name: str) -> Case | None:
    """Read family, size and depth from the start of a name; None when it doesn't name a model."""
    found = _CASE.match(name)
    if found is None:
        return None
    size = int(found["size"]) if found["size"] else _DEFAULT_SIZE[found["family"]]
    depth = _FULL_DEPTH if found["depth"] == "full" else int(found["depth"][1:])
    if size % 32 or not elimination_places(depth):
        return None
    return Case(found[0], found["family"], size, depth, elimination_places(depth)[0])


def settle(case: Case, agrees: Callable[[Tracker], bool]) -> Case:
    """Return the case with the elimination places for which its model agrees with the reference.

    Args:
        case: as parsed.
        agrees: runs a first forward and tells whether it fits; only asked when there is a choice.
    """
    tries = elimination_places(case.depth)
    if case.depth in _STATED or len(tries) == 1:
        return case
    for places in tries:
        candidate = replace(case, ce_loc=places)
        if agrees(build(candidate)):
            print(f"{case.name}: eliminates after blocks {', '.join(map(str, places))}")
            return candidate
    return case


def build(case: Case) -> Tracker:
    """Build the case's tracker with the recipe's weights, in evaluation mode, packed where testing would."""
    hiptrack = case.family == "hip"
    backbone = OneStreamViT(
        embed_dim=768,
        depth=case.depth,
        num_heads=12,
        template_size=case.template_size,
        search_size=case.search_size,
        ce_loc=case.ce_loc,
        ce_keep_ratio=[0.7] * len(case.ce_loc),
        temporal_embedding=hiptrack,
    )
    head = CenterHead(channels=768, grid=case.search_size // 16)
    tracker = Tracker(backbone, head, HistoryNetwork(768) if hiptrack else None)
    recipe.fill(tracker)
    pack_where_faster(torch.device("cpu"), None, tracker)
    return tracker.eval()
