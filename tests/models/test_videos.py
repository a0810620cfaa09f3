"""Videos that share a batch: rows, memories and entries are those of each video alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from mtltrack.core.types import Clip, TaskOutput
from mtltrack.models.tracker import Tracker
from mtltrack.models.videos import rows_of

Make = Callable[..., Tracker]
MakeClip = Callable[..., Clip]
BEGIN = (1, 4, 5, 12)  # the videos' frame numbers at first: all read templates but the last


def joined(clips: list[Clip]) -> Clip:
    return replace(
        clips[0],
        template=torch.cat([clip.template for clip in clips]),
        template_boxes_xywh=torch.cat([clip.template_boxes_xywh for clip in clips]),
        search=torch.cat([clip.search for clip in clips]),
        affine=torch.cat([clip.affine for clip in clips]),
        timestamps=torch.cat([clip.timestamps for clip in clips]),
        labels={},
    )


def test_rows_by_hand() -> None:
    tensor = torch.arange(6)
    assert rows_of([0, 2], 3, tensor).tolist() == [0, 1, 4, 5]
    assert rows_of([1], 6, tensor).tolist() == [1]
    assert rows_of([0, 1, 2], 3, tensor) is tensor


@pytest.mark.parametrize("rows", [1, 2])
def test_videos_at_frames_of_their_own(make_tracker: Make, make_clip: MakeClip, rows: int) -> None:
    """Four videos of so many rows each; the last one's memory has entries from before."""
    tracker = make_tracker().eval()
    alone, together = ([tracker.new_memory() for _ in BEGIN] for _ in range(2))
    with torch.no_grad():
        for index in range(1, BEGIN[3]):
            before = make_clip(batch=rows, frames=1, seed=100 + index)
            for memories in (alone, together):
                tracker.track(before, index, memories[3])
        for step in range(10):
            clips = [make_clip(batch=rows, frames=1, seed=10 * step + video) for video in range(4)]
            indices = [first + step for first in BEGIN]
            found = tracker.track_videos(joined(clips), indices, together)
            for video, clip in enumerate(clips):
                wanted = tracker.track(clip, indices[video], alone[video])
                part = slice(video * rows, (video + 1) * rows)
                for task in ("box", "cls"):
                    for name, value in wanted[task].predictions.items():
                        torch.testing.assert_close(
                            found[task].predictions[name][part], value, atol=2e-5, rtol=1e-4
                        )
    counts = [memory.count for memory in together if memory is not None]
    # written were 5, 10; 5, 10, 12; 5, 10, 12; and three of 5, 10, 12, 16, 20, since there is no more room
    assert counts == [2, 3, 3, 3] == [memory.count for memory in alone if memory is not None]


def test_without_a_history(make_tracker: Make, make_clip: MakeClip) -> None:
    tracker = make_tracker(history=False).eval()
    clips = [make_clip(batch=1, frames=1, seed=seed) for seed in range(3)]
    with torch.no_grad():
        found = tracker.track_videos(joined(clips), [1, 30, 7], [None] * 3)["box"].predictions
        for video, clip in enumerate(clips):
            wanted = tracker.track(clip, 1, None)["box"].predictions
            torch.testing.assert_close(found["score_map"][video], wanted["score_map"][0])


def test_a_frame_that_fails_writes_nothing(
    make_tracker: Make, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, clip = make_tracker().eval(), make_clip(batch=1, frames=1)
    memory = tracker.new_memory()
    assert memory is not None

    def fails(*arguments: object) -> TaskOutput:
        raise ValueError("no conditions today")

    with torch.no_grad():
        with monkeypatch.context() as patch:
            patch.setattr(tracker.graph.heads["cls"], "forward", fails)
            with pytest.raises(ValueError, match="no conditions today"):
                tracker.track(clip, 5, memory)
        assert memory.count == 0
        tracker.track(clip, 5, memory)
    assert memory.count == 1
