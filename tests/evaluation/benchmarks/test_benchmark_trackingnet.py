"""TrackingNet's test split."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_files import numbers_of, write_boxes, write_images

from mtltrack.core.errors import DataError
from mtltrack.evaluation.benchmarks import trackingnet


def test_layout(tmp_path: Path) -> None:
    write_images(tmp_path / "TEST" / "frames" / "v1", range(12), 1)
    write_boxes(tmp_path / "TEST" / "anno" / "v1.txt", 1)
    found = trackingnet.load(tmp_path)
    assert numbers_of(found.sequences[0]) == list(range(12)) and not found.sequences[0].scorable
    assert found.notes == (f"1 sequences in {tmp_path}, the benchmark has 511",)


def test_missing_data(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"trackingnet: no sequence was found in .*TEST/anno\. Below its root"
    ):
        trackingnet.load(tmp_path)
    write_boxes(tmp_path / "TEST" / "anno" / "v1.txt", 1)
    with pytest.raises(
        DataError, match=r"images of 'v1' are missing, .*TEST/frames/v1\. .*TEST/anno/<seq>\.txt"
    ):
        trackingnet.load(tmp_path)
    (tmp_path / "TEST" / "frames" / "v1").mkdir(parents=True)
    with pytest.raises(DataError, match=r"sequence 'v1' has no images in .*TEST/frames/v1"):
        trackingnet.load(tmp_path)
