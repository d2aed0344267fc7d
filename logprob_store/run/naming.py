"""The name of a run."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from logprob_store.errors import InputError
from logprob_store.run.batches_under_way import run_with_batches
from logprob_store.store.manifest import check_run_name, find_manifest

if TYPE_CHECKING:
    from logprob_store.job import Job


def default_run_name(job: Job) -> str:
    """`<job>-<date>`: the same run when the job is started again on that day."""
    return f"{job.name}-{date.today().isoformat()}"  # noqa: DTZ011  the user's own date


def run_not_begun(job: Job, went_on_with: str) -> str | None:
    """Today's run of a job, where a command without a name went on with an earlier one and today's is not begun.

    Args:
        job: of both runs.
        went_on_with: the run that had batches under way.
    """
    name = default_run_name(job)
    return None if name == went_on_with or find_manifest(job.store_folder, name) is not None else name


def name_of_run(job: Job, run: str | None, *, new: bool, replace: bool) -> str:
    """The name that was asked for; when None that of the job's run with batches under way, else `<job>-<date>`.

    A night in batches crosses midnight: what was sent in the evening is collected in the morning.

    Raises:
        InputError: the run is to be `new` and to `replace` another one; or it may not have the name.
    """
    if new and replace:
        raise InputError("--new begins another run and --replace takes the old one out: give one of them")
    if run is None and not new and not replace and job.transport.kind == "batch":
        run = run_with_batches(job)
    name = default_run_name(job) if run is None else run
    check_run_name(name)
    return name
