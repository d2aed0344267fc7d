"""The legacy completions shape: `{tokens, token_logprobs, top_logprobs: [{text: logprob} | null] | null, text_offset}`.

Together's `{content: null, tokens, token_logprobs, token_ids}` on the chat endpoint is the same shape. If the request
asked for an echo, the first tokens are those of the prompt. Answers of the completions endpoint in the chat shape are
read by `chat`.

An odd item costs itself alone. A list whose length is not that of the others costs the column: it cannot be told which
value is whose. A token that is a number is an id. The patch has what the wire said.

A template looks like `{"shape": "tokens", "keys": {"tokens": "list", "token_logprobs": "list", "top_logprobs": "null",
"text_offset": 0}}`: the keys in their order, and the kind of each value. `text_offset` is the first token's offset if
the others follow from the lengths of the tokens in code points; otherwise it is the list itself.
"""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.chat import make_chat_token
from logprob_store.decode.formats.echoed_prompt import count_echoed_tokens
from logprob_store.decode.token_rows import NO_ID, Token, make_token

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from logprob_store.decode.formats.base import ChoiceContext, TemplateAndTokens

NAME: Final = "tokens"
ORDERED: Final = True
"""The order of keys in a dict of alternatives is their rank."""

_COLUMNS: Final = ("tokens", "token_logprobs", "top_logprobs", "token_ids")


def recognises_logprobs(value: Mapping[str, Any]) -> bool:
    """Whether a `logprobs` object is of this shape."""
    return isinstance(value.get("tokens"), list) or isinstance(value.get("token_logprobs"), list)


def read_tokens(value: Mapping[str, Any], context: ChoiceContext) -> TemplateAndTokens:
    """The template, and the tokens of the echoed prompt and of the answer."""
    lengths = [len(value[key]) for key in (*_COLUMNS, "text_offset") if isinstance(value.get(key), list)]
    length = Counter(lengths).most_common(1)[0][0]  # of two that are as common, the first: that of the tokens
    columns = [_column(value.get(key), length) for key in _COLUMNS]
    has_ids = value.get("token_ids") is not None
    tokens = [
        _read_token(text, logprob, others, token_id if has_ids else NO_ID)
        for text, logprob, others, token_id in zip(*columns, strict=True)
    ]
    kinds = {key: _kind(key, held, tokens) for key, held in value.items()}
    keys = {key: kind for key, kind in kinds.items() if kind is not None}
    cut = count_echoed_tokens(tokens, value.get("text_offset"), context)
    return {"shape": NAME, "keys": keys}, {"prompt": tokens[:cut], "content": tokens[cut:]}


def _column(held: Any, length: int) -> Sequence[Any]:
    """A list with an item for each token; nulls if it is no list, or one of another length."""
    return held if isinstance(held, list) and len(held) == length else [None] * length


def _read_token(text: Any, logprob: Any, others: Any, token_id: Any) -> Token:
    if not isinstance(text, str):
        token_id = text if token_id is NO_ID else token_id
        text = None
    return make_token(text, logprob=logprob, token_id=token_id, alternatives=_alternatives(others))


def _alternatives(held: Any) -> Sequence[Token]:
    """The alternatives in an object of texts to numbers, or in objects of the chat shape."""
    if held is None:
        return ()
    if isinstance(held, dict) and not ("logprob" in held and isinstance(held.get("token"), str)):
        return [make_token(text, logprob=logprob) for text, logprob in held.items()]
    listed = [held] if isinstance(held, dict) else held if isinstance(held, list) else ()
    return [make_chat_token(one) for one in listed]


def _kind(key: str, held: Any, tokens: Sequence[Token]) -> Any:
    """What a template says of a key's value; None for a key that is left to the patch."""
    if held is None:
        return "null"
    if key == "text_offset":
        return _start(held, tokens)
    return "list" if key in _COLUMNS and isinstance(held, list) else None


def _start(offsets: Any, tokens: Sequence[Token]) -> Any:
    """The offset of the first token if the others follow from it, else the list; None if it is no list."""
    if isinstance(offsets, list) and offsets and type(offsets[0]) is int and offsets == _starts(tokens, offsets[0]):
        # True and 1.0 are equal to 1 and would come back as 1.
        return offsets[0] if all(type(offset) is int for offset in offsets) else offsets
    return offsets if isinstance(offsets, list) else None


def _starts(tokens: Sequence[Token], start: int) -> list[int]:
    """Where each token starts, in code points: `[0, 2]` for "Hi", " all"."""
    return list(accumulate((len(token.text or "") for token in tokens), initial=start))[:-1]


def rebuild(template: Mapping[str, Any], tokens: Mapping[str, Sequence[Token]]) -> dict[str, Any]:
    """The wire's value, as far as template and tokens determine it."""
    rows = [*tokens.get("prompt", ()), *tokens.get("content", ())]
    return {key: None if kind == "null" else _rebuild_key(key, kind, rows) for key, kind in template["keys"].items()}


def _rebuild_key(key: str, kind: Any, rows: Sequence[Token]) -> list[Any]:
    if key == "tokens":
        return [token.text for token in rows]
    if key == "token_logprobs":
        return [token.logprob for token in rows]
    if key == "token_ids":
        return [token.token_id for token in rows]
    if key == "top_logprobs":
        return [{other.text: other.logprob for other in token.alternatives} or None for token in rows]
    return kind if isinstance(kind, list) else _starts(rows, kind)
