"""LightLLM's own `/generate`: `{generated_text: [...], tokens, count_output_tokens, finish_reason, prompt_tokens}`.

With `return_details` it lists the tokens of the answer, or of each of several samples. The logprobs part is that list
under its key: `{"tokens": [{id, text, logprob, special, ...}]}`. A token without `text` is null in the rows. Streams
are in `tgi_stream`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.decode.formats.base import Choice, Reply
from logprob_store.decode.formats.body import count_or_none, list_or_empty, loads_object, text_or_none
from logprob_store.decode.formats.native_fields import sum_counts
from logprob_store.decode.formats.token_objects import (
    TokenForm,
    list_template,
    read_tokens_with_alternatives,
    rebuild_tokens,
)
from logprob_store.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from logprob_store.decode.formats.base import ChoiceContext, TemplateAndTokens, TokensBySection
    from logprob_store.request import Answer

NAME: Final = "lightllm"
ORDERED: Final = False

_FORM: Final = TokenForm({"id": "token_id", "text": "text", "logprob": "logprob"})
_KEPT: Final = ("special", "count_output_tokens", "prompt_tokens")
"""Keys of a token that the template keeps, as a list with a value for each token."""


def recognises(keys: Collection[str]) -> bool:
    """Whether a body with these top-level keys is LightLLM's own."""
    return "generated_text" in keys and ("count_output_tokens" in keys or "tokens" in keys)


def read(answer: Answer) -> Reply:
    """Read everything but the tokens."""
    item = loads_object(answer.body)
    texts = item["generated_text"]
    texts = texts if isinstance(texts, list) else [texts]
    if not texts:
        raise DecodeError("generated_text: none, expected at least one")
    several = len(texts) > 1
    counts = item.get("count_output_tokens")
    choices = [_choice(item, n, text, several=several) for n, text in enumerate(texts)]
    return Reply(
        response_id=None,
        model=None,
        created=None,
        system_fingerprint=None,
        prompt_tokens=count_or_none(item.get("prompt_tokens")),
        completion_tokens=sum_counts(counts if isinstance(counts, list) else [counts]),
        choices=choices,
    )


def _choice(item: Mapping[str, Any], number: int, text: Any, *, several: bool) -> Choice:
    def own(key: str) -> Any:
        held = item.get(key)
        return held[number] if several and isinstance(held, list) and number < len(held) else held

    return Choice(
        index=number,
        path=f"tokens[{number}]" if several else "tokens",
        finish_reason=text_or_none(own("finish_reason")),
        text=text_or_none(text),
        logprobs={"tokens": own("tokens")} if "tokens" in item else msgspec.UNSET,
        shape=NAME,
    )


def read_tokens(value: Mapping[str, Any], _: ChoiceContext, /) -> TemplateAndTokens:
    """The template and the tokens."""
    items = list_or_empty(value["tokens"])
    tokens = read_tokens_with_alternatives(items, _FORM)
    template = {"shape": NAME, **list_template(items, [()] * len(items), tokens, _FORM)}
    for key in _KEPT:
        if items and all(isinstance(item, dict) and key in item for item in items):
            template[key] = [item[key] for item in items]
    return template, {"content": tokens}


def rebuild(template: Mapping[str, Any], tokens: TokensBySection) -> dict[str, Any]:
    """The wire's value, as far as template and tokens determine it."""
    items = rebuild_tokens(template, tokens.get("content", ()), _FORM)
    for key in _KEPT:
        for item, value in zip(items, template.get(key, ()), strict=False):
            item[key] = value
    return {"tokens": items}
