"""The stages of a model: the stretches of parameters between which a gradient is measured.

They follow from the tree of modules alone, for any tracker and any head:

- each part of the tracker (backbone, history, box, a task) gives its children, in the order of registration;
- a list of modules, and a sequence of blocks, gives its elements, one level down too (`blocks.0`,
  `decoder.layers.1`); a sequence of plain layers stays one;
- numbered siblings with one ending (`conv1_size` ... `conv5_size`) are one branch, `size`, and the last of
  them, which gives the answer, is `size.out`;
- parameters that a module holds itself (position tables) are its stage `own`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from mtltrack.training.stages import parts_of

OWN = "own"
OUT = "out"
ELSEWHERE = "elsewhere"  # the part of parameters that belong to no part of the tracker
NUMBERED = re.compile(r"^[A-Za-z]+(\d+)_(\w+)$")

Parameters = dict[str, nn.Parameter]


@dataclass(frozen=True, eq=False)
class ModelStage:
    """A stretch of the model.

    Attributes:
        part: "backbone", "history", "box", a task, or "elsewhere".
        name: unique, begins with the part: "backbone.blocks.3", "box.size.out".
        parameters: by their names in the tracker.
    """

    part: str
    name: str
    parameters: Mapping[str, nn.Parameter]

    @property
    def entries(self) -> int:
        """Number of entries of its parameters."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    @property
    def inner(self) -> str:
        """The name inside the part: "blocks.3", or "" for a part that is one stage."""
        return self.name[len(self.part) + 1 :]


def model_stages(tracker: Any) -> list[ModelStage]:
    """Return the tracker's stages; every parameter is in exactly one.

    Args:
        tracker: with `tracker_parts()` and `task_parts()`.
    """
    names = {id(parameter): name for name, parameter in tracker.named_parameters()}
    stages: list[ModelStage] = []
    for part, module in parts_of(tracker).items():
        units = _with_branches(dict(_units(_unwrapped(module))))
        for inner, found in units.items():
            parameters = {
                names.pop(id(value)): value for value in found.values() if id(value) in names
            }  # what two parts share counts once
            if parameters:
                name = part if len(units) == 1 else f"{part}.{inner}"
                stages.append(ModelStage(part, name, parameters))
    left = {name: value for name, value in tracker.named_parameters() if id(value) in names}
    if left:
        stages.append(ModelStage(ELSEWHERE, ELSEWHERE, left))
    return stages


def _unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside of those that only hold another one."""
    while True:
        children = [child for child in module.children() if _has_parameters(child)]
        if len(children) != 1 or _own(module) or isinstance(module, (nn.ModuleList, nn.Sequential)):
            return module
        module = children[0]


def _units(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, Parameters]]:
    own = _own(module)
    if own:
        yield prefix + OWN, own
    for name, child in module.named_children():
        if not _has_parameters(child):
            continue
        holds_rows = not _is_row(module) and any(_is_row(grandchild) for grandchild in child.children())
        if _is_row(child) or holds_rows:
            yield from _units(child, f"{prefix}{name}.")
        else:
            yield prefix + name, dict(child.named_parameters())


def _own(module: nn.Module) -> Parameters:
    return dict(module.named_parameters(recurse=False))


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _is_row(module: nn.Module) -> bool:
    """Tell whether a module is a row of stages: a list, or a sequence of blocks that hold others."""
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        return True
    blocks = [
        child
        for child in module.children()
        if _has_parameters(child) and next(child.children(), None) is not None
    ]
    return isinstance(module, nn.Sequential) and len(blocks) > 1


def _with_branches(units: Mapping[str, Parameters]) -> dict[str, Parameters]:
    """Join numbered siblings of one ending to a branch, but for the last of them."""
    branches: dict[str, dict[int, str]] = {}
    for name in units:
        match = NUMBERED.match(name)
        if match:
            branches.setdefault(match[2], {})[int(match[1])] = name
    joined: dict[str, Parameters] = {}
    for name, parameters in units.items():
        match = NUMBERED.match(name)
        branch = branches[match[2]] if match else {}
        if match is None or len(branch) < 2:
            joined[name] = parameters
        elif int(match[1]) == max(branch):
            joined[f"{match[2]}.{OUT}"] = parameters
        else:
            joined.setdefault(match[2], {}).update(
                {f"{name}.{key}": value for key, value in parameters.items()}
            )
    return joined
