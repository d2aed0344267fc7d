"""What every metric starts from: the column it reads, the logarithm's base, the rows that count.

Leaves out the formulas; they are in `sequence`, `topk` and `topk_entropy`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

import polars as pl

from logprob_store.schema import KEYS, Section

if TYPE_CHECKING:
    from collections.abc import Sequence

Column: TypeAlias = str | pl.Expr
"""A column by name, or any expression of logprobs, such as `pl.col("logprob").filter(ls.generated())`."""

POSITION: Final = (*KEYS, "section", "position")
"""What identifies a token in a store: group alternatives by these."""


def generated() -> pl.Expr:
    """Which rows the model wrote: all sections but `prompt`.

    Prompt tokens carry logprobs when the server echoes them. They say how likely the prompt was, not how sure
    the answer is, so leave them out before scoring an answer.

    Needs: the `section` column (tokens or alternatives). Source: the data contract, `schema.Section`.

    >>> tokens = pl.DataFrame({"section": ["prompt", "content"], "token": ["Hi", "Yes"]})
    >>> tokens.filter(generated())["token"].to_list()
    ['Yes']
    """
    return pl.col("section") != "prompt"


def as_column(column: Column) -> pl.Expr:
    """The expression a user means by a name or an expression."""
    return pl.col(column) if isinstance(column, str) else column


def check_sections(sections: Sequence[str]) -> None:
    """That there are such sections; another name would find no token, and say nothing.

    Raises:
        ValueError: there are not.
    """
    if isinstance(sections, str):
        raise ValueError(f"sections {sections!r} is one text; give a list")  # noqa: TRY004  a text is a sequence, too
    for section in sections:
        if section not in Section.categories:
            raise ValueError(f"section {section!r} is none of {', '.join(Section.categories)}")


def ln_base(base: float) -> float:
    """The natural logarithm of `base`: divide nats by it.

    Raises:
        ValueError: `base` is not a finite number above 1.
    """
    if not (math.isfinite(base) and base > 1):
        raise ValueError(f"base {base} is not above 1: use math.e for nats, 2 for bits, 10 for bans")
    return math.log(base)
