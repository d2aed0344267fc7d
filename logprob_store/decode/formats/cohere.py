"""Cohere's v2 chat: `{id, message, finish_reason, logprobs: [{text, token_ids, logprobs}]}`.

The logprobs part is the top-level `logprobs`. Each item is a piece of text with the ids and the log-probabilities of
its tokens. A token that is the whole piece has the piece's text; of several, no text is known, and their rows have ids
alone.

A template looks like `{"shape": "cohere", "keys": ["text", "token_ids", "logprobs"], "several": [[3, 2, "é"]]}`:
`several` lists the items with another number of tokens than one, with that number and the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.decode.formats.base import Choice, Reply
from logprob_store.decode.formats.body import (
    compact_json,
    count_or_none,
    list_or_empty,
    loads_object,
    object_or_empty,
    objects_in,
    reported_error,
    text_or_none,
)
from logprob_store.decode.token_rows import Token, clean_text, make_token

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from logprob_store.decode.formats.base import ChoiceContext, TemplateAndTokens, TokensBySection
    from logprob_store.request import Answer

NAME: Final = "cohere"
ORDERED: Final = False

_LOGPROBS: Final = "logprobs"
_KEYS: Final = ("text", "token_ids", "logprobs")


def recognises(keys: Collection[str]) -> bool:
    """Whether a body with these top-level keys is one of Cohere's v2 chat."""
    return "message" in keys and "finish_reason" in keys and {"choices", "done", "index"}.isdisjoint(keys)


def read(answer: Answer) -> Reply:
    """Read everything but the tokens."""
    item = loads_object(answer.body)
    if item["finish_reason"] in ("ERROR", "ERROR_TOXIC", "ERROR_LIMIT"):
        raise reported_error(f"finish_reason: {item['finish_reason']}")
    message = object_or_empty(item["message"])
    usage = item.get("usage")
    counts = usage.get("tokens") if isinstance(usage, dict) else None
    counts = counts if isinstance(counts, dict) else {}
    held = item.get(_LOGPROBS, msgspec.UNSET)
    choice = Choice(
        index=0,
        path=_LOGPROBS,
        finish_reason=text_or_none(item["finish_reason"]),
        text=_text(message.get("content")),
        tool_calls=compact_json(message.get("tool_calls"), "message.tool_calls"),
        logprobs=held,
        shape=NAME,
    )
    return Reply(
        response_id=text_or_none(item.get("id")),
        model=text_or_none(item.get("model")),
        created=None,
        system_fingerprint=None,
        prompt_tokens=count_or_none(counts.get("input_tokens")),
        completion_tokens=count_or_none(counts.get("output_tokens")),
        choices=[choice],
    )


def _text(content: Any) -> str | None:
    if not isinstance(content, list):
        return text_or_none(content)
    texts = [part.get("text") for part in objects_in(content)]
    return clean_text("".join(text for text in texts if isinstance(text, str)))


def read_tokens(value: Any, _: ChoiceContext, /) -> TemplateAndTokens:
    """The template and the tokens."""
    items = list_or_empty(value)
    objects = objects_in(value)
    template: dict[str, Any] = {"shape": NAME, "keys": [key for key in _KEYS if all(key in item for item in objects)]}
    tokens: list[Token] = []
    several: list[list[Any]] = []
    for n, item in enumerate(items):
        read = list(_read_item(item)) if isinstance(item, dict) else [Token(None)]
        tokens += read
        if len(read) != 1:
            several.append([n, len(read), text_or_none(item.get("text"))])
    if several:
        template["several"] = several
    return template, {"content": tokens}


def _read_item(item: Mapping[str, Any]) -> Iterator[Token]:
    """The tokens of an item; one without a number where it has neither list."""
    ids, numbers = (list_or_empty(item.get(key)) for key in ("token_ids", "logprobs"))
    has_lists = any(isinstance(item.get(key), list) for key in ("token_ids", "logprobs"))
    count = max(len(ids), len(numbers)) if has_lists else 1
    text = item.get("text") if count == 1 else None
    for n in range(count):
        yield make_token(
            text,
            logprob=numbers[n] if n < len(numbers) else None,
            token_id=ids[n] if n < len(ids) else None,
        )


def rebuild(template: Mapping[str, Any], tokens: TokensBySection) -> list[dict[str, Any]]:
    """The wire's value, as far as template and tokens determine it."""
    rows = list(tokens.get("content", ()))
    several = {n: (count, text) for n, count, text in template.get("several", ())}
    rebuilt: list[dict[str, Any]] = []
    while rows or len(rebuilt) in several:
        count, text = several.get(len(rebuilt), (1, None))
        own, rows = rows[:count], rows[count:]
        rebuilt.append(_rebuild_item(own, text if len(rebuilt) in several else own[0].text, template["keys"]))
    return rebuilt


def _rebuild_item(tokens: Sequence[Token], text: Any, keys: Sequence[str]) -> dict[str, Any]:
    values = {
        "text": text,
        "token_ids": [token.token_id for token in tokens],
        "logprobs": [token.logprob for token in tokens],
    }
    return {key: values[key] for key in keys}
