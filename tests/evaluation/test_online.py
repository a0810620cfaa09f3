from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mtltrack.cli.build import build_tracker
from mtltrack.core.config import Config, config_from_dict
from mtltrack.core.kernels import is_onednn
from mtltrack.evaluation.online import OnlineTracker, clip_box, hann_window
from mtltrack.models.packed import PackedLinear, can_pack


def settings(script: str = "hiptrack", **test: Any) -> Config:
    values = {
        "DATA": {"SEARCH": {"SIZE": 64, "FACTOR": 4.0, "NUMBER": 1}, "TEMPLATE": {"SIZE": 32}},
        "MODEL": {
            "NEW_HIP": True,
            "BACKBONE": {
                "TYPE": "vit_tiny_patch16_224_ce",
                "EMBED_DIM": 24,
                "DEPTH": 2,
                "NUM_HEADS": 2,
                "CE_LOC": [1],
                "CE_KEEP_RATIO": [0.7],
            },
            "HEAD": {"NUM_CHANNELS": 16},
            "HISTORY": {"KEY_DIM": 8, "ENCODER_WIDTH": 4},
        },
        "TASKS": {"cls": {"TYPE": "ClsHead", "HIDDEN_DIM": 8}},
        "TEST": test,
    }
    return config_from_dict(values, script=script)


def make(script: str = "hiptrack", **test: Any) -> OnlineTracker:
    torch.manual_seed(0)
    cfg = settings(script, **test)
    return OnlineTracker(build_tracker(cfg), cfg)


def frames(count: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (120, 160, 3), dtype=np.uint8) for _ in range(count)]


BOX = [50, 40, 30, 20]


@pytest.mark.parametrize("script", ["hiptrack", "ostrack"])
def test_answers_have_the_promised_form(script: str) -> None:
    tracker = make(script)
    tracker.initialize(frames(1)[0], BOX)
    for frame in frames(12):
        answer = tracker.track(frame)
        x, y, w, h = answer["target_bbox"]
        assert 0 <= x <= 150 and 0 <= y <= 110 and w >= 10 and h >= 10
        assert 0 <= answer["score"] <= 1
        assert set(answer["tasks"]) == {"cls"} and answer["tasks"]["cls"]["name"]


def test_nothing_is_left_from_the_sequence_before() -> None:
    used, fresh = make(), make()
    used.initialize(frames(1, seed=5)[0], [10, 10, 40, 40])
    for frame in frames(14, seed=6):
        used.track(frame)
    for tracker in (used, fresh):
        tracker.initialize(frames(1)[0], BOX)
    for frame in frames(14):
        assert used.track(frame) == fresh.track(frame)


def test_one_copy_to_the_host_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way in which a tensor's value leaves the device is counted; on a CPU it's free, but it shows."""
    tracker = make()
    tracker.initialize(frames(1)[0], BOX)
    copies: list[str] = []
    for name in ("cpu", "item", "__bool__", "__int__", "__float__", "numpy", "tolist"):
        original = getattr(torch.Tensor, name)

        def counting(
            self: torch.Tensor, *arguments: Any, _name: str = name, _original: Any = original, **named: Any
        ) -> Any:
            if torch.is_inference_mode_enabled():  # after the copy, on the host, values may be read freely
                copies.append(_name)
            return _original(self, *arguments, **named)

        monkeypatch.setattr(torch.Tensor, name, counting)
    for frame in frames(12):
        copies.clear()
        tracker.track(frame)
        assert copies == ["cpu"]


def test_time_stamps_must_increase() -> None:
    tracker = make()
    tracker.initialize(frames(1)[0], BOX, timestamp=10.0)
    tracker.track(frames(1)[0], timestamp=10.5)
    with pytest.raises(ValueError, match=r"time stamps must increase: frame 2 is at 10.5 s"):
        tracker.track(frames(1)[0], timestamp=10.5)


def test_assumed_rate_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    tracker = make(FPS=25.0)
    with caplog.at_level("INFO"):
        tracker.initialize(frames(1)[0], BOX)
        for frame in frames(3):
            tracker.track(frame)
    said = [record.message for record in caplog.records if "TEST.FPS" in record.message]
    assert said == ["no time stamps given: assuming TEST.FPS = 25 frames a second"]


def test_bad_input() -> None:
    tracker = make()
    with pytest.raises(RuntimeError, match="call initialize"):
        tracker.track(frames(1)[0])
    with pytest.raises(
        ValueError, match=r"a frame must be a uint8 RGB array \(H, W, 3\), found float64 \(4, 4\)"
    ):
        tracker.initialize(np.zeros((4, 4)), BOX)
    with pytest.raises(ValueError, match="w > 0 and h > 0"):
        tracker.initialize(frames(1)[0], [1, 2, 0, 5])


def test_clip_box_by_hand() -> None:
    assert clip_box([-20, -10, 50, 40], 720, 1280, 10) == [0, 0, 30, 30]
    assert clip_box([1300, 800, 10, 10], 720, 1280, 10) == [1270, 710, 10, 10]


def test_hann_window_is_numpys() -> None:
    line = np.hanning(18)[1:-1]
    torch.testing.assert_close(hann_window(16), torch.tensor(np.outer(line, line), dtype=torch.float32))


def test_reduced_precision_stays_close() -> None:
    exact, reduced = make(), make(PRECISION="bf16")
    for tracker in (exact, reduced):
        tracker.initialize(frames(1)[0], BOX)
    a, b = (tracker.track(frames(1, seed=3)[0])["score"] for tracker in (exact, reduced))
    assert a == pytest.approx(b, abs=0.05)


@pytest.mark.skipif(not can_pack(), reason="this torch has no packed weights")
@pytest.mark.usefixtures("onednn_is_float32")
@pytest.mark.parametrize("script", ["hiptrack", "ostrack"])
def test_the_kernels_change_roundings_alone(script: str) -> None:
    video, found = frames(23), {}
    for kernel in ("default", "onednn"):
        tracker = make(script, MATMUL=kernel)
        tracker.initialize(video[0], BOX)
        found[kernel] = [tracker.track(frame) for frame in video[1:]]
        packed = [m for m in tracker.net.modules() if isinstance(m, PackedLinear) and m._packed is not None]
        assert bool(packed) == (kernel == "onednn")
        assert not is_onednn()
    for plain, ours in zip(found["default"], found["onednn"], strict=True):
        assert ours["target_bbox"] == pytest.approx(plain["target_bbox"], abs=1e-3)
        assert ours["score"] == pytest.approx(plain["score"], abs=1e-5)
        assert ours["tasks"]["cls"]["name"] == plain["tasks"]["cls"]["name"]
