"""The `logprobs` of a choice's chunks as one value: that of the body which the same answer has without a stream.

It has a list under each key that was a list in any chunk, and null under a key that was null in all; it is null as a
whole if it was so in all. What deviates costs its own chunk alone:

- a list of tokens in place of the object is its `content`;
- a value that is no list, where others are lists, is an item of the joined list, and a list of parallel columns whose
  length is not that of its chunk is one item, too: its row is null;
- in place of the whole object, it is such an item inside `{"logprobs": ...}`, or stands in a list under `odd` where its
  chunk has no text that a token could spell;
- a chunk with a text and without any token, among chunks whose tokens spell their texts, has a null in their place.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.body import list_or_empty, object_or_empty

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Chunk = tuple[str, Any]
"""The text of a chunk, and its `logprobs`; None if it has none."""

_COLUMNS: Final = ("tokens", "token_logprobs", "top_logprobs", "token_ids")
"""The parallel lists of legacy completions, with an item for each token. Those of `text_offset` make no rows."""

_SECTIONS: Final = ("content", "refusal", "reasoning_content")
_ODD: Final = "odd"


def merge_logprobs(chunks: Sequence[Chunk]) -> dict[str, Any] | None:
    """The `logprobs` of all chunks as one object; None if all are null.

    >>> merge_logprobs([("a", {"content": ["A"]}), ("b", 5), ("c", {"content": ["C"]}), ("", None)])
    {'content': ['A', {'logprobs': 5}, 'C']}
    """
    if all(held is None for _, held in chunks):
        return None
    is_legacy = any(_has_columns(held) for _, held in chunks)
    objects = [_as_object(held, text, is_legacy=is_legacy) for text, held in chunks]
    values = [value for value in _without_gaps(chunks, objects, is_legacy=is_legacy) if value is not None]
    merged: dict[str, Any] = {}
    for key in dict.fromkeys(key for value in values for key in value):
        columns = [value.get(key) for value in values]
        if any(isinstance(column, list) for column in columns):
            filled = zip(columns, values, strict=True)
            merged[key] = [item for column, value in filled for item in _items(key, column, value)]
        else:
            merged[key] = next((column for column in reversed(columns) if column is not None), None)
    return merged


def _has_columns(held: Any) -> bool:
    return any(isinstance(object_or_empty(held).get(key), list) for key in ("tokens", "token_logprobs"))


def _as_object(held: Any, text: str, *, is_legacy: bool) -> dict[str, Any] | None:
    """The `logprobs` of a chunk as an object."""
    if held is None:
        return None
    if isinstance(held, list) and not is_legacy:
        return {"content": held}
    if not isinstance(held, dict):
        return {"tokens" if is_legacy else "content": [{"logprobs": held}]} if text else {_ODD: [held]}
    sections = [held[key] for key in _SECTIONS if held.get(key) is not None]
    if is_legacy or text or all(isinstance(section, list) for section in sections):
        return held
    return {_ODD: [held]}


def _without_gaps(
    chunks: Sequence[Chunk], objects: Sequence[dict[str, Any] | None], *, is_legacy: bool
) -> list[dict[str, Any] | None]:
    """The objects, with a null for the tokens of a chunk that lacks them, if all others spell their texts."""
    filled = list(objects)
    if not any(text and _is_without_tokens(value) for (text, _), value in zip(chunks, objects, strict=True)):
        return filled
    spelled = [_spelled(value) for value in objects]
    with_tokens = [n for n, tokens in enumerate(spelled) if tokens is not None]
    if not with_tokens or any(spelled[n] != chunks[n][0] for n in with_tokens):
        return filled
    for n in range(with_tokens[0], with_tokens[-1]):
        value = objects[n]
        if spelled[n] is None and chunks[n][0] and all((value or {}).get(key) is None for key in _SECTIONS):
            filled[n] = {**(value or {}), "tokens" if is_legacy else "content": [None]}
    return filled


def _is_without_tokens(value: Mapping[str, Any] | None) -> bool:
    return value is None or not (value.get("content") or value.get("tokens"))


def _spelled(value: Mapping[str, Any] | None) -> str | None:
    """The text that the tokens of a chunk spell, those without a text left out; None without tokens."""
    if value is None:
        return None
    items = list_or_empty(value.get("content")) or list_or_empty(value.get("tokens"))
    texts = [item.get("token") if isinstance(item, dict) else item for item in items]
    return "".join(text for text in texts if isinstance(text, str)) if items else None


def _items(key: str, column: Any, value: Mapping[str, Any]) -> list[Any]:
    """A chunk's items under a key where others have a list: as many as it has tokens, if these are in columns."""
    count = _tokens_in_columns(value)
    if isinstance(column, list) and (not count or key not in _COLUMNS or len(column) == count):
        return column
    if not count:
        return [] if column is None else [column]
    return [column, *[None] * (count - 1)]


def _tokens_in_columns(value: Mapping[str, Any]) -> int | None:
    """How many tokens a chunk has whose lists are columns; None if they are not."""
    held = [value[key] for key in _COLUMNS if value.get(key) is not None]
    lengths = [len(column) for column in held if isinstance(column, list)]
    if not lengths:
        return 1 if held else None
    return Counter(lengths).most_common(1)[0][0] or int(len(lengths) < len(held))
