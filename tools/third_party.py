"""Write THIRD_PARTY.md: the licence of every package that an installation brings, as its metadata states it.

python tools/third_party.py          write the file
python tools/third_party.py --print  show it
"""

from __future__ import annotations

import argparse
import re
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

TARGET = Path(__file__).resolve().parents[1] / "THIRD_PARTY.md"
CHECKS = {"test"}  # the extra that checks need; the others bring what users ask for
HEAD = """# Third-party packages

mtltrack contains no code of other projects; it calls the packages below, which pip installs beside it.
The licences are those that the packages state in their own metadata (`python tools/third_party.py` read
them on {platform}; the packages of another system can differ). The texts lie in each package's
`*.dist-info` folder. Wheels can bundle libraries under licences of their own: OpenCV and torch list
theirs there.
"""


def distribution(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def plain(name: str) -> str:
    """Return the name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(found: metadata.Distribution) -> str:
    """Return what the metadata says: the expression, else the classifiers, else the free text."""
    info = found.metadata
    if info["License-Expression"]:
        return info["License-Expression"]
    classes = [c.split(" :: ")[-1] for c in info.get_all("Classifier", []) if c.startswith("License :: ")]
    if classes:
        return "; ".join(classes)
    lines = (info["License"] or "").strip().splitlines()
    return lines[0].strip()[:100] if lines else "not stated in the metadata"


def requirements(name: str, extras: set[str]) -> list[Requirement]:
    """Return what an installed package needs here with the given extras."""
    found = distribution(name)
    wanted = [Requirement(text) for text in (found.requires or [])] if found else []
    return [need for need in wanted if needed(need, extras)]


def needed(need: Requirement, extras: set[str]) -> bool:
    return need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras | {""})


def closure(direct: list[Requirement]) -> list[str]:
    """Return the names that `direct` brings along, without those in `direct`."""
    seen: dict[str, Requirement] = {}
    waiting = list(direct)
    while waiting:
        need = waiting.pop()
        if plain(need.name) not in seen:
            seen[plain(need.name)] = need
            waiting += requirements(need.name, set(need.extras))
    return sorted(set(seen) - {plain(need.name) for need in direct})


def table(names: list[str]) -> list[str]:
    rows = ["| package | version | licence |", "|---|---|---|"]
    missing = []
    for name in names:
        found = distribution(name)
        if found is None:
            missing.append(name)
        else:
            rows.append(f"| {found.metadata['Name']} | {found.version} | {licence(found)} |")
    if missing:
        rows += ["", f"Not installed where this list was made: {', '.join(missing)}."]
    return rows


def document() -> str:
    direct = requirements("mtltrack", set())
    everything = requirements("mtltrack", {"test", "mtl", "export", "mmdet"})
    names = {plain(need.name) for need in direct}
    checks = [need for need in requirements("mtltrack", CHECKS) if plain(need.name) not in names]
    known = names | {plain(need.name) for need in checks}
    optional = sorted({need.name for need in everything if plain(need.name) not in known})
    listed = {plain(name) for name in optional} | known | {plain(name) for name in closure(direct)}
    brought = [name for name in closure(everything) if plain(name) not in listed]
    parts = [
        HEAD.format(platform=f"{sys.platform}, Python {sys.version_info.major}.{sys.version_info.minor}"),
        "## Needed by the package\n",
        *table(sorted((need.name for need in direct), key=str.lower)),
        "\n## Brought by those\n",
        *table(closure(direct)),
        "\n## For the project's own checks (extra `test`)\n",
        *table(sorted((need.name for need in checks), key=str.lower)),
        "\n## Optional (extras `mtl`, `export`, `mmdet`)\n",
        *table(optional),
        "\n## Brought by checks and extras, and by nothing else\n",
        *table(brought),
    ]
    return "\n".join(parts) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Write THIRD_PARTY.md from the packages' metadata.")
    parser.add_argument("--print", action="store_true", help="print it instead of writing the file")
    text = document()
    if parser.parse_args().print:
        print(text)
    else:
        TARGET.write_text(text, encoding="utf-8")
        print(f"wrote {TARGET.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
