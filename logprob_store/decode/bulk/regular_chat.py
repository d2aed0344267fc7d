"""Regular chat `logprobs` in bulk: the raw JSON of many to tables, no Python object per token.

Holds what the scanner's findings mean for tables and templates, and the cutting of them out of bodies: a body that is
known to be JSON is scanned before anything else reads it, and what is left is small. What is not regular is left to
the exact way (`chat`). Leaves out the scanner (`scan`) and the columns (`flat`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from logprob_store.decode.bulk.scanned_rows import tables_of
from logprob_store.decode.formats.chat import SECTION_OF, make_template
from logprob_store.decode.segments import Segment
from logprob_store.decode.token_rows import SECTIONS
from logprob_store.decode.wire import as_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from logprob_store.decode.bulk.scanner import Room, Scanned
    from logprob_store.decode.segments import Pieces


class Found:
    """The regular logprobs of many texts: rows that wait to be told whose they are.

    Args:
        texts: valid JSON in UTF-8.
        room: what the rows stand in until `add_to`.
        within: whether the values stand in the texts, or are these.
    """

    def __init__(self, texts: Sequence[bytes], room: Room, *, within: bool = False) -> None:
        from logprob_store.decode.bulk.scanner import (
            scan,  # half a second, and the first time ever some more to compile
        )

        self.scanned = scan(texts, room, within=within)
        self._owners = np.full(len(self.scanned.end), -1, np.int64)

    def belongs(self, value: int, completion_id: int) -> None:
        """Say whose a regular value is; nobody's are left out."""
        self._owners[value] = completion_id

    def add_to(self, pieces: Pieces) -> dict[int, str]:
        """Add the rows; completion_id to the `wire` column of each."""
        from logprob_store.decode.bulk.scan_loop import SECTION_KEYS

        scanned, owners = self.scanned, self._owners
        codes = np.array([SECTIONS.index(SECTION_OF[key]) for key in SECTION_KEYS], np.uint8)
        piece = pieces.add_tables(*tables_of(scanned.tokens, scanned.alternatives, owners, codes))
        pieces.segments.extend(segment for segment in _segments(scanned, owners, codes, piece) if segment[0] >= 0)
        owned = owners >= 0
        columns = (owners, scanned.sections, scanned.token_keys, scanned.alternative_keys, scanned.null_tops)
        said = zip(*(column[owned].tolist() for column in columns), strict=True)
        return {
            completion_id: _wire(tuple(sections), token_keys, alternative_keys, null_top=null_top)
            for completion_id, sections, token_keys, alternative_keys, null_top in said
        }


def read_regular(slices: Mapping[int, bytes], pieces: Pieces, room: Room) -> dict[int, str]:
    """Decode the regular ones of raw `logprobs` by completion_id; for each that was, its `wire` column."""
    found = Found(list(slices.values()), room)
    for value, (completion_id, end) in enumerate(zip(slices, found.scanned.end.tolist(), strict=True)):
        if end:
            found.belongs(value, completion_id)
    return found.add_to(pieces)


class CutBodies:
    """Bodies with the number of a value in place of each `logprobs`: what is left of them is read in no time.

    A body is cut only if all that it has under that key is regular. Whether these are the logprobs of its choices is
    for the reader to see, who finds the numbers.

    Args:
        bodies: valid JSON, by a number of the caller's.
        room: as for `Found`.
    """

    def __init__(self, bodies: Mapping[int, bytes], room: Room) -> None:
        self._bodies = bodies
        self.found = Found(list(bodies.values()), room, within=True)
        scanned = self.found.scanned
        numbers = list(bodies)
        self._spans: dict[int, list[tuple[int, int, int]]] = {number: [] for number in numbers[: scanned.done]}
        spans = zip(scanned.text.tolist(), scanned.start.tolist(), scanned.end.tolist(), strict=True)
        for value, (text, start, end) in enumerate(spans):
            if text < scanned.done:
                self._spans[numbers[text]].append((value, start, end))

    def values(self, number: int) -> dict[bytes, int]:
        """The values that stand in a body, by what stands in their place when it is cut; none if it cannot be cut."""
        spans = self._spans.get(number, [])
        return {b"%d" % value: value for value, _, _ in spans} if all(end for _, _, end in spans) else {}

    def body(self, number: int) -> bytes:
        """A body, cut."""
        body = self._bodies[number]
        parts = []
        behind = 0
        for value, start, end in self._spans[number]:
            parts += [body[behind:start], b"%d" % value]
            behind = end
        return b"".join([*parts, body[behind:]])


def _segments(found: Scanned, ids: Any, codes: Any, piece: int) -> Iterator[Segment]:
    """The runs of rows that are one section of one completion."""
    tokens, alternatives = found.tokens, found.alternatives
    starts = np.flatnonzero(tokens.place == 0)  # a section's first token
    ends = np.append(starts[1:], len(tokens.place))
    other_starts = np.searchsorted(alternatives.owner, starts)
    other_ends = np.append(other_starts[1:], len(alternatives.owner))
    return map(
        Segment,
        ids[tokens.owner[starts]].tolist(),
        codes[tokens.section[starts]].tolist(),
        [piece] * len(starts),
        zip(starts.tolist(), ends.tolist(), strict=True),
        zip(other_starts.tolist(), other_ends.tolist(), strict=True),
    )


@lru_cache(maxsize=256)
def _wire(sections: tuple[int, ...], token_keys: int, alternative_keys: int, *, null_top: bool) -> str:
    from logprob_store.decode.bulk.scan_loop import ABSENT, ITEM_KEYS, LISTED, SECTION_KEYS

    kinds = {
        key: "list" if found == LISTED else "null"
        for key, found in zip(SECTION_KEYS, sections, strict=True)
        if found != ABSENT
    }
    token, alternative = (
        [key for n, key in enumerate(ITEM_KEYS) if mask >> n & 1] or None for mask in (token_keys, alternative_keys)
    )
    return as_text(make_template(kinds, token, alternative, null_top=null_top))
