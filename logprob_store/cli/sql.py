"""The command `sql`: a store's tables asked in SQL, by polars. Nothing is written to the store."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final

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

_READS: Final = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/|\()*(?:select|with|from|values|show|explain)\b", re.IGNORECASE | re.DOTALL
)
"""How a query begins that changes nothing, behind comments and brackets."""


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
    import polars as pl

    from logprob_store.errors import InputError

    if query is None:
        _describe(store, run, output=output, as_json=as_json)
        return
    opened = open_runs(store, run)
    names = ("prompts", "completions", "tokens", "alternatives", "decisions", "failures", "imports", "runs", "answers")
    tables = {name: getattr(opened, name) for name in names}
    with pl.SQLContext({**tables, "scores": opened.scores(), "decided": opened.decided()}) as context:
        known = f"the tables are {', '.join(context.tables())}"
        if _READS.match(query) is None:
            raise InputError(f"a query begins with SELECT or WITH, as a store is only read here; {known}")
        try:
            frame = context.execute(query).collect(engine="streaming")
        except pl.exceptions.PolarsError as error:
            said = str(error).partition("\n\nResolved plan")[0].strip()  # below it stands polars' own plan
            raise InputError(f"{said}\n{known}") from error
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
