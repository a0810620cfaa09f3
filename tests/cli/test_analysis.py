"""`tracking/analysis_results.py` on results of other programs, as files on the disk."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from mtltrack.cli import analysis
from mtltrack.cli.analysis_sources import title_of
from mtltrack.cli.command import show

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "evaluation"))
from fake_trackers import walk, write_sequence

NAMES = [f"Seq{number}" for number in range(7)]
STILL = walk(4, step=0)


def moved(pixels: float) -> np.ndarray:
    """Boxes 10 wide that stand beside the true ones from the second frame on."""
    boxes = STILL.copy()
    boxes[1:, 0] += pixels
    return boxes


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Ground truth of seven sequences as pysot has it, three trackers in three formats, images of one."""
    truth: dict[str, Any] = {}
    for name in NAMES:
        images = [f"{name}/img/{number:04d}.png" for number in range(1, 5)]
        truth[name] = {"gt_rect": STILL.tolist(), "img_names": images, "attr": ["Occlusion"]}
    (tmp_path / "GT.json").write_text(json.dumps(truth))
    write_sequence(tmp_path / "data" / NAMES[0], STILL)
    for tracker in ("text", "toolkit", "otb"):
        (tmp_path / "results" / tracker).mkdir(parents=True)
    for number, name in enumerate(NAMES):
        np.savetxt(tmp_path / "results" / "text" / f"{name.lower()}.txt", moved(5), fmt="%d", delimiter=",")
        folder = tmp_path / "results" / "toolkit" / name
        folder.mkdir()
        np.savetxt(folder / f"{name}_001.txt", moved(5 + number % 2 * 0.1), fmt="%.3f", delimiter=",")
        run = [{"seqName": name, "resType": "rect", "fps": 8, "res": moved(2).tolist()}]
        (tmp_path / "results" / "otb" / f"{name}.json").write_text(json.dumps(run))
    return tmp_path


def command(place: Path, *more: str) -> list[str]:
    return ["--results", str(place / "results"), "--ground-truth", str(place / "GT.json"), *more]


def test_three_formats_beside_each_other(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = place / "out"
    images = ["--images", str(place / "data"), "--worst", "7"]
    assert analysis.main(command(place, *images, "--out", str(out), "--write", "json", "html")) == 0
    said = capsys.readouterr().out
    assert "'seq2' is taken for 'Seq2', and 4 more names" in said and "GT, 7 sequences, percent" in said
    # overlaps 1 and three times 8 / 12 against 1 and three times 1/3: 14 and 7 of 21 thresholds
    assert "otb is better than text by 25.0 points of AUC: p = .047 (95 % interval 25.0 to 25.0" in said
    # 5.1 pixels overlap by 4.9 / 15.1 in place of 5 / 15: above the same thresholds
    assert "text and toolkit are 0.0 points of AUC apart, inside the noise: p = 1.00" in said
    assert "AUC by attribute, percent" in said and "Occlusion" in said
    assert sorted(path.name for path in out.iterdir()) == ["analysis_GT.html", "analysis_GT.json"]
    found = {
        item["tracker"]: item["mean"]
        for item in json.loads((out / "analysis_GT.json").read_text())["trackers"]
    }
    assert found["otb"]["AUC"] == pytest.approx((20 + 3 * 14) / 84) and found["otb"]["FPS"] == 8.0
    assert found["text"]["AUC"] == found["toolkit"]["AUC"] == pytest.approx((20 + 3 * 7) / 84)
    page = (out / "analysis_GT.html").read_text()
    assert page.count("data:image/jpeg") == 3  # the images of one sequence are there
    assert "Without a picture" in page


def test_some_trackers_and_everything_beside_the_results(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert analysis.main(command(place, "--trackers", "otb", "toolkit")) == 0
    said = capsys.readouterr().out
    assert "text" not in said.split("percent")[0] and "otb is better than toolkit" in said
    names = {path.name for path in (place / "results").glob("analysis_GT*")}
    assert names == {
        *(f"analysis_GT{ending}" for ending in (".csv", ".json", ".tex", ".html", "_attributes.csv")),
        *(
            f"analysis_GT_{name}.{kind}"
            for name in ("success", "precision", "norm_precision")
            for kind in ("png", "pdf")
        ),
    }
    assert analysis.main(command(place, "--trackers", "otb", "--write")) == 0  # its own files are no results
    assert "written" not in capsys.readouterr().out


def test_other_programs_results_on_a_data_set(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--results", str(place / "results"), "--dataset", str(place / "data"), "--write"]
    assert analysis.main([*arguments, "--trackers", "toolkit"]) == 0
    said = capsys.readouterr().out
    assert "data, 1 sequence, percent" in said and "6 result(s) of no sequence of the ground truth" in said
    assert analysis.main([*arguments, "--protocol", "got10k", "--trackers", "otb"]) == 0
    # AO leaves out the first frame: boxes that have 8 of 12 pixels in common
    assert re.search(r"otb .* 66\.67 +100\.00 +0\.00 +8\.0 +-", said := capsys.readouterr().out)
    assert "note: no intervals: they need at least 6 sequences, fewer say too little of others" in said


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--trackers", "otv"], "no results of the tracker 'otv' below .* Did you mean 'otb'"),
        (["--dataset", "otb"], "--dataset and --ground-truth both say what is true; give one"),
        (["--frames", "Seq0=1:2"], "--frames needs --dataset"),
        (["--without", "Seq7"], "--without names 'Seq7', which is no sequence here.* Sequences: Seq0, Seq1"),
        (["--without", *NAMES], "--without names every sequence; leave one"),
        (["--worst", "-1"], "--worst must be 0 or more; found -1"),
        (["--images", "nowhere"], "--images 'nowhere' is no folder"),
        (["--out", "GT.json/x"], r"can't write 'GT\.json/x/analysis_GT\.csv': .*--out FOLDER"),
        (["--protocol", "lasot"], "sequence 'Seq0': 'lasot' is scored with visibility flags"),
    ],
)
def test_options_that_do_not_fit(
    place: Path,
    more: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    kinds = [] if "--out" in more else ["--write"]
    assert analysis.main(command(place, *kinds, *more)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and re.search(message, error), error


def test_boxes_are_scored_without_waiting_for_torch(place: Path) -> None:
    code = (
        "import sys; from mtltrack.cli import analysis; status = analysis.main(sys.argv[1:]); "
        "sys.exit(status or ('torch' in sys.modules and 'torch was imported'))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *command(place, "--write", "csv")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0 and "written" in ended.stdout, ended.stderr


def test_a_narrow_terminal_loses_no_column(capsys: pytest.CaptureFixture[str]) -> None:
    table = analysis.mean_table("x", [], "AUC", {})
    for number in range(12):
        table.add_column(f"column{number}", no_wrap=True)
    show(Console(width=40), table)
    assert "column0" in (said := capsys.readouterr().out) and "column11" in said


@pytest.mark.parametrize(
    ("path", "title"),
    [("/d/got10k_val/gt", "got10k_val"), ("/d/GT.json.gz", "GT"), ("/gt", "gt"), ("/d/uav/anno", "uav")],
)
def test_ground_truth_is_called_by_a_name_that_says_something(path: str, title: str) -> None:
    assert title_of(Path(path)) == title


def test_lengths_that_differ(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place / "results" / "text" / "seq3.txt"
    path.write_text("1,2,3,4\n1,2,3,4\n")
    assert analysis.main(command(place, "--write")) == 1
    assert re.search(r"'text': 1 of 7 results .* 'Seq3' 2 of 4 \('.*seq3\.txt'\)", capsys.readouterr().err)
    assert analysis.main(command(place, "--write", "--allow-partial")) == 0
    said = capsys.readouterr().out
    assert re.search(r"boxes of 'Seq3' 2 of 4 \(.*\): the frames that lack count as misses", said)
    assert analysis.main(command(place, "--write", "--without", "Seq3")) == 0
    said = capsys.readouterr().out
    assert "note: left out by --without: Seq3" in said and "GT, 6 sequences, percent" in said
    assert "of no sequence of the ground truth" not in said


def test_published_struck_and_nanotrack_by_the_command(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = data_root / "evalcheck"
    if not (folder / "otb100_STRUCK").is_dir():
        pytest.skip(f"no results of STRUCK in {folder}")
    out = ["--out", str(tmp_path), "--write", "json"]
    struck = ["--results", str(folder / "otb100_STRUCK"), "--ground-truth", str(folder / "OTB100.json.gz")]
    assert analysis.main([*struck, *out]) == 1
    error = capsys.readouterr().err
    assert re.search(r"1 of 100 results .* 'ClifBar' 329 of 472 \('.*ClifBar\.json'\)\.", error), error

    def scores_of(*more: str) -> tuple[float, float]:
        assert analysis.main([*struck, *out, *more]) == 0
        mean = json.loads((tmp_path / "analysis_OTB100.json").read_text())["trackers"][0]["mean"]
        return mean["AUC"], mean["Precision"]

    published = 0.4617, 0.6391
    assert scores_of("--allow-partial") == pytest.approx(published, abs=0.002)
    assert scores_of("--without", "ClifBar") == pytest.approx(published, abs=0.001)
    nano = ["--results", str(folder / "got10k_val" / "NanoTrackV3"), "--protocol", "got10k"]
    assert analysis.main([*nano, "--ground-truth", str(folder / "got10k_val" / "gt"), *out]) == 0
    found = json.loads((tmp_path / "analysis_got10k_val.json").read_text())["trackers"][0]
    assert found["tracker"] == "NanoTrackV3"
    assert found["mean"]["AO"] == pytest.approx(0.719, abs=0.003)
    assert found["mean"]["SR50"] == pytest.approx(0.848, abs=0.003)
