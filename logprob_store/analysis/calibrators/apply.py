"""The scores of a store with their calibrated column, and the runs that a calibrator is meant for.

A calibrator learns how far the confidence of one model in one kind of answer can be trusted. It says nothing about
another model, template or temperature, so each row is marked with whether its run is like those it was fitted on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.analysis.calibrators.calibrator import FittedRun
from logprob_store.errors import InputError

if TYPE_CHECKING:
    from logprob_store.analysis.calibrators.calibrator import Calibrator
    from logprob_store.analysis.opened_store import Store

# Settings of a job that do not change its answers.
_WITHOUT_EFFECT: Final = frozenset(
    {"model.samples", "model.top_logprobs", "model.logprobs", "prompts.id", "prompts.keep"}
)


def calibrated_scores(store: Store, calibrator: Calibrator) -> pl.LazyFrame:
    """The scores of a store with `calibrated`, the chance of being right, and `calibration_fits`.

    `calibration_fits` says whether the job and model of the run are those of a run that the calibrator was fitted on;
    where it is false, `calibrated` is a guess. It is null where the calibrator was fitted without a store.

    Raises:
        InputError: the scores lack the column that the calibrator was fitted on.
        ValueError: when collected, a confidence is not a probability.
    """
    return with_calibrated(store.scores(), store, calibrator)


def with_calibrated(rows: pl.LazyFrame, store: Store, calibrator: Calibrator) -> pl.LazyFrame:
    """The rows, which are of runs of the store, with `calibrated` and `calibration_fits`, as in `calibrated_scores`.

    Raises:
        InputError: the rows lack the column that the calibrator was fitted on.
    """
    wanted = calibrator.fitted_on.confidence
    if wanted not in rows.collect_schema():
        raise InputError(f"the calibrator maps {wanted!r}, which these rows do not have")
    different = differences(calibrator, store)
    known = bool(calibrator.fitted_on.runs)
    fits = ~pl.col("run").is_in(sorted(different)) if known else pl.lit(None, pl.Boolean)
    return rows.with_columns(calibrator.expr(), fits.alias("calibration_fits"))


def differences(calibrator: Calibrator, store: Store) -> dict[str, list[str]]:
    """What differs in each run of the store that is unlike every run the calibrator was fitted on.

    Returns:
        By the name of the run, one line per difference from the most similar of these runs. Empty where all runs are
        like one of them, and where the calibrator was fitted without a store.
    """
    changes_by_run = {}
    for run in fitted_runs(store) if calibrator.fitted_on.runs else []:
        fewest = min((_changed_settings(run, other) for other in calibrator.fitted_on.runs), key=len)
        if fewest:
            changes_by_run[run.run] = fewest
    return changes_by_run


def fitted_runs(store: Store) -> list[FittedRun]:
    """The runs of a store, each with the settings and models that determined its answers."""
    asked = store.completions.select("run", "model").unique().drop_nulls().sort("run", "model").collect()
    models: dict[str, list[str]] = {}
    for run, model in asked.iter_rows():
        models.setdefault(run, []).append(model)
    return [
        FittedRun(
            run=manifest.run,
            run_id=manifest.run_id,
            job_name=manifest.job_name,
            settings={key: value for key, value in manifest.job.items() if key not in _WITHOUT_EFFECT},
            models=models.get(manifest.run, []),
        )
        for manifest in store.manifests
    ]


def _changed_settings(run: FittedRun, other: FittedRun) -> list[str]:
    """One line for each setting, and for the models, that differ between two runs."""
    names = sorted({*run.settings, *other.settings})
    changed = [
        f"{name}: {run.settings.get(name)!r}, fitted on {other.settings.get(name)!r}"
        for name in names
        if run.settings.get(name) != other.settings.get(name)
    ]
    new = sorted(set(run.models) - set(other.models))
    if new and not any(line.startswith("model.name:") for line in changed):
        changed.append(f"model: {', '.join(new)}, fitted on {', '.join(other.models) or 'none'}")
    return changed
