"""Which keys of a configuration do nothing for the model at hand, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mtltrack.core.config import Config

STAGE_KEYS = (
    "STAGE1_EPOCHS",
    "STAGE1_LR",
    "STAGE2_EPOCHS",
    "STAGE2_LR",
    "FREEZE_BACKBONE_STAGE1",
    "BOX_EPOCHS",
    "BOX_LR",
)
CLS_LOSS_KEYS = (
    "CLS_LOSS_TYPE",
    "CLS_FOCAL_ALPHA",
    "CLS_FOCAL_GAMMA",
    "CLS_LABEL_SMOOTHING",
    "FREEZE_CLS_EPOCH",
)
HISTORY_KEYS = (
    "MODEL.NEW_HIP",
    "MODEL.MAX_MEM",
    "MODEL.CORRECT_MASK",
    "MODEL.HISTORY.KEY_DIM",
    "MODEL.HISTORY.VALUE_DIM",
    "MODEL.HISTORY.ENCODER_WIDTH",
    "TRAIN.HISTORY_STEPS",
    "TEST.UPDATE_INTERVAL",
)


def sentences_without_effect(cfg: Config, script: str) -> list[str]:
    """Return one sentence for each key that was written down and does nothing for the model `script`."""
    sentences: dict[str, str] = {}
    for rules in (_never, _model, _elimination, _training, _frozen, _classification):
        for key, reason in rules(cfg, script):
            if cfg.is_given(key):
                sentences.setdefault(key, f"{key} ({cfg.source_line(key)}) has no effect: {reason}.")
    return list(sentences.values())


Rules = Iterator[tuple[str, str]]


def _never(cfg: Config, script: str) -> Rules:  # noqa: ARG001
    unread = "the published code never reads it, and neither does this one"
    yield "TRAIN.FREEZE_LAYERS", unread
    yield "DATA.MAX_JUMP", unread
    yield "MODEL.HIDDEN_DIM", "the width follows from the backbone"
    if cfg.MODEL.EXTRA_MERGER:
        yield "MODEL.EXTRA_MERGER", unread
    if cfg.TRAIN.DEEP_SUPERVISION:
        yield "TRAIN.DEEP_SUPERVISION", "it changes nothing in the published code either"
    if cfg.MODEL.RETURN_STAGES:
        yield "MODEL.RETURN_STAGES", "MODEL.RETURN_INTER is false"
    if cfg.MODEL.BACKBONE.CLS_TOKEN_USE_MODE != "ignore":
        yield "MODEL.BACKBONE.CLS_TOKEN_USE_MODE", "MODEL.BACKBONE.ADD_CLS_TOKEN is false"


def _model(cfg: Config, script: str) -> Rules:
    if script == "ostrack":
        for key in HISTORY_KEYS:
            yield key, "ostrack has no history"
    if cfg.MODEL.HEAD.TYPE == "MLP":
        yield "MODEL.HEAD.NUM_CHANNELS", "the MLP head has the width of the tokens"
    if cfg.MODEL.HEAD.TYPE != "DFL":
        yield "TRAIN.DFL_WEIGHT", f"MODEL.HEAD.TYPE is {cfg.MODEL.HEAD.TYPE}, not DFL"
    if not cfg.TASKS:
        for split in ("TRAIN", "VAL"):
            if getattr(cfg.DATA, split).CLS_ANN_DIR:
                yield f"DATA.{split}.CLS_ANN_DIR", "TASKS holds no task that reads labels"


def _elimination(cfg: Config, script: str) -> Rules:  # noqa: ARG001
    backbone = cfg.MODEL.BACKBONE
    keys = ["TRAIN.CE_START_EPOCH", "TRAIN.CE_WARM_EPOCH"]
    if not backbone.TYPE.endswith("_ce"):
        reason = f"the backbone {backbone.TYPE} doesn't eliminate candidates (its name with _ce does)"
        if backbone.CE_LOC:
            keys += ["MODEL.BACKBONE.CE_LOC", "MODEL.BACKBONE.CE_KEEP_RATIO"]
    elif not backbone.CE_LOC:
        reason = "MODEL.BACKBONE.CE_LOC is empty"
    elif cfg.MODEL.PRETRAIN_FILE.endswith(".pth.tar"):
        reason = "MODEL.PRETRAIN_FILE is a tracker's, so the keep ratio has its final value from epoch 1"
        yield from ((key, reason) for key in keys)
        return
    else:
        return
    yield from ((key, reason) for key in [*keys, "MODEL.BACKBONE.CE_TEMPLATE_RANGE"])


def _training(cfg: Config, script: str) -> Rules:  # noqa: ARG001
    train = cfg.TRAIN
    if train.TWO_STAGE:
        yield "TRAIN.EPOCH", "TRAIN.TWO_STAGE is true: STAGE1_EPOCHS and STAGE2_EPOCHS count"
        yield "TRAIN.FREEZE_BACKBONE", "TRAIN.TWO_STAGE is true: FREEZE_BACKBONE_STAGE1 decides"
        if train.BOX_EPOCHS == 0 or train.BOX_LR is not None:
            yield "TRAIN.LR", "TRAIN.TWO_STAGE is true: each stage has its own rate"
        if train.BOX_EPOCHS == 0:
            yield "TRAIN.BOX_LR", "TRAIN.BOX_EPOCHS is 0"
    else:
        for key in STAGE_KEYS:
            yield f"TRAIN.{key}", "TRAIN.TWO_STAGE is false"
    if train.SCHEDULER.TYPE == "step":
        longest = max(cfg.stage_lengths())
        if train.LR_DROP_EPOCH >= longest:
            reason = (
                f"the rate drops every {train.LR_DROP_EPOCH} epochs, and no stage has more than {longest}"
            )
            yield "TRAIN.LR_DROP_EPOCH", reason
            yield "TRAIN.SCHEDULER.DECAY_RATE", reason
        yield "TRAIN.SCHEDULER.MILESTONES", "TRAIN.SCHEDULER.TYPE is step"
        yield "TRAIN.SCHEDULER.GAMMA", "TRAIN.SCHEDULER.TYPE is step: DECAY_RATE is its factor"
    else:
        yield "TRAIN.LR_DROP_EPOCH", "TRAIN.SCHEDULER.TYPE is Mstep: MILESTONES decide"
        yield "TRAIN.SCHEDULER.DECAY_RATE", "TRAIN.SCHEDULER.TYPE is Mstep: GAMMA is its factor"
    if not cfg.DATA.VAL.DATASETS_NAME:
        yield "TRAIN.VAL_EPOCH_INTERVAL", "DATA.VAL.DATASETS_NAME is empty: there is no validation"
    if train.AMP and train.PRECISION is not None:
        yield "TRAIN.AMP", f"TRAIN.PRECISION is {train.PRECISION}"


def _frozen(cfg: Config, script: str) -> Rules:
    given = cfg.TRAIN.FREEZE_BACKBONE
    frozen = script == "hiptrack" if given is None else given
    if frozen and not cfg.TRAIN.TWO_STAGE:
        why = f"the default of {script}" if given is None else "TRAIN.FREEZE_BACKBONE"
        reason = f"the backbone is frozen ({why})"
        yield "TRAIN.BACKBONE_MULTIPLIER", reason
        yield "TRAIN.DROP_PATH_RATE", reason
    if cfg.TRAIN.TWO_STAGE:
        frozen = cfg.TRAIN.FREEZE_BACKBONE_STAGE1 and cfg.TRAIN.STAGE1_EPOCHS > 0
    if not frozen:
        for key in ("FEATURE_CACHE", "DISTINCT_EPOCHS"):
            yield f"TRAIN.{key}", "no stage has a frozen backbone"


def _classification(cfg: Config, script: str) -> Rules:  # noqa: ARG001
    if "cls" not in cfg.TASKS:
        for key in CLS_LOSS_KEYS:
            yield f"TRAIN.{key}", "TASKS holds no task 'cls'"
        return
    kind = cfg.TRAIN.CLS_LOSS_TYPE
    if cfg.TASKS["cls"].arguments().get("labels") == "multi":
        if kind != "BCE":
            yield "TRAIN.CLS_LOSS_TYPE", "TASKS.cls.LABELS is multi, whose loss is BCE"
        kind = "BCE"
    if kind != "FOCAL":
        yield "TRAIN.CLS_FOCAL_ALPHA", f"TRAIN.CLS_LOSS_TYPE is {kind}"
        yield "TRAIN.CLS_FOCAL_GAMMA", f"TRAIN.CLS_LOSS_TYPE is {kind}"
    if kind != "LABEL_SMOOTH":
        yield "TRAIN.CLS_LABEL_SMOOTHING", f"TRAIN.CLS_LOSS_TYPE is {kind}"
