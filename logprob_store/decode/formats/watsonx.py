"""IBM watsonx.ai's text generation, whole or as the pieces of a stream: `{model_id, results: [{generated_text, ...}]}`.

The logprobs part is an object with the keys of a result that hold tokens: `{"generated_tokens": [{text, logprob, rank,
top_tokens: [{text, logprob}]}], "input_tokens": [...]}`. The first token of the prompt has no number.

A template looks like `{"shape": "watsonx", "generated_tokens": {"token": ["text", "logprob", "top_tokens"], "rank":
[1, 3], ...}}`; `rank` lists those of all tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.decode.formats.base import Choice, Reply
from logprob_store.decode.formats.body import list_or_empty, loads_object, objects_in, reported_error, text_or_none
from logprob_store.decode.formats.native_fields import (
    count_prompt_tokens,
    iso_time_or_none,
    merge_pieces,
    sum_counts,
)
from logprob_store.decode.formats.pieces import Piece, value_of
from logprob_store.decode.formats.token_objects import (
    TokenForm,
    list_template,
    nested_alternatives,
    read_tokens_with_alternatives,
    rebuild_tokens,
)
from logprob_store.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from logprob_store.decode.formats.base import ChoiceContext, TemplateAndTokens, TokensBySection
    from logprob_store.decode.token_rows import Token
    from logprob_store.request import Answer

NAME: Final = "watsonx"
ORDERED: Final = False

_RESULTS: Final = "results"
_SECTION_OF: Final = {"generated_tokens": "content", "input_tokens": "prompt"}
_NOT_FINISHED: Final = (None, "", "not_finished", "NOT_FINISHED")
_FORM: Final = TokenForm({"text": "text", "logprob": "logprob"}, tops=("top_tokens",))


def recognises(keys: Collection[str]) -> bool:
    """Whether a body with these top-level keys is one of watsonx."""
    return _RESULTS in keys and "model_id" in keys and "choices" not in keys


def read(answer: Answer) -> Reply:
    """Read everything but the tokens."""
    item = loads_object(answer.body)
    results = objects_in(item[_RESULTS])
    if not results:
        raise DecodeError(f"{_RESULTS}: none, expected at least one")
    if any(result.get("stop_reason") in ("error", "ERROR") for result in results):
        raise reported_error(f"{_RESULTS}: stop_reason: error")
    return Reply(
        response_id=None,
        model=text_or_none(item.get("model_id")),
        created=iso_time_or_none(item.get("created_at")),
        system_fingerprint=None,
        prompt_tokens=count_prompt_tokens([result.get("input_token_count") for result in results]),
        completion_tokens=sum_counts(result.get("generated_token_count") for result in results),
        choices=[_choice(result, n) for n, result in enumerate(results)],
    )


def _choice(result: Mapping[str, Any], index: int) -> Choice:
    logprobs = {key: result[key] for key in _SECTION_OF if key in result}
    return Choice(
        index=index,
        path=f"{_RESULTS}[{index}]",
        finish_reason=text_or_none(result.get("stop_reason")),
        text=text_or_none(result.get("generated_text")),
        logprobs=logprobs or msgspec.UNSET,
        shape=NAME,
    )


def describe(held: Mapping[str, Any]) -> Piece | None:
    """What an object says about its stream; None if it is no body of watsonx."""
    if not recognises(held):
        return None
    found = dict(enumerate(objects_in(value_of(held, _RESULTS))))
    ended = [n for n, result in found.items() if result.get("stop_reason") not in _NOT_FINISHED]
    return Piece(adds=frozenset(found), ends=frozenset(ended), may_be_whole=True)


def text_of(pieces: Sequence[Mapping[str, Any]]) -> str:
    """The text that the pieces brought."""
    texts = [result.get("generated_text") for piece in pieces for result in objects_in(piece.get(_RESULTS))]
    return "".join(text for text in texts if isinstance(text, str))


def merge(pieces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One body made of the pieces of a stream: texts and tokens joined, of other keys the last value."""
    found: dict[int, list[dict[str, Any]]] = {}
    for piece in pieces:
        for n, result in enumerate(objects_in(piece.get(_RESULTS))):
            found.setdefault(n, []).append(result)
    lists = tuple(_SECTION_OF)
    results = [merge_pieces(found[n], texts=("generated_text",), lists=lists) for n in sorted(found)]
    return {**pieces[-1], _RESULTS: results}


def read_tokens(value: Mapping[str, Any], _: ChoiceContext, /) -> TemplateAndTokens:
    """The template, and the tokens of prompt and answer."""
    template: dict[str, Any] = {"shape": NAME}
    tokens: dict[str, Sequence[Token]] = {}
    for key, section in _SECTION_OF.items():
        if key not in value:
            continue
        if value[key] is None:
            template[key] = None
            continue
        items = list_or_empty(value[key])
        tokens[section] = read_tokens_with_alternatives(items, _FORM)
        template[key] = list_template(items, nested_alternatives(items, _FORM), tokens[section], _FORM)
        if items and all(isinstance(item, dict) and type(item.get("rank")) is int for item in items):
            template[key]["rank"] = [item["rank"] for item in items]
    return template, tokens


def rebuild(template: Mapping[str, Any], tokens: TokensBySection) -> dict[str, Any]:
    """The wire's value, as far as template and tokens determine it."""
    rebuilt: dict[str, Any] = {}
    for key, section in _SECTION_OF.items():
        if key not in template:
            continue
        held = template[key]
        rebuilt[key] = None if held is None else rebuild_tokens(held, tokens.get(section, ()), _FORM)
        for item, rank in zip(rebuilt[key] or (), (held or {}).get("rank", ()), strict=False):
            item["rank"] = rank
    return rebuilt
