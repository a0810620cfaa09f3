"""`python tracking/train.py`: train a tracker and its task heads."""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed

from mtltrack.cli.build import assembly_of, build_tracker, initial_weights, load_weights
from mtltrack.cli.build_data import TRAIN, build_loaders, need_labels
from mtltrack.cli.launch import SINGLE, add_launch_options, add_timeout_option, launch, written_since_launch
from mtltrack.cli.train_header import fingerprints, header
from mtltrack.cli.train_setup import (
    describe_model,
    keep_schedule,
    kernel_of_run,
    make_accelerator,
    make_deterministic,
    make_stages,
    need_rule,
    share_cores,
    train_settings,
    with_feature_cache,
)
from mtltrack.core.config import Config, find_config, load_config
from mtltrack.core.errors import ConfigError, MtltrackError
from mtltrack.core.paths import local_settings, need_writable
from mtltrack.data.supervision import supervised
from mtltrack.models.tracker import Tracker
from mtltrack.models.weights import LoadReport
from mtltrack.training.checkpoint import load_newest
from mtltrack.training.files import (
    CheckpointFolder,
    find_resume,
    newest_weights,
    set_aside,
    set_newer_aside,
)
from mtltrack.training.lock import RunLock
from mtltrack.training.monitors import Monitors, RunInfo, build_monitors
from mtltrack.training.resuming import need_same_state
from mtltrack.training.signals import SIGNALS, StoppedError
from mtltrack.training.trainer import Trainer
from mtltrack.training.validation import shares_validation

EXAMPLES = """examples:
  python tracking/train.py --script hiptrack --config hiptrack_cls --save_dir ./output --mode single \\
      --cfg-options DATA.TRAIN.CLS_ANN_DIR=/data/labels
  python tracking/train.py --script hiptrack --config hiptrack_cls_tiny --save_dir ./output --resume never
  python tracking/train.py --script hiptrack --config hiptrack_cls_tiny --save_dir ./output --deterministic
  python tracking/train.py --script ostrack --config ostrack_256 --save_dir ./output \\
      --mode multiple --nproc_per_node 4 --use_lmdb 1
  python tracking/train.py --script hiptrack --config hiptrack_cls --save_dir ./output \\
      --cfg-options DATA.TRAIN.CLS_ANN_DIR=/data/labels TRAIN.BATCH_SIZE=8 TRAIN.CLS_WEIGHT=0.2
  python tracking/train.py --script hiptrack --config hiptrack_cls_tiny --save_dir ./output \\
      --cfg-options TRAIN.FEATURE_CACHE.MAX_GB=20 TRAIN.DISTINCT_EPOCHS=1

writes <save_dir>/checkpoints/train/<script>/<config>, <save_dir>/tensorboard/train/<script>/<config> and
<save_dir>/logs/<script>-<config>.log; see docs/training.md
"""


STOPPED = {
    128 + number: f"stopped by {number.name}; the same command goes on from the last saved state"
    for number in (getattr(signal, name) for name in SIGNALS if hasattr(signal, name))
}


def build_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="train.py",
        description="Train a tracker and its task heads as experiments/<script>/<config>.yaml says.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--script", required=True, help="the model: hiptrack, ostrack")
    parser.add_argument("--config", required=True, help="name of the configuration, without .yaml")
    parser.add_argument("--save_dir", help="folder of all output; without it that of local.yaml")
    parser.add_argument("--seed", type=int, default=42, help="seed of weights and samples (42)")
    parser.add_argument(
        "--resume",
        default="auto",
        metavar="auto|never|PATH",
        help="auto: go on where this configuration's last run stopped, if it did; never: start afresh, and "
        "move the checkpoints of that run to the sub-folder earlier; "
        "PATH: go on from that checkpoint (auto)",
    )
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="on a GPU: only operations that round alike in every run, which are slower; on a CPU all do, "
        "and nothing is measured to choose among their kernels (TRAIN.MATMUL)",
    )
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings on top of the YAML"
    )
    parser.add_argument(
        "--use_lmdb", type=int, choices=[0, 1], default=0, help="1: read the data sets from LMDB"
    )
    parser.add_argument("--script_prv", help="start from the newest weights of this model's run ...")
    parser.add_argument("--config_prv", help="... with this configuration, below the same save_dir")
    add_launch_options(parser)
    add_timeout_option(parser)
    unsupported = parser.add_argument_group("accepted, but not supported")
    unsupported.add_argument("--use_wandb", type=int, choices=[0, 1], default=0, help="1: an error")
    unsupported.add_argument("--distill", type=int, choices=[0, 1], default=0, help="1: an error")
    unsupported.add_argument("--script_teacher", help="an error when given")
    unsupported.add_argument("--config_teacher", help="an error when given")
    return parser


def refuse_unsupported(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for options of the published scripts that are not built, and for half an option."""
    if arguments.distill or arguments.script_teacher or arguments.config_teacher:
        raise ConfigError(
            "distillation (--distill, --script_teacher, --config_teacher) is not supported; leave it out"
        )
    if arguments.use_wandb:
        raise ConfigError(
            "--use_wandb 1 is not supported; curves and pictures are in TensorBoard's files below "
            "<save_dir>/tensorboard. Use --use_wandb 0"
        )
    if (arguments.script_prv is None) != (arguments.config_prv is None):
        raise ConfigError("--script_prv and --config_prv belong together; give both or neither")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status; when it fails, the last line says what failed."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = build_parser().parse_args(given)
    try:
        refuse_unsupported(options)
        if options.mode == SINGLE:
            return train(options)
        status = launch("mtltrack.cli.train", given)
        if status == 0:
            return 0
        if status in STOPPED:
            print(STOPPED[status], file=sys.stderr)
            return status
        reason = f"a process ended with an error (status {status}), see above"
    except StoppedError as stopped:
        print(stopped, file=sys.stderr)
        return stopped.status
    except MtltrackError as error:
        status, reason = 1, str(error)
    except KeyboardInterrupt:
        status, reason = 130, "interrupted; the same command goes on from the last saved state"
    except Exception as error:  # an error of ours, of a library or of the machine: all of it, then one line
        traceback.print_exc()
        status, reason = 1, f"{type(error).__name__}: {error}".splitlines()[0]
    print(*closing_lines(reason), sep="\n", file=sys.stderr)
    return status


def closing_lines(reason: str) -> list[str]:
    """Return what to print of why training failed: what has several lines whole, and one line at the end.

    A line that announces a single other one is joined with it; nothing is ever cut.
    """
    lines = [line.strip() for line in reason.strip().splitlines()]
    if len(lines) == 2 and lines[0].endswith(":"):
        lines = [" ".join(lines)]
    if len(lines) > 1:
        return [reason, f"training failed: {lines[0].removesuffix(':')} (see above)"]
    return [f"training failed: {''.join(lines) or 'see above'}"]


def train(options: argparse.Namespace) -> int:
    """Train in this process, alone or as one of several that torchrun started."""
    cfg = load_config(find_config(options.script, options.config), options.cfg_options, script=options.script)
    save_dir = Path(options.save_dir or local_settings().save_dir).expanduser()
    need_writable(save_dir, "--save_dir")
    if options.deterministic:
        make_deterministic()
    accelerator = make_accelerator(cfg, options.timeout)
    share_cores(cfg.TRAIN.NUM_WORKER)
    info = RunInfo(save_dir, options.script, options.config)
    lock = lock_run(info) if accelerator.is_main_process else None
    monitors = build_monitors(info) if accelerator.is_main_process else Monitors()
    ending, stopped = "training failed: interrupted", None
    try:
        for sentence in [*cfg.without_effect(options.script), *([lock.note] if lock and lock.note else [])]:
            monitors.message(sentence)
        folder = train_in(options, cfg, save_dir, accelerator, monitors)
        ending = ""
    except StoppedError as asked:
        ending, stopped = str(asked), asked
    except Exception as error:
        ending = f"training failed: {type(error).__name__}: {error}"
        raise
    finally:
        end(monitors, ending)
        if lock is not None:
            lock.release()
    if accelerator.is_main_process and stopped is None:
        print(
            f"checkpoints  {folder.folder}\nlog          {info.log_file}\nTensorBoard  {info.tensorboard_dir}"
        )
    # a process that leaves while DDP's communication still lives in it, or in another, aborts at exit
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    accelerator.end_training()
    if stopped is not None:
        raise stopped
    return 0


def lock_run(info: RunInfo) -> RunLock:
    """Hold this run's configuration in this folder; the file lies beside the log."""
    run = f"{info.script}/{info.config} in {info.save_dir}"
    return RunLock(info.log_file.with_suffix(".lock"), run)


def end(monitors: Monitors, reason: str) -> None:
    """Tell the monitors that training has ended, and why too early; a full disk mustn't hide the reason."""
    try:
        if reason:
            monitors.tell(lambda monitor: monitor.broken_off(reason))
        monitors.close()
    except OSError as error:
        if not reason:
            raise
        print(f"the log can't be written either: {error}", file=sys.stderr)


def train_in(
    options: argparse.Namespace, cfg: Config, save_dir: Path, accelerator: Accelerator, monitors: Monitors
) -> CheckpointFolder:
    """Build everything, train, and return where the checkpoints lie."""
    set_seed(options.seed)
    tracker = build_tracker(cfg, options.script)
    stages = make_stages(tracker, cfg, options.script)
    need_labels(cfg, stages, bool(options.use_lmdb))
    need_rule(cfg)
    net_type = assembly_of(options.script).net_type
    folder = CheckpointFolder.of_run(save_dir, options.script, options.config, net_type)
    found = load_newest(resume_files(folder, options.resume), monitors.message)
    need_same_state(None if found is None else found[0])
    if found is None:
        report = starting_weights(tracker, cfg, options, save_dir)
        monitors.message(report.sentence())
        started_from = report.kind
    else:
        started_from = found[1][0]["run"]["started_from"]
    set_seed(
        options.seed, device_specific=True
    )  # ranks begin with the same weights, but drop out differently
    loaders = build_loaders(
        cfg,
        seed=options.seed,
        use_lmdb=bool(options.use_lmdb),
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        share_validation=shares_validation(tracker, cfg.TRAIN.FSDP),
    )
    data = fingerprints(TRAIN, loaders.clips)
    for line in header(cfg.dump(), options.seed, data):
        monitors.message(line)
    state = None if found is None else found[1][0]
    choice = kernel_of_run(cfg, accelerator.device, state, options.deterministic)
    settings = replace(train_settings(cfg, options.seed, started_from), data=data, kernel=choice.kernel)
    trainer = Trainer(
        tracker,
        stages,
        with_feature_cache(settings, cfg, save_dir),
        loaders.train,
        val_loader=loaders.val,
        accelerator=accelerator,
        checkpoints=folder,
        about=describe_model(tracker, cfg, net_type),
        monitors=monitors,
        keep_rate=keep_schedule(cfg, started_from),
    )
    monitors.message(choice.sentence())
    if found is not None:
        trainer.resume(*found[1])
        tell_resumed(monitors, found[0], trainer)
    accelerator.wait_for_everyone()  # another process may still read the weights that it starts from
    if accelerator.is_main_process:
        clear_folder(folder, None if found is None else found[0], monitors)
    with supervised(loaders.train, loaders.val):
        trainer.run()
    return folder


def clear_folder(folder: CheckpointFolder, resumed: Path | None, monitors: Monitors) -> None:
    """Move away what a run must not meet in its folder: an earlier run's files, or a future that won't be."""
    for path in folder.unfinished():
        path.unlink()
    aside = set_aside(folder) if resumed is None else set_newer_aside(folder, resumed)
    if aside is not None:
        what = "checkpoints of an earlier run" if resumed is None else f"states newer than {resumed.name}"
        monitors.message(f"moved the {what} to {aside}")


def resume_files(folder: CheckpointFolder, choice: str) -> list[Path]:
    """Return the resume files to try, see `find_resume`; processes that were started again go on anyhow."""
    if choice != "auto":
        again = [path for path in find_resume(folder, "auto") if written_since_launch(path)]
        if again:
            return again
    return find_resume(folder, choice)


def tell_resumed(monitors: Monitors, path: Path, trainer: Trainer) -> None:
    """Say where the run goes on."""
    place, total = trainer.position, trainer.epochs
    if place.epoch >= total and place.validated:
        monitors.message(f"{path}: all {total} epochs are done; --resume never trains anew")
        return
    where = f"{place.epoch} of {total} epochs are done"
    if place.epoch_step:
        where += f", the next one up to its step {place.epoch_step}"
    if not place.validated:
        where += ", and validation comes next"
    stage = trainer.stages[place.stage].name
    monitors.message(f"resuming from {path}: {where}; step {place.step} of the run, stage '{stage}'")


def starting_weights(
    tracker: Tracker, cfg: Config, options: argparse.Namespace, save_dir: Path
) -> LoadReport:
    """Load the weights of the run that --script_prv names, or else MODEL.PRETRAIN_FILE."""
    if options.script_prv is None:
        return initial_weights(tracker, cfg)
    folder = save_dir / "checkpoints" / "train" / options.script_prv / options.config_prv
    return load_weights(tracker, newest_weights(folder))


if __name__ == "__main__":
    sys.exit(main())
