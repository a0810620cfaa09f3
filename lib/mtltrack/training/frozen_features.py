"""What the tracker's frozen parts answer to a sample, kept on disk: it is the same each time.

In stage 1 backbone, history and box head are frozen and in eval mode, so that everything before the task
heads depends on the sample alone; with a history that trains, the backbone's tokens still do. A sample is
known by its content, not by its number: whatever draws it, another content is another key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from accelerate import Accelerator
from torch import nn

from mtltrack.core.kernels import processor_name
from mtltrack.core.types import BOX, Clip
from mtltrack.models.tracker import Known, is_frozen
from mtltrack.training.feature_batches import entry, joined, tensors_of
from mtltrack.training.feature_keys import code_key, numerics, plain_attributes, sample_keys, weights_key
from mtltrack.training.feature_store import Entry, FeatureStore, in_units
from mtltrack.training.settings import TrainSettings
from mtltrack.training.stages import BACKBONE, Stage


class FrozenFeatures:
    """Answers what the frozen parts would, from the store where it is there.

    An answer depends on nothing that isn't in its key: the weights and buffers of the frozen parts, their
    settings and source, versions, device, threads, precision and kernels, the keep ratio, the sample's
    pixels and template box, the size of its batch and its place in it (which decide how sums are rounded).
    A batch of which one sample is missing is computed as a whole. So training gives the same bits whatever
    is in the store, and without it.

    Args:
        store: where the answers lie.
        tracker: the model without wrapper.
        accelerator: device and precision.
        mean: DATA.MEAN.
        std: DATA.STD.

    Attributes:
        parts: names of the parts that it answers for; empty in a stage in which it does nothing.
        read: samples that were found since the last call of `finish`.
        computed: samples that weren't.
    """

    def __init__(
        self,
        store: FeatureStore,
        tracker: Any,
        *,
        accelerator: Accelerator,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.store, self.tracker, self.accelerator = store, tracker, accelerator
        self.mean, self.std = list(mean), list(std)
        self.parts: tuple[str, ...] = ()
        self.read = self.computed = 0
        self._stage_group = self._group = ""
        self._repeats = False
        self._code = code_key(tracker.tracker_parts().values())  # what this process has imported by now
        self._processor = processor_name() if accelerator.device.type == "cpu" else ""

    def enter(self, stage: Stage) -> None:
        """A stage begins, or one of its parts ceases to learn: find out what is frozen, and tell."""
        self._repeats = stage.repeats
        self.parts = frozen_parts(self.tracker)
        if not self.parts:
            self._stage_group = self._group = ""
            return
        self._stage_group = self._group = self._weights()
        self.store.open(self._group)
        own, used = self.store.sizes.get(self._group, 0), in_units(self.store.size)
        limit = in_units(self.store.limit)
        self.store.tell(
            f"feature cache: {', '.join(self.parts)} frozen, their features are kept in {self.store.folder} "
            f"({in_units(own)} are there of these weights, {used} in all, limit {limit})"
            + ("" if self._repeats else "; those of validation only, as TRAIN.DISTINCT_EPOCHS is 0")
        )

    def begin(self, training: bool) -> None:
        """An epoch or a validation begins: make sure that the weights are still those of the stage.

        They aren't in the validation of averaged weights, where a part that is frozen now has trained before.

        Args:
            training: an epoch begins, whose samples come again in some stages only; those of validation do.
        """
        self._group = ""
        if not self._stage_group or (training and not self._repeats):
            return
        if self._weights() == self._stage_group:
            self._group = self._stage_group
            self.store.open(self._group)

    def finish(self, what: str) -> None:
        """Tell how many samples were read and computed since the last call; nothing if none were.

        Args:
            what: has ended: "epoch 3".
        """
        read, computed = self.read, self.computed
        self.read = self.computed = 0
        if read + computed == 0:
            return
        share = f"{read} of {read + computed} samples read ({read / (read + computed):.0%})"
        used = f"{in_units(self.store.size)} of {in_units(self.store.limit)} used"
        self.store.tell(f"feature cache, {what}: {share}, {computed} computed; {used}")

    def known(self, clip: Clip, inputs: Clip, keep_rate: float | None) -> dict[str, Known]:
        """Return {"known": what the frozen parts answer}, as an argument for the model; {} to let it run.

        Args:
            clip: as it comes from the loader.
            inputs: the same, normalised.
            keep_rate: see `Tracker.forward`.
        """
        if not self._group:
            return {}
        keys = self._keys(clip, keep_rate)
        found = self._found(keys)
        if found is not None:
            self.read += len(keys)
            return {"known": joined(found, inputs.search.device)}
        self.computed += len(keys)
        with self.accelerator.autocast():
            made = self._made(inputs, keep_rate)
        tensors = tensors_of(made)
        for row, key in enumerate(keys):
            if not self.store.has(self._group, key):
                self.store.write(self._group, key, entry(made, tensors, row))
        return {"known": made}

    def _found(self, keys: Sequence[str]) -> list[Entry] | None:
        if not all(self.store.has(self._group, key) for key in keys):
            return None
        entries = [self.store.read(self._group, key) for key in keys]
        whole = [entry for entry in entries if entry is not None]
        return whole if len(whole) == len(keys) else None

    def _made(self, inputs: Clip, keep_rate: float | None) -> Known:
        tokens = self.tracker.encode(inputs.template, inputs.template_boxes_xywh, inputs.search, keep_rate)
        made: Known = self.tracker.answer_box(inputs, tokens) if BOX in self.parts else Known(tokens)
        return made

    def _keys(self, clip: Clip, keep_rate: float | None) -> list[str]:
        with self.accelerator.autocast():
            rounding = numerics(self.accelerator.device)
        return sample_keys(clip, keep_rate, rounding, self.mean, self.std)

    def _weights(self) -> str:
        """Return the digest of everything that is the same for all samples of a stage."""
        parts = self.tracker.tracker_parts()
        own = plain_attributes(self.tracker)  # such as whose attention decides on elimination
        return weights_key({name: parts[name] for name in self.parts}, self._code, self._processor, own)


def build_features(
    tracker: Any, settings: TrainSettings, accelerator: Accelerator, tell: Callable[[str], None]
) -> FrozenFeatures | None:
    """Return what knows the frozen parts' answers, None where the settings name no folder for them."""
    if settings.feature_cache is None:
        return None
    store = FeatureStore(settings.feature_cache, settings.feature_cache_bytes, tell)
    return FrozenFeatures(store, tracker, accelerator=accelerator, mean=settings.mean, std=settings.std)


def frozen_parts(tracker: Any) -> tuple[str, ...]:
    """Return the names of the frozen parts that come before all that trains.

    All of the tracker's own, or the backbone alone, or none: what comes after a part that trains is different
    each time.
    """
    still = {name: _is_still(part) for name, part in tracker.tracker_parts().items()}
    if all(still.values()):
        return tuple(still)
    return (BACKBONE,) if still[BACKBONE] else ()


def _is_still(part: nn.Module) -> bool:
    return is_frozen(part) and not any(module.training for module in part.modules())
