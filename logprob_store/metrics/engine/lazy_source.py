"""LazyFrames over functions that polars has no expression for, computed for some whole completions at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl
from polars.io.plugins import register_io_source

from logprob_store.schema import KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["apply_pushdown", "scan_in_batches"]

_ROWS_PER_BATCH: Final = 2_000_000
"""Token rows that are read at a time: some hundred megabytes."""


def scan_in_batches(
    tokens: pl.LazyFrame,
    compute: Callable[[pl.LazyFrame, pl.Expr], pl.DataFrame],
    schema: pl.Schema,
    *,
    explain_name: str,
    rows_per_batch: int | None = None,
) -> pl.LazyFrame:
    """A LazyFrame of the rows that `compute` returns, called with one batch of completions at a time.

    Memory is bounded by the size of a batch. A filter on KEYS alone is applied to `tokens`, and so reaches their files;
    other filters and the choice of columns are applied to what `compute` returns.

    Args:
        tokens: rows with KEYS; how many a completion has decides the batches.
        compute: takes the tokens of a batch and the condition on KEYS that selects it; returns rows of `schema`.
        schema: of the rows that `compute` returns.
        explain_name: the name of the scan in a query plan.
        rows_per_batch: token rows of a batch, which has one completion at least; two million when None.
    """

    def read(
        columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        on_keys = predicate is not None and set(KEYS).issuperset(predicate.meta.root_names())
        selected = tokens.filter(predicate) if on_keys and predicate is not None else tokens
        conditions = _batch_conditions(selected, rows_per_batch or _ROWS_PER_BATCH)
        tables = (compute(selected.filter(condition), condition) for condition in conditions)
        return apply_pushdown(tables, columns, predicate, n_rows)

    return register_io_source(read, schema=schema, is_pure=True, explain_name=explain_name)


def apply_pushdown(
    tables: Iterable[pl.DataFrame], columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None
) -> Iterator[pl.DataFrame]:
    """Apply to each table what polars pushes down to an IO source; stop taking tables once there are `n_rows` rows.

    Args:
        tables: of one schema.
        columns: the columns to return, all when None.
        predicate: the rows to return, all when None.
        n_rows: the most rows to return, over all tables; all when None.
    """
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


def _batch_conditions(tokens: pl.LazyFrame, rows: int) -> Iterator[pl.Expr]:
    """Conditions on KEYS that divide the completions into batches; one that is always true where all fit in one."""
    total = tokens.select(pl.len()).collect(engine="streaming").item()
    if total <= rows:
        yield pl.lit(value=True)
        return
    counts = tokens.group_by(KEYS).agg(pl.len()).collect(engine="streaming").sort(KEYS)
    batch = (pl.col("len").cum_sum() - pl.col("len")).over("run") // rows
    bounds = counts.group_by("run", batch.alias("batch")).agg(
        pl.col("completion_id").min().alias("first"), pl.col("completion_id").max().alias("last")
    )
    for run, _, first, last in bounds.sort("run", "first").iter_rows():
        yield (pl.col("run") == run) & pl.col("completion_id").is_between(first, last)
