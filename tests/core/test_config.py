"""Loading: published files, defaults, inheritance, options, what has no effect."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtltrack.core.config import Config, config_from_dict, find_config, load_config
from mtltrack.core.errors import ConfigError

CONFIGS = Path(__file__).parent / "configs"
SHIPPED = sorted((Path(__file__).parents[2] / "experiments").glob("*/*.yaml"))


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def value_at(cfg: Any, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part] if isinstance(cfg, dict) else getattr(cfg, part)
    return cfg


# --- published files


@pytest.mark.parametrize(
    ("fixture", "reference"),
    [
        ("hiptrack", "hiptrack_config.json"),
        ("ostrack_256", "ostrack256_config.json"),
        ("ostrack_384", "ostrack384_config.json"),
    ],
)
def test_published_file_and_defaults_equal_the_published_merge(
    fixture: str, reference: str, references_root: Path
) -> None:
    """The references hold every key after merging with the published defaults, so defaults are tested too."""
    cfg = load_config(CONFIGS / f"{fixture}.yaml")
    expected = leaves(json.loads((references_root / reference).read_text()))
    assert len(expected) > 50
    assert {key: value_at(cfg, key) for key in expected} == expected


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_published_file_keeps_every_value(path: Path) -> None:
    cfg = load_config(path)
    written = leaves(yaml.safe_load(path.read_text()))
    read = {key: value_at(cfg, key) for key in written}
    numbers = {"TRAIN.STAGE1_LR": 1e-3, "TRAIN.STAGE2_LR": 1e-5}  # PyYAML reads these two as text
    assert read == {**written, **{key: value for key, value in numbers.items() if key in written}}


@pytest.mark.parametrize(
    ("shipped", "fixture"),
    [
        ("hiptrack/hiptrack", "hiptrack"),
        ("hiptrack/hiptrack_got", "hiptrack_got"),
        ("ostrack/ostrack_256", "ostrack_256"),
        ("ostrack/ostrack_384", "ostrack_384"),
    ],
)
def test_shipped_file_has_the_published_values(shipped: str, fixture: str) -> None:
    found = leaves(load_config(SHIPPED[0].parents[1] / f"{shipped}.yaml").dump())
    expected = leaves(load_config(CONFIGS / f"{fixture}.yaml").dump())
    unread = {"DATA.MAX_JUMP"}  # without effect, so it isn't shipped
    assert {key: found[key] for key in expected if key not in unread} == {
        key: value for key, value in expected.items() if key not in unread
    }


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_file_loads_and_every_key_in_it_counts(path: Path) -> None:
    cfg = load_config(path)
    assert cfg.without_effect(path.parent.name) == []
    assert cfg.TEST.EPOCH <= cfg.last_epoch()


def test_every_model_is_shipped() -> None:
    names = {path.stem for path in SHIPPED}
    assert {"hiptrack", "hiptrack_got", "hiptrack_cls", "ostrack_256", "ostrack_384", "ostrack_cls"} <= names
    assert {
        "hiptrack_tiny",
        "hiptrack_got_tiny",
        "hiptrack_cls_tiny",
        "ostrack_tiny",
        "ostrack_cls_tiny",
    } <= names


def test_shipped_two_stage_training() -> None:
    cfg = load_config(find_config("hiptrack", "hiptrack_cls"))
    train = cfg.TRAIN
    assert (train.TWO_STAGE, train.STAGE1_EPOCHS, train.STAGE2_EPOCHS) == (True, 30, 20)
    assert (train.STAGE1_LR, train.STAGE2_LR, cfg.task_weight("cls")) == (1e-3, 1e-5, 0.1)
    assert (cfg.DATA.TEMPLATE.SIZE, cfg.DATA.SEARCH.SIZE, cfg.TASKS["cls"].TYPE) == (192, 384, "ClsHead")
    assert cfg.last_epoch() == 50


# --- values and defaults


def test_numbers_in_any_spelling() -> None:
    values = {"LR": "1e-4", "WEIGHT_DECAY": 0, "EPOCH": 300.0, "SCHEDULER": {"DECAY_RATE": "1E-1"}}
    cfg = config_from_dict({"TRAIN": values, "DATA": {"TRAIN": {"SAMPLE_PER_EPOCH": 6e4}}})
    assert (cfg.TRAIN.LR, cfg.TRAIN.EPOCH, cfg.TRAIN.SCHEDULER.DECAY_RATE) == (1e-4, 300, 0.1)
    assert isinstance(cfg.TRAIN.EPOCH, int)
    assert isinstance(cfg.TRAIN.WEIGHT_DECAY, float)
    assert cfg.DATA.TRAIN.SAMPLE_PER_EPOCH == 60000


def test_exponents_in_a_file_are_numbers_even_where_no_schema_looks(tmp_path: Path) -> None:
    text = "TASKS: {cls: {TYPE: ClsHead, DROPOUT: 1e-1, NAMES: [1.5e+3, -2E2, e3, 1e]}}\n"
    arguments = load_config(write(tmp_path, text)).TASKS["cls"].arguments()
    assert arguments == {"dropout": 0.1, "names": [1500.0, -200.0, "e3", "1e"]}


def test_names_that_yaml_would_turn_into_something_else(tmp_path: Path) -> None:
    text = """
DATA:
  TRAIN:
    DATASETS_NAME:
      - TYPE: FolderSequences
        RANGES: {0010: [1, 5], 2020-01-01: [2, 3]}
        NAMES: [2020-01-01]
    DATASETS_RATIO: [1]
"""
    (entry,) = load_config(write(tmp_path, text)).DATA.TRAIN.DATASETS_NAME
    assert entry["RANGES"] == {"0010": [1, 5], "2020-01-01": [2, 3]}
    assert entry["NAMES"] == ["2020-01-01"]


def test_integer_jitter_and_list_of_frozen_layers() -> None:
    cfg = config_from_dict({"DATA": {"SEARCH": {"SCALE_JITTER": 0}}, "TRAIN": {"FREEZE_LAYERS": [0, 1]}})
    assert cfg.DATA.SEARCH.SCALE_JITTER == 0.0
    assert cfg.TRAIN.FREEZE_LAYERS == [0, 1]


def test_milestones() -> None:
    scheduler = {"TYPE": "Mstep", "MILESTONES": [40, 80], "GAMMA": 0.1}
    cfg = config_from_dict({"TRAIN": {"SCHEDULER": scheduler}})
    assert (cfg.TRAIN.SCHEDULER.TYPE, cfg.TRAIN.SCHEDULER.MILESTONES) == ("Mstep", [40, 80])


def test_null_is_as_if_the_key_were_not_written(tmp_path: Path) -> None:
    cfg = load_config(write(tmp_path, "TRAIN:\n  EPOCH:\n  SCHEDULER:\nDATA:\nMODEL:\n  PRETRAIN_FILE:\n"))
    assert (cfg.TRAIN.EPOCH, cfg.TRAIN.SCHEDULER.TYPE, cfg.DATA.SEARCH.SIZE) == (500, "step", 320)
    assert cfg.MODEL.PRETRAIN_FILE == ""  # here an empty name means: from nothing
    assert not cfg.is_given("TRAIN.EPOCH")


def test_test_section_follows_data_and_training() -> None:
    data = {"SEARCH": {"SIZE": 256, "FACTOR": 4.0}, "TEMPLATE": {"SIZE": 64, "FACTOR": 2.5}}
    cfg = config_from_dict({"DATA": data, "TRAIN": {"EPOCH": 7}})
    test = cfg.TEST
    assert (test.SEARCH_SIZE, test.SEARCH_FACTOR, test.TEMPLATE_SIZE, test.TEMPLATE_FACTOR) == (
        256,
        4.0,
        64,
        2.5,
    )
    assert test.EPOCH == 7
    staged = {"TWO_STAGE": True, "BOX_EPOCHS": 2, "STAGE1_EPOCHS": 3, "STAGE2_EPOCHS": 4}
    cfg = config_from_dict({"TRAIN": staged, "TASKS": {"cls": {"TYPE": "ClsHead"}}})
    assert cfg.TEST.EPOCH == cfg.last_epoch() == 9


@pytest.mark.parametrize(
    ("folder", "script", "frames"), [("hiptrack", None, 3), ("ostrack", None, 1), ("x", "hiptrack", 3)]
)
def test_number_of_search_frames_defaults_as_published(
    tmp_path: Path, folder: str, script: str | None, frames: int
) -> None:
    (tmp_path / folder).mkdir()
    path = write(tmp_path / folder, "TRAIN: {EPOCH: 3}\n")
    assert load_config(path, script=script).DATA.SEARCH.NUMBER == frames
    assert load_config(path, script=script).script == (script or folder)
    assert load_config(path, ["DATA.SEARCH.NUMBER=2"], script=script).DATA.SEARCH.NUMBER == 2


def test_stark_sampling_is_trident() -> None:
    assert config_from_dict({"DATA": {"SAMPLER_MODE": "stark"}}).DATA.SAMPLER_MODE == "trident"


def test_defaults_are_not_shared_between_configurations() -> None:
    first, second = config_from_dict({}), config_from_dict({})
    first.DATA.SEARCH.SIZE = 1
    first.DATA.MEAN.append(0.0)
    assert second.DATA.SEARCH.SIZE == 320
    assert len(second.DATA.MEAN) == 3


# --- tasks


def test_task_blocks_become_plain_arguments() -> None:
    block = {"TYPE": "ClsHead", "DETACH": ["box"], "HIDDEN_DIM": 512, "LABELS": "multi", "POOLING": None}
    cfg = config_from_dict({"TASKS": {"cls": block}})
    task = cfg.TASKS["cls"]
    assert (task.TYPE, task.DETACH) == ("ClsHead", ["box"])
    assert task.arguments() == {"hidden_dim": 512, "labels": "multi"}


def test_task_weights() -> None:
    tasks = {"cls": {"TYPE": "ClsHead"}, "seg": {"TYPE": "SegHead"}, "plate": {"TYPE": "PlateHead"}}
    cfg = config_from_dict({"TASKS": tasks, "TRAIN": {"SEG_WEIGHT": "5e-1"}})
    assert [cfg.task_weight(name) for name in tasks] == [0.1, 0.5, 1.0]
    assert config_from_dict(cfg.dump()).task_weight("seg") == 0.5


def test_cls_head_section_is_the_task_cls() -> None:
    cfg = config_from_dict(
        {"MODEL": {"CLS_HEAD": {"NUM_CLASSES": 10, "HIDDEN_DIM": 256}}, "TRAIN": {"CLS_WEIGHT": 1}}
    )
    assert cfg.TASKS["cls"].TYPE == "ClsHead"
    assert cfg.TASKS["cls"].arguments() == {"num_classes": 10, "hidden_dim": 256}
    assert cfg.task_weight("cls") == 1.0


def test_cls_head_section_and_task_may_agree_and_complete_each_other() -> None:
    head, task = {"NUM_CLASSES": 10, "DROPOUT": 0.3}, {"TYPE": "ClsHead", "NUM_CLASSES": 10, "HIDDEN_DIM": 64}
    cfg = config_from_dict({"MODEL": {"CLS_HEAD": head}, "TASKS": {"cls": task}})
    assert cfg.TASKS["cls"].arguments() == {"num_classes": 10, "dropout": 0.3, "hidden_dim": 64}
    assert config_from_dict(cfg.dump()).dump() == cfg.dump()


# --- inheritance and options


def test_base_is_merged_key_by_key(tmp_path: Path) -> None:
    write(
        tmp_path,
        "DATA: {SEARCH: {SIZE: 256, FACTOR: 4.0}, MEAN: [0.1, 0.2, 0.3]}\nTRAIN: {EPOCH: 5}\n",
        "low.yaml",
    )
    path = write(tmp_path, "BASE: low.yaml\nDATA: {SEARCH: {SIZE: 128}, MEAN: [0.5, 0.5, 0.5]}\n")
    cfg = load_config(path)
    assert (cfg.DATA.SEARCH.SIZE, cfg.DATA.SEARCH.FACTOR, cfg.TRAIN.EPOCH) == (128, 4.0, 5)
    assert cfg.DATA.MEAN == [0.5, 0.5, 0.5]  # a list is replaced, never joined
    assert cfg.source_line("DATA.SEARCH.SIZE") == f"{path}:2"
    assert cfg.source_line("TRAIN.EPOCH") == f"{tmp_path / 'low.yaml'}:2"
    assert (
        cfg.source_line("TRAIN.LR") == f"{tmp_path / 'low.yaml'}:2"
    )  # not written: the section that it belongs to
    assert cfg.source_line("TEST.FPS") == str(path)


def test_several_bases_later_wins_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path, "TRAIN: {EPOCH: 1, LR: 0.1}\n", "a.yaml")
    write(tmp_path / "sub", "BASE: ../a.yaml\nTRAIN: {EPOCH: 2}\n", "b.yaml")
    write(tmp_path, "TRAIN: {BATCH_SIZE: 3, LR: 0.2}\n", "c.yaml")
    cfg = load_config(write(tmp_path, "BASE: [sub/b.yaml, c.yaml]\n"))
    assert (cfg.TRAIN.EPOCH, cfg.TRAIN.LR, cfg.TRAIN.BATCH_SIZE) == (2, 0.2, 3)


def test_a_task_of_the_base_can_be_taken_away_or_replaced(tmp_path: Path) -> None:
    write(tmp_path, "TASKS: {cls: {TYPE: ClsHead, HIDDEN_DIM: 64}, seg: {TYPE: SegHead}}\n", "low.yaml")
    text = "BASE: low.yaml\nTASKS: {cls: {TYPE: OtherHead, WIDTH: 3}, seg: null}\n"
    cfg = load_config(write(tmp_path, text))
    assert list(cfg.TASKS) == ["cls"]
    assert cfg.TASKS["cls"].arguments() == {"width": 3}  # another TYPE: the old arguments don't belong to it


def test_circle_of_bases(tmp_path: Path) -> None:
    write(tmp_path, "BASE: mine.yaml\n", "other.yaml")
    path = write(tmp_path, "\nBASE: other.yaml\n")
    with pytest.raises(
        ConfigError, match=r"other\.yaml:1: BASE: the files inherit in a circle: .*mine.* -> .*other.* -> "
    ):
        load_config(path)


def test_missing_base(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"mine\.yaml:1: BASE: found 'lwo\.yaml', but there is no file .*; in that"
    ):
        load_config(write(tmp_path, "BASE: lwo.yaml\n"))
    with pytest.raises(ConfigError, match=r"BASE: found 3; allowed: a relative path, or a list of them"):
        load_config(write(tmp_path, "BASE: 3\n"))


def test_options(tmp_path: Path) -> None:
    path = write(tmp_path, "TASKS: {cls: {TYPE: ClsHead}}\nTRAIN: {LR: 0.1}\n")
    options = [
        "TRAIN.LR=1e-4",
        "TASKS.cls.HIDDEN_DIM=64",
        "TRAIN.CLS_WEIGHT=0.3",
        "DATA.MEAN=[0.5, 0.5, 5e-1]",
        "MODEL.PRETRAIN_FILE=",
        "TRAIN.TWO_STAGE=true",
        "DATA.VAL={DATASETS_NAME: [], DATASETS_RATIO: []}",
        "TRAIN.EPOCH=3",
        "TRAIN.EPOCH=4",
    ]
    cfg = load_config(path, options)
    assert (cfg.TRAIN.LR, cfg.TRAIN.EPOCH, cfg.TRAIN.TWO_STAGE, cfg.MODEL.PRETRAIN_FILE) == (
        1e-4,
        4,
        True,
        "",
    )
    assert cfg.TASKS["cls"].arguments() == {"hidden_dim": 64}
    assert (cfg.task_weight("cls"), cfg.DATA.MEAN, cfg.DATA.VAL.DATASETS_NAME) == (0.3, [0.5, 0.5, 0.5], [])
    assert cfg.source_line("TRAIN.LR") == "--cfg-options TRAIN.LR=1e-4"


def test_dump_is_plain_and_read_back(tmp_path: Path) -> None:
    cfg = load_config(CONFIGS / "hiptrack_cls.yaml", ["TASKS.cls.LABELS=multi"])
    plain = cfg.dump()
    assert json.loads(json.dumps(plain)) == plain
    again = config_from_dict(plain)
    assert again.dump() == plain
    assert again.without_effect("hiptrack") == []  # nothing was written by hand


def test_configuration_can_be_copied_and_sent_to_workers() -> None:
    cfg = load_config(CONFIGS / "hiptrack.yaml")
    for other in (copy.deepcopy(cfg), pickle.loads(pickle.dumps(cfg))):
        assert other.dump() == cfg.dump()
        assert other.source_line("TRAIN.LR") == cfg.source_line("TRAIN.LR")


# --- finding


def test_find_config_here_then_in_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("hiptrack", "hiptrack_cls") == SHIPPED[0].parents[1] / "hiptrack" / "hiptrack_cls.yaml"
    own = tmp_path / "experiments" / "hiptrack"
    own.mkdir(parents=True)
    path = write(own, "TRAIN: {EPOCH: 1}\n", "hiptrack_cls.yaml")
    assert find_config("hiptrack", "hiptrack_cls") == path
    assert find_config("hiptrack", "hiptrack_cls.yaml") == path


def test_find_config_says_what_exists() -> None:
    with pytest.raises(ConfigError) as caught:
        find_config("hiptrack", "hiptrak_cls")
    message = str(caught.value)
    assert "no configuration 'hiptrak_cls' for the script 'hiptrack'. Did you mean 'hiptrack_cls'?" in message
    assert "hiptrack_got" in message
    with pytest.raises(
        ConfigError, match=r"the script 'ostrak'\. Did you mean 'ostrack'\? Scripts: hiptrack, ostrack"
    ):
        find_config("ostrak", "x")


# --- without effect

NOTHING_FROZEN = "no stage has a frozen backbone"
TRAINS_ALL = {"TWO_STAGE": True, "STAGE1_EPOCHS": 0}


def without_effect(script: str, **sections: Any) -> str:
    """Return the sentences for values written in a file, of which only the keys matter."""
    return "\n".join(_loaded(sections).without_effect(script))


def _loaded(sections: dict[str, Any]) -> Config:
    options = [f"{key}={json.dumps(value)}" for key, value in leaves(sections).items()]
    return load_config(CONFIGS.parent / "empty.yaml", options)


def test_features_are_kept_where_a_backbone_is_frozen() -> None:
    train = {"FEATURE_CACHE": {"MAX_GB": 1}, "DISTINCT_EPOCHS": 1}
    assert "FEATURE_CACHE" not in without_effect("hiptrack", TRAIN=train)
    assert "DISTINCT_EPOCHS" not in without_effect("ostrack", TRAIN={**train, "FREEZE_BACKBONE": True})
    assert "FEATURE_CACHE" not in without_effect(
        "ostrack", TRAIN={**train, "TWO_STAGE": True}, TASKS={"cls": {"TYPE": "ClsHead"}}
    )


def test_published_hiptrack_says_what_does_nothing() -> None:
    cfg = load_config(CONFIGS / "hiptrack.yaml")
    sentences = cfg.without_effect("hiptrack")
    keys = [sentence.split(" ")[0] for sentence in sentences]
    assert keys == ["DATA.MAX_JUMP", "TRAIN.BACKBONE_MULTIPLIER", "TRAIN.DROP_PATH_RATE"]
    place = cfg.source_line("DATA.MAX_JUMP")
    assert place.endswith("hiptrack.yaml:3")
    reason = "the published code never reads it, and neither does this one"
    assert sentences[0] == f"DATA.MAX_JUMP ({place}) has no effect: {reason}."
    assert load_config(CONFIGS / "ostrack_256.yaml").without_effect("ostrack") == []


def test_published_extension_says_what_does_nothing() -> None:
    keys = {s.split(" ")[0] for s in load_config(CONFIGS / "hiptrack_cls.yaml").without_effect("hiptrack")}
    assert keys == {
        "DATA.MAX_JUMP",
        "TRAIN.FREEZE_LAYERS",
        "MODEL.HIDDEN_DIM",
        "TRAIN.EPOCH",
        "TRAIN.LR",
        "TRAIN.LR_DROP_EPOCH",
        "TRAIN.SCHEDULER.DECAY_RATE",
        "TRAIN.CLS_LABEL_SMOOTHING",
    }


@pytest.mark.parametrize(
    ("script", "sections", "key", "reason"),
    [
        ("ostrack", {"MODEL": {"MAX_MEM": 9}}, "MODEL.MAX_MEM", "ostrack has no history"),
        (
            "ostrack",
            {"MODEL": {"HISTORY": {"KEY_DIM": 9}}},
            "MODEL.HISTORY.KEY_DIM",
            "ostrack has no history",
        ),
        ("ostrack", {"TEST": {"UPDATE_INTERVAL": 9}}, "TEST.UPDATE_INTERVAL", "ostrack has no history"),
        ("ostrack", {"TRAIN": {"STAGE1_LR": 1}}, "TRAIN.STAGE1_LR", "TRAIN.TWO_STAGE is false"),
        ("ostrack", {"TRAIN": {"FEATURE_CACHE": {"MAX_GB": 1}}}, "TRAIN.FEATURE_CACHE", NOTHING_FROZEN),
        ("ostrack", {"TRAIN": {"DISTINCT_EPOCHS": 1}}, "TRAIN.DISTINCT_EPOCHS", NOTHING_FROZEN),
        (
            "hiptrack",
            {"TRAIN": {"DISTINCT_EPOCHS": 1, **TRAINS_ALL}},
            "TRAIN.DISTINCT_EPOCHS",
            NOTHING_FROZEN,
        ),
        ("ostrack", {"TRAIN": {"CLS_LOSS_TYPE": "CE"}}, "TRAIN.CLS_LOSS_TYPE", "no task 'cls'"),
        ("ostrack", {"TRAIN": {"AMP": True, "PRECISION": "bf16"}}, "TRAIN.AMP", "TRAIN.PRECISION is bf16"),
        ("ostrack", {"TRAIN": {"DEEP_SUPERVISION": True}}, "TRAIN.DEEP_SUPERVISION", "changes nothing"),
        ("ostrack", {"TRAIN": {"DFL_WEIGHT": 1}}, "TRAIN.DFL_WEIGHT", "MODEL.HEAD.TYPE is CENTER, not DFL"),
        (
            "ostrack",
            {"MODEL": {"HEAD": {"TYPE": "MLP", "NUM_CHANNELS": 9}}},
            "MODEL.HEAD.NUM_CHANNELS",
            "MLP head",
        ),
        (
            "ostrack",
            {"TRAIN": {"SCHEDULER": {"GAMMA": 0.5}}},
            "TRAIN.SCHEDULER.GAMMA",
            "DECAY_RATE is its factor",
        ),
        (
            "ostrack",
            {"DATA": {"TRAIN": {"CLS_ANN_DIR": "x"}}},
            "DATA.TRAIN.CLS_ANN_DIR",
            "no task that reads labels",
        ),
        ("ostrack", {"TRAIN": {"CE_WARM_EPOCH": 50}}, "TRAIN.CE_WARM_EPOCH", "doesn't eliminate candidates"),
        (
            "ostrack",
            {"TRAIN": {"FREEZE_BACKBONE": True, "BACKBONE_MULTIPLIER": 1}},
            "TRAIN.BACKBONE_M",
            "is frozen",
        ),
        (
            "ostrack",
            {
                "DATA": {"VAL": {"DATASETS_NAME": [], "DATASETS_RATIO": []}},
                "TRAIN": {"VAL_EPOCH_INTERVAL": 5},
            },
            "TRAIN.VAL_EPOCH_INTERVAL",
            "DATA.VAL.DATASETS_NAME is empty: there is no validation",
        ),
    ],
)
def test_key_without_effect(script: str, sections: dict[str, Any], key: str, reason: str) -> None:
    sentence = next(line for line in without_effect(script, **sections).splitlines() if line.startswith(key))
    assert reason in sentence


def test_elimination_schedule_has_no_effect_on_a_trackers_weights() -> None:
    backbone = {"TYPE": "vit_base_patch16_224_ce", "CE_LOC": [3], "CE_KEEP_RATIO": [0.7]}
    sections = {"MODEL": {"BACKBONE": backbone, "PRETRAIN_FILE": "x.pth.tar"}, "TRAIN": {"CE_START_EPOCH": 3}}
    assert "final value from epoch 1" in without_effect("ostrack", **sections)
    sections["MODEL"]["PRETRAIN_FILE"] = "mae_pretrain_vit_base.pth"
    assert without_effect("ostrack", **sections) == ""
    backbone.update({"CE_LOC": [], "CE_KEEP_RATIO": []})
    assert "CE_LOC is empty" in without_effect("ostrack", **sections)


def test_loss_of_several_labels() -> None:
    sections = {"TASKS": {"cls": {"TYPE": "ClsHead", "LABELS": "multi"}}, "TRAIN": {"CLS_LOSS_TYPE": "CE"}}
    assert "TASKS.cls.LABELS is multi, whose loss is BCE" in without_effect("ostrack", **sections)
    sections["TRAIN"]["CLS_LOSS_TYPE"] = "BCE"
    assert without_effect("ostrack", **sections) == ""


def test_rate_that_never_drops() -> None:
    train = {"LR_DROP_EPOCH": 20, "EPOCH": 20}
    assert "every 20 epochs, and no stage has more than 20" in without_effect("ostrack", TRAIN=train)
    assert without_effect("ostrack", TRAIN={**train, "EPOCH": 21}) == ""


def test_a_model_without_a_name() -> None:
    with pytest.raises(
        ConfigError, match=r"given values: name the model, script='hiptrack' or script='ostrack'"
    ):
        _ = config_from_dict({}).script
    assert config_from_dict({}, script="ostrack").script == "ostrack"


def test_keys_that_count_say_nothing() -> None:
    history = {"NEW_HIP": True, "MAX_MEM": 9, "HISTORY": {"VALUE_DIM": 9}}
    assert without_effect("hiptrack", MODEL=history, TEST={"UPDATE_INTERVAL": 3}) == ""
    assert (
        without_effect(
            "ostrack",
            TRAIN={"BACKBONE_MULTIPLIER": 1, "SCHEDULER": {"DECAY_RATE": 0.5}, "CE_START_EPOCH": None},
        )
        == ""
    )
