"""The sections of a configuration: every key with its type, range and default.

Defaults are those of the published HIPTrack and OSTrack; keys that exist only here default to the published
behaviour. The description of a key is what an editor shows (`tools/config_schema.py`).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from mtltrack.core.schema_types import (
    Count,
    CountOrZero,
    DatasetEntry,
    Factor,
    NotBool,
    NotNegative,
    Positive,
    PrecisionName,
    Rate,
    RulePart,
    Section,
    Share,
    Text,
    ThreeNumbers,
    TypedPart,
)


class Scheduler(Section):
    TYPE: Literal["step", "Mstep"] = Field(
        default="step", description="step: every LR_DROP_EPOCH; Mstep: at MILESTONES."
    )
    DECAY_RATE: Factor = Field(default=0.1, description="step: factor of each drop.")
    MILESTONES: list[Count] = Field(default=[], description="Mstep: epochs after which the rate drops.")
    GAMMA: Factor = Field(default=0.1, description="Mstep: factor of each drop.")


class SaveBest(Section):
    METRIC: Text = Field(
        default="total", description="Figure of the validation: cls/macro_f1, total; TRAIN.EMA's if it is on."
    )
    MODE: Literal["min", "max"] = Field(default="min", description="Whether the least or the most is best.")


class FeatureCache(Section):
    DIR: StrictStr = Field(default="", description="Its folder; empty: <save_dir>/feature_cache.")
    MAX_GB: Positive = Field(default=50.0, description="Most gigabytes that it may take there.")


class Train(Section):
    """Weights of tasks, TRAIN.<TASK>_WEIGHT, are further keys: see `Config.task_weight`."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())
    __pydantic_extra__: dict[str, NotNegative]

    LR: Positive = Field(default=1e-4, description="Learning rate.")
    WEIGHT_DECAY: NotNegative = Field(default=1e-4, description="AdamW's weight decay.")
    EPOCH: Count = Field(default=500, description="Epochs, without TWO_STAGE.")
    LR_DROP_EPOCH: Count = Field(
        default=400, description="Epochs between drops of the rate (scheduler 'step')."
    )
    BATCH_SIZE: Count = Field(default=16, description="Clips a step and process.")
    NUM_WORKER: CountOrZero = Field(
        default=8, description="Loader processes; 0: load in the training process."
    )
    LOADER_TIMEOUT: NotNegative = Field(
        default=45.0, description="Seconds that a loader process may take for one sample; 0: no limit."
    )
    OPTIMIZER: Literal["ADAMW"] = Field(default="ADAMW", description="The optimizer.")
    BACKBONE_MULTIPLIER: NotNegative = Field(
        default=0.1, description="Factor of the backbone's learning rate."
    )
    GIOU_WEIGHT: NotNegative = Field(
        default=2.0, description="Weight of the box's overlap loss, whichever BOX_IOU_LOSS is."
    )
    L1_WEIGHT: NotNegative = Field(default=5.0, description="Weight of the box's L1 loss.")
    DFL_WEIGHT: NotNegative = Field(
        default=0.25, description="Weight of the distribution focal loss of MODEL.HEAD.TYPE DFL."
    )
    BOX_IOU_LOSS: Literal["GIOU", "CIOU"] = Field(default="GIOU", description="Overlap loss of the box.")
    FREEZE_LAYERS: list[CountOrZero] = Field(
        default=[0], description="Accepted; never read by the published code either."
    )
    PRINT_INTERVAL: Count = Field(default=50, description="Steps between lines of progress.")
    VAL_EPOCH_INTERVAL: Count = Field(default=20, description="Epochs between validations.")
    SAVE_INTERVAL: Count = Field(default=1, description="Epochs between checkpoints.")
    SAVE_INTERVAL_STEPS: CountOrZero = Field(
        default=0, description="Steps between states from which a run can go on; 0: at ends of epochs only."
    )
    KEEP_RESUME: Count = Field(default=2, description="Newest states that are kept to go on from.")
    KEEP_WEIGHTS: CountOrZero = Field(default=0, description="Newest epochs whose weights are kept; 0: all.")
    SAVE_BEST: SaveBest | None = Field(
        default=None, description="Keep the weights that did best in validation, <NetType>_best.pth.tar."
    )
    FEATURE_CACHE: FeatureCache | None = Field(
        default=None, description="Keep what frozen parts answer to a sample on disk; {}: as by default."
    )
    DISTINCT_EPOCHS: CountOrZero = Field(
        default=0, description="Epochs whose samples come again while the backbone is frozen; 0: none do."
    )
    EMA: Annotated[float, Field(gt=0, lt=1), NotBool] | None = Field(
        default=None, description="Decay of a moving average of the weights, as 0.999; not given: no average."
    )
    GRAD_CLIP_NORM: NotNegative = Field(
        default=0.1, description="Largest norm of the gradient; 0: not clipped."
    )
    WEIGHTING: RulePart = Field(
        default={"TYPE": "fixed"}, description="How tasks are balanced, see docs/weighting.md."
    )
    TASK_CLIP_NORM: dict[Text, Positive] = Field(
        default={}, description="Largest norm of single tasks' gradients outside their heads: {alert: 1.0}."
    )
    AUDIT_INTERVAL: CountOrZero = Field(
        default=50, description="Steps between looks at the tasks' gradients, see docs/gradients.md; 0: none."
    )
    AUDIT_FULL_INTERVAL: CountOrZero = Field(
        default=2000, description="Steps between looks at the whole matrix of gradients; 0: none."
    )
    FSDP: StrictBool = Field(
        default=False, description="Several processes: each holds a share of weights and optimizer."
    )
    DROP_LAST: StrictBool = Field(
        default=True, description="Leave out an epoch's last batch where it isn't full; false: use it."
    )
    MAX_BAD_STEPS: Count = Field(
        default=10, description="Steps in a row that aren't finite, at which training stops."
    )
    AMP: StrictBool = Field(default=False, description="Mixed precision: fp16 on a GPU, bf16 on a CPU.")
    PRECISION: PrecisionName | None = Field(default=None, description="Precision by name; goes before AMP.")
    MATMUL: Literal["auto", "default", "onednn"] = Field(
        default="auto", description="Kernel of float32 products on a CPU; auto measures which is faster."
    )
    ACCUMULATION_STEPS: Count = Field(default=1, description="Batches whose gradients make one step.")
    CHECKPOINT_ACTIVATIONS: StrictBool = Field(
        default=False, description="Less memory, more time: blocks run again in the backward pass."
    )
    HISTORY_STEPS: CountOrZero | None = Field(
        default=None, description="Frames that the gradient goes back through the history; not given: all."
    )
    BN: Literal["batch", "frozen"] = Field(default="batch", description="Statistics of trained batch norms.")
    CE_START_EPOCH: CountOrZero = Field(default=20, description="Epochs before elimination begins.")
    CE_WARM_EPOCH: CountOrZero = Field(
        default=80, description="Epochs from then until its keep ratio is reached."
    )
    DROP_PATH_RATE: Rate = Field(default=0.1, description="Stochastic depth of the backbone.")
    DEEP_SUPERVISION: StrictBool = Field(
        default=False, description="Accepted; changes nothing in the published code either."
    )
    FREEZE_BACKBONE: StrictBool | None = Field(
        default=None, description="Without TWO_STAGE; when not given: true for hiptrack, false for ostrack."
    )
    SCHEDULER: Scheduler = Scheduler()
    CLS_LOSS_TYPE: Literal["CE", "FOCAL", "LABEL_SMOOTH", "BCE"] = Field(
        default="CE", description="Loss of the task cls."
    )
    CLS_FOCAL_ALPHA: Positive = Field(default=0.25, description="FOCAL: its factor.")
    CLS_FOCAL_GAMMA: NotNegative = Field(default=2.0, description="FOCAL: its exponent.")
    CLS_LABEL_SMOOTHING: Rate = Field(
        default=0.1, description="LABEL_SMOOTH: mass given to the other classes."
    )
    FREEZE_CLS_EPOCH: Annotated[int, Field(ge=-1), NotBool] = Field(
        default=-1, description="Epoch from which the cls head no longer learns; -1 or 0: never."
    )
    TWO_STAGE: StrictBool = Field(default=False, description="First the new heads alone, then everything.")
    STAGE1_EPOCHS: CountOrZero = Field(default=30, description="Epochs of stage 1.")
    STAGE1_LR: Positive = Field(default=1e-3, description="Learning rate of stage 1.")
    STAGE2_EPOCHS: CountOrZero = Field(default=20, description="Epochs of stage 2.")
    STAGE2_LR: Positive = Field(default=1e-5, description="Learning rate of stage 2.")
    FREEZE_BACKBONE_STAGE1: StrictBool = Field(
        default=True, description="false: stage 1 trains the backbone too."
    )
    BOX_EPOCHS: CountOrZero = Field(
        default=0, description="TWO_STAGE from nothing: epochs of the tracker alone before stage 1."
    )
    BOX_LR: Positive | None = Field(
        default=None, description="Learning rate of those epochs; LR when not given."
    )


class Search(Section):
    SIZE: Count = Field(default=320, description="Side of the search crop in pixels.")
    FACTOR: Positive = Field(default=5.0, description="Side of the search crop in target sizes.")
    CENTER_JITTER: NotNegative = Field(default=4.5, description="Shift of the crop while training.")
    SCALE_JITTER: NotNegative = Field(default=0.5, description="Change of the crop's size while training.")
    NUMBER: Count = Field(default=1, description="Search frames a clip.")


class Template(Section):
    SIZE: Count = Field(default=128, description="Side of the template crop in pixels.")
    FACTOR: Positive = Field(default=2.0, description="Side of the template crop in target sizes.")
    CENTER_JITTER: NotNegative = Field(default=0.0, description="Shift of the crop while training.")
    SCALE_JITTER: NotNegative = Field(default=0.0, description="Change of the crop's size while training.")
    NUMBER: Count = Field(default=1, description="Templates a clip; only 1 is built.")


class Detail(Section):
    SIZE: Count = Field(description="Side of the detail crop in pixels.")
    FACTOR: Positive = Field(description="Side of the detail crop in target sizes.")
    CENTER_JITTER: NotNegative = Field(
        default=0.25, description="Shift of the crop while training; small, as a target moves in one frame."
    )
    SCALE_JITTER: NotNegative = Field(default=0.1, description="Change of the crop's size while training.")


class Sources(Section):
    DATASETS_NAME: list[DatasetEntry] = Field(description="Names, or mappings {TYPE, arguments}.")
    DATASETS_RATIO: list[NotNegative] = Field(description="How often each is drawn, relative to the others.")
    SAMPLE_PER_EPOCH: Count = Field(description="Clips an epoch.")
    CLS_ANN_DIR: StrictStr = Field(
        default="", description="Folder of the sidecar labels, <dir>/<seq>/<seq>.jsonl."
    )


class TrainSources(Sources):
    DATASETS_NAME: list[DatasetEntry] = Field(default=["LASOT", "GOT10K_vottrain"], min_length=1)
    DATASETS_RATIO: list[NotNegative] = Field(default=[1.0, 1.0], min_length=1)
    SAMPLE_PER_EPOCH: Count = Field(default=60000, description="Clips an epoch, over all processes.")


class ValSources(Sources):
    DATASETS_NAME: list[DatasetEntry] = Field(
        default=["GOT10K_votval"], description="As TRAIN; empty: no validation."
    )
    DATASETS_RATIO: list[NotNegative] = Field(default=[1.0], description="As TRAIN.")
    SAMPLE_PER_EPOCH: Count = Field(default=10000, description="Clips of one validation.")


class Data(Section):
    SAMPLER_MODE: Literal["causal", "trident", "trident_pro", "stark", "sequence"] = Field(
        default="causal", description="How the frames of a clip are drawn; stark is trident."
    )
    MEAN: ThreeNumbers = Field(
        default=[0.485, 0.456, 0.406], description="Mean of red, green, blue in [0, 1]."
    )
    STD: Annotated[list[Positive], Field(min_length=3, max_length=3)] = Field(
        default=[0.229, 0.224, 0.225], description="Deviation of red, green, blue."
    )
    MAX_SAMPLE_INTERVAL: Count = Field(default=200, description="Most frames between template and search.")
    MAX_JUMP: CountOrZero = Field(default=8, description="Accepted; never read by the published code either.")
    BRIGHTNESS_JITTER: Rate = Field(
        default=0.2, description="Each training crop is made up to this share darker or brighter."
    )
    TRANSFORMS: list[TypedPart] = Field(
        default=[], description="Further changes of training crops, in this order."
    )
    REDUCED_DECODE: StrictBool = Field(
        default=False, description="Decode JPEG frames no finer than their crops need; changes the pixels."
    )
    MAX_BAD_FRACTION: Share = Field(
        default=0.01,
        description="Share of unusable samples above which training stops; one passes unless this is 0.",
    )
    DETAIL: Detail | None = Field(
        default=None, description="A second view around the target at higher resolution."
    )
    SEARCH: Search = Search()
    TEMPLATE: Template = Template()
    TRAIN: TrainSources = TrainSources()
    VAL: ValSources = ValSources()


class Test(Section):
    """Sizes and factors follow DATA and EPOCH the last training epoch unless given."""

    __test__: ClassVar[bool] = False  # a section, not a test class

    EPOCH: Count = Field(
        default=500, description="Checkpoint to test; the last training epoch when not given."
    )
    TEMPLATE_SIZE: Count = Field(
        default=128, description="As DATA.TEMPLATE.SIZE, from which it is taken when not given."
    )
    TEMPLATE_FACTOR: Positive = Field(
        default=2.0, description="As DATA.TEMPLATE.FACTOR, from which it is taken when not given."
    )
    SEARCH_SIZE: Count = Field(
        default=320, description="As DATA.SEARCH.SIZE, from which it is taken when not given."
    )
    SEARCH_FACTOR: Positive = Field(
        default=5.0, description="As DATA.SEARCH.FACTOR, from which it is taken when not given."
    )
    UPDATE_INTERVAL: Count = Field(default=20, description="HIPTrack: frames between entries of the memory.")
    FPS: Positive = Field(
        default=30.0, description="Frames a second assumed for a video without time stamps."
    )
    PRECISION: PrecisionName = Field(default="fp32", description="Precision of testing.")
    MATMUL: Literal["auto", "default", "onednn"] = Field(
        default="auto", description="Kernel of float32 products on a CPU; auto measures which is faster."
    )
    PACK_WEIGHTS: StrictBool = Field(
        default=True,
        description="On a CPU, keep the weights in oneDNN's layout too: faster, twice their memory.",
    )
    TASKS: list[Text] | None = Field(
        default=None, description="Heads that run while testing; when not given, all; []: the box alone."
    )


class TaskConfig(BaseModel):
    """One block of TASKS: the head's TYPE, the edges to cut, and the head's own arguments as further keys."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    TYPE: Text = Field(description="Registered head.")
    DETACH: list[Text] = Field(
        default=[], description="Heads whose features are read without a gradient to them."
    )

    def arguments(self) -> dict[str, Any]:
        """Return the head's own arguments by their Python names: HIDDEN_DIM: 512 is hidden_dim=512."""
        return {key.lower(): value for key, value in (self.model_extra or {}).items() if value is not None}


TaskName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]
