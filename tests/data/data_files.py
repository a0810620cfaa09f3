"""Tiny data sets in every layout, written for the tests: a bright square on a dark, noisy frame."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT = 64, 48
FRAMES = 24


def box_of(frame: int) -> tuple[int, int, int, int]:
    """The target's box x, y, w, h of a frame, 0-based."""
    return 8 + frame, 10 + frame // 2, 12, 10


def write_image(path: Path, frame: int) -> None:
    rng = np.random.default_rng(frame)
    image = rng.integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    x, y, w, h = box_of(frame)
    image[y : y + h, x : x + w] = (40, 120, 220)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def box_lines(first: int = 0, one_based: bool = False) -> list[str]:
    shift = 1 if one_based else 0
    boxes = [box_of(frame) for frame in range(first, first + FRAMES)]
    return [f"{x + shift},{y + shift},{w},{h}" for x, y, w, h in boxes]


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def make_folder(root: Path, names: tuple[str, ...] = ("bike", "tram")) -> Path:
    for name in names:
        write_text(root / name / "groundtruth_rect.txt", "\n".join(box_lines(one_based=True)) + "\n")
        for frame in range(FRAMES):
            write_image(root / name / "img" / f"{frame + 1:04d}.jpg", frame)
    return root


def make_lasot(root: Path) -> Path:
    for name in ("zebra-9", "zebra-10"):  # zebra-10 is in the test split
        folder = root / "zebra" / name
        write_text(folder / "groundtruth.txt", "\n".join(["0,0,0,0", *box_lines()[1:]]) + "\n")
        write_text(folder / "full_occlusion.txt", ",".join(["0", "1"] + ["0"] * (FRAMES - 2)))
        write_text(folder / "out_of_view.txt", ",".join(["0", "0", "1"] + ["0"] * (FRAMES - 3)))
        for frame in range(FRAMES):
            write_image(folder / "img" / f"{frame + 1:08d}.jpg", frame)
    return root


def make_got10k(root: Path) -> Path:
    for part, prefix in (("train", "GOT-10k_Train"), ("val", "GOT-10k_Val")):
        names = [f"{prefix}_{n:06d}" for n in (1, 2, 3)]
        write_text(root / part / "list.txt", "\n".join(names) + "\n")
        for name in names:
            folder = root / part / name
            write_text(folder / "groundtruth.txt", "\n".join(box_lines()) + "\n")
            write_text(folder / "absence.label", "\n".join(["1"] + ["0"] * (FRAMES - 1)) + "\n")
            write_text(folder / "cover.label", "\n".join(["8", "0"] + ["5"] * (FRAMES - 2)) + "\n")
            write_text(folder / "meta_info.ini", "[METAINFO]\nurl: a%b\nanno_fps: 10Hz\nobject_class: tram\n")
            for frame in range(FRAMES):
                write_image(folder / f"{frame + 1:08d}.jpg", frame)
    return root


def make_trackingnet(root: Path) -> Path:
    for n, video in ((0, "aa_0"), (3, "bb_1")):
        lines = box_lines()
        lines[5] = "3.5,4.5,0.0,0.0"
        write_text(root / f"TRAIN_{n}" / "anno" / f"{video}.txt", "\n".join(lines) + "\n")
        for frame in range(FRAMES):
            write_image(root / f"TRAIN_{n}" / "frames" / video / f"{frame}.jpg", frame)
    return root


def make_coco(root: Path) -> Path:
    images = [{"id": 7 + n, "file_name": f"{n:012d}.jpg"} for n in range(2)]
    objects = [
        {"id": 100, "image_id": 7, "bbox": list(map(float, box_of(0))), "iscrowd": 0},
        {"id": 101, "image_id": 8, "bbox": list(map(float, box_of(1))), "iscrowd": 0},
        {"id": 102, "image_id": 8, "bbox": [0.0, 0.0, 9.0, 9.0], "iscrowd": 1},
        {"id": 103, "image_id": 8, "bbox": [5.0, 5.0, 0.0, 4.0], "iscrowd": 0},
    ]
    content = json.dumps({"images": images, "annotations": objects})
    write_text(root / "annotations" / "instances_train2017.json", content)
    for n, image in enumerate(images):
        write_image(root / "images" / "train2017" / str(image["file_name"]), n)
    return root


def vid_xml(objects: list[tuple[str, tuple[int, int, int, int], int]]) -> str:
    items = ""
    for track, (x, y, w, h), occluded in objects:
        corners = f"<xmax>{x + w}</xmax><xmin>{x}</xmin><ymax>{y + h}</ymax><ymin>{y}</ymin>"
        items += f"<object><trackid>{track}</trackid><bndbox>{corners}</bndbox>"
        items += f"<occluded>{occluded}</occluded></object>"
    return f"<annotation><size><width>{WIDTH}</width></size>{items}</annotation>"


def make_vid(root: Path) -> Path:
    place = "ILSVRC2015_VID_train_0002/ILSVRC2015_train_00000031"
    for frame in range(FRAMES):
        objects = [("0", box_of(frame), int(frame == 4))]
        if 3 <= frame < 9 or frame > 12:  # the second object leaves at frame 9 and comes back
            objects.append(("1", (2, 2, 6, 6), 0))
        write_text(root / "Annotations/VID/train" / place / f"{frame:06d}.xml", vid_xml(objects))
        write_image(root / "Data/VID/train" / place / f"{frame:06d}.JPEG", frame)
    return root


MAKERS: dict[str, Callable[[Path], Path]] = {
    "folder": make_folder,
    "lasot": make_lasot,
    "got10k": make_got10k,
    "trackingnet": make_trackingnet,
    "coco": make_coco,
    "vid": make_vid,
}
