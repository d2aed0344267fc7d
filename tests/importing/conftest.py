"""A folder with files to import and a store to import them into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from importing.recorded import jsonl

import logprob_store as ls
from logprob_store.importing.api import import_responses

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.importing.importer import ImportSummary

Frames = dict[str, pl.DataFrame]


class Importing:
    """A folder for files and a store to import them into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"

    def file(self, name: str, content: str | bytes) -> Path:
        """Write a file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def jsonl(self, name: str, *values: Any) -> Path:
        """Write a file of JSON Lines."""
        return self.file(name, jsonl(*values))

    def __call__(self, *paths: Path, **options: Any) -> ImportSummary:
        """Import files."""
        return import_responses(paths, self.store, **options)

    def content(self, content: str | bytes, name: str = "answers.jsonl", **options: Any) -> ImportSummary:
        """Import a file with this content."""
        return self(self.file(name, content), **options)

    def lines(self, *values: Any, name: str = "answers.jsonl", **options: Any) -> ImportSummary:
        """Import a file of JSON Lines."""
        return self(self.jsonl(name, *values), **options)

    def frames(self, run: str = "import") -> Frames:
        """All tables of a run."""
        opened = ls.open_store(self.store, runs=[run])
        tables = ("prompts", "completions", "tokens", "alternatives", "failures", "imports")
        return {name: getattr(opened, name).collect() for name in tables}

    @property
    def texts(self) -> list[str]:
        """The texts of all completions, by completion_id."""
        return self.frames()["completions"].sort("completion_id")["text"].to_list()

    @property
    def open_failures(self) -> list[tuple[str, str]]:
        """prompt_id and error_type of all failures, in order."""
        rows = self.frames()["failures"].sort("prompt_index", "sample_index")
        return list(rows.select("prompt_id", "error_type").iter_rows())


@pytest.fixture
def importing(tmp_path: Path) -> Importing:
    """A temporary folder and store."""
    return Importing(tmp_path)
