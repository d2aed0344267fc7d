"""The command `labels`: how likely each label was in each answer.

The probabilities are computed by `logprob_store.metrics.labels`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from logprob_store.cli.chosen_runs import open_runs
from logprob_store.cli.common import (
    JsonOption,
    LimitOption,
    OutputOption,
    QuestionOption,
    RunOption,
    StorePath,
    checked_question,
    echo,
    labels_of,
    present_rows,
    say_what_is_hidden,
    with_prompt_ids,
)
from logprob_store.counted import counted

if TYPE_CHECKING:
    import polars as pl

    from logprob_store.analysis.opened_store import Store

_OF_EACH: Final = ["label", "probability", "mass", "coverage", "lower", "upper"]
_OF_CHOSEN: Final = ["label", "label_probability", "coverage", "label_lower", "label_upper", "runner_up", "margin"]


class Shared(StrEnum):
    """How the probability of a beginning that several labels share is counted."""

    error = "error"
    bound = "bound"
    whole = "whole"


def labels(
    store: StorePath,
    *,
    names: Annotated[
        str | None,
        typer.Option("--labels", help='The labels, with commas between: "Yes,No"; typed questions have their own.'),
    ] = None,
    question: QuestionOption = None,
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
    Of typed questions (model.endpoint = "decisions") the labels are the options.
    """
    from logprob_store.errors import InputError
    from logprob_store.metrics.labels.chosen_label import label_choices

    opened = open_runs(store, run)
    if names is None or question is not None or (opened.has_decisions and not opened.files("tokens")):
        rows = _rows_of_questions(opened, names, question, each=each)
        columns = ["question", *(_OF_EACH if each else _OF_CHOSEN)]
        order = [*(["run", "completion_id"] if each else ["label_probability", "run", "completion_id"]), "position"]
        order += ["label_index"] if each else []
        rows = with_prompt_ids(rows, opened.completions)
        present_rows(rows, columns, order, output=output, limit=limit, as_json=as_json)
        if output is None and not as_json and not each:
            _say_what_was_not_decided(rows)
        return
    wanted = [name.strip() for name in names.split(",")]
    if len(wanted) == 1:
        raise InputError(
            f"--labels {names!r} is one label, which each answer that has it would be sure of: name several, with "
            'commas between, as "Yes,No"'
        )
    frame = labels_of(opened, names, after=after, field=field, shared=shared.value)
    _check_found(frame, opened, wanted, None if after is None and field is None else _place(after, field))
    rows = frame.lazy() if each else label_choices(frame.lazy())
    columns = _OF_EACH if each else _OF_CHOSEN
    order = ["run", "completion_id", "label_index"] if each else ["label_probability", "run", "completion_id"]
    present_rows(with_prompt_ids(rows, opened.completions), columns, order, output=output, limit=limit, as_json=as_json)
    say_what_is_hidden(frame, err=output is not None or as_json)


def _rows_of_questions(opened: Store, names: str | None, question: str | None, *, each: bool) -> pl.LazyFrame:
    """The options of typed questions, or the likeliest of each question.

    Raises:
        InputError: labels are named beside a question, or there is no such question.
    """
    import polars as pl

    from logprob_store.errors import InputError

    if names is not None:
        raise InputError("--labels: the labels of a question are its options: leave --labels out")
    checked_question(opened, question)
    rows = opened.labels(None, question=question) if each else opened.decided()
    return rows if question is None else rows.filter(pl.col("question") == question)


def _say_what_was_not_decided(rows: pl.LazyFrame) -> None:
    """Say how many questions were refused, and how many have no answer."""
    import polars as pl

    is_refused, is_undecided = pl.col("refused"), pl.col("label").is_null()
    refused, missing, asked = (
        rows.select(is_refused.sum().alias("refused"), (is_undecided & ~is_refused).sum().alias("missing"), pl.len())
        .collect()
        .row(0)
    )
    if refused or missing:
        echo(f"of {counted(asked, 'question')}, refused: {refused}, without an answer that can be read: {missing}")


def _place(after: str | None, field: str | None) -> str:
    return f"--after {after!r}" if field is None else f"--field {field!r}"


def _check_found(frame: pl.DataFrame, opened: Store, wanted: list[str], place: str | None) -> None:
    """See that some answer has the place, and some answer one of the labels.

    Raises:
        InputError: none has.
    """
    import polars as pl

    from logprob_store.errors import InputError

    answers = frame["completion_id"].n_unique()
    if frame.height and place is not None and frame["position"].is_null().all():
        raise InputError(f"{place}: there is no such place in any of {counted(answers, 'answer')}")
    if frame.height and not frame.select((pl.col("mass") > 0).any()).item():
        texts = opened.completions.select(pl.col("text").str.slice(0, 30)).drop_nulls().unique().sort("text").head(5)
        begin = ", ".join(map(repr, texts.collect(engine="streaming")["text"])) or "without a text"
        raise InputError(
            f"none of {counted(answers, 'answer')} has one of the labels "
            f"{', '.join(wanted)}{f' at {place}' if place else ''}. "
            f"Answers begin so: {begin}. Labels that stand further on are found with --after or --field"
        )
