"""The command `record`: the answers to a job's prompts, written as fixtures.

Recording itself is in `logprob_store.run.record`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from logprob_store.cli.common import (
    EXIT_FAILURES,
    BaseUrlOption,
    JobFile,
    JsonOption,
    LogJsonOption,
    PromptLimitOption,
    TransportKind,
    echo,
    load_job_with_overrides,
)
from logprob_store.cli.logs import log_json
from logprob_store.counted import counted

if TYPE_CHECKING:
    from logprob_store.run.record import Recorded


def record(
    job_file: JobFile,
    *,
    fixtures: Annotated[Path, typer.Option(help="The folder (or .jsonl file) to write recordings into.")],
    base_url: BaseUrlOption = None,
    limit: PromptLimitOption = None,
    cached_only: Annotated[
        bool, typer.Option("--cached-only", help="Take answers from the cache and make no call.")
    ] = False,
    refusals: Annotated[
        bool, typer.Option("--refusals", help="Record refusals as well (400, 429), to test how they are taken.")
    ] = False,
    as_json: JsonOption = False,
    as_json_log: LogJsonOption = False,
) -> None:
    """Write the answers to a job's prompts as fixtures, from the cache where it has them, else by asking."""
    import asyncio
    import dataclasses

    from logprob_store.run.record import record_job

    if as_json_log:
        log_json()
    job = load_job_with_overrides(job_file, transport=TransportKind.live, base_url=base_url)
    done = asyncio.run(
        record_job(
            job,
            fixtures,
            limit=limit,
            cached_only=cached_only,
            refusals=refusals,
        )
    )
    if as_json:
        echo(dataclasses.asdict(done))
    else:
        _print_recorded(done, refusals=refusals)
    if done.problems:
        raise typer.Exit(EXIT_FAILURES)


def _print_recorded(done: Recorded, *, refusals: bool) -> None:
    refused = f", {done.refused} refused" if refusals else ""
    echo(
        f"{done.path}: {counted(done.lines, 'recording')}; {done.calls} asked{refused}, {done.from_cache} "
        f"from the cache, {done.kept} recorded before, {len(done.problems)} without an answer"
    )
    for problem in done.problems[:10]:
        echo(f"  {problem}")
