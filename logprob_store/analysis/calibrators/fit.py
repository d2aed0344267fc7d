"""Fitting a calibrator on judged answers, with cross-fitted figures before and after.

Needs scikit-learn, from the extra `analysis`.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import msgspec
import polars as pl

from logprob_store.analysis.calibrators.apply import fitted_runs
from logprob_store.analysis.calibrators.calibrator import CLIP, METHODS, Calibrator, FittedOn, Method
from logprob_store.errors import InputError
from logprob_store.extras import import_extra
from logprob_store.metrics.truth.calibration import ace, brier, ece, nll
from logprob_store.metrics.truth.judged_pairs import group_columns
from logprob_store.metrics.truth.ranking import auroc
from logprob_store.metrics.truth.value_checks import as_probability, as_truth

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import numpy as np
    from numpy.typing import NDArray

    from logprob_store.analysis.opened_store import Store

    Floats = NDArray[np.float64]

FEWEST_ROWS: Final = 20
_GROUP: Final = "group"


def calibrate(
    frame: pl.DataFrame | pl.LazyFrame,
    *,
    confidence: str = "confidence",
    correct: str = "correct",
    method: Method = "isotonic",
    groups: str | Sequence[str] | None = None,
    folds: int = 5,
    seed: int = 0,
    store: Store | None = None,
    fitted_at: datetime | None = None,
) -> Calibrator:
    """Fit a map from a confidence to the chance of being right.

    Formula: with c the confidence and x = ln(c / (1 - c)) its logit, c clipped to [1e-6, 1 - 1e-6]:

    - "isotonic": any non-decreasing map, by least squares. It needs about a thousand rows, and its steps make ties.
    - "platt": 1 / (1 + exp(-(a x + b))), by maximum likelihood with Platt's smoothed targets. Two numbers, for a few
      hundred rows.
    - "temperature": 1 / (1 + exp(-x / T)), by maximum likelihood. One number; 1/2 stays 1/2.

    The metrics in `before` and `after` are over the same rows. For `after`, the rows of each fold are mapped by a
    calibrator fitted on the other folds. The calibrator that is returned is fitted on all rows.

    Range: of the map [0, 1]. Unit: none.
    Nulls: rows with a null confidence or truth are left out and counted in `fitted_on.unjudged`.
    Source: isotonic, Zadrozny and Elkan 2002; Platt 1999; temperature, Guo et al. 2017 (arXiv:1706.04599), who divide
    the logits of all labels, where here there is only the logit of the confidence.

    Args:
        frame: one row per answer.
        confidence: the column of confidences, in [0, 1].
        correct: the column of truths: Boolean, or 0 and 1.
        method: "isotonic", "platt" or "temperature".
        groups: columns that identify rows that belong together, such as prompt_id: they are never split between folds.
        folds: the number of folds; there must be at least as many right and as many wrong answers.
        seed: the seed that shuffles rows into folds.
        store: the store of the answers; the calibrator records its path, its runs, and the settings of their jobs.
        fitted_at: the time to record.

    Raises:
        InputError: there are fewer than 20 rows, fewer right or wrong answers or groups than folds, or fewer than 2
            folds; or `method` is unknown.
        ValueError: a confidence or truth is not valid.
        ImportError: scikit-learn is not installed; it comes with the extra `analysis`.

    At 0.9, three of four answers are right; at 0.6, one of four; 0.75 lies halfway between:

    >>> frame = pl.DataFrame({"confidence": [0.9] * 20 + [0.6] * 20, "correct": [1, 1, 1, 0] * 5 + [1, 0, 0, 0] * 5})
    >>> fitted = calibrate(frame)
    >>> pl.DataFrame({"confidence": [0.6, 0.75, 0.9]}).select(fitted.expr().round(6))["calibrated"].to_list()
    [0.25, 0.5, 0.75]
    """
    if method not in METHODS:
        raise InputError(f"calibration method {method!r} is none of {', '.join(METHODS)}")
    import_extra("sklearn")
    frame = frame.lazy().collect()
    rows = _judged_rows(frame, confidence, correct, group_columns(groups))
    _check_enough_rows(rows, folds, grouped=groups is not None)
    c, y = rows["confidence"].to_numpy(), rows["correct"].to_numpy()
    fitted_on = FittedOn(
        rows=rows.height,
        right=int(y.sum()),
        unjudged=frame.height - rows.height,
        confidence=confidence,
        correct=correct,
        groups=group_columns(groups),
        digest=_digest(rows),
        store=None if store is None else str(store.path),
        runs=[] if store is None else fitted_runs(store),
        fitted_at=fitted_at,
        software=f"logprob-store {version('logprob-store')}, scikit-learn {version('scikit-learn')}",
    )
    fitted = Calibrator(method, _parameters(method, c, y), {}, {}, folds, seed, fitted_on)
    rows = _cross_fitted(rows, fitted)
    return msgspec.structs.replace(fitted, before=_figures(rows, "confidence"), after=_figures(rows, "calibrated"))


def _figures(rows: pl.DataFrame, column: str) -> dict[str, float | None]:
    """The metrics of a column of confidences, by name."""
    measures = {"ece": ece, "ace": ace, "brier": brier, "nll": nll, "auroc": auroc}
    return rows.select(measure(column, "correct").alias(name) for name, measure in measures.items()).row(0, named=True)


def _judged_rows(frame: pl.DataFrame, confidence: str, correct: str, groups: list[str]) -> pl.DataFrame:
    """The judged rows as confidence, correct and group, sorted, so that the order of the frame does not matter."""
    group = pl.struct(groups).rank("dense").cast(pl.Int64) if groups else pl.lit(0, pl.Int64)
    checked = frame.select(
        as_probability(confidence).alias("confidence"), as_truth(correct).alias("correct"), group.alias(_GROUP)
    )
    return checked.drop_nulls(["confidence", "correct"]).sort("confidence", "correct", _GROUP)


def _check_enough_rows(rows: pl.DataFrame, folds: int, *, grouped: bool) -> None:
    if folds < 2:  # noqa: PLR2004  one fold leaves no rows to fit on
        raise InputError(f"folds {folds}: at least 2 are needed, 5 are usual")
    right = int(rows["correct"].sum())
    wrong = rows.height - right
    if rows.height < FEWEST_ROWS or min(right, wrong) < folds:
        raise InputError(
            f"{rows.height} rows with a confidence and a truth, {right} right and {wrong} wrong: a calibrator takes at "
            f"least {FEWEST_ROWS}, with {folds} of each (one for each fold)"
        )
    if grouped and rows[_GROUP].n_unique() < folds:
        raise InputError(f"{rows[_GROUP].n_unique()} groups are fewer than {folds} folds, and are not split")


def _digest(rows: pl.DataFrame) -> str:
    digest = hashlib.sha256()
    for name in ("confidence", "correct"):
        digest.update(rows[name].to_numpy().astype("<f8").tobytes())
    return digest.hexdigest()


def _cross_fitted(rows: pl.DataFrame, fitted: Calibrator) -> pl.DataFrame:
    """The rows with `calibrated`, each from a calibrator that was fitted without its fold."""
    selection = import_extra("sklearn.model_selection")
    c, y, group = (rows[name].to_numpy() for name in ("confidence", "correct", _GROUP))
    splitter = selection.StratifiedGroupKFold if fitted.fitted_on.groups else selection.StratifiedKFold
    of_groups = {"groups": group} if fitted.fitted_on.groups else {}
    parts: list[pl.DataFrame] = []
    for train, test in splitter(fitted.folds, shuffle=True, random_state=fitted.seed).split(c, y, **of_groups):
        if not 0 < y[train].sum() < len(train):
            raise InputError("one group has all right or all wrong answers: fewer folds, or more rows, are needed")
        without = msgspec.structs.replace(fitted, parameters=_parameters(fitted.method, c[train], y[train]))
        parts.append(rows[test].with_columns(without.expr("confidence")))
    return pl.concat(parts)


def _parameters(method: Method, c: Floats, y: Floats) -> dict[str, float | list[float]]:
    match method:
        case "isotonic":
            return _isotonic(c, y)
        case "platt":
            return _platt(c, y)
        case "temperature":
            return _temperature(c, y)


def _isotonic(c: Floats, y: Floats) -> dict[str, float | list[float]]:
    fitted: Any = (
        import_extra("sklearn.isotonic").IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(c, y)
    )
    return {"x": fitted.X_thresholds_.tolist(), "y": fitted.y_thresholds_.tolist()}


def _logit(c: Floats) -> Floats:
    import numpy as np

    kept = np.clip(c, CLIP, 1 - CLIP)
    logit: Floats = np.log(kept) - np.log1p(-kept)
    return logit


def _platt(c: Floats, y: Floats) -> dict[str, float | list[float]]:
    import numpy as np

    # Platt's targets, (n+ + 1) / (n+ + 2) and 1 / (n- + 2), as weights of both outcomes, keep the slope finite.
    right = y.sum()
    target = np.where(y == 1.0, (right + 1) / (right + 2), 1 / (len(y) - right + 2))
    regression = import_extra("sklearn.linear_model").LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    x = np.tile(_logit(c), 2).reshape(-1, 1)
    outcome = np.repeat([1, 0], len(y))
    regression.fit(x, outcome, sample_weight=np.concatenate([target, 1 - target]))
    return {"slope": float(regression.coef_[0, 0]), "intercept": float(regression.intercept_[0]), "clip": CLIP}


def _temperature(c: Floats, y: Floats) -> dict[str, float | list[float]]:
    import numpy as np

    # The loss of a row is ln(1 + exp(-x / T)) where it is right, and the same with -x where it is wrong.
    signed = np.where(y == 1.0, 1.0, -1.0) * _logit(c)
    minimum = import_extra("scipy.optimize").minimize_scalar(
        lambda log_t: np.logaddexp(0.0, -signed / np.exp(log_t)).mean(),
        bounds=(-5.0, 5.0),
        method="bounded",
        options={"xatol": 1e-8},
    )
    return {"temperature": float(np.exp(minimum.x)), "clip": CLIP}
