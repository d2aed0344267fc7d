"""Regular chat `logprobs` values in bulk: many raw JSON slices to tables, no Python object per token.

A slice is *regular* when all its tokens have the same keys, and all its alternatives too, and every value is one that a
row holds exactly. That is proven, never assumed:

- The keys are guessed from the slice's first token, and the slices that share a guess are parsed with a schema of just
  these keys. The parser refuses any other key and any key that stands twice, so no key is *extra*.
- Arrow cannot tell an absent key from null. Where a value is null, the slice's keys are counted: `"bytes":` must stand
  as often as there are objects, so no key is *absent*. (Inside a string a quote is escaped, so that a match is a key.)
- The few numbers whose JSON spelling floats lose (-0, integers beyond 2**53) are looked for in the text.

What is not proven is left to the exact way (`chat`). Leaves out the flattening itself (`flat`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from logprob_store.decode.chat import ALTERNATIVE_KEYS, SECTION_OF, TOKEN_KEYS, make_template
from logprob_store.decode.chat_proof import Proof
from logprob_store.decode.flat import alternative_table, token_table, unnest
from logprob_store.decode.pieces import Segment
from logprob_store.decode.rows import SECTIONS
from logprob_store.decode.wire import as_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from logprob_store.decode.chat_proof import Held
    from logprob_store.decode.flat import Nest
    from logprob_store.decode.pieces import Pieces

_SMALL: Final = 200
"""Slices of fewer bytes hold a token or none: reading them one by one is as fast."""

_LARGEST_BLOCK: Final = 2**31 - 1
_WAYS: Final = 16
_HOPELESS: Final = 16

_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_FLAT: Final = rb'(?:[^"{}]++|' + _STRING + rb")*+"
_FIRST: Final = re.compile(
    rb"\[\s*+\{(" + _FLAT + rb")(?:\{(" + _FLAT + rb")\}(?:\s*+,\s*+\{" + _FLAT + rb"\})*+(" + _FLAT + rb"))?+\}"
)
"""The first token: what stands before its alternatives, its first alternative, what stands behind them."""

_ANY_STRING: Final = re.compile(_STRING + rb"(\s*+:)?+")
_LEAST: Final = {"token", "logprob"}
_IDS: Final = {"id", "token_id"}
_SECTION_KEY: Final = re.compile(rb'"(content|refusal|reasoning_content)"\s*+:')
_TAIL: Final = re.compile(rb'(?:,\s*+"(?:content|refusal|reasoning_content)"\s*+:\s*+null\s*+)++\}$')
_TAIL_BYTES: Final = 96


class Slice(NamedTuple):
    """The raw `logprobs` of one choice; `reasoning` says that its message has reasoning, so tokens of it may follow."""

    completion_id: int
    content: bytes
    reasoning: bool = False


class Keys(NamedTuple):
    """The keys of a regular slice: of the whole, of each token, of each alternative."""

    sections: tuple[str, ...]
    token: tuple[str, ...]
    alternative: tuple[str, ...]


def read_regular(slices: Sequence[Slice], pieces: Pieces) -> dict[int, str]:
    """Decode the slices that are regular; completion_id to the `wire` column of each that was."""
    groups: defaultdict[Keys, list[Slice]] = defaultdict(list)
    for raw in slices:
        # In valid JSON a line break is white space: strings have theirs escaped.
        one = raw._replace(content=raw.content.replace(b"\n", b" ")) if b"\n" in raw.content else raw
        keys = guess_keys(one)
        if keys is not None:
            groups[keys].append(one)
    wires: dict[int, str] = {}
    for keys, group in groups.items():
        parsed = list(_Search(schema_of(keys)).parse(group))
        if not parsed:
            continue
        members = [one for part, _ in parsed for one in part]
        table = pa.concat_tables([table for _, table in parsed]).combine_chunks()
        start = 0
        for batch in table.to_batches():
            _read_batch(batch, keys, members[start : start + len(batch)], pieces, wires)
            start += len(batch)
    return wires


def guess_keys(one: Slice) -> Keys | None:
    """The keys that a slice seems to have, None if it cannot be regular or is not worth it."""
    content = one.content
    first = _FIRST.search(content) if len(content) >= _SMALL and content.startswith(b"{") else None
    if first is None:
        return None
    before, alternative, behind = first.groups(b"")
    token = _keys_in(before + behind)
    tail = _TAIL.search(content, len(content) - _TAIL_BYTES)
    sections = _SECTION_KEY.findall(content[: first.start()] + (tail.group() if tail else b""))
    if one.reasoning and b'"reasoning_content":' in content:
        sections.append(b"reasoning_content")
    other = _keys_in(alternative) if alternative else token - {"top_logprobs"}
    if not (_LEAST <= token <= {*TOKEN_KEYS} and _LEAST <= other <= {*ALTERNATIVE_KEYS}):
        return None
    if token.issuperset(_IDS) or other.issuperset(_IDS):  # there is one column
        return None
    return Keys(
        tuple(key for key in SECTION_OF if key.encode() in sections),
        tuple(key for key in TOKEN_KEYS if key in token),
        tuple(key for key in ALTERNATIVE_KEYS if key in other),
    )


def _keys_in(text: bytes) -> set[str]:
    """The keys that stand in a piece of an object: the strings that a colon follows."""
    return {
        match.group()[1 : -1 - len(match[1])].decode(errors="replace")
        for match in _ANY_STRING.finditer(text)
        if match[1]
    }


@lru_cache(maxsize=64)
def schema_of(keys: Keys) -> Any:
    """What the parser is told: these keys and no others."""
    kinds: dict[str, Any] = {
        "token": pa.large_string(),
        "logprob": pa.float64(),
        "bytes": pa.list_(pa.uint8()),
        "id": pa.int32(),
        "token_id": pa.int32(),
    }
    alternative = pa.struct([(key, kinds[key]) for key in keys.alternative])
    kinds["top_logprobs"] = pa.list_(alternative)
    token = pa.struct([(key, kinds[key]) for key in keys.token])
    return pa.schema([(key, pa.list_(token)) for key in keys.sections])


class _Search:
    """Parses groups, and finds the bad slices of a group by splitting it 16 ways: a few calls per bad slice."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._good = 0
        self._bad = 0

    def parse(self, slices: list[Slice]) -> Iterator[tuple[list[Slice], Any]]:
        table = _parse(slices, self._schema)
        if table is not None:
            self._good += 1
            yield slices, table
        elif len(slices) == 1:
            self._bad += 1
        elif self._good or self._bad < _HOPELESS:  # else: this server is not regular, do not look on
            size = -(-len(slices) // _WAYS)
            for start in range(0, len(slices), size):
                yield from self.parse(slices[start : start + size])


def _parse(slices: list[Slice], schema: Any) -> Any:
    joined = b"\n".join([one.content for one in slices])
    try:
        table = pj.read_json(
            pa.py_buffer(joined),
            # One block: a caller has as many of these at work as there are threads.
            read_options=pj.ReadOptions(use_threads=False, block_size=min(len(joined) + 1, _LARGEST_BLOCK)),
            parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
        )
    except pa.ArrowInvalid:
        return None
    return table if len(table) == len(slices) else None


def _read_batch(batch: Any, keys: Keys, slices: Sequence[Slice], pieces: Pieces, wires: dict[int, str]) -> None:
    proof = Proof([one.content for one in slices], keys.token, keys.alternative)
    ids = [one.completion_id for one in slices]
    found = []
    for key in keys.sections:
        tokens = unnest(batch.column(key))
        if len(tokens.items) == 0:
            continue
        others = unnest(tokens.items.field("top_logprobs")) if "top_logprobs" in keys.token else None
        proof.look_at(tokens, others)
        found.append((SECTION_OF[key], tokens, others))
    regular = proof.regular()
    for section, tokens, others in found:
        segments = _add_tables(section, tokens, others, ids, pieces)
        pieces.segments.extend(segment for row, segment in segments if regular[row])
    present = [pc.is_valid(batch.column(key)).to_pylist() for key in keys.sections]
    for row, completion_id in enumerate(ids):
        if regular[row]:
            kinds = tuple(column[row] for column in present)
            wires[completion_id] = _wire(keys, kinds, proof.held(row))


def _add_tables(
    section: str, tokens: Nest, others: Nest | None, ids: list[int], pieces: Pieces
) -> Iterator[tuple[int, Segment]]:
    """Make the rows of one section, and say for each slice which of them are its own."""
    table = token_table(pa.array(ids, pa.int64()), section, tokens)
    piece = pieces.add_tables(table, None if others is None else alternative_table(table, section, others))
    starts = tokens.starts.to_pylist()
    other_starts = [0] * len(starts) if others is None else others.starts.take(tokens.starts).to_pylist()
    code = SECTIONS.index(section)
    spans = zip(ids, pairwise(starts), pairwise(other_starts), strict=True)
    for row, (completion_id, span, other_span) in enumerate(spans):
        if span[0] < span[1]:
            yield row, Segment(completion_id, code, piece, span, other_span)


@lru_cache(maxsize=256)
def _wire(keys: Keys, present: tuple[bool, ...], held: Held) -> str:
    kinds = {key: "list" if there else "null" for key, there in zip(keys.sections, present, strict=True)}
    return as_text(
        make_template(
            kinds,
            keys.token if held.tokens else None,
            keys.alternative if held.alternatives else None,
            null_top=held.null_top,
        )
    )
