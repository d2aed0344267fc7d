"""Which expressions are shares, or differences of two shares, and what they count.

An expression is known by how it is written and by what it gives for each row alone, never by its value: a change that
is 0.0 in all rows looks like a share of none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import polars as pl

from logprob_store.metrics.truth.share_differences import (
    grouped_paired_share_interval,
    paired_share_interval,
    share_difference_interval,
)
from logprob_store.metrics.truth.shares import grouped_share_interval, share_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logprob_store.metrics.truth.shares import Interval

_ROW: Final = "__row"


class _Counts(NamedTuple):
    """What an expression counts.

    Attributes:
        rows: the rows to count over.
        gained: over rows, the trials that have the property; of a difference, on the first side alone.
        lost: None for a share; of a difference, the trials that have it on the second side alone.
        trials: all trials.
    """

    rows: pl.DataFrame
    gained: pl.Expr
    lost: pl.Expr | None
    trials: pl.Expr


def share_intervals(
    frame: pl.DataFrame, expr: pl.Expr, *, groups: Sequence[str] = (), level: float = 0.95
) -> list[Interval] | None:
    """The interval of each column of an expression that is a share, or the difference of two; None if it is not.

    A share is the mean of true and false or of the whole numbers 0 and 1, whatever they are cast to; a sum of these, or
    a number of rows, divided by a number of rows; or 1 minus a share. A difference is paired where both shares are of
    the same rows, and so is the mean of differences of such values, or of the whole numbers -1, 0 and 1.
    """
    plain = expr.meta.undo_aliases()
    counts = _counted(frame, plain, list(groups))
    if counts is None:
        sides = _sides(plain, "-")
        if sides is None or any(_share(frame, side) is None for side in sides):
            return None
        of_sides = [share_intervals(frame, side, groups=groups, level=level) or [] for side in sides]
        return [share_difference_interval(*of) for of in zip(*of_sides, strict=True)]
    parts = [counts.gained, counts.trials] if counts.lost is None else [counts.gained, counts.lost, counts.trials]
    if groups:
        by_group = counts.rows.group_by(groups, maintain_order=True)
        columns = [by_group.agg(part).drop(groups).get_columns() for part in parts]
        of_groups = grouped_share_interval if counts.lost is None else grouped_paired_share_interval
        return [of_groups(*of, level=level) for of in zip(*columns, strict=True)]
    numbers = [counts.rows.select(part).row(0) for part in parts]
    of_rows = share_interval if counts.lost is None else paired_share_interval
    return [of_rows(*of, level=level) for of in zip(*numbers, strict=True)]


def _counted(frame: pl.DataFrame, plain: pl.Expr, groups: list[str]) -> _Counts | None:
    values = _averaged(plain)
    if values is not None and (difference := _difference_of_values(frame, values)) is not None:
        return difference
    return _share(frame, plain) or _difference_of_shares(frame, plain, groups)


def _share(frame: pl.DataFrame, plain: pl.Expr) -> _Counts | None:
    """What a share counts; None for another expression."""
    values = _averaged(plain)
    if values is not None:
        truths = _truths(frame, values)
        return None if truths is None else _Counts(frame, truths.cast(pl.Int64).sum(), None, truths.count())
    of, minus = _sides(plain, "/"), _sides(plain, "-")
    if of is not None:
        return _counted_of_counted(frame, *of)
    if minus is not None and any(minus[0].meta == pl.lit(one) for one in (1, 1.0)):
        rest = _share(frame, minus[1])
        return None if rest is None else rest._replace(gained=rest.trials.cast(pl.Int64) - rest.gained)
    return None


def _averaged(plain: pl.Expr) -> pl.Expr | None:
    """What an expression is the mean of."""
    inputs = plain.meta.pop()
    return inputs[0] if len(inputs) == 1 and plain.meta == inputs[0].mean() else None


def _sides(plain: pl.Expr, operator: Literal["/", "-"]) -> tuple[pl.Expr, pl.Expr] | None:
    """The two sides of a quotient or a difference."""
    inputs = plain.meta.pop()
    if len(inputs) != 2:  # noqa: PLR2004  it has two sides or is none
        return None
    second, first = inputs
    whole = first / second if operator == "/" else first - second
    return (first, second) if plain.meta == whole else None


def _types(frame: pl.DataFrame, expr: pl.Expr) -> list[pl.DataType]:
    return frame.lazy().select(expr).collect_schema().dtypes()


def _truths(frame: pl.DataFrame, values: pl.Expr) -> pl.Expr | None:
    """The values, without casts, if they are true and false or the whole numbers 0 and 1 in all columns."""
    types = _types(frame, values)
    if all(kind == pl.Boolean or kind.is_integer() for kind in types):
        found = frame.select(values).get_columns()
        return values if all(column.cast(pl.Int64).is_in([0, 1]).all() for column in found) else None
    inputs = values.meta.pop()
    is_cast = len(inputs) == 1 and len(set(types)) == 1 and values.meta == inputs[0].cast(types[0])
    return _truths(frame, inputs[0]) if is_cast else None


def _difference_of_values(frame: pl.DataFrame, values: pl.Expr) -> _Counts | None:
    """What the mean of the differences of two truths counts, row by row, or of the whole numbers -1, 0 and 1."""
    types = _types(frame, values)
    if len(types) != 1 or types[0].is_unsigned_integer():
        return None
    sides = _sides(values, "-")
    if sides is not None:
        if any(_truths(frame, side) is None for side in sides):
            return None
    elif not types[0].is_integer() or not frame.select((values.min() == -1) & (values.max() <= 1)).item():
        return None
    return _Counts(frame, (values == 1).sum(), (values == -1).sum(), values.count())


def _counted_of_counted(frame: pl.DataFrame, some: pl.Expr, all_of: pl.Expr) -> _Counts | None:
    """What a quotient counts, if its sides count rows, and each row of the first is one of the second."""
    if not (_is_count(frame, some) and _is_count(frame, all_of)):
        return None
    by_row = _by_row(frame, [some, all_of], [])
    alike = by_row is not None and (by_row["0"] <= by_row["1"]).all()
    return _Counts(frame, some.cast(pl.Int64), None, all_of.cast(pl.Int64)) if alike else None


def _is_count(frame: pl.DataFrame, expr: pl.Expr) -> bool:
    """Whether an expression is a number of rows, or the sum of truths."""
    if len(_types(frame, expr)) != 1:
        return False
    inputs = expr.meta.pop()
    if len(inputs) != 1:
        return expr.meta == pl.len()
    if expr.meta == inputs[0].sum():
        return _truths(frame, inputs[0]) is not None
    return expr.meta == inputs[0].len() or expr.meta == inputs[0].count()


def _by_row(frame: pl.DataFrame, counts: list[pl.Expr], groups: list[str]) -> pl.DataFrame | None:
    """What each row alone counts, in columns "0", "1", ...; None where that is not what they count together."""
    numbered = [count.cast(pl.Int64).alias(str(number)) for number, count in enumerate(counts)]
    rows = frame.with_row_index(_ROW).group_by(_ROW, *groups, maintain_order=True).agg(numbered)
    together = frame.select(numbered)
    return rows if rows.select(together.columns).sum().equals(together) else None


def _difference_of_shares(frame: pl.DataFrame, plain: pl.Expr, groups: list[str]) -> _Counts | None:
    """What the difference of two shares counts, if both are of the same rows."""
    sides = _sides(plain, "-")
    if sides is None:
        return None
    first, second = (_share(frame, side) for side in sides)
    if first is None or second is None or len(_types(frame, plain)) != 1:
        return None
    rows = _by_row(frame, [first.gained, second.gained, first.trials, second.trials], groups)
    if rows is None or not (rows["2"] == rows["3"]).all():
        return None
    difference = pl.col("0") - pl.col("1")
    return _Counts(rows, (difference == 1).sum(), (difference == -1).sum(), pl.col("2").sum())
