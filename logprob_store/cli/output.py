"""What the commands have in common once they have something: lines, JSON, tables, files.

Leaves out what is in them: each command knows its own.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from logprob_store.analysis.opened_store import Store

_PIPED_WIDTH = 160


def say(what: object) -> None:
    """Print a line for a person, or JSON for a machine."""
    if isinstance(what, str):
        typer.echo(what)
    else:
        import json

        typer.echo(json.dumps(what, default=str, ensure_ascii=False))


def show_rich(what: Any) -> None:
    """Print a table or coloured text."""
    from rich.console import Console

    # Piped into a file or another program, lines are as long as they need to be.
    Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH).print(what)


def write_frame(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame in the form that the file's name says."""
    from logprob_store.errors import InputError

    writers: dict[str, Callable[[Path], object]] = {
        ".parquet": frame.write_parquet,
        ".csv": frame.write_csv,
        ".json": frame.write_json,
        ".jsonl": frame.write_ndjson,
    }
    if path.suffix not in writers:
        raise InputError(f"-o {path}: the name must end in one of {', '.join(writers)}")
    try:
        writers[path.suffix](path)
    except OSError as error:
        raise InputError(f"-o {path}: cannot be written: {error}") from error


def open_runs(store: Path, run: str | None) -> Store:
    """A store, with one run of it or all."""
    from logprob_store.analysis.opened_store import open_store

    return open_store(store, runs=None if run is None else [run])


def near(path: Path) -> Path:
    """The path as a person in this folder would write it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
