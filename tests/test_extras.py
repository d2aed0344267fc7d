"""Packages of an extra: the error that names it."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from logprob_store.extras import _EXTRA_OF_PACKAGE, import_extra

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


@pytest.mark.parametrize("package", _EXTRA_OF_PACKAGE)
def test_a_missing_package_names_its_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is the command to install the extra, which is in pyproject.toml."""
    extra = _EXTRA_OF_PACKAGE[package]
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"^{package} is not installed.*pip install 'logprob-store\[{extra}\]'$"):
        import_extra(package)

    assert extra in tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def test_another_missing_module_is_left_as_it_is() -> None:
    """For a module of no extra the error is Python's own."""
    with pytest.raises(ModuleNotFoundError, match="No module named 'nothing_of_ours'"):
        import_extra("nothing_of_ours")
