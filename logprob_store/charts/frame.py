"""What charts share around their marks: the size, the title with what is left out, the axis of a score, the hints."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from logprob_store.charts.distributions import PROBABILITIES
from logprob_store.charts.words import short_text
from logprob_store.extras import import_extra

if TYPE_CHECKING:
    from collections.abc import Sequence

    import altair as alt

    from logprob_store.charts.distributions import Distribution

WIDTH: Final = 300
HEIGHT: Final = 140
"""Pixels of the plot without its axes: with them it fits on a phone."""
ROW_HEIGHT: Final = 20
"""Of a bar with its name beside it."""


def title(text: str | list[str], more: Sequence[str] = ()) -> alt.TitleParams:
    """A title, and below it what the chart does not show."""
    alt = import_extra("altair")
    below = {"subtitle": list(more)} if more else {}
    return alt.Title(text=text, anchor="start", **below)  # type: ignore[no-any-return]


def left_out(spread: Distribution) -> list[str]:
    """How many values a chart of a distribution cannot show, in words; empty for none."""
    missing, unshown = (int(spread.groups[name].sum()) for name in ("missing", "unshown"))
    why = "not finite or not above 0" if spread.scale == "log" else "not finite"
    return [
        *([f"{missing:,} without {short_text(spread.score)}"] if missing else []),
        *([f"{unshown:,} {why}"] if unshown else []),
    ]


def score_axis(spread: Distribution, column: str = "lower") -> alt.X:
    """The x axis of a score: its scale, with the ends given, so that a script can map pixels to values."""
    alt = import_extra("altair")
    ticks = {"values": _whole_ticks(*spread.domain)} if spread.whole else {"tickCount": 5}
    return alt.X(  # type: ignore[no-any-return]
        f"{column}:Q",
        title=short_text(spread.score),
        scale=alt.Scale(type=spread.scale, domain=list(spread.domain), nice=False, zero=False),
        axis=alt.Axis(grid=False, format=".6~g", labelFlush=True, labelOverlap="greedy", **ticks),
    )


def _whole_ticks(lowest: float, highest: float) -> list[int]:
    """Six whole numbers at most, at equal steps.

    >>> _whole_ticks(0.5, 8.5), _whole_ticks(2.5, 3.5)
    ([2, 4, 6, 8], [3])
    """
    step = max(1, math.ceil((highest - lowest) / 6))
    return list(range(math.ceil(lowest / step) * step, math.floor(highest) + 1, step))


def number_scale(score: str) -> dict[str, Any]:
    """The scale of an axis that shows single numbers of a score: all of [0, 1] for a probability."""
    return {"domain": [0, 1]} if score in PROBABILITIES else {"zero": False}


def hints() -> dict[str, Any]:
    """The channels of a mark whose words are in the column `said`: for a pointer, and for a screen reader."""
    alt = import_extra("altair")
    return {"tooltip": alt.Tooltip("said:N", title=" "), "description": "said:N"}


def range_words(lower: float, upper: float, *, whole: bool = False) -> str:
    """A range of values in words; where bins are whole numbers, the number.

    >>> range_words(0.9, 0.925), range_words(2.5, 3.5, whole=True)
    ('0.9 to 0.925', '3')
    """
    return f"{lower + 0.5:.4g}" if whole else f"{lower:.4g} to {upper:.4g}"


def short_texts(column: str) -> pl.Expr:
    """A column of texts from data as `short_text`; null is written as "none"."""
    return pl.col(column).cast(pl.String).fill_null("none").map_elements(short_text, return_dtype=pl.String)


def told_apart(name: pl.Expr) -> pl.Expr:
    """The names, with a number behind one that is cut to the same text as an earlier one."""
    place = pl.int_range(1, pl.len() + 1).over(name)
    return pl.when(place == 1).then(name).otherwise(pl.format("{} ({})", name, place))
