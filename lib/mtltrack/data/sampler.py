"""The training data set: clips drawn from sequences, each a pure function of (seed, epoch, index)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from mtltrack.core.errors import ConfigError, DataError
from mtltrack.core.stopping import StopRule
from mtltrack.data.augment import ClipTransform, CropSettings, RejectedDraw, SampleRandom
from mtltrack.data.collate import Sample, build_sample
from mtltrack.data.frames import Frame, open_frame
from mtltrack.data.sampling import FrameChoice, sampling_mode
from mtltrack.data.sequences import SequenceDataset, SequenceInfo
from mtltrack.data.task_labels import ClipLabels, ClipParts
from mtltrack.data.value_checks import check_in_frame

MAX_DRAWS = 100
"""Draws for one sample before the data are called unusable."""
TOO_FEW = "too few visible frames"


class ClipDataset(Dataset[Sample]):
    """Clips of a template and some search frames, mixed from several data sets.

    `dataset[(epoch, index)]` is the same sample in any process, whatever was asked before. A draw that hits
    unusable data is reported in the sample's source (`bad`) and replaced by the next draw of the same random
    stream. So is a draw that no data is at fault for, a sequence with too few visible frames or a crop of
    padding; `redraws` counts those: data set -> kind -> how many.

    Args:
        sources: the data sets.
        ratios: how often each is drawn, any positive scale (DATASETS_RATIO).
        samples_per_epoch: length of an epoch.
        num_search: search frames a clip, T.
        sampler_mode: DATA.SAMPLER_MODE, one of `sampling.MODES`.
        max_interval: longest step between frames (DATA.MAX_SAMPLE_INTERVAL).
        crop: sizes and factors of the crops.
        augment: brightness and mirror images a crop; False for validation.
        seed: number of the random stream.
        tasks: tasks beside the box whose labels the samples carry.
        alphabet: characters of plate texts (TASKS.ocr.ALPHABET); needed for the task ocr.
        text_columns: columns of the reader (TASKS.ocr.COLUMNS).
        stop_rule: of the task alert, for sources that give no stopped seconds; None for its defaults.
        num_classes: of the task cls (TASKS.cls.NUM_CLASSES); None: as many as there are conditions.

    Raises:
        ConfigError: an argument is out of range or the lists don't match.
        DataError: a source has no sequences, or none that is long enough for `num_search`.
    """

    def __init__(
        self,
        sources: Sequence[SequenceDataset],
        ratios: Sequence[float] | None,
        samples_per_epoch: int,
        num_search: int,
        crop: CropSettings,
        sampler_mode: str = "causal",
        max_interval: int = 200,
        augment: bool = True,
        seed: int = 42,
        tasks: Sequence[str] = ("cls",),
        alphabet: str | None = None,
        text_columns: int = 24,
        stop_rule: StopRule | None = None,
        num_classes: int | None = None,
    ) -> None:
        self.sources = list(sources)
        self.source_names = _distinct([source.name for source in self.sources])
        self.ratios = _checked_ratios(self.sources, ratios)
        if samples_per_epoch < 1 or num_search < 1 or max_interval < 1:
            raise ConfigError(
                "SAMPLE_PER_EPOCH, DATA.SEARCH.NUMBER and DATA.MAX_SAMPLE_INTERVAL must be at least 1; found "
                f"{samples_per_epoch}, {num_search} and {max_interval}"
            )
        self.samples_per_epoch = samples_per_epoch
        self.num_search = num_search
        self.sampler_mode = sampler_mode
        self.choose_frames = sampling_mode(sampler_mode)
        self.max_interval = max_interval
        self.transform = ClipTransform(crop, augment)
        self.seed = seed
        self.labels = ClipLabels(tasks, alphabet, text_columns, stop_rule, num_classes)
        for source, ratio, name in zip(self.sources, self.ratios, self.source_names, strict=True):
            if ratio > 0:
                self._require_usable(source, name)

    def __len__(self) -> int:
        return self.samples_per_epoch

    def __getitem__(self, index: tuple[int, int]) -> Sample:
        """Return sample `index` = (epoch, number in the epoch); raises DataError when no draw succeeds."""
        epoch, number = index
        rng = SampleRandom.for_sample(self.seed, epoch, number)
        bad: list[str] = []
        redraws: dict[str, dict[str, int]] = {}
        for _ in range(MAX_DRAWS):
            source = rng.python.choices(range(len(self.sources)), self.ratios)[0]
            name = self.source_names[source]
            try:
                sample = self._draw(self.sources[source], rng)
            except RejectedDraw as rejected:
                kinds = redraws.setdefault(name, {})
                kinds[str(rejected)] = kinds.get(str(rejected), 0) + 1
            except DataError as error:
                bad.append(str(error))
            else:
                sample.source.update(dataset=name, epoch=epoch, index=number, bad=bad, redraws=redraws)
                return sample
        raise DataError(self._hopeless(epoch, number, bad, redraws))

    def _require_usable(self, source: SequenceDataset, name: str) -> None:
        """Raise DataError unless some sequence gives a clip; reads sequences up to the first that does."""
        fault = ""
        for i in range(source.num_sequences):
            try:
                if self._choose(source.sequence(i), SampleRandom(0)) is not None:
                    return
            except DataError as error:
                fault = f" Last fault: {error}"
        raise DataError(
            f"none of the {source.num_sequences} sequences of {name} has enough visible frames for a "
            f"template and {self.num_search} search frames (DATA.SAMPLER_MODE {self.sampler_mode}).{fault} "
            f"Lower DATA.SEARCH.NUMBER, add longer sequences, or take {name} out of DATASETS_NAME."
        )

    def _hopeless(self, epoch: int, number: int, bad: list[str], redraws: dict[str, dict[str, int]]) -> str:
        reasons = [
            f"{count} x {name}: {kind}" for name, kinds in redraws.items() for kind, count in kinds.items()
        ]
        reasons += [f"last fault: {bad[-1]}"] if bad else []
        return (
            f"no usable clip of 1 template and {self.num_search} search frames in {MAX_DRAWS} draws "
            f"from {', '.join(self.source_names)} (epoch {epoch}, sample {number}); {'; '.join(reasons)}. "
            "A sequence needs more visible frames than DATA.SEARCH.NUMBER: lower it, or add longer sequences."
        )

    def _draw(self, source: SequenceDataset, rng: SampleRandom) -> Sample:
        """Draw one clip; raises RejectedDraw when the drawn sequence or crop doesn't give one."""
        i = rng.python.randrange(source.num_sequences)
        info = source.sequence(i)
        choice = self._choose(info, rng)
        if choice is None:
            raise RejectedDraw(TOO_FEW)
        frames = [choice.template, *choice.search]
        for frame in frames:
            if frame in info.faults:
                raise DataError(info.faults[frame])
        images: dict[int, Frame] = {}
        for frame in frames:
            if frame not in images:
                images[frame] = open_frame(source, i, frame, self.transform.settings.reduced_decode)
        for frame, image in images.items():
            x, y, w, h = info.boxes_xywh[frame]
            check_in_frame((x, y, x + w, y + h), image.size, f"{info.where(frame)}: the box")
        boxes = torch.from_numpy(info.boxes_xywh[frames].astype(np.float32))
        views = [(images[frame], box) for frame, box in zip(frames, boxes, strict=True)]
        template, search = self.transform(views[0], views[1:], rng, allow_flip=not info.has_text)
        sizes = [image.size for image, _ in views[1:]]
        labels = self.labels(ClipParts(source, i, info, choice, search, sizes))
        return build_sample(template, search, info, choice, source.name, labels)

    def _choose(self, info: SequenceInfo, rng: SampleRandom) -> FrameChoice | None:
        usable = info.visible.copy()
        usable[list(info.faults)] = True  # a fault must be hit to be counted
        numbers = np.flatnonzero(usable)
        if not info.is_video:
            return FrameChoice(int(numbers[0]), [int(numbers[0])] * self.num_search) if len(numbers) else None
        return self.choose_frames(numbers, self.num_search, self.max_interval, rng)


def _distinct(names: Sequence[str]) -> list[str]:
    """Number the names that occur more than once: folder, folder #2."""
    counts = [names[: k + 1].count(name) for k, name in enumerate(names)]
    return [name if count == 1 else f"{name} #{count}" for name, count in zip(names, counts, strict=True)]


def _checked_ratios(sources: Sequence[SequenceDataset], ratios: Sequence[float] | None) -> list[float]:
    if not sources:
        raise ConfigError("DATASETS_NAME names no data set. Name at least one.")
    values = (
        [float(source.num_sequences) for source in sources] if ratios is None else [float(r) for r in ratios]
    )
    if len(values) != len(sources) or min(values) < 0 or sum(values) <= 0:
        raise ConfigError(
            f"DATASETS_RATIO needs one number a data set ({len(sources)}), none below 0 and not all 0; "
            f"found {ratios}"
        )
    for source in sources:
        if source.num_sequences == 0:
            raise DataError(f"the data set {source.name} has no sequences. Correct its root or its split.")
    return values


class EpochSampler(Sampler[tuple[int, int]]):
    """Gives the indices (epoch, i) of an epoch, each once over all ranks.

    Args:
        length: samples an epoch.
        epoch: number of the epoch, part of each index.
        shuffle: mix the order (the samples themselves don't change); the order depends on `seed` and the
            epoch.
        seed: for the order only.
        rank: this process.
        world_size: number of processes; rank r takes every world_size-th index.
        even: leave out the last indices that would give some ranks one more than others.
    """

    def __init__(
        self,
        length: int,
        epoch: int = 0,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        even: bool = False,
    ) -> None:
        if length < 1 or not 0 <= rank < world_size:
            raise ConfigError(
                f"an epoch needs length >= 1 and 0 <= rank < world_size; "
                f"found {length}, {rank} and {world_size}"
            )
        self.length = length
        self.epoch = epoch
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.even = even
        self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Go to another epoch.

        Args:
            epoch: its number.
            start: samples of this rank's share to leave out, those that an interrupted run had already; the
                length stays that of the whole share.
        """
        self.epoch, self.start = epoch, start

    def _order(self) -> np.ndarray:
        if not self.shuffle:
            return np.arange(self.length)
        return np.random.default_rng([self.seed, self.epoch]).permutation(self.length)

    def _share(self) -> int:
        rest = 0 if self.even else int(self.rank < self.length % self.world_size)
        return self.length // self.world_size + rest

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for i in self._order()[self.rank :: self.world_size][self.start : self._share()]:
            yield self.epoch, int(i)

    def __len__(self) -> int:
        return self._share()
