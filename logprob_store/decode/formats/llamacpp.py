"""llama.cpp's own `/completion` (and `/infill`): one answer, a list of them for several prompts or samples, a stream.

The logprobs part is `completion_probabilities`, a list. It has had three forms:

- `[{id, token, bytes, logprob, top_logprobs: [{id, token, bytes, logprob}]}]`: the list of the chat shape, read as
  such. A probability of 0 is -3.4e38 there (`sentinel`).
- with `post_sampling_probs`: `prob` and `top_probs` instead of `logprob` and `top_logprobs`. Rows hold ln(prob): 0 is
  flagged `neg_inf`, more than 1 `positive`. `token_objects` explains the way back.
- until the end of 2024: `[{content, probs: [{tok_str, prob}]}]`. The chosen token has no number of its own. Its row has
  that of the alternative with the same text; it has none (`missing`) if there is no such alternative, or several.

A template of the last two looks like `{"shape": "llamacpp", "token": ["id", "token", "bytes", "prob", "top_probs"],
...}`: see `token_objects`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.decode.formats.base import Choice, Reply
from logprob_store.decode.formats.body import (
    index_or_none,
    list_or_empty,
    number_choices,
    object_or_empty,
    text_or_none,
)
from logprob_store.decode.formats.native_fields import (
    child_path,
    count_prompt_tokens,
    merge_pieces,
    objects_of_body,
    sum_counts,
)
from logprob_store.decode.formats.pieces import Piece, broken_off, text_under, value_of
from logprob_store.decode.formats.token_objects import (
    PROB,
    TokenForm,
    list_template,
    nested_alternatives,
    read_tokens_with_alternatives,
    rebuild_tokens,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from logprob_store.decode.formats.base import ChoiceContext, TemplateAndTokens, TokensBySection
    from logprob_store.decode.token_rows import Token
    from logprob_store.request import Answer

NAME: Final = "llamacpp"
ORDERED: Final = False
LISTS: Final = True

_LOGPROBS: Final = "completion_probabilities"
_OWN_KEYS: Final = frozenset({_LOGPROBS, "tokens_predicted", "tokens_evaluated", "generation_settings", "stop_type"})
_STOPPED: Final = {"stopped_eos": "eos", "stopped_word": "word", "stopped_limit": "limit"}
_LAYOUT: Final = {"format": NAME}
_PROBABILITY_KEYS: Final = frozenset({"prob", "probs", "top_probs", "tok_str", "content"})
_PROBABILITY_PATTERN: Final = re.compile(rb'"(?:prob|probs|top_probs|tok_str|content)"\s*+:')
_FORM: Final = TokenForm(
    {
        "id": "token_id",
        "token": "text",
        "content": "text",
        "tok_str": "text",
        "bytes": "bytes",
        "logprob": "logprob",
        "prob": PROB,
    },
    tops=("top_logprobs", "top_probs", "probs"),
)


def recognises(keys: Collection[str]) -> bool:
    """Whether a body with these top-level keys is llama.cpp's own."""
    return "choices" not in keys and (not _OWN_KEYS.isdisjoint(keys) or ("content" in keys and "stop" in keys))


def read(answer: Answer) -> Reply:
    """Read everything but the tokens."""
    found = objects_of_body(answer, raw=_LOGPROBS)
    for path, item in found:
        if item.get("stop") is False:
            raise broken_off(f"{child_path(path, 'stop')}: false, as in a stream that was cut off", text_of([item]))
    indices = number_choices([item.get("index") for _, item in found])
    _, first = found[0]
    settings = first.get("generation_settings")
    model = first.get("model", settings.get("model") if isinstance(settings, dict) else None)
    one_prompt = len({text_or_none(item.get("prompt")) for _, item in found}) == 1
    choices = [_choice(item, path, index) for (path, item), index in zip(found, indices, strict=True)]
    return Reply(
        response_id=text_or_none(first.get("id")),
        model=text_or_none(model),
        created=None,
        system_fingerprint=text_or_none(first.get("system_fingerprint")),
        prompt_tokens=count_prompt_tokens([item.get("tokens_evaluated") for _, item in found], one_prompt=one_prompt),
        completion_tokens=sum_counts(item.get("tokens_predicted") for _, item in found),
        choices=sorted(choices, key=lambda choice: choice.index),
    )


def describe(held: Mapping[str, Any]) -> Piece | None:
    """What an object says about its stream; None if it is no piece and cannot be the last of one."""
    if "stop" not in held or "content" not in held or "choices" in held:
        return None
    stop = value_of(held, "stop")
    if type(stop) is not bool:
        stop = text_under(held, "stop_type") not in (None, "none")
    index = frozenset({index_or_none(value_of(held, "index")) or 0})
    return Piece(adds=index, ends=index if stop else frozenset(), may_be_whole=stop)


def text_of(pieces: Sequence[Mapping[str, Any]]) -> str:
    """The text that the pieces brought."""
    return "".join(text for piece in pieces if isinstance(text := piece.get("content"), str))


def merge(pieces: Sequence[Mapping[str, Any]]) -> dict[str, Any] | list[dict[str, Any]]:
    """One body made of the pieces of a stream; a list of bodies if they are of several answers."""
    found: dict[Any, list[Mapping[str, Any]]] = {}
    for piece in pieces:
        found.setdefault(index_or_none(piece.get("index")) or 0, []).append(piece)
    bodies = [merge_pieces(found[index], texts=("content",), lists=(_LOGPROBS, "tokens")) for index in sorted(found)]
    return bodies[0] if len(bodies) == 1 else bodies


def _choice(item: Mapping[str, Any], path: str, index: int) -> Choice:
    stopped = next((reason for key, reason in _STOPPED.items() if item.get(key) is True), None)
    part = child_path(path, _LOGPROBS)
    choice: dict[str, Any] = {
        "index": index,
        "path": part,
        "finish_reason": text_or_none(item.get("stop_type", stopped)),
        "text": text_or_none(item.get("content")),
    }
    held = item.get(_LOGPROBS)
    if held is None or held == b"null":
        return Choice(**choice, logprobs=None if _LOGPROBS in item else msgspec.UNSET)
    if not _is_chat_list(held):
        return Choice(**choice, logprobs=held, shape=NAME)
    wrapped = b'{"content":' + held + b"}" if isinstance(held, bytes) else {"content": held}
    return Choice(**choice, logprobs=wrapped, layout=_LAYOUT)


def _is_chat_list(held: Any) -> bool:
    """Whether the value is certainly a list of the chat shape. Where it is not certain, False is exact too."""
    if isinstance(held, bytes):
        return held.startswith(b"[") and not _PROBABILITY_PATTERN.search(held)
    return isinstance(held, list) and all(isinstance(i, dict) and _PROBABILITY_KEYS.isdisjoint(i) for i in held)


def restore(_: Mapping[str, Any], value: Any) -> Any:
    """The bare list again."""
    return value["content"]


def read_tokens(value: Any, _: ChoiceContext, /) -> TemplateAndTokens:
    """The template and the tokens of a list with probabilities."""
    items = list_or_empty(value)
    tokens = read_tokens_with_alternatives(items, _FORM)
    template = {"shape": NAME, **list_template(items, nested_alternatives(items, _FORM), tokens, _FORM)}
    oldest = ["content" in object_or_empty(item) for item in items]
    chosen = zip(tokens, oldest, strict=True)
    return template, {"content": [_with_own_logprob(token) if is_oldest else token for token, is_oldest in chosen]}


def _with_own_logprob(token: Token) -> Token:
    """A token of the oldest form, with the number of the alternative with its text if there is exactly one."""
    alike = [other for other in token.alternatives if other.text == token.text]
    return token._replace(logprob=alike[0].logprob) if len(alike) == 1 and token.logprob is None else token


def rebuild(template: Mapping[str, Any], tokens: TokensBySection) -> list[dict[str, Any]]:
    """The wire's value, as far as template and tokens determine it."""
    return rebuild_tokens(template, tokens.get("content", ()), _FORM)
