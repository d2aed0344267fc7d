"""Columns and filters that metrics share: the keys of a token, generated rows, and arguments with their checks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

import polars as pl

from logprob_store.schema import KEYS, Section

if TYPE_CHECKING:
    from collections.abc import Sequence

Column: TypeAlias = str | pl.Expr
"""A column by name, or an expression, such as `pl.col("logprob").filter(ls.generated())`."""

POSITION: Final = (*KEYS, "section", "position")
"""The columns that identify a token in a store: group alternatives by these."""


def generated() -> pl.Expr:
    """Which rows the model generated: those of all sections but `prompt`.

    Prompt tokens have logprobs when the server echoes them. They say how likely the prompt was, not how sure the answer
    is: filter by this before you score an answer.

    Formula: section != "prompt".
    Range: true or false.
    Needs: the `section` of tokens or alternatives.
    Nulls: a null section gives null.
    Source: the format of the store, docs/store.md.

    One row of the prompt and one of the answer:

    >>> tokens = pl.DataFrame({"section": ["prompt", "content"], "token": ["Hi", "Yes"]})
    >>> tokens.filter(generated())["token"].to_list()
    ['Yes']
    """
    return pl.col("section") != "prompt"


def as_column(column: Column) -> pl.Expr:
    """The expression for a column that is given by name or as an expression."""
    return pl.col(column) if isinstance(column, str) else column


def check_sections(sections: Sequence[str]) -> None:
    """Check that each section is one of the schema's: any other name would select no row, without an error.

    Raises:
        ValueError: `sections` is one string, or has a name that is no section.
    """
    if isinstance(sections, str):
        raise ValueError(f"sections {sections!r} is one text; give a list")  # noqa: TRY004  a string is a sequence, too
    for section in sections:
        if section not in Section.categories:
            raise ValueError(f"section {section!r} is none of {', '.join(Section.categories)}")


def ln_base(base: float) -> float:
    """The natural logarithm of `base`: nats divided by it are in units of that base.

    Raises:
        ValueError: `base` is not a finite number above 1.
    """
    if not (math.isfinite(base) and base > 1):
        raise ValueError(f"base {base} is not above 1: use math.e for nats, 2 for bits, 10 for bans")
    return math.log(base)


def ln_threshold(threshold: float) -> float:
    """The natural logarithm of a probability, to compare logprobs with.

    Raises:
        ValueError: `threshold` is not above 0 and at most 1.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold {threshold} is not a probability above 0 and at most 1")
    return math.log(threshold)
