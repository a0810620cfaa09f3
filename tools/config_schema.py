"""Write the JSON schema of the configuration files, which editors use to complete and check keys."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mtltrack.core.editor_schema import editor_schema

EXAMPLE = """how an editor uses it:
  python tools/config_schema.py --out config.schema.json
then, as the first line of a YAML in experiments/<script>/ (VS Code's YAML extension and Neovim read it):
  # yaml-language-server: $schema=../../config.schema.json
PyCharm: Settings, Languages & Frameworks, Schemas and DTDs, JSON Schema Mappings: experiments/*/*.yaml
"""


def main(arguments: list[str] | None = None) -> None:
    """Write the schema to a file or to the standard output."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="file to write; the standard output when not given")
    options = parser.parse_args(arguments)
    text = json.dumps(editor_schema(), indent=2) + "\n"
    if options.out is None:
        print(text, end="")
    else:
        options.out.write_text(text, encoding="utf-8")
        print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
