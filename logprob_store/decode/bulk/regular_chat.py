"""Regular logprobs of the chat shape in bulk: raw JSON of many choices to tables, without a Python object per token.

Turns what the scanner finds into rows and `wire` texts. Also cuts regular logprobs out of bodies that are known to be
JSON, so that the parser sees only the small rest. Values that are not regular are left to `token_by_token`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from logprob_store.decode.bulk.scan_loop import ABSENT, ITEM_KEYS, LISTED, SECTION_KEYS
from logprob_store.decode.bulk.scanned_rows import tables_from_columns
from logprob_store.decode.bulk.scanner import scan
from logprob_store.decode.formats.chat import SECTION_OF, make_template
from logprob_store.decode.row_segments import Segment
from logprob_store.decode.token_rows import SECTIONS
from logprob_store.decode.wire import as_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from logprob_store.decode.bulk.scanner import Integers, ScanBuffers, ScanResult
    from logprob_store.decode.row_segments import DecodedRows

_NO_OWNER = -1


class RegularLogprobs:
    """The regular values in many texts, scanned; each waits for the completion that it belongs to.

    Args:
        texts: valid JSON in UTF-8.
        buffers: hold the rows until `add_to`.
        within: whether the values are those of the keys `logprobs` in the texts; otherwise each text is a value.
    """

    def __init__(self, texts: Sequence[bytes], buffers: ScanBuffers, *, within: bool = False) -> None:
        self.scanned = scan(texts, buffers, within=within)
        self._owners = np.full(len(self.scanned.end), _NO_OWNER, np.int64)  # int64[values], completion_ids

    def assign(self, value: int, completion_id: int) -> None:
        """Say which completion a regular value belongs to; a value without one leaves no rows."""
        self._owners[value] = completion_id

    def add_to(self, rows: DecodedRows) -> dict[int, str]:
        """Add the rows of the values that were assigned; returns their `wire` texts by completion_id."""
        scanned, owners = self.scanned, self._owners
        codes = np.array([SECTIONS.index(SECTION_OF[key]) for key in SECTION_KEYS], np.uint8)
        source = rows.add_tables(*tables_from_columns(scanned.tokens, scanned.alternatives, owners, codes))
        segments = _segments(scanned, owners, codes, source)
        rows.add_segments(segment for segment in segments if segment[0] != _NO_OWNER)
        owned = owners != _NO_OWNER
        columns = (owners, scanned.sections, scanned.token_keys, scanned.alternative_keys, scanned.null_tops)
        values = zip(*(column[owned].tolist() for column in columns), strict=True)
        return {
            completion_id: _wire_text(tuple(sections), token_keys, alternative_keys, null_top=null_top)
            for completion_id, sections, token_keys, alternative_keys, null_top in values
        }


def read_regular_logprobs(values: Mapping[int, bytes], rows: DecodedRows, buffers: ScanBuffers) -> dict[int, str]:
    """Add the rows of the regular ones among raw `logprobs` by completion_id; returns the `wire` text of each."""
    regular = RegularLogprobs(list(values.values()), buffers)
    for value, (completion_id, end) in enumerate(zip(values, regular.scanned.end.tolist(), strict=True)):
        if end:
            regular.assign(value, completion_id)
    return regular.add_to(rows)


class CutBodies:
    """Bodies with their logprobs cut out: each value is replaced by its number, which makes them quick to parse.

    A body is cut only if everything that it has under a key `logprobs` is regular. The parser that finds the numbers
    decides whether they are the logprobs of choices.

    Args:
        bodies: by index, valid JSON in UTF-8.
        buffers: hold the rows until `regular.add_to`.
    """

    def __init__(self, bodies: Mapping[int, bytes], buffers: ScanBuffers) -> None:
        self._bodies = bodies
        self.regular = RegularLogprobs(list(bodies.values()), buffers, within=True)
        scanned = self.regular.scanned
        indices = list(bodies)
        self._spans: dict[int, list[tuple[int, int, int]]] = {index: [] for index in indices[: scanned.texts_done]}
        spans = zip(scanned.text_number.tolist(), scanned.start.tolist(), scanned.end.tolist(), strict=True)
        for value, (text_number, start, end) in enumerate(spans):
            if text_number < scanned.texts_done:
                self._spans[indices[text_number]].append((value, start, end))

    def placeholders(self, index: int) -> dict[bytes, int]:
        """The placeholders in a body, to the numbers of the values that they replace; none if it cannot be cut."""
        spans = self._spans.get(index, [])
        return {b"%d" % value: value for value, _, _ in spans} if all(end for _, _, end in spans) else {}

    def body(self, index: int) -> bytes:
        """A body with placeholders in place of its logprobs."""
        body = self._bodies[index]
        parts = []
        behind = 0
        for value, start, end in self._spans[index]:
            parts += [body[behind:start], b"%d" % value]
            behind = end
        return b"".join([*parts, body[behind:]])


def _segments(
    scanned: ScanResult, completion_ids: Integers, section_codes: npt.NDArray[np.uint8], source: int
) -> Iterator[Segment]:
    """One segment for each section of each value."""
    tokens, alternatives = scanned.tokens, scanned.alternatives
    starts = np.flatnonzero(tokens.position == 0)  # int64[segments], the rows of each section's first token
    ends = np.append(starts[1:], len(tokens.position))
    alternative_starts = np.searchsorted(alternatives.owner, starts)
    alternative_ends = np.append(alternative_starts[1:], len(alternatives.owner))
    return map(
        Segment,
        completion_ids[tokens.owner[starts]].tolist(),
        section_codes[tokens.section[starts]].tolist(),
        [source] * len(starts),
        zip(starts.tolist(), ends.tolist(), strict=True),
        zip(alternative_starts.tolist(), alternative_ends.tolist(), strict=True),
    )


@lru_cache(maxsize=256)
def _wire_text(sections: tuple[int, ...], token_keys: int, alternative_keys: int, *, null_top: bool) -> str:
    kinds = {
        key: "list" if kind == LISTED else "null"
        for key, kind in zip(SECTION_KEYS, sections, strict=True)
        if kind != ABSENT
    }
    token, alternative = (
        [key for n, key in enumerate(ITEM_KEYS) if mask >> n & 1] or None for mask in (token_keys, alternative_keys)
    )
    return as_text(make_template(kinds, token, alternative, null_top=null_top))
