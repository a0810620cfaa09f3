"""Every message says where, which key, what was found, what is allowed and the nearest spelling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mtltrack.core.config import config_from_dict, load_config
from mtltrack.core.errors import ConfigError, MtltrackError, edit_distance


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def message(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        config_from_dict(values)
    return str(caught.value)


def file_message(path: Path, *options: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, options)
    return str(caught.value)


def test_all_problems_are_reported_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
DATA:
  SEARCH: {SIZE: 250}
  MEAN: [0.1, true, 0.3]
TRAIN:
  CLS_WIEGHT: 0.1
  EPOCH: many
  LR: 0
TASKS:
  cls: {TYPE: ClsHead}
TEST: {SEARCH_SIZE: 256}
"""
    path = write(tmp_path, text)
    lines = file_message(path, "TRAIN.STAGE1_LR=fast").splitlines()
    assert lines[0] == f"7 problems in the configuration {path}:"
    places = [
        "mine.yaml:2: DATA.SEARCH.SIZE: found 250; allowed: a multiple of MODEL.BACKBONE.STRIDE (16), as 240",
        "mine.yaml:3: DATA.MEAN[1]: found true; allowed: a number.",
        "mine.yaml:5: TRAIN.CLS_WIEGHT: unknown key (found 0.1). Did you mean 'CLS_WEIGHT'? Allowed in TRAIN",
        "mine.yaml:6: TRAIN.EPOCH: found 'many'; allowed: a whole number at least 1.",
        "mine.yaml:7: TRAIN.LR: found 0; allowed: a number above 0.",
        "mine.yaml:10: TEST.SEARCH_SIZE: found 256, but DATA.SEARCH.SIZE is 250: ",
        "--cfg-options TRAIN.STAGE1_LR=fast: TRAIN.STAGE1_LR: found 'fast'; allowed: a number above 0.",
    ]
    for line, expected in zip(lines[1:], places, strict=True):
        assert expected in line


def test_error_belongs_to_the_project_and_is_a_value_error() -> None:
    with pytest.raises(MtltrackError):
        config_from_dict({"TRAIN": 3})
    with pytest.raises(ValueError, match=r"TRAIN: found 3; allowed: a mapping with the keys LR, "):
        config_from_dict({"TRAIN": 3})


# --- unknown keys


def test_unknown_key_lists_what_is_allowed() -> None:
    text = message({"MODEL": {"HEAD": {"NUM_CHANELS": 3}}})
    assert "MODEL.HEAD.NUM_CHANELS: unknown key (found 3). Did you mean 'NUM_CHANNELS'?" in text
    assert text.endswith("Allowed in MODEL.HEAD: NUM_CHANNELS, TYPE.")


def test_section_in_the_wrong_case() -> None:
    assert "Train: unknown key (found {'LR': 1}). Did you mean 'TRAIN'?" in message({"Train": {"LR": 1}})


def test_key_in_the_wrong_section() -> None:
    assert "MODEL.LR: unknown key (found 1). This key belongs at TRAIN.LR." in message({"MODEL": {"LR": 1}})


def test_weight_of_an_unknown_task() -> None:
    tasks = {"cls": {"TYPE": "ClsHead"}, "seg": {"TYPE": "SegHead"}}
    text = message({"TASKS": tasks, "TRAIN": {"SGE_WEIGHT": 1, "CLS_WEIGHT": 1, "OCR_WEIGHT": 1}})
    assert text.startswith("2 problems ")
    assert (
        "TRAIN.SGE_WEIGHT: unknown key (found 1): TASKS holds no task 'sge'. Did you mean 'SEG_WEIGHT'?"
        in text
    )
    assert "TRAIN.OCR_WEIGHT: unknown key (found 1): TASKS holds no task 'ocr'." in text
    assert "To add the task: TASKS: {ocr: {TYPE: <head>}}." in text
    assert "Allowed weights: GIOU_WEIGHT, L1_WEIGHT, DFL_WEIGHT, CLS_WEIGHT, SEG_WEIGHT." in text


def test_weight_of_a_task_that_an_option_took_away(tmp_path: Path) -> None:
    path = write(tmp_path, "TASKS: {cls: {TYPE: ClsHead}}\nTRAIN: {CLS_WEIGHT: 0.1}\n")
    assert "mine.yaml:2: TRAIN.CLS_WEIGHT: unknown key" in file_message(path, "TASKS.cls=null")
    assert load_config(path, ["TASKS.cls=null", "TRAIN.CLS_WEIGHT=null"]).TASKS == {}


# --- types and ranges


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"TRAIN": {"EPOCH": True}}, "TRAIN.EPOCH: found true; allowed: a whole number at least 1."),
        ({"TRAIN": {"EPOCH": 2.5}}, "TRAIN.EPOCH: found 2.5; allowed: a whole number at least 1."),
        ({"TRAIN": {"LR": False}}, "TRAIN.LR: found false; allowed: a number above 0."),
        ({"TRAIN": {"LR": float("nan")}}, "TRAIN.LR: found nan; allowed: a number above 0."),
        ({"TRAIN": {"AMP": 1}}, "TRAIN.AMP: found 1; allowed: true or false."),
        (
            {"TRAIN": {"DROP_PATH_RATE": 1}},
            "TRAIN.DROP_PATH_RATE: found 1; allowed: a number at least 0 and below 1.",
        ),
        (
            {"TRAIN": {"STAGE1_EPOCHS": -1}},
            "TRAIN.STAGE1_EPOCHS: found -1; allowed: a whole number at least 0.",
        ),
        (
            {"TRAIN": {"PRECISION": "fp61"}},
            "found 'fp61'; allowed: 'fp32', 'bf16', 'fp16'. Did you mean 'fp16'?",
        ),
        (
            {"TRAIN": {"BOX_IOU_LOSS": "DIOU"}},
            "TRAIN.BOX_IOU_LOSS: found 'DIOU'; allowed: 'GIOU', 'CIOU'. Did you mean",
        ),
        ({"TRAIN": {"OPTIMIZER": "SGD"}}, "TRAIN.OPTIMIZER: found 'SGD'; allowed: only 'ADAMW'."),
        (
            {"TRAIN": {"FREEZE_LAYERS": 0}},
            "TRAIN.FREEZE_LAYERS: found 0; allowed: a list of values, each a whole",
        ),
        (
            {"MODEL": {"HEAD": {"TYPE": "CENTRE"}}},
            "allowed: 'CENTER', 'CORNER', 'MLP', 'DFL'. Did you mean 'CENTER'?",
        ),
        ({"MODEL": {"PRETRAIN_FILE": 3}}, "MODEL.PRETRAIN_FILE: found 3; allowed: a text."),
        ({"MODEL": {"BACKBONE": {"EMBED_DIM": 0}}}, "found 0; allowed: a whole number at least 1."),
        ({"MODEL": {"BACKBONE": {"BATCH_FRAMES": "yes"}}}, "allowed: 'auto', true, false."),
        (
            {"MODEL": {"BACKBONE": {"CE_LOC": [3, "x"]}}},
            "MODEL.BACKBONE.CE_LOC[1]: found 'x'; allowed: a whole number",
        ),
        (
            {"DATA": {"MEAN": [0.5, 0.5]}},
            "DATA.MEAN: found [0.5, 0.5]; allowed: a list of exactly 3, each a number.",
        ),
        (
            {"DATA": {"DETAIL": {"SIZE": 64}}},
            "DATA.DETAIL.FACTOR: this key is needed; allowed: a number above 0.",
        ),
        (
            {"DATA": {"TRAIN": {"DATASETS_NAME": []}}},
            "found []; allowed: a list of at least 1, each a text, not empty",
        ),
        (
            {"DATA": {"TRAIN": {"DATASETS_NAME": [{"ROOT": "x"}]}}},
            "DATASETS_NAME[0]: found {'ROOT': 'x'}; allowed: a text",
        ),
        (
            {"TASKS": {"cls": {"HIDDEN_DIM": 3}}},
            "TASKS.cls.TYPE: this key is needed; allowed: a text, not empty.",
        ),
        (
            {"TASKS": {"cls": "ClsHead"}},
            "TASKS.cls: found 'ClsHead'; allowed: a mapping with the keys TYPE, DETACH.",
        ),
        (
            {"TASKS": {"Cls": {"TYPE": "a"}}},
            "TASKS.Cls: a task's name is written in small letters, digits and _",
        ),
        (
            {"TASKS": {"cls": {"TYPE": "a"}}, "TRAIN": {"CLS_WEIGHT": -1}},
            "CLS_WEIGHT: found -1; allowed: a number at least 0",
        ),
    ],
)
def test_wrong_type_or_range(values: dict[str, Any], text: str) -> None:
    assert text in message(values)


@pytest.mark.parametrize(
    "values",
    [
        {"MID_PE": True},
        {"SEP_SEG": True},
        {"ADD_CLS_TOKEN": True},
        {"CAT_MODE": "partition"},
        {"MERGE_LAYER": 3},
    ],
)
def test_a_value_that_would_change_the_model_and_is_not_built_is_an_error(values: dict[str, Any]) -> None:
    (key,) = values
    assert f"MODEL.BACKBONE.{key}: found " in message({"MODEL": {"BACKBONE": values}})
    assert "allowed: only " in message({"MODEL": {"BACKBONE": values}})


def test_inner_outputs_are_not_built() -> None:
    text = message({"MODEL": {"RETURN_INTER": True}})
    assert "MODEL.RETURN_INTER: found true; allowed: only false. Outputs of inner blocks: not built." in text


# --- keys that contradict each other


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"MODEL": {"BACKBONE": {"CE_LOC": [3, 6], "CE_KEEP_RATIO": [0.7]}}},
            "BACKBONE.CE_KEEP_RATIO: found 1 ratios for 2 blocks; allowed: one for each block of CE_LOC.",
        ),
        (
            {"MODEL": {"BACKBONE": {"CE_LOC": [6, 3], "CE_KEEP_RATIO": [0.7, 0.7]}}},
            "MODEL.BACKBONE.CE_LOC: found [6, 3]; allowed: different blocks, in rising order.",
        ),
        (
            {"MODEL": {"BACKBONE": {"CE_LOC": [4], "CE_KEEP_RATIO": [0.7], "DEPTH": 4}}},
            "MODEL.BACKBONE.CE_LOC: found [4]; allowed: blocks 0 to 3, as MODEL.BACKBONE.DEPTH is 4.",
        ),
        (
            {"MODEL": {"BACKBONE": {"EMBED_DIM": 100, "NUM_HEADS": 3}}},
            "MODEL.BACKBONE.EMBED_DIM: found 100; allowed: a multiple of MODEL.BACKBONE.NUM_HEADS (3).",
        ),
        (
            {"DATA": {"TEMPLATE": {"SIZE": 100}}},
            "DATA.TEMPLATE.SIZE: found 100; allowed: a multiple of MODEL.BACKBONE.STRIDE (16), as 96 or 112.",
        ),
        (
            {"DATA": {"TEMPLATE": {"SIZE": 128}}, "TEST": {"TEMPLATE_SIZE": 192}},
            "TEST.TEMPLATE_SIZE: found 192, but DATA.TEMPLATE.SIZE is 128: the position tables have",
        ),
        (
            {"DATA": {"TEMPLATE": {"NUMBER": 2}}},
            "DATA.TEMPLATE.NUMBER: found 2; allowed: 1. Several templates are not supported yet.",
        ),
        (
            {"DATA": {"TRAIN": {"DATASETS_NAME": ["LASOT"]}}},
            "DATA.TRAIN.DATASETS_RATIO: found 2 ratios for 1 data sets; allowed: one for each of them.",
        ),
        ({"DATA": {"VAL": {"DATASETS_RATIO": [0]}}}, "found [0.0]; allowed: at least one ratio above 0."),
        ({"TRAIN": {"SCHEDULER": {"TYPE": "Mstep"}}}, "Mstep needs the epochs after which the rate drops."),
        (
            {"TRAIN": {"SCHEDULER": {"MILESTONES": [2, 1]}}},
            "found [2, 1]; allowed: different epochs, in rising order.",
        ),
        (
            {"TRAIN": {"TWO_STAGE": True}},
            "TRAIN.TWO_STAGE: stage 1 trains the heads of TASKS, and there are none",
        ),
        (
            {"TASKS": {"box": {"TYPE": "a"}}},
            "TASKS.box: 'box' can't be the name of a task: the box is implicit",
        ),
        (
            {"TASKS": {"l1": {"TYPE": "a"}}},
            "TASKS.l1: 'l1' can't be the name of a task: TRAIN.L1_WEIGHT is the box's.",
        ),
        (
            {"TASKS": {"ocr": {"TYPE": "a", "DETACH": ["plat"]}, "plate": {"TYPE": "b"}}},
            "TASKS.ocr.DETACH: found 'plat'; allowed: the other heads, box, plate. Did you mean 'plate'?",
        ),
        (
            {
                "MODEL": {"CLS_HEAD": {"HIDDEN_DIM": 3}},
                "TASKS": {"cls": {"TYPE": "ClsHead", "HIDDEN_DIM": 4}},
            },
            "MODEL.CLS_HEAD.HIDDEN_DIM: found 3, but TASKS.cls.HIDDEN_DIM is 4; the two are one setting.",
        ),
        (
            {"MODEL": {"CLS_HEAD": {"HIDDEN_DIM": 3}}, "TASKS": {"cls": {"TYPE": "Other"}}},
            "MODEL.CLS_HEAD: this section means TASKS.cls with TYPE ClsHead, but TASKS.cls.TYPE is 'Other'.",
        ),
    ],
)
def test_contradiction(values: dict[str, Any], text: str) -> None:
    found = message(values)
    assert text in found
    assert found.startswith("1 problem in the configuration given values:")


def test_two_stages_without_epochs() -> None:
    train = {"TWO_STAGE": True, "STAGE1_EPOCHS": 0, "STAGE2_EPOCHS": 0}
    assert "are all 0: there is nothing to train" in message({"TRAIN": train})


def test_a_refused_value_causes_no_second_message() -> None:
    text = message({"DATA": {"SEARCH": {"SIZE": "big"}}, "TEST": {"SEARCH_SIZE": 256}})
    assert text.startswith("1 problem ")


def test_contradiction_is_reported_where_one_of_the_keys_stands(tmp_path: Path) -> None:
    path = write(tmp_path, "DATA:\n  TRAIN:\n    DATASETS_NAME: [LASOT]\n")
    assert "mine.yaml:3: DATA.TRAIN.DATASETS_RATIO: found 2 ratios" in file_message(path)


# --- the file itself


def test_problem_of_a_base_is_reported_in_the_base(tmp_path: Path) -> None:
    write(tmp_path, "\n\nTRAIN: {LR: slow}\n", "low.yaml")
    text = file_message(write(tmp_path, "BASE: low.yaml\n"))
    assert text.startswith(f"1 problem in the configuration {tmp_path / 'mine.yaml'}:\n")
    assert f"{tmp_path / 'low.yaml'}:3: TRAIN.LR: found 'slow'" in text


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no configuration file at .*nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="can't be read"):
        load_config(tmp_path)


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    assert "mine.yaml:3: this isn't valid YAML: " in file_message(
        write(tmp_path, "TRAIN:\n  LR: 1\n LR: [\n")
    )
    assert "mine.yaml:1: a configuration is a mapping of keys" in file_message(write(tmp_path, "- LR\n"))
    assert "mine.yaml:1: TRAIN: found " in file_message(write(tmp_path, "TRAIN: !!python/name:os.system\n"))


def test_key_that_stands_twice(tmp_path: Path) -> None:
    text = file_message(write(tmp_path, "TRAIN:\n  LR: 1\n  LR: 2\nTRAIN: {}\n"))
    assert "mine.yaml:3: TRAIN.LR: this key stands twice, first in line 2; keep one of them" in text
    assert "mine.yaml:4: TRAIN: this key stands twice, first in line 1" in text


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    train = "  TRAIN: &all {SAMPLE_PER_EPOCH: 5}"
    val = "  VAL: {<<: *all, DATASETS_NAME: [], DATASETS_RATIO: []}"
    cfg = load_config(write(tmp_path, f"DATA:\n{train}\n{val}\n"))
    assert (cfg.DATA.VAL.SAMPLE_PER_EPOCH, cfg.DATA.VAL.DATASETS_NAME) == (5, [])


def test_path_is_shown_relative_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "  mine.yaml:1: X: unknown key (found 1)." in file_message(write(tmp_path, "X: 1\n"))


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("TRAIN.LR", "--cfg-options TRAIN.LR: an option is KEY=VALUE with the full key"),
        ("=3", "an option is KEY=VALUE"),
        ("TRAIN..LR=3", "an option is KEY=VALUE"),
        ("TRAIN.LR=[", "--cfg-options TRAIN.LR=[: the value '[' isn't valid YAML"),
        ("BASE=x.yaml", "BASE can't be an option"),
        ("LR=1", "--cfg-options LR=1: LR: unknown key (found 1). This key belongs at TRAIN.LR."),
        ("TRAIN.LRR=1", "--cfg-options TRAIN.LRR=1: TRAIN.LRR: unknown key (found 1). Did you mean 'LR'?"),
        ("DATA.MEAN=[1, x, 1]", "DATA.MEAN[1]: found 'x'; allowed: a number."),
        ("DATA.MEAN.0=1", "DATA.MEAN: found {'0': 1}; allowed: a list of exactly 3"),
    ],
)
def test_wrong_option(tmp_path: Path, option: str, text: str) -> None:
    assert text in file_message(write(tmp_path, ""), option)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({1: 2}, "the configuration has the key 1 of type int"),
        ({"TRAIN": {True: 2}}, "TRAIN has the key True of type bool"),
        ({"TASKS": {3: {"TYPE": "ClsHead"}}}, "TASKS has the key 3 of type int"),
        (
            {"DATA": {"TRAIN": {"DATASETS_NAME": [{"TYPE": "x", 5: 1}]}}},
            r"DATA.TRAIN.DATASETS_NAME\[0\] has the key 5",
        ),
    ],
)
def test_keys_that_are_no_texts_are_refused(values: dict[Any, Any], where: str) -> None:
    with pytest.raises(ConfigError, match=where):
        config_from_dict(values)


def test_a_misspelt_name_of_a_task_is_told_from_a_task_of_ones_own() -> None:
    head = {"TYPE": "ClsHead"}
    text = message({"TASKS": {"cl7": head}, "TRAIN": {"CLS_WEIGHT": 1}})
    assert "TASKS holds no task 'cls'. TASKS has cl7. Did you mean 'cls'?" in text
    text = message({"TASKS": {"cls": None, "plaet": None, "speed": None}})
    assert text.startswith("1 problem ")
    assert "TASKS.plaet: takes away a task that isn't there. Did you mean 'plate'?" in text
    assert "TASKS.clr.TYPE: this key is needed; allowed: a text, not empty. Did you mean 'cls'?" in message(
        {"TASKS": {"clr": {"HIDDEN_DIM": 3}}}
    )
    text = message({"TASKS": {"cls": head}, "TRAIN": {"PLATEN_WEIGHT": None, "SEG_WIEGHT": None}})
    assert "TRAIN.PLATEN_WEIGHT: unknown key (found null)" in text and "mean 'PLATE_WEIGHT'?" in text
    assert "TRAIN.SEG_WIEGHT: unknown key (found null). Did you mean 'SEG_WEIGHT'?" in text


def test_a_misspelt_type_and_base_are_named(tmp_path: Path) -> None:
    assert "It has TPE. Did you mean 'TYPE'?" in message({"TASKS": {"cls": {"TPE": "ClsHead"}}})
    assert "It has TYP. Did you mean 'TYPE'?" in message({"DATA": {"TRANSFORMS": [{"TYP": "CastShadow"}]}})
    assert "It has YTPE. Did you mean 'TYPE'?" in message({"TRAIN": {"WEIGHTING": {"YTPE": "dwa"}}})
    path = write(tmp_path, "ABSE: other.yaml\n")
    assert "mine.yaml:1: ABSE: unknown key (found 'other.yaml'). Did you mean 'BASE'?" in file_message(path)
    assert "found 'ADAMV'; allowed: only 'ADAMW'." in message({"TRAIN": {"OPTIMIZER": "ADAMV"}})
    assert "Did you mean 'ADAMW'?" in message({"TRAIN": {"OPTIMIZER": "ADAMV"}})


def test_two_keys_that_are_as_near_are_both_named() -> None:
    assert "Did you mean 'STAGE1_LR' or 'STAGE2_LR'?" in message({"TRAIN": {"STAGE_LR": 1}})
    assert "Did you mean 'LR'?" in message({"TRAIN": {"RL": 1}})
    assert "Did you mean" not in message({"TRAIN": {"X": 1}})


@pytest.mark.parametrize(
    ("a", "b", "edits"),
    [("LR", "RL", 1), ("kitten", "sitting", 3), ("", "ab", 2), ("same", "same", 0), ("ca", "abc", 3)],
)
def test_edits_between_two_names(a: str, b: str, edits: int) -> None:
    assert edit_distance(a, b) == edit_distance(b, a) == edits
