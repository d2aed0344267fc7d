"""A fitted detector of errors: its numbers, the expression that applies them, and how it was judged."""

from __future__ import annotations

from typing import Final

import msgspec
import polars as pl

DETECTOR_VERSION: Final = 1


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column that a detector reads, and how: weight x ((value, or fill where it is null) - mean) / scale.

    Attributes:
        name: the column.
        fill: what a null counts as, the median of the rows that it was fitted on.
        mean: the mean of these rows.
        scale: their standard deviation, 1 where all are equal.
        weight: the weight in the logit; above 0 where a higher value speaks for an error.
    """

    name: str
    fill: float
    mean: float
    scale: float
    weight: float


class Judgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a detector ranks answers, each judged by a detector that was fitted without its fold.

    Attributes:
        auroc: the chance that a wrong answer has a higher probability of an error than a right one.
        auroc_baseline: the AUROC of the plain confidence, over the same rows.
        gain: auroc minus auroc_baseline.
        gain_low: the lower end of a 95 % interval of the gain, by a bootstrap of pairs; null where there is none.
        gain_high: its upper end.
        rows: the rows that both AUROCs are of: those with a baseline.
    """

    auroc: float | None
    auroc_baseline: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    rows: int


class ErrorDetector(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fitted map from several scores of an answer to the probability that it is wrong.

    Attributes:
        features: the columns that it reads.
        intercept: the logit of an answer whose scores are all at their means.
        baseline: the column of the plain confidence that it was judged against.
        correct: the column of truths.
        groups: the columns whose groups were kept together.
        rows: the judged rows that it was fitted on.
        wrong: the wrong answers among them.
        unjudged: the rows left out, without a truth.
        judgement: how it compares with the baseline.
        folds: the number of folds of the cross-fitting.
        seed: the seed of the folds and of the bootstrap.
        software: the versions of logprob-store and scikit-learn.
        detector_version: the version of the file format.
    """

    features: list[Feature]
    intercept: float
    baseline: str
    correct: str
    groups: list[str]
    rows: int
    wrong: int
    unjudged: int
    judgement: Judgement
    folds: int
    seed: int
    software: str
    detector_version: int = DETECTOR_VERSION

    def expr(self) -> pl.Expr:
        """The probability of an error as an expression named `error_probability`, in [0, 1]; lower is better.

        A null score counts as the median of the rows that the detector was fitted on; null where all scores are.

        Two scores at their means, and an intercept of 0, leave it open:

        >>> features = [Feature("perplexity", 2.0, 2.0, 1.0, 0.7), Feature("confidence", 0.5, 0.5, 0.1, -0.3)]
        >>> judgement = Judgement(None, None, None, None, None, 0)
        >>> detector = ErrorDetector(features, 0.0, "confidence", "correct", [], 0, 0, 0, judgement, 5, 0, "")
        >>> pl.DataFrame({"perplexity": [2.0], "confidence": [0.5]}).select(detector.expr()).item()
        0.5
        """
        logit = pl.lit(self.intercept)
        for one in self.features:
            value = pl.col(one.name).cast(pl.Float64).fill_null(one.fill)
            logit += one.weight * ((value - one.mean) / one.scale)
        known = pl.any_horizontal(pl.col(one.name).is_not_null() for one in self.features)
        return pl.when(known).then(1.0 / (1.0 + (0.0 - logit).exp())).alias("error_probability")

    def describe(self) -> str:
        """A few lines: the rows it was fitted on, its weights, and whether it is better than the plain confidence."""
        found = self.judgement
        weights = sorted(self.features, key=lambda one: -abs(one.weight))
        if found.gain is None or found.gain_low is None or found.gain_high is None:
            verdict = "there is no interval of the gain: too few resamples have right and wrong answers"
        elif found.gain_low > 0:
            verdict = f"it ranks better than {self.baseline} alone"
        elif found.gain_high < 0:
            verdict = f"it ranks worse than {self.baseline} alone: use that"
        else:
            verdict = f"that may be chance: nothing shows that it ranks better than {self.baseline} alone"
        return (
            f"fitted on {self.rows} answers, {self.wrong} wrong, {self.unjudged} unjudged and left out\n"
            f"weights of standardised scores: {', '.join(f'{one.name} {one.weight:+.3f}' for one in weights)}\n"
            f"AUROC, cross-fitted in {self.folds} folds over {found.rows} answers: {_four_digits(found.auroc)}; of "
            f"{self.baseline} {_four_digits(found.auroc_baseline)}; gain {_four_digits(found.gain)} "
            f"[{_four_digits(found.gain_low)}, {_four_digits(found.gain_high)}]: {verdict}"
        )


def _four_digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
