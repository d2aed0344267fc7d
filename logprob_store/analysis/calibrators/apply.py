"""Which runs a calibrator is for, and the scores of a store with their calibrated column.

A calibrator learns how far one model's confidence in one kind of answer can be trusted. Of another model, template or
temperature it says nothing, so each row is marked with whether its run is like those it was fitted on. Leaves out
fitting and files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.analysis.calibrators.calibrator import FittedRun
from logprob_store.errors import InputError

if TYPE_CHECKING:
    from logprob_store.analysis.calibrators.calibrator import Calibrator
    from logprob_store.store.tables import Store

# What a job can change without changing how its answers come about.
_WITHOUT_EFFECT: Final = frozenset(
    {"model.samples", "model.top_logprobs", "model.logprobs", "prompts.id", "prompts.keep"}
)


def calibrated_scores(store: Store, calibrator: Calibrator) -> pl.LazyFrame:
    """The store's scores with `calibrated`, the chance of being right, and `calibration_fits`.

    `calibration_fits` is whether the run's job and model are those of a run that the calibrator was fitted on; null if
    it does not say, having been fitted on a frame. Where it is false, `calibrated` is a guess; `differences` says why.

    Raises:
        ValueError: when collected, if the scores have a confidence that is none.
    """
    return with_calibrated(store.scores(), store, calibrator)


def with_calibrated(rows: pl.LazyFrame, store: Store, calibrator: Calibrator) -> pl.LazyFrame:
    """Rows of the store's runs with `calibrated` and `calibration_fits`, as `calibrated_scores` has them.

    Raises:
        InputError: the rows have no column of the name that the calibrator was fitted on.
    """
    wanted = calibrator.fitted_on.confidence
    if wanted not in rows.collect_schema():
        raise InputError(f"the calibrator maps {wanted!r}, which these rows do not have")
    unlike = differences(calibrator, store)
    known = bool(calibrator.fitted_on.runs)
    fits = ~pl.col("run").is_in(sorted(unlike)) if known else pl.lit(None, pl.Boolean)
    return rows.with_columns(calibrator.expr(), fits.alias("calibration_fits"))


def differences(calibrator: Calibrator, store: Store) -> dict[str, list[str]]:
    """For each run of the store that is unlike all that the calibrator was fitted on: what differs from the nearest.

    Empty where all are alike, and where the calibrator was fitted on a frame and does not say.
    """
    found = {}
    for run in fitted_runs(store) if calibrator.fitted_on.runs else []:
        nearest = min((_changed_settings(run, other) for other in calibrator.fitted_on.runs), key=len)
        if nearest:
            found[run.run] = nearest
    return found


def fitted_runs(store: Store) -> list[FittedRun]:
    """The runs of a store, with what shaped their answers."""
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
    """What of the two runs' settings and models is not the same."""
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
