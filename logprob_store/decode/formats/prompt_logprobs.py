"""vLLM's `prompt_logprobs`: `[null, {"<token id>": {logprob, rank, decoded_token}, ...}, ...]`, an item a prompt token.

Each object becomes a token of section `prompt`, at its position in the list. The first token of a prompt has no
log-probability and its item is null, so positions start at 1. The object's first key is the prompt's own token; then
vLLM lists the likeliest tokens by rank. All keys, the first included, are alternatives in their order. Where the order
is another one, `prompt_tokens` finds the own token; where it cannot be told, the token's row is null and flagged.

A template looks like `{"shape": "prompt_logprobs", "nulls": [0], "keys": ["logprob", "rank", "decoded_token"], "ranks":
[1, 17]}`. `nulls` are the positions of the items that are null, `keys` those of the first object's first value. `ranks`
are those of the first keys, if they do not follow from the log-probabilities listed; the ranks of the others count from
1 and skip that one. `"echo": true` says that a value of the `legacy` shape echoed the same prompt, and that the rows
are those of both: the echo gives the first token, at position 0. The patch has what else the wire said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.prompt_tokens import Listed, own_places
from logprob_store.decode.token_rows import MAX_ALTERNATIVES, Token, make_token

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from logprob_store.decode.formats.base import ChoiceContext

NAME: Final = "prompt_logprobs"

_MOST_DIGITS: Final = 10
_KEYS: Final = ("logprob", "rank", "decoded_token")


def read_tokens(
    items: Sequence[Any], context: ChoiceContext
) -> tuple[dict[str, Any], dict[str, Sequence[Token | None]]]:
    """The template and the tokens, with None for an item that is null or empty."""
    positions = [_read_item(item) for item in items]
    ids = context.prompt_token_ids if context.prompt_token_ids is not None else context.prompt
    places = own_places(positions, ids, context.prompt if isinstance(context.prompt, str) else None)
    known_ids = ids if isinstance(ids, list) and len(ids) == len(items) else [None] * len(items)
    tokens: list[Token | None] = []
    for n, (item, listed) in enumerate(zip(items, positions, strict=True)):
        if listed is None:
            tokens.append(None if item is None or item == {} else Token(None))
            continue
        place = places[n]
        untold = make_token(None, token_id=known_ids[n])
        own = untold if place is None else listed.tokens[place]
        tokens.append(own._replace(alternatives=listed.tokens[:MAX_ALTERNATIVES]))
    return _template(items, positions, tokens), {"prompt": tokens}


def _template(
    items: Sequence[Any], positions: Sequence[Listed | None], tokens: Sequence[Token | None]
) -> dict[str, Any]:
    template: dict[str, Any] = {"shape": NAME, "nulls": [n for n, token in enumerate(tokens) if token is None]}
    values = (one for item in items if isinstance(item, dict) for one in item.values() if isinstance(one, dict))
    first: Mapping[str, Any] = next(values, {})
    template["keys"] = [key for key in _KEYS if key in first]
    rows = [listed for listed, token in zip(positions, tokens, strict=True) if token is not None]
    ranks = [None if listed is None else listed.ranks[0] for listed in rows]
    derived = [None if listed is None else _derived_rank(listed.tokens[:MAX_ALTERNATIVES]) for listed in rows]
    if ranks != derived and all(type(rank) is int for rank in ranks):
        template["ranks"] = ranks
    return template


def _read_item(item: Any) -> Listed | None:
    """What is listed at a position; None if it is nothing or no object."""
    if not isinstance(item, dict) or not item:
        return None
    values = [one if isinstance(one, dict) else {} for one in item.values()]
    tokens = [_read_one(key, one) for key, one in zip(item, values, strict=True)]
    return Listed(tokens, [one.get("rank") for one in values])


def _read_one(key: str, fields: Mapping[str, Any]) -> Token:
    return make_token(
        fields.get("decoded_token"),
        logprob=fields.get("logprob"),
        token_id=int(key) if _is_id(key) else None,
    )


def _is_id(key: str) -> bool:
    return key.isascii() and key.isdigit() and len(key) <= _MOST_DIGITS


def _derived_rank(listed: Sequence[Token]) -> int:
    """The rank of the first token, if every token that is likelier is listed."""
    own = listed[0].logprob
    return 1 + sum(own is not None and one.logprob is not None and one.logprob > own for one in listed)


def agree(listed: Sequence[Token | None], echoed: Sequence[Token]) -> bool:
    """Whether the tokens and log-probabilities of an echoed prompt are the same."""
    return len(listed) == len(echoed) and all(
        one is None or (one.text, one.logprob) == (echo.text, echo.logprob)
        for one, echo in zip(listed, echoed, strict=True)
    )


def rebuild(template: Mapping[str, Any], tokens: Mapping[str, Sequence[Token | None]]) -> list[Any]:
    """The wire's value, as far as template and tokens determine it."""
    rows = [token for token in tokens.get("prompt", ()) if token is not None]
    if "echo" in template:
        rows = [token for position, token in enumerate(rows) if position not in template["nulls"]]
    ranks = template.get("ranks") or [_derived_rank(token.alternatives or [token]) for token in rows]
    keys = template["keys"]
    rebuilt: list[Any] = [_rebuild_item(token, rank, keys) for token, rank in zip(rows, ranks, strict=True)]
    for position in template["nulls"]:
        rebuilt.insert(position, None)
    return rebuilt


def _rebuild_item(token: Token, own_rank: int, keys: Sequence[str]) -> dict[str, Any]:
    item: dict[str, Any] = {}
    rank = 0
    for n, other in enumerate(token.alternatives):
        if n:
            rank += 1
            rank += rank == own_rank
        values = {"logprob": other.logprob, "rank": rank if n else own_rank, "decoded_token": other.text}
        item[str(other.token_id)] = {key: values[key] for key in keys}
    return item
