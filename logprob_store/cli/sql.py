"""The command `sql`: a store's tables asked in SQL, by polars. Nothing is written to the store."""

from __future__ import annotations

from typing import Annotated

import typer

from logprob_store.cli.common import (
    JsonOption,
    LimitOption,
    OutputOption,
    RunOption,
    StorePath,
    open_runs,
    print_or_write,
)


def sql(
    store: StorePath,
    query: Annotated[str, typer.Argument(help='As "select prompt_id, confidence from scores where confidence < 0.5".')],
    *,
    run: RunOption = None,
    output: OutputOption = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Ask a store in SQL; reads only.

    Tables: prompts, completions, tokens, alternatives, decisions, failures, imports and runs (docs/store.md
    lists their columns), answers (completions with their prompts), scores, and decided (the answer to
    each typed question).
    """
    import polars as pl

    from logprob_store.errors import InputError

    opened = open_runs(store, run)
    names = ("prompts", "completions", "tokens", "alternatives", "decisions", "failures", "imports", "runs", "answers")
    tables = {name: getattr(opened, name) for name in names}
    with pl.SQLContext({**tables, "scores": opened.scores(), "decided": opened.decided()}) as context:
        try:
            frame = context.execute(query).collect(engine="streaming")
        except pl.exceptions.PolarsError as error:
            said = str(error).partition("\n\nResolved plan")[0]  # below it stands polars' own plan
            raise InputError(f"{said}\nthe tables are {', '.join(context.tables())}") from error
    print_or_write(frame, output=output, limit=limit, as_json=as_json)
