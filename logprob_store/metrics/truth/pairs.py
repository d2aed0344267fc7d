"""Confidences beside what was right: the pairs that every metric against labels is made of, and how many there are.

Leaves out the metrics themselves (`calibration`, `ranking`, `selective`) and where the truth comes from.

A confidence is a probability in [0, 1]; whether an answer was right is a Boolean, or 0 and 1. Anything else is an
error that names the first bad row, counted within what polars evaluates together: all rows in memory, one batch when
streaming. A row with a null in either is not judged: it is left out, and `unjudged` counts it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.metrics.arguments import Column, as_column

if TYPE_CHECKING:
    from collections.abc import Iterable

C: Final = "__confidence"
Y: Final = "__correct"


def accuracy(confidence: Column = "confidence", correct: Column = "correct") -> pl.Expr:
    """The share of judged answers that are right.

    Range [0, 1], up is better. Needs: confidence and correct, of which rows with a null in either are left out, so
    that it is of the same rows as the other metrics; no judged row gives null. Source: the mean of zeros and ones.

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.8, None], "correct": [True, False, True]})
    >>> frame.select(accuracy()).item()
    0.5
    """
    return pairs(confidence, correct)[1].mean().alias("accuracy")


def judged(confidence: Column = "confidence", correct: Column = "correct") -> pl.Expr:
    """How many rows have both a confidence and a truth: the n of every metric.

    Range [0, inf), rows. Needs: confidence, correct. Source: a count. Nulls in either are not counted; no rows give 0.

    >>> frame = pl.DataFrame({"confidence": [0.9, 0.8, None], "correct": [True, None, True]})
    >>> frame.select(judged(), unjudged()).row(0)
    (1, 2)
    """
    return both(confidence, correct).sum().cast(pl.Int64).alias("judged")


def unjudged(confidence: Column = "confidence", correct: Column = "correct") -> pl.Expr:
    """How many rows lack the confidence or the truth, and are in no metric. Show it beside each.

    Range [0, inf), rows, down is better. Needs, source, nulls: as `judged`, which counts the others.

    >>> pl.DataFrame({"confidence": [0.9, None], "correct": [True, True]}).select(unjudged()).item()
    1
    """
    return (~both(confidence, correct)).sum().cast(pl.Int64).alias("unjudged")


def both(confidence: Column, correct: Column) -> pl.Expr:
    """Whether a row has a confidence and a truth."""
    return as_column(confidence).is_not_null() & as_column(correct).is_not_null()


def pairs(confidence: Column, correct: Column) -> tuple[pl.Expr, pl.Expr]:
    """The confidences and the truths (1.0 right, 0.0 wrong) of the judged rows, checked."""
    usable = both(confidence, correct)
    return as_probability(confidence).filter(usable), as_truth(correct).filter(usable)


def as_probability(column: Column) -> pl.Expr:
    """The column as Float64, checked to be null or in [0, 1] when it is evaluated."""
    return as_column(column).map_batches(checked_probabilities, return_dtype=pl.Float64, is_elementwise=True)


def as_truth(column: Column) -> pl.Expr:
    """The column as 1.0 and 0.0, checked to be Boolean, 0, 1 or null when it is evaluated."""
    return as_column(column).map_batches(checked_truths, return_dtype=pl.Float64, is_elementwise=True)


def checked_probabilities(values: pl.Series) -> pl.Series:
    """The values as Float64.

    Raises:
        ValueError: one is NaN or outside [0, 1]; the message names the first.
    """
    numbers = _numbers(values, "a probability in [0, 1]")
    bad = ~numbers.is_between(0.0, 1.0)  # NaN is not between
    if bad.any():
        row = bad.fill_null(value=False).arg_true()[0]
        raise ValueError(
            f"{values.name}: {numbers[row]} at row {row} is not a probability in [0, 1]; take exp() of a logprob, "
            "and null where there is none"
        )
    return numbers


def checked_truths(values: pl.Series) -> pl.Series:
    """The values as 1.0 (right) and 0.0 (wrong).

    Raises:
        ValueError: one is neither Boolean nor 0 nor 1; the message names the first.
    """
    numbers = _numbers(values, "true or false, 1 or 0")
    bad = (numbers != 0.0) & (numbers != 1.0)
    if bad.any():
        row = bad.fill_null(value=False).arg_true()[0]
        raise ValueError(f"{values.name}: {numbers[row]} at row {row} is not true or false, 1 or 0")
    return numbers


def _numbers(values: pl.Series, wanted: str) -> pl.Series:
    kind = values.dtype
    if kind.is_numeric() or kind in (pl.Boolean, pl.Null):
        return values.cast(pl.Float64)
    raise ValueError(f"{values.name}: a column of {kind} is not {wanted}")


def as_list(by: str | Iterable[str] | None) -> list[str]:
    """The columns to group by, none for None."""
    if by is None:
        return []
    return [by] if isinstance(by, str) else list(by)


def judged_rows(
    frame: pl.DataFrame | pl.LazyFrame, confidence: Column, correct: Column, by: list[str]
) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """The judged rows as `by`, C and Y (checked, Y as 1.0 and 0.0), and one row per group with `unjudged`."""
    # A DataFrame is checked as a whole, so that an error names the row; batches of a LazyFrame do not know theirs.
    rows = frame.select(*by, as_probability(confidence).alias(C), as_truth(correct).alias(Y)).lazy()
    count = unjudged(C, Y)
    return rows.drop_nulls([C, Y]), rows.group_by(by).agg(count) if by else rows.select(count)
