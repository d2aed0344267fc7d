"""A fitted calibrator: its parameters, the expression that applies them, and the rows it was fitted on."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

import msgspec
import polars as pl

from logprob_store.metrics.truth.value_checks import as_probability

if TYPE_CHECKING:
    from logprob_store.metrics.arguments import Column

Method: TypeAlias = Literal["isotonic", "platt", "temperature"]
METHODS: Final = get_args(Method)

CALIBRATOR_VERSION: Final = 1

CLIP: Final = 1e-6
"""Confidences are clipped to [CLIP, 1 - CLIP] before the logit, which is infinite at 0 and 1."""


class FittedRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run whose answers a calibrator was fitted on, with the settings and models that determined them."""

    run: str
    run_id: str
    job_name: str
    settings: dict[str, Any]
    models: list[str]


class FittedOn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rows that a calibrator was fitted on.

    Attributes:
        rows: the judged rows.
        right: the right answers among them.
        unjudged: the rows left out, with a null confidence or truth.
        confidence: the name of the column of confidences.
        correct: the name of the column of truths.
        groups: the names of the columns whose groups were kept together.
        digest: sha256 of the sorted confidences and truths, so the order of rows does not change it.
        store: the path of the store; None where `calibrate` was given none.
        runs: the runs of the store.
        fitted_at: the time that `calibrate` was given.
        software: the versions of logprob-store and scikit-learn.
    """

    rows: int
    right: int
    unjudged: int
    confidence: str
    correct: str
    groups: list[str]
    digest: str
    store: str | None
    runs: list[FittedRun]
    fitted_at: datetime | None
    software: str


class Calibrator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fitted map from a confidence to the chance of being right.

    The map by method, with confidence c and x = ln(c / (1 - c)) its logit, c clipped to [clip, 1 - clip]:

    - "isotonic": linear interpolation between the knots `x` and `y`, constant outside
    - "platt": 1 / (1 + exp(-(slope x + intercept)))
    - "temperature": 1 / (1 + exp(-x / temperature))

    Attributes:
        method: "isotonic", "platt" or "temperature".
        parameters: the numbers of the map, by name.
        before: metrics of the confidence as it was, by name.
        after: the same metrics of the calibrated confidence, cross-fitted: each row by a calibrator fitted without it.
        folds: the number of folds of the cross-fitting.
        seed: the seed of the folds.
        fitted_on: the rows it was fitted on.
        calibrator_version: the version of the file format.
    """

    method: Method
    parameters: dict[str, float | list[float]]
    before: dict[str, float | None]
    after: dict[str, float | None]
    folds: int
    seed: int
    fitted_on: FittedOn
    calibrator_version: int = CALIBRATOR_VERSION

    def expr(self, column: Column | None = None) -> pl.Expr:
        """The calibrated probability as an expression named `calibrated`, in [0, 1]; null where the confidence is null.

        Args:
            column: the confidence; by default the column with the name that it was fitted on.

        Raises:
            ValueError: when evaluated, a confidence is not a probability.

        A temperature of 2 halves the logit: ln(0.8 / 0.2) = ln 4 becomes ln 2, which is 2/3:

        >>> fitted_on = FittedOn(0, 0, 0, "confidence", "correct", [], "", None, [], None, "")
        >>> halved = Calibrator("temperature", {"temperature": 2.0, "clip": 1e-6}, {}, {}, 5, 0, fitted_on)
        >>> pl.DataFrame({"confidence": [0.8, None]}).select(halved.expr().round(6))["calibrated"].to_list()
        [0.666667, None]
        """
        c = as_probability(self.fitted_on.confidence if column is None else column)
        numbers = self.parameters
        match self.method:
            case "isotonic":
                mapped = _interpolated(c, _knots(numbers["x"]), _knots(numbers["y"]))
            case "platt":
                mapped = _logistic(_number(numbers["slope"]) * logit(c, numbers) + _number(numbers["intercept"]))
            case "temperature":
                mapped = _logistic(logit(c, numbers) / _number(numbers["temperature"]))
        return mapped.clip(0.0, 1.0).alias("calibrated")

    def describe(self) -> str:
        """A few lines: the method, the rows it was fitted on, and the figures before and after."""
        source = self.fitted_on
        runs = f", runs {', '.join(run.run for run in source.runs)}" if source.runs else ""
        where = f"{source.store}{runs}" if source.store else "a frame"
        when = f" at {source.fitted_at:%Y-%m-%d %H:%M}" if source.fitted_at else ""
        changes = [
            f"{name} {_four_digits(value)} -> {_four_digits(self.after.get(name))}"
            for name, value in self.before.items()
        ]
        slope = self.parameters.get("slope", 1.0)
        falls = isinstance(slope, float) and slope < 0
        return (
            f"{self.method} of {source.confidence}, fitted{when} on {source.rows} rows of {where}: "
            f"{source.right} right, {source.unjudged} unjudged\n"
            f"cross-fitted in {self.folds} folds: {', '.join(changes)}"
            + ("\nits slope is negative: here, surer answers are less often right" if falls else "")
        )


def logit(c: pl.Expr, parameters: dict[str, float | list[float]]) -> pl.Expr:
    """ln(c / (1 - c)) of the clipped confidence."""
    clip = _number(parameters["clip"])
    kept = c.clip(clip, 1.0 - clip)
    return kept.log() - (1.0 - kept).log()


def _logistic(x: pl.Expr) -> pl.Expr:
    return 1.0 / (1.0 + (-x).exp())


def _interpolated(c: pl.Expr, x: list[float], y: list[float]) -> pl.Expr:
    """Linear interpolation between the knots, constant outside them."""
    if len(x) == 1:
        return c * 0.0 + y[0]
    inside = c.clip(x[0], x[-1])
    segment = pl.lit(pl.Series(x[1:-1], dtype=pl.Float64)).search_sorted(inside, side="right")
    widths, rises = ([b - a for a, b in pairwise(knots)] for knots in (x, y))
    start, width, level, rise = (
        pl.lit(pl.Series(knots, dtype=pl.Float64)).gather(segment) for knots in (x[:-1], widths, y[:-1], rises)
    )
    # Divided before multiplied: the slope between almost equal knots overflows.
    return level + rise * ((inside - start) / width)


def _number(value: float | list[float]) -> float:
    if isinstance(value, list):
        raise TypeError(f"{value}: one number was expected")
    return value


def _knots(value: float | list[float]) -> list[float]:
    return value if isinstance(value, list) else [value]


def _four_digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
