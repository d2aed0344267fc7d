"""The content parts of a response: their lists of tokens joined into one value of the chat shape, and back.

The lists of one section are joined into one, so that positions run on over parts and items. A layout looks like
`{"format": "responses", "parts": [[0, 0, "content", 12], [1, 0, "content"], [2, 0, null]]}`: item, part, the key in the
chat value (null for `logprobs: null`) and how many tokens. The last part of a key takes all tokens that are left, so
that most answers have the same layout. `[3, 0, null, "x"]` stands for a part whose `logprobs` is no list, but "x".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from logprob_store.decode.formats.body import loads
from logprob_store.decode.wire import check_depth

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])


class ContentPart(NamedTuple):
    """A content part and its place in the body. `logprobs` is raw or parsed, or UNSET when the key is absent."""

    item: int
    part: int
    kind: Any
    text: str | None
    refusal: str | None
    logprobs: Any
    in_reasoning: bool

    @property
    def key(self) -> str:
        """The key of its tokens in the chat value."""
        if self.in_reasoning:
            return "reasoning_content"
        return "refusal" if self.kind == "refusal" else "content"

    @property
    def is_listed(self) -> bool:
        """Whether its logprobs are a list."""
        held = self.logprobs
        return held.startswith(b"[") if isinstance(held, bytes) else isinstance(held, list)


class PartSpan(NamedTuple):
    """How many tokens under a key of the chat value are those of one part.

    `key` is None for `logprobs` that are null or no list; then `odd` is the value. A length of -1 stands for all tokens
    that are left.
    """

    item: int
    part: int
    key: str | None
    length: int = -1
    odd: Any = None


def join_parts(parts: Sequence[ContentPart]) -> tuple[Any, list[PartSpan]]:
    """The lists of all parts as one value of the chat shape, raw if they are raw; and which tokens each part has."""
    held = [part for part in parts if part.logprobs is not msgspec.UNSET]
    lists = [part for part in held if part.is_listed]
    if not lists:
        return (None if held else msgspec.UNSET), [_odd_span(part) for part in held]
    joined: dict[str, list[Any]] = {}
    spans = []
    for part in held:
        if not part.is_listed:
            spans.append(_odd_span(part))
            continue
        joined.setdefault(part.key, []).append(part.logprobs)
        length = -1 if len(lists) == 1 else _length(part.logprobs)
        spans.append(PartSpan(part.item, part.part, part.key, length))
    if not isinstance(lists[0].logprobs, bytes):
        return {key: [token for listed in found for token in listed] for key, found in joined.items()}, spans
    return b"{" + b",".join(b'"%b":%b' % (key.encode(), _concatenate(raw)) for key, raw in joined.items()) + b"}", spans


def _odd_span(part: ContentPart) -> PartSpan:
    """The span of a part whose logprobs are null or no list."""
    value = loads(part.logprobs) if isinstance(part.logprobs, bytes) else part.logprobs
    check_depth(value)
    return PartSpan(part.item, part.part, None, odd=value)


def _length(listed: Any) -> int:
    return len(_LIST.decode(listed) if isinstance(listed, bytes) else listed)


def _concatenate(lists: Sequence[bytes]) -> bytes:
    """Several raw lists as one raw list."""
    if len(lists) == 1:
        return lists[0]
    insides = [listed[1:-1].strip() for listed in lists]
    return b"[" + b",".join(inside for inside in insides if inside) + b"]"


def make_layout(spans: Sequence[PartSpan]) -> dict[str, Any]:
    """The layout, from which `restore` makes the lists of the parts again."""
    last = {span.key: n for n, span in enumerate(spans)}
    counted: list[list[Any]] = []
    for n, span in enumerate(spans):
        more = [span.odd] if span.odd is not None else [span.length] if span.key and last[span.key] != n else []
        counted.append([span.item, span.part, span.key, *more])
    return {"format": "responses", "parts": counted}


def restore(layout: Mapping[str, Any], value: Any) -> list[dict[str, Any]]:
    """The lists of all parts, each with the indices of its item and part."""
    left = {key: list(listed) for key, listed in value.items()} if value is not None else {}
    restored: list[dict[str, Any]] = []
    for item, part, key, *more in layout["parts"]:
        listed = more[0] if more else None
        if key is not None:
            stop = listed
            listed, left[key] = left[key][:stop], [] if stop is None else left[key][stop:]
        restored.append({"item": item, "part": part, "logprobs": listed})
    return restored
