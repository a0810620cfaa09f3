from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from mtltrack.cli import build
from mtltrack.cli.build import build_tracker, build_trained, initial_weights, load_weights
from mtltrack.core.config import Config, find_config, load_config
from mtltrack.core.errors import CheckpointError, ConfigError
from mtltrack.core.seal import check_file
from mtltrack.models.tracker import Tracker
from mtltrack.training.checkpoint import Description, save_weights

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


def small_with_heads(*options: str) -> Config:
    path = find_config("hiptrack", "hiptrack_mtl_tiny")
    return load_config(path, ["MODEL.BACKBONE.DEPTH=4", "MODEL.BACKBONE.CE_LOC=[2]", *options])


def test_a_file_that_fills_the_model_spares_the_random_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg, path = small_with_heads("MODEL.BACKBONE.CE_KEEP_RATIO=[0.7]"), tmp_path / "all.pth.tar"
    torch.manual_seed(1)
    torch.save({"net": build_tracker(cfg).state_dict()}, path)
    built: list[torch.nn.Module] = []

    def counting(*arguments: Any) -> Tracker:
        built.append(build_tracker(*arguments))
        return built[-1]

    monkeypatch.setattr(build, "build_tracker", counting)
    torch.manual_seed(2)
    apart = build_tracker(cfg)
    load_weights(apart, path)
    torch.manual_seed(2)
    together = build_trained(cfg, None, path)
    assert len(built) == 1
    wanted = everything_in(apart)
    found = everything_in(together)
    assert list(found) == list(wanted) and all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert all(value.requires_grad == wanted[name].requires_grad for name, value in found.items())


def everything_in(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters, buffers that a file has or hasn't, and tensors that are plain attributes."""
    found = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    for name, module in net.named_modules():
        found |= {
            f"{name}.{key}": item for key, item in vars(module).items() if isinstance(item, torch.Tensor)
        }
    return found


@pytest.mark.parametrize("lost", ["cls_head.", "seg_head.bias", "ocr_head.encoder"])
def test_what_a_file_lacks_gets_the_random_numbers_of_a_new_model(lost: str, tmp_path: Path) -> None:
    cfg, path = small_with_heads("MODEL.BACKBONE.CE_KEEP_RATIO=[0.7]"), tmp_path / "most.pth.tar"
    torch.manual_seed(1)
    state = build_tracker(cfg).state_dict()
    assert any(name.startswith(lost) for name in state)
    torch.save({"net": {name: value for name, value in state.items() if not name.startswith(lost)}}, path)
    torch.manual_seed(2)
    apart = build_tracker(cfg)
    report = load_weights(apart, path)
    assert report.new and all(name.startswith(lost) for name in report.new)
    torch.manual_seed(2)
    together = build_trained(cfg, None, path).state_dict()
    assert all(torch.equal(together[name], value) for name, value in apart.state_dict().items())


def test_a_file_that_changed_after_its_check_is_checked_again(tmp_path: Path) -> None:
    cfg, path = load_config(find_config(*TINY)), tmp_path / "sealed.pth.tar"
    about = Description("HIPTrack", cfg.dump())
    save_weights(path, build_tracker(cfg), about, epoch=1, stage="joint")
    checked = check_file(path)
    assert build_trained(cfg, None, path, checked).training
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="its bytes aren't those that were written"):
        build_trained(cfg, None, path, checked)


def test_another_file_in_the_place_of_the_one_that_was_checked_is_refused(tmp_path: Path) -> None:
    cfg, path = load_config(find_config(*TINY)), tmp_path / "best.pth.tar"
    tracker, about = build_tracker(cfg), Description("HIPTrack", cfg.dump())
    save_weights(path, tracker, about, epoch=1, stage="joint")
    checked = check_file(path)
    os.utime(path, (1, 1))
    assert build_trained(cfg, None, path, checked).training  # the same bytes
    save_weights(path, tracker, about, epoch=2, stage="joint")
    with pytest.raises(
        CheckpointError, match=r"best.pth.tar has been written anew .* sha256 was [0-9a-f]{12}"
    ):
        build_trained(cfg, None, path, checked)
