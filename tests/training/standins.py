"""A tracker small enough to work out by hand, clips for it, and a loader that depends on the epoch alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mtltrack.core.types import Clip, TaskOutput
from mtltrack.training.stages import freeze_batch_norm

SIZE = 8  # pixels of a search crop


class Backbone(nn.Module):
    """Pools a frame to 3 numbers, then a layer with everything that behaves differently in training."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(2))  # no path reads it
        self.layer = nn.Linear(3, 6)
        self.norm = nn.BatchNorm1d(6)
        self.drop = nn.Dropout(0.2)

    def forward(self, search: Tensor) -> Tensor:
        batch, frames = search.shape[:2]
        pooled = search.mean((3, 4)).flatten(0, 1)  # (B T, 3)
        return self.drop(torch.tanh(self.norm(self.layer(pooled)))).unflatten(0, (batch, frames))


class Head(nn.Module):
    """A linear head with a squared error a frame, under the name `term`."""

    reads = ()

    def __init__(self, outputs: int, label: str, prediction: str) -> None:
        super().__init__()
        self.layer = nn.Linear(6, outputs)
        self.label, self.prediction = label, prediction
        self.term_weights = {"error": 2.0, "size": 0.5}

    def forward(self, features: Tensor) -> TaskOutput:
        return TaskOutput(None, {self.prediction: self.layer(features)})

    def loss_terms(self, output: TaskOutput, labels: dict[str, Tensor]) -> dict[str, Tensor]:
        answer = output.predictions[self.prediction]
        return {"error": (answer - labels[self.label]).square().mean(-1), "size": answer.square().mean(-1)}

    def metrics(self) -> MeanError:
        return MeanError(self)


class MeanError:
    def __init__(self, head: Head) -> None:
        self.head, self.values = head, []

    def update(self, output: TaskOutput, labels: dict[str, Tensor]) -> None:
        error = (output.predictions[self.head.prediction] - labels[self.head.label]).abs().mean(-1)
        self.values += error[labels["valid"]].tolist()

    def compute(self) -> dict[str, float]:
        return {"mean_error": sum(self.values) / len(self.values) if self.values else float("nan")}

    def reset(self) -> None:
        self.values = []

    def collected(self) -> list[float]:
        return self.values

    def merge(self, collected: list[float]) -> None:
        self.values = self.values + collected


class TinyTracker(nn.Module):
    """The methods of `mtltrack.models.tracker.Tracker` that training uses."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.box_head = Head(4, "cxcywh", "boxes_cxcywh")
        self.cls_head = Head(2, "value", "logits")
        self.keep_rates: list[float | None] = []

    def heads(self) -> dict[str, nn.Module]:
        return {"box": self.box_head, "cls": self.cls_head}

    def tracker_parts(self) -> dict[str, nn.Module]:
        return {"backbone": self.backbone, "box": self.box_head}

    def task_parts(self) -> dict[str, nn.Module]:
        return {"cls": self.cls_head}

    def unread_parameters(self) -> set[str]:
        return {"backbone.cls_token"}

    def forward(
        self, clip: Clip, keep_rate: float | None = None, tasks: Iterable[str] | None = None
    ) -> dict[str, TaskOutput]:
        self.keep_rates.append(keep_rate)
        features = self.backbone(clip.search)
        wanted = self.heads() if tasks is None else ["box", *tasks]
        return {task: head(features) for task, head in self.heads().items() if task in wanted}


def make_tracker(seed: int = 0) -> TinyTracker:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TinyTracker()


def make_clip(
    batch: int = 4, frames: int = 2, seed: int = 0, cls_valid: Tensor | None = None, **changes: Any
) -> Clip:
    """Return random uint8 clips; every box is labelled, cls where `cls_valid` says so (None: everywhere)."""
    g = torch.Generator().manual_seed(seed)
    everywhere = torch.ones(batch, frames, dtype=torch.bool)
    values: dict[str, Any] = {
        "template": torch.randint(0, 256, (batch, 3, SIZE, SIZE), generator=g, dtype=torch.uint8),
        "template_boxes_xywh": torch.rand(batch, 4, generator=g),
        "search": torch.randint(0, 256, (batch, frames, 3, SIZE, SIZE), generator=g, dtype=torch.uint8),
        "affine": torch.zeros(batch, frames, 2, 3),
        "timestamps": torch.zeros(batch, frames),
        "labels": {
            "box": {"valid": everywhere, "cxcywh": 0.25 + 0.5 * torch.rand(batch, frames, 4, generator=g)},
            "cls": {
                "valid": everywhere if cls_valid is None else cls_valid,
                "value": torch.rand(batch, frames, 2, generator=g),
            },
        },
        "sources": [
            {"dataset": "set", "sequence": f"s{seed}-{i}", "template_frame": 1, "search_frames": [2, 3]}
            for i in range(batch)
        ],
    }
    values.update(changes)
    return Clip(**values)


def still_tracker() -> TinyTracker:
    """A tracker without what makes a batch depend on its size: dropout and batch statistics."""
    tracker = make_tracker()
    tracker.backbone.drop.p = 0.0
    tracker.backbone.cls_token.requires_grad_(False)
    freeze_batch_norm(tracker)
    tracker.train()
    return tracker


def joint_clip() -> Clip:
    """Eight clips whose labels are uneven over their halves and quarters."""
    labelled = [[1, 1], [0, 1], [1, 0], [1, 0], [0, 0], [0, 1], [0, 0], [0, 0]]
    return make_clip(batch=8, cls_valid=torch.tensor(labelled, dtype=torch.bool))


def rows_of(clip: Clip, rows: slice) -> Clip:
    labels = {
        task: {name: value[rows] for name, value in entry.items()} for task, entry in clip.labels.items()
    }
    tensors = (clip.template, clip.template_boxes_xywh, clip.search, clip.affine, clip.timestamps)
    return Clip(*(tensor[rows] for tensor in tensors), labels, sources=clip.sources[rows])


def half(clip: Clip, number: int) -> Clip:
    middle = clip.batch_size // 2
    return rows_of(clip, slice(middle) if number == 0 else slice(middle, None))


class EpochLoader:
    """Batches that depend on the epoch alone, as those of the project's loader do."""

    def __init__(self, batches: int = 3, batch: int = 4, **clip: Any) -> None:
        self.batches, self.batch, self.clip = batches, batch, clip
        self.epoch, self.start, self.batch_size = 0, 0, batch
        self.sampler = self

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        self.epoch, self.start = epoch, start // self.batch_size

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Clip]:
        for number in range(self.start, self.batches):
            yield make_clip(self.batch, seed=1000 * self.epoch + number, **self.clip)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


class Batches(list):
    """A loader of clips that are there already."""

    @property
    def sampler(self) -> Batches:
        return self

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        pass


class Interruption(Exception):
    """The run dies."""


def stop_after_epoch(run: Any, epoch: int) -> None:
    """Let a run die when the checkpoint of an epoch has been written."""
    save = run.saver.after_epoch

    def save_and_die(current, last, stop):
        save(current, last, stop)
        if run.position.epoch == epoch:
            raise Interruption

    run.saver.after_epoch = save_and_die
