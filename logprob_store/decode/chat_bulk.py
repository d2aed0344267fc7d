"""Regular chat `logprobs` in bulk: the raw JSON of many to tables, no Python object per token.

Holds what the scanner's findings mean for tables and templates. What is not regular is left to the exact way (`chat`).
Leaves out the scanner (`scan`) and the columns (`flat`).
"""

from __future__ import annotations

from functools import lru_cache
from queue import Empty
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from logprob_store.decode.chat import SECTION_OF, make_template
from logprob_store.decode.flat import tables_of
from logprob_store.decode.pieces import Segment
from logprob_store.decode.rows import SECTIONS
from logprob_store.decode.wire import as_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from queue import SimpleQueue

    from logprob_store.decode.pieces import Pieces
    from logprob_store.decode.scan import Room, Scanned

_WORTH_IT: Final = 1 << 20
"""With fewer bytes than these, loading the scanner takes longer than reading token by token."""


class Slice(NamedTuple):
    """The raw `logprobs` of one choice: valid JSON in UTF-8."""

    completion_id: int
    content: bytes


def read_regular(slices: Sequence[Slice], pieces: Pieces, rooms: SimpleQueue[Room]) -> dict[int, str]:
    """Decode the slices that are regular; completion_id to the `wire` column of each that was.

    Takes a room for the scan from `rooms`, or makes one, and leaves it there for the next.
    """
    if sum(len(one.content) for one in slices) < _WORTH_IT:
        return {}
    from logprob_store.decode.scan import Room, scan  # half a second, and the first time ever some more to compile

    try:
        room = rooms.get_nowait()
    except Empty:
        room = Room()
    found = scan([one.content for one in slices], room)
    ids = np.array([one.completion_id for one in slices], np.int64)
    codes = np.array([SECTIONS.index(section) for section in SECTION_OF.values()], np.uint8)
    piece = pieces.add_tables(*tables_of(found.tokens, found.alternatives, ids, codes))
    pieces.segments.extend(_segments(found, ids, codes, piece))
    rooms.put(room)  # not before: what was found stands in it
    return _wires(found, slices)


def _wires(found: Scanned, slices: Sequence[Slice]) -> dict[int, str]:
    regular = found.regular
    columns = (found.sections, found.token_keys, found.alternative_keys, found.null_tops)
    said = zip(np.flatnonzero(regular).tolist(), *(column[regular].tolist() for column in columns), strict=True)
    return {
        slices[n].completion_id: _wire(tuple(sections), token_keys, alternative_keys, null_top=null_top)
        for n, sections, token_keys, alternative_keys, null_top in said
    }


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
    from logprob_store.decode.scan_loop import ABSENT, ITEM_KEYS, LISTED, SECTION_KEYS

    kinds = {
        key: "list" if found == LISTED else "null"
        for key, found in zip(SECTION_KEYS, sections, strict=True)
        if found != ABSENT
    }
    token, alternative = (
        [key for n, key in enumerate(ITEM_KEYS) if mask >> n & 1] or None for mask in (token_keys, alternative_keys)
    )
    return as_text(make_template(kinds, token, alternative, null_top=null_top))
