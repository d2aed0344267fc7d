"""What is made of label probabilities: the answer, how far ahead it is, P(True), an expected score, accept or review.

Polars expressions, and one table of choices. Leaves out the probabilities by label (`labels`), and how often they are
right, which needs the truth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.metrics.alternatives.topk import hidden_mass
from logprob_store.metrics.arguments import Column, as_column
from logprob_store.metrics.labels.branches import NEGLIGIBLE
from logprob_store.metrics.labels.spelling import Spelling
from logprob_store.schema import KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence

_PLACE: Final = (*KEYS, "section", "position")


def label_choices(probabilities: pl.LazyFrame) -> pl.LazyFrame:
    """One row per completion: the likeliest label, and how far it is ahead.

    Columns: run, completion_id, section, position; label, the likeliest, of equals the first in the list;
    label_probability, [0, 1], up is surer, and its bounds label_lower and label_upper; margin, label_probability minus
    that of the next, [0, 1], up is surer, null where there is one label; runner_up, that next label; coverage and
    unknown_mass; scored_alternatives and unscored_alternatives. All but the last four are null where no label has any
    mass.

    Needs: what `label_probabilities` gives. Source: argmax; the margin of Scheffer et al. 2001.

    >>> rows = {"label": ["a", "b", "c"], "label_index": [0, 1, 2], "probability": [0.25, 0.625, 0.125]}
    >>> table = pl.LazyFrame(rows).with_columns(
    ...     run=pl.lit("r"), completion_id=0, section=pl.lit("content"), position=0, lower=pl.lit(0.1),
    ...     upper=pl.lit(0.9), coverage=pl.lit(0.8), unknown_mass=pl.lit(0.2), scored_alternatives=5,
    ...     unscored_alternatives=0
    ... )
    >>> label_choices(table).select("label", "label_probability", "margin", "runner_up").collect().rows()
    [('b', 0.625, 0.375, 'a')]
    """
    known = pl.col("probability").is_not_null().any()

    def ranked(column: str, place: int) -> pl.Expr:
        best = pl.col(column).sort_by("probability", "label_index", descending=[True, False], nulls_last=True)
        return pl.when(known).then(best.get(place, null_on_oob=True))

    return probabilities.group_by(_PLACE).agg(
        label=ranked("label", 0),
        label_probability=ranked("probability", 0),
        label_lower=ranked("lower", 0),
        label_upper=ranked("upper", 0),
        margin=ranked("probability", 0) - ranked("probability", 1),
        runner_up=ranked("label", 1),
        coverage=pl.col("coverage").first(),
        unknown_mass=pl.col("unknown_mass").first(),
        scored_alternatives=pl.col("scored_alternatives").first(),
        unscored_alternatives=pl.col("unscored_alternatives").first(),
    )


def label_mass(
    label: str,
    others: Sequence[str] = (),
    *,
    spellings: Sequence[str] | None = None,
    text: Column = "token",
    column: Column = "logprob",
) -> pl.Expr:
    """The probability of a label at one token: the sum of p over the alternatives that spell it.

    Range [0, 1], up is likelier. White space around a token and its case do not matter, and a token that begins the
    label and none of `others` counts, too ("Polit" for Politics). One that spells the label counts though it begins
    another, as "1" does of 10: what comes next is not looked at. Needs: the alternatives, by token (`POSITION`), with
    the chosen one (`with_chosen`); `label_probabilities` is for labels of several tokens, for bounds, and for places
    other than an answer's first token. Source: OpenAI cookbook, "Using logprobs", section 1. Nulls are left out; no
    alternative with a logprob gives null, none that fits 0. Where a spelling of the label is there without a logprob,
    and more than 0.01 is missing, which may be all its own, the mass is null.

    >>> from math import log
    >>> rows = {"token": ["True", " true", "TR", "False"], "logprob": [log(1 / 2), log(1 / 8), log(1 / 8), log(1 / 4)]}
    >>> round(pl.DataFrame(rows).select(label_mass("True", ["False"])).item(), 6)
    0.75
    """
    spelling = Spelling({label: spellings or [label], **{other: [other] for other in others}}, ["space", "case"])
    known = [spelled for spelled, reading in spelling.known() if reading.whole == 0 or reading.may == {0}]
    plain = as_column(text).str.strip_chars().str.to_lowercase()
    logprob, spells = as_column(column), plain.cast(pl.Binary).is_in(known)
    mass = logprob.filter(spells).exp().sum()
    untold = (spells & logprob.is_null()).any() & (hidden_mass(logprob) > NEGLIGIBLE)
    return pl.when((logprob.count() > 0) & ~untold).then(mass).alias(f"p_{label}")


def label_coverage(labels: Sequence[str], *, text: Column = "token", column: Column = "logprob") -> pl.Expr:
    """The probability of all labels together at one token: how much of what was answered the labels explain.

    Range [0, 1], up is better. Needs, source, nulls: as `label_mass`.

    >>> from math import log
    >>> rows = {"token": ["Yes", "No", "Maybe"], "logprob": [log(1 / 2), log(1 / 4), log(1 / 4)]}
    >>> round(pl.DataFrame(rows).select(label_coverage(["yes", "no"])).item(), 6)
    0.75
    """
    masses = [_mass(label, labels, text, column) for label in labels]
    total = pl.sum_horizontal(masses, ignore_nulls=False)
    return pl.when(total.is_between(1.0, 1.001)).then(1.0).otherwise(total).alias("label_coverage")


def p_true(*, true: str = "True", false: str = "False", text: Column = "token", column: Column = "logprob") -> pl.Expr:
    """The probability of True against False at one token, over all their spellings: P(true) / (P(true) + P(false)).

    Range [0, 1], up is likelier true. Put `label_coverage([true, false])` beside it. Needs, nulls: as `label_mass`; no
    mass on either gives null. Source: P(True) of Kadavath et al. 2022 (arXiv:2207.05221); the cookbook's
    `has_sufficient_context`.

    5/8 against 1/4:

    >>> from math import log
    >>> rows = {"token": ["True", " true", "False"], "logprob": [log(1 / 2), log(1 / 8), log(1 / 4)]}
    >>> round(pl.DataFrame(rows).select(p_true()).item(), 6)
    0.714286
    """
    yes, no = (_mass(label, (true, false), text, column) for label in (true, false))
    return pl.when(yes + no > 0).then(yes / (yes + no)).alias("p_true")


def _mass(label: str, labels: Sequence[str], text: Column, column: Column) -> pl.Expr:
    return label_mass(label, [other for other in labels if other != label], text=text, column=column)


def expected_score(score: Column = "label", *, mass: Column = "mass") -> pl.Expr:
    """The mean score, sum s p(s) / sum p(s), over the labels of a completion that are numbers.

    Range [least score, greatest score]; better is what the scale says. Needs: the rows of `label_probabilities`, by
    completion, with numbers as labels. Source: G-Eval, Liu et al. 2023 (arXiv:2303.16634). Null where no label has
    mass; labels that are no numbers are an error.

    3/4 x 4 + 1/4 x 5, whatever the coverage:

    >>> rows = pl.DataFrame({"label": ["4", "5"], "mass": [0.6, 0.2]})
    >>> round(rows.select(expected_score()).item(), 6)
    4.25
    """
    number, weight = as_column(score).cast(pl.Float64), as_column(mass)
    total = weight.sum()
    return pl.when(total > 0).then((number * weight).sum() / total).alias("expected_score")


def expected_score_bounds(score: Column = "label") -> tuple[pl.Expr, pl.Expr]:
    """Between which two values the expected score is: the mass that nobody knows, all on the least score or the most.

    Named expected_score_lower and expected_score_upper. Range, needs, nulls: as `expected_score`, with the columns
    mass_lower, mass and unknown_mass. Source: a weighted mean is at its least where what is free is on the least.

    0.5 on 2 and 0.5 unknown between 1 and 2:

    >>> rows = {"label": ["1", "2"], "mass_lower": [0.0, 0.5], "mass": [0.0, 0.5], "unknown_mass": [0.5, 0.5]}
    >>> pl.DataFrame(rows).select(expected_score_bounds()).row(0)
    (1.5, 2.0)
    """
    number, sure, unknown = as_column(score).cast(pl.Float64), pl.col("mass_lower"), pl.col("unknown_mass").first()
    total = sure.sum() + unknown
    known = pl.col("mass").sum() > 0

    def at(extreme: pl.Expr, name: str) -> pl.Expr:
        mean = ((number * sure).sum() + extreme * unknown) / total
        return pl.when(known & (total > 0)).then(mean).alias(f"expected_score_{name}")

    return at(number.min(), "lower"), at(number.max(), "upper")


def route(probability: Column = "label_probability", *, threshold: float) -> pl.Expr:
    """Whether an answer is sure enough to be taken: "accept" at or above the threshold, else "review".

    Needs: any probability by row, as `label_choices` gives. Null is "review": what has no score, a person should see.
    Source: selective prediction, Geifman and El-Yaniv 2017 (arXiv:1705.08500).

    >>> rows = pl.DataFrame({"label_probability": [0.95, 0.9, 0.4, None]})
    >>> rows.select(route(threshold=0.9)).to_series().to_list()
    ['accept', 'accept', 'review', 'review']

    Raises:
        ValueError: `threshold` is no probability.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold {threshold} is no probability: it must be from 0 to 1")
    sure = (as_column(probability) >= threshold).fill_null(value=False)
    return pl.when(sure).then(pl.lit("accept")).otherwise(pl.lit("review")).alias("route")
