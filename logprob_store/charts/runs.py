"""A score from run to run: its quartiles, and how many calls failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.charts.frame import WIDTH, hints, number_scale, short_texts, title, told_apart
from logprob_store.charts.palette import ACCENT, SECOND
from logprob_store.charts.value_counts import GROUP
from logprob_store.charts.words import short_text
from logprob_store.counted import counted
from logprob_store.extras import import_extra

if TYPE_CHECKING:
    import altair as alt

    from logprob_store.charts.distributions import Distribution

_HEIGHT: Final = 180
_MOST_RUNS: Final = 60


def trend(spread: Distribution, runs: pl.DataFrame) -> alt.LayerChart:
    """A score over runs: the median as a line, the middle half as bars, and a cross for each run with failures.

    Args:
        spread: from `distribution`, with the runs as groups.
        runs: `run` and `failures`, the oldest run first. Of more than 60, the newest 60 are drawn.

    >>> from logprob_store.charts.distributions import distribution
    >>> from logprob_store.charts.value_counts import value_counts
    >>> counts = value_counts(pl.LazyFrame({"run": ["a", "b"], "n": [1, 2]}), ["n"], by="run")
    >>> runs = pl.DataFrame({"run": ["a", "b"], "failures": [0, 3]})
    >>> trend(distribution(counts, "n"), runs).to_dict()["title"]["text"]
    'n in 2 runs'
    """
    alt = import_extra("altair")
    name = short_text(spread.score)
    nights = runs.select("run", "failures").join(spread.groups, left_on="run", right_on=GROUP, how="left")
    nights = nights.tail(_MOST_RUNS)
    said = [
        f"{short_text(run)}: "
        + (
            f"median {name} {median:.4g}, half of the answers from {low:.4g} to {high:.4g}"
            if median is not None
            else f"no {name}"
        )
        + (f"; {counted(failures, 'failure', commas=True)}" if failures else "")
        for run, failures, low, median, high in nights.select(
            "run", "failures", "first_quartile", "median", "third_quartile"
        ).rows()
    ]
    rows = nights.select(
        "failures",
        "median",
        low="first_quartile",
        high="third_quartile",
        night=told_apart(short_texts("run")),
        said=pl.Series(said, dtype=pl.String),
        count=pl.format("{}", "failures"),
    )
    axis = alt.Axis(labelAngle=-40, labelLimit=90, labelOverlap="greedy", labelSeparation=4)
    x = alt.X("night:N", title=None, sort=None, axis=axis)
    y = alt.Y("median:Q", title=name, scale=alt.Scale(type=spread.scale, **number_scale(spread.score)))
    known = alt.Chart(rows.filter(pl.col("median").is_not_null()))
    halves = known.mark_bar(color=ACCENT, opacity=0.35, width={"band": 0.5}, orient="vertical").encode(
        x=x, y=alt.Y("low:Q"), y2="high", **hints()
    )
    line = known.mark_line(color=ACCENT, strokeWidth=2, aria=False).encode(x=x, y=y)
    medians = known.mark_point(color=ACCENT, filled=True, size=45, opacity=1).encode(x=x, y=y, **hints())
    failed = alt.Chart(rows.filter(pl.col("failures") > 0))
    crosses = failed.mark_point(color=SECOND, shape="cross", angle=45, filled=True, size=60, opacity=1).encode(
        x=x, y=alt.value(_HEIGHT - 8), **hints()
    )
    counts = failed.mark_text(color=SECOND, fontSize=10, dy=-12, aria=False).encode(
        x=x, y=alt.value(_HEIGHT - 8), text="count:N"
    )
    older = runs.height - nights.height
    more = [
        *(["a cross: so many calls failed"] if nights["failures"].sum() else []),
        *([f"{older:,} older runs are not shown"] if older else []),
    ]
    return alt.layer(halves, line, medians, crosses, counts).properties(  # type: ignore[no-any-return]
        width=WIDTH, height=_HEIGHT, title=title(f"{name} in {counted(nights.height, 'run')}", more)
    )
