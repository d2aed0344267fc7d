"""Fitting a detector of errors on judged answers, and judging it against the plain confidence.

Needs scikit-learn, from the extra `analysis`.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from logprob_store.analysis.error_detectors.detector import ErrorDetector, Feature, Judgement
from logprob_store.errors import InputError
from logprob_store.extras import import_extra
from logprob_store.metrics.truth.bootstrap import bootstrap
from logprob_store.metrics.truth.judged_pairs import group_columns
from logprob_store.metrics.truth.ranking import auroc
from logprob_store.metrics.truth.value_checks import as_truth

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FEWEST_ROWS: Final = 50
_DIGITS: Final = 9
"""Decimals of a logit; equal scores differ beyond them by the order of additions."""
_WRONG, _GROUP, _SURE, _BASELINE = "_wrong", "_group", "_sure", "_baseline"


def fit_error_detector(
    features: pl.DataFrame | pl.LazyFrame,
    correct: str | pl.Series = "correct",
    *,
    columns: Sequence[str] | None = None,
    baseline: str = "confidence",
    groups: str | Sequence[str] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> ErrorDetector:
    """Learn from several scores which answers are wrong.

    Formula: a logistic regression (scikit-learn, L2 with C = 1) on the standardised scores, a null counting as the
    median. It is judged by AUROC: the answers of each fold are ranked by a detector fitted on the other folds, and
    compared with the ranking of `baseline` over the same answers. Each is placed among all answers by that detector,
    since the numbers of two detectors do not compare. The interval of the gain is a bootstrap of these
    pairs; that other answers would have taught other weights is not in it. The detector that is returned is fitted on
    all rows. `describe()` says in words whether it is better than the baseline.

    Range: of `expr()`, the probability of an error, [0, 1], lower is better. Unit: none. It holds for the model and the
    kind of question that it was fitted on.
    Nulls: rows without a truth are left out and counted; a null score counts as the median of the rows fitted on; rows
    with a null baseline are in neither AUROC.
    Source: stacked scores as in Kadavath et al. 2022 (arXiv:2207.05221) and arXiv:2509.04492; cross-fitting, Stone
    1974.

    Args:
        features: one row per answer, with its scores, such as `store.scores(metrics=[...])` gives.
        correct: the truths, Boolean or 0 and 1: a column by name, or a series with one for each row.
        columns: the scores to learn from; all columns of floats but `correct` when None.
        baseline: the plain confidence to compare with, higher where the model is surer; it need not be in `columns`.
        groups: columns that identify rows that belong together, such as prompt_id: they are never split between folds,
            and drawn together for the interval.
        folds: the number of folds.
        seed: the seed of the folds and of the bootstrap.

    Raises:
        InputError: the truths are not as many as the rows; there are fewer than 50 judged rows, or fewer right or wrong
            answers or groups than folds, or fewer than 2 folds; a column is missing, is not of numbers, is null in all
            rows or has an infinite value or NaN.
        ValueError: a truth is not valid.
        ImportError: scikit-learn is not installed; it comes with the extra `analysis`.

    Wrong answers have one more unlikely word, which their mean does not show:

    >>> rows = pl.DataFrame({"confidence": [0.8, 0.7] * 40, "worst": [0.6, 0.6, 0.1, 0.2] * 20})
    >>> detector = fit_error_detector(rows.with_columns(correct=pl.col("worst") > 0.5))
    >>> detector.judgement.auroc, detector.judgement.auroc_baseline, detector.judgement.gain_low > 0
    (1.0, 0.5, True)
    """
    import_extra("sklearn")
    frame = features.lazy().collect()
    if isinstance(correct, pl.Series):
        if len(correct) != frame.height:
            raise InputError(f"{len(correct)} truths for {frame.height} answers; give one for each")
        frame = frame.with_columns(correct.alias("correct"))
        correct = "correct"
    names = _columns(frame, columns, correct, baseline)
    rows = _judged_rows(frame, names, correct, baseline, group_columns(groups))
    _check_enough_rows(rows, folds, grouped=groups is not None)
    judged = _cross_fitted(rows, names, folds, seed, grouped=groups is not None)
    learned, intercept = _fitted(rows, names)
    return ErrorDetector(
        features=learned,
        intercept=intercept,
        baseline=baseline,
        correct=correct,
        groups=group_columns(groups),
        rows=rows.height,
        wrong=int(rows[_WRONG].sum()),
        unjudged=frame.height - rows.height,
        judgement=_judgement(judged, seed, grouped=groups is not None),
        folds=folds,
        seed=seed,
        software=f"logprob-store {version('logprob-store')}, scikit-learn {version('scikit-learn')}",
    )


def _columns(frame: pl.DataFrame, columns: Sequence[str] | None, correct: str, baseline: str) -> list[str]:
    """The columns of scores, checked."""
    if isinstance(columns, str):
        raise InputError(f"columns {columns!r} is one text; give a list")
    named = [name for name, dtype in frame.schema.items() if dtype.is_float() and name != correct]
    names = named if columns is None else list(dict.fromkeys(columns))
    if not names:
        raise InputError("there is no column of scores to learn from; name some in `columns`")
    for name in (*names, baseline, correct):
        if name not in frame.columns:
            raise InputError(f"there is no column {name!r}; there are {', '.join(frame.columns)}")
    if correct in names:
        raise InputError(f"{correct!r} is the truth; it cannot be a score to learn from")
    for name in (*names, baseline):
        dtype = frame.schema[name]
        if not (dtype.is_numeric() or dtype == pl.Boolean):
            raise InputError(f"column {name!r} is of {dtype}, and a detector reads numbers")
        values = frame[name].cast(pl.Float64)
        if values.null_count() == frame.height:
            raise InputError(f"column {name!r} is null in all rows; leave it out of `columns`")
        if not values.drop_nulls().is_finite().all():
            raise InputError(f"column {name!r} has an infinite value or NaN; make it null, or take a logarithm")
    return names


def _judged_rows(frame: pl.DataFrame, names: list[str], correct: str, baseline: str, groups: list[str]) -> pl.DataFrame:
    """The judged rows, sorted, so that the order of the frame does not matter."""
    group = pl.struct(groups).rank("dense").cast(pl.Int64) if groups else pl.lit(0, pl.Int64)
    rows = frame.select(
        pl.col(names).cast(pl.Float64),
        (1.0 - as_truth(correct)).alias(_WRONG),
        pl.col(baseline).cast(pl.Float64).alias(_BASELINE),
        group.alias(_GROUP),
    )
    rows = rows.filter(pl.col(_WRONG).is_not_null(), pl.any_horizontal(pl.col(names).is_not_null()))
    return rows.sort(rows.columns)


def _check_enough_rows(rows: pl.DataFrame, folds: int, *, grouped: bool) -> None:
    if folds < 2:  # noqa: PLR2004  one fold leaves no rows to fit on
        raise InputError(f"folds {folds}: at least 2 are needed, 5 are usual")
    wrong = int(rows[_WRONG].sum())
    if rows.height < FEWEST_ROWS or min(wrong, rows.height - wrong) < folds:
        raise InputError(
            f"{rows.height} rows with scores and a truth, {rows.height - wrong} right and {wrong} wrong: a detector "
            f"takes at least {FEWEST_ROWS}, with {folds} of each (one for each fold)"
        )
    if grouped and rows[_GROUP].n_unique() < folds:
        raise InputError(f"{rows[_GROUP].n_unique()} groups are fewer than {folds} folds, and are not split")


def _cross_fitted(rows: pl.DataFrame, names: list[str], folds: int, seed: int, *, grouped: bool) -> pl.DataFrame:
    """The rows with `_sure`: the place of each among all rows, by a pipeline that was fitted without its fold.

    A place, because the logits of different pipelines cannot be compared: pooled, they rank worse than each of them.
    """
    import numpy as np

    selection = import_extra("sklearn.model_selection")
    splitter = selection.StratifiedGroupKFold if grouped else selection.StratifiedKFold
    of_groups = {"groups": rows[_GROUP].to_numpy()} if grouped else {}
    x, wrong = rows.select(names).to_numpy(), rows[_WRONG].to_numpy()
    parts: list[pl.DataFrame] = []
    for train, test in splitter(folds, shuffle=True, random_state=seed).split(x, wrong, **of_groups):
        if not 0 < wrong[train].sum() < len(train):
            raise InputError("one group has all right or all wrong answers: fewer folds, or more rows, are needed")
        fitted = _pipeline().fit(x[train], wrong[train])
        # The logit, which ranks as the probability does and does not saturate.
        places = pl.Series(_SURE, -fitted.decision_function(x)).round(_DIGITS).rank()
        parts.append(rows[test].with_columns(places[np.asarray(test)]))
    return pl.concat(parts)


def _judgement(judged: pl.DataFrame, seed: int, *, grouped: bool) -> Judgement:
    rows = judged.filter(pl.col(_BASELINE).is_not_null()).with_columns(_right=1.0 - pl.col(_WRONG))
    # AUROC looks at the order alone, and takes numbers in [0, 1].
    ranked = rows.with_columns((pl.col(_SURE, _BASELINE).rank() - 0.5) / pl.len())
    detector, plain = auroc(_SURE, "_right"), auroc(_BASELINE, "_right")
    if not ranked.height:
        return Judgement(None, None, None, None, None, 0)
    found = bootstrap(
        ranked,
        [detector.alias("detector"), plain.alias("plain"), (detector - plain).alias("gain")],
        groups=_GROUP if grouped else None,
        seed=seed,
    )
    of = {row["metric"]: row for row in found.iter_rows(named=True)}
    gain = of["gain"]
    return Judgement(
        of["detector"]["estimate"], of["plain"]["estimate"], gain["estimate"], gain["low"], gain["high"], ranked.height
    )


def _pipeline() -> Any:
    imputer = import_extra("sklearn.impute").SimpleImputer(strategy="median", keep_empty_features=True)
    scaler = import_extra("sklearn.preprocessing").StandardScaler()
    regression = import_extra("sklearn.linear_model").LogisticRegression(max_iter=1000)
    return import_extra("sklearn.pipeline").make_pipeline(imputer, scaler, regression)


def _fitted(rows: pl.DataFrame, names: list[str]) -> tuple[list[Feature], float]:
    """The numbers of a pipeline that was fitted on all rows."""
    imputer, scaler, regression = (
        step for _, step in _pipeline().fit(rows.select(names).to_numpy(), rows[_WRONG].to_numpy()).steps
    )
    numbers = zip(names, imputer.statistics_, scaler.mean_, scaler.scale_, regression.coef_[0], strict=True)
    return [Feature(name, *map(float, row)) for name, *row in numbers], float(regression.intercept_[0])
