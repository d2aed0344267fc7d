"""The house: which room of `logprob_store` may import which, by the table in CONTRIBUTING.md, and no circles."""

from __future__ import annotations

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import logprob_store as ls

PACKAGE = Path(ls.__file__).parent
REPO = PACKAGE.parent
ROW = re.compile(r"^\| `(?P<rooms>[^|]+)` \|(?P<imports>[^|]*)\|", re.MULTILINE)


def module_name(path: Path) -> str:
    """`run.session` for run/session.py, `run` for run/__init__.py, and "" for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def imports_of(path: Path) -> set[str]:
    """The modules of the package that a module imports, also inside functions and for types."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("logprob_store"):
            module = node.module.removeprefix("logprob_store").removeprefix(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".removeprefix(".")
                found.add(inner if inner in MODULES else module)
    return found


def table() -> list[tuple[list[str], set[str]]]:
    """The lines of the table in CONTRIBUTING.md: the rooms of each, and the rooms that they may import."""
    section = (REPO / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## The house")[2].partition("\n## ")[0]
    return [
        (re.findall(r"\w+", row["rooms"]), set(re.findall(r"`(\w+)`", row["imports"]))) for row in ROW.finditer(section)
    ]


LINES = table()
GROUND = set(LINES[0][0])
ALLOWED = {room: named | set(rooms) | GROUND for rooms, named in LINES for room in rooms}


def test_each_room_has_a_line() -> None:
    """The table has every folder and every module at the top, and nothing else."""
    rooms = {name.partition(".")[0] for name in MODULES if name}

    assert set(ALLOWED) == rooms


def test_the_table_goes_down() -> None:
    """A line names only rooms of earlier lines."""
    seen: set[str] = set()
    for rooms, named in LINES:
        assert named <= seen, rooms
        seen.update(rooms)


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_imports_go_down(name: str) -> None:
    """A module imports its own room, the ground, and the rooms that its line names."""
    room = name.partition(".")[0]
    others = {imported.partition(".")[0] for imported in imports_of(MODULES[name])} - {room, ""}

    assert others - ALLOWED[room] == set()


def test_no_circles() -> None:
    """No module imports itself through others, not even for types."""
    graph = {name: imports_of(path) - {name} for name, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_no_line_is_wider_than_needed() -> None:
    """Each room that a line names is imported by a room of that line."""
    used: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        used.setdefault(name.partition(".")[0], set()).update(
            imported.partition(".")[0] for imported in imports_of(path)
        )

    for rooms, named in LINES:
        assert named <= set().union(*(used[room] for room in rooms)), rooms


def test_no_folder_is_called_like_a_public_name() -> None:
    """Importing a folder `text` would put a module where `ls.text` is expected."""
    folders = {name.partition(".")[0] for name in MODULES if name}

    assert folders & set(ls.__all__) == set()


def test_the_store_computes_nothing() -> None:
    """The store imports no metric, and only `importing` and `run` import both store and decode."""
    both = {
        name.partition(".")[0]
        for name, path in MODULES.items()
        if {"store", "decode"} <= {imported.partition(".")[0] for imported in imports_of(path)}
    }

    assert both <= {"run", "importing"}
