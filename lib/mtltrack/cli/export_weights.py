"""`python tracking/export_weights.py`: the weights of a checkpoint as a safetensors file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mtltrack.cli.command import run_command
from mtltrack.core.errors import CheckpointError
from mtltrack.models.safe_weights import write_safetensors
from mtltrack.models.weights import read_weights_file, state_dict_of

SUFFIX = ".safetensors"
EXAMPLES = """examples:
  python tracking/export_weights.py output/checkpoints/train/hiptrack/hiptrack_cls/HIPTrack_ep0050.pth.tar
  python tracking/export_weights.py HIPTrack_best.pth.tar --out hiptrack.safetensors

The file holds the weights, and in its metadata the configuration, the conditions and the alphabet that the
checkpoint names, and a sha256. MODEL.PRETRAIN_FILE and --checkpoint take it as they take the checkpoint.
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="export_weights.py",
        description="Write the weights of a checkpoint, of this project or another, as a safetensors file.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("checkpoint", help="the checkpoint; nothing in it is executed")
    parser.add_argument("--out", help=f"the file to write (the checkpoint's name with {SUFFIX})")
    return parser


def export(arguments: argparse.Namespace) -> int:
    """Export a checkpoint.

    Raises:
        CheckpointError: it can't be read, or the file can't be written.
    """
    source = Path(arguments.checkpoint).expanduser()
    stem = source.name.removesuffix(".pth.tar").removesuffix(".pth")
    target = Path(arguments.out).expanduser() if arguments.out else source.with_name(stem + SUFFIX)
    if target.suffix != SUFFIX:
        raise CheckpointError(f"--out {target}: the name must end in {SUFFIX}, by which it is known later")
    content = read_weights_file(source)
    tensors = state_dict_of(content, source)
    about = content if isinstance(content.get("config"), dict) else {}  # others' files say nothing we can use
    try:
        write_safetensors(about, tensors, target)
    except OSError as error:
        raise CheckpointError(f"{target} can't be written ({error.strerror})") from error
    print(f"wrote {target}: {len(tensors)} tensors, {target.stat().st_size / 1e6:.1f} MB")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command(export, build_parser().parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
