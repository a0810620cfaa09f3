"""Write local.yaml, the file that says where data sets, weights and outputs lie on this machine."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from mtltrack.core.errors import ConfigError, MtltrackError
from mtltrack.core.paths import LOCAL_FILE, checkout_root, known_roots

EXAMPLES = """examples:
  python tracking/create_default_local_file.py --data_dir ~/datasets --save_dir ./output
  python tracking/create_default_local_file.py --data_dir ~/datasets --force
"""
HEAD = """\
# Where things lie on this machine. Relative paths count from this file's folder; ~ and ${{VAR}} are replaced.
workspace_dir: {workspace_dir}
data_dir: {data_dir}
save_dir: {save_dir}  # checkpoints, logs, results
pretrained_dir: {pretrained_dir}  # where MODEL.PRETRAIN_FILE is looked for

# A data set is looked for at the path behind its name; where it lies elsewhere, take the # away and write it.
roots:
"""


def local_file_text(workspace_dir: str, data_dir: str, save_dir: str) -> str:
    """Return the text of a local.yaml that names every known data set.

    Args:
        workspace_dir: folder of the project's work.
        data_dir: folder that holds the data sets.
        save_dir: folder of checkpoints, logs and results.
    """
    text = HEAD.format(
        workspace_dir=_quoted(workspace_dir),
        data_dir=_quoted(data_dir),
        save_dir=_quoted(save_dir),
        pretrained_dir=_quoted(f"{workspace_dir.rstrip('/')}/pretrained_models"),
    )
    for group, entries in known_roots().items():
        text += f"  # for {group}\n"
        for key, entry in entries.items():
            default = f"{data_dir.rstrip('/')}/{entry['folder']}"
            shared = f"; {entry['shares']}'s when not given" if "shares" in entry else ""
            text += f"  # {key}: {_quoted(default)}  # {entry['about']}{shared}\n"
    return text


def _quoted(path: str) -> str:
    """Return a path as a YAML scalar."""
    plain = re.fullmatch(r"\.{0,2}(/[\w.-]+)*/?", path) and path
    return path if plain else "'" + path.replace("'", "''") + "'"


def write_local_file(
    workspace_dir: str, data_dir: str, save_dir: str, path: Path | None = None, force: bool = False
) -> Path:
    """Write local.yaml and return where.

    Args:
        workspace_dir: as `local_file_text`, so data_dir and save_dir.
        data_dir: see there.
        save_dir: see there.
        path: the file to write; local.yaml of the checkout (or of the current folder) when not given.
        force: overwrite an existing file.

    Raises:
        ConfigError: the file exists and `force` is False, or can't be written.
    """
    path = path or (checkout_root() or Path.cwd()) / LOCAL_FILE
    if path.exists() and not force:
        raise ConfigError(f"{path} exists already; edit it, or overwrite it with --force.")
    try:
        path.write_text(local_file_text(workspace_dir, data_dir, save_dir), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error}") from error
    return path


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--workspace_dir", default=".", help="folder of the project's work (default: the checkout)"
    )
    parser.add_argument("--data_dir", default="./data", help="folder of the data sets (./data)")
    parser.add_argument(
        "--save_dir", default="./output", help="folder of checkpoints, logs and results (./output)"
    )
    parser.add_argument("--force", action="store_true", help="overwrite an existing local.yaml")
    options = parser.parse_args(arguments)
    try:
        path = write_local_file(
            options.workspace_dir, options.data_dir, options.save_dir, force=options.force
        )
    except MtltrackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {path}; edit it where a data set lies elsewhere")
    return 0
