"""The commands that compute over a store's tables: `scores`.

Holds the choice of rows and columns to print or write. Leaves out the formulas (`logprob_store.metrics`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from logprob_store.cli.calibrating import with_saved_calibrator
from logprob_store.cli.options import JsonOption, RunOption, StorePath
from logprob_store.cli.output import open_runs, say, show_rich, write_frame


def scores(
    store: StorePath,
    *,
    run: RunOption = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write all rows to a .parquet, .csv, .json or .jsonl file.")
    ] = None,
    sort: Annotated[str | None, typer.Option(help="The column to sort by, lowest first; default: confidence.")] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="Rows to print.")] = 20,
    calibrated: Annotated[
        str | None, typer.Option(metavar="NAME", help="Add the chance of being right, by a saved calibrator.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score each completion: perplexity, confidence, entropy and more; the least confident first.

    Of runs that scored given text: each candidate, the likeliest of a prompt first, or each text.
    """
    from logprob_store.errors import InputError
    from logprob_store.view.tables import frame_table, scores_and_columns

    opened = open_runs(store, run)
    rows, brief, order = scores_and_columns(opened)
    if calibrated is not None:
        rows, brief = with_saved_calibrator(opened, rows, calibrated), [*brief, "calibrated"]
    columns = rows.collect_schema().names()
    if sort is not None and sort not in columns:
        raise InputError(f"--sort {sort}: there is no such column; there are {', '.join(columns)}")
    if output is not None:
        frame = rows.sort("run", "completion_id").collect(engine="streaming")
        write_frame(frame, output)
        say(f"{output}: {frame.height} rows")
        return
    if as_json:
        say(rows.sort(sort or order, nulls_last=True).head(limit).collect().to_dicts())
        return
    shown = rows.sort(sort or order, nulls_last=True).head(limit).collect()
    if shown["run"].n_unique() > 1:
        brief = ["run", *brief]
    show_rich(frame_table(shown.select(*brief, *([] if sort is None or sort in brief else [sort]))))
