"""Bars and ranges by name: labels, fields of JSON answers, classes of failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.charts.frame import ROW_HEIGHT, WIDTH, hints, short_texts, title, told_apart
from logprob_store.charts.palette import ACCENT, SECOND
from logprob_store.counted import counted
from logprob_store.extras import import_extra

if TYPE_CHECKING:
    import altair as alt

MOST_NAMES: Final = 20
"""More names than that are one more row, or left out and counted."""
_NAMES_WIDTH: Final = 120
_REST: Final = "others"


def label_breakdown(choices: pl.LazyFrame) -> alt.LayerChart:
    """How many answers have which label, and how likely it was to the model: bars, the most frequent label first.

    Args:
        choices: rows with `label` and `label_probability`, such as those of `label_choices` and `decided`.

    >>> rows = pl.LazyFrame({"label": ["yes", "yes", "no"], "label_probability": [0.9, 0.7, 0.6]})
    >>> label_breakdown(rows).to_dict()["title"]["text"]
    '3 answers, 2 labels'
    """
    table = (
        choices.group_by("label")
        .agg(count=pl.len().cast(pl.Int64), mean=pl.col("label_probability").mean())
        .sort(pl.col("label").is_null(), "count", "label", descending=[False, True, False])
        .collect(engine="streaming")
    )
    means = [
        f"{count:,}" + ("" if mean is None else f", mean probability {mean:.2f}")
        for count, mean in table.select("count", "mean").rows()
    ]
    labelled = table.filter(pl.col("label").is_not_null())
    text = f"{counted(int(table['count'].sum()), 'answer', commas=True)}, {counted(labelled.height, 'label')}"
    bars = table.select(name="label", count="count", said=pl.Series(means, dtype=pl.String))
    return _bars(bars, text, names="label", colour=ACCENT, missing="no label")


def failure_classes(failures: pl.LazyFrame) -> alt.LayerChart:
    """How many calls failed in which way: bars, the most frequent class first.

    Args:
        failures: rows with `error_type`, such as `store.failures`.

    >>> failure_classes(pl.LazyFrame({"error_type": ["timeout", "timeout", "http_400"]})).to_dict()["title"]["text"]
    '3 failures'
    """
    table = (
        failures.group_by(name="error_type")
        .agg(count=pl.len().cast(pl.Int64))
        .sort("count", "name", descending=[True, False], nulls_last=True)
        .collect(engine="streaming")
    )
    text = counted(int(table["count"].sum()), "failure", commas=True)
    bars = table.with_columns(said=pl.Series([f"{count:,}" for count in table["count"]], dtype=pl.String))
    return _bars(bars, text, names="failure", colour=SECOND, missing="unknown")


def field_breakdown(fields: pl.LazyFrame) -> alt.LayerChart:
    """How sure the model was of each field of its JSON answers: the median and the middle half, the least sure first.

    Args:
        fields: rows with `path` and `confidence`, such as those of `field_confidence`.

    >>> rows = pl.LazyFrame({"path": ["/a", "/a", "/b"], "confidence": [0.5, 0.7, 0.9]})
    >>> field_breakdown(rows).to_dict()["title"]["text"]
    '2 fields'
    """
    alt = import_extra("altair")
    confidence = pl.col("confidence")
    table = (
        fields.group_by("path")
        .agg(
            count=pl.len().cast(pl.Int64),
            low=confidence.quantile(0.25),
            median=confidence.median(),
            high=confidence.quantile(0.75),
        )
        .sort("median", "path", nulls_last=True)
        .collect(engine="streaming")
    )
    shown = table.head(MOST_NAMES)
    said = [
        f"{path}: {counted(count, 'value', commas=True)}"
        + ("" if median is None else f", half of them from {low:.3f} to {high:.3f}, median {median:.3f}")
        for path, count, low, median, high in shown.with_columns(short_texts("path")).rows()
    ]
    rows = shown.select(
        *("low", "median", "high"),
        name=told_apart(pl.when(pl.col("path") == "").then(pl.lit("(the whole)")).otherwise(short_texts("path"))),
        said=pl.Series(said, dtype=pl.String),
    )
    x = alt.X("low:Q", title="confidence", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=5))
    y = _names_axis()
    halves = (
        alt.Chart(rows)
        .mark_bar(color=ACCENT, opacity=0.35, height=8, orient="horizontal")
        .encode(x=x, x2="high", y=y, **hints())
    )
    medians = (
        alt.Chart(rows)
        .mark_point(color=ACCENT, shape="diamond", filled=True, size=70, opacity=1)
        .encode(x=alt.X("median:Q"), y=y, **hints())
    )
    left = table.height - shown.height
    return _sized(
        alt.layer(halves, medians),
        rows,
        counted(table.height, "field"),
        [f"{left:,} of which the model was surer are not shown"] if left else [],
    )


def _bars(table: pl.DataFrame, text: str, *, names: str, colour: str, missing: str) -> alt.LayerChart:
    """Bars by name with words at their ends; what comes behind the first names is one bar.

    Args:
        table: `name`, `count`, `said`, the longest bar first.
        text: the title.
        names: what the names are of.
        colour: of the bars.
        missing: what stands for a name that is null.
    """
    alt = import_extra("altair")
    first, rest = table.head(MOST_NAMES), table.slice(MOST_NAMES)
    rows = first.select(
        name=pl.when(pl.col("name").is_null()).then(pl.lit(missing)).otherwise(short_texts("name")),
        count="count",
        said="said",
    )
    if rest.height:
        total = int(rest["count"].sum())
        others = {"name": [f"{rest.height:,} {_REST}"], "count": [total], "said": [f"{total:,}"]}
        rows = rows.vstack(pl.DataFrame(others, schema=rows.schema))
    rows = rows.with_columns(name=told_apart(pl.col("name")))
    rows = rows.with_columns(hint=pl.format("{}: {}", "name", "said"))
    y = _names_axis()
    longest = max(rows["count"].to_list(), default=1)
    x = alt.X("count:Q", title=None, axis=None, scale=alt.Scale(domain=[0, longest * 1.6]))  # room for the words
    base = alt.Chart(rows)
    bars = base.mark_bar(color=colour, orient="horizontal", height=12).encode(
        x=x, y=y, tooltip=alt.Tooltip("hint:N", title=names), description="hint:N"
    )
    words = base.mark_text(align="left", dx=4, aria=False).encode(x=x, y=y, text="said:N")
    return _sized(alt.layer(bars, words), rows, text, [])


def _names_axis() -> alt.Y:
    """The names of the rows down the left side, in their order."""
    alt = import_extra("altair")
    axis = alt.Axis(labelLimit=_NAMES_WIDTH, labelPadding=5, ticks=False, domain=False)
    return alt.Y("name:N", title=None, sort=None, axis=axis)  # type: ignore[no-any-return]


def _sized(chart: alt.LayerChart, rows: pl.DataFrame, text: str, more: list[str]) -> alt.LayerChart:
    return chart.properties(
        width=WIDTH - _NAMES_WIDTH + 40, height=max(rows.height, 1) * ROW_HEIGHT, title=title(text, more)
    )
