"""Each promise of docs/reliability/promises.md names a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
PAGE = (REPO / "docs" / "reliability" / "promises.md").read_text(encoding="utf-8")
PROMISES = PAGE.partition("## Promises")[2].partition("\n## ")[0]
ROWS = [line for line in PROMISES.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
PYTEST = re.compile(r'pytest (tests/\S+\.py)(?: -k (?:"([^"]+)"|([a-z_]+)))?(?=[` ])')


def functions(path: Path) -> list[str]:
    """The names of a file's tests."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return [node.name for node in found if node.name.startswith("test_")]


def commands(row: str) -> list[str]:
    """The commands among the code in a row of the table."""
    return [code for code in re.findall(r"`([^`]+)`", row.split("|")[2]) if code.startswith(("pytest ", ".venv/"))]


def test_there_are_promises() -> None:
    """The page has its table, and each row a proof."""
    assert len(ROWS) >= 10
    assert [row for row in ROWS if not commands(row)] == []


@pytest.mark.parametrize("row", ROWS, ids=[row[2:42] for row in ROWS])
def test_a_promise_has_its_proof(row: str) -> None:
    """The file exists, and each word after -k selects a test in it."""
    for command in commands(row):
        if command.startswith(".venv/bin/python "):
            assert (REPO / command.split()[1]).is_file()
            continue
        match = PYTEST.match(command + " ")
        assert match is not None, command
        names = functions(REPO / match[1])
        assert names
        for words in (match[2] or match[3] or "test").split(" or "):
            assert [name for name in names if words in name], f"-k {words} picks nothing of {match[1]}"
