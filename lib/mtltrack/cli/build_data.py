"""From a configuration to the loaders that training reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from torch.utils.data import DataLoader

from mtltrack.core.alphabets import load_alphabet
from mtltrack.core.config import Config
from mtltrack.core.errors import ConfigError, DataError
from mtltrack.core.registry import DATASETS, TRANSFORMS, Registry
from mtltrack.core.schema import Detail, Search, Template
from mtltrack.core.stopping import StopRule
from mtltrack.core.types import Clip
from mtltrack.data.augment import CropSettings, ViewSettings
from mtltrack.data.build import NAMED, build_datasets, build_transforms, check_entry
from mtltrack.data.loader import build_loader
from mtltrack.data.sampler import ClipDataset, EpochSampler
from mtltrack.data.sequences import SequenceDataset
from mtltrack.data.shares import BatchSampler, FilledClips, WholeEpochSampler
from mtltrack.training.stages import Stage
from mtltrack.training.texts import LABEL_ADVICE

TRAIN = "TRAIN"
VAL = "VAL"
CLS = "cls"
OCR = "ocr"
ALERT = "alert"
DEFAULT_ALPHABET, DEFAULT_COLUMNS = "latin", 24  # as the head's, where TASKS.ocr names none
FOLDER = "FolderSequences"  # labels cls only where CONDITIONS says from what


@dataclass
class Loaders:
    """The loaders of a run: `train` holds this rank's share of `clips`, `val` its share or all."""

    train: DataLoader[Clip]
    val: DataLoader[Clip] | None
    clips: ClipDataset


def build_loaders(
    cfg: Config,
    *,
    seed: int = 42,
    use_lmdb: bool = False,
    rank: int = 0,
    world_size: int = 1,
    share_validation: bool = False,
) -> Loaders:
    """Build the training and the validation loader that a configuration describes.

    The processes share the samples of an epoch; none is seen twice. With TRAIN.DROP_LAST a last batch that
    isn't full is left out of training, as in the published code, unless it is the only one.

    Args:
        cfg: from `load_config`.
        seed: of the samples; the same on every rank.
        use_lmdb: read named data sets from their LMDB.
        rank: this process.
        world_size: number of processes.
        share_validation: each process gets some of the batches of DATA.VAL, not all of them.

    Raises:
        ConfigError: an unknown data set or argument.
        DataError: a root is missing, a data set is empty.
    """
    train = build_clips(cfg, TRAIN, seed=seed, use_lmdb=use_lmdb)
    batch_size, workers = cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.NUM_WORKER
    patience = cfg.TRAIN.LOADER_TIMEOUT
    if cfg.TRAIN.DROP_LAST:
        sampler = EpochSampler(len(train), rank=rank, world_size=world_size, even=world_size > 1)
        full = len(sampler) >= batch_size
        loader = build_loader(
            train, batch_size, workers, sampler, drop_last=full, seed=seed, patience=patience
        )
    else:
        sampler = WholeEpochSampler(len(train), batch_size, rank, world_size)
        loader = build_loader(FilledClips(train), batch_size, workers, sampler, seed=seed, patience=patience)
    if not cfg.DATA.VAL.DATASETS_NAME:
        return Loaders(loader, None, train)
    val = build_clips(cfg, VAL, seed=seed, use_lmdb=use_lmdb)
    place = (rank, world_size) if share_validation else (0, 1)
    batches = BatchSampler(len(val), batch_size, *place)
    own = build_loader(val, batch_size, workers, batches, seed=seed, name="validation", patience=patience)
    return Loaders(loader, own, train)


def need_labels(cfg: Config, stages: Iterable[Stage], use_lmdb: bool = False) -> None:
    """Refuse to train a task that nothing in DATA.TRAIN can label.

    A mistyped argument or folder may be why nothing can: it is told first. What can't be told from the
    configuration shows after the first epoch, see `training.reporting`.

    Raises:
        ConfigError: there are no such labels; names the data sets that come with them.
        ConfigError, DataError: see `check_entry`.
    """
    train = cfg.DATA.TRAIN
    learned = {task for stage in stages for task in stage.losses}
    if train.CLS_ANN_DIR:
        return
    entries = [
        entry for entry, ratio in zip(train.DATASETS_NAME, train.DATASETS_RATIO, strict=False) if ratio > 0
    ]
    for task in cfg.TASKS:
        carriers = _carriers(task)
        if task not in learned or not carriers or any(_may_label(entry, task) for entry in entries):
            continue
        if any(task in labelled_tasks(TRANSFORMS, entry["TYPE"]) for entry in cfg.DATA.TRANSFORMS):
            continue
        with _naming_the_list(cfg, TRAIN):
            for entry in entries:
                check_entry(entry, use_lmdb)
        names = ", ".join(entry if isinstance(entry, str) else str(entry["TYPE"]) for entry in entries)
        raise ConfigError(
            f"task {task} has no label in the data sets of DATA.TRAIN ({names}); {LABEL_ADVICE}. "
            f"Labels of {task} come with {', '.join(carriers)}."
        )


def labelled_tasks(registry: Registry, name: str) -> tuple[str, ...]:
    """Return the tasks that a registered part says it labels; () where it says nothing."""
    return tuple(getattr(registry.get(name), "labelled_tasks", ()))


def _carriers(task: str) -> list[str]:
    """Return the names of all data sets and transforms that come with labels of a task."""
    found = []
    for registry, kind in ((DATASETS, ""), (TRANSFORMS, "the transform ")):
        registry.import_from_location()
        names = sorted(registry.module_dict)
        found += [kind + name for name in names if task in labelled_tasks(registry, name)]
    return [f"{name} (with CONDITIONS)" if name == FOLDER else name for name in found]


def _may_label(entry: str | Mapping[str, Any], task: str) -> bool:
    """Tell whether an entry of DATASETS_NAME may carry labels of a task; what isn't known may."""
    if isinstance(entry, str):
        return entry not in NAMED or task in labelled_tasks(DATASETS, NAMED[entry].type)
    arguments = {key.upper(): value for key, value in entry.items()}
    kind = arguments["TYPE"]
    if arguments.get("CLS_ANN_DIR") or not hasattr(DATASETS.get(kind), "labelled_tasks"):
        return True
    if kind == FOLDER and not arguments.get("CONDITIONS"):
        return False
    return task in labelled_tasks(DATASETS, kind)


def build_clips(cfg: Config, split: str, *, seed: int = 42, use_lmdb: bool = False) -> ClipDataset:
    """Build the clips of DATA.TRAIN or DATA.VAL; only those of training are augmented."""
    section = cfg.DATA.TRAIN if split == TRAIN else cfg.DATA.VAL
    return ClipDataset(
        sources=_build_sources(cfg, split, use_lmdb),
        ratios=section.DATASETS_RATIO,
        samples_per_epoch=section.SAMPLE_PER_EPOCH,
        num_search=cfg.DATA.SEARCH.NUMBER,
        crop=crop_settings(cfg),
        sampler_mode=cfg.DATA.SAMPLER_MODE,
        max_interval=cfg.DATA.MAX_SAMPLE_INTERVAL,
        augment=split == TRAIN,
        seed=seed,
        tasks=list(cfg.TASKS),
        stop_rule=_stop_rule(cfg),
        num_classes=_num_classes(cfg),
        **_text_options(cfg),
    )


def _build_sources(cfg: Config, split: str, use_lmdb: bool) -> list[SequenceDataset]:
    """Build the data sets of DATA.TRAIN or DATA.VAL; an error says where the list is written."""
    section = cfg.DATA.TRAIN if split == TRAIN else cfg.DATA.VAL
    with _naming_the_list(cfg, split):
        sources = build_datasets(section.DATASETS_NAME, use_lmdb, section.CLS_ANN_DIR or None)
        for source in sources:
            _need_the_heads_rule(cfg, source)
    return sources


@contextmanager
def _naming_the_list(cfg: Config, split: str) -> Iterator[None]:
    """Let an error say where the list of data sets is written."""
    try:
        yield
    except (ConfigError, DataError) as error:
        key = f"DATA.{split}.DATASETS_NAME"
        raise type(error)(f"{error} (Named by {key}, {cfg.source_line(key)}.)") from error


def _num_classes(cfg: Config) -> int | None:
    """Return how many classes the head of the task cls tells apart; None where it has its default."""
    arguments = cfg.TASKS[CLS].arguments() if CLS in cfg.TASKS else {}
    return arguments.get("num_classes")


def _stop_rule(cfg: Config) -> StopRule:
    """Return the rule that the head of the task alert follows."""
    arguments = cfg.TASKS[ALERT].arguments() if ALERT in cfg.TASKS else {}
    return StopRule(
        **{item.name: arguments[item.name] for item in fields(StopRule) if item.name in arguments}
    )


def _need_the_heads_rule(cfg: Config, source: SequenceDataset) -> None:
    """Refuse a data set that labels alerts by another rule than the head follows.

    Raises:
        ConfigError: so it is; names both arguments.
    """
    labelled_by: StopRule | None = getattr(source, "rule", None)
    if ALERT not in cfg.TASKS or labelled_by is None:
        return
    followed = _stop_rule(cfg)
    for name, argument in getattr(source, "rule_arguments", {}).items():
        own, head = getattr(labelled_by, name), getattr(followed, name)
        if own != head:
            raise ConfigError(
                f"{source.name} labels its alerts with {argument} {own}, but TASKS.alert.{name.upper()} is "
                f"{head}: the head would be taught another rule than it follows. Give both the same."
            )


def _text_options(cfg: Config) -> dict[str, Any]:
    """Return how plate texts are written: as the head of the task ocr reads them."""
    if OCR not in cfg.TASKS:
        return {}
    arguments = cfg.TASKS[OCR].arguments()
    return {
        "alphabet": load_alphabet(arguments.get("alphabet", DEFAULT_ALPHABET)),
        "text_columns": arguments.get("columns", DEFAULT_COLUMNS),
    }


def crop_settings(cfg: Config) -> CropSettings:
    """Return how the crops are cut."""
    detail = cfg.DATA.DETAIL
    return CropSettings(
        _view(cfg.DATA.TEMPLATE),
        _view(cfg.DATA.SEARCH),
        None if detail is None else _view(detail),
        cfg.DATA.BRIGHTNESS_JITTER,
        build_transforms(cfg.DATA.TRANSFORMS),
        cfg.DATA.REDUCED_DECODE,
    )


def _view(section: Template | Search | Detail) -> ViewSettings:
    return ViewSettings(section.SIZE, section.FACTOR, section.CENTER_JITTER, section.SCALE_JITTER)
