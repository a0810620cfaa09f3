"""The rules that keep the rooms apart, read from the source by `ast`: nothing is imported here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lib" / "mtltrack"
LONGEST_MODULE = 350  # lines

WORK = {"print", "open", "getenv", "read_text", "imread"}  # calls that importing must not make

# what each room may import besides itself
ROOMS: dict[str, set[str]] = {
    "core": set(),
    "losses": {"core"},
    "metrics": {"core"},
    "data": {"core"},
    "models": {"core"},
    "tasks": {"core", "losses", "metrics", "models"},
    "evaluation": {"core", "losses", "metrics", "data", "models", "tasks"},
    "training": {"core", "losses", "metrics", "data", "models", "tasks", "evaluation"},
    "cli": {"core", "losses", "metrics", "data", "models", "tasks", "evaluation", "training"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def scripts() -> list[Path]:
    return sorted(path for folder in ("tracking", "tools") for path in (ROOT / folder).rglob("*.py"))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported_rooms(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield (room, line) for every import of this package, those inside functions too."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "mtltrack":
            names = [f"mtltrack.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module]
        for name in names:
            parts = name.split(".")
            if parts[0] == "mtltrack" and len(parts) > 1:
                yield parts[1], node.lineno


def keyword_values(call: ast.Call) -> dict[str, object]:
    return {
        keyword.arg: keyword.value.value
        for keyword in call.keywords
        if keyword.arg is not None and isinstance(keyword.value, ast.Constant)
    }


def called_name(call: ast.Call) -> str:
    """Return `load` for `torch.load(...)` and `zip` for `zip(...)`."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def style_faults(tree: ast.Module) -> list[tuple[int, str]]:
    """Return (line, what is wrong) for everything that this project never writes."""
    faults: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            if any(alias.name == "*" for alias in node.names):
                faults.append((node.lineno, "star import"))
            if node.level:
                faults.append((node.lineno, "relative import"))
        elif isinstance(node, ast.ExceptHandler):
            faults += [(node.lineno, text) for text in handler_faults(node)]
        elif isinstance(node, ast.Call):
            faults += [(node.lineno, text) for text in call_faults(node)]
    return faults


def handler_faults(handler: ast.ExceptHandler) -> list[str]:
    if handler.type is None:
        return ["bare except"]
    broad = isinstance(handler.type, ast.Name) and handler.type.id in ("Exception", "BaseException")
    silent = all(isinstance(statement, (ast.Pass, ast.Continue)) for statement in handler.body)
    return ["an except that hides every error"] if broad and silent else []


def call_faults(call: ast.Call) -> list[str]:
    name, keywords = called_name(call), keyword_values(call)
    faults = []
    if name == "cuda" and isinstance(call.func, ast.Attribute):
        faults.append(".cuda(): follow the input's device")
    if name != "zip" and keywords.get("strict") is False:  # zip's `strict` is about lengths
        faults.append("strict=False: weights are never loaded silently")
    if keywords.get("weights_only") is False:
        faults.append("weights_only=False executes what is in the file")
    if name == "load" and isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
        if call.func.value.id == "torch" and keywords.get("weights_only") is not True:
            faults.append("torch.load without weights_only=True")
    return faults


def work_on_import(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield module-level statements that read the environment or a file, or print."""
    for statement in tree.body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.If)):
            continue  # `if TYPE_CHECKING` and `if __name__ == "__main__"`
        for node in ast.walk(statement):
            if isinstance(node, ast.Attribute) and node.attr == "environ":
                yield node.lineno, "reads the environment when imported"
            if isinstance(node, ast.Call) and called_name(node) in WORK:
                yield node.lineno, f"calls {called_name(node)} when imported"


def report(path: Path, faults: list[tuple[int, str]]) -> str:
    return "\n".join(f"{path.relative_to(ROOT)}:{line}: {text}" for line, text in faults)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_keeps_the_rules(path: Path) -> None:
    tree = tree_of(path)
    faults = style_faults(tree) + list(work_on_import(tree))
    lines = len(path.read_text(encoding="utf-8").splitlines())
    if lines > LONGEST_MODULE:
        faults.append((lines, f"{lines} lines; split it by idea, the limit is {LONGEST_MODULE}"))
    relative = path.relative_to(PACKAGE)
    if len(relative.parts) > 1:
        room = relative.parts[0]
        assert room in ROOMS, f"{room}/ is no room; the rooms are {', '.join(ROOMS)}"
        allowed = ROOMS[room] | {room}
        faults += [
            (line, f"{room} may not import {other} (it may: {', '.join(sorted(allowed))})")
            for other, line in imported_rooms(tree)
            if other not in allowed
        ]
    assert not faults, "\n" + report(path, faults)


@pytest.mark.parametrize("path", scripts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_script_keeps_the_rules(path: Path) -> None:
    faults = style_faults(tree_of(path))
    assert not faults, "\n" + report(path, faults)


@pytest.mark.parametrize("path", sorted((ROOT / "tracking").glob("*.py")), ids=lambda path: path.name)
def test_a_tracking_script_only_calls_the_command_line_room(path: Path) -> None:
    others = [(line, f"imports {room}") for room, line in imported_rooms(tree_of(path)) if room != "cli"]
    assert not others, "\n" + report(path, others)


def test_rooms_form_an_order() -> None:
    """A room's allowed imports stand before it, so no circle of rooms can exist."""
    seen: set[str] = set()
    for room, allowed in ROOMS.items():
        assert allowed <= seen, f"{room} may import {allowed - seen}, which come after it"
        seen.add(room)
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= seen


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from os import *", "star import"),
        ("from . import x", "relative import"),
        ("try:\n    x\nexcept:\n    y", "bare except"),
        ("try:\n    x\nexcept Exception:\n    pass", "hides every error"),
        ("model.cuda()", ".cuda()"),
        ("model.load_state_dict(d, strict=False)", "strict=False"),
        ("torch.load(f, weights_only=False)", "weights_only=False"),
        ("torch.load(f)", "without weights_only=True"),
    ],
)
def test_each_rule_finds_its_fault(source: str, expected: str) -> None:
    assert any(expected in text for _, text in style_faults(ast.parse(source)))


@pytest.mark.parametrize("source", ["zip(a, b, strict=False)", "torch.cuda.is_available()", "json.load(f)"])
def test_rules_let_innocent_code_pass(source: str) -> None:
    assert not style_faults(ast.parse(source))


def test_imports_inside_functions_and_of_the_package_itself_are_seen() -> None:
    source = "def f():\n    import mtltrack.cli.train\nfrom mtltrack import data\nfrom mtltrack.core import x"
    tree = ast.parse(source)
    assert sorted(room for room, _ in imported_rooms(tree)) == ["cli", "core", "data"]
