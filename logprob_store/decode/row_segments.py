"""The rows decoded so far, from several sources, and their assembly in the row order of `schema` without sorting rows.

A source is a pair of tables, tokens and alternatives. A `Segment` says which rows of a source are one section of one
completion; only segments are sorted. Rows are made in `token_rows` and `bulk.scanned_rows`.
"""

from __future__ import annotations

from collections import Counter
from itertools import takewhile
from typing import TYPE_CHECKING, Final, NamedTuple

import pyarrow as pa

from logprob_store.decode.token_rows import (
    ALTERNATIVES_SCHEMA,
    SECTIONS,
    TOKENS_SCHEMA,
    RowBuilder,
    tokens_by_section,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from logprob_store.decode.token_rows import Token

_MAX_CHUNKS: Final = 64
"""A table of more chunks than this is copied into one: each chunk costs every later operation some time."""


class Segment(NamedTuple):
    """The rows of one section of one completion in one source. Sorts like the rows of the tables.

    Args:
        completion_id: the completion.
        section: the section's index in SECTIONS.
        source: the number of the source; 0 is the row builder.
        tokens: start and stop of its rows in the source's table of tokens.
        alternatives: start and stop of its rows in the source's table of alternatives.
    """

    completion_id: int
    section: int
    source: int
    tokens: tuple[int, int]
    alternatives: tuple[int, int]


class DecodedRows:
    """Rows of tokens and alternatives, from a row builder and from whole tables."""

    def __init__(self) -> None:
        self._builder = RowBuilder()
        self._tables: list[tuple[pa.Table, pa.Table]] = []
        self._segments: list[Segment] = []

    def add_tokens(self, completion_id: int, tokens: Mapping[str, Sequence[Token | None]]) -> None:
        """Append the tokens of one completion by section; a None has a position and no row."""
        for section, listed in tokens_by_section(tokens):
            before = self._builder.counts
            self._builder.add(completion_id, section, listed)
            spans = zip(before, self._builder.counts, strict=True)
            self._segments.append(Segment(completion_id, SECTIONS.index(section), 0, *spans))

    def add_tables(self, tokens: pa.Table, alternatives: pa.Table) -> int:
        """Append two tables; returns the number of the source that they are."""
        self._tables.append((tokens, alternatives))
        return len(self._tables)

    def add_segments(self, segments: Iterable[Segment]) -> None:
        """Append segments of a source; rows that no segment names are left out."""
        self._segments.extend(segments)

    def just_added(self, completion_id: int, section: str) -> bool:
        """Whether the last segments added, if they are of this completion, include the section."""
        code = SECTIONS.index(section)
        last = takewhile(lambda segment: segment.completion_id == completion_id, reversed(self._segments))
        return any(segment.section == code for segment in last)

    def token_counts(self) -> Counter[int]:
        """Tokens of each completion, those of an echoed prompt included."""
        counts: Counter[int] = Counter()
        for segment in self._segments:
            counts[segment.completion_id] += segment.tokens[1] - segment.tokens[0]
        return counts

    def tables(self, keep: Callable[[int], bool]) -> tuple[pa.Table, pa.Table]:
        """The tables of tokens and alternatives, in row order, of the completions to keep."""
        sources = [self._builder.tables(), *self._tables]
        segments = sorted(segment for segment in self._segments if keep(segment.completion_id))
        tokens = [(segment.source, *segment.tokens) for segment in segments]
        alternatives = [(segment.source, *segment.alternatives) for segment in segments]
        return (
            _concatenate([source[0] for source in sources], tokens, TOKENS_SCHEMA),
            _concatenate([source[1] for source in sources], alternatives, ALTERNATIVES_SCHEMA),
        )


def _concatenate(tables: list[pa.Table], spans: list[tuple[int, int, int]], schema: pa.Schema) -> pa.Table:
    """The rows of all spans (table, start, stop), in their order.

    Neighbouring spans of a table become one slice, so that nothing is copied where all answers are regular.
    """
    joined: list[tuple[int, int, int]] = []
    for table, start, stop in spans:
        if start == stop:
            continue
        if joined and joined[-1][0] == table and joined[-1][2] == start:
            joined[-1] = (table, joined[-1][1], stop)
        else:
            joined.append((table, start, stop))
    slices = [tables[table].slice(start, stop - start) for table, start, stop in joined]
    whole = pa.concat_tables(slices) if slices else schema.empty_table()
    return whole.combine_chunks() if len(slices) > _MAX_CHUNKS else whole
