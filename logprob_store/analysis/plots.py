"""`store.plot`: the scores, truths, labels, failures and tokens of a store as Altair charts.

What is drawn is in `charts`, and what is computed in `metrics`; here one meets the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import polars as pl

from logprob_store.errors import InputError
from logprob_store.extras import import_extra
from logprob_store.schema import COMPLETIONS, KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import altair as alt

    from logprob_store.analysis.any_store import AnyStore
    from logprob_store.charts.distributions import Scale

Score: TypeAlias = "str | pl.Expr"

_OF_COMPLETIONS: Final = tuple(name for name, kind in COMPLETIONS.items() if kind.is_numeric() and name not in KEYS)


@dataclass(frozen=True, repr=False)
class StorePlots:
    """The charts of a store: `store.plot.histogram("confidence")`.

    Each method returns a chart of Altair, which goes on as any other: `a | b` puts two side by side, `a & b` one above
    the other, `.properties(title=...)` names it and `.save("chart.svg")` writes it. Rows are binned before they are
    drawn, so that a chart of a hundred million answers is as small as one of a hundred. Altair is in an extra:
    `pip install 'logprob-store[view]'`; without it each method raises an ImportError that says so.

    A score is the name of one (docs/metrics/scores.md), a numeric column of completions such as `latency_s`, or an
    expression over the tokens of an answer such as `ls.sliding_confidence(window=8)`.

    All runs of the store are taken together, but where runs are compared: `store.only("newest").plot` is of one.

    >>> import logprob_store as ls
    >>> store = ls.open_store("out/demo")  # doctest: +SKIP
    >>> store.plot.histogram("confidence") | store.plot.reliability(expected="capital")  # doctest: +SKIP
    alt.HConcatChart(...)
    """

    store: AnyStore

    def __repr__(self) -> str:
        """What can be drawn."""
        names = [name for name in vars(type(self)) if not name.startswith("_") and name != "store"]
        return f"<store.plot: {', '.join(f'.{name}(...)' for name in names)}>"

    def histogram(self, score: Score = "confidence", *, scale: Scale | None = None, bins: int = 40) -> alt.Chart:
        """How many answers have which values of a score.

        Args:
            score: the score.
            scale: "linear" or "log"; when None, log for perplexity alone.
            bins: at most about so many, up to 60.

        Raises:
            InputError: there is no such score, or `bins` is not from 1 to 60.
        """
        from logprob_store.charts.distributions import distribution
        from logprob_store.charts.histograms import histogram
        from logprob_store.charts.value_counts import value_counts

        _check_altair()
        rows, (name,) = _score_rows(self.store, score)
        return histogram(distribution(value_counts(rows, [name]), name, scale=scale, most_bins=_checked_bins(bins)))

    def missing_mass(self) -> alt.Chart:
        """How much probability was on tokens that were not sent, the mean over an answer's tokens: a histogram.

        Much of it says that entropies and label probabilities are bounds: ask for more `top_logprobs`.
        """
        return self.histogram("mean_missing_mass")

    def scatter(self, x: Score, y: Score) -> alt.Chart:
        """Two scores against each other: a point per answer; of more than 1,000, squares with the number of answers.

        Args:
            x: the score to the right.
            y: the score upwards.

        Raises:
            InputError: there is no such score.
        """
        from logprob_store.charts.scatter import scatter

        _check_altair()
        rows, (name_x, name_y) = _score_rows(self.store, x, y)
        return scatter(rows, name_x, name_y)

    def trend(self, score: Score = "confidence", *, scale: Scale | None = None) -> alt.LayerChart:
        """A score from run to run: median and middle half of each, and the failures of the runs that have any.

        Args:
            score: the score.
            scale: as for `histogram`.

        Raises:
            InputError: there is no such score.
        """
        from logprob_store.charts.distributions import distribution
        from logprob_store.charts.runs import trend
        from logprob_store.charts.value_counts import value_counts

        _check_altair()
        rows, (name,) = _score_rows(self.store, score)
        spread = distribution(value_counts(rows, [name], by="run"), name, scale=scale)
        return trend(spread, self.store.runs.select("run", "failures").collect())

    def compare(
        self,
        run_a: str | None = None,
        run_b: str | None = None,
        *,
        other: AnyStore | None = None,
        score: Score = "confidence",
        scale: Scale | None = None,
    ) -> alt.LayerChart:
        """A score in two runs: bars for the first, a line for the second, both as shares of the run's answers.

        Args:
            run_a: the run to compare with, as for `store.compare`.
            run_b: the run that may have changed, as there.
            other: the store that `run_b` is in, if not this one.
            score: the score.
            scale: as for `histogram`.

        Raises:
            InputError: there is no such score, or as `store.compare`.
            RunNotFoundError: a store has no such run.
        """
        from logprob_store.charts.distributions import distribution
        from logprob_store.charts.histograms import compared_histograms
        from logprob_store.charts.value_counts import value_counts

        _check_altair()
        runs = self.store.runs_to_compare(run_a, run_b, other=other)
        names = [run.run_names[0] for run in runs]
        if names[0] == names[1]:
            names = [f"{name} of {place}" for name, place in zip(names, ("this store", "the other"), strict=True)]
        frames = []
        for name, run in zip(names, runs, strict=True):
            rows, (column,) = _score_rows(run, score)
            frames.append(rows.select(pl.lit(name).alias("run"), column))
        spread = distribution(value_counts(pl.concat(frames), [column], by="run"), column, scale=scale)
        return compared_histograms(spread, *names)

    def reliability(
        self,
        *,
        expected: str | None = None,
        truth: str | Path | None = None,
        column: str = "correct",
        confidence: str | None = None,
        question: str | None = None,
        labels: Sequence[str] | None = None,
        field: str | None = None,
        bins: int = 10,
        equal_mass: bool = False,
    ) -> alt.LayerChart:
        """Is the confidence honest? How often answers of each confidence are right, with 95 % intervals.

        The truth is named as for `logprobs calibrate`: by `expected` or by `truth`. The intervals are of independent
        answers: with several to one prompt, see what `logprobs calibrate` prints.

        Args:
            expected: a column kept with the prompts: what the answer should be, but for case and spaces around; or
            truth: a .parquet, .csv, .json or .jsonl file with prompt_id or completion_id, and `column`.
            column: the column of that file: true or false, or a text that the answer should be.
            confidence: the score to judge, a probability; when None, confidence, or label_probability of a question or
                of labels.
            question: a typed question, by its name.
            labels: labels whose probabilities are judged, such as ["Yes", "No"].
            field: the labels' place in a JSON answer, as "/mood".
            bins: bins of the diagram.
            equal_mass: bins of as many answers each.

        Raises:
            InputError: neither source of truth is named, or both; a column is missing or has wrong values; no answer
                has both a confidence and a truth.
        """
        from logprob_store.charts.truth import reliability_diagram
        from logprob_store.metrics.truth.calibration import reliability_table

        _check_altair()
        rows, name = _judged(
            self.store,
            expected=expected,
            truth=truth,
            column=column,
            confidence=confidence,
            question=question,
            labels=labels,
            field=field,
        )
        table = reliability_table(rows, name, bins=bins, binning="mass" if equal_mass else "width").collect()
        return reliability_diagram(table, confidence=name)

    def risk_coverage(
        self,
        *,
        expected: str | None = None,
        truth: str | Path | None = None,
        column: str = "correct",
        confidence: str | None = None,
        question: str | None = None,
        labels: Sequence[str] | None = None,
        field: str | None = None,
    ) -> alt.LayerChart:
        """What share of the surest answers is wrong: the risk of accepting answers from a confidence on.

        Args:
            expected: as for `reliability`.
            truth: the same.
            column: the same.
            confidence: the same.
            question: the same.
            labels: the same.
            field: the same.

        Raises:
            InputError: as for `reliability`.
        """
        from logprob_store.charts.truth import risk_coverage
        from logprob_store.metrics.truth.selective import risk_coverage_curve

        _check_altair()
        rows, name = _judged(
            self.store,
            expected=expected,
            truth=truth,
            column=column,
            confidence=confidence,
            question=question,
            labels=labels,
            field=field,
        )
        return risk_coverage(risk_coverage_curve(rows, name).collect())

    def labels(
        self,
        labels: Sequence[str] | None = None,
        *,
        question: str | None = None,
        after: str | None = None,
        field: str | None = None,
    ) -> alt.LayerChart:
        """How many answers have which label, with its mean probability.

        Args:
            labels: the labels to look for in the answers; None for the options of typed questions.
            question: of those, the question of this name; the only one when None.
            after: as for `store.labels`.
            field: the same.

        Raises:
            InputError: as `store.labels`; there are several questions and none is named.
        """
        from logprob_store.charts.breakdowns import label_breakdown
        from logprob_store.metrics.labels.chosen_label import label_choices

        _check_altair()
        if labels is None and self.store.has_decisions:
            from logprob_store.analysis.judged_answers import named_question

            asked = named_question(self.store, question)
            return label_breakdown(self.store.decided().filter(pl.col("question") == asked))
        found = self.store.labels(labels, question=question, after=after, field=field, shared="bound")
        return label_breakdown(label_choices(found))

    def fields(self) -> alt.LayerChart:
        """How sure the model was of each field of its JSON answers: median and middle half, the least sure first."""
        from logprob_store.charts.breakdowns import field_breakdown

        _check_altair()
        return field_breakdown(self.store.fields())

    def failures(self) -> alt.LayerChart:
        """How many calls failed in which way."""
        from logprob_store.charts.breakdowns import failure_classes

        _check_altair()
        return failure_classes(self.store.failures)

    def tokens(self, completion_id: int, *, run: str | None = None) -> alt.LayerChart:
        """The probability of each token of one answer, from the first to the last.

        Args:
            completion_id: of the answer.
            run: its run, where several runs have such an answer.

        Raises:
            InputError: there is no such answer, or several runs have one.
            RunNotFoundError: there is no such run.
        """
        from logprob_store.charts.tokens import token_probabilities
        from logprob_store.metrics.arguments import generated
        from logprob_store.metrics.tokens.windows import written_order

        _check_altair()
        store = self.store if run is None else self.store.only(run)
        mine = pl.col("completion_id") == completion_id
        runs = store.completions.filter(mine).select("run").unique().sort("run").collect()["run"].to_list()
        if not runs:
            raise InputError(f"no completion {completion_id} in {store.path}; `store.scores()` lists them")
        if len(runs) > 1:
            raise InputError(f"completion {completion_id} is in {len(runs)} runs: name one, such as run={runs[-1]!r}")
        of_run = store.only(runs[0])
        tokens = of_run.tokens.filter(mine, generated()).collect().sort(written_order())
        return token_probabilities(tokens, of_run.alternatives.filter(mine, generated()).collect())


def _check_altair() -> None:
    """See that Altair is there before anything is read.

    Raises:
        ImportError: it is not installed; the message says what to install.
    """
    import_extra("altair")


def _checked_bins(bins: int) -> int:
    if not 1 <= bins <= 60:  # noqa: PLR2004  more are narrower than the line around them
        raise InputError(f"bins {bins} is not from 1 to 60")
    return bins


def _score_rows(store: AnyStore, *scores: Score) -> tuple[pl.LazyFrame, list[str]]:
    """Rows with these scores, and the names of their columns.

    Raises:
        InputError: there is no such score.
    """
    from logprob_store.metrics.engine.catalogue import SCORES, check_metrics

    names = [score if isinstance(score, str) else score.meta.output_name() for score in scores]
    metrics = [score for score in scores if not isinstance(score, str) or score in SCORES]
    stored = [name for name in names if name in _OF_COMPLETIONS and name not in metrics]
    check_metrics([score for score in scores if isinstance(score, str) and score not in {*SCORES, *stored}])
    completions = store.completions.select(*KEYS, "prompt_id", *dict.fromkeys(stored))
    if not metrics:
        return completions, names
    rows = store.scores(metrics=metrics).select(
        *KEYS, "prompt_id", *dict.fromkeys(name for name in names if name not in stored)
    )
    if stored:
        rows = rows.join(completions.drop("prompt_id"), on=KEYS, how="left")
    return rows, names


def _judged(
    store: AnyStore,
    *,
    expected: str | None,
    truth: str | Path | None,
    column: str,
    confidence: str | None,
    question: str | None,
    labels: Sequence[str] | None,
    field: str | None,
) -> tuple[pl.DataFrame, str]:
    """The judged answers and the name of their confidence, as `logprobs calibrate` finds them."""
    from logprob_store.analysis.judged_answers import (
        columns_of_labels,
        columns_of_question,
        judged_answers,
        named_question,
    )

    extra, usual = None, "confidence"
    if labels is not None:
        found = store.labels(labels, field=field, shared="bound")
        extra, usual = columns_of_labels(found), "label_probability"
    elif question is not None or store.has_decisions:
        extra = columns_of_question(store, named_question(store, question))
        usual = "label_probability"
    name = confidence or usual
    rows = judged_answers(store, expected=expected, truth=truth, column=column, confidence=name, extra=extra)
    return rows, name
