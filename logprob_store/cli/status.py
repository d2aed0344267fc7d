"""The command `status`: the runs of a store, their counts, and the failures still open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from logprob_store.cli.common import (
    ALL_RUNS,
    AllRunsOption,
    JsonOption,
    StorePath,
    by_tier_text,
    echo,
    open_runs,
    print_table,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from logprob_store.analysis.opened_store import Store
    from logprob_store.store.manifest import Spent

_RUNS_SHOWN: Final = 20
_LAST_WORD: Final = "it ended without a last word: it was killed, the power failed, or the disk was full"


def status(store: StorePath, *, run: AllRunsOption = None, as_json: JsonOption = False) -> None:
    """Show the runs of a store: how they stand, their counts, and the failures still open.

    A run is running while a process writes it, then finished, stopped, interrupted
    or crashed; all but finished ones go on with the same command.
    Of many runs the newest 20 are shown; --json has all.
    """
    from logprob_store.view.terminal_tables import anomalies_frame, failures_frame, runs_frame

    opened = open_runs(store, run, default=ALL_RUNS)
    if as_json:
        unreadable = {name: str(error) for name, error in opened.unreadable.items()}
        states, failures = _runs_with_states(opened), failures_frame(opened)
        echo({"runs": states.to_dicts(), "failures": failures.to_dicts(), "unreadable": unreadable})
        return
    names = opened.run_names
    echo(f"{store}: {len(names)} run{'' if len(names) == 1 else 's'}")
    if older := names[:-_RUNS_SHOWN]:
        failed = sum(manifest.counts.failures for manifest in opened.manifests[:-_RUNS_SHOWN])
        echo(f"the newest {_RUNS_SHOWN}; {len(older)} older ones, with {failed} failures, are left out (--run, --json)")
        opened = opened.only(*names[-_RUNS_SHOWN:])
    runs = _runs_with_states(opened)
    print_table(runs_frame(runs), least=("tokens", "answers", "spent_usd", "completions", "prompts"))
    for line in _lines_of_runs(opened, runs):
        echo(line)
    failures = failures_frame(opened)
    if (odd := anomalies_frame(opened)).height:
        echo("oddities in what the server sent; docs/store.md says what each means")
        print_table(odd)
    if failures.height:
        echo("open failures; a job, started again, asks them again")
        print_table(failures.drop("example"))
        for name, error_type, example in failures.select("run", "error_type", "example").iter_rows():
            echo(f"{name} {error_type}, such as: {example}")


def _lines_of_runs(store: Store, runs: pl.DataFrame) -> Iterator[str]:
    """What is to be said of single runs, beside their rows of the table: spending, ends, files that are not there."""
    from logprob_store.store.part_files import missing_files, missing_files_sentence

    for manifest in store.manifests:
        if by_tier := manifest.spent.usd_by_tier:
            yield f"{manifest.run} spent by service tier: {by_tier_text(by_tier)}"
    yield from _spent_by_jobs(store)
    for name, state, message in runs.select("run", "state", "message").drop_nulls().iter_rows():
        yield f"{name} {state}: {message}"
    for manifest in store.manifests:
        if missing := missing_files(store.path, manifest):
            yield missing_files_sentence(store.path, manifest.run, missing)


def _spent_by_jobs(store: Store) -> list[str]:
    """What each job with several of these runs has spent in all of them, if that is anything."""
    jobs: dict[str, list[Spent]] = {}
    for manifest in store.manifests:
        jobs.setdefault(manifest.job_name, []).append(manifest.spent)
    lines = []
    for job, spent in jobs.items():
        calls, tokens = sum(one.requests for one in spent), sum(one.tokens for one in spent)
        if len(spent) > 1 and calls:
            usd = [one.usd for one in spent if one.usd is not None]
            dollars = f", ${sum(usd):,.4f}" if usd else ""
            lines.append(f"job {job} has spent {calls:,} calls, {tokens:,} tokens{dollars} in these {len(spent)} runs")
    return lines


def _runs_with_states(store: Store) -> pl.DataFrame:
    """The runs with their present state, and why a stopped or interrupted one ended."""
    import polars as pl

    from logprob_store.store.lock import state_now

    states = [state_now(store.path, manifest.run, manifest.state) for manifest in store.manifests]
    ends = [manifest.sessions[-1] if manifest.sessions else None for manifest in store.manifests]
    # The last manifest's reason is out of date for a run that is running now or has crashed since.
    ends = [end if state in {"stopped", "interrupted"} else None for end, state in zip(ends, states, strict=True)]
    messages = [
        _LAST_WORD if state == "crashed" else end and end.message for end, state in zip(ends, states, strict=True)
    ]
    return store.runs.collect().with_columns(
        state=pl.Series(states, dtype=pl.String),
        reason=pl.Series([end and end.reason for end in ends], dtype=pl.String),
        message=pl.Series(messages, dtype=pl.String),
    )
