"""Rows made in different ways, put together in the order of the contract without sorting a row.

A piece is a pair of tables; a `Segment` says which rows of a piece are one section of one completion. Leaves out how
rows are made (`rows`, `flat`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa

from logprob_store.decode.token_rows import (
    ALTERNATIVES_SCHEMA,
    SECTIONS,
    TOKENS_SCHEMA,
    RowBuilder,
    tokens_by_section,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from logprob_store.decode.token_rows import Token

_MANY_CHUNKS: Final = 64


class Segment(NamedTuple):
    """Rows `tokens` and `alternatives` (start and stop) of a piece; sorts in the order of the tables' rows."""

    completion_id: int
    section: int
    piece: int
    tokens: tuple[int, int]
    alternatives: tuple[int, int]


@dataclass(slots=True)
class Pieces:
    """All rows decoded so far. Piece 0 is what was read token by token."""

    slow: RowBuilder = field(default_factory=RowBuilder)
    segments: list[Segment] = field(default_factory=list)
    _tables: list[tuple[Any, Any]] = field(default_factory=list)

    def add_tokens(self, completion_id: int, tokens: Mapping[str, Sequence[Token | None]]) -> None:
        """Append the rows of one completion."""
        for section, listed in tokens_by_section(tokens):
            before = self.slow.counts
            self.slow.add(completion_id, section, listed)
            spans = zip(before, self.slow.counts, strict=True)
            self.segments.append(Segment(completion_id, SECTIONS.index(section), 0, *spans))

    def add_tables(self, tokens: Any, alternatives: Any) -> int:
        """Append tables and give the number of the piece they are."""
        self._tables.append((tokens, ALTERNATIVES_SCHEMA.empty_table() if alternatives is None else alternatives))
        return len(self._tables)

    def holds(self, completion_id: int, section: str) -> bool:
        """Whether rows of this section are among those that were added last, which are this completion's."""
        code = SECTIONS.index(section)
        own = takewhile(lambda one: one.completion_id == completion_id, reversed(self.segments))
        return any(one.section == code for one in own)

    def token_counts(self) -> Counter[int]:
        """Tokens of each completion, an echoed prompt's included."""
        counts: Counter[int] = Counter()
        for segment in self.segments:
            counts[segment.completion_id] += segment.tokens[1] - segment.tokens[0]
        return counts

    def tables(self, keep: Callable[[int], bool]) -> tuple[Any, Any]:
        """The tables of tokens and alternatives of the completions to keep, sorted."""
        pieces = [self.slow.tables(), *self._tables]
        segments = sorted(segment for segment in self.segments if keep(segment.completion_id))
        tokens = [(segment.piece, *segment.tokens) for segment in segments]
        alternatives = [(segment.piece, *segment.alternatives) for segment in segments]
        return (
            _gather([piece[0] for piece in pieces], tokens, TOKENS_SCHEMA),
            _gather([piece[1] for piece in pieces], alternatives, ALTERNATIVES_SCHEMA),
        )


def _gather(tables: list[Any], spans: list[tuple[int, int, int]], schema: Any) -> Any:
    """The spans one behind the other; neighbours in one table are one slice, so that regular answers cost nothing."""
    joined: list[tuple[int, int, int]] = []
    for piece, start, stop in spans:
        if start == stop:
            continue
        if joined and joined[-1][0] == piece and joined[-1][2] == start:
            joined[-1] = (piece, joined[-1][1], stop)
        else:
            joined.append((piece, start, stop))
    slices = [tables[piece].slice(start, stop - start) for piece, start, stop in joined]
    table = pa.concat_tables(slices) if slices else schema.empty_table()
    return table.combine_chunks() if len(slices) > _MANY_CHUNKS else table
