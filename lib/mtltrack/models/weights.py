"""Weights files: read without executing anything in them, loaded with every key accounted for."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtltrack.core.errors import CheckpointError
from mtltrack.core.seal import Checked, check_file, check_seal
from mtltrack.models.inert_pickle import MALFORMED, InertUnpickler, read_member
from mtltrack.models.safe_weights import read_safetensors

HISTORY_PREFIXES = ("HIP.", "key_proj.", "key_comp.", "searchRegionFusion.")
TEMPORAL_KEYS = ("backbone.temporal_pos_embed_x", "backbone.temporal_pos_embed_z")
POSITION_KEYS = ("backbone.pos_embed_z", "backbone.pos_embed_x")
MOST_NAMES = 10  # of a file that is something else, in a message
_HIPTRACK_ONLY = (*HISTORY_PREFIXES, *TEMPORAL_KEYS)


def read_weights_file(path: str | Path, checked: Checked | None = None) -> dict[str, Any]:
    """Read a .pth, .pth.tar or .safetensors file without executing anything from it.

    Files that hold only tensors and plain types are read by torch itself (`weights_only=True`); those that
    don't, such as the checkpoints of the published trackers, by `InertUnpickler`.

    A file of this project carries a digest (`core.seal`), which is compared first.

    Args:
        path: the file.
        checked: what `core.seal.check_file` said of it; it isn't read for its digest again unless the system
            says that it was written since.

    Returns:
        The file's dictionary. Foreign objects in it are `Placeholder`s. Tensors of torch's files are maps of
        the file: copy what is to outlive a change of it.

    Raises:
        CheckpointError: the file doesn't exist, is damaged, isn't a weights file, is in torch's old format
            with foreign objects, or doesn't hold a dictionary.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no weights file at {path}; correct the path")
    try:
        if path.suffix == ".safetensors":
            return read_safetensors(path)
        if checked is None:
            check_seal(path)
        elif not checked.still(path):
            _need_same(path, checked)
        content = _read_torch(path)
    except CheckpointError:
        raise
    except MALFORMED as error:
        raise CheckpointError(f"{path} is damaged or not a weights file ({_cause(error)})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, wanted a dictionary of weights")
    return content


def _need_same(path: Path, checked: Checked) -> None:
    found = check_file(path).sha256
    if found != checked.sha256:
        raise CheckpointError(
            f"{path} has been written anew since it was checked (its sha256 was {checked.sha256[:12]}..., "
            f"is {found[:12]}...): its results would be noted as the old one's. Start again, best with a "
            "copy of the file or a checkpoint that training no longer writes"
        )


def _read_torch(path: Path) -> Any:
    try:
        # a map of the file costs nothing until a tensor is read; only archives can be mapped
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except MALFORMED as error:
        if not zipfile.is_zipfile(path):
            raise CheckpointError(
                f"{path} can't be read safely: it is damaged, no weights file, or in torch's format from "
                "before version 1.6 with foreign objects in it. Where it is one of the last and you trust "
                f"it, load and save it again with a newer torch. (Found: {_cause(error)})"
            ) from error
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        inner = next((name for name in names if name.rsplit("/", 1)[-1] == "data.pkl"), None)
        if inner is None:
            raise pickle.UnpicklingError("a zip file without data.pkl")
        folder = inner[: -len("data.pkl")]
        return InertUnpickler(archive, folder, read_member(archive, inner)).load()


def _cause(error: Exception) -> str:
    """Return an error's first line; of torch's refusals what was wrong, not its advice to trust the file."""
    lines = [line.strip() for line in str(error).split("WeightsUnpickler error:")[-1].splitlines()]
    text = next((line for line in lines if line), "")
    return (
        text
        if isinstance(error, pickle.UnpicklingError) and text
        else f"{type(error).__name__} {text}".strip()
    )


def _listed(names: Iterable[str], separator: str = ", ", most: int = MOST_NAMES) -> str:
    """Join the first names and say how many more there are."""
    names = list(names)
    rest = [f"and {len(names) - most} more"] if len(names) > most else []
    return separator.join([*names[:most], *rest])


def state_dict_of(content: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """Take the state dict out of a weights file: its `net`, `model` or `state_dict`, or the file itself.

    Raises:
        CheckpointError: there is none, or entries of it aren't plain tensors.
    """
    for key in ("net", "model", "state_dict"):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            strange = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
            if strange:
                raise CheckpointError(
                    f"{path}: {len(strange)} entries of '{key}' aren't plain tensors (sparse, quantised and "
                    f"8-bit ones can't be read): {_listed(strange)}"
                )
            break
    tensors = {
        str(key).removeprefix("module."): value for key, value in content.items() if isinstance(value, Tensor)
    }
    if not tensors:
        raise CheckpointError(
            f"{path} holds no weights: wanted tensors under 'net' or 'model', found "
            f"{_listed(map(str, content))}"
        )
    return tensors


@dataclass
class LoadReport:
    """What a weights file gave.

    Attributes:
        kind: "none" (no file), "backbone" (ViT pre-training), "ostrack" or "hiptrack"; "own" for a file of
            this project, whichever tracker it holds.
        path: the file.
        loaded: number of tensors taken.
        new: names that the file doesn't have and that keep their initial values.
        ignored: names in the file that this kind of file always has in excess (a pre-training's decoder).
        classes: names of the scene conditions, in a file of this project.
        epoch: epoch of the file, or None.
    """

    kind: str = "none"
    path: Path | None = None
    loaded: int = 0
    new: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    classes: list[str] | None = None
    epoch: int | None = None

    def sentence(self) -> str:
        """Say in one line what was loaded and what is new."""
        if self.kind == "none":
            return "weights: none given, the whole model starts from random values"
        text = f"weights: {self.loaded} tensors from {self.path} ({self.kind})"
        if self.new:
            groups = sorted({name.split(".")[0] for name in self.new})
            text += f"; newly initialised: {len(self.new)} tensors of {', '.join(groups)}"
        return text


def kind_of(state: Mapping[str, Tensor]) -> str:
    """Tell by its names what a state dict is of: "backbone", "ostrack" or "hiptrack"."""
    if not any(key.startswith("backbone.") for key in state):
        return "backbone"
    return "hiptrack" if any(key.startswith("HIP.") for key in state) else "ostrack"


def load_into(
    tracker: nn.Module, state: Mapping[str, Tensor], kind: str, path: Path, task_prefixes: Iterable[str]
) -> LoadReport:
    """Load a state dict; every key must be accounted for.

    Missing may be: the task heads; the history network and the temporal tables when the file is of the
    OSTrack kind; everything but the backbone when it is of the backbone kind. Nothing may be in excess,
    except a pre-training's own head or decoder.

    Raises:
        CheckpointError: any other missing or unexpected name, or a shape that differs; all are listed, below
            their numbers. A file that shares nearly no name is said to be of another model, with ten of each.
    """
    own_state = tracker.state_dict()
    may_miss = tuple(task_prefixes)
    ignored: list[str] = []
    if kind == "backbone":
        state, ignored = _from_pretraining(state, own_state)
        may_miss = (*may_miss, "box_head.", *HISTORY_PREFIXES, *TEMPORAL_KEYS, *POSITION_KEYS)
    elif kind == "ostrack":
        may_miss = (*may_miss, *HISTORY_PREFIXES, *TEMPORAL_KEYS)
    missing = [key for key in own_state if key not in state]
    refused = [key for key in missing if not key.startswith(may_miss)]
    unexpected = [key for key in state if key not in own_state]
    shapes = [
        f"{key}: file {tuple(state[key].shape)}, model {tuple(own_state[key].shape)}"
        for key in state
        if key in own_state and state[key].shape != own_state[key].shape
    ]
    # a table that the pre-training lacks was filled in from the model's own
    given = [key for key, value in state.items() if value is not own_state.get(key)]
    known = sum(key in own_state for key in given)
    foreign = f"its {len(given)} names, of which the model has {known}" if known * 10 < len(given) else ""
    _refuse(path, kind, foreign, {"missing": refused, "unexpected": unexpected, "of another shape": shapes})
    tracker.load_state_dict({**own_state, **state})
    if kind == "backbone":
        tracker.backbone.resize_position_tables()
    return LoadReport(kind, path, len(state), missing, ignored)


def _from_pretraining(
    state: Mapping[str, Tensor], own_state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Rename a ViT's weights for the backbone; names that only its pre-training needs are set aside."""
    excess = ("head.", "fc_norm.", "decoder_", "mask_token", "head_dist.", "pre_logits.")
    ignored = [key for key in state if key.startswith(excess)]
    kept = {f"backbone.{key}": value for key, value in state.items() if not key.startswith(excess)}
    if "backbone.norm.weight" not in kept:  # a file with fc_norm has none
        kept.update({key: own_state[key] for key in ("backbone.norm.weight", "backbone.norm.bias")})
    return kept, ignored


def _refuse(path: Path, kind: str, foreign: str, faults: Mapping[str, list[str]]) -> None:
    """Raise where there are faults: in the first line what is wrong, below it some names of each kind."""
    if not any(faults.values()):
        return
    summary = f"{path} ({kind} weights) doesn't fit the model"
    unexpected, shapes = faults["unexpected"], faults["of another shape"]
    hint = ""
    if foreign:
        summary = f"{path} is of another model by {foreign}"
        hint = " Name weights of this project, of HIPTrack or OSTrack, or of a ViT's pre-training."
    elif kind == "hiptrack" and unexpected and all(key.startswith(_HIPTRACK_ONLY) for key in unexpected):
        hint = " These are HIPTrack's weights and this model has no history: build it with hiptrack."
    elif any("pos_embed" in line or "box_head." in line for line in shapes):
        hint = (
            " Other shapes mean another size or box head: compare DATA.*.SIZE, MODEL.BACKBONE and "
            "MODEL.HEAD with the file's."
        )
    counts = ", ".join(f"{len(names)} {title}" for title, names in faults.items())
    most = MOST_NAMES if foreign else sum(map(len, faults.values()))
    parts = [
        f"  {len(names)} {title}:\n    " + _listed(names, "\n    ", most)
        for title, names in faults.items()
        if names
    ]
    raise CheckpointError("\n".join([f"{summary}: {counts}.{hint}", *parts]))
