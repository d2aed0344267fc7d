"""AI21's Jurassic-2 (on Bedrock and on AI21's own servers): `{prompt: {text, tokens}, completions: [{data, ...}]}`.

The logprobs part is an object with the tokens of a completion, and for the first one those of the prompt: `{"tokens":
[{generatedToken: {token, logprob, raw_logprob}, topTokens: [...] | null, textRange: {start, end}}], "prompt": [...]}`.
The number of a row is `raw_logprob`, the model's own; `logprob` is that after temperature and top-p, and differs from
it only where these do. A token spells a blank as U+2581.

A template looks like `{"shape": "ai21", "tokens": {"sampled": [-0.5], "ranges": [[0, 3]], "tops": "null"}}`: `sampled`
lists the values of `logprob` where one differs, `ranges` the text ranges, and `"tops": "null"` says that null stands
for a token without alternatives. Of the alternatives, those of `logprob` that differ are in the patch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.decode.formats.base import Choice, Reply
from logprob_store.decode.formats.body import (
    list_or_empty,
    loads_object,
    object_or_empty,
    objects_in,
    text_or_none,
)
from logprob_store.decode.token_rows import Token, make_token
from logprob_store.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from logprob_store.decode.formats.base import ChoiceContext, TemplateAndTokens, TokensBySection
    from logprob_store.request import Answer

NAME: Final = "ai21"
ORDERED: Final = False

_COMPLETIONS: Final = "completions"
_SECTION_OF: Final = {"tokens": "content", "prompt": "prompt"}


def recognises(keys: Collection[str]) -> bool:
    """Whether a body with these top-level keys is one of Jurassic-2."""
    return _COMPLETIONS in keys and "prompt" in keys and "choices" not in keys


def read(answer: Answer) -> Reply:
    """Read everything but the tokens."""
    item = loads_object(answer.body)
    listed = objects_in(item[_COMPLETIONS])
    if not listed:
        raise DecodeError(f"{_COMPLETIONS}: none, expected at least one")
    prompt = item["prompt"] if isinstance(item["prompt"], dict) else {}
    choices = [_choice(one, n, prompt if n == 0 else {}) for n, one in enumerate(listed)]
    tokens = prompt.get("tokens")
    response_id = item.get("id")
    return Reply(
        response_id=str(response_id) if type(response_id) is int else text_or_none(response_id),
        model=None,
        created=None,
        system_fingerprint=None,
        prompt_tokens=len(tokens) if isinstance(tokens, list) else None,
        completion_tokens=None,
        choices=choices,
    )


def _choice(completion: Mapping[str, Any], number: int, prompt: Mapping[str, Any]) -> Choice:
    path = f"{_COMPLETIONS}[{number}]"
    data = object_or_empty(completion.get("data"))
    reason = completion.get("finishReason")
    logprobs = {"tokens": data["tokens"]} if "tokens" in data else {}
    if "tokens" in prompt:
        logprobs["prompt"] = prompt["tokens"]
    return Choice(
        index=number,
        path=f"{path}.data",
        finish_reason=text_or_none(reason.get("reason") if isinstance(reason, dict) else reason),
        text=text_or_none(data.get("text")),
        logprobs=logprobs or msgspec.UNSET,
        shape=NAME,
    )


def read_tokens(value: Mapping[str, Any], _: ChoiceContext, /) -> TemplateAndTokens:
    """The template, and the tokens of prompt and answer."""
    template: dict[str, Any] = {"shape": NAME}
    tokens: dict[str, Sequence[Token]] = {}
    for key, section in _SECTION_OF.items():
        if key not in value:
            continue
        items = list_or_empty(value[key])
        tokens[section] = [_read_item(object_or_empty(item)) for item in items]
        template[key] = None if value[key] is None else _template(items, tokens[section])
    return template, tokens


def _read_item(item: Mapping[str, Any]) -> Token:
    others = [_read_one(one) for one in list_or_empty(item.get("topTokens"))]
    return _read_one(item.get("generatedToken"), others)


def _read_one(item: Any, alternatives: Sequence[Token] = ()) -> Token:
    held = object_or_empty(item)
    number = held.get("raw_logprob", held.get("logprob"))
    return make_token(held.get("token"), logprob=number, token_id=None, alternatives=alternatives)


def _template(listed: Sequence[Any], tokens: Sequence[Token]) -> dict[str, Any]:
    items = [object_or_empty(item) for item in listed]
    sampled = [object_or_empty(item.get("generatedToken")).get("logprob") for item in items]
    ranges = [item.get("textRange") for item in items]
    template: dict[str, Any] = {}
    if sampled != [token.logprob for token in tokens] and all(type(one) in (int, float) for one in sampled):
        template["sampled"] = sampled
    if items and all(isinstance(one, dict) and one.keys() == {"start", "end"} for one in ranges):
        template["ranges"] = [[one["start"], one["end"]] for one in ranges if isinstance(one, dict)]
    if any("topTokens" in item and item["topTokens"] is None for item in items):
        template["tops"] = "null"
    return template


def rebuild(template: Mapping[str, Any], tokens: TokensBySection) -> dict[str, Any]:
    """The wire's value, as far as template and tokens determine it."""
    rebuilt: dict[str, Any] = {}
    for key, section in _SECTION_OF.items():
        if key in template:
            held = template[key]
            rebuilt[key] = None if held is None else _rebuild_list(held, tokens.get(section, ()))
    return rebuilt


def _rebuild_list(template: Mapping[str, Any], tokens: Sequence[Token]) -> list[dict[str, Any]]:
    found = []
    for n, token in enumerate(tokens):
        chosen = _rebuild_one(token)
        if "sampled" in template:
            chosen["logprob"] = template["sampled"][n]
        item: dict[str, Any] = {"generatedToken": chosen}
        item["topTokens"] = [_rebuild_one(one) for one in token.alternatives] or (None if "tops" in template else [])
        if "ranges" in template:
            item["textRange"] = dict(zip(("start", "end"), template["ranges"][n], strict=True))
        found.append(item)
    return found


def _rebuild_one(token: Token) -> dict[str, Any]:
    return {"token": token.text, "logprob": token.logprob, "raw_logprob": token.logprob}
