"""From a configuration to the clips of training: what they are cut with, and which labels they must have."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mtltrack.cli.build_data import TRAIN, VAL, build_clips, need_labels
from mtltrack.core.config import Config, config_from_dict, find_config, load_config
from mtltrack.core.errors import ConfigError, DataError
from mtltrack.training.stages import Stage

DATA = "DATA.TRAIN.DATASETS_NAME="


def config(*options: str) -> Config:
    return load_config(
        find_config("hiptrack", "hiptrack_cls_tiny"), ["DATA.TRAIN.DATASETS_RATIO=[1]", *options]
    )


def stages(*losses: str) -> list[Stage]:
    return cast("list[Stage]", [SimpleNamespace(losses={"box"}), SimpleNamespace(losses={"box", *losses})])


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty folders of data sets, where the entries below look for them."""
    (tmp_path / "x").mkdir()
    (tmp_path / "local.yaml").write_text(f"roots: {{lasot: {tmp_path / 'x'}}}\n")
    monkeypatch.setenv("MTLTRACK_LOCAL", str(tmp_path / "local.yaml"))
    return tmp_path


def refusal(task: str, *options: str) -> str:
    """Return the message with line ends as they are; a task's head isn't built here."""
    cfg = config(*options)
    cfg.TASKS.setdefault(task, cfg.TASKS["cls"])
    with pytest.raises((ConfigError, DataError)) as caught:
        need_labels(cfg, stages(task))
    return str(caught.value)


def test_a_task_that_nothing_labels_names_what_could(folders: Path) -> None:
    message = refusal("cls", DATA + f"[{{TYPE: Got10k, ROOT: {folders / 'x'}}}]")
    assert re.match(
        r"task cls has no label in the data sets of DATA\.TRAIN \(Got10k\); set DATA\.TRAIN\.CLS_ANN_DIR .*"
        r"take the task out of TASKS\. Labels of cls come with FolderSequences \(with CONDITIONS\), .*"
        r"SyntheticSequences, .*the transform RenderConditions\.$",
        message,
    )
    assert "Davis" not in message
    message = refusal("seg", DATA + "[SYNTHETIC]")
    assert re.search(r"\(SYNTHETIC\); .*Labels of seg come with Davis", message)


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("cls", [DATA + "[SYNTHETIC]"]),
        ("cls", [DATA + "[{TYPE: FolderSequences, ROOT: x, CONDITIONS: otb}]"]),
        ("cls", [DATA + "[LASOT]", "DATA.TRANSFORMS=[{TYPE: RenderConditions}]"]),
        ("seg", [DATA + "[{TYPE: Got10k, ROOT: x, CLS_ANN_DIR: y}]"]),
        ("seg", [DATA + "[{TYPE: Davis, ROOT: x}]"]),
        ("plate", [DATA + "[LASOT]", "DATA.TRAIN.CLS_ANN_DIR=labels"]),
        ("my_task", [DATA + "[LASOT]"]),  # nothing is known of it
        ("cls", [DATA + "[LASOT, SYNTHETIC]", "DATA.TRAIN.DATASETS_RATIO=[3, 1]"]),
    ],
)
def test_a_task_that_something_may_label_is_let_through(task: str, options: list[str]) -> None:
    cfg = config(*options)
    cfg.TASKS.setdefault(task, cfg.TASKS["cls"])
    need_labels(cfg, stages(task))


@pytest.mark.usefixtures("folders")
def test_data_that_are_never_drawn_do_not_count() -> None:
    options = [DATA + "[LASOT, SYNTHETIC]", "DATA.TRAIN.DATASETS_RATIO=[1, 0]"]
    assert refusal("cls", *options).startswith("task cls has no label in the data sets of DATA.TRAIN (LASOT)")
    need_labels(config(*options), stages())  # cls isn't learned


def test_why_nothing_can_label_is_told_first(folders: Path) -> None:
    message = refusal("cls", DATA + f"[{{TYPE: FolderSequences, ROOT: {folders / 'x'}, CONDTIONS: otb}}]")
    assert "FolderSequences has no argument CONDTIONS. Did you mean 'CONDITIONS'?" in message
    assert "Named by DATA.TRAIN.DATASETS_NAME" in message and "no label" not in message
    message = refusal("cls", DATA + f"[{{TYPE: FolderSequences, ROOT: {folders / 'y'}}}]")
    assert f"ROOT of FolderSequences is '{folders / 'y'}', which doesn't exist" in message
    assert "the data set 'coco'" in refusal("cls", DATA + "[COCO17]")


def test_the_detail_view_has_a_jitter_of_its_own() -> None:
    data = DATA + "[{TYPE: SyntheticSequences, NUM_SEQUENCES: 2, NUM_FRAMES: 12, SIZE: [64, 48]}]"
    cfg = config(data, "DATA.DETAIL={SIZE: 96, FACTOR: 1.5, CENTER_JITTER: 0.4}", "DATA.VAL.DATASETS_NAME=[]")
    detail = build_clips(cfg, TRAIN).transform.settings.detail
    assert detail is not None and vars(detail) == {
        "size": 96,
        "factor": 1.5,
        "center_jitter": 0.4,
        "scale_jitter": 0.1,
    }
    assert build_clips(config(data), TRAIN).transform.settings.detail is None


@pytest.mark.parametrize(
    ("given", "alphabet", "columns"),
    [({}, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", 24), ({"ALPHABET": "AB1", "COLUMNS": 9}, "AB1", 9)],
)
def test_texts_are_written_as_the_reader_reads_them(
    given: dict[str, Any], alphabet: str, columns: int
) -> None:
    cfg = config(DATA + "[{TYPE: SyntheticSequences, NUM_SEQUENCES: 2, NUM_FRAMES: 12, SIZE: [64, 48]}]")
    cfg.TASKS["ocr"] = type(cfg.TASKS["cls"])(TYPE="OcrHead", **given)
    labels = build_clips(cfg, TRAIN).labels
    assert (labels.alphabet, labels.text_columns) == (alphabet, columns) and "ocr" in labels.tasks
    cfg.TASKS["ocr"] = type(cfg.TASKS["cls"])(TYPE="OcrHead", ALPHABET="latyn")
    with pytest.raises(ConfigError, match=r"TASKS\.ocr\.ALPHABET is 'latyn'.* Did you mean 'latin'\?"):
        build_clips(cfg, VAL if cfg.DATA.VAL.DATASETS_NAME == ["SYNTHETIC"] else TRAIN)


def test_a_missing_root_names_the_line_of_the_list(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    root = tmp_path / "nowhere"
    path.write_text(
        f"DATA:\n  TRAIN:\n    DATASETS_NAME:\n      - {{TYPE: FolderSequences, ROOT: {root}}}\n"
        "    DATASETS_RATIO: [1]\n"
    )
    with pytest.raises(DataError) as caught:
        build_clips(load_config(path, script="ostrack"), TRAIN)
    assert str(caught.value).startswith(f"the data folder {root} doesn't exist.")
    assert re.search(r"\(Named by DATA\.TRAIN\.DATASETS_NAME, .*mine\.yaml:\d\.\)$", str(caught.value))


def test_alerts_labelled_by_another_rule_than_the_head_follows_are_refused() -> None:
    def config(**head: object) -> Config:
        source = {"TYPE": "TrafficSequences", "NUM_SEQUENCES": 2, "NUM_FRAMES": 16, "ALERT_SECONDS": 20}
        train = {"DATASETS_NAME": [source], "DATASETS_RATIO": [1], "SAMPLE_PER_EPOCH": 4}
        return config_from_dict(
            {
                "DATA": {"TRAIN": train, "SEARCH": {"SIZE": 64}, "TEMPLATE": {"SIZE": 32}},
                "TASKS": {"alert": {"TYPE": "AlertHead", **head}},
            },
            script="ostrack",
        )

    with pytest.raises(ConfigError) as error:
        build_clips(config(), TRAIN)
    assert "labels its alerts with ALERT_SECONDS 20.0, but TASKS.alert.SECONDS is 120.0" in str(error.value)
    assert "DATA.TRAIN.DATASETS_NAME" in str(error.value)
    assert build_clips(config(SECONDS=20), TRAIN).labels.stop_rule.seconds == 20
