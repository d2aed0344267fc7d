"""Prompt templates: text in which `{column}` stands for the value of a column.

`str.format` was rejected: `{x.__class__}` and `{x[0]}` reach into objects, and the author of a template may be
somebody other than the person who runs the job. Here a field is the exact name of a column, and a value is only copied.
"""

from __future__ import annotations

import re
from datetime import date, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from logprob_store.errors import PromptError, TemplateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BRACE: Final = re.compile(r"\{\{|\}\}|\{|\}")
_FORBIDDEN: Final = re.compile(r"[.\[\]!:]")
_REASONS: Final = {
    ".": "attribute access ('.') is not allowed",
    "[": "indexing ('[') is not allowed",
    "]": "indexing (']') is not allowed",
    "!": "a conversion ('!') is not allowed",
    ":": "a format specification (':') is not allowed",
}


class Template:
    r"""Text in which `{column}` stands for a value, and `{{` and `}}` for the braces themselves.

    Values are copied, never interpreted: text as it is, true and false in lower case (as JSON writes them),
    numbers, dates and times as `str()` writes them, decimals without an exponent. Braces in a value are plain
    text.

    Attributes:
        text: the template as written.
        fields: the columns that the template names, each once, in the order of first use.

    Raises:
        TemplateError: the braces hold anything but the plain name of a column.

    >>> capital = Template("Country: {country}\nCapital:")
    >>> capital.fields
    ('country',)
    >>> capital.render({"country": "{France}"})
    'Country: {France}\nCapital:'
    >>> Template('{{"name": "{name}"}}').render({"name": "Ada"})
    '{"name": "Ada"}'
    """

    __slots__ = ("_parts", "fields", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts = tuple(_parts(text))
        self.fields = tuple(dict.fromkeys(name for _, name in self._parts if name is not None))

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def render(self, values: Mapping[str, Any]) -> str:
        """The text with each field replaced by its value.

        Args:
            values: from column name to value; columns that the template does not name are ignored.

        Raises:
            PromptError: a value is null (`error_type` "null_prompt"), or has a type without a plain text.
            TemplateError: a column is not among `values`.

        >>> Template("{a} or {b}: {sure}").render({"a": 1.5, "b": "{a}", "sure": True})
        '1.5 or {a}: true'
        """
        written: list[str] = []
        for literal, name in self._parts:
            written.append(literal)
            if name is not None:
                if name not in values:
                    raise TemplateError(
                        f"the template names {{{name}}}, but there is no such column among "
                        f"{', '.join(map(repr, values))}"
                    )
                written.append(_value_text(name, values[name]))
        return "".join(written)


def _value_text(name: str, value: Any) -> str:
    if value is None:
        raise PromptError(
            f"column {name!r} is null and the template needs it: fill it, or leave the row out",
            error_type="null_prompt",
        )
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        # str() writes 0.0000001 as 1E-7, which is not the text of the column.
        return format(value, "f")
    if isinstance(value, (int, float, date, time, UUID)):
        return str(value)
    raise PromptError(
        f"column {name!r} holds a {type(value).__name__}, which has no plain text for a template: cast it"
    )


def _parts(text: str) -> Iterator[tuple[str, str | None]]:
    """The template as pairs of literal text and the field that follows it; the last pair has no field."""
    literal: list[str] = []
    at = 0
    while brace := _BRACE.search(text, at):
        literal.append(text[at : brace.start()])
        at = brace.end()
        if brace.group() in {"{{", "}}"}:
            literal.append(brace.group()[0])
        elif brace.group() == "}":
            raise _error_at(text, brace.start(), "'}' closes nothing")
        else:
            name = _field_name(text, brace.start())
            yield "".join(literal), name
            literal = []
            at += len(name) + 1
    literal.append(text[at:])
    yield "".join(literal), None


def _field_name(text: str, at: int) -> str:
    """The name in the braces that open at `at`."""
    end = text.find("}", at)
    name = text[at + 1 : end]
    if end == -1 or "{" in name:
        raise _error_at(text, at, "'{' is not closed")
    if not name.strip():
        raise _error_at(text, at, "the braces name no column")
    if name.isdecimal():
        raise _error_at(text, at, f"{{{name}}} is a position, and fields have names")
    if found := _FORBIDDEN.search(name):
        raise _error_at(text, at + 1 + found.start(), f"in {{{name}}}, {_REASONS[found.group()]}")
    return name


def _error_at(text: str, at: int, what: str) -> TemplateError:
    near = text[max(at - 20, 0) : at + 20]
    return TemplateError(
        f"the template is wrong at position {at} (near {near!r}): {what}. Only {{column}} with the "
        "exact name of a column is allowed: rename a column whose name holds any of . [ ] ! : or is a number, "
        "and double a brace that is meant as text: {{ or }}"
    )
