"""From a configuration to a model: the only place that knows both."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mtltrack.core.config import Config
from mtltrack.core.errors import CheckpointError, ConfigError, did_you_mean
from mtltrack.core.paths import expand_path, local_settings
from mtltrack.core.registry import BACKBONES, HEADS
from mtltrack.core.seal import Checked
from mtltrack.core.types import BOX
from mtltrack.models.history import HistoryNetwork
from mtltrack.models.tracker import HistorySettings, Tracker
from mtltrack.models.unfilled import UnfilledParameters
from mtltrack.models.weights import LoadReport, kind_of, load_into, read_weights_file, state_dict_of

FILLED = {"channels", "upstream_channels"}  # arguments of heads that come from the model, not from the YAML


@dataclass(frozen=True)
class Assembly:
    """Which parts a named tracker consists of.

    Attributes:
        net_type: the name in checkpoints and their file names.
        history: with the historical prompt network.
        temporal_embedding: with HIPTrack's additional position vectors.
    """

    net_type: str
    history: bool
    temporal_embedding: bool


ASSEMBLIES = {
    "hiptrack": Assembly("HIPTrack", history=True, temporal_embedding=True),
    "ostrack": Assembly("OSTrack", history=False, temporal_embedding=False),
}


def assembly_of(script: str) -> Assembly:
    """Return the parts of the tracker `script`.

    Raises:
        ConfigError: there is no such tracker.
    """
    if script not in ASSEMBLIES:
        raise ConfigError(
            f"'{script}' is not a tracker.{did_you_mean(script, ASSEMBLIES)} Known: {', '.join(ASSEMBLIES)}."
        )
    return ASSEMBLIES[script]


def build_tracker(cfg: Config, script: str | None = None) -> Tracker:
    """Build the tracker that a configuration describes, with random weights.

    Args:
        cfg: from `load_config`.
        script: "hiptrack" or "ostrack"; None for the one whose folder the configuration came from.

    Raises:
        ConfigError: unknown tracker, a head's arguments don't fit, or the heads' edges don't.
    """
    parts = assembly_of(script or cfg.script)
    if parts.history and not cfg.MODEL.NEW_HIP:
        raise ConfigError(
            "MODEL.NEW_HIP is false: that early form was never published with weights; set it to true"
        )
    backbone = _build_backbone(cfg, parts)
    width = backbone.embed_dim
    box_head = _build_box_head(cfg, width)
    tracker = Tracker(
        backbone=backbone,
        box_head=box_head,
        history=_build_history(cfg, width) if parts.history else None,
        heads=_build_heads(cfg, box_head, width),
        detach={task: block.DETACH for task, block in cfg.TASKS.items()},
        template_range=cfg.MODEL.BACKBONE.CE_TEMPLATE_RANGE,
        frames_at_once=None if cfg.MODEL.BACKBONE.BATCH_FRAMES == "auto" else cfg.MODEL.BACKBONE.BATCH_FRAMES,
        history_settings=HistorySettings(cfg.TEST.UPDATE_INTERVAL, cfg.MODEL.MAX_MEM),
        history_steps=cfg.TRAIN.HISTORY_STEPS,
    )
    tracker.checkpoint_activations(cfg.TRAIN.CHECKPOINT_ACTIVATIONS)
    return tracker


def _build_backbone(cfg: Config, parts: Assembly) -> Any:
    settings = cfg.MODEL.BACKBONE
    return BACKBONES.create(
        settings.TYPE,
        embed_dim=settings.EMBED_DIM,
        depth=settings.DEPTH,
        num_heads=settings.NUM_HEADS,
        template_size=cfg.DATA.TEMPLATE.SIZE,
        search_size=cfg.DATA.SEARCH.SIZE,
        patch_size=settings.STRIDE,
        ce_loc=settings.CE_LOC,
        ce_keep_ratio=settings.CE_KEEP_RATIO,
        drop_path_rate=cfg.TRAIN.DROP_PATH_RATE,
        temporal_embedding=parts.temporal_embedding,
    )


def _build_box_head(cfg: Config, width: int) -> Any:
    own = {"dfl_weight": cfg.TRAIN.DFL_WEIGHT} if cfg.MODEL.HEAD.TYPE == "DFL" else {}
    return HEADS.create(
        cfg.MODEL.HEAD.TYPE,
        channels=width,
        grid=cfg.DATA.SEARCH.SIZE // cfg.MODEL.BACKBONE.STRIDE,
        hidden=cfg.MODEL.HEAD.NUM_CHANNELS,
        stride=cfg.MODEL.BACKBONE.STRIDE,
        giou_weight=cfg.TRAIN.GIOU_WEIGHT,
        l1_weight=cfg.TRAIN.L1_WEIGHT,
        iou_loss=cfg.TRAIN.BOX_IOU_LOSS,
        **own,
    )


def _build_history(cfg: Config, width: int) -> HistoryNetwork:
    settings = cfg.MODEL.HISTORY
    return HistoryNetwork(
        width, settings.KEY_DIM, settings.VALUE_DIM, settings.ENCODER_WIDTH, cfg.MODEL.CORRECT_MASK
    )


def _build_heads(cfg: Config, box_head: nn.Module, width: int) -> dict[str, nn.Module]:
    """Build the task heads, each after those that it reads: it is told how wide their features are."""
    kinds = {task: HEADS.get(block.TYPE) for task, block in cfg.TASKS.items()}
    for task, kind in kinds.items():
        _check_name(cfg, task, kind)
    reads = {
        task: [name for name in getattr(kind, "reads", ()) if name in kinds] for task, kind in kinds.items()
    }
    try:
        order = list(TopologicalSorter(reads).static_order())
    except CycleError:
        order = list(kinds)  # the task graph says what is wrong
    widths = {BOX: getattr(box_head, "feature_channels", None)}
    heads = {}
    for task in order:
        heads[task] = _build_head(cfg, task, width, {name: value for name, value in widths.items() if value})
        widths[task] = getattr(heads[task], "feature_channels", None)
    return {task: heads[task] for task in cfg.TASKS}


def _check_name(cfg: Config, task: str, kind: Any) -> None:
    """Refuse a task by another name than that of the labels that its head learns, and one that lacks another.

    Such labels are never there, which would show only after an epoch.

    Raises:
        ConfigError: names the task's line.
    """
    place = f"TASKS.{task} ({cfg.source_line(f'TASKS.{task}')})"
    learned = getattr(kind, "task", task)
    if learned != task:
        raise ConfigError(
            f"{place}: {cfg.TASKS[task].TYPE} learns the labels of the task {learned}, so that must be its "
            f"name. Did you mean '{learned}'?"
        )
    others = [BOX, *cfg.TASKS]
    for name in getattr(kind, "reads", ()):
        if name not in others:
            raise ConfigError(
                f"{place}: the head reads '{name}', which isn't in TASKS.{did_you_mean(name, others)} Add "
                f"TASKS.{name}, or take {task} out."
            )


def _build_head(cfg: Config, task: str, width: int, upstream_channels: dict[str, int]) -> nn.Module:
    """Build a task head from its block and the TRAIN keys that begin with its name (TRAIN.CLS_LOSS_TYPE)."""
    block = cfg.TASKS[task]
    kind = HEADS.get(block.TYPE)
    accepted = set(inspect.signature(kind).parameters) - {"self"}
    arguments = block.arguments()
    unknown = sorted(set(arguments) - accepted)
    if unknown:
        key, names = unknown[0].upper(), sorted(name.upper() for name in accepted - FILLED)
        raise ConfigError(
            f"TASKS.{task}.{key} ({cfg.source_line(f'TASKS.{task}.{key}')}): {block.TYPE} has no such "
            f"argument.{did_you_mean(key, names)} It takes: {', '.join(names)}."
        )
    train = cfg.TRAIN.model_dump()
    for name in accepted - set(arguments):
        key = f"{task}_{name}".upper()
        if key in train:
            arguments[name] = train[key]
    if "channels" in accepted:
        arguments["channels"] = width
    if "upstream_channels" in accepted:
        arguments["upstream_channels"] = upstream_channels
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"TASKS.{task} ({cfg.source_line(f'TASKS.{task}.TYPE')}): {error}") from error


def load_weights(tracker: Tracker, path: str | Path) -> LoadReport:
    """Load a weights file of this project, HIPTrack, OSTrack, or a ViT pre-training.

    Nothing in the file is executed. Names that are missing or in excess are errors unless the kind of file
    explains them; what keeps its random values is listed in the report.

    Raises:
        CheckpointError: see `mtltrack.models.weights`; also when a file's condition names differ from the
            head's.
    """
    path = Path(path)
    return _load_content(tracker, read_weights_file(path), path)


def build_trained(cfg: Config, script: str | None, path: Path, checked: Checked | None = None) -> Tracker:
    """Build the tracker that a configuration describes and load a weights file, as the two one by one do.

    No random numbers are drawn for a model that the file fills; for one that it doesn't fill they are those
    that `build_tracker` draws.

    Args:
        cfg, script: see `build_tracker`.
        path: see `load_weights`.
        checked: see `read_weights_file`.

    Raises:
        ConfigError: see `build_tracker`.
        CheckpointError: see `load_weights`.
    """
    content = read_weights_file(path, checked)
    names = state_dict_of(content, path).keys()
    generator = torch.get_rng_state()
    with UnfilledParameters() as unfilled:
        tracker = build_tracker(cfg, script)
    if tracker.state_dict().keys() - names or unfilled.left(tracker.parameters()):
        torch.set_rng_state(generator)
        tracker = build_tracker(cfg, script)
    _load_content(tracker, content, path)
    return tracker


def _load_content(tracker: Tracker, content: dict[str, Any], path: Path) -> LoadReport:
    state = state_dict_of(content, path)
    kind = kind_of(state)
    tasks = tracker.task_parts()
    report = load_into(tracker, state, kind, path, [f"{task}_head." for task in tasks])
    if isinstance(content.get("config"), dict):
        report.kind = "own"
        report.classes, report.epoch = content.get("classes"), content.get("epoch")
        _check_classes(report, tasks, path)
        _check_alphabet(report, content.get("alphabet"), tasks, path)
    return report


def _check_classes(report: LoadReport, tasks: dict[str, nn.Module], path: Path) -> None:
    head = tasks.get("cls")
    if head is None or not report.classes or any(name.startswith("cls_head.") for name in report.new):
        return
    names = list(getattr(head, "all_names", ()))
    if names != list(report.classes):
        raise CheckpointError(
            f"{path} was trained for the conditions {', '.join(report.classes)}; "
            f"the head's are {', '.join(names)}. Give the file's as TASKS.cls.CLASS_NAMES."
        )


def _check_alphabet(report: LoadReport, stored: str | None, tasks: dict[str, nn.Module], path: Path) -> None:
    """Refuse a reader's weights for another alphabet: each output stands for one character."""
    own = getattr(tasks.get("ocr"), "alphabet", None)
    if own is None or not stored or any(name.startswith("ocr_head.") for name in report.new):
        return
    if own != stored:
        raise CheckpointError(
            f"{path} was trained to read the {len(stored)} characters {stored}; TASKS.ocr.ALPHABET has the "
            f"{len(own)} characters {own}. Give the file's characters as TASKS.ocr.ALPHABET."
        )


def initial_weights(tracker: Tracker, cfg: Config) -> LoadReport:
    """Load MODEL.PRETRAIN_FILE, or nothing when it is empty.

    The file is looked for as given, then in `pretrained_dir` of local.yaml.

    Raises:
        CheckpointError: the file is named but doesn't exist; the message says where it was looked for.
    """
    name = cfg.MODEL.PRETRAIN_FILE
    if not name:
        return LoadReport()
    given = expand_path(name)
    candidates = [given, local_settings().pretrained_dir / given]
    for path in candidates:
        if path.is_file():
            return load_weights(tracker, path)
    raise CheckpointError(
        f"MODEL.PRETRAIN_FILE ({cfg.source_line('MODEL.PRETRAIN_FILE')}) names '{name}', which doesn't "
        f"exist. Looked for: {', '.join(map(str, candidates))}. "
        "Put the file there, correct the name, or set PRETRAIN_FILE: '' to start from nothing."
    )
