"""Loading of training samples against its plain form: one worker, a clip from JPEG files of 1280 x 720."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from plain.loading import PlainClips, plain_collate

from mtltrack.cli.build_data import crop_settings
from mtltrack.core.config import Config
from mtltrack.data.augment import ClipTransform, CropSettings, CutFrame, FrameAndBox, SampleRandom
from mtltrack.data.datasets.folder import FolderSequences
from mtltrack.data.frames import as_frame
from mtltrack.data.loader import PATIENCE, build_loader, start_method, start_worker
from mtltrack.data.sampler import ClipDataset, EpochSampler
from mtltrack.data.supervision import ClipLoader, supervised
from mtltrack.evaluation.costs import synchronise
from speed.rounds import CLOCKS, CPU, Comparison, Form, Timer

FRAME_SIZE = (720, 1280)
TARGETS = (45, 85, 126, 168, 213, 293, 387, 561)
"""Pixels along each side of a sequence's target: the middles of eight equal parts of the boxes of GOT-10k's
validation set (21,007 of them; the root of a box's area at 720 lines of 1080)."""
FRAMES = 8
QUALITY = 90  # of the JPEG files
NOISE = {2: 4, 8: 12, 40: 20, 160: 30}  # pixels across -> strength, weaker where finer, as in photographs


def write_sequences(folder: Path) -> None:
    """Write a sequence for each of TARGETS in OTB's layout.

    A frame is noise of several sizes, in some 150 kB (1.3 bits a pixel): photographs of that size have 0.8 to
    1.3.
    """
    height, width = FRAME_SIZE
    for number, side in enumerate(TARGETS):
        rng = np.random.default_rng(number)
        scene = sum(
            cv2.resize(rng.normal(0, strength, (height // cell, width // cell, 3)), (width, height))
            for cell, strength in NOISE.items()
        )
        images = folder / f"sequence_{number}" / "img"
        images.mkdir(parents=True)
        boxes = []
        for frame, place in enumerate(np.linspace(0.2, 0.8, FRAMES)):
            x, y = round(place * (width - side)), round(place * (height - side))
            picture = np.roll(scene, 5 * frame, axis=1) + 128
            picture[y : y + side, x : x + side] += (-40, 0, 40)
            pixels = picture.clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(images / f"{frame + 1:04d}.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            boxes.append(f"{x + 1},{y + 1},{side},{side}")
        (images.parent / "groundtruth_rect.txt").write_text("\n".join(boxes) + "\n")


def workers_seconds() -> float:
    """Return the processor's time that this process's living children have taken, which Linux tells.

    With one loader at work it is what decides how many samples a second come, as long as the process that
    takes them has less to do.
    """
    return sum(time.clock_gettime(_clock_of(child.pid)) for child in multiprocessing.active_children())


def _clock_of(process: int | None) -> int:
    """Return the system's number for the clock of another process's time on processors."""
    assert process is not None
    return (~process << 3) | 2  # what clock_getcpuclockid gives


class Counted(ClipTransform):
    """Counts the frames by how much their decoding reduced them."""

    def __init__(self, settings: CropSettings) -> None:
        super().__init__(settings)
        self.divisors: Counter[int] = Counter()

    def __call__(
        self,
        template: FrameAndBox,
        search: Sequence[FrameAndBox],
        rng: SampleRandom,
        allow_flip: bool = True,
    ) -> tuple[CutFrame, list[CutFrame]]:
        """Cut one clip."""
        crops = super().__call__(template, search, rng, allow_flip)
        self.divisors.update(as_frame(image).divisor for image, _ in (template, *search))
        return crops


class LoadBench:
    """Measures how long samples take until they are normalised on the device.

    Args:
        cfg: sizes and jitter of the crops; search frames a clip. DATA.TRANSFORMS are left out.
        folder: an empty one, for the images.
        samples: a round.
        timer: makes the comparison, and says where the samples go; with the processor's clock, that of the
            workers counts, if there are any.
        workers: processes that load; 0 loads in this one.
    """

    def __init__(
        self,
        cfg: Config,
        folder: Path,
        samples: int,
        timer: Timer,
        workers: int = 1,
    ) -> None:
        self.cfg, self.device, self.samples, self.workers = cfg, timer.device, samples, workers
        takes_theirs = workers and timer.clock is CLOCKS[CPU]
        self.timer = replace(timer, clock=workers_seconds) if takes_theirs else timer
        timer.tell("images: writing them")
        write_sequences(folder)
        self.sources = [FolderSequences(folder)]

    def run(self) -> list[Comparison]:
        """Compare an epoch of so many samples, decoded in full and at reduced scale, with the plain form.

        Workers stay, and rest between the rounds.
        """
        full, reduced = (
            build_loader(self.clips(choice), 1, self.workers, EpochSampler(self.samples), pin_memory=None)
            for choice in (False, True)
        )
        plain = self._plain_loader()
        told = f"{self.workers} worker, a template and {self.cfg.DATA.SEARCH.NUMBER} search frames"
        with supervised(full, reduced, plain):
            return [
                self._compare(f"{told}, decoded whole", full, plain),
                self._compare(f"{told}, decoded at {self._scales()}", reduced, plain),
            ]

    def _compare(self, name: str, ours: ClipLoader, plain: ClipLoader) -> Comparison:
        return self.timer.compare(
            name,
            Form(lambda: self._drain_ours(ours)),
            Form(lambda: self._drain_plain(plain)),
            warm_up=1,
            units=self.samples,
            memory=False,  # most of it is the workers'
        )

    def clips(self, reduced: bool) -> ClipDataset:
        """Return the clips, whose frames are decoded in full or no finer than needed."""
        cfg, settings = self.cfg, crop_settings(self.cfg)
        return ClipDataset(
            self.sources,
            None,
            self.samples,
            cfg.DATA.SEARCH.NUMBER,
            replace(settings, detail=None, transforms=(), reduced_decode=reduced),
            cfg.DATA.SAMPLER_MODE,
            cfg.DATA.MAX_SAMPLE_INTERVAL,
            tasks=(),
        )

    def _scales(self) -> str:
        """Say at which scales the frames of an epoch are decoded, and how many at each."""
        clips = self.clips(reduced=True)
        clips.transform = counted = Counted(clips.transform.settings)
        for number in range(self.samples):
            clips[0, number]
        total = counted.divisors.total()
        return ", ".join(
            f"{'1/' if divisor > 1 else ''}{divisor} ({count / total:.0%})"
            for divisor, count in sorted(counted.divisors.items())
        )

    def _plain_loader(self) -> ClipLoader:
        workers: dict[str, Any] = {}
        if self.workers:
            workers = {
                "worker_init_fn": start_worker,
                "persistent_workers": True,
                "multiprocessing_context": start_method(),
            }
        return ClipLoader(
            PlainClips(self.clips(reduced=False), self.cfg.DATA.MEAN, self.cfg.DATA.STD),
            name="plain",
            patience=PATIENCE,
            batch_size=1,
            sampler=EpochSampler(self.samples),
            num_workers=self.workers,
            collate_fn=plain_collate,
            pin_memory=torch.cuda.is_available(),
            **workers,
        )

    def _drain_ours(self, loader: ClipLoader) -> None:
        for clip in loader:
            clip.to(self.device).normalised(self.cfg.DATA.MEAN, self.cfg.DATA.STD)
        synchronise(self.device)

    def _drain_plain(self, loader: ClipLoader) -> None:
        for views in loader:
            for view in views:
                view.images.to(self.device, non_blocking=True)
        synchronise(self.device)
