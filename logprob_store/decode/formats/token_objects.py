"""Tokens as objects with named fields, as servers' native APIs list them.

A `TokenForm` describes such objects. The functions read a list of them, make the list's template, and rebuild it. Where
the lists are in a body is up to the formats (`llamacpp`, `tgi`, `gemini`).

The template of a list names the keys of its objects: `{"token": ["id", "token", "bytes?", "prob", "top_probs"],
"alternative": ["id", "token", "prob"], "prob": "single"}`. A `?` marks a key that is absent where it would have no
value (no bytes, no alternatives). Other differences between the objects are left to the patch.

If a server sends a probability p, the rows hold ln p, as for every other format. exp(ln p) often differs from p in the
last bits, and a patch for each would double the size. But servers compute in single precision: exp(ln p) rounded to
single precision gives p back, and `"prob": "single"` says to round.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.body import list_or_empty, object_or_empty
from logprob_store.decode.token_rows import Token, make_token

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PROB: Final = "prob"
"""The field of a probability; its logarithm becomes a Token's `logprob`."""

_OPTIONAL: Final = "?"


@dataclass(frozen=True, slots=True)
class TokenForm:
    """The keys of a token's object.

    Args:
        fields: key on the wire to field of Token, or to PROB. If several keys have one field, the first counts that an
            object has.
        tops: the keys under which an object may hold its own alternatives.
    """

    fields: Mapping[str, str]
    tops: tuple[str, ...] = ()

    def alternatives_of(self, item: Any) -> list[Any]:
        """The list of an object's alternatives; an empty one if there is none."""
        held = object_or_empty(item)
        return list_or_empty(next((held[key] for key in self.tops if held.get(key) is not None), None))


def read_tokens_with_alternatives(items: Any, form: TokenForm) -> list[Token]:
    """The tokens of a list, with the alternatives that each of them holds; none if it is no list."""
    return [_read_with_alternatives(item, form) for item in list_or_empty(items)]


def _read_with_alternatives(item: Any, form: TokenForm) -> Token:
    return read_token(item, form, read_alternatives(form.alternatives_of(item), form))


def read_alternatives(items: Any, form: TokenForm) -> list[Token]:
    """The tokens of a list of alternatives; none if it is no list."""
    return [read_token(item, form) for item in list_or_empty(items)]


def read_token(item: Any, form: TokenForm, alternatives: Sequence[Token] = ()) -> Token:
    """The token of an object; nulls for a value that is none."""
    held: dict[str, Any] = {}
    for key, field in form.fields.items():
        if key in object_or_empty(item):
            held.setdefault(field, item[key])
    return make_token(
        held.get("text"),
        logprob=held["logprob"] if "logprob" in held else log_or_none(held.get(PROB)),
        byte_values=held.get("bytes"),
        token_id=held.get("token_id"),
        alternatives=alternatives,
    )


def log_or_none(probability: Any) -> float | None:
    """The natural logarithm of a probability; -inf for 0, None for a value without one.

    >>> log_or_none(1), log_or_none(0), log_or_none(-0.5), log_or_none(None)
    (0.0, -inf, None, None)
    """
    if type(probability) not in (int, float) or probability < 0:
        return None
    return math.log(probability) if probability else -math.inf


def _exp(logprob: float | None, *, single: bool) -> float | None:
    """The probability again, within rounding; in single precision if `single`."""
    if logprob is None:
        return None
    try:
        found = math.exp(logprob)
    except OverflowError:
        return math.inf
    return ctypes.c_float(found).value if single else found


def list_template(
    items: Sequence[Any], others: Sequence[Sequence[Any]], tokens: Sequence[Token], form: TokenForm
) -> dict[str, Any]:
    """The template of a list. Items that are no objects are left to the patch.

    Args:
        items: its objects.
        others: the objects of the alternatives of each.
        tokens: the tokens that were read from both.
        form: the form of both.
    """
    chosen = [(item, token) for item, token in zip(items, tokens, strict=True) if isinstance(item, dict)]
    listed = [
        (item, other)
        for alternatives, token in zip(others, tokens, strict=True)
        for item, other in zip(alternatives, token.alternatives, strict=False)  # not more than rows can be
        if isinstance(item, dict)
    ]
    template: dict[str, Any] = {}
    if chosen:
        template["token"] = _keys(chosen, (*form.fields, *form.tops), form)
    if listed:
        template["alternative"] = _keys(listed, form.fields, form)
    probability = [
        (item[key], token.logprob)
        for item, token in (*chosen, *listed)
        for key, field in form.fields.items()
        if field == PROB and key in item
    ]
    wrong = [sum(_exp(logprob, single=single) != p for p, logprob in probability) for single in (False, True)]
    if wrong[True] < wrong[False]:
        template["prob"] = "single"
    return template


def nested_alternatives(items: Iterable[Any], form: TokenForm) -> list[list[Any]]:
    """The alternatives inside each object of a list."""
    return [form.alternatives_of(item) for item in items]


def _keys(read: Sequence[tuple[Mapping[str, Any], Token]], names: Iterable[str], form: TokenForm) -> list[str]:
    """The keys of objects, from the objects and the tokens that were read from them."""
    keys = []
    for name in names:
        has = [name in item for item, _ in read]
        if all(has):
            keys.append(name)
        elif any(has) and has == [_has_value(token, name, form) for _, token in read]:
            keys.append(name + _OPTIONAL)
        elif 2 * sum(has) > len(has):
            keys.append(name)
    return keys


def _has_value(token: Token, name: str, form: TokenForm) -> bool:
    """Whether a token has a value for a key."""
    value = _value(token, form.fields.get(name, "alternatives"), single=False)
    return value is not None and value != ()


def _value(token: Token, field: str, *, single: bool) -> Any:
    if field == PROB:
        return _exp(token.logprob, single=single)
    if field == "bytes":
        return None if token.bytes is None else list(token.bytes)
    return getattr(token, field)


def rebuild_tokens(template: Mapping[str, Any], tokens: Sequence[Token], form: TokenForm) -> list[dict[str, Any]]:
    """The objects of a list, with the objects of their alternatives in them."""
    rebuilt = []
    for token in tokens:
        item = _rebuild(token, template.get("token", ()), template, form)
        for key in template.get("token", ()):
            name = key.removesuffix(_OPTIONAL)
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
        name = key.removesuffix(_OPTIONAL)
        if name in form.fields:
            value = _value(token, form.fields[name], single="prob" in template)
            if value is not None or name == key:
                rebuilt[name] = value
    return rebuilt
