r"""The `wire` column: what the rows do not say about a `logprobs` value, so that it can be rebuilt exactly.

It is a JSON object. `shape` names the shape; the other keys are that shape's template (such as which keys a token has),
and each shape's module says what they mean. `patch` lists what template and rows get wrong. `layout` is there where the
reader of the body put the value into the chat shape, and `prompt_logprobs` is another such object for vLLM's second
value. Regular answers need no patch: the column then holds the same text for all of them.

A patch is a list of `[path, value]` (put this there) and `[path]` (remove what is there). The path `[]` is the whole; a
path to the end of a list appends.

>>> differences({"a": [1.0, None], "b": 2}, {"a": [1, 0], "c": 0})
[[['a', 1], None], [['c']], [['b'], 2]]
>>> apply_patch({"a": [1, 0], "c": 0}, _)
{'a': [1, None], 'b': 2}
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

from logprob_store.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DEPTH: Final = 64
"""Levels of lists and objects that a patch may have: how deep a reader recurses must not depend on the server."""

_PLAIN: Final = frozenset((int, str))
_NUMBERS: Final = (int, float)


def as_text(template: Mapping[str, Any]) -> str:
    """A template as compact ASCII JSON, in which lone surrogates survive as escapes."""
    return json.dumps(template, separators=(",", ":"))


def with_key(text: str, key: str, part: str) -> str:
    """The column's text with another JSON text under a new key.

    >>> with_key('{"shape":"chat"}', "layout", '{"format":"x"}')
    '{"shape":"chat","layout":{"format":"x"}}'
    """
    return f'{text[:-1]},"{key}":{part}}}'


def with_patch(template: dict[str, Any], rebuilt: Any, original: Any, *, ordered: bool = False) -> str:
    """The column's text for a value: the template, and a patch where `rebuilt` is not the original.

    Raises:
        DecodeError: the patch is nested deeper than MAX_DEPTH.
    """
    patch = differences(original, rebuilt, ordered=ordered)
    if not patch:
        return as_text(template)
    check_depth(patch)
    return as_text({**template, "patch": patch})


def check_depth(value: Any) -> None:
    """Raise DecodeError if a value to be stored in the column is nested deeper than MAX_DEPTH."""
    if too_deep(value, MAX_DEPTH):
        raise DecodeError(f"logprobs are nested deeper than {MAX_DEPTH} levels")


def differences(original: Any, rebuilt: Any, *, ordered: bool = False) -> list[list[Any]]:
    """The patch that turns `rebuilt` into the original. Floats are compared by their bits; 0 equals 0.0.

    Args:
        original: the wire's value.
        rebuilt: the value made from rows and template.
        ordered: whether the order of keys matters in dicts inside lists (in some shapes it is the rank).
    """
    patch: list[list[Any]] = []
    _compare(original, rebuilt, [], patch, ordered=ordered)
    return patch


def _compare(original: Any, rebuilt: Any, path: list[str | int], patch: list[list[Any]], *, ordered: bool) -> None:
    if isinstance(original, dict) and isinstance(rebuilt, dict):
        if not (ordered and path and list(original)[: len(rebuilt)] != list(rebuilt)):
            _compare_dicts(original, rebuilt, path, patch, ordered=ordered)
            return
    elif isinstance(original, list) and isinstance(rebuilt, list):
        if original == rebuilt and _PLAIN.issuperset(map(type, original)):
            return  # most lists are bytes: do not look at each item
        if len(original) == len(rebuilt) or (rebuilt and original[: len(rebuilt)] == rebuilt):
            path.append(0)
            for index, (one, other) in enumerate(zip(original, rebuilt, strict=False)):
                path[-1] = index
                _compare(one, other, path, patch, ordered=ordered)
            path.pop()
            patch.extend([[*path, n], original[n]] for n in range(len(rebuilt), len(original)))
            return
    elif _same(original, rebuilt):
        return
    patch.append([path.copy(), original])


def _compare_dicts(
    original: dict[str, Any], rebuilt: dict[str, Any], path: list[str | int], patch: list[list[Any]], *, ordered: bool
) -> None:
    path.append("")
    for key, value in rebuilt.items():
        path[-1] = key
        if key in original:
            _compare(original[key], value, path, patch, ordered=ordered)
        else:
            patch.append([path.copy()])
    path.pop()
    patch.extend([[*path, key], value] for key, value in original.items() if key not in rebuilt)


def _same(one: Any, other: Any) -> bool:
    if type(one) in _NUMBERS and type(other) in _NUMBERS:
        if one != one or other != other:  # noqa: PLR0124 - the one value that differs from itself
            return bool(one != one and other != other)  # noqa: PLR0124
        return bool(one == other and (one != 0 or math.copysign(1, one) == math.copysign(1, other)))
    return type(one) is type(other) and bool(one == other)


def apply_patch(value: Any, patch: list[list[Any]]) -> Any:
    """The value with the patch applied. Changes the value in place, unless the patch replaces the whole."""
    for path, *put in patch:
        if not path:
            value = put[0]
            continue
        place = value
        for step in path[:-1]:
            place = place[step]
        if put and isinstance(place, list) and path[-1] == len(place):
            place.append(put[0])
        elif put:
            place[path[-1]] = put[0]
        else:
            del place[path[-1]]
    return value


def too_deep(value: Any, levels: int) -> bool:
    """Whether a JSON value has more levels of lists and objects than `levels`.

    >>> too_deep([[1]], 2), too_deep([[1]], 1)
    (False, True)
    """
    layer = [value]
    for _ in range(levels):
        layer = [
            item
            for holder in layer
            if isinstance(holder, (list, dict))
            for item in (holder.values() if isinstance(holder, dict) else holder)
        ]
    return any(isinstance(item, (list, dict)) for item in layer)
