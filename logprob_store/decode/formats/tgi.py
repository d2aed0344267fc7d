"""Text Generation Inference's own `/generate`: one answer, or a list with it as `/` and hosted endpoints send.

The logprobs part is an object with the keys of `details` that hold logprobs: `{"tokens": [{id, text, logprob,
special}], "prefill": [{id, text, logprob}], "top_tokens": [[{id, text, logprob, special}]]}`. `prefill` is the prompt
(filled with `decoder_input_details`), whose first token has a null logprob. The first releases sent tokens as `[id,
text, logprob]`. `best_of_sequences` are choices 1, 2, ... of one answer, each with its own logprobs part.

A template looks like `{"shape": "tgi", "tokens": {"token": ["id", "text", "logprob"], "alternative": ["id", "text",
"logprob"], "special": [4]}, "prefill": {...}, "top_tokens": {"special": []}}`. `special` lists the positions of the
special tokens. `"triples"` stands for the form of the first releases; `"length"` is that of a list of alternatives that
is shorter than the tokens; `"empty"` says that null stands for a token without alternatives.

DJL's LMI containers answer alike, with `log_prob` for `logprob`. Streams are in `tgi_stream`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from logprob_store.decode.formats.base import Choice, Reply
from logprob_store.decode.formats.body import (
    list_or_empty,
    number_choices,
    object_or_empty,
    objects_in,
    reported_error,
    text_or_none,
)
from logprob_store.decode.formats.native_fields import (
    child_path,
    count_prompt_tokens,
    objects_of_body,
    pad_alternatives,
    sum_counts,
)
from logprob_store.decode.formats.token_objects import (
    TokenForm,
    list_template,
    read_alternatives,
    read_token,
    read_tokens_with_alternatives,
    rebuild_alternatives,
    rebuild_tokens,
)
from logprob_store.decode.token_rows import MAX_ALTERNATIVES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from logprob_store.decode.formats.base import ChoiceContext, TemplateAndTokens, TokensBySection
    from logprob_store.decode.token_rows import Token
    from logprob_store.request import Answer

NAME: Final = "tgi"
PROMPT_KEY: Final = "inputs"
ORDERED: Final = False
LISTS: Final = True

_LOGPROBS_KEYS: Final = ("tokens", "prefill", "top_tokens")
_ERROR: Final = "error"
"""What LMI containers give as the reason to finish where generating failed; the status is 200 all the same."""

_TRIPLE: Final = ("id", "text", "logprob")
_FORM: Final = TokenForm({"id": "token_id", "text": "text", "logprob": "logprob", "log_prob": "logprob"})


def recognises(keys: Collection[str]) -> bool:
    """Whether a body with these top-level keys is TGI's own; a piece of a stream has a `token`."""
    return "generated_text" in keys and "token" not in keys and "choices" not in keys


def read(answer: Answer) -> Reply:
    """Read everything but the tokens."""
    found = [sequence for path, item in objects_of_body(answer) for sequence in _sequences(item, path)]
    details = [details for _, _, details in found]
    if any(held.get("finish_reason") == _ERROR for held in details):
        raise reported_error("details.finish_reason: error")
    numbers = number_choices([None] * len(found))
    return Reply(
        response_id=None,
        model=None,
        created=None,
        system_fingerprint=None,
        prompt_tokens=count_prompt_tokens([held.get("prompt_tokens", held.get("input_length")) for held in details]),
        completion_tokens=sum_counts(held.get("generated_tokens") for held in details),
        choices=[_choice(*sequence, number) for sequence, number in zip(found, numbers, strict=True)],
    )


def _sequences(item: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """For an answer and then for each of its `best_of_sequences`: the path of its details, its text, its details."""
    path = child_path(path, "details")
    details = object_or_empty(item.get("details"))
    yield path, item.get("generated_text"), details
    for n, other in enumerate(objects_in(details.get("best_of_sequences"))):
        yield f"{path}.best_of_sequences[{n}]", other.get("generated_text"), other


def _choice(path: str, text: Any, details: Mapping[str, Any], number: int) -> Choice:
    logprobs = {key: value for key, value in details.items() if key in _LOGPROBS_KEYS}
    return Choice(
        index=number,
        path=path,
        finish_reason=text_or_none(details.get("finish_reason")),
        text=text_or_none(text),
        logprobs=logprobs or msgspec.UNSET,
        shape=NAME,
    )


def read_tokens(value: Mapping[str, Any], _: ChoiceContext, /) -> TemplateAndTokens:
    """The template, and the tokens of prompt and answer."""
    template: dict[str, Any] = {"shape": NAME}
    listed = {key: list_or_empty(value.get(key)) for key in _LOGPROBS_KEYS}
    objects = {key: [_as_object(item) for item in listed[key]] for key in ("tokens", "prefill")}
    tops = [list_or_empty(top) for top in pad_alternatives(listed["top_tokens"], len(objects["tokens"]))]
    tokens = [
        read_token(item, _FORM, read_alternatives(top, _FORM))
        for item, top in zip(objects["tokens"], tops, strict=True)
    ]
    prefill = read_tokens_with_alternatives(objects["prefill"], _FORM)
    flat = [other for top in tops for other in top[:MAX_ALTERNATIVES]]
    described = {
        "tokens": {**list_template(objects["tokens"], tops, tokens, _FORM), **_special_positions(objects["tokens"])},
        "prefill": list_template(objects["prefill"], [()] * len(prefill), prefill, _FORM),
        "top_tokens": {**_special_positions(flat), **_lengths(listed["top_tokens"], tokens)},
    }
    for key in ("tokens", "prefill"):
        if any(isinstance(item, list) for item in listed[key]):
            described[key]["triples"] = True
    template |= {key: None if value[key] is None else described[key] for key in _LOGPROBS_KEYS if key in value}
    return template, {"prompt": prefill, "content": tokens}


def _as_object(item: Any) -> Any:
    """A triple of the first releases as an object; any other item as it is."""
    is_triple = isinstance(item, list) and len(item) == len(_TRIPLE)
    return dict(zip(_TRIPLE, item, strict=True)) if is_triple else item


def _special_positions(items: Sequence[Any]) -> dict[str, Any]:
    """The positions of the special items, if most items have the key `special`."""
    marked = [isinstance(item, dict) and "special" in item for item in items]
    if 2 * sum(marked) <= len(items):
        return {}
    return {"special": [n for n, item in enumerate(items) if marked[n] and item["special"] is True]}


def _lengths(listed: Sequence[Any], tokens: Sequence[Token]) -> dict[str, Any]:
    """What the template says of `top_tokens`: whether it holds null, and its length where that is not the tokens'."""
    found: dict[str, Any] = {"empty": "null"} if None in listed else {}
    return found if len(listed) == len(tokens) else {**found, "length": len(listed)}


def rebuild(template: Mapping[str, Any], tokens: TokensBySection) -> dict[str, Any]:
    """The wire's value, as far as template and tokens determine it."""
    content, rebuilt = tokens.get("content", ()), {}
    for key, rows in (("tokens", content), ("prefill", tokens.get("prompt", ()))):
        if key in template:
            rebuilt[key] = None if template[key] is None else _rebuild_list(template[key], rows)
    held = template.get("top_tokens")
    if "top_tokens" in template:
        rebuilt["top_tokens"] = None if held is None else _rebuild_top(template.get("tokens") or {}, held, content)
    return rebuilt


def _rebuild_list(template: Mapping[str, Any], rows: Sequence[Token]) -> list[Any]:
    found: list[Any] = _mark_special(template, rebuild_tokens(template, rows, _FORM))
    return [list(item.values()) for item in found] if "triples" in template else found


def _rebuild_top(
    template: Mapping[str, Any], lists: Mapping[str, Any], rows: Sequence[Token]
) -> list[list[dict[str, Any]] | None]:
    found = [rebuild_alternatives(template, token, _FORM) for token in rows[: lists.get("length")]]
    _mark_special(lists, [other for top in found for other in top])
    return [top or None for top in found] if "empty" in lists else list(found)


def _mark_special(template: Mapping[str, Any], items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items, each marked as special or not if the template lists the special ones."""
    if "special" in template:
        for item in items:
            item["special"] = False
        for n in template["special"]:
            items[n]["special"] = True
    return items
