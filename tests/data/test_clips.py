"""From sequences to batches: the same samples whatever the workers, labels with masks, bad samples."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import FRAMES, box_of, make_folder, write_text

from mtltrack.core.errors import ConfigError, DataError
from mtltrack.core.types import Clip
from mtltrack.data import (
    ClipDataset,
    CropSettings,
    EpochSampler,
    FaultLog,
    ViewSettings,
    build_loader,
)
from mtltrack.data.collate import clip_times, collate, collate_labels
from mtltrack.data.datasets import Coco, FolderSequences
from mtltrack.data.sampling import FrameChoice
from mtltrack.data.sequences import SequenceDataset, SequenceInfo

CROP = CropSettings(ViewSettings(32, 2.0), ViewSettings(64, 4.0, 2.0, 0.2))
Made = Callable[[str], Path]


class Painted:
    """Sequences in memory: frame f is grey level f; odd frames are labelled."""

    def __init__(self, frames: int = 30, labelled: bool = True, name: str = "painted") -> None:
        self.name = name
        self.frames = frames
        self.labelled = labelled
        self.num_sequences = 3
        self.faults: dict[int, str] = {}

    def sequence_name(self, i: int) -> str:
        return f"{self.name}{i}"

    def sequence(self, i: int) -> SequenceInfo:
        valid = np.arange(self.frames) % 2 == 1
        flags = np.zeros((self.frames, 10), bool)
        flags[valid, 3] = True
        labels = {"cls": {"valid": valid, "index": np.where(valid, 3, -100), "flags": flags}}
        boxes = np.tile([30.0, 20.0, 16.0, 12.0], (self.frames, 1))
        return SequenceInfo(
            self.sequence_name(i),
            boxes,
            np.ones(self.frames, bool),
            fps=10.0,
            labels=labels if self.labelled else {},
            faults=self.faults,
        )

    def image(self, i: int, frame: int) -> np.ndarray:
        return np.full((60, 80, 3), frame + 1, np.uint8)


def clips(
    sources: list[SequenceDataset], num_search: int = 2, length: int = 12, **options: object
) -> ClipDataset:
    return ClipDataset(sources, [1] * len(sources), length, num_search, CROP, **options)  # type: ignore[arg-type]


def same(a: Clip, b: Clip) -> bool:
    tensors = [(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True) if torch.is_tensor(x)]
    labels = [(a.labels[t][n], b.labels[t][n]) for t in a.labels for n in a.labels[t]]
    return all(torch.equal(x, y) for x, y in tensors + labels) and a.sources == b.sources


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_samples_do_not_depend_on_the_number_of_workers(made: Made) -> None:
    dataset = clips([FolderSequences(made("folder")), Coco(made("coco"))])
    epochs = []
    for workers in (0, 2):
        sampler = EpochSampler(len(dataset))
        loader = build_loader(dataset, 4, workers, sampler)
        batches = []
        for epoch in (0, 3):
            sampler.set_epoch(epoch)
            batches += list(loader)
        epochs.append(batches)
    assert len(epochs[0]) == 6 and all(same(a, b) for a, b in zip(*epochs, strict=True))
    assert not same(epochs[0][0], epochs[0][3])  # another epoch, other samples
    alone = collate([dataset[(3, i)] for i in (8, 9, 10, 11)])
    assert same(alone, epochs[1][5])


def test_shapes_types_and_ranges(made: Made) -> None:
    crop = CropSettings(CROP.template, CROP.search, ViewSettings(96, 3.0))
    dataset = ClipDataset([FolderSequences(made("folder"))], None, 4, 3, crop)
    clip = collate([dataset[(0, i)] for i in range(4)])
    assert clip.template.shape == (4, 3, 32, 32) and clip.search.shape == (4, 3, 3, 64, 64)
    assert clip.template.dtype == clip.search.dtype == torch.uint8
    assert clip.affine.shape == (4, 3, 2, 3) and clip.affine.dtype == torch.float32
    assert clip.timestamps.shape == (4, 3) and clip.timestamps.dtype == torch.float64
    assert clip.template_brightness is not None and clip.template_brightness.shape == (4,)
    assert clip.search_brightness is not None and clip.search_brightness.shape == (4, 3)
    assert clip.detail is not None and clip.detail.shape == (4, 3, 3, 96, 96)
    assert clip.detail_affine is not None and clip.detail_affine.shape == (4, 3, 2, 3)
    box = clip.labels["box"]
    assert box["valid"].all() and box["cxcywh"].shape == (4, 3, 4)
    assert ((box["cxcywh"] > 0) & (box["cxcywh"] < 1)).all()
    cls = clip.labels["cls"]
    assert not cls["valid"].any() and (cls["index"] == -100).all() and cls["flags"].shape == (4, 3, 10)
    normalised = clip.normalised([0.5] * 3, [0.5] * 3)
    assert normalised.search.dtype == torch.float32 and normalised.search.abs().max() <= 1


def test_source_tells_the_frames_and_the_crop_shows_them() -> None:
    sample = clips([Painted()], sampler_mode="trident", augment=False)[(0, 5)]
    assert sample.source["dataset"] == "painted" and sample.source["bad"] == []
    levels = [int(image.max()) for image in sample.search]  # frames count from 1, levels too
    assert levels == sample.source["search_frames"]
    assert int(sample.template.max()) == sample.source["template_frame"]
    odd = torch.tensor([(frame - 1) % 2 == 1 for frame in sample.source["search_frames"]])
    assert torch.equal(sample.labels["cls"]["valid"], odd)
    assert torch.equal(sample.labels["cls"]["index"], torch.where(odd, 3, -100))


def test_mixed_sources_have_masks_for_every_task() -> None:
    dataset = clips([Painted(), Painted(labelled=False, name="plain")], length=20)
    clip = collate([dataset[(0, i)] for i in range(20)])
    plain = torch.tensor([source["dataset"] == "plain" for source in clip.sources])
    assert plain.any() and not plain.all()
    assert not clip.labels["cls"]["valid"][plain].any() and clip.labels["cls"]["valid"][~plain].any()
    assert clip.labels["box"]["valid"].all()


def test_labels_that_a_sample_lacks_are_filled_and_masked() -> None:
    whole = {"plate": {"valid": torch.ones(2, dtype=torch.bool), "index": torch.tensor([1, 2])}}
    joined = collate_labels([whole, {}, {"plate": {"valid": torch.ones(2, dtype=torch.bool)}}])
    assert joined["plate"]["valid"].tolist() == [[True, True], [False, False], [False, False]]
    assert joined["plate"]["index"].tolist() == [[1, 2], [-100, -100], [-100, -100]]


def test_ratios_decide_how_often_a_source_is_drawn() -> None:
    dataset = ClipDataset([Painted(name="a"), Painted(name="b")], [3, 1], 200, 1, CROP)
    names = [dataset[(0, i)].source["dataset"] for i in range(200)]
    assert 125 <= names.count("a") <= 175
    assert {
        ClipDataset([Painted(name="a"), Painted(name="b")], [0, 1], 9, 1, CROP)[(0, i)].source["dataset"]
        for i in range(9)
    } == {"b"}


def test_still_images_become_clips(made: Made) -> None:
    sample = clips([Coco(made("coco"))], num_search=3)[(0, 0)]
    assert sample.source["search_frames"] == [1, 1, 1]
    np.testing.assert_allclose(sample.timestamps, [0, 1 / 30, 2 / 30])


def test_times_never_go_back() -> None:
    info = SequenceInfo("a", np.ones((9, 4)), np.ones(9, bool), timestamps=np.arange(9) ** 2.0)
    assert clip_times(info, FrameChoice(0, [1, 3, 4])).tolist() == [1, 9, 16]
    assert clip_times(info, FrameChoice(5, [4, 3, 1], reversed=True)).tolist() == [
        1,
        8,
        16,
    ]  # steps 7 and 8, mirrored
    cut = SequenceInfo("b", np.ones((9, 4)), np.ones(9, bool), fps=25.0, first_frame=11)
    np.testing.assert_allclose(clip_times(cut, FrameChoice(0, [1, 2])), [11 / 25, 12 / 25])


def test_bad_samples_are_replaced_reported_and_counted(tmp_path: Path) -> None:
    root = make_folder(tmp_path, ("bike",))
    (root / "bike" / "img" / "0008.jpg").write_bytes(b"broken")
    lines = [",".join(map(str, box_of(frame))) for frame in range(FRAMES)]
    lines[3] = "1,2,0,0"
    write_text(root / "bike" / "groundtruth_rect.txt", "\n".join(lines))
    dataset = clips([FolderSequences(root)], num_search=1, length=60)
    log = FaultLog()
    for i in range(60):
        sample = dataset[(1, i)]
        assert {4, 8}.isdisjoint([sample.source["template_frame"], *sample.source["search_frames"]])
        log.add(collate([sample]).sources)
    assert 2 <= log.bad_samples <= 30 and log.samples == 60
    assert log.fraction == log.bad_samples / 60
    report = log.report()
    assert "samples were bad" in report and "0008.jpg: the image can't be decoded" in report
    assert "groundtruth_rect.txt, line 4: the box '1,2,0,0' has no area" in report
    with pytest.raises(
        DataError, match=r"MAX_BAD_FRACTION \(1\.00%\) is not accepted: correct the files named above"
    ):
        log.check(0.01)
    log.check(1.0)
    log.reset()
    assert log.fraction == 0 and log.report() == ""
    repeated = [dataset[(1, i)].source["bad"] for i in range(60)]
    assert repeated == [dataset[(1, i)].source["bad"] for i in range(60)]


class Mixed(Painted):
    """The first sequence is long, the others hold two frames."""

    def sequence(self, i: int) -> SequenceInfo:
        info = super().sequence(i)
        info.visible[2 if i else 30 :] = False
        return info


def test_redraws_without_a_fault_are_counted_by_data_set_and_reported() -> None:
    dataset = clips([Painted(), Mixed(name="short")], num_search=3, length=80)
    log = FaultLog()
    for i in range(80):
        log.add(collate([dataset[(0, i)]]).sources)
    few = log.redraws["short: too few visible frames"]
    drawn = few + log.used["short"]
    assert log.used["painted"] + log.used["short"] == 80 and set(log.redraws) == {
        "short: too few visible frames"
    }
    assert 0.5 < few / drawn < 0.85  # two of its three sequences are too short
    assert log.bad_samples == 0 and log.fraction == 0
    assert log.report() == (
        f"{few} draws gave no clip and were drawn again from all data sets: short: too few visible frames "
        f"({few}). Samples used: painted {log.used['painted']}, short {log.used['short']}."
    )
    log.check(0.0)
    log.reset()
    assert log.report() == ""


def test_crops_of_padding_are_redraws_too() -> None:
    log = FaultLog()
    kinds = {"a crop shows only padding": 2}
    log.add([{"dataset": "b", "bad": ["x.jpg"], "redraws": {"a": kinds}}, {"dataset": "b", "bad": []}])
    assert log.bad_samples == 1 and log.redraws == {"a: a crop shows only padding": 2}
    assert log.report().splitlines()[2].startswith("2 draws gave no clip")
    with pytest.raises(DataError) as caught:
        log.check(0.0)
    assert "draws gave no clip" not in str(caught.value)


class Outside(Painted):
    """The box lies far outside of the frame."""

    def sequence(self, i: int) -> SequenceInfo:
        info = super().sequence(i)
        info.boxes_xywh[:, :2] += 5000 if i else 0
        info.boxes_file = "far/boxes.txt"
        return info


def test_a_box_outside_of_its_frame_is_bad_data() -> None:
    dataset = clips([Outside()], num_search=1, length=30)
    log = FaultLog()
    log.add([dataset[(0, i)].source for i in range(30)])
    assert log.bad_samples > 10 and not log.redraws
    record = log.records()[0]
    assert (record["file"], record["key"]) == ("far/boxes.txt", None) and 1 <= record["line"] <= 30
    assert record["reason"].startswith(
        "the box lies outside of its frame, 80 x 60 pixels: x1, y1, x2, y2 are 503"
    )
    assert SequenceInfo("a", np.ones((3, 4)), np.ones(3, bool), first_frame=5).where(1) == "a, frame 6"


def test_a_padding_crop_is_counted_for_its_data_set() -> None:
    wild = CropSettings(ViewSettings(32, 2.0), ViewSettings(64, 4.0, 40.0, 0.2))  # jitter beyond the frame
    dataset = ClipDataset([Painted(name="far"), Painted(name="far")], [1, 1], 30, 1, wild)
    log = FaultLog()
    log.add([dataset[(0, i)].source for i in range(30)])
    assert log.bad_samples == 0 and set(log.redraws) == {
        "far: a crop shows only padding",
        "far #2: a crop shows only padding",
    }
    assert set(log.used) == {"far", "far #2"}


def test_a_data_set_without_a_usable_sequence_ends_at_the_start() -> None:
    with pytest.raises(
        DataError,
        match=r"none of the 3 sequences of short has enough visible frames for a template and 5 search "
        r"frames \(DATA\.SAMPLER_MODE causal\)\. Lower DATA\.SEARCH\.NUMBER, add longer .* take short out",
    ):
        clips([Painted(), Painted(frames=5, name="short")], num_search=5)
    assert len(clips([Painted(frames=6)], num_search=5)) == 12
    assert len(clips([Painted(frames=5)], num_search=5, sampler_mode="trident")) == 12
    undrawn = [Painted(), Painted(frames=5, name="short")]
    assert len(ClipDataset(undrawn, [1, 0], 4, 5, CROP)) == 4


def test_hopeless_data_end_with_a_message_instead_of_a_loop() -> None:
    far = Outside()
    far.num_sequences = 2
    dataset = clips([far], num_search=5)
    far.sequence = lambda i: Outside.sequence(far, 1)  # type: ignore[method-assign]
    with pytest.raises(
        DataError,
        match=r"no usable clip of 1 template and 5 search frames in 100 draws from painted.*"
        r"last fault: far/boxes\.txt, line \d+: the box lies outside of its frame",
    ):
        dataset[(0, 0)]
    broken = Painted()
    broken.faults = dict.fromkeys(range(30), "a.txt, line 1: oops")
    with pytest.raises(DataError, match=r"last fault: a\.txt, line 1: oops"):
        clips([broken])[(0, 0)]


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(
        ConfigError, match=r"DATASETS_RATIO needs one number a data set \(1\).*found \[1, 2\]"
    ):
        ClipDataset([Painted()], [1, 2], 4, 1, CROP)
    with pytest.raises(ConfigError, match=r"DATASETS_NAME names no data set"):
        ClipDataset([], [], 4, 1, CROP)
    with pytest.raises(ConfigError, match=r"must be at least 1; found 0, 1 and 200"):
        clips([Painted()], num_search=1, length=0)
    empty = Painted()
    empty.num_sequences = 0
    with pytest.raises(DataError, match=r"the data set painted has no sequences"):
        clips([empty])
    with pytest.raises(DataError, match=r"needs boxes \(F, 4\) and visible \(F,\)"):
        SequenceInfo("a", np.ones((3, 4)), np.ones(2, bool))
    with pytest.raises(DataError, match=r"one time stamp a frame \(3\); found 2"):
        SequenceInfo("a", np.ones((3, 4)), np.ones(3, bool), timestamps=np.array([0.0, 2.0]))


@pytest.mark.parametrize(
    ("times", "frame", "message"),
    [
        ([0.0, 2.0, 1.0], 9, "1 isn't later than 2 before it"),
        ([0.0, 1.0, 1.0], 9, "1 isn't later than 1 before it"),
        ([0.0, np.nan, 1.0], 8, "nan isn't later than 0"),
        ([np.nan, 0.0, 1.0], 7, "nan isn't later than nan"),
        ([0.0, 1.0, np.inf], 9, "inf isn't later than 1"),
    ],
)
def test_time_stamps_are_finite_and_increase(times: list[float], frame: int, message: str) -> None:
    with pytest.raises(DataError, match=rf"sequence 'a', frame {frame}: the time stamp {message}"):
        SequenceInfo("a", np.ones((3, 4)), np.ones(3, bool), timestamps=np.array(times), first_frame=7)


def test_ranks_share_an_epoch() -> None:
    shares = [list(EpochSampler(11, epoch=2, shuffle=True, rank=rank, world_size=3)) for rank in range(3)]
    together = list(itertools.chain(*shares))
    assert sorted(together) == [(2, i) for i in range(11)] and together != sorted(together)
    assert [len(EpochSampler(11, rank=rank, world_size=3)) for rank in range(3)] == [4, 4, 3]
    assert {len(list(EpochSampler(11, rank=rank, world_size=3, even=True))) for rank in range(3)} == {3}
    sampler = EpochSampler(11, shuffle=True)
    sampler.set_epoch(2)
    assert list(sampler) == list(EpochSampler(11, epoch=2, shuffle=True)) and len(sampler) == 11
    with pytest.raises(ConfigError, match="0 <= rank < world_size; found 3, 2 and 2"):
        EpochSampler(3, rank=2, world_size=2)
