"""Find keys of a configuration that are each allowed but don't go together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel

from mtltrack.core.config_check import show
from mtltrack.core.errors import did_you_mean
from mtltrack.core.yaml_source import KeyPath, Problem, Source

if TYPE_CHECKING:
    from mtltrack.core.config import Config

RESERVED_TASKS = {
    "box": "the box is implicit: MODEL.HEAD configures it, GIOU_WEIGHT and L1_WEIGHT weigh it",
    "giou": "TRAIN.GIOU_WEIGHT is the box's",
    "l1": "TRAIN.L1_WEIGHT is the box's",
    "dfl": "TRAIN.DFL_WEIGHT is the box's",
}


@dataclass(frozen=True)
class Contradiction:
    """Keys, each of them allowed, that don't go together; reported where the first one stands."""

    keys: tuple[str, ...]
    text: str

    @property
    def paths(self) -> list[KeyPath]:
        return [tuple(key.split(".")) for key in self.keys]

    def problem(self, source: Source) -> Problem:
        place = next(
            (source.places[path] for path in self.paths if path in source.places), source.place(self.paths[0])
        )
        return Problem(place, self.keys[0], self.text)


def contradictions(cfg: Config) -> Iterable[Contradiction]:
    """Yield everything that only several keys together can get wrong."""
    yield from _tasks(cfg)
    yield from _sizes(cfg)
    yield from _elimination(cfg)
    yield from _sources(cfg)
    yield from _schedule(cfg)
    yield from _sharding(cfg)


def _tasks(cfg: Config) -> Iterator[Contradiction]:
    names = ["box", *(task for task in cfg.TASKS if task != "box")]
    for task, block in cfg.TASKS.items():
        if task in RESERVED_TASKS:
            yield Contradiction(
                (f"TASKS.{task}",), f"'{task}' can't be the name of a task: {RESERVED_TASKS[task]}."
            )
        for edge in block.DETACH:
            others = [name for name in names if name != task]
            if edge not in others:
                near = did_you_mean(edge, others)
                text = f"found '{edge}'; allowed: the other heads, {', '.join(others)}.{near}"
                yield Contradiction((f"TASKS.{task}.DETACH",), text)
    for task in cfg.TRAIN.TASK_CLIP_NORM:
        if task not in names:
            text = f"there is no task '{task}'; allowed: {', '.join(names)}.{did_you_mean(task, names)}"
            yield Contradiction((f"TRAIN.TASK_CLIP_NORM.{task}",), text)
    given = {} if cfg.MODEL.CLS_HEAD is None else cfg.MODEL.CLS_HEAD.model_dump(exclude_none=True)
    block_values = cfg.TASKS["cls"].model_dump() if "cls" in cfg.TASKS else {}
    for key, value in given.items():
        other = block_values.get(key, value)
        if other != value:
            text = f"found {show(value)}, but TASKS.cls.{key} is {show(other)}; the two are one setting."
            yield Contradiction((f"MODEL.CLS_HEAD.{key}", f"TASKS.cls.{key}"), text)
    if given and block_values.get("TYPE") != "ClsHead":
        kind = show(block_values.get("TYPE"))
        text = f"this section means TASKS.cls with TYPE ClsHead, but TASKS.cls.TYPE is {kind}."
        yield Contradiction(("MODEL.CLS_HEAD", "TASKS.cls.TYPE"), text)


def _sizes(cfg: Config) -> Iterator[Contradiction]:
    stride = cfg.MODEL.BACKBONE.STRIDE
    for name, data, tested in (
        ("SEARCH", cfg.DATA.SEARCH.SIZE, cfg.TEST.SEARCH_SIZE),
        ("TEMPLATE", cfg.DATA.TEMPLATE.SIZE, cfg.TEST.TEMPLATE_SIZE),
    ):
        if data % stride:
            near = max(stride, data // stride * stride)
            multiples = f"a multiple of MODEL.BACKBONE.STRIDE ({stride}), as {near} or {near + stride}"
            text = f"found {data}; allowed: {multiples}."
            yield Contradiction((f"DATA.{name}.SIZE", "MODEL.BACKBONE.STRIDE"), text)
        if data != tested:
            reason = "the position tables have that size, so both must be equal"
            text = f"found {tested}, but DATA.{name}.SIZE is {data}: {reason}."
            yield Contradiction((f"TEST.{name}_SIZE", f"DATA.{name}.SIZE"), text)
    if cfg.DATA.TEMPLATE.NUMBER != 1:
        text = f"found {cfg.DATA.TEMPLATE.NUMBER}; allowed: 1. Several templates are not supported yet."
        yield Contradiction(("DATA.TEMPLATE.NUMBER",), text)
    width, heads = cfg.MODEL.BACKBONE.EMBED_DIM, cfg.MODEL.BACKBONE.NUM_HEADS
    if width is not None and heads is not None and width % heads:
        text = f"found {width}; allowed: a multiple of MODEL.BACKBONE.NUM_HEADS ({heads})."
        yield Contradiction(("MODEL.BACKBONE.EMBED_DIM", "MODEL.BACKBONE.NUM_HEADS"), text)


def _elimination(cfg: Config) -> Iterator[Contradiction]:
    backbone = cfg.MODEL.BACKBONE
    keys = ("MODEL.BACKBONE.CE_LOC", "MODEL.BACKBONE.CE_KEEP_RATIO")
    blocks, ratios = backbone.CE_LOC, backbone.CE_KEEP_RATIO
    if len(blocks) != len(ratios):
        text = f"found {len(ratios)} ratios for {len(blocks)} blocks; allowed: one for each block of CE_LOC."
        yield Contradiction(keys[::-1], text)
    if blocks != sorted(set(blocks)):
        yield Contradiction(keys[:1], f"found {blocks}; allowed: different blocks, in rising order.")
    if blocks and backbone.DEPTH is not None and max(blocks) >= backbone.DEPTH:
        last = backbone.DEPTH - 1
        text = f"found {blocks}; allowed: blocks 0 to {last}, as MODEL.BACKBONE.DEPTH is {backbone.DEPTH}."
        yield Contradiction((keys[0], "MODEL.BACKBONE.DEPTH"), text)


def _sources(cfg: Config) -> Iterator[Contradiction]:
    for split, entry in (("TRAIN", cfg.DATA.TRAIN), ("VAL", cfg.DATA.VAL)):
        names, ratios = entry.DATASETS_NAME, entry.DATASETS_RATIO
        keys = (f"DATA.{split}.DATASETS_RATIO", f"DATA.{split}.DATASETS_NAME")
        if len(names) != len(ratios):
            text = f"found {len(ratios)} ratios for {len(names)} data sets; allowed: one for each of them."
            yield Contradiction(keys, text)
        elif names and sum(ratios) == 0:
            yield Contradiction(keys[:1], f"found {ratios}; allowed: at least one ratio above 0.")


def _schedule(cfg: Config) -> Iterator[Contradiction]:
    train, scheduler = cfg.TRAIN, cfg.TRAIN.SCHEDULER
    key = "TRAIN.SCHEDULER.MILESTONES"
    if scheduler.TYPE == "Mstep" and not scheduler.MILESTONES:
        yield Contradiction(
            (key, "TRAIN.SCHEDULER.TYPE"),
            "found []; the scheduler Mstep needs the epochs after which the rate drops.",
        )
    if scheduler.MILESTONES != sorted(set(scheduler.MILESTONES)):
        yield Contradiction(
            (key,), f"found {scheduler.MILESTONES}; allowed: different epochs, in rising order."
        )
    if train.TWO_STAGE and cfg.last_epoch() == 0:
        keys = ("TRAIN.STAGE2_EPOCHS", "TRAIN.STAGE1_EPOCHS", "TRAIN.BOX_EPOCHS")
        yield Contradiction(
            keys, "BOX_EPOCHS, STAGE1_EPOCHS and STAGE2_EPOCHS are all 0: there is nothing to train."
        )
    if train.TWO_STAGE and train.STAGE1_EPOCHS > 0 and not cfg.TASKS:
        text = (
            "stage 1 trains the heads of TASKS, and there are none: add one, or set TRAIN.STAGE1_EPOCHS to 0."
        )
        yield Contradiction(("TRAIN.TWO_STAGE", "TASKS"), text)


def _sharding(cfg: Config) -> Iterator[Contradiction]:
    """What needs whole gradients or weights in each process, while TRAIN.FSDP leaves each a share."""
    train = cfg.TRAIN
    if not train.FSDP:
        return
    audits = [key for key in ("AUDIT_INTERVAL", "AUDIT_FULL_INTERVAL") if cfg.is_given(f"TRAIN.{key}")]
    refused = {
        "WEIGHTING": (train.WEIGHTING["TYPE"] != "fixed", "fixed"),
        "TASK_CLIP_NORM": (bool(train.TASK_CLIP_NORM), "{}"),
        "EMA": (train.EMA is not None, "null"),
        "FEATURE_CACHE": (train.FEATURE_CACHE is not None, "null"),
        "PRECISION": (train.PRECISION == "fp16", "fp32 or bf16"),
        "AMP": (train.AMP and train.PRECISION is None, "false, with PRECISION: bf16 instead"),
        **{key: (getattr(train, key) > 0, "0") for key in audits},
    }
    for key, (contradicts, allowed) in refused.items():
        if contradicts:
            value = getattr(train, key)
            found = show(value.model_dump() if isinstance(value, BaseModel) else value)
            reason = "TRAIN.FSDP is true and each process holds a share only"
            text = f"found {found}, but {reason}; allowed: {allowed}."
            yield Contradiction((f"TRAIN.{key}", "TRAIN.FSDP"), text)
