"""The commands that ask a model: `run` (with its dry run) and `record`.

Holds what their words mean and what is said at their end. Leaves out running itself (`logprob_store.run.api`).
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from logprob_store.cli.common import (
    EXIT_FAILURES,
    EXIT_INTERRUPTED,
    EXIT_LIMIT,
    JobFile,
    JsonOption,
    LogJsonOption,
    TransportKind,
)
from logprob_store.cli.logs import log_json, logs_json
from logprob_store.cli.output import near, say

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from logprob_store.job import Job
    from logprob_store.run.api import RunSummary
    from logprob_store.run.telemetry import Instrument

_LONG_S = 10.0


def run(
    job_file: JobFile,
    *,
    store: Annotated[Path | None, typer.Option(help="The store to write, instead of the job's.")] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="The run's name; the same name goes on with the same run.")
    ] = None,
    transport: Annotated[TransportKind | None, typer.Option(help="Instead of the job's.")] = None,
    fixtures: Annotated[Path | None, typer.Option(help="Recordings to replay, instead of the job's.")] = None,
    base_url: Annotated[str | None, typer.Option(help="The server to ask, instead of the job's.")] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Only the first so many prompts.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be asked, and ask nothing.")] = False,
    as_json: JsonOption = False,
    as_json_log: LogJsonOption = False,
    otel: Annotated[
        bool, typer.Option("--otel", help="Send OpenTelemetry traces and metrics, as the OTEL_ variables say.")
    ] = False,
) -> None:
    """Ask the model about every prompt and store every token; go on where an earlier run stopped.

    Exit codes: 0 done, 2 the job file or its input is wrong, 3 finished with failed prompts, 4 stopped by a limit,
    130 interrupted; after 3, 4 and 130 the same command goes on.
    """
    from logprob_store.run.api import run_job

    if as_json_log:
        log_json()
    job = _job(job_file, store=store, transport=transport, fixtures=fixtures, base_url=base_url)
    if dry_run:
        _dry_run(job, run, limit, as_json=as_json)
        return
    with _instrument(otel=otel) as instrument:
        with _progress_display() as on_progress:
            summary = run_job(
                job, run=run, limit=limit, api_key=_api_key(job), on_progress=on_progress, instrument=instrument
            )
        # Before the exporters end: without a collector they keep trying for some seconds.
        say(summary.as_dict() if as_json else summary_line(summary))
    if summary.state == "interrupted":
        raise typer.Exit(EXIT_INTERRUPTED)
    if summary.state == "stopped":
        raise typer.Exit(EXIT_LIMIT)
    if summary.failures:
        raise typer.Exit(EXIT_FAILURES)


def record(
    job_file: JobFile,
    *,
    fixtures: Annotated[Path, typer.Option(help="The folder (or .jsonl file) to write recordings into.")],
    base_url: Annotated[str | None, typer.Option(help="The server to ask, instead of the job's.")] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Only the first so many prompts.")] = None,
    cached_only: Annotated[
        bool, typer.Option("--cached-only", help="Take answers from the cache and make no call.")
    ] = False,
    as_json_log: LogJsonOption = False,
) -> None:
    """Write the answers to a job's prompts as fixtures, from the cache where it has them, else by asking."""
    import asyncio

    from logprob_store.run.record import record_job

    if as_json_log:
        log_json()
    job = _job(job_file, transport=TransportKind.live, base_url=base_url)
    key = None if cached_only else _api_key(job)
    done = asyncio.run(record_job(job, fixtures, limit=limit, api_key=key, cached_only=cached_only))
    say(
        f"{done.path}: {done.lines} recordings; {done.calls} asked, {done.from_cache} from the cache, "
        f"{done.kept} recorded before, {len(done.problems)} without an answer"
    )
    for problem in done.problems[:10]:
        say(f"  {problem}")
    if done.problems:
        raise typer.Exit(EXIT_FAILURES)


def _job(
    path: Path,
    *,
    store: Path | None = None,
    transport: TransportKind | None = None,
    fixtures: Path | None = None,
    base_url: str | None = None,
) -> Job:
    from logprob_store.job import load_job, override

    return override(
        load_job(path),
        store=store,
        transport=None if transport is None else transport.value,
        fixtures=fixtures,
        base_url=base_url,
    )


def _api_key(job: Job) -> str | None:
    import os

    return None if job.key_variable is None else os.environ.get(job.key_variable)


def _progress_display() -> Any:
    from logprob_store.view.progress import bar, lines, progress_events

    if logs_json():
        return progress_events()
    return bar() if sys.stderr.isatty() else lines()


def _instrument(*, otel: bool) -> AbstractContextManager[Instrument | None]:
    if not otel:
        return contextlib.nullcontext()
    from logprob_store.cli.otel import otlp

    return otlp()


def _dry_run(job: Job, run: str | None, limit: int | None, *, as_json: bool) -> None:
    import dataclasses

    from logprob_store.run.dry_run import dry_run

    estimate = dry_run(job, run=run, limit=limit)
    if as_json:
        say(dataclasses.asdict(estimate))
        return
    say(estimate.sentence)


def summary_line(summary: RunSummary) -> str:
    """How a run ended, for a person."""
    parts = [f"{summary.calls} asked"]
    if summary.from_cache:
        parts.append(f"{summary.from_cache} from the cache")
    if summary.from_fixtures:
        parts.append(f"{summary.from_fixtures} from fixtures")
    if summary.already:
        parts.append(f"{summary.already} already in the store")
    line = (
        f"run {summary.run} {summary.state} after {summary.seconds:.1f} s. {summary.total} answers wanted: "
        f"{', '.join(parts)}, {summary.failures} failed. "
        f"{summary.completions} completions with {summary.tokens} tokens are in {near(summary.store)}"
    )
    if summary.already == summary.total and summary.total and not summary.failures:
        line += "\nnothing had to be asked again"
    if summary.seconds > _LONG_S and summary.bound_by:
        line += f"\n{summary.verdict.sentence}"
    if summary.reason is not None:
        line += f"\nstopped: {summary.reason}"
    if summary.state != "finished" or summary.failures:
        line += "\nthe same command goes on from here"
    return line
