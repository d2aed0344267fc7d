"""The charts of a report, in sections: the scores, the truth, labels, questions and fields, the nights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.charts.breakdowns import field_breakdown, label_breakdown
from logprob_store.charts.distributions import distribution
from logprob_store.charts.histograms import compared_histograms, histogram
from logprob_store.charts.runs import trend
from logprob_store.charts.svg import as_svg
from logprob_store.charts.truth import reliability_diagram, risk_coverage
from logprob_store.charts.value_counts import value_counts
from logprob_store.counted import counted
from logprob_store.metrics.labels.chosen_label import label_choices
from logprob_store.metrics.truth.accuracy import accuracy
from logprob_store.metrics.truth.calibration import ece, reliability_table
from logprob_store.metrics.truth.ranking import auroc
from logprob_store.metrics.truth.selective import risk_coverage_curve

if TYPE_CHECKING:
    from collections.abc import Iterator

    import altair as alt

    from logprob_store.analysis.opened_store import Store
    from logprob_store.charts.distributions import Distribution

SCORES: Final = {
    "confidence": "Confidence",
    "perplexity": "Perplexity",
    "mean_entropy": "Entropy, mean over tokens, nats",
    "token_count": "Length, tokens",
    "mean_missing_mass": "Probability that was not shown, mean over tokens",
}
"""The scores that have a histogram, and by which the answers can be filtered and sorted."""
_MOST_QUESTIONS: Final = 6
_MOST_NIGHTS: Final = 30
"""Earlier runs whose scores are computed for the trend."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart under a title, as an SVG element."""

    title: str
    svg: str


@dataclass(frozen=True, slots=True)
class Section:
    """Some charts under one heading."""

    id: str
    title: str
    note: str = ""
    charts: list[Chart] = field(default_factory=list)


def chart_sections(
    store: Store, run: str, scores: pl.DataFrame, changed: pl.DataFrame | None, *, labels: list[str] | None
) -> Iterator[Section]:
    """The sections that the run has something for.

    Args:
        store: all runs.
        run: the run of the report.
        scores: one row per answer of it, with `correct` where the truth is known.
        changed: the pairs of the comparison with the run before.
        labels: the labels that the answers choose from.
    """
    one = store.only(run)
    if any(scores[name].count() for name in SCORES):
        yield _of_scores(scores)
    if "correct" in scores.columns:
        yield _of_truth(scores)
    if labels is not None:
        choices = label_choices(one.labels(labels, shared="bound"))
        shown = _shown("Labels", label_breakdown(choices), "how many answers have which label")
        yield Section("labels", "Labels", charts=[shown])
    if one.has_decisions:
        yield _of_questions(one)
    if _answers_are_json(one) and (fields := one.fields().collect(engine="streaming")).height:
        shown = _shown("Confidence by field", field_breakdown(fields.lazy()), "how sure each field was")
        yield Section("fields", "Fields of the JSON answers", charts=[shown])
    if changed is not None:
        yield _of_two_runs(changed)
    if (nights := _of_nights(store, run)) is not None:
        yield nights


def _of_scores(scores: pl.DataFrame) -> Section:
    counts = value_counts(scores.lazy(), list(SCORES))
    charts = []
    for name, title in SCORES.items():
        if scores[name].count():
            spread = distribution(counts, name)
            charts.append(_shown(title, histogram(spread), _in_words(title, spread), of=name))
    note = "Drag over a chart, or write two numbers below it, to see the answers of that range."
    return Section("scores", "How sure it was", note, charts)


def _in_words(title: str, spread: Distribution) -> str:
    """What a histogram shows, for those who do not see it."""
    row = spread.groups.row(0, named=True)
    shown = row["rows"] - row["missing"] - row["unshown"]
    said = {name: f"{row[name]:.3g}" for name in ("lowest", "first_quartile", "median", "third_quartile", "highest")}
    return (
        f"{title}: {counted(shown, 'answer', commas=True)} from {said['lowest']} to {said['highest']}; "
        f"median {said['median']}, the middle half from {said['first_quartile']} to {said['third_quartile']}"
    )


def _of_truth(scores: pl.DataFrame) -> Section:
    figures = scores.select(accuracy(), ece(), auroc()).row(0, named=True)
    words = {"accuracy": "right: {:.1%}", "ece": "expected calibration error {:.3f}", "auroc": "AUROC {:.3f}"}
    note = "; ".join(words[name].format(value) for name, value in figures.items() if value is not None)
    table = reliability_table(scores).collect()
    curve = risk_coverage_curve(scores).collect()
    charts = [_shown("Is the confidence honest?", reliability_diagram(table), "reliability diagram")]
    charts.append(_shown("What accepting the surest answers costs", risk_coverage(curve), "risk and coverage"))
    return Section("truth", "Against the truth", note, charts)


def _of_questions(store: Store) -> Section:
    decided = store.decided().collect(engine="streaming")
    names = decided["question"].unique(maintain_order=True).to_list()
    charts = [
        _shown(
            str(name), label_breakdown(decided.lazy().filter(pl.col("question").eq_missing(name))), f"answers to {name}"
        )
        for name in names[:_MOST_QUESTIONS]
    ]
    note = f"the first {_MOST_QUESTIONS} of {len(names)}" if len(names) > _MOST_QUESTIONS else ""
    return Section("questions", "Typed questions", note, charts)


def _of_two_runs(changed: pl.DataFrame) -> Section:
    both = changed.filter(pl.col("completion_id_a").is_not_null() & pl.col("completion_id_b").is_not_null())
    (run_a,), (run_b,) = (both[name].unique().to_list() for name in ("run_a", "run_b"))
    sides = [both.select(run=side.format("run"), confidence=side.format("confidence")) for side in ("{}_a", "{}_b")]
    spread = distribution(value_counts(pl.concat(sides).lazy(), ["confidence"], by="run"), "confidence")
    shown = _shown("Confidence", compared_histograms(spread, run_a, run_b), "confidence in both runs")
    return Section("two-runs", "Both runs", "of the answers that both have", [shown])


def _of_nights(store: Store, run: str) -> Section | None:
    """The confidence of the run and of those before it of the same job; None where there are none."""
    names = store.run_names
    (job,) = {one.job_name for one in store.only(run).manifests}
    earlier = store.manifests[: names.index(run) + 1]
    nights = [one.run for one in earlier if one.job_name == job and one.has_answers and not one.is_partial]
    nights = nights[-_MOST_NIGHTS:]
    if len(nights) < 2:  # noqa: PLR2004  one night is no trend
        return None
    several = store.only(*nights)
    rows = several.scores(metrics=["confidence"]).select("run", "confidence")
    spread = distribution(value_counts(rows, ["confidence"], by="run"), "confidence")
    if not spread.bins.height:
        return None
    chart = trend(spread, several.runs.select("run", "failures").collect())
    return Section("nights", "From night to night", charts=[_shown("Confidence", chart, "confidence by run")])


def _answers_are_json(store: Store) -> bool:
    """Whether the job asked for JSON."""
    (manifest,) = store.manifests
    return any(name.startswith(("model.params.response_format", "model.params.text.format")) for name in manifest.job)


def _shown(title: str, chart: alt.TopLevelMixin, description: str, *, of: str | None = None) -> Chart:
    return Chart(title, as_svg(chart, description, field=of))
