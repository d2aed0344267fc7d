"""Templates: fields, escaped braces, and syntax that is refused."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logprob_store.errors import PromptError, TemplateError
from logprob_store.prompts.template import Template

NAMES = st.text(st.characters(exclude_characters="{}.[]!:", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name.strip() and not name.isdecimal()
)
LITERALS = st.text(st.characters(exclude_categories=["Cs"]))


def escaped(text: str) -> str:
    """The text with its braces doubled."""
    return text.replace("{", "{{").replace("}", "}}")


def test_a_field_is_replaced_by_its_value() -> None:
    """The example of the job file renders as it looks."""
    template = Template("Country: {country}\nCapital:")

    assert template.fields == ("country",)
    assert template.render({"country": "Peru", "other": 1}) == "Country: Peru\nCapital:"


def test_fields_are_listed_once_in_order_of_first_use() -> None:
    """A column named twice is one field."""
    assert Template("{b}{a}{b}").fields == ("b", "a")


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("{{x}}", "{x}"),
        ("{{{x}}}", "{1}"),
        ("}}{{", "}{"),
        ("{{{{", "{{"),
        ('{{"a": {x}}}', '{"a": 1}'),
        ("", ""),
    ],
)
def test_doubled_braces_are_braces(text: str, rendered: str) -> None:
    """Escaped braces work next to a field, around it and without one."""
    assert Template(text).render({"x": 1}) == rendered


@pytest.mark.parametrize(
    ("text", "what", "position"),
    [
        ("ab {x.__class__}", "attribute access", 5),
        ("{x[0]}", "indexing", 2),
        ("{x]}", "indexing", 2),
        ("{x!r}", "conversion", 2),
        ("{x:>10}", "format specification", 2),
        ("{x!r:>10}", "conversion", 2),
        ('{"name": "{name}"}', "not closed", 0),
        ("ab{}", "name no column", 2),
        ("{ }", "name no column", 0),
        ("{0}", "is a position", 0),
        ("ab {x", "not closed", 3),
        ("{x {y}", "not closed", 0),
        ("a } b", "closes nothing", 2),
        ("{a.b}", "rename a column", 2),
    ],
)
def test_anything_else_in_braces_is_an_error_that_names_its_position(text: str, what: str, position: int) -> None:
    """Attribute access, indexing, conversions, formats, positions and stray braces are refused."""
    with pytest.raises(TemplateError, match=f"position {position} .*{what}"):
        Template(text)


def test_names_with_spaces_are_columns() -> None:
    """The name is exactly the text between the braces."""
    assert Template("{first name}").render({"first name": "Ada"}) == "Ada"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("{x}", "{x}"),
        (12, "12"),
        (0.1, "0.1"),
        (True, "true"),
        (False, "false"),
        (Decimal("0.0000001"), "0.0000001"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC), "2026-01-02 03:04:00+00:00"),
        (dt.time(3, 4), "03:04:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_values_have_one_plain_text(value: object, text: str) -> None:
    """The model reads the value as it stands in the column."""
    assert Template("{x}").render({"x": value}) == text


def test_a_null_value_is_a_problem_of_the_row() -> None:
    """A null value never becomes the text None; the problem names the field."""
    with pytest.raises(PromptError, match="'x' is null") as caught:
        Template("{x}").render({"x": None})

    assert caught.value.error_type == "null_prompt"


def test_a_value_without_a_plain_text_is_a_problem_of_the_row() -> None:
    """A list is refused, not written in Python syntax."""
    with pytest.raises(PromptError, match="'x' holds a list") as caught:
        Template("{x}").render({"x": [1]})

    assert caught.value.error_type == "bad_prompt"


def test_a_missing_column_is_an_error_that_lists_the_others() -> None:
    """The error names the missing column and lists the others."""
    with pytest.raises(TemplateError, match=r"\{x\}.*'y'"):
        Template("{x}").render({"y": 1})


@given(st.lists(st.tuples(LITERALS, NAMES, LITERALS | st.integers() | st.floats())), LITERALS)
def test_rendered_text_is_literals_and_values_and_nothing_else(parts: list[tuple[str, str, object]], last: str) -> None:
    """Whatever the names, literals and values hold, the text is their concatenation."""
    values = {name: value for _, name, value in parts}
    text = "".join(f"{escaped(literal)}{{{name}}}" for literal, name, _ in parts) + escaped(last)

    assert Template(text).render(values) == "".join(literal + str(values[name]) for literal, name, _ in parts) + last


@given(LITERALS)
def test_any_text_is_a_template_or_a_template_error(text: str) -> None:
    """No text makes the parser fail in another way, and each field it accepts is a plain name."""
    try:
        fields = Template(text).fields
    except TemplateError:
        return

    assert not any(set(name) & set("{}.[]!:") for name in fields)
