"""Batches of a store's parts: tables of whole completions, which are scored one batch at a time.

`analysis.opened_store` makes the batches; which are read together, and which a filter excludes, is decided here.
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
    """Some parts of a run, read together.

    Attributes:
        run: the run; None if the parts may be of several runs.
        rows: the rows of tokens and alternatives in the parts.
        tables: opens their tables.
        ordered_tokens: reads the generated tokens of each part as arrays, with `place` if it is called with True, and
            returns None for a part whose rows are not in the order of generation. None where there are no such files.
    """

    run: str | None
    rows: int
    tables: Callable[[], Tables]
    ordered_tokens: Callable[[bool], Sequence[OrderedTokens | None]] | None = None


def may_hold(predicate: pl.Expr, run: str | None) -> bool:
    """Whether rows of a run can pass a filter, which they cannot if a condition on the run alone excludes them.

    polars does not know that a batch has one run, and would read all its tokens to join them with no rows.
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
    """Groups of batches to read at the same time: polars does not read one row group, which a part is, in parallel.

    Args:
        parts: all batches.
        rows: the most rows of a group that has more than one batch.
    """
    together: list[PartBatch] = []
    for batch in parts:
        if together and sum(one.rows for one in together) + batch.rows > rows:
            yield together
            together = []
        together.append(batch)
    if together:
        yield together
