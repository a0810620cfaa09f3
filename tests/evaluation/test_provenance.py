"""What `run.json` says of each sequence, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtltrack.core.errors import DataError
from mtltrack.evaluation.benchmarks import Sequence
from mtltrack.evaluation.provenance import Provenance, claim, config_changes, load_records, refuse_others
from mtltrack.evaluation.results import ResultFolder, write_results

ONE = Provenance("/w/one.pth.tar", "1" * 64, {"MODEL": {"A": 1, "B": 2}}, "otb")
TWO = replace(ONE, checkpoint="/w/two.pth.tar", sha256="2" * 64)


def sequence(name: str, frames: int = 3) -> Sequence:
    boxes = np.tile([3.0, 4.0, 10.0, 8.0], (frames, 1))
    return Sequence(name, tuple(Path(f"{number}.jpg") for number in range(1, frames + 1)), boxes)


@pytest.fixture
def folder(tmp_path: Path) -> ResultFolder:
    return ResultFolder(tmp_path / "r")


def make(folder: ResultFolder, run: Provenance, item: Sequence) -> None:
    """Do what a run does with a sequence."""
    claim(folder, run, item)
    write_results(folder, item.name, item.boxes_xywh, [0.1] * len(item))


def test_a_line_for_each_sequence(folder: ResultFolder) -> None:
    make(folder, ONE, sequence("x", 6).cut(2, 4))
    make(folder, TWO, sequence("y"))
    lines = (folder.path / "run.json").read_text().splitlines()
    start = f'"config": "{ONE.config_key}", "dataset": "otb", "frames": '
    assert lines[2] == f'    "x": {{"weights": "{"1" * 16}", {start}[2, 4], "one_based": false}},'
    assert lines[3] == f'    "y": {{"weights": "{"2" * 16}", {start}[1, 3], "one_based": false}}'
    content = json.loads("\n".join(lines))
    assert content["weights"]["2" * 16] == {"file": "/w/two.pth.tar", "sha256": "2" * 64}
    assert content["configs"] == {ONE.config_key: {"MODEL": {"A": 1, "B": 2}}}
    assert load_records(folder).ranges("otb") == {"x": (2, 4), "y": (1, 3)}
    assert load_records(folder).ranges("lasot") == {}


def test_what_no_sequence_refers_to_is_forgotten(folder: ResultFolder) -> None:
    make(folder, ONE, sequence("x"))
    make(folder, TWO, sequence("x"))
    assert list(load_records(folder).weights) == ["2" * 16]


def test_results_of_another_checkpoint_stay_known_when_others_join_them(folder: ResultFolder) -> None:
    x, y = sequence("x"), sequence("y")
    make(folder, ONE, x)
    refuse_others(folder, TWO, [y])  # nothing of y is there
    make(folder, TWO, y)
    with pytest.raises(DataError, match=r"'x' \(with the weights /w/one\.pth\.tar\)\. .*--runid N.*--force"):
        refuse_others(folder, TWO, [x, y])
    make(folder, TWO, x)
    refuse_others(folder, TWO, [x, y])


@pytest.mark.parametrize(
    ("run", "item", "difference"),
    [
        (
            replace(ONE, config={"MODEL": {"A": 1, "B": 3}}),
            sequence("x", 80).cut(1, 40),
            r"with another configuration: MODEL\.B 2, now 3\)",
        ),
        (replace(ONE, dataset="lasot"), sequence("x", 80).cut(1, 40), "from the data set otb"),
        (ONE, sequence("x", 80).cut(41, 80), "on the frames 1 to 40"),
        (ONE, replace(sequence("x", 40), one_based=True), r"with pixels that count from 0 \(--zero-based"),
    ],
)
def test_other_results(folder: ResultFolder, run: Provenance, item: Sequence, difference: str) -> None:
    make(folder, ONE, sequence("x", 80).cut(1, 40))
    with pytest.raises(DataError, match=rf"made otherwise: 'x' \({difference}"):
        refuse_others(folder, run, [item])


def test_keys_that_differ_are_named() -> None:
    there = {"TEST": {"UPDATE_INTERVAL": 20, "FPS": 30.0}, "DETAIL": {"SIZE": 96}}
    now = {"TEST": {"UPDATE_INTERVAL": 25, "FPS": 30.0}, "TASKS": {"cls": 1}}
    assert config_changes(there, now) == [
        "TEST.UPDATE_INTERVAL 20, now 25",
        "DETAIL {'SIZE': 96}, now absent",
        "TASKS absent, now {'cls': 1}",
    ]


def test_what_does_not_matter(folder: ResultFolder) -> None:
    make(folder, ONE, sequence("x"))
    refuse_others(folder, replace(ONE, checkpoint="/elsewhere.pth"), [sequence("x")])
    refuse_others(folder, replace(ONE, config={"MODEL": {"B": 2, "A": 1}}), [sequence("x")])


def test_an_epoch_that_an_earlier_version_noted_does_not_matter(folder: ResultFolder) -> None:
    make(folder, replace(ONE, config={**ONE.config, "TEST": {"EPOCH": 3}}), sequence("x"))
    refuse_others(folder, replace(ONE, config={**ONE.config, "TEST": {}}), [sequence("x")])


def test_a_long_list_is_cut(folder: ResultFolder) -> None:
    items = [sequence(f"s{number}") for number in range(7)]
    for item in items:
        make(folder, ONE, item)
    with pytest.raises(DataError, match=r"'s4' \([^)]*\) and 2 more\. Keep"):
        refuse_others(folder, TWO, items)


def test_results_of_unknown_origin(folder: ResultFolder) -> None:
    write_results(folder, "x", sequence("x").boxes_xywh, [0.1] * 3)
    with pytest.raises(DataError, match=r"'x' \(run\.json doesn't say from what\)"):
        refuse_others(folder, ONE, [sequence("x")])
    (folder.path / "run.json").write_text('{"checkpoint": "one.pth", "sha256": "1"}')
    with pytest.raises(DataError, match=r"'x' \(run\.json doesn't say from what\)"):
        refuse_others(folder, ONE, [sequence("x")])


@pytest.mark.parametrize("text", ["{", "[]", '{"sequences": {"x": {}}}', '{"sequences": {}}', '"sequences"'])
def test_a_damaged_file(folder: ResultFolder, text: str) -> None:
    folder.path.mkdir(parents=True)
    (folder.path / "run.json").write_text(text)
    with pytest.raises(DataError, match=r"run\.json' isn't a description of a run .*remove it"):
        load_records(folder)


def test_old_results_are_gone_before_a_sequence_is_run_again(folder: ResultFolder) -> None:
    make(folder, ONE, sequence("x"))
    claim(folder, TWO, sequence("x"))  # and then the power fails
    assert not folder.boxes("x").exists()
    assert load_records(folder).sequences["x"].weights == "2" * 16
    refuse_others(folder, ONE, [sequence("x")])  # nothing of x is there


def test_description_of_a_run(tmp_path: Path) -> None:
    made = Provenance.of(tmp_path / "w.pth", "abc", {"MODEL": {"A": (1, 2)}}, "otb")
    assert made.checkpoint == str(tmp_path / "w.pth") and made.sha256 == "abc"
    assert made.config == {"MODEL": {"A": [1, 2]}} and made.dataset == "otb"
