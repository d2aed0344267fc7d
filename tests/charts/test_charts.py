"""What each chart shows of its numbers, and that none fails where there is little to show."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from logprob_store.charts.breakdowns import failure_classes, field_breakdown, label_breakdown
from logprob_store.charts.distributions import distribution
from logprob_store.charts.histograms import compared_histograms, histogram
from logprob_store.charts.runs import trend
from logprob_store.charts.scatter import scatter
from logprob_store.charts.svg import as_svg
from logprob_store.charts.tokens import token_probabilities
from logprob_store.charts.truth import reliability_diagram, risk_coverage
from logprob_store.charts.value_counts import value_counts
from logprob_store.metrics.truth.calibration import reliability_table
from logprob_store.metrics.truth.selective import risk_coverage_curve

if TYPE_CHECKING:
    from collections.abc import Callable

    import altair as alt

    from logprob_store.charts.distributions import Distribution

JUDGED = pl.DataFrame({"confidence": [0.95, 0.9, 0.6, None], "correct": [True, True, False, True]})
TOKENS = pl.DataFrame(
    {"section": "content", "position": [0, 1, 2], "token": ["Par", "is", None], "logprob": [-0.1, None, -2.0]}
)
OTHERS = pl.DataFrame({"section": "content", "position": [0], "rank": [1], "token": ["Lon"], "logprob": [-2.302585]})


def spread_of(values: list[Any], score: str = "n", runs: list[str] | None = None) -> Distribution:
    """The distribution of some values, of runs."""
    rows = pl.LazyFrame(
        {"run": runs or ["r"] * len(values), score: values}, schema={"run": pl.String, score: pl.Float64}
    )
    return distribution(value_counts(rows, [score], by="run"), score)


def data_of(chart: alt.TopLevelMixin) -> list[list[dict[str, Any]]]:
    """The rows behind each layer of a chart."""
    spec = chart.to_dict()
    return [spec["datasets"][layer.get("data", spec.get("data"))["name"]] for layer in spec.get("layer", [spec])]


def hints_of(chart: alt.TopLevelMixin) -> list[str]:
    """What the marks of a chart say when they are pointed at."""
    return re.findall("<title>(.*?)</title>", as_svg(chart, "a chart"))


def titles_of(chart: alt.TopLevelMixin) -> list[str]:
    """The title and the lines below it."""
    title = chart.to_dict()["title"]
    text = title["text"]
    return [*([text] if isinstance(text, str) else text), *title.get("subtitle", [])]


def test_a_histogram_says_what_it_leaves_out() -> None:
    """Nulls and numbers that are not finite, each with their number."""
    chart = histogram(spread_of([1.0, None, None, float("inf")]))

    assert titles_of(chart) == ["4 answers", "2 without n", "1 not finite"]


def test_a_histogram_of_a_million_rows_is_small() -> None:
    """One row per bin goes to Altair."""
    rows = pl.LazyFrame({"n": pl.int_range(1_000_000, eager=True)})
    chart = histogram(distribution(value_counts(rows, ["n"]), "n"))

    assert len(data_of(chart)[0]) <= 42
    assert sum(row["count"] for row in data_of(chart)[0]) == 1_000_000


def test_two_runs_are_compared_by_shares() -> None:
    """Runs of different size lie on each other; a run is told by bars or a line, not by its colour alone."""
    chart = compared_histograms(spread_of([1, 1, 1, 2], runs=["a", "b", "b", "b"]), "a", "b")
    bars, line = data_of(chart)

    assert [(row["share_a"], round(row["share_b"], 4)) for row in bars] == [(1.0, 0.6667), (0.0, 0.3333)]
    assert [row["share_b"] for row in line][::3] == [0.0, 0.0]
    assert titles_of(chart) == ["bars: a, 1 answer", "line: b, 3 answers"]


def test_a_line_falls_where_a_run_has_no_answer() -> None:
    """Between the bins of 1 and 4 it is at 0."""
    _, line = data_of(compared_histograms(spread_of([1, 4], runs=["a", "b"]), "a", "b"))

    assert [(row["lower"], row["share_b"]) for row in line] == [
        (0.5, 0.0),
        (0.5, 0.0),
        (1.5, 0.0),
        (3.5, 1.0),
        (4.5, 0.0),
    ]


def test_a_reliability_diagram_has_points_intervals_and_the_diagonal() -> None:
    """Two of the three judged rows are in the bin of 0.9 and right, and 0.6 is wrong."""
    chart = reliability_diagram(reliability_table(JUDGED).collect())
    diagonal, intervals, points = data_of(chart)

    assert [(row["mean_confidence"], row["accuracy"]) for row in diagonal] == [(0, 0), (1, 1)]
    assert [(row["mean_confidence"], row["accuracy"], row["count"]) for row in points] == [(0.6, 0, 1), (0.925, 1, 2)]
    assert [row["accuracy_high"] for row in intervals] == [pytest.approx(0.975), 1.0]
    assert titles_of(chart) == ["3 answers judged", "1 without a confidence or a truth"]


def test_a_risk_coverage_curve_is_drawn_with_few_points() -> None:
    """Of ten thousand thresholds 500, and the last with the error rate of all."""
    rows = pl.DataFrame({"confidence": [number / 10_000 for number in range(10_000)], "correct": [True, False] * 5000})
    _, line, marked = data_of(risk_coverage(risk_coverage_curve(rows).collect()))

    assert len(line) == 500
    assert line[-1]["risk"] == 0.5
    assert len(marked) == 10


def test_a_trend_shows_runs_in_their_order_and_who_failed() -> None:
    """The oldest first, whatever the names; a cross with a number for a run with failures."""
    runs = pl.DataFrame({"run": ["z", "a", "m"], "failures": [0, 12, 0]})
    chart = trend(spread_of([0.5, 0.75], "confidence", runs=["z", "a"]), runs)
    _, line, _, crosses, counts = data_of(chart)

    assert [(row["night"], row["median"]) for row in line] == [("z", 0.5), ("a", 0.75)]
    assert [(row["night"], row["count"]) for row in crosses] == [("a", "12")]
    assert counts == crosses
    assert hints_of(chart)[-1] == "a: median confidence 0.75, half of the answers from 0.75 to 0.75; 12 failures"


def test_labels_stand_by_their_number() -> None:
    """The most frequent first, those without a label last, with the mean probability in words."""
    rows = {"label": ["no", "yes", "yes", None, None, None], "label_probability": [0.5, 0.9, 0.7, None, None, None]}
    chart = label_breakdown(pl.LazyFrame(rows))

    assert hints_of(chart) == [
        "yes: 2, mean probability 0.80",
        "no: 1, mean probability 0.50",
        "no label: 3",
    ]
    assert titles_of(chart) == ["6 answers, 2 labels"]


def test_many_labels_are_cut_to_the_most_frequent() -> None:
    """The others are one bar."""
    rows = pl.LazyFrame({"label": [f"l{number:02}" for number in range(30)], "label_probability": 0.5})
    bars, _ = data_of(label_breakdown(rows))

    assert len(bars) == 21
    assert (bars[-1]["name"], bars[-1]["count"]) == ("10 others", 10)


def test_names_that_are_cut_to_the_same_text_stay_apart() -> None:
    """Two long labels would otherwise be one bar."""
    rows = pl.LazyFrame({"label": ["x" * 60 + "a", "x" * 60 + "b"], "label_probability": [0.5, 0.5]})
    bars, _ = data_of(label_breakdown(rows))

    assert len({row["name"] for row in bars}) == 2


def test_failures_stand_by_their_class() -> None:
    """The most frequent first."""
    chart = failure_classes(pl.LazyFrame({"error_type": ["b", "a", "b"]}))

    assert hints_of(chart) == ["b: 2", "a: 1"]


def test_fields_stand_by_how_unsure_they_are() -> None:
    """The least sure first, of which 20 are shown."""
    rows = pl.LazyFrame(
        {"path": [f"/{number:02}" for number in range(30)], "confidence": [1 - n / 30 for n in range(30)]}
    )
    chart = field_breakdown(rows)
    ranges, _ = data_of(chart)

    assert [row["name"] for row in ranges][:2] == ["/29", "/28"]
    assert titles_of(chart) == ["30 fields", "10 of which the model was surer are not shown"]


def test_tokens_say_their_probability_and_what_else_was_likely() -> None:
    """exp(-0.1) is 90.5 %; a token without a logprob has a circle instead of a bar."""
    chart = token_probabilities(TOKENS, OTHERS)
    bars, circles, _ = data_of(chart)

    assert [row["said"] for row in bars] == ["0: 'Par' 90.5%; also 'Lon' 10.0%", "2: \ufffd 13.5%"]
    assert [row["said"] for row in circles] == ["1: 'is' -"]
    assert titles_of(chart) == ["3 tokens", "1 without a logprob"]


def test_a_long_answer_is_drawn_to_its_500th_token() -> None:
    """And says how many more there are."""
    tokens = pl.DataFrame({"section": "content", "position": range(600), "token": "a", "logprob": -0.5})
    chart = token_probabilities(tokens, OTHERS.clear())

    assert len(data_of(chart)[0]) == 500
    assert titles_of(chart) == ["600 tokens", "100 more are not shown"]


def test_few_answers_are_points() -> None:
    """With their prompts in words; one without both scores is counted."""
    rows = pl.LazyFrame({"prompt_id": ["p", "q"], "confidence": [0.5, None], "perplexity": [2.0, 1.0]})
    chart = scatter(rows, "confidence", "perplexity")

    assert hints_of(chart) == ["p: confidence 0.5, perplexity 2"]
    assert titles_of(chart) == ["2 answers", "1 without both scores"]


def test_many_answers_are_squares() -> None:
    """At most 30 by 30, or one more at an edge, with all the answers in them."""
    rows = pl.LazyFrame({"confidence": [n / 5000 for n in range(5000)]}).with_columns(n=pl.col("confidence") * 40)
    chart = scatter(rows, "confidence", "n")

    assert len(data_of(chart)[0]) <= 31 * 31
    assert sum(row["count"] for row in data_of(chart)[0]) == 5000


NOTHING: dict[str, Callable[[], Any]] = {
    "histogram": lambda: histogram(spread_of([])),
    "nulls": lambda: histogram(spread_of([None])),
    "compared": lambda: compared_histograms(spread_of([]), "a", "b"),
    "reliability": lambda: reliability_diagram(reliability_table(JUDGED.clear()).collect()),
    "risk": lambda: risk_coverage(risk_coverage_curve(JUDGED.clear()).collect()),
    "trend": lambda: trend(spread_of([]), pl.DataFrame(schema={"run": pl.String, "failures": pl.Int64})),
    "labels": lambda: label_breakdown(pl.LazyFrame(schema={"label": pl.String, "label_probability": pl.Float64})),
    "failures": lambda: failure_classes(pl.LazyFrame(schema={"error_type": pl.String})),
    "fields": lambda: field_breakdown(pl.LazyFrame(schema={"path": pl.String, "confidence": pl.Float64})),
    "tokens": lambda: token_probabilities(TOKENS.clear(), OTHERS.clear()),
    "scatter": lambda: scatter(pl.LazyFrame(schema={"a": pl.Float64, "b": pl.Float64}), "a", "b"),
}


@pytest.mark.parametrize("name", NOTHING)
def test_a_chart_of_nothing_is_drawn(name: str) -> None:
    """With its title, which says that there is nothing."""
    assert "NaN" not in as_svg(NOTHING[name](), "nothing")


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0], [float("nan"), 1.0], [-1e308, 1e308], [5e-324], [1e299, -1e299]])
def test_a_chart_of_odd_numbers_is_drawn(values: list[float]) -> None:
    """One, equal ones, some that are no numbers, and some whose difference is none."""
    assert "NaN" not in as_svg(histogram(spread_of(values)), "odd")
