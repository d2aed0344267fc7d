"""Conformal sets: of several labels, a set that holds the true one with a chance that was asked for.

Two steps: `conformal_threshold` takes rows whose true label is known, and `Conformal.sets` marks, for each new row, the
labels of its set. The promise, P(true label in set) >= 1 - alpha, holds for exchangeable rows and whatever the
probabilities are worth; bad ones make large sets. Source: Vovk et al. 2005; Angelopoulos and Bates 2021
(arXiv:2107.07511). Leaves out where label probabilities come from (`labels`).

Frames have one row per (row, label) with its probability. A promise over all rows is none for each class of them: for
that, make a threshold for each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import polars as pl

from logprob_store.metrics.truth.checks import as_probability
from logprob_store.schema import KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence

ConformalMethod: TypeAlias = Literal["lac", "aps"]


@dataclass(frozen=True)
class Conformal:
    """A fitted threshold: the labels whose score is at most `threshold` are in the set.

    `rows` are the rows it was made from. Too few of them for alpha, (rows + 1) (1 - alpha) > rows, make `threshold`
    infinite: every set is then all the labels, and `describe` says so.
    """

    method: ConformalMethod
    alpha: float
    rows: int
    threshold: float

    @property
    def trivial(self) -> bool:
        """Whether every set is the whole set of labels."""
        return math.isinf(self.threshold)

    def describe(self) -> str:
        """What is promised, in a sentence."""
        chance = f"a chance of at least {1 - self.alpha:.4g}"
        if not self.trivial:
            made = f"from {self.rows} rows ({self.method.upper()}, threshold {self.threshold:.4g})"
            return f"sets hold the true label with {chance}, {made}"
        needed = _rows_needed(self.alpha)
        if self.rows < needed:
            return f"{chance} takes sets of all labels: {self.rows} rows are too few, {needed} would do"
        return f"nothing is promised: in more than {self.alpha:.4g} of {self.rows} rows the true label was not listed"

    def sets(
        self,
        frame: pl.DataFrame | pl.LazyFrame,
        *,
        row: Sequence[str] = KEYS,
        probability: str = "probability",
    ) -> pl.LazyFrame:
        """The frame with `in_set`, whether a label is in its row's set, and `set_size`, how many are.

        A set of one is an answer to accept; a larger one says between which the model cannot tell. LAC sets can be
        empty: no label is as likely as true ones usually are. A null probability is in no set, but where all labels
        are.

        Raises:
            ValueError: when evaluated, a probability that is none.

        >>> fitted = Conformal("lac", 0.1, 99, 0.6)
        >>> labels = pl.DataFrame({"id": [1, 1, 1], "label": ["a", "b", "c"], "probability": [0.5, 0.4, 0.1]})
        >>> fitted.sets(labels, row=["id"]).select("label", "in_set", "set_size").collect().rows()
        [('a', True, 2), ('b', True, 2), ('c', False, 2)]
        """
        inside = pl.lit(value=True) if self.trivial else _nonconformity(self.method, row, probability) <= self.threshold
        rows = frame.lazy().with_columns(in_set=inside.fill_null(value=False))
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
    """The threshold for conformal sets: of n scores of true labels, the ceil((n + 1) (1 - alpha))-th smallest.

    `lac`, 1 - p(y): the smallest sets on average (Sadinle et al. 2019, arXiv:1609.00451). `aps`, the sum of the
    probabilities of the labels at least as likely as y, y included: sets adapt to how hard a row is (Romano et al.
    2020, arXiv:2006.02544, without the randomisation, so somewhat larger). Use other rows than those the model, the
    prompt or a calibrator was chosen on. Needs: the labels' probabilities, as `label_probabilities` gives them, with
    the true label beside each. Rows without a truth are left out; a true label that is not listed, or has a null
    probability, scores infinity. Source: Vovk et al. 2005, and those above.

    Args:
        frame: one row per (row, label), the true label beside each.
        alpha: the chance of missing the true label, in (0, 1).
        method: `lac` or `aps`.
        row: the columns that tell rows apart.
        label: the column of labels.
        truth: the column of the row's true label.
        probability: the column of probabilities.

    Raises:
        ValueError: an unknown method, alpha out of range, a label twice in a row, a probability that is none.

    Nine rows, alpha 0.2: the ceil(10 x 0.8) = 8th smallest of 1 - p = 0.1 ... 0.9:

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


def _rows_needed(alpha: float) -> int:
    """The fewest rows that make a threshold: (n + 1) alpha >= 1."""
    return math.ceil(1 / Fraction(str(alpha))) - 1


def _nonconformity(method: ConformalMethod, row: Sequence[str], column: str) -> pl.Expr:
    """How badly each label fits: the larger, the later it joins the set."""
    p = as_probability(column)
    match method:
        case "lac":
            return 1.0 - p
        case "aps":
            # equal probabilities join together; sums are rounded so that equal sums in another order are equal
            known = p.fill_null(0.0)
            mass = known.sort(descending=True).cum_sum().gather(known.rank("max", descending=True) - 1).round(12)
            return pl.when(p.is_not_null()).then(mass).over(row)
        case _:
            raise ValueError(f"conformal method {method!r} is none of {', '.join(get_args(ConformalMethod))}")
