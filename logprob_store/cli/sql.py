"""The command `sql`: a store's tables asked in SQL, by polars. Nothing is written to the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from logprob_store.cli.chosen_runs import ALL_RUNS, open_runs, select_runs
from logprob_store.cli.common import (
    JsonOption,
    LimitOption,
    OutputOption,
    RunOption,
    StorePath,
    echo,
    print_or_write,
    terminal_width,
)

if TYPE_CHECKING:
    from pathlib import Path


def sql(
    store: StorePath,
    query: Annotated[
        str | None,
        typer.Argument(
            help='As "select prompt_id, confidence from scores where confidence < 0.5"; if left out: the tables and '
            "what their columns mean."
        ),
    ] = None,
    *,
    run: RunOption = None,
    output: OutputOption = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Ask a store in SQL; reads only. Without a query, the tables and their columns.

    Tables: prompts, completions, tokens, alternatives, decisions, failures, imports and runs, answers (completions with
    their prompts), scores, and decided (the answer to each typed question).

    Each has the rows of the newest run, or of those that --run names.
    Name what is computed with AS: polars names count(*) len, and max(p) p.
    """
    from logprob_store.analysis.sql_tables import ask_in_sql, sql_tables

    if query is None:
        _describe(store, run, output=output, as_json=as_json)
        return
    frame = ask_in_sql(query, sql_tables(open_runs(store, run)))
    print_or_write(frame, output=output, limit=limit, as_json=as_json)


def _describe(store: Path, run: str | None, *, output: Path | None, as_json: bool) -> None:
    """Print or write what the tables and their columns are, of all runs where none is named."""
    opened = select_runs(store, ALL_RUNS if run is None else run)
    description = opened.describe()
    if as_json or output is not None:
        print_or_write(description.frame, output=output, limit=description.frame.height, as_json=as_json)
        return
    echo(description.text(width=min(80, terminal_width() or 80)))
    if run is None and len(opened.manifests) > 1:
        newest, runs = opened.newest_run(), len(opened.manifests)
        echo(f"a query reads the newest run, {newest}, 1 of {runs} (--run all: all of them)")
