from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mtltrack.cli.build import build_tracker, initial_weights, load_weights
from mtltrack.core.config import find_config, load_config
from mtltrack.core.errors import CheckpointError, ConfigError

TINY = ("hiptrack", "hiptrack_cls_tiny")


def test_unknown_tracker_and_unknown_argument() -> None:
    cfg = load_config(find_config(*TINY))
    with pytest.raises(ConfigError, match=r"'hiptrak' is not a tracker. Did you mean 'hiptrack'\?"):
        build_tracker(cfg, "hiptrak")
    cfg = load_config(find_config(*TINY), ["TASKS.cls.HIDEN_DIM=3"])
    with pytest.raises(ConfigError, match=r"TASKS.cls.HIDEN_DIM.*Did you mean 'HIDDEN_DIM'\?"):
        build_tracker(cfg)


def test_train_keys_reach_the_head() -> None:
    cfg = load_config(
        find_config(*TINY),
        ["TASKS.cls.LABELS=single", "TRAIN.CLS_LOSS_TYPE=FOCAL", "TRAIN.CLS_FOCAL_GAMMA=3"],
    )
    head = build_tracker(cfg).task_parts()["cls"]
    assert head.loss_arguments == {"alpha": 0.25, "gamma": 3.0}


def test_the_losses_of_the_box_are_chosen_in_the_yaml() -> None:
    plain = build_tracker(load_config(find_config(*TINY))).box_head
    assert plain.term_weights == {"giou": 2.0, "l1": 5.0, "focal": 1.0}
    options = [
        "TRAIN.BOX_IOU_LOSS=CIOU",
        "MODEL.HEAD.TYPE=DFL",
        "TRAIN.DFL_WEIGHT=0.5",
        "TRAIN.GIOU_WEIGHT=3",
    ]
    head = build_tracker(load_config(find_config(*TINY), options)).box_head
    assert head.term_weights == {"ciou": 3.0, "l1": 5.0, "focal": 1.0, "dfl": 0.5}
    assert head.bins == 128 // 16 + 1  # one for each number of cells, 0 among them


def test_a_published_box_head_is_refused_by_the_one_with_distributions(tmp_path: Path) -> None:
    path = tmp_path / "centre.pth.tar"
    torch.save({"net": build_tracker(load_config(find_config(*TINY))).state_dict()}, path)
    other = build_tracker(load_config(find_config(*TINY), ["MODEL.HEAD.TYPE=DFL"]))
    with pytest.raises(CheckpointError, match=r"MODEL.HEAD[^~]*conv5_size.bias: file \(2,\), model \(18,\)"):
        load_weights(other, path)


@pytest.mark.parametrize("script", ["hiptrack", "ostrack"])
def test_every_shipped_configuration_builds(script: str) -> None:
    folder = find_config(script, f"{script}_cls").parent
    for path in sorted(folder.glob("*.yaml")):
        with torch.device("meta"):
            tracker = build_tracker(load_config(path))
        expected = 120.4e6 if path.stem in ("hiptrack", "hiptrack_got") else None
        count = sum(p.numel() for p in tracker.parameters())
        assert count > 0 and (expected is None or abs(count - expected) < 0.1e6), path.stem


def test_pretrained_file_that_is_missing_says_where_it_was_looked_for(tmp_path: Path) -> None:
    cfg = load_config(find_config(*TINY), ["MODEL.PRETRAIN_FILE=DropTrack.pth.tar"])
    with pytest.raises(
        CheckpointError, match=r"PRETRAIN_FILE.*names 'DropTrack.pth.tar', which doesn't exist. Looked for"
    ):
        initial_weights(build_tracker(cfg), cfg)
    cfg = load_config(find_config(*TINY))
    assert initial_weights(build_tracker(cfg), cfg).kind == "none"


def test_own_file_with_other_condition_names_is_refused(tmp_path: Path) -> None:
    cfg = load_config(find_config(*TINY))
    tracker = build_tracker(cfg)
    path = tmp_path / "own.pth.tar"
    names = list(tracker.task_parts()["cls"].all_names)
    content = {"net": tracker.state_dict(), "config": cfg.dump(), "classes": names, "epoch": 7}
    torch.save(content, path)
    report = load_weights(build_tracker(cfg), path)
    assert (report.kind, report.epoch, report.new) == ("own", 7, [])
    torch.save({**content, "classes": names[::-1]}, path)
    with pytest.raises(CheckpointError, match=r"was trained for the conditions Normal, Low Contrast Object"):
        load_weights(build_tracker(cfg), path)
