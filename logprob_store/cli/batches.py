"""The command `batches`: the batches of the runs of a store, and how to end them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from logprob_store.cli.chosen_runs import ALL_RUNS, select_runs
from logprob_store.cli.common import AllRunsOption, JsonOption, StorePath, echo, print_table
from logprob_store.counted import counted

if TYPE_CHECKING:
    from logprob_store.batch.journal import SentBatch
    from logprob_store.run.api import RunSummary


def batches(
    store: StorePath,
    *,
    run: AllRunsOption = None,
    job: Annotated[
        Path | None, typer.Option("--job", metavar="JOB.toml", help="The job of the run, whose key --cancel needs.")
    ] = None,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="End the batches under way, and keep the answers that they have.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the batches of the runs of a store: their states, their calls, their age and what they cost.

    What is shown is what the last session saw; `logprobs run` asks the service and collects.
    """
    from logprob_store.errors import InputError

    opened = select_runs(store, ALL_RUNS if run is None else run)
    cancelled: RunSummary | None = None
    if cancel:
        if job is None or run is None or len(opened.run_names) != 1:
            raise InputError("--cancel needs one run and its job: batches STORE --run NAME --job JOB.toml --cancel")
        cancelled = _cancel(store, opened.run_names[0], job)
    found = {manifest.run: _of_run(store, manifest.run) for manifest in opened.manifests}
    rows = [_row(name, batch) for name, sent in found.items() for batch in sent]
    if as_json:
        echo({"batches": rows} | ({} if cancelled is None else {"run": cancelled.as_dict()}))
        return
    if cancelled is not None:
        left = counted(cancelled.not_reached, "call")
        echo(f"run {cancelled.run}: {cancelled.rows_in_words}; {left} without an answer")
    if not rows:
        echo("no batch was sent by these runs")
        return
    import polars as pl

    print_table(pl.DataFrame(rows).drop("said"), least=("file", "created_at", "usd"))
    for row in rows:
        if row["said"]:
            echo(f"{row['run']} {row['batch']}: {row['said']}")


def _of_run(store: Path, run: str) -> list[SentBatch]:
    from logprob_store.batch.journal import read_batches
    from logprob_store.store.manifest import run_folder

    return read_batches(run_folder(store, run))


def _row(run: str, batch: SentBatch) -> dict[str, object]:
    from datetime import UTC, datetime

    until = batch.ended_at or datetime.now(UTC)
    hours = None if batch.created_at is None else round((until - batch.created_at).total_seconds() / 3600, 2)
    return {
        "run": run,
        "batch": batch.name if batch.batch_id in {"", batch.file_id} else batch.batch_id,  # in a folder it is a file
        "state": batch.status or batch.state,
        "collected": batch.state == "collected",
        "calls": batch.lines,
        "done": batch.done,
        "failed": batch.failed,
        "answered": batch.answered,
        "hours": hours,
        "usd": batch.usd,
        "created_at": None if batch.created_at is None else batch.created_at.isoformat(timespec="seconds"),
        "file": batch.name,
        "said": batch.said,
    }


def _cancel(store: Path, run: str, job_file: Path) -> RunSummary:
    """End the batches of a run that are under way.

    Raises:
        StopRunError: some still are.
    """
    import asyncio

    from logprob_store.cli.common import load_job_with_overrides
    from logprob_store.errors import StopRunError
    from logprob_store.run.api import run_job_async
    from logprob_store.view.progress import lines

    job = load_job_with_overrides(job_file, store=store)
    with lines() as on_progress:
        summary = asyncio.run(run_job_async(job, run=run, cancel=True, on_progress=on_progress))
    if summary.batches or summary.state == "stopped":
        said = summary.reason or summary.batches
        raise StopRunError(f"batches are still under way: {said}", reason="batch_unseen")
    return summary
