"""The pieces of a store that scores are computed of: tables of whole completions, which do not need one another.

Holds what a piece is, which pieces are read at the same time, and which a filter leaves out. Leaves out the scores
(`scores`) and what a store's pieces are (`logprob_store.store`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from logprob_store.metrics.engine.arrays import OrderedTokens

__all__ = ["Piece", "Tables", "batches", "may_hold"]

Tables: TypeAlias = tuple[pl.LazyFrame, pl.LazyFrame | None, pl.LazyFrame]
"""Tokens, alternatives, completions."""


class Piece(NamedTuple):
    """Tables of whole completions of one run (None: of any), and how many rows of tokens and alternatives they have.

    `in_order`, where there is one, gives their tokens as arrays, with `place` if asked for, or None where they do not
    lie in order.
    """

    run: str | None
    rows: int
    tables: Callable[[], Tables]
    in_order: Callable[[bool], Sequence[OrderedTokens | None]] | None = None


def may_hold(predicate: pl.Expr, run: str | None) -> bool:
    """Whether rows of a run can pass a filter: not if a condition on the run alone says no.

    polars does not know that a piece has one run, and would read all its tokens to join them with nothing.
    """
    if run is None:
        return True
    parts = predicate.meta.pop()
    if len(parts) == 2 and any((one & other).meta.eq(predicate) for one, other in (parts, parts[::-1])):  # noqa: PLR2004
        return all(may_hold(part, run) for part in parts)
    if set(predicate.meta.root_names()) != {"run"}:
        return True
    return pl.DataFrame({"run": [run]}).filter(predicate).height > 0


def batches(pieces: Sequence[Piece], rows: int) -> Iterator[list[Piece]]:
    """Pieces to read at the same time: a part is one row group, which polars does not read in parallel."""
    together: list[Piece] = []
    for piece in pieces:
        if together and sum(one.rows for one in together) + piece.rows > rows:
            yield together
            together = []
        together.append(piece)
    if together:
        yield together
