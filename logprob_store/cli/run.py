"""The command `run`, with its dry run: asks the model and stores every token.

The run itself is in `logprob_store.run.api`.
"""

from __future__ import annotations

import contextlib
import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from logprob_store.cli.common import (
    EXIT_FAILURES,
    EXIT_INTERRUPTED,
    EXIT_LIMIT,
    BaseUrlOption,
    JobFile,
    JsonOption,
    LogJsonOption,
    PromptLimitOption,
    TransportKind,
    by_tier_text,
    echo,
    load_job_with_overrides,
    path_from_here,
)
from logprob_store.cli.completion import complete_run
from logprob_store.cli.logs import log_json, logs_json
from logprob_store.cli.option_names import in_options
from logprob_store.counted import counted

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from logprob_store.job import Job
    from logprob_store.run.api import RunSummary
    from logprob_store.run.telemetry import Instrument


class Selected(StrEnum):
    """Which prompts of a job are asked."""

    all = "all"
    new = "new"
    changed = "changed"
    failed = "failed"


_LONG_RUN_S: Final = 10.0
"""Seconds from which on a run's summary says what bound it."""
_KINDS_SHOWN: Final = 5
_OF_THE_PROMPTS: Final = frozenset({"null_prompt", "bad_prompt"})
"""Classes of failure that no further session changes."""
_REFUSED: Final = frozenset({"invalid_request", "content_filter", "over_limit"})
"""Classes of failure that a further session is not likely to change."""


def run(
    job_file: JobFile,
    *,
    store: Annotated[Path | None, typer.Option(help="The store to write, instead of the job's.")] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run", autocompletion=complete_run, help="The run's name; the same name goes on with the same run."
        ),
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Begin another run, under the next free name: NAME.2, NAME.3, ...")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the old run of that name out, if it was a trial, and begin anew.")
    ] = False,
    transport: Annotated[TransportKind | None, typer.Option(help="Instead of the job's.")] = None,
    fixtures: Annotated[Path | None, typer.Option(help="Recordings to replay, instead of the job's.")] = None,
    base_url: BaseUrlOption = None,
    limit: PromptLimitOption = None,
    select: Annotated[
        Selected | None,
        typer.Option(help="Which prompts, by what earlier runs of the store have, instead of the job's."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be asked, and ask nothing.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Send batches and end; the same command collects their answers later.")
    ] = False,
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
    job = load_job_with_overrides(
        job_file, store=store, transport=transport, fixtures=fixtures, base_url=base_url, select=select
    )
    if dry_run:
        _dry_run(job, as_json=as_json, run=run, new=new, replace=replace, limit=limit)
        return
    with _instrument(otel=otel) as instrument:
        ask = partial(run_job, job, limit=limit, instrument=instrument, detach=detach)
        with _progress_display() as on_progress:
            summary = ask(run=run, new=new, replace=replace, on_progress=on_progress)
        goes_on = job.transport.kind == "batch" and run is None and not new and not replace
        later = _not_begun(job, summary) if goes_on else None
        codes = [_exit_code(summary)]
        # Print before the exporters shut down: without a collector they retry for a while.
        texts = [_text(summary, base_url)]
        said = summary.as_dict()
        if later is not None and detach and summary.state == "finished":
            # Tonight's calls are sent by the command that has just collected last night's.
            with _progress_display() as on_progress:
                tonights = ask(on_progress=on_progress)
            texts.append(_text(tonights, base_url))
            codes.insert(0, _exit_code(tonights))
            said = {**tonights.as_dict(), "before": said}
        elif later is not None:
            texts.append(_later_text(later, summary.run, has_ended=summary.state == "finished"))
            said["not_begun"] = later
            codes.append(EXIT_LIMIT if detach else 0)
        echo(said if as_json else "\n".join(texts))
    if (code := next(filter(None, codes), 0)) != 0:
        raise typer.Exit(code)


def _not_begun(job: Job, summary: RunSummary) -> str | None:
    """Today's run, if the command went on with that of another day, and today's is not begun."""
    from logprob_store.run.naming import run_not_begun

    return run_not_begun(job, summary.run)


def _later_text(later: str, went_on_with: str, *, has_ended: bool) -> str:
    if has_ended:
        return f"run {later}, today's, is not begun: the same command begins it"
    return (
        f"run {later}, today's, is not begun: run {went_on_with} is not over. The same command begins it then; "
        f"--run {later} begins it beside that one"
    )


def _text(summary: RunSummary, base_url: str | None) -> str:
    given = {"base_url": base_url}
    return "\n".join(
        [summary_line(summary), *_by_tier(summary), *(in_options(line, given) for line in ending(summary))]
    )


def _exit_code(summary: RunSummary) -> int:
    if summary.state == "waiting":
        return 0
    if summary.state == "interrupted":
        return EXIT_INTERRUPTED
    if summary.state == "stopped":
        return EXIT_LIMIT
    return EXIT_FAILURES if summary.failures else 0


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


def _dry_run(job: Job, *, as_json: bool, **options: Any) -> None:
    import dataclasses

    from logprob_store.run.dry_run import dry_run

    estimate = dry_run(job, **options)
    if as_json:
        echo(dataclasses.asdict(estimate))
        return
    echo(estimate.sentence)


def _by_tier(summary: RunSummary) -> list[str]:
    usd_by_tier = summary.spent_usd_by_tier
    return [f"spent by service tier: {by_tier_text(usd_by_tier)}"] if usd_by_tier else []


def summary_line(summary: RunSummary) -> str:
    """How a run ended, as text for people."""
    retried = f" in {counted(summary.calls, 'call')}" if summary.calls > summary.answered + summary.failed else ""
    parts = [f"{summary.answered} from the server{retried}"]
    if summary.shared:
        parts.append(f"{summary.shared} by the calls of equal prompts")
    if summary.from_cache:
        parts.append(f"{summary.from_cache} from the cache")
    if summary.from_fixtures:
        parts.append(f"{summary.from_fixtures} from fixtures")
    if summary.already:
        parts.append(f"{summary.already} already in the store")
    parts.append(f"{summary.failed} failed")
    parts += _unreached(summary)
    how = f"ended as a {summary.shown_state} of some of its prompts" if summary.partial else summary.state
    line = (
        f"run {summary.run} {how} after {summary.seconds:.1f} s. {counted(summary.total, 'answer')} wanted: "
        f"{', '.join(parts)}. "
        f"{summary.rows_in_words} in {path_from_here(summary.store)}"
    )
    if summary.passed_over:
        from logprob_store.run.selection import passed_over_sentence

        line += f"\n{passed_over_sentence(summary.passed_over)}"
    if summary.files > 1:
        line += f"\nthe prompts are those of {summary.files} files"
    if summary.already == summary.total and summary.total and not summary.failures:
        line += "\nnothing had to be asked again"
    if summary.seconds > _LONG_RUN_S and summary.bound_by:
        line += f"\n{summary.verdict.sentence}"
    return line


def _unreached(summary: RunSummary) -> list[str]:
    if summary.state == "waiting":
        unsent = [f"{summary.unsent} not sent"] if summary.unsent else []
        return [f"{summary.not_reached - summary.unsent} in batches", *unsent]
    return [f"{summary.not_reached} not reached"] if summary.not_reached else []


def ending(summary: RunSummary) -> list[str]:
    """What stands in the way of the answers that are missing, the reason of a stop last."""
    from logprob_store.analysis.opened_store import open_store
    from logprob_store.view.terminal_tables import failures_frame

    failures = failures_frame(open_store(summary.store, runs=summary.run)) if summary.failures else None
    lines = []
    kinds: set[str] = set()
    if failures is not None:
        found = failures.sort("prompts", descending=True).select("error_type", "prompts", "example")
        kinds = set(found["error_type"])
        lines = [f"{count} {kind}, such as: {example}" for kind, count, example in found.head(_KINDS_SHOWN).rows()]
    if summary.batches:
        lines.append(f"{summary.batches}; {'what is begun goes' if summary.unsent else 'they go'} on at the service")
        if summary.unsent:
            lines.append(
                f"{counted(summary.unsent, 'call')} not sent, as what may be queued or spent at once has no room: the "
                "same command sends them when batches have ended; without --detach it waits for that"
            )
        lines.append("the same command collects them; `logprobs batches` shows them")
    elif summary.state != "finished" or kinds - _OF_THE_PROMPTS - _REFUSED:
        lines.append("the same command goes on from here")
    elif kinds & _REFUSED:
        lines.append("the same command asks these again; a server that refused them is likely to refuse them again")
    elif kinds:
        lines.append("these fail again until the prompts are changed, which makes another run (--run)")
    if not summary.total and not summary.passed_over:
        lines.append("there is nothing to ask: the prompts files have no row")
    if summary.reason is not None:
        lines.append(f"{summary.state}: {summary.reason}")
    return lines
