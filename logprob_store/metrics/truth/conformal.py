"""Conformal prediction: sets of labels that hold the true label with a chosen probability.

`conformal_threshold` is fitted on rows whose true label is known; `Conformal.sets` marks the labels in the set of each
new row. P(true label in set) >= 1 - alpha holds for exchangeable rows, whatever the quality of the label probabilities:
bad ones make large sets. It holds over all rows together, not for each class; for that, fit a threshold per class.
Frames have one row per (row, label), with the probability of the label.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import polars as pl

from logprob_store.metrics.truth.value_checks import as_probability
from logprob_store.schema import KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence

ConformalMethod: TypeAlias = Literal["lac", "aps"]


@dataclass(frozen=True)
class Conformal:
    """A fitted conformal threshold: a label is in the set when its nonconformity score is at most `threshold`.

    With too few rows for alpha, (rows + 1) (1 - alpha) > rows, the threshold is infinite: every set then holds all
    labels, and `describe` says so.

    Attributes:
        method: "lac" or "aps", see `conformal_threshold`.
        alpha: the chance of missing the true label.
        rows: the number of rows that it was fitted on.
        threshold: the largest score in a set.
    """

    method: ConformalMethod
    alpha: float
    rows: int
    threshold: float

    @property
    def trivial(self) -> bool:
        """Whether every set holds all labels."""
        return math.isinf(self.threshold)

    def describe(self) -> str:
        """One sentence that says which coverage is guaranteed, or why none is."""
        chance = f"a chance of at least {1 - self.alpha:.4g}"
        if not self.trivial:
            made = f"from {self.rows} rows ({self.method.upper()}, threshold {self.threshold:.4g})"
            return f"sets hold the true label with {chance}, {made}"
        enough = _fewest_rows(self.alpha)
        if self.rows < enough:
            return f"{chance} takes sets of all labels: {self.rows} rows are too few, {enough} would do"
        return f"nothing is promised: in more than {self.alpha:.4g} of {self.rows} rows the true label was not listed"

    def sets(
        self,
        frame: pl.DataFrame | pl.LazyFrame,
        *,
        row: Sequence[str] = KEYS,
        probability: str = "probability",
    ) -> pl.LazyFrame:
        """The frame with `in_set`, whether the label is in the set of its row, and `set_size`, the labels in that set.

        A set of one label is an answer to accept; a larger set names the labels that the model cannot tell apart. Sets
        by "lac" can be empty, where no label is as likely as true labels usually are. A null probability is in no set,
        unless every set holds all labels.

        Args:
            frame: one row per (row, label).
            row: the columns that identify a row.
            probability: the column of probabilities.

        Raises:
            ValueError: when evaluated, a value is not a probability.

        With threshold 0.6, labels of at least 0.4 are in the set:

        >>> fitted = Conformal("lac", 0.1, 99, 0.6)
        >>> labels = pl.DataFrame({"id": [1, 1, 1], "label": ["a", "b", "c"], "probability": [0.5, 0.4, 0.1]})
        >>> fitted.sets(labels, row=["id"]).select("label", "in_set", "set_size").collect().rows()
        [('a', True, 2), ('b', True, 2), ('c', False, 2)]
        """
        in_set = pl.lit(value=True) if self.trivial else _nonconformity(self.method, row, probability) <= self.threshold
        rows = frame.lazy().with_columns(in_set=in_set.fill_null(value=False))
        return rows.with_columns(set_size=pl.col("in_set").sum().cast(pl.Int64).over(row))


def conformal_threshold(
    frame: pl.DataFrame | pl.LazyFrame,
    *,
    alpha: float = 0.1,
    method: ConformalMethod = "lac",
    row: Sequence[str] = KEYS,
    label: str = "label",
    truth: str = "truth",
    probability: str = "probability",
) -> Conformal:
    """The threshold for conformal sets, fitted on rows whose true label is known.

    Formula: of the nonconformity scores of the n true labels, the ceil((n + 1) (1 - alpha))-th smallest. The score of a
    label y is by "lac" 1 - p(y), which makes the smallest sets on average; by "aps" the sum of the probabilities of all
    labels at least as likely as y, which makes larger sets for harder rows.
    Range: [0, 1] or infinite, lower makes smaller sets. Unit: none.
    Needs: label probabilities, as `label_probabilities` gives them, with the true label beside each. Use other rows
    than those on which the model, the prompt or a calibrator was chosen.
    Nulls: rows without a truth are left out; a true label that is not listed, or has a null probability, scores
    infinity.
    Source: Vovk et al. 2005; Angelopoulos and Bates 2021 (arXiv:2107.07511); "lac", Sadinle et al. 2019
    (arXiv:1609.00451); "aps", Romano et al. 2020 (arXiv:2006.02544), here without randomisation, so with somewhat
    larger sets.

    Args:
        frame: one row per (row, label), the true label beside each.
        alpha: the chance of missing the true label, in (0, 1).
        method: "lac" or "aps".
        row: the columns that identify a row.
        label: the column of labels.
        truth: the column of the true label of the row.
        probability: the column of probabilities.

    Raises:
        ValueError: `method` is unknown, `alpha` is not in (0, 1), a row has a label twice, or a value is not a
            probability.

    Nine rows and alpha 0.2: the ceil(10 * 0.8) = 8th smallest of the scores 1 - p = 0.1 ... 0.9.

    >>> p = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    >>> frame = pl.DataFrame({"id": range(9), "label": "a", "truth": "a", "probability": p})
    >>> conformal_threshold(frame, alpha=0.2, row=["id"]).threshold
    0.8
    >>> conformal_threshold(frame, alpha=0.05, row=["id"]).describe()
    'a chance of at least 0.95 takes sets of all labels: 9 rows are too few, 19 would do'
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha {alpha} is not between 0 and 1; 0.1 promises 90 %")
    known = frame.lazy().filter(pl.col(truth).is_not_null()).collect()
    if known.select(pl.struct(*row, label).is_duplicated().any()).item():
        raise ValueError(f"a {label} stands twice in one row of {', '.join(row)}: add its probabilities up")
    scored = known.with_columns(score=_nonconformity(method, row, probability))
    true_labels = scored.group_by(row).agg(score=pl.col("score").filter(pl.col(label) == pl.col(truth)).first())
    scores = true_labels["score"].fill_null(math.inf).sort()
    count = len(scores)
    rank = count + 1 - math.floor((count + 1) * Fraction(str(alpha)))
    return Conformal(method, alpha, count, float(scores[rank - 1]) if rank <= count else math.inf)


def _fewest_rows(alpha: float) -> int:
    """The fewest rows n that give a finite threshold: (n + 1) alpha >= 1."""
    return math.ceil(1 / Fraction(str(alpha))) - 1


def _nonconformity(method: ConformalMethod, row: Sequence[str], column: str) -> pl.Expr:
    """The nonconformity score of each label: the lower, the sooner it joins the set."""
    p = as_probability(column)
    match method:
        case "lac":
            return 1.0 - p
        case "aps":
            # Equal probabilities join together. Sums are rounded, so that they are equal whatever the order of labels.
            known = p.fill_null(0.0)
            mass = known.sort(descending=True).cum_sum().gather(known.rank("max", descending=True) - 1).round(12)
            return pl.when(p.is_not_null()).then(mass).over(row)
        case _:
            raise ValueError(f"conformal method {method!r} is none of {', '.join(get_args(ConformalMethod))}")
