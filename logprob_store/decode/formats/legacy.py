"""The legacy completions shape: `{tokens, token_logprobs, top_logprobs: [{text: logprob} | null] | null, text_offset}`.

Together's `{content: null, tokens, token_logprobs, token_ids}` on the chat endpoint is the same shape. If the request
asked for an echo, the first tokens are those of the prompt. Answers of the completions endpoint in the chat shape are
read by `chat`.

A template looks like `{"shape": "tokens", "keys": {"tokens": "list", "token_logprobs": "list", "top_logprobs": "null",
"text_offset": 0}}`: the keys in their order, and the kind of each value. `text_offset` is the first token's offset if
the others follow from the lengths of the tokens in code points; otherwise it is the list itself.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.body import expect_object
from logprob_store.decode.token_rows import NO_ID, Token, make_token
from logprob_store.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from logprob_store.decode.formats.base import ChoiceContext, TemplateAndTokens

NAME: Final = "tokens"
ORDERED: Final = True
"""The order of keys in a dict of alternatives is their rank."""

_COLUMNS: Final = ("token_logprobs", "top_logprobs", "token_ids")


def recognises_logprobs(value: Mapping[str, Any]) -> bool:
    """Whether a `logprobs` object is of this shape."""
    return isinstance(value.get("tokens"), list)


def read_tokens(value: Mapping[str, Any], context: ChoiceContext) -> TemplateAndTokens:
    """The template, and the tokens of the echoed prompt and of the answer."""
    texts = value["tokens"]
    columns = {key: _column(value, key, len(texts), context) for key in _COLUMNS}
    tokens = [
        make_token(
            text,
            f"{context.path}.tokens[{n}]",
            logprob=columns["token_logprobs"][n],
            token_id=NO_ID if value.get("token_ids") is None else columns["token_ids"][n],
            alternatives=_alternatives(columns["top_logprobs"][n], f"{context.path}.top_logprobs[{n}]"),
        )
        for n, text in enumerate(texts)
    ]
    keys = {key: _kind(key, held, tokens) for key, held in value.items() if _kind(key, held, tokens) is not None}
    cut = _prompt_tokens(value, tokens, context)
    return {"shape": NAME, "keys": keys}, {"prompt": tokens[:cut], "content": tokens[cut:]}


def _column(value: Mapping[str, Any], key: str, length: int, context: ChoiceContext) -> Sequence[Any]:
    """The list under a key, with an item for each token; nulls if it is null or absent."""
    held = value.get(key)
    if held is None:
        return [None] * length
    if not isinstance(held, list) or len(held) != length:
        found = f"{len(held)} items" if isinstance(held, list) else type(held).__name__
        raise DecodeError(f"{context.path}.{key}: expected a list of {length} items, one for each token, got {found}")
    return held


def _alternatives(held: Any, path: str) -> Sequence[Token]:
    if held is None:
        return ()
    return [make_token(text, path, logprob=logprob) for text, logprob in expect_object(held, path).items()]


def _kind(key: str, held: Any, tokens: Sequence[Token]) -> Any:
    """What a template says of a key's value; None for a key that is left to the patch."""
    if held is None:
        return "null"
    if key == "text_offset":
        return _start(held, tokens)
    return "list" if key == "tokens" or key in _COLUMNS else None


def _start(offsets: Any, tokens: Sequence[Token]) -> Any:
    """The offset of the first token if the others follow from it, else the list; None if it is no list."""
    if isinstance(offsets, list) and offsets and type(offsets[0]) is int and offsets == _starts(tokens, offsets[0]):
        # True and 1.0 are equal to 1 and would come back as 1.
        return offsets[0] if all(type(offset) is int for offset in offsets) else offsets
    return offsets if isinstance(offsets, list) else None


def _starts(tokens: Sequence[Token], start: int) -> list[int]:
    """Where each token starts, in code points: `[0, 2]` for "Hi", " all"."""
    return list(accumulate((len(token.text or "") for token in tokens), initial=start))[:-1]


def _prompt_tokens(value: Mapping[str, Any], tokens: Sequence[Token], context: ChoiceContext) -> int:
    """How many of the first tokens are those of an echoed prompt.

    If a token starts right after the prompt's text, its offset decides. If none does, the server's count of prompt
    tokens decides: a server may put a begin-of-text token in front, whose letters count in the offsets.
    """
    if not context.echo:
        return 0
    if isinstance(context.prompt, list):
        return min(len(context.prompt), len(tokens))
    length = None if context.prompt is None else len(context.prompt)
    if context.prompt and context.text is not None and not context.text.startswith(context.prompt):
        return 0  # the server ignored `echo`
    offsets = value.get("text_offset")
    if not (isinstance(offsets, list) and len(offsets) == len(tokens) and all(type(o) is int for o in offsets)):
        offsets = _starts(tokens, 0)
    ends = [offset - offsets[0] for offset in offsets] + [sum(len(token.text or "") for token in tokens)]
    counted = context.prompt_tokens
    if counted is not None and counted <= len(tokens) and (length is None or length not in ends):
        return counted
    return 0 if length is None else sum(end < length for end in ends[:-1])


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
