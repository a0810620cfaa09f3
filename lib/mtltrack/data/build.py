"""From the entries of DATASETS_NAME and DATA.TRANSFORMS to data sets and transforms."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from mtltrack.core.errors import ConfigError, DataError, did_you_mean
from mtltrack.core.paths import dataset_root, expand_path
from mtltrack.core.registry import DATASETS, TRANSFORMS, Registry
from mtltrack.data.labelled import LabelledSequences, labelled_names
from mtltrack.data.sequences import SequenceDataset
from mtltrack.data.transforms import CropTransform, SceneTransform

PATH_ARGUMENTS = ("root", "attributes", "split_file")


class _Named(NamedTuple):
    type: str
    root: str | None = None  # key of local.yaml
    lmdb_root: str | None = None
    arguments: Mapping[str, Any] = {}


NAMED = {
    "LASOT": _Named("Lasot", "lasot", "lasot_lmdb", {"split": "train"}),
    "GOT10K_vottrain": _Named("Got10k", "got10k", "got10k_lmdb", {"split": "vottrain"}),
    "GOT10K_votval": _Named("Got10k", "got10k", "got10k_lmdb", {"split": "votval"}),
    "GOT10K_train_full": _Named("Got10k", "got10k", "got10k_lmdb", {"split": "train_full"}),
    "GOT10K_official_val": _Named("Got10k", "got10k", "got10k_lmdb", {"split": "official_val"}),
    "COCO17": _Named("Coco", "coco", "coco_lmdb", {"year": 2017}),
    "VID": _Named("ImagenetVid", "vid", "vid_lmdb"),
    "TRACKINGNET": _Named("TrackingNet", "trackingnet", "trackingnet_lmdb"),
    "DAVIS": _Named("Davis", "davis", arguments={"split": "2017/train"}),
    "CCPD": _Named("Ccpd", "ccpd"),
    "SYNTHETIC": _Named("SyntheticSequences"),
    "TRAFFIC": _Named("TrafficSequences"),
}
"""The names that the YAML files of OSTrack and HIPTrack use, and those of this project."""


def build_dataset(
    entry: str | Mapping[str, Any], use_lmdb: bool = False, cls_ann_dir: str | Path | None = None
) -> SequenceDataset:
    """Build the data set of one DATASETS_NAME entry.

    Args:
        entry: a name of `NAMED`, or {TYPE: <registered data set>, <its arguments in upper case>}. A mapping
            may hold CLS_ANN_DIR of its own, which must have labels for it.
        use_lmdb: named data sets are read from their LMDB; its root is another key of local.yaml.
        cls_ann_dir: folder of side-car labels of the whole list; joined where it has some for the data set.

    Raises:
        ConfigError: an unknown name or argument; the message lists the known ones.
        DataError: the root is missing (names the key of local.yaml), or the data set is empty.
    """
    if isinstance(entry, str):
        dataset = _build_named(entry, use_lmdb)
    else:
        arguments = {str(key).lower(): value for key, value in entry.items()}
        own_dir = arguments.pop("cls_ann_dir", None)
        dataset = _build_typed(arguments)
        if own_dir:
            return LabelledSequences(dataset, expand_path(own_dir))
    if not cls_ann_dir:
        return dataset
    folder = expand_path(cls_ann_dir)
    return LabelledSequences(dataset, folder) if labelled_names(dataset, folder) else dataset


def build_datasets(
    entries: Sequence[str | Mapping[str, Any]], use_lmdb: bool = False, cls_ann_dir: str | Path | None = None
) -> list[SequenceDataset]:
    """Build all data sets of DATASETS_NAME; arguments and errors are those of `build_dataset`.

    Raises:
        DataError: `cls_ann_dir` has labels for none of them, or for sequences of the same name in two.
    """
    datasets = [build_dataset(entry, use_lmdb, cls_ann_dir) for entry in entries]
    if cls_ann_dir and not any(isinstance(dataset, LabelledSequences) for dataset in datasets):
        names = ", ".join(dataset.name for dataset in datasets)
        raise DataError(
            f"CLS_ANN_DIR: {expand_path(cls_ann_dir)} has labels for no sequence of {names}. "
            "Wanted <sequence>/<sequence>.jsonl in it (docs/data.md)."
        )
    if cls_ann_dir:
        _refuse_shared_names(entries, datasets, expand_path(cls_ann_dir))
    return datasets


def check_entry(entry: str | Mapping[str, Any], use_lmdb: bool = False) -> None:
    """Check what an entry of DATASETS_NAME says without reading data: names, arguments, and its folder.

    Raises:
        ConfigError: an unknown name or argument.
        DataError: the root is missing.
    """
    if isinstance(entry, str):
        _root_of(_known(entry), use_lmdb)
        return
    arguments = {str(key).lower(): value for key, value in entry.items()}
    arguments.pop("cls_ann_dir", None)
    _part_for(DATASETS, arguments, "DATASETS_NAME")
    if arguments.get("root") is not None and not (root := expand_path(arguments["root"])).exists():
        raise DataError(f"DATASETS_NAME: ROOT of {entry['TYPE']} is '{root}', which doesn't exist")


def _refuse_shared_names(
    entries: Sequence[str | Mapping[str, Any]], datasets: Sequence[SequenceDataset], folder: Path
) -> None:
    """Raise DataError when the folder of the list would label same-named sequences of two data sets."""
    owners: dict[str, int] = {}
    for number, (entry, dataset) in enumerate(zip(entries, datasets, strict=True), start=1):
        own_dir = not isinstance(entry, str) and any(str(key).lower() == "cls_ann_dir" for key in entry)
        if own_dir or not isinstance(dataset, LabelledSequences):
            continue
        names = sorted(labelled_names(dataset, folder))
        shared = [name for name in names if name in owners]
        if shared:
            raise DataError(
                f"CLS_ANN_DIR: {folder} has labels for '{shared[0]}', a sequence of both entry "
                f"{owners[shared[0]]} and entry {number} ({dataset.name}) of DATASETS_NAME; {len(shared)} "
                "such names. Write CLS_ANN_DIR into the entries that the labels belong to "
                "({TYPE: ..., CLS_ANN_DIR: ...}), not beside the list."
            )
        owners.update(dict.fromkeys(names, number))


def _known(name: str) -> _Named:
    if name not in NAMED:
        raise ConfigError(
            f"DATASETS_NAME: unknown data set '{name}'.{did_you_mean(name, NAMED)} "
            f"Known: {', '.join(NAMED)}; for your own data {{TYPE: FolderSequences, ROOT: <folder>}}."
        )
    return NAMED[name]


def _root_of(known: _Named, use_lmdb: bool) -> Path | None:
    key = (known.lmdb_root if use_lmdb else None) or known.root
    return None if key is None else dataset_root(key)


def _build_named(name: str, use_lmdb: bool) -> SequenceDataset:
    known = _known(name)
    arguments = dict(known.arguments)
    root = _root_of(known, use_lmdb)
    if root is not None:
        arguments["root"] = root
    return cast("SequenceDataset", DATASETS.create(known.type, **arguments))


def _build_typed(arguments: dict[str, Any]) -> SequenceDataset:
    for key in PATH_ARGUMENTS:
        if arguments.get(key) is not None:
            arguments[key] = expand_path(arguments[key])
    return cast("SequenceDataset", _create(DATASETS, arguments, "DATASETS_NAME"))


def build_transforms(entries: Sequence[Mapping[str, Any]]) -> tuple[CropTransform | SceneTransform, ...]:
    """Build DATA.TRANSFORMS.

    Args:
        entries: mappings {TYPE: <registered transform>, <its arguments in upper case>}.

    Raises:
        ConfigError: an unknown argument, or a value out of range.
        UnknownNameError: an unknown TYPE; the message lists the registered ones.
    """
    lowered = [{str(key).lower(): value for key, value in entry.items()} for entry in entries]
    return tuple(_create(TRANSFORMS, arguments, "DATA.TRANSFORMS") for arguments in lowered)


def _part_for(registry: Registry, arguments: dict[str, Any], where: str) -> tuple[Any, str]:
    """Return the part that `type`, which is taken out, names, and its arguments as a text.

    Raises:
        ConfigError: others are given; lists the right ones.
    """
    kind = arguments.pop("type", None)
    if not isinstance(kind, str):
        raise ConfigError(f"{where}: an entry that is a mapping needs TYPE; found {arguments}")
    part = registry.get(kind)
    accepted = [name.upper() for name in inspect.signature(part).parameters]
    for key in arguments:
        if key.upper() not in accepted:
            raise ConfigError(
                f"{where}: {kind} has no argument {key.upper()}."
                f"{did_you_mean(key.upper(), accepted)} It takes {', '.join(accepted)}."
            )
    return part, ", ".join(accepted)


def _create(registry: Registry, arguments: dict[str, Any], where: str) -> Any:
    """Build the part that `type` names; wrong arguments are errors that list the right ones."""
    kind = arguments.get("type")
    part, accepted = _part_for(registry, arguments, where)
    try:
        return part(**arguments)
    except TypeError as error:
        raise ConfigError(f"{where}: {kind}: {error}. It takes {accepted}.") from error
