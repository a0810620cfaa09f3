"""The picture of rendered conditions."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mtltrack.cli.show_conditions import LINE, MARGIN, STRENGTHS, main
from mtltrack.data.transforms.render_conditions import KINDS


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """One sequence of two frames; the target is absent from the second."""
    folder = tmp_path / "videos" / "lane"
    folder.mkdir(parents=True)
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    for name in ("1.png", "2.png"):
        assert cv2.imwrite(str(folder / name), image)
    (folder / "groundtruth_rect.txt").write_text("21,21,30,20\nnan,nan,nan,nan\n")
    return tmp_path / "videos"


def test_a_row_a_condition_and_a_column_a_strength(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "pictures" / "sheet.png"
    assert main(["--data", str(videos), "--size", "48", "--out", str(out)]) == 0
    sheet = cv2.imread(str(out))
    height, width = 48 + LINE + MARGIN, 48 + 2 * MARGIN
    assert sheet.shape == (len(KINDS) * height, len(STRENGTHS) * width, 3)
    rows = sheet.reshape(len(KINDS), height, len(STRENGTHS), width, 3)
    assert all((rows[k, :, 0] != rows[k, :, -1]).any() for k in range(len(KINDS)))
    crops = rows[:, LINE : LINE + 48, :, MARGIN : MARGIN + 48]
    coloured = (np.ptp(crops, axis=-1) > 0).mean(axis=(1, 3))  # (conditions, strengths); the box alone: 0.03
    assert coloured.min() > 0.2, "training turns one sample in twenty grey; the picture must not"


def test_wrong_arguments_are_one_message(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", str(videos), "--out", str(tmp_path / "sheet.png")]
    for place in (["--sequence", "1"], ["--frame", "1"], ["--frame", "2"]):
        assert main([*arguments, *place]) == 1
        assert "isn't there, or its target can't be seen. There are 1 sequences" in capsys.readouterr().err
