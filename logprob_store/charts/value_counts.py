"""How many completions have which values: one pass over any number of rows, and a table that stays small.

Values that are nearly equal are counted together, and remembered by the least and the greatest of them: below 1 they
are told apart to 1/4000, elsewhere to one part in 2954 (2048 steps from a number to its double). Histograms, quartiles
and the ends of an axis are then found in the small table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

_STEPS_TO_DOUBLE: Final = 2048
STEPS_BELOW_1: Final = 4000
_TOO_LARGE: Final = 1e300
"""Numbers that only a broken server sends, and whose differences may be no floats, count as not finite."""
_LEAST_BY_STEPS: Final = 1 / 64
"""Below this, steps of 1/4000 would be coarse."""

GROUP: Final = "group"


def value_counts(rows: pl.LazyFrame, scores: Sequence[str], *, by: str | None = None) -> pl.DataFrame:
    """Count the values of some scores, in one pass that holds no row.

    Args:
        rows: such as `store.scores()`.
        scores: its columns of numbers.
        by: a column to count by, such as `run`; all together when None, with a null for the group.

    Returns:
        One row per score, group and narrow range of values: `score`, `group`, `rows`, `lowest`, `highest`; both are
        null for the rows without a value, and NaN for those that are not finite, or above 1e300.

    >>> counts = value_counts(pl.LazyFrame({"n": [7, 7, None]}), ["n"])
    >>> counts.sort("lowest", nulls_last=True).rows()
    [('n', None, 2, 7.0, 7.0), ('n', None, 1, None, None)]
    """
    names = list(enumerate(scores))  # a score may be called like a column here
    group = pl.lit(None, pl.String) if by is None else pl.col(by).cast(pl.String)
    x = pl.col("x")
    is_number = x.abs() < _TOO_LARGE
    long = (
        rows.select(group.alias(GROUP), *(pl.col(score).cast(pl.Float64).alias(str(place)) for place, score in names))
        .unpivot(index=GROUP, variable_name="place", value_name="x")
        .with_columns(x=pl.when(is_number).then(x).when(x.is_not_null()).then(float("nan")))
        .with_columns(
            steps=pl.when(is_number, x != 0).then(near_values(x)),
            sign=pl.when(is_number).then(x.sign()),
            is_missing=x.is_null(),
        )
    )
    counted = long.group_by("place", GROUP, "sign", "steps", "is_missing").agg(
        rows=pl.len().cast(pl.Int64), lowest=x.min(), highest=x.max()
    )
    score = pl.col("place").replace_strict({str(place): name for place, name in names}, return_dtype=pl.String)
    return counted.select(score.alias("score"), GROUP, "rows", "lowest", "highest").collect(engine="streaming")


def near_values(x: pl.Expr, *, below_1: int = STEPS_BELOW_1, to_double: int = _STEPS_TO_DOUBLE) -> pl.Expr:
    """A number that nearly equal values of one sign share.

    Args:
        x: finite values other than 0.
        below_1: the steps from 0 to 1.
        to_double: the steps from a value to its double, above 1 and below 1/64, where equal steps would be coarse.
    """
    # From -below_1 - 1 to -1 for equal steps; the others are from 0 on, or below to_double * log2(1/64).
    equal = -1 - (x * below_1).floor()
    return pl.when(x.is_between(_LEAST_BY_STEPS, 1.0)).then(equal).otherwise((x.abs().log(2) * to_double).floor())
