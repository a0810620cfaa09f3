"""Rebuild the references' models from a case name: `hip_d4`, `hip_full`, `ost256_full`, ..."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mtltrack.models.backbones.vit import OneStreamViT
from mtltrack.models.history import HistoryNetwork
from mtltrack.models.tracker import Tracker
from mtltrack.tasks.box import CenterHead
from parity import recipe

_CASE = re.compile(r"^(?P<family>hip|ost)(?P<size>\d*)_(?P<depth>full|d\d+)(?=_|$|\.)")
_FULL_DEPTH = 12
_DEFAULT_SIZE = {"hip": 384, "ost": 256}


@dataclass(frozen=True)
class Case:
    """One reference model.

    Attributes:
        name: `hip_d4` and so on; part of the inputs' names.
        family: hip or ost.
        search_size: pixels; the template is half as large.
        depth: blocks.
    """

    name: str
    family: str
    search_size: int
    depth: int

    @property
    def template_size(self) -> int:
        return self.search_size // 2

    @property
    def ce_loc(self) -> list[int]:
        """Eliminate after a quarter, half and three quarters of the blocks: 3, 6, 9 of 12; 1, 2, 3 of 4."""
        return [self.depth // 4 * i for i in (1, 2, 3)]


def parse_case(name: str) -> Case | None:
    """Read family, size and depth from the start of a name; None when it doesn't name a model."""
    found = _CASE.match(name)
    if found is None:
        return None
    size = int(found["size"]) if found["size"] else _DEFAULT_SIZE[found["family"]]
    depth = _FULL_DEPTH if found["depth"] == "full" else int(found["depth"][1:])
    if depth < 4 or size % 32:
        return None
    return Case(found[0], found["family"], size, depth)


def build(case: Case) -> Tracker:
    """Build the case's tracker with the recipe's weights, in evaluation mode."""
    hiptrack = case.family == "hip"
    backbone = OneStreamViT(
        embed_dim=768,
        depth=case.depth,
        num_heads=12,
        template_size=case.template_size,
        search_size=case.search_size,
        ce_loc=case.ce_loc,
        ce_keep_ratio=[0.7] * 3,
        temporal_embedding=hiptrack,
    )
    head = CenterHead(channels=768, grid=case.search_size // 16)
    tracker = Tracker(backbone, head, HistoryNetwork(768) if hiptrack else None)
    recipe.fill(tracker)
    return tracker.eval()
