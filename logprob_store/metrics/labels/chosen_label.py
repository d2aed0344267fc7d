"""Answers from label probabilities: the likeliest label, P(True), an expected score, and whether to accept or review.

Polars expressions, and one table. The probability of each label is in `probabilities`; whether the likeliest label is
right is judged in `truth.calibration`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.metrics.alternatives.topk import hidden_mass
from logprob_store.metrics.arguments import Column, as_column
from logprob_store.metrics.labels.branches import NEGLIGIBLE
from logprob_store.metrics.labels.spelling import Spellings
from logprob_store.metrics.right_table import only_of_alternatives
from logprob_store.schema import KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence

_LABEL_KEYS: Final = (*KEYS, "section", "position")


def label_choices(probabilities: pl.LazyFrame) -> pl.LazyFrame:
    """The likeliest label and its lead over the next: one row per completion.

    Columns:

    - `run`, `completion_id`, `section`, `position`
    - `label`: the likeliest label; of equals, the first in the list
    - `label_probability`: its probability; [0, 1], higher is surer; the confidence to compare with the truth, as in
      `ls.auroc("label_probability", "correct")`
    - `label_lower`, `label_upper`: its bounds; [0, 1]
    - `margin`: label_probability minus the probability of the next label; [0, 1], higher is surer; null with one label
    - `runner_up`: the next label
    - `coverage`, `unknown_mass`, `scored_alternatives`, `unscored_alternatives`: as in `label_probabilities`

    Formula: argmax over labels of the probability; margin = p1 - p2.
    Range: [0, 1], higher is surer. Unit: none.
    Needs: the rows of `label_probabilities`.
    Nulls: where no label has a probability, all but the last four columns are null.
    Source: the margin is that of Scheffer et al. 2001.

    The likeliest is b with 0.625; the next, a, has 0.25:

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

    return probabilities.group_by(_LABEL_KEYS).agg(
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
    """The probability of a label at one token: that of all alternatives that spell it.

    Formula: sum of p over the alternatives that spell the label, or that begin it and none of `others` ("Polit" for
    Politics). White space around a token, its case and its form do not matter. A token that spells the label counts
    even where it begins another one, as "1" begins 10, or another word: the next token is not read.
    Range: [0, 1], higher is likelier. Unit: none.
    Needs: the alternatives, by token (`POSITION`), with the chosen one (`with_chosen`). `label_probabilities` is for
    labels of several tokens, for bounds, and for locations other than the first token of an answer.
    Nulls: left out; no alternative with a logprob gives null, none that fits gives 0. Where a spelling of the label has
    no logprob and more than 0.01 was not shown, which may all belong to it, the mass is null.
    Source: OpenAI cookbook, "Using logprobs", section 1.

    Args:
        label: the label.
        others: the other labels.
        spellings: all spellings of the label; None: the label itself.
        text: the strings of the alternatives.
        column: their logprobs.

    1/2 + 1/8, and 1/8 of a beginning that only "True" has:

    >>> from math import log
    >>> rows = {"token": ["True", " true", "TR", "False"], "logprob": [log(1 / 2), log(1 / 8), log(1 / 8), log(1 / 4)]}
    >>> round(pl.DataFrame(rows).select(label_mass("True", ["False"])).item(), 6)
    0.75
    """
    all_spellings = Spellings(
        {label: spellings or [label], **{other: [other] for other in others}}, ["space", "case", "form"]
    )
    logprob, spells = as_column(column), _spells_first(as_column(text), all_spellings)
    mass = logprob.filter(spells).exp().sum()
    ambiguous = (spells & logprob.is_null()).any() & (hidden_mass(logprob) > NEGLIGIBLE)
    known = (logprob.count() > 0) & ~ambiguous
    return only_of_alternatives(pl.when(known).then(mass).alias(f"p_{label}"), function="label_mass")


def _spells_first(text: pl.Expr, spellings: Spellings) -> pl.Expr:
    """Whether a text spells the first of the labels, or begins it and no other."""

    def compute(texts: pl.Series) -> pl.Series:
        different = texts.unique()
        matches = [None if one is None else spellings.match(one.encode()) for one in different]
        found = [
            match is not None and not match.blank and (match.spelled == 0 or match.possible == {0}) for match in matches
        ]
        return texts.is_in(different.filter(pl.Series(found, dtype=pl.Boolean)).implode()).fill_null(value=False)

    return text.cast(pl.String).map_batches(compute, return_dtype=pl.Boolean, is_elementwise=True)


def label_coverage(labels: Sequence[str], *, text: Column = "token", column: Column = "logprob") -> pl.Expr:
    """The probability of all labels together at one token: how much of the answer the labels explain.

    Formula: sum over the labels of `label_mass`.
    Range: [0, 1], higher is better. Unit: none.
    Needs: as `label_mass`.
    Nulls: as `label_mass`; null where the mass of one label is.
    Source: as `label_mass`.

    1/2 for "Yes" and 1/4 for "No":

    >>> from math import log
    >>> rows = {"token": ["Yes", "No", "Maybe"], "logprob": [log(1 / 2), log(1 / 4), log(1 / 4)]}
    >>> round(pl.DataFrame(rows).select(label_coverage(["yes", "no"])).item(), 6)
    0.75
    """
    masses = [_mass(label, labels, text, column) for label in labels]
    total = pl.sum_horizontal(masses, ignore_nulls=False)
    return pl.when(total.is_between(1.0, 1.001)).then(1.0).otherwise(total).alias("label_coverage")


def p_true(*, true: str = "True", false: str = "False", text: Column = "token", column: Column = "logprob") -> pl.Expr:
    """The probability of True against False at one token, over all their spellings.

    Formula: P(true) / (P(true) + P(false)), each as `label_mass`. Show `label_coverage([true, false])` beside it.
    Range: [0, 1], higher is likelier true. Unit: none.
    Needs: as `label_mass`.
    Nulls: as `label_mass`; no mass on either gives null.
    Source: P(True) of Kadavath et al. 2022 (arXiv:2207.05221); `has_sufficient_context` of the OpenAI cookbook.

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
    """The expected score: the mean of labels that are numbers, weighted by their mass.

    Formula: sum s p(s) / sum p(s) over the labels s of a completion.
    Range: [least label, greatest label]; the scale says which way is better. Unit: that of the labels.
    Needs: the rows of `label_probabilities`, by completion.
    Nulls: left out; null where no label has mass.
    Source: G-Eval, Liu et al. 2023 (arXiv:2303.16634).

    Raises:
        polars.exceptions.InvalidOperationError: when collected, a label is not a number.

    3/4 x 4 + 1/4 x 5 = 4.25, because the coverage of 0.8 is divided out:

    >>> rows = pl.DataFrame({"label": ["4", "5"], "mass": [0.6, 0.2]})
    >>> round(rows.select(expected_score()).item(), 6)
    4.25
    """
    number, weight = as_column(score).cast(pl.Float64), as_column(mass)
    total = weight.sum()
    return pl.when(total > 0).then((number * weight).sum() / total).alias("expected_score")


def expected_score_bounds(score: Column = "label") -> tuple[pl.Expr, pl.Expr]:
    """Bounds of the expected score: with the unknown mass on the least label, and with it on the greatest.

    The two expressions are named expected_score_lower and expected_score_upper.

    Formula: (sum s mass_lower(s) + e unknown_mass) / (sum mass_lower(s) + unknown_mass), with e the least or the
    greatest label.
    Range: [least label, greatest label]; the scale says which way is better. Unit: that of the labels.
    Needs: `label`, `mass_lower`, `mass` and `unknown_mass` of `label_probabilities`, by completion.
    Nulls: as `expected_score`.
    Source: a weighted mean is least where all free weight is on the least value.

    0.5 on 2, and 0.5 unknown between 1 and 2:

    >>> rows = {"label": ["1", "2"], "mass_lower": [0.0, 0.5], "mass": [0.0, 0.5], "unknown_mass": [0.5, 0.5]}
    >>> pl.DataFrame(rows).select(expected_score_bounds()).row(0)
    (1.5, 2.0)
    """
    number, certain, unknown = as_column(score).cast(pl.Float64), pl.col("mass_lower"), pl.col("unknown_mass").first()
    total = certain.sum() + unknown
    known = pl.col("mass").sum() > 0

    def at(extreme: pl.Expr, name: str) -> pl.Expr:
        mean = ((number * certain).sum() + extreme * unknown) / total
        return pl.when(known & (total > 0)).then(mean).alias(f"expected_score_{name}")

    return at(number.min(), "lower"), at(number.max(), "upper")


def route(probability: Column = "label_probability", *, threshold: float) -> pl.Expr:
    """Whether to accept an answer or have a person review it, by its probability.

    Formula: "accept" where the probability is at least the threshold, else "review".
    Range: "accept" or "review".
    Needs: a probability in each row, such as `label_choices` gives.
    Nulls: null gives "review": a person should see what has no score.
    Source: selective prediction, Geifman and El-Yaniv 2017 (arXiv:1705.08500).

    Raises:
        ValueError: `threshold` is not a probability.

    0.9 is at the threshold:

    >>> rows = pl.DataFrame({"label_probability": [0.95, 0.9, 0.4, None]})
    >>> rows.select(route(threshold=0.9)).to_series().to_list()
    ['accept', 'accept', 'review', 'review']
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold {threshold} is no probability: it must be from 0 to 1")
    sure = (as_column(probability) >= threshold).fill_null(value=False)
    return pl.when(sure).then(pl.lit("accept")).otherwise(pl.lit("review")).alias("route")
