"""The command `doctor`: whether a job can run, one line for each thing that a run needs.

The checks are in `logprob_store.doctor`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from logprob_store.cli.common import (
    EXIT_INPUT,
    BaseUrlOption,
    JobFile,
    JsonOption,
    echo,
    load_job_with_overrides,
    print_rich,
)
from logprob_store.cli.option_names import in_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from logprob_store.doctor.check import Check

_COLOURS: Final = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(
    job_file: JobFile,
    *,
    store: Annotated[Path | None, typer.Option(help="The store to write, instead of the job's.")] = None,
    base_url: BaseUrlOption = None,
    no_call: Annotated[
        bool, typer.Option("--no-call", help="Make no call to the model: nothing is asked that may cost something.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Look whether a job can run: prompts, key, server, model, one call with logprobs, cache, store, clock, ceilings.

    Each line is ok, warn or fail, and says what to do. One call is made, of the job's first prompt for one token; its
    answer is not kept, and no ceiling counts it. Exit codes: 0 without a fail, 2 with one.
    """
    checks = []
    for check in _checks(job_file, store, base_url, call=not no_call):
        checks.append(check := check._replace(said=in_options(check.said, {"store": store, "base_url": base_url})))
        if not as_json:
            _print(check)
    bad = [check.name for check in checks if check.state == "fail"]
    if as_json:
        echo({"job": job_file, "ok": not bad, "checks": [check._asdict() for check in checks]})
    elif bad:
        echo(f"{job_file} cannot run: {', '.join(bad)}")
    else:
        echo(f"{job_file} can run: `logprobs run {job_file} --dry-run` says what it would ask")
    if bad:
        raise typer.Exit(EXIT_INPUT)


def _checks(job_file: Path, store: Path | None, base_url: str | None, *, call: bool) -> Iterator[Check]:
    from logprob_store.doctor.check import Check, failed
    from logprob_store.doctor.examining import examine
    from logprob_store.errors import InputError

    try:
        job = load_job_with_overrides(job_file, store=store, base_url=base_url)
    except InputError as error:
        yield failed("job", error)
        return
    yield Check("job", "ok", f"{job_file} is a job file: {job.name}")
    try:
        yield from examine(job, call=call)
    except InputError as error:  # a path that leads nowhere
        yield failed("job", error)


def _print(check: Check) -> None:
    from rich.text import Text

    from logprob_store.view.safe_text import printable

    state = f"{check.state:<5}", _COLOURS[check.state]
    # Lines to write into the job stand below each other; no other text may break a line, as a server may have sent it.
    said = printable(check.said, keep="\n" if check.name == "parameters" else "")
    print_rich(Text.assemble(state, f"{check.name:<11} {said}"))
