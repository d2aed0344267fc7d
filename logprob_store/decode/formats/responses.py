"""Bodies of the Responses API: several output items with several content parts, read as one choice.

The logprobs part of such a body is a list with one object for each content part that has the key `logprobs`, in the
body's order: `[{"item": 0, "part": 0, "logprobs": [E]}]` stands for `output[0].content[0].logprobs`. Parts of a
reasoning item are section `reasoning`, refusal parts `refusal`, all others `content`. The lists are joined in
`responses_parts`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.decode.formats.base import Choice, Reply
from logprob_store.decode.formats.body import (
    compact_json,
    count_or_none,
    excerpt,
    expect_list,
    kind_of,
    loads_object,
    reported_error,
    text_or_none,
    time_or_none,
    without_bom,
)
from logprob_store.decode.formats.responses_parts import ContentPart, join_parts, make_layout, restore
from logprob_store.errors import DecodeError
from logprob_store.reported_errors import MayReport, find_own_error

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from logprob_store.request import Answer

__all__ = ["NAME", "read", "recognises", "restore"]

NAME: Final = "responses"

_UNFINISHED: Final = ("queued", "in_progress")


class _Body(MayReport):
    output: Any = None
    id: Any = None
    model: Any = None
    created_at: Any = None
    incomplete_details: Any = None
    service_tier: Any = None
    usage: Any = None


class _RawBody(_Body, kw_only=True):
    output: list[msgspec.Raw]


class _RawPart(msgspec.Struct):
    type: Any = None
    text: Any = None
    refusal: Any = None
    logprobs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _RawItem(msgspec.Struct):
    type: Any = None
    content: list[_RawPart] | None = None


_BODY: Final = msgspec.json.Decoder(_RawBody)
_ITEM: Final = msgspec.json.Decoder(_RawItem)


def recognises(keys: Collection[str]) -> bool:
    """Whether a body with these top-level keys is a response."""
    return "output" in keys


def read(answer: Answer) -> Reply:
    """Read a body of the Responses API.

    Raises:
        DecodeError: the body is damaged, reports an error, or is not finished.
    """
    body, parts, calls = _parse(without_bom(answer.body))
    _check_is_finished(body, "".join(part.text for part in parts if part.text))
    _check_has_items(body)
    usage = body.usage if isinstance(body.usage, dict) else {}
    return Reply(
        text_or_none(body.id),
        text_or_none(body.model),
        time_or_none(body.created_at),
        None,
        count_or_none(usage.get("input_tokens")),
        count_or_none(usage.get("output_tokens")),
        [_choice(body, parts, calls)],
        text_or_none(body.service_tier),
    )


def _check_is_finished(body: _Body, text: str) -> None:
    said = {name: getattr(body, name) for name in MayReport.__struct_fields__}
    if body.is_suspect() and (found := find_own_error({**said, "output": None})) is not None:
        raise reported_error(found, text)
    if isinstance(body.status, str) and body.status in _UNFINISHED:
        came = excerpt(text.encode(errors="replace"))
        state = f"is not finished: so far it holds {came}" if text else "holds no output yet"
        raise DecodeError(f"status: {body.status}, the response {state}")


def _check_has_items(body: _Body) -> None:
    """Refuse a body without an item, as one without choices is; that an incomplete one holds none has its reason."""
    items = body.output if isinstance(body.output, list) else [body.output]
    if body.status != "incomplete" and not any(isinstance(item, (dict, msgspec.Raw)) for item in items):
        state = "missing or null" if body.output is None else "empty" if not items else f"a list of {kind_of(items[0])}"
        raise DecodeError(f"output: {state}, expected a list of at least one item")


def _parse(content: bytes) -> tuple[_Body, list[ContentPart], list[Any]]:
    """The body, its content parts, and the other items, which are tool calls."""
    try:
        if not content.isascii():
            content.decode()
        raw = _BODY.decode(content)
        return raw, *_take_apart(raw.output)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    value = loads_object(content)  # NaN, odd types, lone surrogates
    body = _Body(**{key: value.get(key) for key in _Body.__struct_fields__})
    output = [body.output] if isinstance(body.output, dict) else body.output
    return body, *_take_apart_leniently([] if output is None else expect_list(output, "output"))


def _take_apart(output: Sequence[msgspec.Raw]) -> tuple[list[ContentPart], list[Any]]:
    parts: list[ContentPart] = []
    calls: list[Any] = []
    for i, raw in enumerate(output):
        item = _ITEM.decode(raw)
        if item.content is None and item.type not in ("message", "reasoning"):
            calls.append(msgspec.json.decode(raw))
            continue
        for j, part in enumerate(item.content or ()):
            logprobs = bytes(part.logprobs) if isinstance(part.logprobs, msgspec.Raw) else part.logprobs
            parts.append(_part(i, j, item.type, (part.type, part.text, part.refusal), logprobs))
    return parts, calls


def _take_apart_leniently(output: Sequence[Any]) -> tuple[list[ContentPart], list[Any]]:
    parts: list[ContentPart] = []
    calls: list[Any] = []
    for i, item in enumerate(output):
        if not isinstance(item, dict):
            continue
        content, kind = item.get("content"), item.get("type")
        if content is None and kind not in ("message", "reasoning"):
            calls.append(item)
        listed = content if isinstance(content, list) else [content]
        for j, part in enumerate(listed):
            if isinstance(part, str):
                parts.append(_part(i, j, kind, (None, part, None), msgspec.UNSET))
            if isinstance(part, dict):
                fields = (part.get("type"), part.get("text"), part.get("refusal"))
                parts.append(_part(i, j, kind, fields, part.get("logprobs", msgspec.UNSET)))
    return parts, calls


def _part(item: int, part: int, item_kind: Any, fields: tuple[Any, Any, Any], logprobs: Any) -> ContentPart:
    kind, text, refusal = fields
    return ContentPart(item, part, kind, text_or_none(text), text_or_none(refusal), logprobs, item_kind == "reasoning")


def _choice(body: _Body, parts: Sequence[ContentPart], calls: list[Any]) -> Choice:
    texts = [part.text for part in parts if part.key == "content" and part.text is not None]
    refusals = [part.refusal for part in parts if part.refusal is not None]
    details = body.incomplete_details if isinstance(body.incomplete_details, dict) else {}
    logprobs, spans = join_parts(parts)
    return Choice(
        index=0,
        path="output[].content[].logprobs",
        finish_reason=text_or_none(details.get("reason")) or text_or_none(body.status),
        text="".join(texts) if texts else None,
        refusal="".join(refusals) if refusals else None,
        tool_calls=compact_json(calls, "output"),
        logprobs=logprobs,
        layout=make_layout(spans),
    )
