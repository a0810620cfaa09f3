"""The command: what it refuses, how it fails, how it starts several processes, whole runs, resuming."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tools.drill.small import small_yaml

from mtltrack.cli import launch as launch_module
from mtltrack.cli.build_data import build_clips, build_loaders
from mtltrack.cli.launch import launch, torchrun_command
from mtltrack.cli.train import build_parser, closing_lines, end, main
from mtltrack.cli.train_setup import keep_schedule, make_stages, precision_of, train_settings
from mtltrack.core.config import config_from_dict, load_config
from mtltrack.core.errors import ConfigError
from mtltrack.data.synthetic.sequences import SyntheticSequences
from mtltrack.training.monitors import Monitor, Monitors, RunInfo
from mtltrack.training.saving import Saver

YAML = small_yaml((8, 4), {"STAGE1_EPOCHS": 1, "STAGE2_EPOCHS": 1, "BATCH_SIZE": 4, "PRINT_INTERVAL": 1})


@pytest.fixture
def project(tmp_path: Path, monkeypatch) -> Path:
    """A folder with a configuration of its own, in which the command runs."""
    folder = tmp_path / "experiments" / "ostrack"
    folder.mkdir(parents=True)
    (folder / "mini.yaml").write_text(YAML, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*more: str) -> list[str]:
    return ["--script", "ostrack", "--config", "mini", "--save_dir", "out", *more]


def test_a_whole_run_writes_checkpoints_a_log_and_says_where(project, capsys):
    assert main(command("--resume", "never")) == 0
    said = capsys.readouterr().out
    folder = project / "out" / "checkpoints" / "train" / "ostrack" / "mini"
    assert "checkpoints  out/checkpoints/train/ostrack/mini" in said and "TensorBoard  " in said
    assert (
        "stage 'heads'" in said and "stage 'joint'" in said and "val 2: " in said and "cls/accuracy" in said
    )
    whole = torch.load(folder / "OSTrack_ep0002.pth.tar", weights_only=True)
    assert whole["classes"][0] == "Occlusion" and whole["config"]["TRAIN"]["STAGE2_EPOCHS"] == 1
    assert (project / "out" / "logs" / "ostrack-mini.log").is_file()


def test_features_are_kept_below_the_save_dir_and_a_resumed_run_may_do_without(project, capsys):
    options = ["--cfg-options", "TRAIN.DISTINCT_EPOCHS=1", "TRAIN.STAGE1_EPOCHS=2"]
    assert main(command("--resume", "never", *options, "TRAIN.FEATURE_CACHE={MAX_GB: 0.5}")) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "feature cache: backbone, box frozen, their features are kept in out/feature_cache" in said
    assert "limit 500 MB" in said and "feature cache, epoch 2: 8 of 8 samples read (100%)" in said
    assert len(list((project / "out" / "feature_cache").rglob("*.safetensors"))) == 8 + 4
    assert main(command(*options, "TRAIN.STAGE2_EPOCHS=2")) == 0
    assert "setting changed since then: TRAIN.FEATURE_CACHE" in " ".join(capsys.readouterr().out.split())


def test_a_folder_for_features_that_cannot_be_written_is_told_at_the_start(project, capsys):
    (project / "file").write_text("", encoding="utf-8")
    assert main(command("--cfg-options", "TRAIN.FEATURE_CACHE.DIR=file/cache")) == 1
    said = capsys.readouterr().err
    assert "TRAIN.FEATURE_CACHE.DIR: nothing can be written to file/cache (Not a directory)" in said


def test_interrupting_and_resuming_changes_nothing(project, capsys, monkeypatch):
    assert main(command("--resume", "never")) == 0
    capsys.readouterr()
    save = Saver.after_epoch

    def interrupt(self, current, last, stop):
        save(self, current, last, stop)
        if self.trainer.position.epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Saver, "after_epoch", interrupt)
    parts = ["--script", "ostrack", "--config", "mini", "--save_dir", "parts"]
    assert main(parts) == 130
    assert "training failed: interrupted; the same command goes on" in capsys.readouterr().err
    monkeypatch.setattr(Saver, "after_epoch", save)
    assert main(parts) == 0
    assert "1 of 2 epochs are done" in capsys.readouterr().out
    name = "checkpoints/train/ostrack/mini/OSTrack_ep0002.pth.tar"
    one, other = (torch.load(project / folder / name, weights_only=True) for folder in ("out", "parts"))
    assert all(torch.equal(value, other["net"][key]) for key, value in one["net"].items())
    assert main(parts) == 0
    assert "all 2 epochs are done; --resume never trains anew" in capsys.readouterr().out
    assert main([*parts, "--seed", "1"]) == 1
    assert "seed: was 42, is 1" in capsys.readouterr().err
    assert "training failed: TrainingError: " in (project / "parts" / "logs" / "ostrack-mini.log").read_text()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_run_with_a_loader_process_goes_on_bit_for_bit(project, capsys, monkeypatch):
    options = ["--cfg-options", "TRAIN.NUM_WORKER=1", "TRAIN.STAGE2_EPOCHS=2", "TRAIN.VAL_EPOCH_INTERVAL=1"]
    options += ["TRAIN.DROP_PATH_RATE=0.2", "TASKS.cls.DROPOUT=0.5"]
    assert main(command(*options)) == 0
    save = Saver.after_epoch

    def interrupt(self, current, last, stop):
        save(self, current, last, stop)
        if self.trainer.position.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Saver, "after_epoch", interrupt)
    parts = ["--script", "ostrack", "--config", "mini", "--save_dir", "parts", *options]
    assert main(parts) == 130
    monkeypatch.setattr(Saver, "after_epoch", save)
    assert main(parts) == 0
    assert "2 of 3 epochs are done" in capsys.readouterr().out
    name = "checkpoints/train/ostrack/mini/OSTrack_ep0003.pth.tar"
    one, other = (torch.load(project / folder / name, weights_only=True) for folder in ("out", "parts"))
    assert all(torch.equal(value, other["net"][key]) for key, value in one["net"].items())


def test_another_rate_on_resuming_is_refused_by_name(project, capsys):
    assert main(command("--cfg-options", "TRAIN.STAGE2_EPOCHS=0")) == 0
    more = ["--cfg-options", "TRAIN.STAGE2_EPOCHS=0", "TRAIN.STAGE1_EPOCHS=2", "TRAIN.STAGE1_LR=0.01"]
    assert main(command(*more)) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "TRAIN.STAGE1_LR in stage 'heads': was 0.001, is 0.01" in last and "--resume never" in last


def test_a_damaged_newest_state_costs_an_epoch_and_no_more(project, capsys):
    options = [
        "--cfg-options",
        "TRAIN.EMA=0.5",
        "TRAIN.SAVE_BEST.METRIC=total",
        "TRAIN.SAVE_INTERVAL_STEPS=1",
    ]
    assert main(command(*options, "TRAIN.KEEP_RESUME=4")) == 0
    said = capsys.readouterr().out
    assert re.search(
        r"configuration: sha256 [0-9a-f]{16}, seed 42\n"
        r"data TRAIN SyntheticSequences: 2 sequences [0-9a-f]{12}, boxes [0-9a-f]{12}\n",
        said,
    )
    assert "val_ema 2: total" in said and "best total so far: " in said
    folder = project / "out" / "checkpoints" / "train" / "ostrack" / "mini"
    names = ["ep0001", "ep0001_ema", "ep0002", "ep0002_ema", "best"]
    before = {
        name: torch.load(folder / f"OSTrack_{name}.pth.tar", weights_only=True)["net"] for name in names
    }
    newest = folder / "OSTrack_ep0002.resume.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert main(command(*options)) == 0
    said = capsys.readouterr().out
    older = "OSTrack_ep0001_step00000003.resume.pt"
    assert f"WARNING: {newest.relative_to(project)}" in said and f"the state before it, {older}" in said
    assert "1 of 2 epochs are done, the next one up to its step 1; step 3 of the run, stage 'joint'" in said
    assert f"moved the states newer than {older} to " in said
    assert "setting changed since then: TRAIN.KEEP_RESUME was 4, is 2" in said
    for name, net in before.items():
        after = torch.load(folder / f"OSTrack_{name}.pth.tar", weights_only=True)["net"]
        assert all(torch.equal(value, after[key]) for key, value in net.items()), name
    assert sorted(file.name for file in folder.glob("*.resume.pt")) == [older, newest.name]
    assert main(command(*options, "TRAIN.BATCH_SIZE=2")) == 1
    assert "TRAIN.BATCH_SIZE: was 4, is 2" in capsys.readouterr().err.splitlines()[-1]


def test_starting_afresh_moves_the_checkpoints_of_the_run_before(project, capsys):
    assert main(command()) == 0
    capsys.readouterr()
    assert main(command("--resume", "never", "--cfg-options", "TRAIN.STAGE2_EPOCHS=0")) == 0
    folder = project / "out" / "checkpoints" / "train" / "ostrack" / "mini"
    assert sorted(file.name for file in folder.iterdir()) == [
        "OSTrack_ep0001.pth.tar",
        "OSTrack_ep0001.resume.pt",
        "earlier",
    ]
    (earlier,) = (folder / "earlier").iterdir()
    assert (earlier / "OSTrack_ep0002.pth.tar").is_file() and (earlier / "OSTrack_ep0002.resume.pt").is_file()
    told = "moved the checkpoints of an earlier run to out/checkpoints/train/ostrack/mini/earlier/"
    assert capsys.readouterr().out.count(told) == 1


SOURCES = "DATA.TRAIN.DATASETS_NAME="


@pytest.mark.parametrize(
    "more",
    [
        [SOURCES + "[LASOT, COCO17]", "DATA.TRAIN.DATASETS_RATIO=[1, 1]"],
        [SOURCES + "[{TYPE: FolderSequences, ROOT: empty}]"],
        [SOURCES + "[{TYPE: Got10k, ROOT: empty, SPLIT: train}]"],
    ],
)
def test_a_task_that_no_data_set_labels_is_refused_at_the_start(project, capsys, monkeypatch, more):
    (project / "empty").mkdir()
    (project / "local.yaml").write_text("roots: {lasot: empty, coco: empty}\n")
    monkeypatch.setenv("MTLTRACK_LOCAL", str(project / "local.yaml"))
    assert main(command("--cfg-options", *more)) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.search(
        r"task cls has no label in the data sets of DATA.TRAIN .*set DATA.TRAIN.CLS_ANN_DIR", last
    )
    box = ["TRAIN.STAGE1_EPOCHS=0", "TRAIN.STAGE2_EPOCHS=0", "TRAIN.BOX_EPOCHS=1"]
    assert (
        main(command("--cfg-options", *more, *box)) == 1
    )  # here no task learns, but nothing is there to read
    assert "task cls" not in capsys.readouterr().err
    labelled = ["DATA.TRAIN.CLS_ANN_DIR=nowhere"]
    assert main(command("--cfg-options", *more, *labelled)) == 1
    assert "task cls" not in capsys.readouterr().err


def test_an_epoch_without_a_label_stops_the_run(project, capsys, monkeypatch):
    empty = "mtltrack.data.synthetic.sequences.SyntheticSequences.sequence"
    whole = SyntheticSequences.sequence
    monkeypatch.setattr(empty, lambda self, i: replace(whole(self, i), labels={}))
    assert main(command()) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "task cls had no labelled sample in epoch 1; set DATA.TRAIN.CLS_ANN_DIR" in last


def test_a_head_that_stops_before_its_stage_does_is_refused_at_the_start(project, capsys):
    assert main(command("--cfg-options", "TRAIN.STAGE1_EPOCHS=4", "TRAIN.FREEZE_CLS_EPOCH=3")) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "stage 'heads', epochs 1 to 4" in last and "set TRAIN.FREEZE_CLS_EPOCH to 5 or more" in last
    assert not (project / "out" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--config", "minni"], "no configuration 'minni' for the script 'ostrack'. Did you mean 'mini'?"),
        (["--distill", "1"], "distillation .* is not supported"),
        (["--script_teacher", "x"], "distillation .* is not supported"),
        (["--use_wandb", "1"], "--use_wandb 1 is not supported; .*TensorBoard"),
        (["--script_prv", "ostrack"], "--script_prv and --config_prv belong together"),
        (["--script_prv", "ostrack", "--config_prv", "none"], "train that configuration first"),
        (["--resume", "nowhere.pth.tar"], "--resume nowhere.pth.tar: .*doesn't exist"),
        (["--cfg-options", "MODEL.PRETRAIN_FILE=gone.pth"], "names 'gone.pth', which doesn't exist"),
        (["--cfg-options", "TRAIN.PRECISION=fp16"], "fp16, which needs a GPU"),
        (["--mode", "multi_node", "--nproc_per_node", "2"], "--world-size, how many machines, and --rank"),
    ],
)
def test_a_failed_training_says_what_failed_in_its_last_line_and_has_a_status(project, capsys, more, text):
    if "fp16" in str(more) and torch.cuda.is_available():
        pytest.skip("here fp16 works")
    assert main(command(*more)) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("training failed: ") and re.search(text, last), last


LONG = "no data set at " + "/a/long/folder" * 40


@pytest.mark.parametrize(
    ("reason", "lines"),
    [
        (LONG, [f"training failed: {LONG}"]),
        (
            "1 problem in x.yaml:\n  x.yaml:3: A: wrong",
            ["training failed: 1 problem in x.yaml: x.yaml:3: A: wrong"],
        ),
        (
            "2 problems in x.yaml:\n  a\n  b",
            ["2 problems in x.yaml:\n  a\n  b", "training failed: 2 problems in x.yaml (see above)"],
        ),
        ("", ["training failed: see above"]),
    ],
)
def test_why_training_failed_is_told_once_and_whole(reason, lines):
    assert closing_lines(reason) == lines


def test_a_log_on_a_full_disk_does_not_hide_why_training_failed(capsys):
    class Full(Monitor):
        def broken_off(self, reason):
            raise OSError(28, "No space left on device")

        def close(self):
            raise OSError(28, "No space left on device")

    info = RunInfo(Path("out"), "ostrack", "mini")
    end(Monitors([Full(info)]), "CheckpointError: it can't be written")
    assert "the log can't be written either: [Errno 28] No space left" in capsys.readouterr().err
    with pytest.raises(OSError, match="No space left"):  # a run that went well says that its log is not whole
        end(Monitors([Full(info)]), "")


def test_an_unexpected_error_shows_its_traceback_and_fails(project, capsys, monkeypatch):
    monkeypatch.setattr("mtltrack.cli.train.build_tracker", lambda *_: 1 / 0)
    assert main(command()) == 1
    error = capsys.readouterr().err
    assert (
        "Traceback" in error
        and error.splitlines()[-1] == "training failed: ZeroDivisionError: division by zero"
    )


def test_several_processes_are_started_from_a_list_of_arguments():
    given = command(
        "--mode", "multiple", "--nproc_per_node", "4", "--seed", "3", "--cfg-options", "TRAIN.LR=1e-3"
    )
    assert torchrun_command("mtltrack.cli.train", given) == [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "4", "--standalone"),
        *("-m", "mtltrack.cli.train", "--script", "ostrack", "--config", "mini", "--save_dir", "out"),
        *("--seed", "3", "--cfg-options", "TRAIN.LR=1e-3", "--mode", "single"),
    ]
    nodes = ["--mode", "multi_node", "--nproc_per_node", "8", "--rank", "1", "--world-size", "2"]
    assert torchrun_command("m", [*nodes, "--ip", "10.0.0.1", "--port", "1234"])[3:] == [
        *("--nproc_per_node", "8", "--nnodes", "2", "--node_rank", "1"),
        *("--master_addr", "10.0.0.1", "--master_port", "1234", "-m", "m", "--mode", "single"),
    ]


@pytest.mark.parametrize(("returned", "status"), [(0, 0), (3, 3), (-9, 137)])
def test_the_status_of_the_processes_is_passed_on(monkeypatch, returned, status):
    class Done:
        send_signal = None

        def wait(self):
            return returned

    monkeypatch.setattr(launch_module.subprocess, "Popen", lambda command, **_: Done())
    assert launch("m", ["--mode", "multiple", "--nproc_per_node", "1"]) == status


def test_a_process_that_fails_fails_the_command(project, capsys, monkeypatch):
    monkeypatch.setattr("mtltrack.cli.train.launch", lambda module, given: 7)
    assert main(command("--mode", "multiple", "--nproc_per_node", "2")) == 7
    assert "training failed: a process ended with an error (status 7)" in capsys.readouterr().err


def test_multiple_needs_a_number_of_processes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match="--mode multiple needs --nproc_per_node"):
        torchrun_command("m", ["--mode", "multiple"])


def test_help_has_examples_and_defaults_are_the_published_ones(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "python tracking/train.py --script hiptrack --config hiptrack_cls" in capsys.readouterr().out
    options = build_parser().parse_args(["--script", "a", "--config", "b"])
    assert (options.seed, options.mode, options.use_lmdb, options.port) == (42, "single", 0, 20000)


def config(**train):
    values = {"TRAIN": train, "TASKS": {"cls": {"TYPE": "ClsHead"}}}
    values["MODEL"] = {"BACKBONE": {"CE_LOC": [3], "CE_KEEP_RATIO": [0.7]}}
    return config_from_dict(values, script="ostrack")


def test_the_keep_ratio_is_final_from_the_start_for_a_trained_tracker_only():
    cfg = config(CE_START_EPOCH=2, CE_WARM_EPOCH=2)
    schedule = keep_schedule(cfg, "backbone")
    # before epoch 2 all, at 4 the final ratio, half way down the cosine the middle
    assert [schedule(epoch) for epoch in (1, 3, 4, 9)] == pytest.approx([1.0, 0.85, 0.7, 0.7])
    assert keep_schedule(cfg, "ostrack") is None and keep_schedule(cfg, "own") is None


def test_precision_follows_its_key_or_amp():
    assert precision_of(config(), on_gpu=True) == "fp32"
    assert precision_of(config(AMP=True), on_gpu=True) == "fp16"
    assert precision_of(config(AMP=True), on_gpu=False) == "bf16"
    assert precision_of(config(AMP=True, PRECISION="fp32"), on_gpu=True) == "fp32"


def test_settings_reach_the_trainer():
    class Parts:
        def tracker_parts(self):
            return {"backbone": None, "box": None}

        def task_parts(self):
            return {"cls": None}

    cfg = config(
        EPOCH=9, LR=2e-3, BACKBONE_MULTIPLIER=0.5, LR_DROP_EPOCH=4, FREEZE_CLS_EPOCH=3, CLS_WEIGHT=0.2
    )
    (stage,) = make_stages(Parts(), cfg, "ostrack")
    assert (stage.epochs, stage.lr, stage.lr_multipliers["backbone"]) == (9, 2e-3, 0.5)
    assert stage.schedule.drop_epoch == 4 and stage.learns_until == {"cls": 2} and "backbone" in stage.trains
    assert "backbone" not in make_stages(Parts(), config(FREEZE_BACKBONE=True), "ostrack")[0].trains
    assert "backbone" not in make_stages(Parts(), config(), "hiptrack")[0].trains
    settings = train_settings(cfg, seed=3, started_from="ostrack")
    assert settings.lambdas == {"cls": 0.2} and (settings.seed, settings.started_from) == (3, "ostrack")


def test_loaders_follow_the_configuration(project):
    cfg = load_config(project / "experiments" / "ostrack" / "mini.yaml", ["DATA.TRAIN.SAMPLE_PER_EPOCH=10"])
    loaders = build_loaders(cfg, seed=1)
    assert len(loaders.train) == 2 and len(loaders.val) == 1  # ten samples: the last two are left out
    (clip,) = loaders.val
    assert clip.search.shape == (4, 1, 3, 64, 64) and clip.template.shape == (4, 3, 32, 32)
    assert set(clip.labels) == {"box", "cls"}
    shares = [build_loaders(cfg, seed=1, rank=rank, world_size=2).train for rank in range(2)]
    seen = [source["index"] for share in shares for clip in share for source in clip.sources]
    assert len(seen) == len(set(seen)) == 8  # two ranks, one batch of 4 each
    assert torch.equal(
        build_clips(cfg, "TRAIN", seed=1)[1, 3].search, build_clips(cfg, "TRAIN", seed=1)[1, 3].search
    )
    few = load_config(project / "experiments" / "ostrack" / "mini.yaml", ["DATA.TRAIN.SAMPLE_PER_EPOCH=3"])
    assert len(build_loaders(few).train) == 1


def test_another_length_of_a_stage_that_is_over_is_refused_by_name(project, capsys):
    assert main(command()) == 0
    assert main(command("--cfg-options", "TRAIN.STAGE1_EPOCHS=2")) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "epochs of stage 'heads', which is over: was 1, is 2" in last and "--resume never" in last
