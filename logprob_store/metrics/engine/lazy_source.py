"""LazyFrames of what polars has no expression for: a function of whole completions, run over a part of them at a time.

Leaves out what the functions compute (`fields`, `spans`, `labels`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl
from polars.io.plugins import register_io_source

from logprob_store.schema import KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["in_parts"]

_ROWS: Final = 2_000_000
"""Token rows at a time: some hundred megabytes."""


def in_parts(
    tokens: pl.LazyFrame,
    compute: Callable[[pl.LazyFrame, pl.Expr], pl.DataFrame],
    schema: pl.Schema,
    *,
    name: str,
    rows: int | None = None,
) -> pl.LazyFrame:
    """A LazyFrame of what `compute` gives, called for some completions at a time, so that memory is bounded.

    A filter on the keys goes to the files; other filters, and the choice of columns, are applied to each part.

    Args:
        tokens: what says how many rows each completion has.
        compute: from the tokens of some completions, and the condition on KEYS that chose them, to rows of `schema`.
        schema: what `compute` gives.
        name: what a query plan calls it.
        rows: token rows at a time, at least one completion; two million when None.
    """

    def plan(
        columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        by_key = predicate is not None and set(KEYS).issuperset(predicate.meta.root_names())
        wanted = tokens.filter(predicate) if by_key and predicate is not None else tokens
        tables = (compute(wanted.filter(condition), condition) for condition in _parts(wanted, rows or _ROWS))
        return as_asked(tables, columns, predicate, n_rows)

    return register_io_source(plan, schema=schema, is_pure=True, explain_name=name)


def as_asked(
    tables: Iterable[pl.DataFrame], columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None
) -> Iterator[pl.DataFrame]:
    """Of tables that follow one another, what a query asks a source for; none is made once there are enough rows."""
    left = n_rows
    for whole in tables:
        table = whole if predicate is None else whole.filter(predicate)
        if columns is not None:
            table = table.select(columns)
        if left is not None:
            table = table.head(left)
            left -= table.height
        yield table
        if left == 0:
            return


def _parts(tokens: pl.LazyFrame, rows: int) -> Iterator[pl.Expr]:
    """Conditions on KEYS that part the completions; one that is always true where all fit."""
    total = tokens.select(pl.len()).collect(engine="streaming").item()
    if total <= rows:
        yield pl.lit(value=True)
        return
    counts = tokens.group_by(KEYS).agg(pl.len()).collect(engine="streaming").sort(KEYS)
    part = (pl.col("len").cum_sum() - pl.col("len")).over("run") // rows
    bounds = counts.group_by("run", part.alias("part")).agg(
        pl.col("completion_id").min().alias("first"), pl.col("completion_id").max().alias("last")
    )
    for run, _, first, last in bounds.sort("run", "first").iter_rows():
        yield (pl.col("run") == run) & pl.col("completion_id").is_between(first, last)
