"""`python tools/make_synthetic.py`: write rendered sequences as files, or one picture that shows them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from mtltrack.cli.command import run_command
from mtltrack.cli.synthetic_sheet import textures_sheet, traffic_sheet
from mtltrack.core.errors import DataError
from mtltrack.data.synthetic.export import PARTS, Progress, encode_image, write_textures, write_traffic
from mtltrack.data.synthetic.sequences import SyntheticSequences
from mtltrack.data.synthetic.traffic.sequences import TrafficSequences

EXAMPLES = """examples:
  python tools/make_synthetic.py --sequences 20 --out output/traffic         boxes, masks, plates, alerts ...
  python tools/make_synthetic.py --sequences 5 --split val --seed 1 --out output/traffic_val
  python tools/make_synthetic.py --sequences 200 --lmdb --out output/traffic_lmdb
  python tools/make_synthetic.py --kinds park leave --conditions Normal --out output/alerts
  python tools/make_synthetic.py --world textures --sequences 4 --frames 126 --out output/textures
  python tools/make_synthetic.py --sheet docs/traffic.jpg --seed 1

to train on it: {TYPE: Got10k, ROOT: output/traffic, SPLIT: train_full, CLS_ANN_DIR: output/traffic/train}
to test on it:  python tracking/test.py ... --dataset output/traffic_val/val"""
SIZES = {"traffic": (640, 360), "textures": (320, 240)}
FRAMES = {"traffic": 120, "textures": 126}
TRAFFIC_ONLY = ("lmdb", "split", "quality", "kinds", "plate_kinds", "fps", "alert_seconds")
SHEET_QUALITY = 88


def build_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="make_synthetic.py",
        description="Write rendered sequences with every label: as a folder or LMDB in GOT-10k's layout with "
        "JSONL files beside it (traffic), or as a folder in OTB's layout (textures).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sequences", type=int, default=8, help="how many; default 8")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write; must be new or empty")
    parser.add_argument(
        "--world", choices=tuple(SIZES), default="traffic", help="what to render; default traffic"
    )
    parser.add_argument("--frames", type=int, help="frames of each; default 120 (textures: 126)")
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("W", "H"), help="pixels; default 640 360 (textures: 320 240)"
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed renders another world; default 0")
    parser.add_argument(
        "--conditions", nargs="+", metavar="NAME", help="scene conditions to bring in; default all"
    )
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="kinds of traffic sequences; default all")
    parser.add_argument(
        "--plate-kinds", nargs="+", metavar="KIND", help="formats of plates; default all Latin ones"
    )
    parser.add_argument("--fps", type=float, help="frames a second while a target moves; default 10")
    parser.add_argument(
        "--alert-seconds", type=float, help="standing longer in a zone is an alert; default 120"
    )
    parser.add_argument("--split", choices=PARTS, help="part of GOT-10k's layout to write; default train")
    parser.add_argument("--quality", type=int, metavar="1-100", help="of JPEG images; default 92")
    parser.add_argument("--lmdb", action="store_true", default=None, help="write an LMDB; labels stay files")
    parser.add_argument(
        "--format", choices=("jpg", "png"), help="image files of the textured world; default jpg"
    )
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE", help="write a picture with examples of everything"
    )
    return parser


def _run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    if arguments.sheet is not None:
        sheet = traffic_sheet if arguments.world == "traffic" else textures_sheet
        data = encode_image(sheet(arguments.seed), arguments.sheet.suffix, SHEET_QUALITY)
        arguments.sheet.parent.mkdir(parents=True, exist_ok=True)
        arguments.sheet.write_bytes(data)
        print(f"wrote {arguments.sheet}, {len(data) / 1000:.0f} kB")
    if arguments.out is not None:
        began = time.perf_counter()
        frames = _write(arguments)
        rate = frames / (time.perf_counter() - began)
        amount = f"{arguments.sequences} sequences, {frames} frames"
        print(f"wrote {amount}, to {arguments.out} ({rate:.0f} a second)")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Raise DataError for options that don't go together."""
    if arguments.out is None and arguments.sheet is None:
        raise DataError("nothing to write: give --out DIR, --sheet FILE, or both.")
    if arguments.sheet is not None and arguments.sheet.suffix not in (".jpg", ".png"):
        raise DataError(f"--sheet {arguments.sheet} must end in .jpg or .png.")
    if arguments.quality is not None and not 1 <= arguments.quality <= 100:
        raise DataError(f"--quality is {arguments.quality}; it must be from 1 to 100.")
    wrong = TRAFFIC_ONLY if arguments.world == "textures" else ("format",)
    given = [f"--{name.replace('_', '-')}" for name in wrong if getattr(arguments, name) is not None]
    if given:
        other = "textures" if arguments.world == "traffic" else "traffic"
        raise DataError(f"{', '.join(given)} is for --world {other}; take it out, or change --world.")


def _write(arguments: argparse.Namespace) -> int:
    """Write the sequences and return how many frames they have."""
    size = arguments.size or SIZES[arguments.world]
    frames = arguments.frames or FRAMES[arguments.world]
    with _reporting() as progress:
        if arguments.world == "textures":
            shapes = SyntheticSequences(
                arguments.sequences, frames, size, arguments.seed, arguments.conditions
            )
            write_textures(shapes, arguments.out, arguments.format or "jpg", progress)
        else:
            options = {"fps": arguments.fps, "alert_seconds": arguments.alert_seconds}
            traffic = TrafficSequences(
                arguments.sequences,
                frames,
                size,
                arguments.seed,
                arguments.conditions,
                kinds=arguments.kinds,
                plate_kinds=arguments.plate_kinds,
                **{name: value for name, value in options.items() if value is not None},
            )
            part, quality = arguments.split or PARTS[0], arguments.quality or 92
            write_traffic(traffic, arguments.out, part, quality, bool(arguments.lmdb), progress)
    return frames * int(arguments.sequences)


@contextmanager
def _reporting() -> Iterator[Progress]:
    """Give a function that shows progress: a bar on a terminal, nothing elsewhere."""
    console = Console()
    columns = (TextColumn("rendering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("rendering")
        yield lambda done, total: bar.update(task, completed=done, total=total)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run_command(_run, build_parser().parse_args(arguments))
