"""Loading of training samples against its plain form: one worker, a clip from JPEG files of 1280 x 720."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from plain.loading import PlainClips, plain_collate

from mtltrack.cli.build_data import crop_settings
from mtltrack.core.config import Config
from mtltrack.data.datasets.folder import FolderSequences
from mtltrack.data.loader import PATIENCE, build_loader, start_method, start_worker
from mtltrack.data.sampler import ClipDataset, EpochSampler
from mtltrack.data.supervision import ClipLoader, supervised
from mtltrack.evaluation.costs import synchronise
from speed.rounds import Comparison, Form, Timer

FRAME_SIZE = (720, 1280)
SEQUENCES, FRAMES = 4, 16
QUALITY = 90  # of the JPEG files
TARGET = 90  # pixels along each side


def write_sequences(folder: Path) -> None:
    """Write sequences in OTB's layout: noise of several sizes, as a photograph has."""
    for number in range(SEQUENCES):
        rng = np.random.default_rng(number)
        height, width = FRAME_SIZE
        scene = sum(
            cv2.resize(rng.normal(0, 20, (height // cell, width // cell, 3)), (width, height))
            for cell in (2, 8, 40, 160)
        )
        images = folder / f"sequence_{number}" / "img"
        images.mkdir(parents=True)
        boxes = []
        for frame in range(FRAMES):
            x, y = 300 + 30 * frame, 200 + 10 * frame
            picture = np.roll(scene, 5 * frame, axis=1) + 128
            picture[y : y + TARGET, x : x + TARGET] = (40, 120, 220)
            pixels = picture.clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(images / f"{frame + 1:04d}.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            boxes.append(f"{x + 1},{y + 1},{TARGET},{TARGET}")
        (images.parent / "groundtruth_rect.txt").write_text("\n".join(boxes) + "\n")


class LoadBench:
    """Measures how long samples take until they are normalised on the device.

    Args:
        cfg: sizes and jitter of the crops; search frames a clip. DATA.TRANSFORMS are left out.
        folder: an empty one, for the images.
        samples: a round.
        timer: makes the comparison, and says where the samples go.
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
        self.timer = timer
        timer.tell("images: writing them")
        write_sequences(folder)
        settings = crop_settings(cfg)
        self.clips = ClipDataset(
            [FolderSequences(folder)],
            None,
            samples,
            cfg.DATA.SEARCH.NUMBER,
            type(settings)(settings.template, settings.search, None, settings.brightness_jitter),
            cfg.DATA.SAMPLER_MODE,
            cfg.DATA.MAX_SAMPLE_INTERVAL,
            tasks=(),
        )

    def run(self) -> list[Comparison]:
        """Compare an epoch of so many samples; workers stay, and rest between the rounds."""
        ours = build_loader(self.clips, 1, self.workers, EpochSampler(self.samples), pin_memory=None)
        plain = self._plain_loader()
        with supervised(ours, plain):
            name = (
                f"{self.workers} worker, a template and {self.cfg.DATA.SEARCH.NUMBER} search frames a sample"
            )
            return [
                self.timer.compare(
                    name,
                    Form(lambda: self._drain_ours(ours)),
                    Form(lambda: self._drain_plain(plain)),
                    warm_up=1,
                    units=self.samples,
                    memory=False,  # most of it is the workers'
                )
            ]

    def _plain_loader(self) -> ClipLoader:
        workers: dict[str, Any] = {}
        if self.workers:
            workers = {
                "worker_init_fn": start_worker,
                "persistent_workers": True,
                "multiprocessing_context": start_method(),
            }
        return ClipLoader(
            PlainClips(self.clips, self.cfg.DATA.MEAN, self.cfg.DATA.STD),
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
