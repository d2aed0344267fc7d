"""The command `fields`: how sure the model was of each value of its JSON answers.

The probabilities are computed by `logprob_store.metrics.spans.fields`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from logprob_store.cli.chosen_runs import open_runs
from logprob_store.cli.common import (
    JsonOption,
    LimitOption,
    OutputOption,
    RunOption,
    StorePath,
    present_rows,
    with_prompt_ids,
)
from logprob_store.counted import counted

if TYPE_CHECKING:
    import polars as pl

_LEAST: Final = ("straddling_tokens", "scored_tokens", "complete", "error", "joint_probability", "value")
"""What a narrow table leaves out first: which value of which prompt, and how sure, stays to the end."""
_PATHS_NAMED: Final = 10
"""Paths that an error message lists."""


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
    if path is None:
        rows = _checked(rows)
    else:
        found = rows.filter(pl.col("path") == path).collect(engine="streaming")
        if not found.height:
            raise InputError(f"--path {path!r}: no answer has a value there; there are {_most_common_paths(rows)}")
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
    present_rows(
        with_prompt_ids(rows, opened.completions),
        columns,
        order,
        output=output,
        limit=limit,
        as_json=as_json,
        least=_LEAST,
    )


def _checked(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows, computed.

    Raises:
        InputError: no answer is JSON.
    """
    import polars as pl

    from logprob_store.errors import InputError

    frame = rows.collect(engine="streaming")
    if frame.height and frame["path"].is_null().all():
        (error,) = frame.select(pl.col("error").drop_nulls().first()).row(0)
        raise InputError(f"none of {counted(frame.height, 'answer')} is JSON; the first one: {error}")
    return frame.lazy()


def _most_common_paths(rows: pl.LazyFrame) -> str:
    """The paths that most answers have, as text for an error message."""
    import polars as pl

    most = rows.filter(pl.col("path").is_not_null()).group_by("path").len()
    names = most.sort("len", "path", descending=[True, False]).collect(engine="streaming")["path"]
    more = f" and {len(names) - _PATHS_NAMED} more" if len(names) > _PATHS_NAMED else ""
    return (", ".join(map(repr, names.head(_PATHS_NAMED))) or "none, as no answer is JSON") + more
