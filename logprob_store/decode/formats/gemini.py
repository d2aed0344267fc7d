"""Gemini's `generateContent` (Vertex, AI Studio), as sent (camelCase) or as the Python SDK dumps it (snake_case).

The logprobs part is an object with a candidate's keys for them: `{"avgLogprobs": -0.7, "logprobsResult":
{"chosenCandidates": [{token, tokenId, logProbability}], "topCandidates": [{"candidates": [...]}],
"logProbabilitySum": -5.0}}`. `avgLogprobs` is not the mean of the chosen tokens, and is sent unasked. A token without
`token` is null in the rows. Tokens of the model's thinking are not listed; parts marked `thought` are left out of the
text.

A template looks like `{"shape": "gemini", "kept": {"avgLogprobs": -0.7}, "result": {"key": "logprobsResult", "kept":
{}, "chosen": "chosenCandidates", "top": "topCandidates"}, "token": ["token", "tokenId", "logProbability"], ...}`. In
`kept` are numbers and texts beside the tokens; `token_objects` explains the keys of the tokens.
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
    expect_object,
    loads_object,
    text_or_none,
)
from logprob_store.decode.formats.native_fields import choice_indices, iso_time_or_none, pad_alternatives
from logprob_store.decode.formats.token_objects import (
    TokenForm,
    list_template,
    read_alternatives,
    read_token,
    rebuild_alternatives,
    rebuild_tokens,
)
from logprob_store.decode.token_rows import clean_text
from logprob_store.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from logprob_store.decode.formats.base import ChoiceContext, TemplateAndTokens, TokensBySection
    from logprob_store.decode.token_rows import Token
    from logprob_store.request import Answer

NAME: Final = "gemini"
PROMPT_KEY: Final = "contents"
ORDERED: Final = False

_OWN_KEYS: Final = frozenset({"candidates", "usageMetadata", "usage_metadata", "promptFeedback", "prompt_feedback"})
_AVERAGE: Final = ("avgLogprobs", "avg_logprobs")
_RESULT: Final = ("logprobsResult", "logprobs_result")
_CHOSEN: Final = ("chosenCandidates", "chosen_candidates")
_TOP: Final = ("topCandidates", "top_candidates")
_CANDIDATES: Final = "candidates"
_SCALAR_TYPES: Final = (int, float, str, bool, type(None))
_FORM: Final = TokenForm(
    {
        "token": "text",
        "tokenId": "token_id",
        "token_id": "token_id",
        "logProbability": "logprob",
        "log_probability": "logprob",
    },
    nullable=True,
)


def recognises(keys: Collection[str]) -> bool:
    """Whether a body with these top-level keys is Gemini's."""
    return "choices" not in keys and not _OWN_KEYS.isdisjoint(keys)


def _get(item: Mapping[str, Any], *spellings: str) -> Any:
    """The value under the first spelling of a key that has one."""
    return next((item[key] for key in spellings if item.get(key) is not None), None)


def read(answer: Answer) -> Reply:
    """Read everything but the tokens."""
    item = loads_object(answer.body)
    usage = _get(item, "usageMetadata", "usage_metadata")
    usage = usage if isinstance(usage, dict) else {}
    listed = [] if item.get(_CANDIDATES) is None else expect_list(item[_CANDIDATES], _CANDIDATES)
    if not listed:
        raise _no_candidates(item)
    candidates = [expect_object(one, f"{_CANDIDATES}[{n}]") for n, one in enumerate(listed)]
    paths = [f"{_CANDIDATES}[{n}].index" for n in range(len(listed))]
    indices = choice_indices([one.get("index") for one in candidates], paths)
    choices = [_choice(one, n, index) for n, (one, index) in enumerate(zip(candidates, indices, strict=True))]
    return Reply(
        response_id=text_or_none(_get(item, "responseId", "response_id")),
        model=text_or_none(_get(item, "modelVersion", "model_version")),
        created=iso_time_or_none(_get(item, "createTime", "create_time")),
        system_fingerprint=None,
        prompt_tokens=count_or_none(_get(usage, "promptTokenCount", "prompt_token_count")),
        completion_tokens=count_or_none(_get(usage, "candidatesTokenCount", "candidates_token_count")),
        choices=sorted(choices, key=lambda choice: choice.index),
    )


def _no_candidates(item: Mapping[str, Any]) -> DecodeError:
    feedback = _get(item, "promptFeedback", "prompt_feedback")
    reason = _get(feedback, "blockReason", "block_reason") if isinstance(feedback, dict) else None
    if reason is None:
        return DecodeError(f"{_CANDIDATES}: none, expected at least one")
    shown = excerpt(str(reason).encode(errors="replace"))
    return DecodeError(f"the server blocked the prompt: {shown}", error_type="error_body")


def _choice(candidate: Mapping[str, Any], number: int, index: int) -> Choice:
    path = f"{_CANDIDATES}[{number}]"
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    objects = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    texts = [part["text"] for part in objects if isinstance(part.get("text"), str) and not part.get("thought")]
    calls = [call for part in objects if (call := _get(part, "functionCall", "function_call")) is not None]
    logprobs = {key: candidate[key] for key in (*_AVERAGE, *_RESULT) if key in candidate}
    return Choice(
        index=index,
        path=path,
        finish_reason=text_or_none(_get(candidate, "finishReason", "finish_reason")),
        text=clean_text("".join(texts)) if texts else None,
        tool_calls=compact_json(calls, f"{path}.content.parts"),
        logprobs=logprobs or msgspec.UNSET,
        shape=NAME,
    )


def read_tokens(value: Mapping[str, Any], context: ChoiceContext) -> TemplateAndTokens:
    """The template and the tokens."""
    template: dict[str, Any] = {"shape": NAME, "kept": _scalars(value)}
    key = next((key for key in _RESULT if value.get(key) is not None), None)
    if key is None:
        return template, {}
    path = f"{context.path}.{key}"
    result = expect_object(value[key], path)
    template["result"] = {"key": key, "kept": _scalars(result)}
    lists = {}
    for name, spellings in (("chosen", _CHOSEN), ("top", _TOP)):
        found = next((one for one in spellings if result.get(one) is not None), None)
        lists[name] = [] if found is None else expect_list(result[found], f"{path}.{found}")
        template["result"] |= {} if found is None else {name: found}
    items, top = lists["chosen"], template["result"].get("top", _TOP[0])
    tops_path = f"{path}.{top}"
    tops = pad_alternatives(lists["top"], tops_path, len(items))
    others = [_alternatives(one, f"{tops_path}[{n}]") for n, one in enumerate(tops)]
    chosen = f"{path}.{template['result'].get('chosen')}"
    tokens = [
        read_token(
            item, f"{chosen}[{n}]", _FORM, read_alternatives(others[n], f"{tops_path}[{n}].{_CANDIDATES}", _FORM)
        )
        for n, item in enumerate(items)
    ]
    if "top" in template["result"] and len(lists["top"]) < len(items):
        template["result"]["length"] = len(lists["top"])
    template |= list_template(items, [one for found in others for one in found], tokens, _FORM)
    return template, {"content": tokens}


def _scalars(item: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are neither lists nor objects."""
    return {key: value for key, value in item.items() if isinstance(value, _SCALAR_TYPES)}


def _alternatives(top: Any, path: str) -> list[Any]:
    """The alternatives in an item of `topCandidates`; none if it is null or has no list."""
    if top is None:
        return []
    listed = expect_object(top, path).get(_CANDIDATES)
    return [] if listed is None else expect_list(listed, f"{path}.{_CANDIDATES}")


def rebuild(template: Mapping[str, Any], tokens: TokensBySection) -> dict[str, Any]:
    """The wire's value, as far as template and tokens determine it."""
    rebuilt = dict(template["kept"])
    result = template.get("result")
    if result is not None:
        rows = tokens.get("content", ())
        rebuilt[result["key"]] = dict(result["kept"])
        if "chosen" in result:
            rebuilt[result["key"]][result["chosen"]] = rebuild_tokens(template, rows, _FORM)
        if "top" in result:
            rebuilt[result["key"]][result["top"]] = _rebuild_top(template, rows[: result.get("length")])
    return rebuilt


def _rebuild_top(template: Mapping[str, Any], rows: Sequence[Token]) -> list[dict[str, Any]]:
    lists = [rebuild_alternatives(template, token, _FORM) for token in rows]
    return [{_CANDIDATES: listed} if listed else {} for listed in lists]
