"""`python tracking/vot.py`: the tracker for the VOT toolkit."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch

from mtltrack.cli.build import build_trained
from mtltrack.cli.command import run_command
from mtltrack.cli.test import checkpoint_notes, devices_of, find_checkpoint
from mtltrack.core.config import find_config, load_config
from mtltrack.core.errors import ConfigError
from mtltrack.core.paths import local_settings
from mtltrack.core.seal import check_file
from mtltrack.evaluation.online import OnlineTracker
from mtltrack.evaluation.vot import MASK_TASK, registry_entry, serve

EXAMPLES = """The toolkit starts this command; it speaks TraX over standard input and output.

examples:
  # once: name the tracker in the workspace, then let the toolkit run it there
  python tracking/vot.py --script hiptrack --config hiptrack --trackers-ini ~/vot/trackers.ini
  vot test hiptrack_hiptrack
  vot evaluate hiptrack_hiptrack && vot analysis hiptrack_hiptrack
  # masks of the seg head
  python tracking/vot.py --script hiptrack --config hiptrack_seg --mask --trackers-ini ~/vot/trackers.ini
"""
MISSING = (
    "the library of the TraX protocol can't be loaded ({reason}); install it by: pip install vot-trax "
    "(vot-toolkit, which brings the command `vot`, needs it too)"
)


def build_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="vot.py",
        description="Serve a trained tracker to the VOT toolkit: boxes or masks, one target or several.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--script", default="hiptrack", help="the model: hiptrack (the default), ostrack")
    parser.add_argument("--config", default="hiptrack", help="name of the configuration (hiptrack)")
    parser.add_argument(
        "--mask",
        action="store_true",
        help="take and answer masks, those of TASKS.seg; rectangles where the configuration has no such head",
    )
    parser.add_argument(
        "--checkpoint", help="the weights; without it TEST.EPOCH's, else the newest below save_dir"
    )
    parser.add_argument("--save_dir", help="folder of checkpoints; without it that of local.yaml")
    parser.add_argument("--device", help="cpu, cuda, cuda:1; without it a GPU if there is one")
    parser.add_argument("--threads", type=int, help="threads of the processor; without it torch's choice")
    parser.add_argument(
        "--trackers-ini",
        metavar="FILE",
        help="write the entry that starts this tracker into the toolkit's list, and do nothing else",
    )
    parser.add_argument("--name", help="its name there; without it <script>_<config>")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings on top of the YAML"
    )
    return parser


def import_trax() -> ModuleType:
    """Return the library of the protocol.

    Raises:
        ConfigError: it isn't installed, or its native part can't be loaded.
    """
    try:
        return importlib.import_module("trax")
    except (ImportError, OSError) as error:
        raise ConfigError(MISSING.format(reason=error)) from error


def server_command(arguments: argparse.Namespace, checkpoint: Path) -> list[str]:
    """Return the words that start this server from any folder: the toolkit starts it in an empty one."""
    script = Path(sys.argv[0]).resolve()
    words = [sys.executable, str(script), "--script", arguments.script, "--config", arguments.config]
    words += ["--checkpoint", str(checkpoint.resolve())]
    words += ["--mask"] if arguments.mask else []
    words += ["--device", arguments.device] if arguments.device else []
    words += ["--threads", str(arguments.threads)] if arguments.threads else []
    return words + (["--cfg-options", *arguments.cfg_options] if arguments.cfg_options else [])


def run_vot(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    config = find_config(arguments.script, arguments.config)
    cfg = load_config(config, arguments.cfg_options, script=arguments.script)
    save_dir = Path(arguments.save_dir).expanduser() if arguments.save_dir else local_settings().save_dir
    checkpoint, reason = find_checkpoint(
        arguments.checkpoint, save_dir, arguments.script, arguments.config, cfg.TEST.EPOCH
    )
    name = arguments.name or f"{arguments.script}_{arguments.config}"
    if arguments.trackers_ini:
        path = Path(arguments.trackers_ini).expanduser()
        registry_entry(path, name, name, server_command(arguments, checkpoint))
        print(f"{path}: [{name}], weights {checkpoint} ({reason})")
        return 0
    trax = import_trax()
    masks = arguments.mask and MASK_TASK in cfg.TASKS
    if arguments.mask and not masks:
        _tell(f"note: {arguments.config} has no TASKS.{MASK_TASK}: rectangles are answered in place of masks")
    checked = check_file(checkpoint)
    for note in checkpoint_notes(checkpoint, cfg.dump(), [MASK_TASK] if masks else [], checked):
        _tell(f"note: {note}")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    net = build_trained(cfg, arguments.script, checkpoint, checked)
    device, tasks = devices_of(arguments.device, 1)[0], [MASK_TASK] if masks else []
    frames = serve(trax, lambda: OnlineTracker(net, cfg, device, tasks), masks, name)
    _tell(f"{frames} frames answered")
    return 0


def _tell(text: str) -> None:
    """Say something without disturbing the protocol, which may use standard output."""
    print(text, file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return run_command(run_vot, build_parser().parse_args(argv))
