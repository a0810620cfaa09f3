"""Compare crops, jitter and the training transform with the references in functions.pt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtltrack.core.errors import DataError
from mtltrack.core.types import normalise
from mtltrack.data.augment import (
    ClipTransform,
    CropSettings,
    CutFrame,
    RejectedCrop,
    SampleRandom,
    ViewSettings,
)
from mtltrack.data.crops import (
    crop_window,
    cut_mask,
    jittered_box,
    jittered_center_crop,
    sample_target,
    transform_image_to_crop,
    valid_pixels,
)
from parity.recipe import frame
from parity.report import Report

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
STATISTICS_SEED = 12  # of the jitter statistics; the reference doesn't record it, no other small seed fits
CROP_SIZE = 384  # of transform_image_to_crop and the published training transform
SETTINGS = CropSettings(ViewSettings(192, 2.0), ViewSettings(CROP_SIZE, 5.0, 4.5, 0.5))
JITTERED_SIZE, JITTERED_FACTOR = 64, 5.0


def _mask(image: np.ndarray, box: Any, factor: float, size: int) -> np.ndarray:
    height, width = image.shape[:2]
    return valid_pixels(crop_window(box, factor), width, height, size).attention_mask()


def compare_sample_target(entry: dict[str, Any], report: Report) -> None:
    """Compare crops, resize factors and attention masks; also that an empty box is refused."""
    image, _ = frame(entry["frame"])
    for number, case in enumerate(entry["cases"] + entry["big"]):
        name = f"sample_target/{number}"
        box, factor, size = case["box"], case["factor"], case["out"]
        crop, resize_factor = sample_target(image, box, factor, size)
        mask = _mask(image, box, factor, size)
        report.value(f"{name}/resize_factor", resize_factor, case["resize_factor"], "exact")
        if "crop" in case:
            report.value(f"{name}/crop", crop, case["crop"], "exact")
            report.value(f"{name}/att", np.packbits(mask), case["att"], "exact")
            continue
        half = size // 2
        report.decision(f"{name}/sha", hashlib.sha256(crop.tobytes()).hexdigest()[:16] == case["sha"])
        report.value(f"{name}/mean", crop.reshape(-1, 3).mean(axis=0), case["mean"])
        report.value(
            f"{name}/center", crop[half - 4 : half + 4, half - 4 : half + 4], case["center"], "exact"
        )
        report.value(f"{name}/att_sum", int(mask.sum()), case["att_sum"], "exact")
    if "zero" in entry:
        report.decision("sample_target/zero", _refused(image))


def _refused(image: np.ndarray) -> bool:
    try:
        sample_target(image, [10.0, 10.0, 0.0, 0.0], 2.0, 32)
    except DataError:
        return True
    return False


def compare_transform_image_to_crop(entry: dict[str, Any], report: Report) -> None:
    """Compare boxes in crops, in crop pixels and normalised."""
    for number, (box, extract, factor) in enumerate(
        zip(entry["box"], entry["extract"], entry["rf"], strict=True)
    ):
        for key, normalised in (("out", True), ("out_abs", False)):
            ours = transform_image_to_crop(box, extract, factor, CROP_SIZE, normalised)
            kind = "box" if normalised else "map"
            report.value(f"transform_image_to_crop/{number}/{key}", ours, entry[key][number], kind)


def compare_jittered_center_crop(entry: dict[str, Any], report: Report) -> None:
    """Compare crops around one box with another as target; the reference implies the two pairs."""
    image, box = frame(0)
    mask = np.zeros(image.shape[:2])
    x, y, w, h = map(int, box)
    mask[y : y + h, x : x + w] = 1
    pairs = [(box, box), ([-30.0, -20.0, 100.0, 80.0], [10.0, 10.0, 40.0, 30.0])]
    for number, (extract, target) in enumerate(pairs):
        name = f"jittered_center_crop/{number}"
        crop = jittered_center_crop(
            image, torch.tensor(extract), torch.tensor(target), JITTERED_FACTOR, JITTERED_SIZE
        )
        window = crop_window(extract, JITTERED_FACTOR)
        report.value(f"{name}/crop", crop.image, entry["crops"][number], "exact")
        report.value(f"{name}/box", crop.box_xywh, entry["boxes"][number], "box")
        att = np.packbits(crop.valid.attention_mask())
        report.value(f"{name}/att", att, entry["att"][number], "exact")
        report.value(f"{name}/mask", cut_mask(mask, window, JITTERED_SIZE), entry["masks"][number])


def compare_jitter(entry: dict[str, Any], report: Report) -> None:
    """Compare fifty jittered boxes, and that strengths of 0 leave the template's box alone."""
    box = torch.tensor(entry["box"])
    generator = torch.Generator().manual_seed(entry["seed"])
    ours = [jittered_box(box, entry["center"], entry["scale"], generator) for _ in entry["boxes"]]
    report.value("jitter/boxes", torch.stack(ours), entry["boxes"], "exact")
    report.value("jitter/template", jittered_box(box, 0, 0, generator), entry["template"], "exact")


def compare_jitter_stats(entry: dict[str, Any], report: Report) -> None:
    """Compare the statistics of 20,000 jittered boxes."""
    box = torch.tensor([300.0, 200.0, 80.0, 96.0])
    generator = torch.Generator().manual_seed(STATISTICS_SEED)
    boxes = torch.stack([jittered_box(box, 4.5, 0.5, generator) for _ in range(entry["n"])])
    log_size = (boxes[:, 2:] / box[2:]).log()
    shift = boxes[:, :2] + 0.5 * boxes[:, 2:] - (box[:2] + 0.5 * box[2:])
    relative = shift / boxes[:, 2:].prod(dim=1, keepdim=True).sqrt()
    report.value("jitter_stats/log_size_mean", log_size.mean(dim=0), entry["log_size_mean"])
    report.value("jitter_stats/log_size_std", log_size.std(dim=0), entry["log_size_std"])
    report.value("jitter_stats/center_rel_std", relative.std(dim=0), entry["center_rel_std"])
    report.value("jitter_stats/center_rel_absmax", relative.abs().max(), entry["center_rel_absmax"])


def compare_processing(entry: dict[str, Any], report: Report) -> None:
    """Compare whole training samples: validity, boxes and statistics of the normalised crops."""
    frames = [frame(t) for t in entry["frames"]]
    views = [(image, torch.tensor(box)) for image, box in frames]
    transform = ClipTransform(SETTINGS)
    for sample in entry["samples"]:
        name = f"processing/{sample['seed']}"
        try:
            template, search = transform(views[0], views[1:], SampleRandom(sample["seed"]))
        except RejectedCrop:
            report.decision(f"{name}/valid", not sample["valid"])
            continue
        report.decision(f"{name}/valid", sample["valid"])
        if not sample["valid"]:
            continue
        report.value(f"{name}/template_anno", template.box_xywh[None], sample["template_anno"], "box")
        boxes = torch.stack([crop.box_xywh for crop in search])
        report.value(f"{name}/search_anno", boxes, sample["search_anno"], "box")
        pixels, template_pixels = _normalised(search), _normalised([template])
        report.value(f"{name}/template_mean", template_pixels.mean(dim=(2, 3)), sample["template_mean"])
        report.value(f"{name}/search_mean", pixels.mean(dim=(2, 3)), sample["search_mean"])
        report.value(f"{name}/search_std", pixels.std(dim=(2, 3)), sample["search_std"])


def _normalised(crops: list[CutFrame]) -> Tensor:
    images = torch.from_numpy(np.stack([crop.image.transpose(2, 0, 1) for crop in crops]))
    return normalise(images, MEAN, STD, torch.tensor([crop.brightness for crop in crops]))


COMPARISONS: dict[str, Callable[[dict[str, Any], Report], None]] = {
    "sample_target": compare_sample_target,
    "transform_image_to_crop": compare_transform_image_to_crop,
    "jittered_center_crop": compare_jittered_center_crop,
    "jitter": compare_jitter,
    "jitter_stats": compare_jitter_stats,
    "processing": compare_processing,
}
KEYS = tuple(COMPARISONS)


def compare(reference: dict[str, Any], report: Report) -> None:
    """Compare the entries of functions.pt that this file covers."""
    for key, comparison in COMPARISONS.items():
        if key in reference:
            comparison(reference[key], report)
