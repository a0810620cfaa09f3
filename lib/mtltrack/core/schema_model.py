"""The section MODEL of a configuration: backbone, history, box head."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictStr

from mtltrack.core.schema_types import Count, CountOrZero, Factor, NotBool, Rate, Section, Text


def _none_as_empty(value: Any) -> Any:
    """Read `PRETRAIN_FILE:` without a value as an empty name: from nothing."""
    return "" if value is None else value


class Backbone(Section):
    TYPE: Text = Field(
        default="vit_base_patch16_224",
        description="Registered backbone; names ending in _ce eliminate candidates.",
    )
    STRIDE: Count = Field(default=16, description="Pixels a token, in both directions.")
    EMBED_DIM: Count | None = Field(
        default=None, description="Channels of a token; from TYPE when not given."
    )
    DEPTH: Count | None = Field(default=None, description="Number of blocks; from TYPE when not given.")
    NUM_HEADS: Count | None = Field(
        default=None, description="Attention heads of a block; from TYPE when not given."
    )
    BATCH_FRAMES: Literal["auto", True, False] = Field(
        default="auto",
        description="Whether a clip's frames go through the backbone in one batch; auto: on a GPU they do.",
    )
    MID_PE: Literal[False] = Field(
        default=False, description="Position tables in the middle of the network: not built."
    )
    SEP_SEG: Literal[False] = Field(default=False, description="Segment embeddings: not built.")
    CAT_MODE: Literal["direct"] = Field(
        default="direct", description="How template and search tokens are joined."
    )
    MERGE_LAYER: Annotated[Literal[0], NotBool] = Field(
        default=0, description="Block at which they are joined."
    )
    ADD_CLS_TOKEN: Literal[False] = Field(
        default=False, description="A class token beside the tokens: not built."
    )
    CLS_TOKEN_USE_MODE: Literal["ignore", "add", "concat"] = Field(
        default="ignore", description="Read only with a class token."
    )
    CE_LOC: list[CountOrZero] = Field(
        default=[], description="Blocks (counted from 0) after which candidates are eliminated."
    )
    CE_KEEP_RATIO: list[Factor] = Field(
        default=[], description="Share of search tokens kept, one a block of CE_LOC."
    )
    CE_TEMPLATE_RANGE: Literal["ALL", "CTR_POINT", "CTR_REC", "GT_BOX"] = Field(
        default="ALL", description="Template tokens whose attention scores the candidates."
    )


class BoxHead(Section):
    TYPE: Literal["CENTER", "CORNER", "MLP", "DFL"] = Field(
        default="CENTER", description="The box head; DFL is CENTER with sizes as distributions."
    )
    NUM_CHANNELS: Annotated[int, Field(ge=8), NotBool] = Field(
        default=256, description="Width of the head's first convolution."
    )


class ClsHead(Section):
    NUM_CLASSES: Annotated[int, Field(ge=2), NotBool] | None = Field(
        default=None, description="As TASKS.cls.NUM_CLASSES."
    )
    HIDDEN_DIM: Count | None = Field(default=None, description="As TASKS.cls.HIDDEN_DIM.")
    DROPOUT: Rate | None = Field(default=None, description="As TASKS.cls.DROPOUT.")


class History(Section):
    KEY_DIM: Count = Field(default=64, description="Channels of a memory key.")
    VALUE_DIM: Count | None = Field(
        default=None, description="Channels of a memory value; half the token's when not given."
    )
    ENCODER_WIDTH: Count = Field(default=64, description="Width of the memory encoder's first stage.")


class Model(Section):
    keep_null: ClassVar[frozenset[str]] = frozenset({"PRETRAIN_FILE"})

    PRETRAIN_FILE: Annotated[StrictStr, BeforeValidator(_none_as_empty)] = Field(
        default="mae_pretrain_vit_base.pth", description="Weights to begin from; empty: from nothing."
    )
    NEW_HIP: StrictBool = Field(
        default=False, description="HIPTrack: enlarge the template twice before it enters the memory."
    )
    MAX_MEM: Count = Field(default=150, description="HIPTrack: entries that the memory holds.")
    HIDDEN_DIM: Count | None = Field(
        default=None, description="Accepted; the width follows from the backbone."
    )
    EXTRA_MERGER: StrictBool = Field(
        default=False, description="Accepted; never read by the published code either."
    )
    RETURN_INTER: Literal[False] = Field(default=False, description="Outputs of inner blocks: not built.")
    RETURN_STAGES: list[CountOrZero] = Field(default=[], description="Read only with RETURN_INTER.")
    CORRECT_MASK: StrictBool = Field(
        default=False, description="HIPTrack: clamp the memory's mask as meant, not as published."
    )
    BACKBONE: Backbone = Backbone()
    HEAD: BoxHead = BoxHead()
    CLS_HEAD: ClsHead | None = Field(default=None, description="Another way to write TASKS.cls.")
    HISTORY: History = History()
