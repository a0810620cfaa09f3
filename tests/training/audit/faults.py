"""Faults, each of which is planted alone into a healthy model or training loop.

A plant takes a `Small` and breaks it. What the audit must say of it stands beside it: the kind of the
finding, words of where it is, words of its message.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import torch
from small_models import Small
from torch import Tensor, nn

from mtltrack.core.registry import HEADS
from mtltrack.core.types import TaskOutput
from mtltrack.tasks.cls import ClsHead
from mtltrack.training import passes as passes_module
from mtltrack.training.weighting import LossReport

FILE = "tests/training/audit/faults.py"
Plant = Callable[[Small], None]


@dataclass
class Fault:
    """A fault and what the audit must say of it.

    Attributes:
        plant: breaks a `Small`.
        kind: of the finding.
        where: words that the place in the model holds.
        message: words that the message holds.
        build: how to build the `Small`.
        stage: of training in which it shows.
        alone: whether every finding must be of this kind.
    """

    plant: Plant
    kind: str
    where: tuple[str, ...]
    message: tuple[str, ...] = ()
    build: dict[str, Any] = field(default_factory=dict)
    stage: str = "joint"
    alone: bool = True


FAULTS: dict[str, Fault] = {}


def fault(kind: str, *where: str, message: tuple[str, ...] = (), **options: Any) -> Callable[[Plant], Plant]:
    """Enter a plant under its function's name."""

    def enter(plant: Plant) -> Plant:
        FAULTS[plant.__name__] = Fault(plant, kind, where, message, **options)
        return plant

    return enter


def cls_forward(change: Callable[[ClsHead, Tensor], Tensor], pooled: bool = True) -> Plant:
    """Return a plant that changes what the conditions' head makes of its pooled tokens, or of its logits."""

    def plant(small: Small) -> None:
        head = small.tracker.get_submodule("cls_head")

        def forward(tokens: Any, upstream: Any, clip: Any) -> TaskOutput:
            del upstream, clip
            features = tokens.search.mean(2)
            features = change(head, features) if pooled else features  # type: ignore[arg-type]
            hidden = head.hidden(features)  # type: ignore[operator]
            logits = head.classifier(hidden)  # type: ignore[operator]
            logits = logits if pooled else change(head, logits)  # type: ignore[arg-type]
            return TaskOutput(hidden[:, :, None], {"logits": logits})

        head.forward = forward  # type: ignore[method-assign]

    return plant


# --- cuts in the forward


@fault("missing", "cls/cls -> backbone", message=("cut at detach", FILE, "cls_head"))
def detached_for_logging(small: Small) -> None:
    cls_forward(lambda head, x: x.detach())(small)


@fault("missing", "cls/cls -> backbone", message=("cut at data", FILE))
def read_through_data(small: Small) -> None:
    cls_forward(lambda head, x: x.data * 1.0)(small)


@fault("missing", "backbone", message=("under no_grad", "switched off at", FILE))
def features_under_no_grad(small: Small) -> None:
    encode = small.tracker.encode

    def without_gradient(*args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            return encode(*args, **kwargs)

    small.tracker.encode = without_gradient  # type: ignore[method-assign]


@fault("missing", "box/giou, box/l1 -> backbone", message=("cut at argmax", FILE))
def box_from_argmax_alone(small: Small) -> None:
    predict = small.tracker.box_head.predict

    def whole_cells(maps: Tensor) -> dict[str, Tensor]:
        answer = predict(maps)  # type: ignore[operator]
        cell = answer["score_map"].flatten(1).argmax(1)
        centre = torch.stack([cell % 4, cell // 4], dim=1) / 4
        return {**answer, "boxes_cxcywh": torch.cat([centre, torch.full_like(centre, 0.3)], dim=1)}

    small.tracker.box_head.predict = whole_cells  # type: ignore[assignment]


@fault("missing", "cls/cls -> cls", message=("becomes zero at round", FILE), alone=False)
def rounded_logits(small: Small) -> None:
    cls_forward(lambda head, z: z.round(), pooled=False)(small)


@fault("missing", "cls/cls -> cls", message=("becomes zero at clamp", FILE), alone=False)
def clamped_outside_its_range(small: Small) -> None:
    cls_forward(lambda head, z: z.clamp(10.0, 20.0), pooled=False)(small)


@fault("missing", "cls/cls -> backbone", message=("leaves torch", "tolist", FILE))
def through_python_numbers(small: Small) -> None:
    cls_forward(lambda head, x: torch.tensor(x.tolist()))(small)


@fault("missing", "cls/cls -> backbone", message=("leaves torch", "item", FILE))
def scaled_by_an_item_alone(small: Small) -> None:
    cls_forward(lambda head, x: torch.ones(x.shape) * x.std().item())(small)


@fault("missing", "cls/cls -> backbone", message=("becomes zero at masked_fill_", FILE), alone=False)
def masked_in_place(small: Small) -> None:
    def mask(head: ClsHead, x: Tensor) -> Tensor:
        return x.masked_fill_(x.detach().abs() >= 0, 0.0)

    cls_forward(mask)(small)


@fault(
    "silent write", "the forward pass", message=("mul_ under no_grad", "gradients are there and wrong", FILE)
)
def masked_under_no_grad(small: Small) -> None:
    def mask(head: ClsHead, x: Tensor) -> Tensor:
        x = x * 1.0
        with torch.no_grad():
            x.mul_(x > 0)
        return x

    cls_forward(mask)(small)


@fault("silent write", "the forward pass", message=("__setitem__", FILE))
def masked_through_data(small: Small) -> None:
    def mask(head: ClsHead, x: Tensor) -> Tensor:
        x = x * 1.0
        x.data[..., ::2] = 0.0
        return x

    cls_forward(mask)(small)


@fault("missing", "cls/cls -> backbone", message=("becomes zero at __setitem__", FILE), alone=False)
def overwritten_by_index(small: Small) -> None:
    def overwrite(head: ClsHead, x: Tensor) -> Tensor:
        x = x * 1.0
        x[..., :] = 0.5
        return x

    cls_forward(overwrite)(small)


@fault("error", "cls/cls", message=("modified by an inplace operation", "mul_", FILE), alone=False)
def written_in_place_after_use(small: Small) -> None:
    def spoil(head: ClsHead, z: Tensor) -> Tensor:
        p = z.sigmoid()
        result = p * p
        p.mul_(0.5)
        return result

    cls_forward(spoil, pooled=False)(small)


@fault("missing", "backbone.blocks.1", message=("requires_grad is False",))
def a_block_left_frozen(small: Small) -> None:
    after_entering(small, lambda current: small.tracker.backbone.blocks[1].requires_grad_(False))


@fault("missing", "cls/cls -> cls", "spare", message=("unused",))
def an_unused_branch(small: Small) -> None:
    head = small.tracker.get_submodule("cls_head")
    head.add_module("spare", nn.Linear(8, 8))


@fault(
    "missing",
    "cls/cls -> history",
    "searchRegionFusion",
    message=("unused",),
    build={"script": "hiptrack"},
)
def read_before_fusion(small: Small) -> None:
    encode, run = small.tracker.encode, small.tracker.graph.run
    kept: list[Any] = []

    def remember(*args: Any, **kwargs: Any) -> Any:
        kept[:] = [encode(*args, **kwargs)]
        return kept[0]

    small.tracker.encode = remember  # type: ignore[method-assign]
    small.tracker.graph.run = lambda tokens, *rest: run(kept[0], *rest)  # type: ignore[method-assign]


@fault(
    "history",
    "box loss of frame 2 -> features of frame 1",
    message=("the memory",),
    build={"script": "hiptrack"},
)
def memory_detached(small: Small) -> None:
    history: Any = small.tracker.history
    value, read = history.search_value, history.read
    frames: list[Tensor] = []

    def remember(*args: Any) -> Tensor:
        frames.append(value(*args))
        return frames[-1]

    def cut(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        if any(torch.equal(values, frame) for frame in frames):  # not the template's entry
            keys, values = keys.detach(), values.detach()
        return read(query, keys, values)

    history.search_value, history.read = remember, cut


# --- wrong ways


@fault(
    "leaking",
    "cls/cls -> box",
    message=("the task graph has no way from cls to box", "comes in at"),
    alone=False,
)
def wired_to_another_tasks_output(small: Small) -> None:
    kept: list[Tensor] = []
    predict, head = small.tracker.box_head.predict, small.tracker.get_submodule("cls_head")

    def remember(maps: Tensor) -> dict[str, Tensor]:
        answer = predict(maps)  # type: ignore[operator]
        kept.append(answer["score_map"])
        return answer

    def wrong_loss(output: TaskOutput, labels: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"cls": torch.stack(kept[-2:], dim=1).flatten(2).mean(2)}

    small.tracker.box_head.predict = remember  # type: ignore[assignment]
    head.loss_terms = wrong_loss  # type: ignore[assignment]


@HEADS.register_module()
class AuditSizeHead(nn.Module):
    """The target's size from the box's; reads the box."""

    reads = ("box",)
    decode_keys = ("size",)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.term_weights, self.layer = {"size": 1.0}, nn.Linear(channels + 4, 2)

    def forward(self, tokens: Any, upstream: Any, clip: Any) -> TaskOutput:
        boxes = upstream["box"].predictions["boxes_cxcywh"]
        return TaskOutput(None, {"size": self.layer(torch.cat([tokens.search.mean(2), boxes], -1))})

    def loss_terms(self, output: TaskOutput, labels: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"size": (output.predictions["size"] - labels["value"]).square().mean(-1)}

    def example_labels(self, clip: Any) -> dict[str, Tensor]:
        size = clip.search.shape[:2]
        return {"valid": torch.ones(size, dtype=torch.bool), "value": torch.ones(*size, 2)}


@fault(
    "leaking",
    "size/size -> box",
    message=("no way", "comes in at"),
    build={"tasks": {"size": {"TYPE": "AuditSizeHead", "DETACH": ["box"]}}},
    alone=False,
)
def detach_not_honoured(small: Small) -> None:
    small.tracker.graph._edge = lambda task, name, output: output  # type: ignore[method-assign]


@fault(
    "missing",
    "size/size -> box",
    message=("size <- box", "cut at detach", "task_graph.py"),
    build={"tasks": {"size": {"TYPE": "AuditSizeHead"}}},
)
def edge_cut_without_detach(small: Small) -> None:
    edge = small.tracker.graph._edge

    def cut(task: str, name: str, output: TaskOutput) -> TaskOutput:
        small.tracker.graph.detach = {"size": frozenset({"box"})}
        try:
            return edge(task, name, output)
        finally:
            small.tracker.graph.detach = {}

    small.tracker.graph._edge = cut  # type: ignore[method-assign]


@fault("stale", "cls/cls", message=("another pass",), alone=False)
def loss_on_a_stale_tensor(small: Small) -> None:
    head = small.tracker.get_submodule("cls_head")
    kept: list[Tensor] = []
    loss_terms = head.loss_terms

    def stale(output: TaskOutput, labels: dict[str, Tensor]) -> dict[str, Tensor]:
        if not kept:
            kept.append(output.predictions["logits"])
        return loss_terms(replace(output, predictions={"logits": kept[0]}), labels)  # type: ignore[operator]

    head.loss_terms = stale  # type: ignore[assignment]


# --- sizes


@fault("non-finite", "cls/cls -> backbone", message=("first value", "log", FILE), alone=False)
def nan_in_one_task(small: Small) -> None:
    cls_forward(lambda head, z: (z - z.amax(-1, keepdim=True)).log(), pooled=False)(small)


@fault("non-finite", "cls/cls -> backbone", message=("first gradient", "sqrt", FILE), alone=False)
def root_of_zero(small: Small) -> None:
    cls_forward(lambda head, x: x + (x - x).square().sum(-1, keepdim=True).sqrt())(small)


@fault("vanishing", "cls/cls -> backbone", message=("next to nothing", "norms: "))
def next_to_nothing(small: Small) -> None:
    cls_forward(lambda head, x: x * 1e-12 + x.detach())(small)


@fault("exploding", "cls/cls -> backbone", message=("enormous", "norms: "), alone=False)
def far_too_much(small: Small) -> None:
    cls_forward(lambda head, x: x.detach() + 1e9 * (x - x.detach()))(small)


# --- the training loop


def after_entering(small: Small, change: Callable[[Any], Any]) -> None:
    """Change what a stage's start has set up."""
    enter = small.trainer.enter

    def entered(stage: Any) -> Any:
        current = enter(stage)
        change(current)
        return current

    small.trainer.enter = entered  # type: ignore[method-assign]


def total(small: Small, change: Callable[[LossReport], Tensor]) -> None:
    """Change the total that a step differentiates."""
    real = passes_module.total_loss

    def changed(*args: Any, **kwargs: Any) -> LossReport:
        report = real(*args, **kwargs)
        return replace(report, total=change(report))

    def use(current: Any) -> None:
        run = current.runner.run

        def patched(*args: Any, **kwargs: Any) -> Any:
            with mock.patch.object(passes_module, "total_loss", changed):
                return run(*args, **kwargs)

        current.runner.run = patched

    after_entering(small, use)


@fault("lambda", "cls", message=("1 times, and lambda is 0.1",))
def wrong_lambda(small: Small) -> None:
    after_entering(small, lambda current: setattr(current.runner.passes, "lambdas", {"cls": 1.0}))


@fault("lambda", "cls", message=("0.01 times, and lambda is 0.1", "applied twice"))
def lambda_applied_twice(small: Small) -> None:
    total(small, lambda r: r.losses["box"] + 0.1 * 0.1 * r.losses["cls"])


@fault("lambda", "cls", message=("0 times, and lambda is 0.1",), alone=False)
def task_left_out_of_the_total(small: Small) -> None:
    total(small, lambda r: r.losses["box"])


@fault("lambda", "box", message=("0.5 times, and lambda is 1",))
def averaged_over_frames_instead_of_summed(small: Small) -> None:
    total(small, lambda r: r.total / 2)


@fault("sum rule", "the gradient of a step", message=("something else is in the loss",))
def a_hidden_penalty(small: Small) -> None:
    weight = small.tracker.backbone.patch_embed.proj.weight
    total(small, lambda r: r.total + weight.square().sum())


@fault("optimizer", "backbone", message=("in no optimizer group", "backbone.blocks"), alone=False)
def backbone_missing_from_the_optimizer(small: Small) -> None:
    def drop(current: Any) -> None:
        groups = current.optimizer.param_groups
        groups[:] = [group for group in groups if group["name"] != "backbone"]

    after_entering(small, drop)


@fault("optimizer", "groups", message=("in two optimizer groups", "cls_head.classifier.bias (box and cls)"))
def parameter_in_two_groups(small: Small) -> None:
    def join(current: Any) -> None:
        bias = small.tracker.get_submodule("cls_head").classifier.bias
        next(g for g in current.optimizer.param_groups if g["name"] == "box")["params"].append(bias)

    after_entering(small, join)


@fault("optimizer", "groups", message=("a copy is trained",), alone=False)
def module_replaced_after_the_optimizer_was_built(small: Small) -> None:
    head: Any = small.tracker.get_submodule("cls_head")
    after_entering(small, lambda current: setattr(head, "classifier", nn.Linear(8, 10)))


@fault("unmoved", "a step doesn't change it", message=("its learning rate is 0", "backbone.blocks"))
def learning_rate_of_zero(small: Small) -> None:
    def still(current: Any) -> None:
        next(g for g in current.optimizer.param_groups if g["name"] == "backbone")["lr"] = 0.0

    after_entering(small, still)


@fault("step", "gradients", message=("left for the next step",))
def gradients_never_cleared(small: Small) -> None:
    after_entering(small, lambda c: setattr(c.runner.optimizer, "zero_grad", lambda set_to_none=True: None))


@fault("mode", "backbone", message=("frozen in this stage", "training mode"), stage="heads")
def frozen_module_left_in_train_mode(small: Small) -> None:
    def wake(current: Any) -> None:
        for module in small.tracker.backbone.modules():
            module.training = True

    after_entering(small, wake)


@fault(
    "leaking", "backbone", message=("frozen in this stage", "require a gradient"), stage="heads", alone=False
)
def frozen_module_left_trainable(small: Small) -> None:
    after_entering(small, lambda current: small.tracker.backbone.requires_grad_(True))


@fault("mode", "cls", message=("trains in this stage", "eval mode", "cls.hidden"))
def trained_head_left_in_eval_mode(small: Small) -> None:
    after_entering(small, lambda current: small.tracker.get_submodule("cls_head").eval())


@fault("mode", "batch norm", message=("TRAIN.BN is frozen", "box_head"), build={"TRAIN": {"BN": "frozen"}})
def batch_norm_not_frozen(small: Small) -> None:
    def wake(current: Any) -> None:
        for module in small.tracker.box_head.modules():
            module.training = True

    after_entering(small, wake)


@contextmanager
def planted(name: str):
    """Build the model that a fault belongs to and plant it."""
    entry = FAULTS[name]
    small = Small(**entry.build)
    entry.plant(small)
    yield small, entry
