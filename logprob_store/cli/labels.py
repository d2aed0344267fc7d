"""The command `labels`: how likely each label was in each answer.

The probabilities are computed by `logprob_store.metrics.labels`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from logprob_store.cli.common import (
    JsonOption,
    LimitOption,
    OutputOption,
    RunOption,
    StorePath,
    open_runs,
    present_rows,
    with_prompt_ids,
)

if TYPE_CHECKING:
    import polars as pl


class Shared(StrEnum):
    """How the probability of a beginning that several labels share is counted."""

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
        rows = _require_place(rows, f"--after {after!r}" if field is None else f"--field {field!r}")
    columns = ["label", "probability", "mass", "coverage", "lower", "upper"]
    if not each:
        columns = ["label", "label_probability", "coverage", "label_lower", "label_upper", "runner_up", "margin"]
    order = ["run", "completion_id", "label_index"] if each else ["label_probability", "run", "completion_id"]
    present_rows(with_prompt_ids(rows, opened.completions), columns, order, output=output, limit=limit, as_json=as_json)


def _require_place(rows: pl.LazyFrame, place: str) -> pl.LazyFrame:
    """The rows, computed.

    Raises:
        InputError: no answer has that place.
    """
    from logprob_store.errors import InputError

    frame = rows.collect(engine="streaming")
    if frame.height and frame["position"].is_null().all():
        raise InputError(f"{place}: there is no such place in any of {frame['completion_id'].n_unique()} answers")
    return frame.lazy()
