"""Which heads run online, what their sessions get, and what becomes of their answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mtltrack.cli.build import build_tracker
from mtltrack.core.config import Config, config_from_dict
from mtltrack.core.errors import ConfigError, DataError
from mtltrack.core.rle import decode_mask
from mtltrack.core.types import Clip, FrameContext, TaskOutput, Tokens
from mtltrack.data.crops import crop_affine
from mtltrack.evaluation.online import OnlineTracker
from mtltrack.evaluation.overlay import draw
from mtltrack.evaluation.results import ResultFolder, read_tasks, write_results
from mtltrack.models.tracker import Tracker

BOX = [50.0, 40.0, 30.0, 20.0]
ZONE = [[0, 0], [100, 0], [100, 80]]


class FakeHead(nn.Module):
    """Counts its calls; answers the mean of a map as large as a mask's."""

    decode_keys: tuple[str, ...] = ("map",)

    def __init__(self, reads: tuple[str, ...] = (), **more: Any) -> None:
        super().__init__()
        self.reads = reads
        self.calls: list[Clip] = []
        for name, value in more.items():
            setattr(self, name, value)

    def forward(self, tokens: Tokens, upstream: Mapping[str, TaskOutput], clip: Clip) -> TaskOutput:
        self.calls.append(clip)
        assert set(upstream) == set(self.reads)
        return TaskOutput(None, {"map": torch.full((1, 1, 16, 16), 2.0), "unread": torch.zeros(1, 1)})

    def decode(self, output: TaskOutput) -> list[list[dict[str, Any]]]:
        assert list(output.predictions) == list(self.decode_keys)
        return [[{name: float(value.mean()) for name, value in output.predictions.items()}]]


class SilentHead(FakeHead):
    decode_keys = ()


class SessionHead(FakeHead):
    """Its session notes what it is told and counts frames."""

    fail_at = 0

    def session(self, zones: Mapping[str, np.ndarray]) -> SessionHead.Session:
        return self.Session(zones, self.fail_at)

    class Session:
        def __init__(self, zones: Mapping[str, np.ndarray], fail_at: int) -> None:
            self.zones, self.frames, self.fail_at = dict(zones), 0, fail_at
            self.started: tuple[Any, ...] = ()

        def start(self, box_xywh: tuple[float, ...], timestamp: float) -> None:
            self.started = (box_xywh, timestamp)

        def update(self, answer: Any, frame: FrameContext) -> dict[str, Any]:
            self.frames += 1
            if frame.index == self.fail_at:
                raise KeyError("nothing there")
            seen = {**frame.__dict__, "results": dict(frame.results)}
            return {
                "said": answer,
                "frames": self.frames,
                "zones": self.zones,
                "seen": seen,
                "started": self.started,
            }


def settings(**data: Any) -> Config:
    crops = {"SEARCH": {"SIZE": 64, "FACTOR": 4.0, "NUMBER": 1}, "TEMPLATE": {"SIZE": 32}}
    backbone = {"TYPE": "vit_tiny_patch16_224", "EMBED_DIM": 24, "DEPTH": 1, "NUM_HEADS": 2}
    model = {"BACKBONE": backbone, "HEAD": {"NUM_CHANNELS": 16}}
    test = {"TASKS": data.pop("TASKS")} if "TASKS" in data else {}
    heads = data.pop("HEADS", {})
    values = {"DATA": {**crops, **data}, "MODEL": model, "TEST": test, "TASKS": heads}
    return config_from_dict(values, script="ostrack")


def make(heads: dict[str, nn.Module], tasks: list[str] | None = None, **data: Any) -> OnlineTracker:
    torch.manual_seed(0)
    cfg = settings(**data)
    plain = build_tracker(cfg)
    return OnlineTracker(Tracker(plain.backbone, plain.box_head, heads=heads), cfg, tasks=tasks)


def frame(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (120, 160, 3), dtype=np.uint8)


def test_heads_that_nobody_asks_do_not_run() -> None:
    heads = {"c": FakeHead(("b",)), "a": FakeHead(), "b": SessionHead(("a",)), "d": FakeHead()}
    tracker = make(heads, TASKS=["c", "box"])
    tracker.initialize(frame(), BOX)
    answer = tracker.track(frame(1))
    assert answer["tasks"] == {"c": {"map": 2.0}}  # it reads b, and that a: they run, but aren't asked
    assert [len(heads[name].calls) for name in "abcd"] == [1, 1, 1, 0]
    assert "c" in make(heads, tasks=["d", "c"], TASKS=["a"]).tasks  # the argument goes before the setting


def test_no_head_and_all_heads() -> None:
    heads = {"a": FakeHead(), "b": SilentHead()}
    tracker = make(heads, TASKS=[])
    tracker.initialize(frame(), BOX)
    assert tracker.track(frame(1))["tasks"] == {} and not heads["a"].calls
    tracker = make(heads)
    tracker.initialize(frame(), BOX)
    assert tracker.track(frame(1))["tasks"] == {"a": {"map": 2.0}, "b": {}}


def test_an_unknown_task_lists_the_heads() -> None:
    with pytest.raises(
        ConfigError, match=r"TEST.TASKS names 'sag', which is no head .* Did you mean 'seg'\? Heads: seg, x"
    ):
        make({"seg": FakeHead(), "x": FakeHead()}, TASKS=["sag"])
    with pytest.raises(ConfigError, match="no heads but the box"):
        make({}, TASKS=["cls"])


def test_a_session_gets_the_frame_and_what_heads_before_said() -> None:
    tracker = make({"late": SessionHead(("early",)), "early": FakeHead()})
    tracker.initialize(frame(), BOX, timestamp=5.0, zones={"lane": ZONE})
    answer = tracker.track(frame(1), timestamp=5.25)
    late = answer["tasks"]["late"]
    np.testing.assert_array_equal(late["zones"]["lane"], ZONE)
    assert late["started"] == (tuple(BOX), 5.0)
    assert late["said"] == {"map": 2.0}
    seen = late["seen"]
    assert (seen["index"], seen["timestamp"], seen["size"], seen["crop_size"]) == (1, 5.25, (160, 120), 64)
    assert list(seen["box_xywh"]) == answer["target_bbox"] and seen["score"] == answer["score"]
    assert seen["results"] == {"early": {"map": 2.0}}
    np.testing.assert_array_equal(seen["affine"], crop_affine(BOX, 4.0, 64))
    seen = tracker.track(frame(2), timestamp=7.0)["tasks"]["late"]["seen"]
    assert (seen["index"], seen["timestamp"]) == (2, 7.0)


def test_a_video_starts_with_a_new_session() -> None:
    tracker = make({"x": SessionHead()})
    for zones in ({"lane": ZONE}, None):
        tracker.initialize(frame(), BOX, zones=zones)
        tracker.track(frame(1))
        said = tracker.track(frame(2))["tasks"]["x"]
        assert said["frames"] == 2 and list(said["zones"]) == list(zones or {})


def test_a_failing_session_is_named() -> None:
    tracker = make({"good": SessionHead(), "bad": SessionHead(fail_at=2)})
    tracker.initialize(frame(), BOX)
    tracker.track(frame(1))
    with pytest.raises(RuntimeError, match=r"TASKS\.bad, frame 2: KeyError: 'nothing there'"):
        tracker.track(frame(2))


def test_errors_that_users_can_mend_keep_their_kind() -> None:
    def refuse(zones: Any) -> None:
        raise DataError("the zone is too small")

    tracker = make({"x": FakeHead(session=refuse)})
    with pytest.raises(DataError, match=r"TASKS\.x, starting a video: the zone is too small"):
        tracker.initialize(frame(), BOX)
    with pytest.raises(DataError, match=r"zone 'lane'"):
        tracker.initialize(frame(), BOX, zones={"lane": [[0, 0], [1, 1]]})


DETAIL = {"SIZE": 48, "FACTOR": 1.5}


def test_the_detail_view_shows_what_the_search_crop_shows() -> None:
    head = FakeHead(needs_detail=True)
    tracker = make({"x": head}, DETAIL=DETAIL)
    tracker.initialize(frame(), BOX)
    shades = np.tile(np.arange(160, dtype=np.uint8)[None, :, None], (120, 1, 3))  # a pixel's value is its x
    tracker.track(shades)
    clip = head.calls[0]
    assert clip.detail is not None and clip.detail.shape == (1, 1, 3, 48, 48)
    assert clip.detail_affine is not None and clip.detail_affine.shape == (1, 1, 2, 3)
    mean, deviation = 0.485, 0.229  # of red, by which crops are normalised
    reds = (clip.detail[0, 0, 0] * deviation + mean) * 255
    for x, y in ((4, 4), (24, 24), (40, 30)):
        place = clip.detail_affine[0, 0].double() @ torch.tensor([x, y, 1.0], dtype=torch.float64)
        assert float(reds[y, x]) == pytest.approx(float(place[0]), abs=0.75)


def test_the_detail_view_is_cut_only_for_heads_that_need_it() -> None:
    modest, needy = FakeHead(), FakeHead(needs_detail=True)
    tracker = make({"modest": modest, "needy": needy}, tasks=["modest"], DETAIL=DETAIL)
    tracker.initialize(frame(), BOX)
    tracker.track(frame(1))
    assert modest.calls[0].detail is None
    tracker = make({"needy": needy})  # DATA.DETAIL isn't given
    tracker.initialize(frame(), BOX)
    tracker.track(frame(1))
    assert needy.calls[0].detail is None


def test_one_copy_to_the_host_whatever_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = make({"a": FakeHead(), "b": SilentHead(), "c": SessionHead(("a",))}, DETAIL=DETAIL)
    tracker.initialize(frame(), BOX)
    copies: list[str] = []
    for name in ("cpu", "item", "__bool__", "__int__", "__float__", "numpy", "tolist"):
        original = getattr(torch.Tensor, name)

        def counting(
            self: torch.Tensor, *arguments: Any, _name: str = name, _original: Any = original, **named: Any
        ) -> Any:
            if torch.is_inference_mode_enabled():  # before the copy; behind it values may be read freely
                copies.append(_name)
            return _original(self, *arguments, **named)

        monkeypatch.setattr(torch.Tensor, name, counting)
    tracker.track(frame(1))
    assert copies == ["cpu"]


REAL = {
    "cls": {"TYPE": "ClsHead", "HIDDEN_DIM": 8},
    "alert": {"TYPE": "AlertHead"},
    "ocr": {"TYPE": "OCRHead", "HIDDEN_DIM": 8, "WIDTH": 8},
    "plate": {"TYPE": "PlateHead", "HIDDEN_DIM": 16},
    "seg": {"TYPE": "SegHead", "HIDDEN_DIM": 8},
}


def test_the_five_heads_together(tmp_path: Path) -> None:
    cfg = settings(DETAIL=DETAIL, HEADS=REAL)
    tracker = OnlineTracker(build_tracker(cfg), cfg)
    tracker.initialize(frame(), BOX, zones={"lane": ZONE})
    lines = [{"frame": 1}]
    for number in (2, 3):
        answer = tracker.track(frame(number))
        lines.append({"frame": number, "score": answer["score"], **answer["tasks"]})
    folder = ResultFolder(tmp_path)
    write_results(folder, "s", np.tile(BOX, (3, 1)), [0.1] * 3, lines)
    said = read_tasks(folder.tasks("s"))[2]
    assert set(said) == {"frame", "score", *REAL}
    assert decode_mask(said["seg"]["mask"], "here").shape == (120, 160)
    assert set(said["plate"]) == {"present", "confidence", "bbox"}
    assert set(said["ocr"]) == {"text", "confidence", "characters", "fused"}
    assert set(said["alert"]) == {"alert", "stopped", "overlap", "zone", "speed"}
    assert draw(frame(), BOX, None, said, {"lane": np.array(ZONE)}).any()
