"""The judged pairs of confidence and truth, from which every metric in this folder is computed.

A row is judged when it has both a confidence and a truth. Rows with a null in either are left out and counted in
`unjudged`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.metrics.arguments import Column, as_column
from logprob_store.metrics.truth.value_checks import as_probability, as_truth

if TYPE_CHECKING:
    from collections.abc import Iterable

CONFIDENCE: Final = "__confidence"
CORRECT: Final = "__correct"


def is_judged(confidence: Column, correct: Column) -> pl.Expr:
    """Whether a row has both a confidence and a truth."""
    return as_column(confidence).is_not_null() & as_column(correct).is_not_null()


def judged_pairs(confidence: Column, correct: Column) -> tuple[pl.Expr, pl.Expr]:
    """The confidences and the truths (1.0 right, 0.0 wrong) of the judged rows, checked."""
    judged = is_judged(confidence, correct)
    return as_probability(confidence).filter(judged), as_truth(correct).filter(judged)


def judged_rows(
    frame: pl.DataFrame | pl.LazyFrame, confidence: Column, correct: Column, by: list[str]
) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """The judged rows, and how many rows are unjudged.

    Returns:
        The judged rows with the columns of `by`, CONFIDENCE and CORRECT (1.0 and 0.0), checked; and one row per group
        of `by`, or one row in all, with `unjudged`.
    """
    # A DataFrame is checked as a whole, so that an error names its row; a batch of a LazyFrame does not know its place.
    rows = frame.select(*by, as_probability(confidence).alias(CONFIDENCE), as_truth(correct).alias(CORRECT)).lazy()
    unjudged = (~is_judged(CONFIDENCE, CORRECT)).sum().cast(pl.Int64).alias("unjudged")
    counted = rows.group_by(by).agg(unjudged) if by else rows.select(unjudged)
    return rows.drop_nulls([CONFIDENCE, CORRECT]), counted


def group_columns(by: str | Iterable[str] | None) -> list[str]:
    """The names of the columns to group by: none for None."""
    if by is None:
        return []
    return [by] if isinstance(by, str) else list(by)
