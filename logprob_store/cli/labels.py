"""The commands that read what was answered: `labels` and `fields`.

Holds the choice of rows and columns to print or write. Leaves out the formulas (`logprob_store.metrics`).
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from logprob_store.cli.common import JsonOption, RunOption, StorePath
from logprob_store.cli.output import open_runs, say, show_rich, write_frame

if TYPE_CHECKING:
    import polars as pl

OutputOption = Annotated[
    Path | None, typer.Option("-o", "--output", help="Write all rows to a .parquet, .csv, .json or .jsonl file.")
]
_PATHS = 10
"""How many paths a message names."""

LimitOption = Annotated[int, typer.Option("-n", "--limit", min=1, help="Rows to print.")]


class Shared(StrEnum):
    """What to do with a beginning that several labels share."""

    error = "error"
    bound = "bound"
    whole = "whole"


def labels(
    store: StorePath,
    *,
    names: Annotated[str, typer.Option("--labels", help='The labels, with commas between: "Yes,No".')],
    run: RunOption = None,
    after: Annotated[str | None, typer.Option(help='The label stands behind the last such text, as "Answer:".')] = None,
    field: Annotated[
        str | None, typer.Option(help='The label is the value at this path of a JSON answer: "/mood".')
    ] = None,
    shared: Annotated[
        Shared,
        typer.Option(help="A beginning of several labels: an error, in the bounds, or a whole label is that one."),
    ] = Shared.error,
    each: Annotated[bool, typer.Option("--each", help="A row for each label, instead of the likeliest alone.")] = False,
    output: OutputOption = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Say how likely each label was over all its spellings, with coverage and bounds; the least sure first.

    The answer's label is at its beginning, behind a text (--after) or in a field of its JSON (--field).
    """
    from logprob_store.errors import InputError
    from logprob_store.metrics.labels.chosen_label import label_choices

    opened = open_runs(store, run)
    try:
        rows = opened.labels([name.strip() for name in names.split(",")], after=after, field=field, shared=shared.value)
    except ValueError as error:
        raise InputError(f"--labels {names!r}: {error}") from error
    rows = rows if each else label_choices(rows)
    if after is not None or field is not None:
        rows = _found_somewhere(rows, f"--after {after!r}" if field is None else f"--field {field!r}")
    columns = ["label", "mass", "probability", "lower", "upper", "coverage"]
    if not each:
        columns = ["label", "label_probability", "label_lower", "label_upper", "margin", "runner_up", "coverage"]
    order = ["run", "completion_id", "label_index"] if each else ["label_probability", "run", "completion_id"]
    _present(_with_prompts(rows, opened.completions), columns, order, output=output, limit=limit, as_json=as_json)


def fields(
    store: StorePath,
    *,
    run: RunOption = None,
    path: Annotated[str | None, typer.Option(help='Only the values at this path: "/address/city".')] = None,
    output: OutputOption = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Say how sure the model was of each value of its JSON answers; the least sure first.

    Answers that are no JSON have a row with an error and no path.
    """
    import polars as pl

    from logprob_store.errors import InputError

    opened = open_runs(store, run)
    rows = opened.fields()
    if path is not None:
        found = rows.filter(pl.col("path") == path).collect(engine="streaming")
        if not found.height:
            raise InputError(f"--path {path!r}: no answer has a value there; there are {_paths(rows)}")
        rows = found.lazy()
    columns = [
        "path",
        "value",
        "joint_probability",
        "confidence",
        "scored_tokens",
        "straddling_tokens",
        "complete",
        "error",
    ]
    order = ["joint_probability", "run", "completion_id", "field_index"]
    _present(_with_prompts(rows, opened.completions), columns, order, output=output, limit=limit, as_json=as_json)


def _found_somewhere(rows: pl.LazyFrame, place: str) -> pl.LazyFrame:
    """The rows.

    Raises:
        InputError: no answer has the place.
    """
    from logprob_store.errors import InputError

    frame = rows.collect(engine="streaming")
    if frame.height and frame["position"].is_null().all():
        raise InputError(f"{place}: there is no such place in any of {frame['completion_id'].n_unique()} answers")
    return frame.lazy()


def _paths(rows: pl.LazyFrame) -> str:
    """The paths that most answers have, in words."""
    import polars as pl

    counted = rows.filter(pl.col("path").is_not_null()).group_by("path").len()
    names = counted.sort("len", "path", descending=[True, False]).collect(engine="streaming")["path"]
    more = f" and {len(names) - _PATHS} more" if len(names) > _PATHS else ""
    return (", ".join(map(repr, names.head(_PATHS))) or "none, as no answer is JSON") + more


def _with_prompts(rows: pl.LazyFrame, completions: pl.LazyFrame) -> pl.LazyFrame:
    """The rows with the id of their prompt behind their keys."""
    keys = ["run", "completion_id"]
    others = [name for name in rows.collect_schema().names() if name not in keys]
    known = rows.join(completions.select(*keys, "prompt_id"), on=keys, how="left")
    return known.select(*keys, "prompt_id", *others)


def _present(
    rows: pl.LazyFrame, columns: list[str], order: list[str], *, output: Path | None, limit: int, as_json: bool
) -> None:
    """Write all rows, or print the first: all columns as JSON, some in a table."""
    from logprob_store.view.terminal_tables import frame_table

    if output is not None:
        keys = ["run", "completion_id", *(name for name in order if name.endswith("_index"))]
        frame = rows.sort(keys, nulls_last=True).collect(engine="streaming")
        write_frame(frame, output)
        say(f"{output}: {frame.height} rows")
        return
    shown = rows.sort(order, nulls_last=True).head(limit).collect(engine="streaming")
    if as_json:
        say(shown.to_dicts())
        return
    keys = ["run", "completion_id"] if shown["run"].n_unique() > 1 else ["completion_id"]
    show_rich(frame_table(shown.select(*keys, "prompt_id", *columns)))
