"""Tokens as objects with named fields, as servers' native answers list them.

Holds one description of such objects (`Form`), how a list of them is read, what a template says of a list, and how it
is rebuilt. Leaves out where the lists stand in a body (`llamacpp`, `ollama`, `tgi`, `gemini`).

The template of a list says which keys its objects have: `{"token": ["id", "token", "bytes?", "prob", "top_probs"],
"alternative": ["id", "token", "prob"], "prob": "single"}`. A `?` marks a key that is absent where there is nothing to
say (no bytes, no alternatives). What else an object holds, or lacks, is left to the patch.

Where a server sends a probability p, its logarithm is stored: ln p is what every other row holds. exp(ln p) often
differs from p in the last bits, and a patch for each would double the size. Servers compute in single precision,
though: rounding exp(ln p) to that gives p back, and `"prob": "single"` says to do so.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.body import expect_list, expect_object
from logprob_store.decode.token_rows import Token, make_token

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PROB: Final = "prob"
"""The field of a probability, which becomes a Token's `logprob`."""

_MAYBE: Final = "?"


@dataclass(frozen=True, slots=True)
class TokenForm:
    """How a format spells a token.

    Args:
        fields: key on the wire to field of Token, or to PROB; several keys of one field are spellings of it, and the
            first that an object has counts.
        tops: the keys under which an object may hold its own alternatives.
        nullable: whether an object may do without a text. The row's token is null then: "" would be a claim.
    """

    fields: Mapping[str, str]
    tops: tuple[str, ...] = ()
    nullable: bool = False

    def alternatives_key(self, item: Mapping[str, Any]) -> str | None:
        """The key that holds an object's alternatives, if one does."""
        return next((key for key in self.tops if item.get(key) is not None), None)


def read_tokens_with_alternatives(items: Any, path: str, form: TokenForm) -> list[Token]:
    """The tokens of a list, with the alternatives that each of them holds."""
    return [_read_token(expect_object(item, f"{path}[{n}]"), f"{path}[{n}]", form) for n, item in enumerate(items)]


def _read_token(item: dict[str, Any], path: str, form: TokenForm) -> Token:
    key = form.alternatives_key(item)
    others = () if key is None else read_alternatives(item[key], f"{path}.{key}", form)
    return read_token(item, path, form, others)


def read_alternatives(items: Any, path: str, form: TokenForm) -> list[Token]:
    """The tokens of a list of alternatives."""
    return [read_token(item, f"{path}[{n}]", form) for n, item in enumerate(expect_list(items, path))]


def read_token(item: Any, path: str, form: TokenForm, alternatives: Sequence[Token] = ()) -> Token:
    """The token that an object says."""
    found = expect_object(item, path)
    held: dict[str, Any] = {}
    for key, field in form.fields.items():
        if key in found:
            held.setdefault(field, found[key])
    texts = [key for key, field in form.fields.items() if field == "text"]
    spelling = next((key for key in texts if key in found), texts[0])
    return make_token(
        held.get("text"),
        f"{path}.{spelling}",
        logprob=held["logprob"] if "logprob" in held else log_or_none(held.get(PROB)),
        byte_values=held.get("bytes"),
        token_id=held.get("token_id"),
        alternatives=alternatives,
        nullable=form.nullable,
    )


def log_or_none(probability: Any) -> float | None:
    """The logarithm of a probability; -inf for 0, None for what has none.

    >>> log_or_none(1), log_or_none(0), log_or_none(-0.5), log_or_none(None)
    (0.0, -inf, None, None)
    """
    if type(probability) not in (int, float) or probability < 0:
        return None
    return math.log(probability) if probability else -math.inf


def _exp(logprob: float | None, *, single: bool) -> float | None:
    """The way back from `ln`, as near as it gets."""
    if logprob is None:
        return None
    try:
        found = math.exp(logprob)
    except OverflowError:
        return math.inf
    return ctypes.c_float(found).value if single else found


def list_template(
    items: Sequence[Any], others: Sequence[Any], tokens: Sequence[Token], form: TokenForm
) -> dict[str, Any]:
    """The template of a list: its objects, those of all its alternatives, and the tokens they were read as."""
    flat = [other for token in tokens for other in token.alternatives]
    template: dict[str, Any] = {}
    if items:
        template["token"] = _keys(items, tokens, (*form.fields, *form.tops), form)
    if others:
        template["alternative"] = _keys(others, flat, form.fields, form)
    probability = [
        (item[key], token.logprob)
        for listed, read in ((items, tokens), (others, flat))
        for item, token in zip(listed, read, strict=True)
        for key, field in form.fields.items()
        if field == PROB and key in item
    ]
    wrong = [sum(_exp(logprob, single=single) != p for p, logprob in probability) for single in (False, True)]
    if wrong[True] < wrong[False]:
        template["prob"] = "single"
    return template


def nested_alternatives(items: Iterable[Any], form: TokenForm) -> list[Any]:
    """The objects of all alternatives that stand inside the objects of a list."""
    return [other for item in items for other in item.get(form.alternatives_key(item)) or ()]


def _keys(items: Sequence[Any], tokens: Sequence[Token], names: Iterable[str], form: TokenForm) -> list[str]:
    keys = []
    for name in names:
        has = [name in item for item in items]
        if all(has):
            keys.append(name)
        elif any(has) and has == [_says(token, name, form) for token in tokens]:
            keys.append(name + _MAYBE)
        elif 2 * sum(has) > len(has):
            keys.append(name)
    return keys


def _says(token: Token, name: str, form: TokenForm) -> bool:
    """Whether a token has something to say under a key."""
    value = _value(token, form.fields.get(name, "alternatives"), single=False)
    return value is not None and value != ()


def _value(token: Token, field: str, *, single: bool) -> Any:
    if field == PROB:
        return _exp(token.logprob, single=single)
    if field == "bytes":
        return None if token.bytes is None else list(token.bytes)
    return getattr(token, field)


def rebuild_tokens(template: Mapping[str, Any], tokens: Sequence[Token], form: TokenForm) -> list[dict[str, Any]]:
    """The objects of a list, with those of the alternatives in them."""
    rebuilt = []
    for token in tokens:
        item = _rebuild(token, template.get("token", ()), template, form)
        for key in template.get("token", ()):
            name = key.removesuffix(_MAYBE)
            if name in form.tops and (token.alternatives or name == key):
                item[name] = rebuild_alternatives(template, token, form)
        rebuilt.append(item)
    return rebuilt


def rebuild_alternatives(template: Mapping[str, Any], token: Token, form: TokenForm) -> list[dict[str, Any]]:
    """The objects of a token's alternatives."""
    return [_rebuild(other, template.get("alternative", ()), template, form) for other in token.alternatives]


def _rebuild(token: Token, keys: Iterable[str], template: Mapping[str, Any], form: TokenForm) -> dict[str, Any]:
    rebuilt = {}
    for key in keys:
        name = key.removesuffix(_MAYBE)
        if name in form.fields:
            value = _value(token, form.fields[name], single="prob" in template)
            if value is not None or name == key:
                rebuilt[name] = value
    return rebuilt
