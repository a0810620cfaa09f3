"""DAVIS 2016 and 2017, and any folder of videos with masks in their layout.

    <root>/JPEGImages/480p/<video>/00000.jpg
    <root>/Annotations/480p/<video>/00000.png   0 and 255 (one object), or an object's number (indexed PNG)
    <root>/ImageSets/2017/train.txt             names of videos, one a line (optional: SPLIT)

A video of several objects gives one sequence for each, <video>-1, <video>-2. Boxes are those around the
masks. LMDB: the same paths as keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import cv2
import numpy as np

from mtltrack.core.errors import ConfigError, DataError, did_you_mean
from mtltrack.core.registry import DATASETS
from mtltrack.core.rle import check_mask_size, decode_numbers
from mtltrack.data.annotations import decode_text
from mtltrack.data.datasets.base import StoredSequences, present
from mtltrack.data.datasets.folder import checked_ranges
from mtltrack.data.images import image_size, images_in
from mtltrack.data.recent import Recent
from mtltrack.data.sequences import SequenceInfo
from mtltrack.data.stores import open_store

VOID = 255  # beside numbered objects: pixels that belong to none; alone: the object
MOST_OBJECTS = 32  # a mask with more values was smoothed or isn't one


class _Entry(NamedTuple):
    video: str
    number: int


@dataclass
class _Masks:
    """What a video's masks say.

    Attributes:
        images: keys of the used frames.
        masks: key of each frame's mask, None where it has none.
        boxes_xywh: number of the object -> (F, 4) float64, NaN where it isn't to be seen.
        faults: frame -> message, where the mask can't be used.
    """

    images: list[str]
    masks: list[str | None]
    boxes_xywh: dict[int, np.ndarray]
    faults: dict[int, str]


@DATASETS.register_module()
class Davis(StoredSequences):
    """Videos with masks in the layout of DAVIS, from a folder or an LMDB. A frame counts as visible when its
    mask shows the object.

    The objects of a video are those of its first mask that shows any.

    Args:
        root: the folder that holds JPEGImages/ and Annotations/, or the LMDB.
        resolution: name of the folder below these two.
        split: a list below ImageSets/, without .txt: "2016/train", "2017/val"; None for every video.
        sequences: names of videos; None for all of the split.
        ranges: video -> [first, last] frame, counted from 1, both included. When given, only these videos are
            used.
        fps: frames a second, for time stamps.

    Raises:
        ConfigError: FPS isn't above 0.
        DataError: there are no such videos, or a video's first mask can't be read.
    """

    labelled_tasks = ("seg",)

    def __init__(
        self,
        root: str | Path,
        resolution: str = "480p",
        split: str | None = None,
        sequences: Sequence[str] | None = None,
        ranges: Mapping[str, Sequence[int]] | None = None,
        fps: float = 24.0,
    ) -> None:
        super().__init__(open_store(root))
        if fps <= 0:
            raise ConfigError(f"Davis needs FPS above 0; found {fps}")
        self.name = "davis"
        self.fps = fps
        self._image_folder, self._mask_folder = f"JPEGImages/{resolution}", f"Annotations/{resolution}"
        found = [video for video in self.store.list(self._mask_folder) if self._mask_names(video)]
        videos = found if split is None else self._split(split, found)
        for wanted in sequences or ():
            if wanted not in videos:
                raise DataError(
                    f"SEQUENCES names the video '{wanted}', which isn't in {self._where(split)}."
                    f"{did_you_mean(wanted, videos)} There: {', '.join(videos[:20]) or 'none'}."
                )
        self.ranges = checked_ranges(ranges, videos, self._where(split))
        self._entries: list[_Entry] = []
        for video in videos:
            if (sequences is None or video in sequences) and (ranges is None or video in self.ranges):
                self._add(video)
        self._require_names(f"{self._image_folder}/<video>/*.jpg with {self._mask_folder}/<video>/*.png")
        self._videos = {video: number for number, video in enumerate(videos)}
        self._scanned: Recent[_Masks] = Recent(256)

    def _where(self, split: str | None) -> str:
        return self.store.locate(self._mask_folder if split is None else f"ImageSets/{split}.txt")

    def _mask_names(self, video: str) -> list[str]:
        return [name for name in self.store.list(f"{self._mask_folder}/{video}") if name.endswith(".png")]

    def _split(self, split: str, found: list[str]) -> list[str]:
        """Return the videos that a list names: their names, or paths of images in their folders."""
        key = f"ImageSets/{split}.txt"
        if not self.store.exists(key):
            lists = [
                f"{year}/{name.removesuffix('.txt')}"
                for year in self.store.list("ImageSets")
                for name in self.store.list(f"ImageSets/{year}")
            ]
            raise DataError(
                f"SPLIT: there is no {self.store.locate(key)}. There: {', '.join(lists) or 'no lists'}. "
                "Correct SPLIT, or leave it out for every video."
            )
        videos: list[str] = []
        text = decode_text(self.store.read(key), self.store.locate(key))
        for line, words in enumerate((line.split() for line in text.splitlines()), start=1):
            if not words:
                continue
            path = PurePosixPath(words[0])
            video = path.name if len(path.parts) == 1 else path.parent.name
            if video not in found:
                raise DataError(
                    f"{self.store.locate(key)}, line {line}: the video '{video}' has no masks in "
                    f"{self.store.locate(self._mask_folder)}. Is the data set complete?"
                )
            if video not in videos:
                videos.append(video)
        return videos

    def _add(self, video: str) -> None:
        """Add a sequence for each object of a video."""
        for name in self._mask_names(video):
            key = f"{self._mask_folder}/{video}/{name}"
            numbers = _objects(decode_numbers(self.store.read(key), self.store.locate(key)))
            if len(numbers) > MOST_OBJECTS:
                raise DataError(
                    f"{self.store.locate(key)}: holds {len(numbers)} values besides 0; wanted 0 and 255, or "
                    f"the numbers of at most {MOST_OBJECTS} objects. Save it without smoothing, as PNG."
                )
            if numbers:
                self._entries += [_Entry(video, number) for number in numbers]
                self.names += [video] if len(numbers) == 1 else [f"{video}-{number}" for number in numbers]
                return

    def _load(self, i: int) -> SequenceInfo:
        entry = self._entries[i]
        found = self._masks_of(entry)
        masked = np.array([key is not None for key in found.masks])
        masked[list(found.faults)] = False
        boxes = found.boxes_xywh[entry.number]
        return SequenceInfo(
            name=self.names[i],
            boxes_xywh=np.nan_to_num(boxes),
            visible=present(boxes),
            fps=self.fps,
            first_frame=self.ranges.get(entry.video, (1, 0))[0],
            faults=dict(found.faults),
            masked=masked,
            mask_where={
                frame: self.store.locate(key) for frame, key in enumerate(found.masks) if key is not None
            },
        )

    def _image_key(self, i: int, frame: int) -> str:
        return self._masks_of(self._entries[i]).images[frame]

    def mask(self, i: int, frame: int) -> np.ndarray:
        """Return the object's mask (H, W) uint8 in frame `frame` (from 0) of sequence `i`, 1 on it.

        Raises:
            DataError: the frame has no mask, or one that can't be used; names the file.
        """
        entry = self._entries[i]
        found = self._masks_of(entry)
        key = found.masks[frame]
        if key is None or frame in found.faults:
            image = self.store.locate(found.images[frame])
            raise DataError(found.faults.get(frame, f"{image}: the image has no mask of its name. Add it."))
        numbers = decode_numbers(self.store.read(key), self.store.locate(key))
        return (numbers == entry.number).astype(np.uint8)

    def _masks_of(self, entry: _Entry) -> _Masks:
        return self._scanned.get(self._videos[entry.video], lambda _: self._scan(entry.video))

    def _scan(self, video: str) -> _Masks:
        """Read every mask of a video once: its objects' boxes and its faults."""
        images = self._images(video)
        names = {PurePosixPath(name).stem: name for name in self._mask_names(video)}
        keys = [names.get(PurePosixPath(image).stem) for image in images]
        masks = [None if name is None else f"{self._mask_folder}/{video}/{name}" for name in keys]
        numbers = [entry.number for entry in self._entries if entry.video == video]
        boxes = {number: np.full((len(images), 4), np.nan) for number in numbers}
        faults: dict[int, str] = {}
        for frame, (image, key) in enumerate(zip(images, masks, strict=True)):
            if key is None:
                continue
            try:
                pixels = self._checked_mask(key, image)
            except DataError as error:
                faults[frame] = str(error)
                continue
            for number in numbers:
                x, y, w, h = cv2.boundingRect((pixels == number).astype(np.uint8))
                if w and h:
                    boxes[number][frame] = (x, y, w, h)
        return _Masks(images, masks, boxes, faults)

    def _checked_mask(self, key: str, image: str) -> np.ndarray:
        where = self.store.locate(key)
        pixels = decode_numbers(self.store.read(key), where)
        check_mask_size(pixels, image_size(self.store.read(image), self.store.locate(image)), where)
        return pixels

    def _images(self, video: str) -> list[str]:
        """Return the keys of the used frames."""
        images = images_in(self.store, f"{self._image_folder}/{video}")
        stems = {PurePosixPath(image).stem for image in images}
        lost = [name for name in self._mask_names(video) if PurePosixPath(name).stem not in stems]
        if lost:
            raise DataError(
                f"{self.store.locate(f'{self._mask_folder}/{video}/{lost[0]}')}: has no image of its name in "
                f"{self.store.locate(f'{self._image_folder}/{video}')} ({len(lost)} such masks). Restore the "
                "images, or remove the masks."
            )
        first, last = self.ranges.get(video, (1, len(images)))
        if last > len(images):
            raise DataError(
                f"RANGES of '{video}' ends at frame {last}, but the video has {len(images)}. Correct RANGES."
            )
        return images[first - 1 : last]


def _objects(mask: np.ndarray) -> list[int]:
    """Return the numbers of the objects in a mask."""
    numbers = [int(value) for value in np.flatnonzero(np.bincount(mask.ravel(), minlength=256)) if value]
    return numbers if len(numbers) == 1 else [number for number in numbers if number != VOID]
