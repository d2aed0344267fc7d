"""SGLang's own `/generate`: one answer, or a list of them for several samples (`n`) or prompts.

The logprobs part is an object with the keys of `meta_info` that hold logprobs: `{"output_token_logprobs": [[logprob,
id, text | null]], "output_top_logprobs": [[[logprob, id, text]] | null], "output_token_ids_logprobs": [...],
"input_token_logprobs": ..., ...}`. Releases before 0.4 say `decode_` for `output_` and `prefill_` for `input_`. Keys
with `input_` or `prefill_` are those of the prompt, whose first token has a null logprob and no alternatives.

Without `return_text_in_logprobs` (or a tokenizer) the texts are null, and so is `token` in the rows: only the id was
sent. `token_ids_logprobs` are those of ids that the request asked for. They follow the top ones as alternatives, except
those that are among the top, so that no probability counts twice. They need not be likely: an analysis of the top k has
to leave out ranks beyond `top_logprobs_num`.

A template looks like `{"shape": "sglang", "keys": {"output_token_logprobs": 3, "output_top_logprobs": {"top": 5},
"output_token_ids_logprobs": {"ids": [7, 9]}}}`: a list of triples, lists of the first 5 alternatives, lists of the
alternatives with these ids. `"length"` is that of a list that is shorter than the tokens; `"empty": "list"` says that
the list of a token without alternatives is `[]` and not null.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

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
    objects_of_body,
    pad_alternatives,
    sum_counts,
)
from logprob_store.decode.formats.pieces import Piece, value_of
from logprob_store.decode.token_rows import Token, make_token
from logprob_store.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from logprob_store.decode.formats.base import ChoiceContext, TemplateAndTokens, TokensBySection
    from logprob_store.request import Answer

NAME: Final = "sglang"
PROMPT_KEY: Final = "text"
ORDERED: Final = False
LISTS: Final = True

_META: Final = "meta_info"
_KEY: Final = re.compile(r"(output|decode|input|prefill)_(token|top|token_ids)_logprobs")
_SECTION_OF: Final = {"output": "content", "decode": "content", "input": "prompt", "prefill": "prompt"}
_TRIPLE_LENGTH: Final = 3


class _Key(NamedTuple):
    """A key of `meta_info` such as `output_top_logprobs`, with its prefix (`output`) and its kind (`top`)."""

    key: str
    prefix: str
    kind: str


def recognises(keys: Collection[str]) -> bool:
    """Whether a body with these top-level keys is SGLang's own."""
    return _META in keys and "choices" not in keys


def read(answer: Answer) -> Reply:
    """Read everything but the tokens."""
    found = objects_of_body(answer)
    metas = [object_or_empty(item.get(_META)) for _, item in found]
    indices = number_choices([item.get("index") for _, item in found])
    choices = [_choice(*one) for one in zip(found, metas, indices, strict=True)]
    return Reply(
        response_id=text_or_none(metas[0].get("id")),
        model=text_or_none(found[0][1].get("model")),
        created=None,
        system_fingerprint=None,
        prompt_tokens=count_prompt_tokens([meta.get("prompt_tokens") for meta in metas]),
        completion_tokens=sum_counts(meta.get("completion_tokens") for meta in metas),
        choices=sorted(choices, key=lambda choice: choice.index),
    )


def _choice(found: tuple[str, Mapping[str, Any]], meta: Mapping[str, Any], index: int) -> Choice:
    path, item = found
    reason = meta.get("finish_reason")
    logprobs = {key: value for key, value in meta.items() if _KEY.fullmatch(key)}
    return Choice(
        index=index,
        path=child_path(path, _META),
        finish_reason=text_or_none(reason.get("type") if isinstance(reason, dict) else reason),
        text=text_or_none(item.get("text")),
        logprobs=logprobs or msgspec.UNSET,
        shape=NAME,
    )


def describe(held: Mapping[str, Any]) -> Piece | None:
    """What an object says about its stream; None if it is no body of SGLang's own."""
    meta = value_of(held, _META) if recognises(held) else None
    if not isinstance(meta, dict):
        return None
    index = frozenset({index_or_none(value_of(held, "index")) or 0})
    stream_id = meta.get("id")
    return Piece(
        stream_id if isinstance(stream_id, str) and stream_id else None,
        adds=index,
        ends=index if meta.get("finish_reason") is not None else frozenset(),
        may_be_whole=True,
    )


def text_of(pieces: Sequence[Mapping[str, Any]]) -> str:
    """The text that the pieces brought: the longest if each repeats the one before."""
    texts = [text for piece in pieces if isinstance(text := piece.get("text"), str)]
    repeat = all(other.startswith(one) for one, other in pairwise(texts))
    return (texts[-1] if texts else "") if repeat else "".join(texts)


def merge(pieces: Sequence[Mapping[str, Any]]) -> dict[str, Any] | list[dict[str, Any]]:
    """One body made of the pieces of a stream; a list of bodies if they are of several answers.

    Raises:
        DecodeError: the pieces have more tokens than the server counted, and do not repeat the ones before.
    """
    found: dict[Any, list[Mapping[str, Any]]] = {}
    for piece in pieces:
        if isinstance(piece.get(_META), dict):
            found.setdefault(index_or_none(piece.get("index")) or 0, []).append(piece)
    if not found:
        raise DecodeError(f"{_META}: no object in any of the pieces")
    bodies = [_merge_one(found[index]) for index in sorted(found)]
    return bodies[0] if len(bodies) == 1 else bodies


def _merge_one(pieces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    metas = [piece[_META] for piece in pieces]
    ids = Counter(meta["id"] for meta in metas if isinstance(meta.get("id"), str))
    if sum(count > 1 for count in ids.values()) > 1:
        raise DecodeError(f"{_META}.id: pieces of several answers in one stream")
    merged: dict[str, Any] = {}
    for meta in metas:
        merged |= {key: value for key, value in meta.items() if value or key not in merged}
    for key in [key for key in merged if _is_list_of_answer(key)]:
        values = [meta[key] for meta in metas if meta.get(key) is not None]
        if any(isinstance(value, list) for value in values):
            merged[key] = _joined(values, merged.get("completion_tokens"), key)
    return {**pieces[-1], "text": text_of(pieces), _META: merged}


def _is_list_of_answer(key: str) -> bool:
    """Whether a key holds a list with an item for each token of the answer; those of the prompt are sent once."""
    match = _KEY.fullmatch(key)
    return match is not None and _SECTION_OF[match[1]] == "content"


def _joined(values: Sequence[Any], tokens: Any, key: str) -> list[Any]:
    """One list of all tokens, from the lists of the pieces. A value that is no list is an item, unless lists repeat."""
    lists = [value for value in values if isinstance(value, list)]
    repeat = all(other[: len(one)] == one for one, other in pairwise(lists))
    every = [item for value in values for item in (value if isinstance(value, list) else [value])]
    if repeat and (len(lists[-1]) == tokens or len(every) != tokens):
        return lists[-1]
    if type(tokens) is not int or len(every) <= tokens:
        return every
    raise DecodeError(f"{_META}.{key}: the lists of the pieces have {len(every)} items, but there are {tokens} tokens")


def read_tokens(value: Mapping[str, Any], _: ChoiceContext, /) -> TemplateAndTokens:
    """The template, and the tokens of prompt and answer."""
    keys = [_Key(key, *match.groups()) for key in value if (match := _KEY.fullmatch(key))]
    kinds: dict[str, Any] = {}
    tokens: dict[str, list[Token]] = {}
    for prefix, section in _SECTION_OF.items():
        own_keys = {key.kind: key.key for key in keys if key.prefix == prefix}
        if own_keys and section not in tokens:
            tokens[section] = _read_section(value, own_keys, kinds)
    return {"shape": NAME, "keys": {key: kinds[key] for key in value if key in kinds}}, tokens


def _read_section(value: Mapping[str, Any], keys: Mapping[str, str], kinds: dict[str, Any]) -> list[Token]:
    """The tokens of one section; puts what the template says of each of its keys into `kinds`."""
    for key in keys.values():
        if value[key] is None:
            kinds[key] = None
    name = keys.get("token", "")
    listed = list_or_empty(value.get(name))
    lists: dict[str, list[list[Token]]] = {}
    for kind in ("top", "token_ids"):
        key = keys.get(kind, "")
        held = pad_alternatives(value.get(key), len(listed))
        lists[kind] = [[_read_one(item) for item in list_or_empty(one)] for one in held]
        if isinstance(value.get(key), list):
            kinds[key] = _kind_of(kind, value[key], lists[kind])
    if isinstance(value.get(name), list):
        widths = Counter(len(item) for item in listed if isinstance(item, list))
        kinds[name] = widths.most_common(1)[0][0] if widths else _TRIPLE_LENGTH
    others = [_join_alternatives(*both) for both in zip(lists["top"], lists["token_ids"], strict=True)]
    return [_read_one(item, alternatives) for item, alternatives in zip(listed, others, strict=True)]


def _read_one(item: Any, alternatives: Sequence[Token] = ()) -> Token:
    logprob, token_id, text = (*list_or_empty(item), None, None, None)[:_TRIPLE_LENGTH]
    return make_token(text, logprob=logprob, token_id=token_id, alternatives=alternatives)


def _kind_of(kind: str, held: Sequence[Any], read: Sequence[Sequence[Token]]) -> dict[str, Any]:
    """What the template says of the lists of alternatives under a key."""
    longest = max(read, key=len, default=())
    found: dict[str, Any] = {"top": len(longest)} if kind == "top" else {"ids": [token.token_id for token in longest]}
    if [] in held:
        found["empty"] = "list"
    if len(held) < len(read):
        found["length"] = len(held)
    return found


def _join_alternatives(top: Sequence[Token], asked: Sequence[Token]) -> list[Token]:
    """The top alternatives, then those that were asked for and are not among them."""
    known = {token.token_id for token in top}
    return [*top, *(token for token in asked if token.token_id is None or token.token_id not in known)]


def rebuild(template: Mapping[str, Any], tokens: TokensBySection) -> dict[str, Any]:
    """The wire's value, as far as template and tokens determine it."""
    rebuilt: dict[str, Any] = {}
    for key, kind in template["keys"].items():
        rows = tokens.get(_SECTION_OF[key.partition("_")[0]], ())
        if isinstance(kind, int):
            rebuilt[key] = [_rebuild_one(token, kind) for token in rows]
        else:
            rebuilt[key] = None if kind is None else _rebuild_lists(kind, rows)
    return rebuilt


def _rebuild_one(token: Token, width: int = _TRIPLE_LENGTH) -> list[Any]:
    return [token.logprob, token.token_id, token.text][:width]


def _rebuild_lists(kind: Mapping[str, Any], rows: Sequence[Token]) -> list[Any]:
    found = []
    for token in rows[: kind.get("length")]:
        others = token.alternatives[: kind.get("top")]
        if "ids" in kind:
            by_id = {other.token_id: other for other in reversed(others)}
            others = [by_id[token_id] for token_id in kind["ids"] if token_id in by_id]
        found.append([_rebuild_one(other) for other in others] or ([] if "empty" in kind else None))
    return found
