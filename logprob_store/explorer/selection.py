"""Which rows somebody wants to see, in which order: read from the address of a page and made an expression."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import polars as pl

from logprob_store.errors import InputError
from logprob_store.explorer.preparing import KEPT, kept_in, numbers_in

if TYPE_CHECKING:
    from collections.abc import Iterable

Kind = Literal["all", "answered", "failed"]

WORDS: Final = ("run", "model", "label", "verdict", "finish_reason", "error_type")
"""The columns that are filtered by their value, beside those that jobs keep of their prompts."""
AS_ASKED: Final = "as asked"
"""The order of the prompts."""
MOST_PER_PAGE: Final = 200
_PER_PAGE: Final = 50
_LONGEST_SEARCH: Final = 1000


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter. All parts of it hold; of several values of one column, any does.

    Attributes:
        values: for columns of words, the values that are wanted.
        ranges: for scores, the least and the largest value; None is no bound, and a row without the score is out.
        text: what the answer, or the message of the failure, contains; capital and small letters are alike.
        kind: whether answers are wanted, failures, or both.
    """

    values: tuple[tuple[str, tuple[str, ...]], ...] = ()
    ranges: tuple[tuple[str, float | None, float | None], ...] = ()
    text: str = ""
    kind: Kind = "all"

    @property
    def is_everything(self) -> bool:
        """Whether it leaves no row out."""
        return self == Selection()

    def expression(self) -> pl.Expr:
        """The filter over `Prepared.rows`.

        >>> rows = pl.DataFrame({"search": ["yes", "no"], "confidence": [0.9, 0.4], "error_type": None})
        >>> rows.filter(Selection(ranges=(("confidence", None, 0.5),), text="NO").expression())["search"].to_list()
        ['no']
        """
        parts = [pl.lit(value=True)]
        for column, wanted in self.values:
            parts.append(pl.any_horizontal(_equals(column, value) for value in wanted))
        for score, least, most in self.ranges:
            if least is not None:
                parts.append(pl.col(score) >= least)
            if most is not None:
                parts.append(pl.col(score) <= most)
        if self.kind != "all":
            is_failure = pl.col("error_type").is_not_null()
            parts.append(is_failure if self.kind == "failed" else ~is_failure)
        if self.text:
            small = pl.select(pl.lit(self.text).str.to_lowercase()).item()
            parts.append(pl.col("search").str.contains(small, literal=True))
        return pl.all_horizontal(parts).fill_null(value=False)


@dataclass(frozen=True, slots=True)
class Page:
    """A selection in an order, and which rows of it: `number` counts from 1."""

    selection: Selection = Selection()
    sort: str = "confidence"
    descending: bool = False
    number: int = 1
    size: int = _PER_PAGE


def read_page(pairs: Iterable[tuple[str, str]], rows: pl.DataFrame) -> Page:
    """The page that an address asks for, by its pairs of names and values.

    `run`, `model`, `label`, `verdict`, `finish_reason`, `error_type`, `kept_<column>` and `field_<name>` name values;
    `<score>.from` and `<score>.to` bound a score or a kept number; `text`, `kind`, `sort`, `order` (asc, desc), `page`
    and `size`.

    Args:
        pairs: of the address, in order.
        rows: those that there are, for their columns.

    Raises:
        InputError: a name is not known, or a value is not of its kind.

    >>> rows = pl.DataFrame({"run": ["r"], "kept_land": ["Togo"]})
    >>> page = read_page([("run", "r"), ("confidence.to", "0.5"), ("order", "desc")], rows)
    >>> page.selection.ranges, page.descending
    ((('confidence', None, 0.5),), True)
    """
    values: dict[str, list[str]] = {}
    bounds: dict[str, list[float | None]] = {}
    single: dict[str, str] = {}
    named = {*WORDS, *kept_in(rows)}
    numbers = numbers_in(rows)
    for name, value in pairs:
        score, _, end = name.rpartition(".")
        if name in named:
            values.setdefault(name, []).append(value)
        elif score in numbers and end in {"from", "to"}:
            bounds.setdefault(score, [None, None])[end == "to"] = _number(name, value)
        elif name in {"text", "kind", "sort", "order", "page", "size"}:
            single[name] = value
        else:
            raise InputError(f"{name}: there is no such filter; there are {', '.join(sorted(named))}, and SCORE.from")
    selection = Selection(
        tuple((name, tuple(wanted)) for name, wanted in sorted(values.items())),
        tuple((score, least, most) for score, (least, most) in sorted(bounds.items())),
        _text(single.get("text", "")),
        _kind(single.get("kind", "all")),
    )
    sort = single.get("sort", "confidence")
    if sort not in (orders := [AS_ASKED, *numbers]):
        raise InputError(f"sort={sort}: rows can be sorted by {', '.join(orders)}")
    order = single.get("order", "asc")
    if order not in {"asc", "desc"}:
        raise InputError(f"order={order}: write asc or desc")
    number = _whole("page", single.get("page", "1"), most=10**9)
    size = _whole("size", single.get("size", str(_PER_PAGE)), most=MOST_PER_PAGE)
    return Page(selection, sort, order == "desc", number, size)


def _equals(column: str, value: str) -> pl.Expr:
    may_be_no_text = column == "run" or column.startswith(KEPT)
    return pl.col(column).cast(pl.String) == value if may_be_no_text else pl.col(column) == value


def _number(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise InputError(f"{name}={value}: write a number, such as 0.5")
    return number


def _whole(name: str, value: str, *, most: int) -> int:
    if not (value.isascii() and value.isdecimal() and len(value) < 19 and 1 <= int(value) <= most):  # noqa: PLR2004
        raise InputError(f"{name}={value[:20]}: write a whole number from 1 to {most}")
    return int(value)


def _text(value: str) -> str:
    if len(value) > _LONGEST_SEARCH:
        raise InputError(f"text: search for {_LONGEST_SEARCH} characters at most")
    return value


def _kind(value: str) -> Kind:
    for kind in ("all", "answered", "failed"):
        if value == kind:
            return kind
    raise InputError(f"kind={value}: write all, answered or failed")
