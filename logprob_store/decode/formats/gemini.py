"""Gemini's `generateContent` (Vertex, AI Studio), as sent (camelCase) or as the Python SDK dumps it (snake_case).

The logprobs part is an object with a candidate's keys for them: `{"avgLogprobs": -0.7, "logprobsResult":
{"chosenCandidates": [{token, tokenId, logProbability}], "topCandidates": [{"candidates": [...]}],
"logProbabilitySum": -5.0}}`. `avgLogprobs` is not the mean of the chosen tokens, and is sent unasked. A token without
`token` is null in the rows. Tokens of the model's thinking are not listed; parts marked `thought` are left out of the
text.

A template looks like `{"shape": "gemini", "kept": {"avgLogprobs": -0.7}, "result": {"key": "logprobsResult", "kept":
{}, "chosen": "chosenCandidates", "top": "topCandidates"}, "token": ["token", "tokenId", "logProbability"], ...}`. In
`kept` are numbers and texts beside the tokens; `token_objects` explains the keys of the tokens.

`streamGenerateContent` sends such bodies as the pieces of one answer, as events or as one JSON list. Texts and tokens
are those of the piece alone; `finishReason` is empty until the last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.decode.formats.base import Choice, Reply
from logprob_store.decode.formats.body import (
    compact_json,
    count_or_none,
    excerpt,
    index_or_none,
    list_or_empty,
    loads_object,
    number_choices,
    object_or_empty,
    objects_in,
    text_or_none,
)
from logprob_store.decode.formats.native_fields import iso_time_or_none, pad_alternatives
from logprob_store.decode.formats.pieces import Piece, read_structs, text_under
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
_NOT_FINISHED: Final = (None, "", 0, "FINISH_REASON_UNSPECIFIED")
_SCALAR_TYPES: Final = (int, float, str, bool, type(None))
_FORM: Final = TokenForm(
    {
        "token": "text",
        "tokenId": "token_id",
        "token_id": "token_id",
        "logProbability": "logprob",
        "log_probability": "logprob",
    }
)


class _CandidateHead(msgspec.Struct):
    """What a candidate says about its stream."""

    index: Any = 0
    finishReason: Any = None  # noqa: N815 - the key on the wire
    finish_reason: Any = None


_HEADS: Final = msgspec.json.Decoder(list[_CandidateHead])


def recognises(keys: Collection[str]) -> bool:
    """Whether a body with these top-level keys is Gemini's."""
    return "choices" not in keys and not _OWN_KEYS.isdisjoint(keys)


def describe(held: Mapping[str, Any]) -> Piece | None:
    """What an object says about its stream; None if it is no body of Gemini's."""
    if not recognises(held):
        return None
    candidates = read_structs(held, _CANDIDATES, _HEADS, _CandidateHead)
    reasons = [(one.index, reason) for one in candidates for reason in (one.finishReason, one.finish_reason)]
    ended = [index for index, reason in reasons if reason not in _NOT_FINISHED]
    if not candidates and ("promptFeedback" in held or "prompt_feedback" in held):  # the prompt was blocked
        ended = [0]
    return Piece(
        text_under(held, "responseId") or text_under(held, "response_id"),
        adds=frozenset(index_or_none(one.index) or 0 for one in candidates),
        ends=frozenset(index_or_none(index) or 0 for index in ended),
        may_be_whole=True,
    )


def text_of(pieces: Sequence[Mapping[str, Any]]) -> str:
    """The text that the pieces brought, of all candidates in the order of the pieces."""
    return "".join(_text(one) or "" for piece in pieces for one in objects_in(piece.get(_CANDIDATES)))


def merge(pieces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One body made of the pieces of a stream: parts and tokens joined, of other keys the last value."""
    body: dict[str, Any] = {}
    found: dict[int, list[dict[str, Any]]] = {}
    for piece in pieces:
        body |= {key: value for key, value in piece.items() if value is not None or key not in body}
        for candidate in objects_in(piece.get(_CANDIDATES)):
            found.setdefault(index_or_none(candidate.get("index")) or 0, []).append(candidate)
    if not found:
        return body
    return {**body, _CANDIDATES: [_merge_candidate(found[index]) for index in sorted(found)]}


def _merge_candidate(pieces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for piece in pieces:
        merged |= {key: value for key, value in piece.items() if value is not None or key not in merged}
    contents = [piece["content"] for piece in pieces if isinstance(piece.get("content"), dict)]
    parts = [part for one in contents if isinstance(one.get("parts"), list) for part in one["parts"]]
    if contents:
        merged["content"] = {**contents[-1], "parts": parts}
    for key in _RESULT:
        results = [piece[key] for piece in pieces if piece.get(key) is not None]
        if any(isinstance(result, dict) for result in results):
            merged[key] = _merge_results(results)
    return merged


def _merge_results(results: Sequence[Any]) -> dict[str, Any]:
    """The tokens of all pieces. An empty object stands for each token of a piece without alternatives.

    A result that is no object is an item of the tokens, and so is a value that is no list. Null stands for a token of
    which a piece has alternatives alone.
    """
    key_of_tokens = next((key for key in _CHOSEN for one in results if key in object_or_empty(one)), _CHOSEN[0])
    objects = [one if isinstance(one, dict) else {key_of_tokens: one} for one in results]
    merged: dict[str, Any] = {}
    for chosen_key, top_key in zip(_CHOSEN, _TOP, strict=True):
        chosen: list[Any] = []
        top: list[Any] = []
        for result in objects:
            own, tops = _as_list(result.get(chosen_key)), _as_list(result.get(top_key))
            top += [{}] * (len(chosen) - len(top)) + tops if tops else []
            chosen += own + [None] * (len(tops) - len(own))
        joined = {chosen_key: chosen, top_key: top}
        merged |= {key: items for key, items in joined.items() if any(key in result for result in objects)}
    others = {key: value for result in objects for key, value in result.items() if key not in merged}
    return {**others, **merged}


def _as_list(value: Any) -> list[Any]:
    """A list as it is, nothing for null, and any other value as an item."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _get(item: Mapping[str, Any], *spellings: str) -> Any:
    """The value under the first spelling of a key that has one."""
    return next((item[key] for key in spellings if item.get(key) is not None), None)


def read(answer: Answer) -> Reply:
    """Read everything but the tokens."""
    item = loads_object(answer.body)
    usage = object_or_empty(_get(item, "usageMetadata", "usage_metadata"))
    candidates = objects_in(item.get(_CANDIDATES))
    if not candidates:
        raise _no_candidates(item)
    if answer.request.asks_logprobs:
        _refuse_averages(candidates)
    indices = number_choices([one.get("index") for one in candidates])
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


def _refuse_averages(candidates: Sequence[Mapping[str, Any]]) -> None:
    """Raise DecodeError for candidates with a text and `avgLogprobs` alone."""
    for n, one in enumerate(candidates):
        if _get(one, *_AVERAGE) is not None and _get(one, *_RESULT) is None and _text(one):
            raise DecodeError(
                f"{_CANDIDATES}[{n}]: avgLogprobs alone, which is sent unasked and has no tokens; ask for them with "
                "generationConfig.responseLogprobs: true",
                error_type="no_logprobs",
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
    calls = [call for part in objects if (call := _get(part, "functionCall", "function_call")) is not None]
    logprobs = {key: candidate[key] for key in (*_AVERAGE, *_RESULT) if key in candidate}
    return Choice(
        index=index,
        path=path,
        finish_reason=text_or_none(_get(candidate, "finishReason", "finish_reason")),
        text=_text(candidate),
        tool_calls=compact_json(calls, f"{path}.content.parts"),
        logprobs=logprobs or msgspec.UNSET,
        shape=NAME,
    )


def _text(candidate: Mapping[str, Any]) -> str | None:
    """The text of a candidate, without that of the model's thinking."""
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    objects = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    texts = [part["text"] for part in objects if isinstance(part.get("text"), str) and not part.get("thought")]
    return clean_text("".join(texts)) if texts else None


def recognises_logprobs(value: Mapping[str, Any]) -> bool:
    """Whether a `logprobs` object is of this shape, as in what LangChain makes of Gemini's answers."""
    return any(key in value for key in _RESULT)


def read_tokens(value: Mapping[str, Any], _: ChoiceContext, /) -> TemplateAndTokens:
    """The template and the tokens."""
    template: dict[str, Any] = {"shape": NAME, "kept": _scalars(value)}
    key = next((key for key in _RESULT if value.get(key) is not None), None)
    if key is None:
        return template, {}
    result = object_or_empty(value[key])
    template["result"] = {"key": key, "kept": _scalars(result)}
    lists = {}
    for name, spellings in (("chosen", _CHOSEN), ("top", _TOP)):
        found = next((one for one in spellings if isinstance(result.get(one), list)), None)
        lists[name] = list_or_empty(result.get(found or ""))
        template["result"] |= {} if found is None else {name: found}
    items = lists["chosen"]
    tops = pad_alternatives(lists["top"], len(items))
    others = [list_or_empty(object_or_empty(top).get(_CANDIDATES)) for top in tops]
    tokens = [
        read_token(item, _FORM, read_alternatives(listed, _FORM)) for item, listed in zip(items, others, strict=True)
    ]
    if "top" in template["result"] and len(lists["top"]) < len(items):
        template["result"]["length"] = len(lists["top"])
    template |= list_template(items, others, tokens, _FORM)
    return template, {"content": tokens}


def _scalars(item: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are neither lists nor objects."""
    return {key: value for key, value in item.items() if isinstance(value, _SCALAR_TYPES)}


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
