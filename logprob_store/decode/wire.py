r"""The `wire` column: what the rows cannot say about a `logprobs` value, so that it can be rebuilt exactly.

It is a JSON object: `shape` names the format, further keys are that format's template (which keys are present), and
`patch` lists what template and rows get wrong. `layout` is what a body's reader adds for a value that it put into the
chat shape, and `prompt_logprobs` another such object for vLLM's second value. For regular answers there is no patch and
the column is one constant. Leaves out what a template means; each shape's module owns that.

A patch is a list of `[path, value]` (put this there) and `[path]` (remove what is there). The path `[]` is the whole.

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

MOST_DEPTH: Final = 64
"""Deeper values in a patch are refused: a reader's recursion must never depend on what a server sent."""

_PLAIN: Final = frozenset((int, str))
_NUMBERS: Final = (int, float)


def as_text(template: Mapping[str, Any]) -> str:
    """The template as it stands in the column: compact, ASCII (lone surrogates survive as escapes)."""
    return json.dumps(template, separators=(",", ":"))


def join(text: str, key: str, part: str) -> str:
    """The column's text with another JSON text under a key of its own.

    >>> join('{"shape":"chat"}', "layout", '{"format":"x"}')
    '{"shape":"chat","layout":{"format":"x"}}'
    """
    return f'{text[:-1]},"{key}":{part}}}'


def seal(template: dict[str, Any], rebuilt: Any, original: Any, *, ordered: bool = False) -> str:
    """The column's text for a value: the template, and a patch if rows and template do not say it all."""
    patch = differences(original, rebuilt, ordered=ordered)
    if not patch:
        return as_text(template)
    if too_deep(patch, MOST_DEPTH):
        raise DecodeError(f"logprobs are nested deeper than {MOST_DEPTH} levels")
    return as_text({**template, "patch": patch})


def differences(original: Any, rebuilt: Any, *, ordered: bool = False) -> list[list[Any]]:
    """The patch that makes `rebuilt` the original, floats compared by their bits, 0 and 0.0 alike.

    Args:
        original: the wire's value.
        rebuilt: what the rows and the template say.
        ordered: whether the order of keys in dicts inside lists matters (where it carries the rank).
    """
    patch: list[list[Any]] = []
    _compare(original, rebuilt, [], patch, ordered=ordered)
    return patch


def _compare(original: Any, rebuilt: Any, path: list[str | int], patch: list[list[Any]], *, ordered: bool) -> None:
    if isinstance(original, dict) and isinstance(rebuilt, dict):
        if not (ordered and path and list(original) != list(rebuilt)):
            _compare_dicts(original, rebuilt, path, patch, ordered=ordered)
            return
    elif isinstance(original, list) and isinstance(rebuilt, list):
        if original == rebuilt and _PLAIN.issuperset(map(type, original)):
            return  # most lists are bytes: no need to look at each
        if len(original) == len(rebuilt):
            path.append(0)
            for index, (one, other) in enumerate(zip(original, rebuilt, strict=True)):
                path[-1] = index
                _compare(one, other, path, patch, ordered=ordered)
            path.pop()
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
    """The value with the patch put in, changed in place where it can be."""
    for path, *put in patch:
        if not path:
            value = put[0]
            continue
        place = value
        for step in path[:-1]:
            place = place[step]
        if put:
            place[path[-1]] = put[0]
        else:
            del place[path[-1]]
    return value


def too_deep(value: Any, levels: int) -> bool:
    """Whether a JSON value has more than so many levels of lists and objects.

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
