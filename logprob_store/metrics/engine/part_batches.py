"""Batches of a store's parts: tables of whole completions, which can be scored one batch at a time.

Here is which batches are read together, and which ones a filter leaves out. `analysis.opened_store` makes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from logprob_store.metrics.engine.arrays import OrderedTokens

Tables: TypeAlias = tuple[pl.LazyFrame, pl.LazyFrame | None, pl.LazyFrame]
"""Tokens, alternatives, completions."""


class PartBatch(NamedTuple):
    """Parts of a run, read together.

    Attributes:
        run: whose parts they are; None if they may be of any run.
        rows: tokens and alternatives in them.
        tables: opens their tables.
        ordered_tokens: where there is one, reads the tokens of each part as arrays, with `place` if it is given True;
            None for a part whose tokens do not lie in order.
    """

    run: str | None
    rows: int
    tables: Callable[[], Tables]
    ordered_tokens: Callable[[bool], Sequence[OrderedTokens | None]] | None = None


def may_hold(predicate: pl.Expr, run: str | None) -> bool:
    """Whether rows of a run can pass a filter: they cannot if a condition on the run alone excludes them.

    polars does not know that a batch has one run, and would read all its tokens to join them with nothing.
    """
    if run is None:
        return True
    parts = predicate.meta.pop()
    if len(parts) == 2 and any((one & other).meta.eq(predicate) for one, other in (parts, parts[::-1])):  # noqa: PLR2004
        return all(may_hold(part, run) for part in parts)
    if set(predicate.meta.root_names()) != {"run"}:
        return True
    return pl.DataFrame({"run": [run]}).filter(predicate).height > 0


def batches(parts: Sequence[PartBatch], rows: int) -> Iterator[list[PartBatch]]:
    """Batches to read at the same time: a part is one row group, which polars does not read in parallel.

    Args:
        parts: all of them.
        rows: the most rows to read at the same time, if there is more than one batch.
    """
    together: list[PartBatch] = []
    for batch in parts:
        if together and sum(one.rows for one in together) + batch.rows > rows:
            yield together
            together = []
        together.append(batch)
    if together:
        yield together
