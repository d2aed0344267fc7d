"""The package as a whole: its public names, its imports, and habits of all modules."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import logprob_store as ls
from logprob_store import errors

PACKAGE = Path(ls.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def test_public_surface() -> None:
    """Every name of the stub exists once; `dir` and `*` show these names and no others."""
    stub = (PACKAGE / "__init__.pyi").read_text(encoding="utf-8")
    imports = [line.split() for line in stub.splitlines() if line.startswith("from")]
    names = [words[-1] for words in imports]

    assert all(words[3] == words[5] for words in imports)
    assert sorted(names) == dir(ls) == list(ls.__all__)
    assert all(getattr(ls, name) is not None for name in names)
    assert all(
        getattr(ls, words[-1]).__module__ == f"logprob_store{words[1]}" for words in imports if words[-1].islower()
    )


def test_names_do_not_become_modules() -> None:
    """A public name does not become the module of the same name after its first use."""
    for name in ls.__all__:
        assert getattr(ls, name) is getattr(ls, name)


def test_unknown_name_is_an_attribute_error() -> None:
    """A name that is not exported is an AttributeError."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ls.nothing  # noqa: B018  the access is the test


def test_import_loads_nothing_heavy() -> None:
    """Importing the package and its command line leaves polars, pyarrow and the SDK alone."""
    heavy = "polars", "pyarrow", "openai", "httpx2", "pydantic", "diskcache", "rich.console"
    code = f"import logprob_store, logprob_store.cli, sys; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_habits(path: Path) -> None:
    """No broad except, no printing outside the command line, and the environment is read where that is the purpose."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    broad = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id == "Exception"))
    ]
    outside = path.relative_to(PACKAGE).parts[0] != "cli"
    reads_environment = not outside or path.relative_to(PACKAGE).as_posix() in {
        "transport/environment.py",
        "run/resources.py",
    }
    environment = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"} and not reads_environment
    ]
    prints = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print" and outside
    ]

    assert (broad, environment, prints) == ([], [], [])
    assert ast.get_docstring(tree)


def test_only_the_package_is_installed() -> None:
    """A wheel has no top-level `jobs`, `fixtures` or `benchmarks`."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))

    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["logprob_store"]


def test_the_version_is_that_of_the_package() -> None:
    """As pip says it."""
    assert ls.__version__ == version("logprob-store")


def test_all_errors_are_public() -> None:
    """Whoever catches one need not know the module; a retry is never seen outside."""
    defined = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}

    assert defined - set(ls.__all__) == {"RetryableError"}
