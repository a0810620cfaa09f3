"""The tracker: backbone, history, box head and task heads, composed.

`hiptrack`, `ostrack` and any later tracker are assemblies of the same parts (see `mtltrack.cli.build`), never
subclasses of this class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mtltrack.core.kernels import is_onednn
from mtltrack.core.types import BOX, Clip, TaskOutput, Tokens
from mtltrack.models.backbones.vit import OneStreamFeatures
from mtltrack.models.history import HistoryNetwork
from mtltrack.models.layers.elimination import template_rows
from mtltrack.models.layers.memory import PromptMemory
from mtltrack.models.task_graph import TaskGraph
from mtltrack.models.videos import new_entries, read_memories

TEMPLATE_FRAMES = 10  # online, frames up to this one read the template's memory
EARLY_WRITES = (5, 10)  # and these two are written


def is_frozen(module: nn.Module) -> bool:
    """Return whether no parameter of `module` requires a gradient."""
    return not any(parameter.requires_grad for parameter in module.parameters())


@dataclass
class HistorySettings:
    """When the prompt memory is written: every `update_interval` frames, at most `max_memory` entries."""

    update_interval: int = 20
    max_memory: int = 150


@dataclass
class Known:
    """What is known of a batch of clips before the task heads run.

    Attributes:
        tokens: the backbone's; once `box` is there, fused with the history where there is one.
        box: the box head's answer, or None where only the backbone has run.
    """

    tokens: Tokens
    box: TaskOutput | None = None


class Tracker(nn.Module):
    """One template/search tracker with any number of task heads.

    Args:
        backbone: one-stream backbone with `embed_dim`, `patch_size`, `elimination` and `forward(template,
            search, rows, ratio)`.
        box_head: `predict(maps (B, C, h, w))` and the head contract.
        history: HIPTrack's prompt network, or None.
        heads: task name -> head, without the box.
        detach: task name -> heads that it reads without gradient.
        template_range: which template tokens decide on elimination (CE_TEMPLATE_RANGE).
        frames_at_once: send a clip's frames through the backbone in one batch; None: where it is faster, on a
            GPU and by oneDNN's products. The results are the same, but for what stochastic depth draws.
        history_settings: see `HistorySettings`.
        history_steps: frames that the gradient goes back through the history; None for the whole clip.

    The state dict keeps the names of the published checkpoints: `backbone.`, `box_head.`, the four of the
    history at the top level, and `<task>_head.` for each task.
    """

    def __init__(
        self,
        backbone: nn.Module,
        box_head: nn.Module,
        history: HistoryNetwork | None = None,
        heads: Mapping[str, nn.Module] | None = None,
        detach: Mapping[str, Iterable[str]] | None = None,
        template_range: str = "CTR_POINT",
        frames_at_once: bool | None = None,
        history_settings: HistorySettings | None = None,
        history_steps: int | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.box_head = box_head
        # The published state dict has the history's parts at its top level. They are registered there, and
        # the
        # network that joins them is kept beside the module tree so that nothing is registered twice.
        object.__setattr__(self, "history", history)
        if history is not None:
            for name, child in history.named_children():
                self.add_module(name, child)
        for task, head in (heads or {}).items():
            self.add_module(f"{task}_head", head)
        object.__setattr__(self, "graph", TaskGraph(heads or {}, detach))
        self.template_range = template_range
        self.frames_at_once = frames_at_once
        self.history_settings = history_settings or HistorySettings()
        self.history_steps = history_steps

    history: HistoryNetwork | None
    graph: TaskGraph

    def heads(self) -> dict[str, nn.Module]:
        """Return task -> head in running order, the box first."""
        return {BOX: self.box_head, **{task: self.graph.heads[task] for task in self.graph.order}}

    def tracker_parts(self) -> dict[str, nn.Module]:
        """Return the parts that make the tracker itself: backbone, history (where there is one), box."""
        parts: dict[str, nn.Module] = {"backbone": self.backbone}
        if self.history is not None:
            parts["history"] = self.history
        parts[BOX] = self.box_head
        return parts

    def task_parts(self) -> dict[str, nn.Module]:
        """Return the task heads without the box."""
        return {task: self.graph.heads[task] for task in self.graph.order}

    @staticmethod
    def unread_parameters() -> set[str]:
        """Names of parameters that no path reads, kept for the checkpoints' sake and never trained."""
        return {"backbone.cls_token", "backbone.pos_embed"}

    def checkpoint_activations(self, on: bool = True) -> None:
        """Trade time for memory in training: backbone blocks and the history's encoder run twice."""
        for part in (self.backbone, self.history):
            if part is not None:
                part.checkpoint_activations = on

    def boundaries(self) -> dict[str, str]:
        """Return where the tracker passes no gradient on by design, each with the reason."""
        found = {}
        if self.backbone.elimination:
            found["attention -> candidate elimination"] = "the scores only choose which tokens are removed"
        if self.history is not None:
            found["box.boxes_cxcywh -> history's mask"] = "whole pixels of the predicted box, 0 or 1"
        if self.history is not None and self.history_steps is not None:
            reason = f"TRAIN.HISTORY_STEPS is {self.history_steps}: older frames are read without gradient"
            found["earlier frames -> history"] = reason
        return found

    def new_memory(self) -> PromptMemory | None:
        """Return an empty prompt memory for one sequence, or None without a history."""
        return None if self.history is None else PromptMemory(self.history_settings.max_memory)

    def forward(
        self,
        clip: Clip,
        keep_rate: float | None = None,
        tasks: Iterable[str] | None = None,
        known: Known | None = None,
    ) -> dict[str, TaskOutput]:
        """Run a batch of clips, as in training.

        Frame 1 reads the template's memory, frame k the memories of frames 1 to k - 1, each written with a
        mask of the box head's own prediction; no gradient passes through that mask.

        Args:
            clip: normalised (see `Clip.normalised`).
            keep_rate: share of search tokens kept at each elimination; None for the configured one.
            tasks: heads to run beside the box; None for all.
            known: what `encode` or `answer_box` answered to these clips; what it holds isn't computed again.

        Returns:
            task -> output over (B, T).
        """
        if known is None:
            known = Known(self.encode(clip.template, clip.template_boxes_xywh, clip.search, keep_rate))
        if known.box is None:
            known = self.answer_box(clip, known.tokens)
        assert known.box is not None
        return self.graph.run(known.tokens, known.box, clip, tasks)

    def answer_box(self, clip: Clip, tokens: Tokens) -> Known:
        """Run history and box head on the tokens of `encode`: all that comes before the task heads."""
        if self.history is not None:
            maps, predictions = self._run_history(self.history, clip, tokens)
            tokens = replace(tokens, search=maps.flatten(3).transpose(2, 3), kept=None)
        else:
            maps = tokens.search_maps()
            predictions = [self.box_head.predict(maps[:, t]) for t in range(clip.num_frames)]
        return Known(tokens, self._box_output(predictions))

    def track(
        self,
        clip: Clip,
        index: int,
        memory: PromptMemory | None,
        tasks: Iterable[str] | None = None,
        choose: Callable[[Mapping[str, Tensor]], Tensor] | None = None,
    ) -> dict[str, TaskOutput]:
        """Run one frame of a sequence, as in testing: `track_videos` with one video."""
        return self.track_videos(clip, [index], [memory], tasks, choose)

    def track_videos(
        self,
        clip: Clip,
        indices: Sequence[int],
        memories: Sequence[PromptMemory | None],
        tasks: Iterable[str] | None = None,
        choose: Callable[[Mapping[str, Tensor]], Tensor] | None = None,
    ) -> dict[str, TaskOutput]:
        """Run one frame of each of V videos in one batch; the videos may be at different frames.

        A video's frames up to 10 read the template's memory; frames 5 and 10 and every `update_interval`-th
        are written; later frames read what was written. Writing comes last: a call that fails can be made
        again.

        Args:
            clip: one frame, (B, 1, 3, H, W), normalised; B / V rows of each video in turn, as a rule one.
            indices: V, of each video's frame; 1 for the first one after the template's.
            memories: V, each from `new_memory` and the same for the whole video.
            tasks: heads to run beside the box; None for all.
            choose: from the box head's predictions of the frame to the box (B, 4) that is answered and that
                the other heads are told; None: the head's own. The memory always gets the head's own.
        """
        tokens = self.encode(clip.template, clip.template_boxes_xywh, clip.search)
        maps = tokens.search_maps()[:, 0]  # (B, C, h, w)
        history, held = self.history, [memory for memory in memories if memory is not None]
        if history is None or not held:
            return self._answer_frame(tokens, self.box_head.predict(maps), clip, tasks, choose)
        key = history.search_key(maps)
        early = [video for video, index in enumerate(indices) if index <= TEMPLATE_FRAMES]
        read = read_memories(history, key, self._template(clip, tokens), early, held)
        fused = history.fuse(maps, history.prompt(maps, read))
        predictions = self.box_head.predict(fused)
        removed = [numbers[:, 0] for numbers in tokens.removed]
        frame = clip.search[:, 0], maps, predictions["boxes_cxcywh"]
        written = [video for video, index in enumerate(indices) if self._is_written(index)]
        entries = new_entries(history, key, frame, removed, written, len(indices))
        tokens = replace(tokens, search=fused[:, None].flatten(3).transpose(2, 3), kept=None)
        answer = self._answer_frame(tokens, predictions, clip, tasks, choose)
        for video, entry in entries.items():
            held[video].write(*entry)
        return answer

    def _is_written(self, index: int) -> bool:
        return index in EARLY_WRITES or (
            index > TEMPLATE_FRAMES and index % self.history_settings.update_interval == 0
        )

    def _answer_frame(
        self,
        tokens: Tokens,
        predictions: dict[str, Tensor],
        clip: Clip,
        tasks: Iterable[str] | None,
        choose: Callable[[Mapping[str, Tensor]], Tensor] | None,
    ) -> dict[str, TaskOutput]:
        if choose is not None:
            predictions = {**predictions, "boxes_cxcywh": choose(predictions)}
        return self.graph.run(tokens, self._box_output([predictions]), clip, tasks)

    def encode(
        self, template: Tensor, template_boxes_xywh: Tensor, search: Tensor, keep_rate: float | None = None
    ) -> Tokens:
        """Run the backbone over every frame of the clips.

        Args:
            template: (B, 3, Hz, Wz) normalised.
            template_boxes_xywh: (B, 4) in [0, 1] of the template.
            search: (B, T, 3, H, W) normalised.
            keep_rate: see `forward`.
        """
        batch, frames = search.shape[:2]
        stride = self.backbone.patch_size
        rows = None
        if self.backbone.elimination:
            rows = template_rows(self.template_range, template_boxes_xywh, template.shape[-1], stride)
        faster = search.is_cuda or is_onednn()
        at_once = faster if self.frames_at_once is None else self.frames_at_once
        # a frozen backbone records nothing
        with torch.set_grad_enabled(torch.is_grad_enabled() and not is_frozen(self.backbone)):
            if at_once and frames > 1:
                repeated = None if rows is None else rows.repeated(frames)
                every = template.repeat_interleave(frames, dim=0)
                features = [self.backbone(every, search.flatten(0, 1), repeated, keep_rate)]
            else:
                features = [self.backbone(template, search[:, t], rows, keep_rate) for t in range(frames)]
        return _as_tokens(features, batch, frames, search.shape[-2:], stride)

    def _template(self, clip: Clip, tokens: Tokens) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the template's memory entry is made of: image, feature maps (B, C, hz, wz) and box."""
        side = clip.template.shape[-1] // self.backbone.patch_size
        maps = tokens.template.transpose(1, 2).unflatten(2, (side, side))
        return clip.template, maps, clip.template_boxes_xywh

    def _run_history(
        self, history: HistoryNetwork, clip: Clip, tokens: Tokens
    ) -> tuple[Tensor, list[dict[str, Tensor]]]:
        maps = tokens.search_maps()  # (B, T, C, h, w)
        fused: list[Tensor] = []
        predictions: list[dict[str, Tensor]] = []
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for t in range(clip.num_frames):
            key = history.search_key(maps[:, t])
            if t == 0:
                entry = history.template_entry(*self._template(clip, tokens))
            else:
                entry = self._joined(keys), self._joined(values)
            read = history.read(key, *entry)
            fused.append(history.fuse(maps[:, t], history.prompt(maps[:, t], read)))
            predictions.append(self.box_head.predict(fused[-1]))
            if t + 1 < clip.num_frames:  # nobody reads the last frame's entry
                boxes = predictions[-1]["boxes_cxcywh"]
                removed = [numbers[:, t] for numbers in tokens.removed]
                keys.append(key)
                values.append(history.search_value(clip.search[:, t], maps[:, t], boxes, removed))
        return torch.stack(fused, dim=1), predictions

    def _joined(self, entries: list[Tensor]) -> Tensor:
        """Join the memory's entries; those of frames beyond `history_steps` carry no gradient."""
        old = 0 if self.history_steps is None else max(0, len(entries) - self.history_steps)
        return torch.cat([*(entry.detach() for entry in entries[:old]), *entries[old:]], dim=1)

    def _box_output(self, predictions: list[dict[str, Tensor]]) -> TaskOutput:
        joined = {name: torch.stack([frame[name] for frame in predictions], dim=1) for name in predictions[0]}
        features = joined.pop("features", None)  # (B, T, Cb, h, w)
        return TaskOutput(None if features is None else features.flatten(3).transpose(2, 3), joined)


def _as_tokens(
    features: list[OneStreamFeatures], batch: int, frames: int, size: tuple[int, ...], stride: int
) -> Tokens:
    """Join the backbone's passes, one over all frames or one a frame, into (B, T, ...) tokens."""
    if len(features) == 1:
        only = features[0]
        search = only.search.unflatten(0, (batch, frames))
        removed = [numbers.unflatten(0, (batch, frames)) for numbers in only.removed]
        template = only.template.unflatten(0, (batch, frames))[:, 0]
    else:
        search = torch.stack([frame.search for frame in features], dim=1)
        eliminations = zip(*(frame.removed for frame in features), strict=True)
        removed = [torch.stack(numbers, dim=1) for numbers in eliminations]
        template = features[0].template
    kept = None
    if removed:
        kept = search.new_ones(search.shape[:3], dtype=torch.bool).scatter(
            2, torch.cat(removed, dim=2), False
        )
    grid = (size[0] // stride, size[1] // stride)
    return Tokens(template=template, search=search, grid=grid, removed=removed, kept=kept)
