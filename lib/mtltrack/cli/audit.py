"""`python tools/audit_gradients.py`: which loss reaches which stage of a model, in each stage of training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from accelerate.utils import set_seed

from mtltrack.cli.build import build_tracker, load_weights
from mtltrack.cli.build_data import TRAIN, build_clips
from mtltrack.cli.command import make_console, run_command, say
from mtltrack.cli.train_setup import make_accelerator, make_stages, train_settings
from mtltrack.core.config import Config, find_config, load_config
from mtltrack.core.errors import ConfigError, DataError, did_you_mean
from mtltrack.core.types import Clip
from mtltrack.data.collate import collate
from mtltrack.models.tracker import Tracker
from mtltrack.training.audit.auditor import AuditOptions
from mtltrack.training.audit.clips import ClipShape, labelled_tasks, made_up_clip
from mtltrack.training.audit.heatmap import heatmap_figure
from mtltrack.training.audit.page import save_page
from mtltrack.training.audit.report import AuditReport
from mtltrack.training.audit.run import audit_trainer
from mtltrack.training.audit.switches import SwitchMeter
from mtltrack.training.audit.table import (
    render_boundaries,
    render_stage,
    render_switches,
    verdict_line,
)
from mtltrack.training.stages import Stage
from mtltrack.training.trainer import Trainer

MOST_SAMPLES = 200  # looked at for one with each label

EXAMPLES = """examples:
  python tools/audit_gradients.py --script hiptrack --config hiptrack_cls_tiny
  python tools/audit_gradients.py --script hiptrack --config hiptrack_cls --frames 2 --report ./audit
  python tools/audit_gradients.py --script hiptrack --config hiptrack_cls_tiny --data real \\
      --checkpoint output/checkpoints/train/hiptrack/hiptrack_cls_tiny/HIPTrack_ep0025.pth.tar

writes audit.json and audit.html to --report; exit status 1 when an expectation is violated.
See docs/gradients.md
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="audit_gradients.py",
        description="Prove where the gradient of every loss arrives, and where it doesn't.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--script", required=True, help="the model: hiptrack, ostrack")
    parser.add_argument("--config", required=True, help="name of the configuration, without .yaml")
    parser.add_argument(
        "--checkpoint", help="weights; without it random ones (MODEL.PRETRAIN_FILE isn't read)"
    )
    parser.add_argument(
        "--data",
        choices=["synthetic", "real"],
        default="synthetic",
        help="synthetic: noise with made-up labels of every task; real: samples of DATA.TRAIN (synthetic)",
    )
    parser.add_argument("--report", metavar="DIR", help="folder for audit.json and audit.html")
    parser.add_argument(
        "--stage", action="append", default=[], help="only this stage of training; repeatable (all)"
    )
    parser.add_argument("--batch", type=int, default=2, help="clips (2)")
    parser.add_argument("--frames", type=int, help="search frames a clip (DATA.SEARCH.NUMBER, at least 2)")
    parser.add_argument(
        "--switches", action="store_true", help="also measure checkpointing, precision, accumulation, ..."
    )
    parser.add_argument("--seed", type=int, default=42, help="seed of weights and samples (42)")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings on top of the YAML"
    )
    return parser


def audited_clip(tracker: Tracker, cfg: Config, options: argparse.Namespace) -> Clip:
    """Return the batch that is audited."""
    frames = options.frames or max(2, cfg.DATA.SEARCH.NUMBER)
    if options.data == "real":
        return real_clip(cfg, options, frames)
    detail = None if cfg.DATA.DETAIL is None else cfg.DATA.DETAIL.SIZE
    shape = ClipShape(options.batch, frames, cfg.DATA.TEMPLATE.SIZE, cfg.DATA.SEARCH.SIZE, detail)
    return made_up_clip(tracker.heads(), shape, options.seed)


def real_clip(cfg: Config, options: argparse.Namespace, frames: int) -> Clip:
    """Return samples of DATA.TRAIN, chosen so that each task has a label where the data have any.

    Raises:
        DataError: none of the first samples has a label.
    """
    cfg.DATA.SEARCH.NUMBER = frames
    samples = build_clips(cfg, TRAIN, seed=options.seed)
    chosen, found = [], set[str]()
    for index in range(min(len(samples), MOST_SAMPLES)):
        sample = samples[0, index]
        more = labelled_tasks(sample.labels) - found
        if more:
            chosen.append(sample)
            found |= more
        if found >= {"box", *cfg.TASKS} and len(chosen) >= options.batch:
            break
    if not chosen:
        raise DataError(f"none of the first {MOST_SAMPLES} samples of DATA.TRAIN has a label")
    rest = [samples[0, index] for index in range(max(0, options.batch - len(chosen)))]
    return collate([*chosen, *rest])


def chosen_stages(stages: Sequence[Stage], names: Sequence[str]) -> list[Stage]:
    """Return the stages of those names, all without any.

    Raises:
        ConfigError: there is no such stage.
    """
    known = [stage.name for stage in stages]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"--stage {name}: there is no such stage.{did_you_mean(name, known)} "
                f"This configuration has: {', '.join(known)}"
            )
    return [stage for stage in stages if not names or stage.name in names]


def save_report(report: AuditReport, folder: Path) -> None:
    """Write the report as JSON, as a page, and the matrix of each stage as a picture."""
    report.save_json(folder / "audit.json")
    save_page(report, folder / "audit.html")
    for stage in report.stages:
        norms = {key: cell.reading.norm for key, cell in stage.cells.items()}
        losses, rows = [column.key for column in stage.columns], [row.name for row in stage.rows]
        if losses:
            title = f"{report.model}, stage {stage.name}: gradient norms"
            faults = {key: cell.verdict.value for key, cell in stage.cells.items() if cell.verdict.violated}
            figure = heatmap_figure(norms, losses, rows, title, faults)
            figure.savefig(folder / f"{stage.name.replace(' ', '_')}.png", dpi=100)


def run_audit(options: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    console = make_console()
    cfg = load_config(find_config(options.script, options.config), options.cfg_options, script=options.script)
    set_seed(options.seed)
    tracker = build_tracker(cfg, options.script)
    started_from = "none"
    if options.checkpoint is not None:
        report = load_weights(tracker, Path(options.checkpoint))
        say(console, report.sentence())
        started_from = report.kind
    stages = chosen_stages(make_stages(tracker, cfg, options.script), options.stage)
    clip = audited_clip(tracker, cfg, options)
    settings = train_settings(cfg, options.seed, started_from)
    trainer = Trainer(tracker, stages, settings, [], accelerator=make_accelerator(cfg))
    name = f"{options.script} {options.config}"
    how = AuditOptions(seed=options.seed, real=options.data == "real")
    result = audit_trainer(trainer, clip, options=how, model=name)
    say(console, f"{result.model}, {result.clip}")
    for stage in result.stages:
        console.print(render_stage(stage, console.width))
    if options.switches:
        meter = SwitchMeter(trainer, clip)
        result.switches = meter.measure()
        console.print(render_switches(result))
    console.print(render_boundaries(result))
    if options.report is not None:
        folder = Path(options.report).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        save_report(result, folder)
        say(console, f"report {folder / 'audit.html'}; audit.json and a picture of each stage beside it")
    console.print(verdict_line(result))
    return 0 if result.passed else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return run_command(run_audit, build_parser().parse_args(argv))
