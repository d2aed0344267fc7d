"""Checks that a confidence is a probability in [0, 1], and that a truth is a Boolean, or 0 and 1.

The error of a failed check names the row, counted within what polars evaluates at once: all rows in memory, one batch
when streaming. Nulls pass.
"""

from __future__ import annotations

import polars as pl

from logprob_store.metrics.arguments import Column, as_column


def as_probability(column: Column) -> pl.Expr:
    """The column as Float64; polars checks that it is null or in [0, 1] when it evaluates the expression."""
    return as_column(column).map_batches(checked_probabilities, return_dtype=pl.Float64, is_elementwise=True)


def as_truth(column: Column) -> pl.Expr:
    """The column as 1.0 and 0.0; polars checks that it is Boolean, 0, 1 or null when it evaluates the expression."""
    return as_column(column).map_batches(checked_truths, return_dtype=pl.Float64, is_elementwise=True)


def checked_probabilities(values: pl.Series) -> pl.Series:
    """The values as Float64.

    Raises:
        ValueError: a value is NaN or outside [0, 1]; the message names the first.
    """
    numbers = _as_floats(values, "a probability in [0, 1]")
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
        ValueError: a value is neither Boolean nor 0 nor 1; the message names the first.
    """
    numbers = _as_floats(values, "true or false, 1 or 0")
    bad = (numbers != 0.0) & (numbers != 1.0)
    if bad.any():
        row = bad.fill_null(value=False).arg_true()[0]
        raise ValueError(f"{values.name}: {numbers[row]} at row {row} is not true or false, 1 or 0")
    return numbers


def _as_floats(values: pl.Series, expected: str) -> pl.Series:
    dtype = values.dtype
    if dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
        return values.cast(pl.Float64)
    raise ValueError(f"{values.name}: a column of {dtype} is not {expected}")
