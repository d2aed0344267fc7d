"""Answers with their scores and whether they are right, by what a person names as the truth.

`logprobs calibrate`, a report and `store.plot` judge alike, as all of them ask here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from logprob_store.analysis.calibrators.expected_answers import with_expected, with_truth_file
from logprob_store.counted import counted
from logprob_store.errors import InputError
from logprob_store.metrics.truth.value_checks import checked_probabilities, checked_truths

if TYPE_CHECKING:
    from logprob_store.analysis.any_store import AnyStore


def judged_answers(
    store: AnyStore,
    *,
    expected: str | None = None,
    truth: str | Path | None = None,
    column: str = "correct",
    confidence: str = "confidence",
    extra: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The scores of a store with `correct`, from a column kept with the prompts or a file of truths.

    Args:
        store: the store, with the runs to judge.
        expected: a column kept with the prompts that says what the answer should be; or
        truth: a file of truths.
        column: the column of that file.
        confidence: the score to judge, or a kept column.
        extra: further columns by run and completion_id, such as `columns_of_question`; its `answer` is what is judged.

    Raises:
        InputError: neither source is named, or both; a column is missing or has wrong values; no answer has both a
            confidence and a truth. A message about a confidence or a column begins with that word.
    """
    if (expected is None) == (truth is None):
        raise InputError(
            "say what is right: expected, a column kept with the prompts, or truth, a file; one of the two"
        )
    answers = None if extra is None or "answer" not in extra.columns else extra
    rows = (
        with_expected(store, expected, answers=answers)
        if expected is not None
        else with_truth_file(store, Path(truth or ""), column, answers=answers)
    )
    if extra is not None and answers is None:
        rows = rows.join(extra, on=["run", "completion_id"], how="left")
    if confidence not in rows.columns and confidence in store.prompts.collect_schema():
        column_of_prompts = store.prompts.select(
            "run", "prompt_index", pl.col(confidence).cast(pl.Float64, strict=False)
        )
        rows = rows.join(column_of_prompts.collect(), on=["run", "prompt_index"], how="left")
    if confidence not in rows.columns:
        floats = [name for name, kind in rows.schema.items() if kind == pl.Float64]
        raise InputError(f"confidence {confidence}: there is no such score; there are {', '.join(floats)}")
    try:
        checked_probabilities(rows[confidence])
        checked_truths(rows["correct"])
    except ValueError as error:
        named = f"confidence {confidence}" if str(error).startswith(f"{confidence}: ") else f"column {column}"
        raise InputError(f"{named}: {str(error).partition(': ')[2]}") from error
    if not rows.select(pl.col(confidence).is_not_null() & pl.col("correct").is_not_null()).to_series().any():
        raise InputError(f"none of {counted(rows.height, 'answer')} has both a {confidence} and a truth")
    return rows


def columns_of_question(store: AnyStore, question: str) -> pl.DataFrame:
    """The answer to a typed question, with its bounds and the server's own confidence; `answer` is what is judged.

    A score is answered by its level's words, which people expect, and by its number where the truth is one.
    """
    rows = store.decided().filter(pl.col("question") == question)
    rows = rows.unique(["run", "completion_id"], keep="first", maintain_order=True)
    names = ("label", "label_probability", "label_lower", "label_upper", "served_confidence", "served_score", "level")
    return rows.select("run", "completion_id", *names, answer=pl.col("label")).collect()


def columns_of_labels(probabilities: pl.LazyFrame) -> pl.DataFrame:
    """The probability of each answer's likeliest label, with its bounds.

    Args:
        probabilities: from `store.labels`.
    """
    from logprob_store.metrics.labels.chosen_label import label_choices

    chosen = label_choices(probabilities).collect()
    return chosen.select("run", "completion_id", "label", "label_probability", "label_lower", "label_upper")


def named_question(store: AnyStore, question: str | None) -> str:
    """The name of a typed question that was asked; without a name, of the only one.

    Raises:
        InputError: there is no such question, or several and none is named.
    """
    asked = store.decisions.select("question").drop_nulls().unique().sort("question").collect()["question"].to_list()
    if question is None and len(asked) == 1:
        return str(asked[0])
    if question is None or question not in asked:
        problem = "name the question" if question is None else f"question {question!r} was not asked"
        raise InputError(f"{problem}; the runs asked: {', '.join(map(str, asked)) or 'none with a name'}")
    return question
