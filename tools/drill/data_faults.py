"""Corrupt data: exactly what is corrupt must be listed, by file and line or key, and training must go on."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
from tools.drill.row import Row

from mtltrack.core.errors import DataError
from mtltrack.data import ClipDataset, CropSettings, EpochSampler, FaultLog, ViewSettings, build_loader
from mtltrack.data.datasets import FolderSequences
from mtltrack.data.images import decode_image
from mtltrack.data.labelled import LabelledSequences
from mtltrack.data.pack import pack_folder

WIDTH, HEIGHT = 64, 48
CROP = CropSettings(ViewSettings(16, 2.0), ViewSettings(32, 4.0))
Place = tuple[str, int | None, str | None]  # file, line, key of an LMDB

YAML = """
DATA:
  MAX_SAMPLE_INTERVAL: 10
  SEARCH: {{SIZE: 64, NUMBER: 1, FACTOR: 4.0}}
  TEMPLATE: {{SIZE: 32}}
  TRAIN:
    DATASETS_NAME: [{{TYPE: FolderSequences, ROOT: {root}, CLS_ANN_DIR: {labels}}}]
    DATASETS_RATIO: [1]
    SAMPLE_PER_EPOCH: {samples}
  VAL: {{DATASETS_NAME: [], DATASETS_RATIO: []}}
MODEL:
  PRETRAIN_FILE: ''
  BACKBONE: {{TYPE: vit_tiny_patch16_224, EMBED_DIM: 24, DEPTH: 1, NUM_HEADS: 2}}
  HEAD: {{NUM_CHANNELS: 8}}
TRAIN: {{BATCH_SIZE: 8, NUM_WORKER: 1, EPOCH: {epochs}}}
"""


@dataclass(frozen=True)
class World:
    """A data set of sequences with labels.

    Attributes:
        folder: of everything.
        sequences: how many.
        frames: of each.
    """

    folder: Path
    sequences: int
    frames: int

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def labels(self) -> Path:
        return self.folder / "labels"

    def image(self, sequence: int, frame: int) -> Path:
        return self.data / f"s{sequence}" / "img" / f"{frame:05d}.jpg"

    def boxes(self, sequence: int) -> Path:
        return self.data / f"s{sequence}" / "groundtruth_rect.txt"

    def jsonl(self, sequence: int) -> Path:
        return self.labels / f"s{sequence}" / f"s{sequence}.jsonl"

    def write(self) -> World:
        """Write the data, all of it sound."""
        noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        picture = cv2.imencode(".jpg", noise)[1].tobytes()
        for sequence in range(self.sequences):
            for frame in range(1, self.frames + 1):
                path = self.image(sequence, frame)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(picture)
            self.boxes(sequence).write_text("20,16,16,14\n" * self.frames, encoding="utf-8")
            lines = [json.dumps({"frame_id": frame, "alert": 0}) for frame in range(1, self.frames + 1)]
            self.jsonl(sequence).parent.mkdir(parents=True, exist_ok=True)
            self.jsonl(sequence).write_text("\n".join(lines), encoding="utf-8")
        return self


def _replace_line(path: Path, number: int, text: str) -> Place:
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[number - 1] = text
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path), number, None


def _write(path: Path, data: bytes) -> Place:
    path.write_bytes(data)
    return str(path), None, None


def _remove(path: Path) -> Place:
    path.unlink()
    return str(path), None, None


KINDS: dict[str, Callable[[World, int, int], Place]] = {
    "truncated JPEG": lambda w, s, f: _write(
        w.image(s, f), w.image(s, f).read_bytes()[: 200 + 90 * f % 1500]
    ),
    "missing file": lambda w, s, f: _remove(w.image(s, f)),
    "empty file": lambda w, s, f: _write(w.image(s, f), b""),
    "file of zeros": lambda w, s, f: _write(w.image(s, f), bytes(900)),
    "box with NaN": lambda w, s, f: _replace_line(w.boxes(s), f, "20,nan,16,14"),
    "box of negative size": lambda w, s, f: _replace_line(w.boxes(s), f, "20,16,-16,14"),
    "box outside of the picture": lambda w, s, f: _replace_line(w.boxes(s), f, "900,16,16,14"),
    "JSONL line that is cut": lambda w, s, f: _replace_line(w.jsonl(s), f, f'{{"frame_id": {f}, "ale'),
    "JSONL line with a wrong value": lambda w, s, f: _replace_line(
        w.jsonl(s), f, f'{{"frame_id": {f}, "alert": 7}}'
    ),
    "JSONL line that is no JSON": lambda w, s, f: _replace_line(w.jsonl(s), f, "oops"),
}


def spoil(world: World, faults: int, seed: int = 0) -> dict[Place, str]:
    """Spoil `faults` frames, each another one, with all kinds in turn; return where, and what it is."""
    rng = np.random.default_rng(seed)
    spots = rng.choice(world.sequences * (world.frames // 3), faults, replace=False)  # never neighbours
    found: dict[Place, str] = {}
    for number, spot in enumerate(spots):
        sequence, third = divmod(int(spot), world.frames // 3)
        kind = list(KINDS)[number % len(KINDS)]
        found[KINDS[kind](world, sequence, 2 + 3 * third - (third == world.frames // 3))] = kind
    return found


def spoil_lmdb(path: Path, faults: int) -> dict[Place, str]:
    """Cut the values of some images in an LMDB, and take some out."""
    found: dict[Place, str] = {}
    with lmdb.open(str(path)) as environment, environment.begin(write=True) as transaction:
        keys = [bytes(key) for key, _ in transaction.cursor() if bytes(key).endswith(b".jpg")]
        for number, key in enumerate(keys[3 :: len(keys) // faults][:faults]):
            value = bytes(transaction.get(key))
            if number % 2:
                transaction.delete(key)
            else:
                transaction.put(key, value[: len(value) // 2])
            kind = "LMDB value missing" if number % 2 else "LMDB value cut"
            found[str(path.resolve()), None, key.decode()] = kind
    return found


def read_all(root: Path, labels: Path | None, samples: int, epochs: int, workers: int) -> list[FaultLog]:
    """Read epochs as training does, and return what each met; every sample must come."""
    data = FolderSequences(root)
    source = data if labels is None else LabelledSequences(data, labels)
    clips = ClipDataset([source], None, samples, 1, CROP, max_interval=50)
    sampler = EpochSampler(len(clips))
    loader = build_loader(clips, 20, workers, sampler)
    logs = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        log = FaultLog()
        for clip in loader:
            log.add(clip.sources)
        if log.samples != samples:
            raise DataError(f"wanted {samples} samples, found {log.samples}")
        logs.append(log)
    loader.close()
    return logs


def places(records: list[dict[str, Any]]) -> set[Place]:
    return {(record["file"], record["line"], record["key"]) for record in records}


def listing(check: str, root: Path, labels: Path | None, wanted: dict[Place, str], short: bool) -> Row:
    """Read a spoilt data set and compare what is listed with what is corrupt."""
    samples, epochs = (100, 10) if short else (1000, 8)
    logs = read_all(root, labels, samples, epochs, workers=1 if short else 2)
    listed = set().union(*(places(log.records()) for log in logs))
    strange = [place for log in logs for place in places(log.records()) - set(wanted)]
    twice = any(len(log.records()) != len(places(log.records())) for log in logs)
    share = sum(log.bad_samples for log in logs) / sum(log.samples for log in logs)
    return Row(
        check,
        "exactly these listed, each once an epoch; every sample delivered",
        f"{len(listed & set(wanted))} of {len(wanted)} listed after {epochs} epochs of {samples} samples, "
        f"{len(strange)} others; {share:.1%} of the samples replaced",
        listed == set(wanted) and not strange and not twice,
    )


def limits(root: Path, labels: Path, folder: Path, wanted: dict[Place, str], short: bool) -> Iterator[Row]:
    """Run the training command on the spoilt data, below its limit and above."""
    samples, epochs = (64, 1) if short else (1000, 2)
    experiment = folder / "experiments" / "ostrack" / "spoilt.yaml"
    experiment.parent.mkdir(parents=True, exist_ok=True)
    text = YAML.format(root=root, labels=labels, samples=samples, epochs=epochs)
    experiment.write_text(text, encoding="utf-8")
    for name, limit in (("above", 0.001),) if short else (("below", 0.5), ("above", 0.001)):
        save = folder / f"out_{name}"
        command = [sys.executable, "-m", "mtltrack.cli.train", "--script", "ostrack", "--config", "spoilt"]
        command += ["--save_dir", str(save), "--cfg-options", f"DATA.MAX_BAD_FRACTION={limit}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=900)
        path = save / "logs" / "ostrack-spoilt.bad_samples.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        listed = places([json.loads(line) for line in lines])
        true = len(listed & set(wanted))
        last = (done.stderr.strip().splitlines() or [""])[-1]
        as_wanted = done.returncode == 0 if name == "below" else "samples were bad" in last
        yield Row(
            f"training with bad samples {name} the limit",
            "goes on, lists them" if name == "below" else "stops with a status that isn't 0, lists them",
            f"status {done.returncode}, {true} of {len(wanted)} in the file, {len(listed) - true} others",
            as_wanted and true > 0 and true == len(listed) and (done.returncode == 0) == (name == "below"),
        )


def cost_row(rounds: int = 200) -> Row:
    """Compare the time of the check of a JPEG's end with that of decoding (640 x 480)."""
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", cv2.GaussianBlur(noise, (0, 0), 3))[1].tobytes()
    checks, decodes = [], []
    for _ in range(rounds):
        begin = time.perf_counter()
        data.rfind(b"\xff\xd9")
        middle = time.perf_counter()
        decode_image(data, "cost.jpg")
        checks.append(middle - begin)
        decodes.append(time.perf_counter() - middle)
    seconds = statistics.median(checks)
    share = seconds / statistics.median(decodes)
    return Row(
        "cost of looking for a JPEG's end",
        "below 1 % of decoding",
        f"{seconds * 1e6:.2f} microseconds, {share:.4%} of decoding 640 x 480 pixels",
        share < 0.01,
    )


def run(short: bool, folder: Path) -> list[Row]:
    """Spoil 1 % of 1,000 frames (short: 10 of 90) in every way, in a folder and in an LMDB, and read them."""
    size = (2, 45) if short else (10, 100)
    world = World(folder / "folder", *size).write()
    wanted = spoil(world, len(KINDS))
    count = size[0] * size[1]
    rows = [
        listing(
            f"{len(wanted)} of {count} frames corrupt, {len(KINDS)} kinds",
            world.data,
            world.labels,
            wanted,
            short,
        )
    ]
    packed = World(folder / "packed", *size).write()
    pack_folder(packed.data, folder / "lmdb")
    cut = spoil_lmdb(folder / "lmdb", len(KINDS))
    rows.append(
        listing(f"{len(cut)} of {count} values of an LMDB cut or missing", folder / "lmdb", None, cut, short)
    )
    rows += limits(world.data, world.labels, folder, wanted, short)
    return rows if short else [*rows, cost_row()]
