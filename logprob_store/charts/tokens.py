"""The tokens of one answer: how likely each was, from the first to the last."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.charts.frame import HEIGHT, hints, title
from logprob_store.charts.palette import ACCENT, QUIET
from logprob_store.charts.words import short_text
from logprob_store.counted import counted
from logprob_store.extras import import_extra

if TYPE_CHECKING:
    import altair as alt

_MOST_TOKENS: Final = 500
_MOST_NAMED: Final = 40
"""With more tokens there is no room for their texts, and the axis has numbers."""
_TOKEN_WIDTH: Final = 18
_WIDEST: Final = 720
_NUMBERS_ON_AXIS: Final = 10
_ALTERNATIVES_SAID: Final = 3
_TOKEN_LENGTH: Final = 16


def token_probabilities(tokens: pl.DataFrame, alternatives: pl.DataFrame) -> alt.LayerChart:
    """The probability of each token of one answer, as bars; a circle on the axis stands for one without a logprob.

    Args:
        tokens: rows of one completion in the order of generation: `section`, `position`, `token`, `logprob` (nats). Of
            more than 500 the first are drawn.
        alternatives: the rows of its alternatives, for the hints: also with `rank`.

    >>> tokens = pl.DataFrame({"section": "content", "position": [0, 1], "token": ["a", "b"], "logprob": [-0.1, None]})
    >>> chart = token_probabilities(tokens, tokens.clear().with_columns(rank=None))
    >>> chart.to_dict()["title"]["text"], chart.to_dict()["title"]["subtitle"]
    ('2 tokens', ['1 without a logprob'])
    """
    alt = import_extra("altair")
    shown = tokens.head(_MOST_TOKENS)
    others = _others(alternatives)
    said = [
        f"{position}: {_quoted(token)} {_probability(logprob)}"
        + (f" ({section})" if section != "content" else "")
        + (f"; also {', '.join(likely)}" if (likely := others.get((section, position), [])) else "")
        for section, position, token, logprob in shown.select("section", "position", "token", "logprob").rows()
    ]
    named = shown.height <= _MOST_NAMED
    names = [f"{_quoted(token)}" for token in shown["token"]] if named else []
    rows = pl.DataFrame(
        {
            "place": range(shown.height),
            "probability": shown["logprob"].exp(),
            "said": said,
            "name": names or [""] * shown.height,
        },
        schema={"place": pl.Int64, "probability": pl.Float64, "said": pl.String, "name": pl.String},
    )
    marked = list(range(0, shown.height, -(-shown.height // _NUMBERS_ON_AXIS) or 1))
    axis = alt.Axis(labels=not named, ticks=not named, labelAngle=0, **({} if named else {"values": marked}))
    x = alt.X("place:O", title=None if named else "token", axis=axis)
    y = alt.Y("probability:Q", title="probability", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=4))
    has_logprob = pl.col("probability").is_finite()
    bars = (
        alt.Chart(rows.filter(has_logprob))
        .mark_bar(color=ACCENT, orient="vertical", width={"band": 0.8})
        .encode(x=x, y=y, **hints())
    )
    unscored = rows.filter(has_logprob.fill_null(value=False).not_())
    circles = (
        alt.Chart(unscored)
        .mark_point(color=QUIET, shape="circle", size=30, opacity=1)
        .encode(x=x, y=alt.value(HEIGHT - 6), **hints())
    )
    layers = [bars, circles]
    if named:
        texts = alt.Chart(rows).mark_text(angle=320, align="right", baseline="middle", dx=-2, dy=8, aria=False)
        layers.append(texts.encode(x=x, y=alt.value(HEIGHT), text="name:N"))
    missing, left = unscored.height, tokens.height - shown.height
    more = [
        *([f"{missing:,} without a logprob"] if missing else []),
        *([f"{left:,} more are not shown"] if left else []),
    ]
    width = min(max(shown.height, 4) * _TOKEN_WIDTH, _WIDEST)
    return alt.layer(*layers).properties(  # type: ignore[no-any-return]
        width=width, height=HEIGHT, title=title(counted(tokens.height, "token", commas=True), more)
    )


def _others(alternatives: pl.DataFrame) -> dict[tuple[str, int], list[str]]:
    """The likeliest alternatives of each place, with their probabilities."""
    found: dict[tuple[str, int], list[str]] = {}
    ordered = alternatives.sort("section", "position", "rank").select("section", "position", "token", "logprob")
    for section, position, token, logprob in ordered.iter_rows():
        listed = found.setdefault((section, position), [])
        if len(listed) < _ALTERNATIVES_SAID:
            listed.append(f"{_quoted(token)} {_probability(logprob)}")
    return found


def _quoted(token: str | None) -> str:
    return "\N{REPLACEMENT CHARACTER}" if token is None else f"'{short_text(token, _TOKEN_LENGTH)}'"


def _probability(logprob: float | None) -> str:
    """A logprob in nats as a percentage.

    >>> _probability(-0.1), _probability(None)
    ('90.5%', '-')
    """
    return "-" if logprob is None or math.isnan(logprob) else f"{math.exp(min(logprob, 0.0)):.1%}"
