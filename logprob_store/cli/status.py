"""The command `status`: the runs of a store, their counts, and the failures still open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from logprob_store.cli.chosen_runs import ALL_RUNS, select_runs
from logprob_store.cli.common import (
    AllRunsOption,
    JsonOption,
    StorePath,
    by_tier_text,
    echo,
    print_table,
)
from logprob_store.counted import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from logprob_store.analysis.opened_store import Store
    from logprob_store.store.manifest import Manifest, Spent

_RUNS_SHOWN: Final = 20
_RUNS_NAMED: Final = 5
_LAST_WORD: Final = "it ended without a last word: it was killed, the power failed, or the disk was full"


def status(store: StorePath, *, run: AllRunsOption = None, as_json: JsonOption = False) -> None:
    """Show the runs of a store: how they stand, their counts, and the failures still open.

    A run is running while a process writes it, then finished, stopped, interrupted
    or crashed; all but finished ones go on with the same command.
    Of many runs the newest 20 are shown; --json has all.
    """
    from logprob_store.view.terminal_tables import anomalies_frame, failures_frame, runs_frame

    opened = select_runs(store, ALL_RUNS if run is None else run)
    if as_json:
        failures = failures_frame(opened)
        states = _runs_with_states(opened, failures)
        unreadable = {name: str(error) for name, error in opened.unreadable.items()}
        echo({"runs": states.to_dicts(), "failures": failures.to_dicts(), "unreadable": unreadable})
        return
    names = opened.run_names
    echo(f"{store}: {counted(len(names), 'run')}")
    if older := names[:-_RUNS_SHOWN]:
        failed = sum(manifest.counts.failures for manifest in opened.manifests[:-_RUNS_SHOWN])
        echo(
            f"the newest {_RUNS_SHOWN}; {len(older)} older, with {counted(failed, 'failure')}, left out (--run, --json)"
        )
        opened = opened.only(*names[-_RUNS_SHOWN:])
    failures = failures_frame(opened)
    runs = _runs_with_states(opened, failures)
    print_table(runs_frame(runs), least=("tokens", "answers", "spent_usd", "completions", "prompts"))
    for line in (*_spent_by_tier(opened), *_spent_by_jobs(opened), *_how_they_stand(opened, runs)):
        echo(line)
    if (odd := anomalies_frame(opened)).height:
        echo("oddities in what the server sent; docs/store.md says what each means")
        print_table(odd)
    if failures.height:
        echo("open failures; a job, started again, asks them again")
    for line in _failures_by_class(failures):
        echo(line)


def _spent_by_tier(store: Store) -> Iterator[str]:
    """What each run that several service tiers served has spent by tier."""
    for manifest in store.manifests:
        if by_tier := manifest.spent.usd_by_tier:
            yield f"{manifest.run} spent by service tier: {by_tier_text(by_tier)}"


def _how_they_stand(store: Store, runs: pl.DataFrame) -> Iterator[str]:
    """Why runs ended early, what those that are under way have on disk, and which files are not there."""
    from logprob_store.store.missing_answers import lost_sentence
    from logprob_store.store.part_files import missing_files, missing_files_sentence

    for name, state, message in runs.select("run", "state", "message").drop_nulls().iter_rows():
        yield f"{name} {state}: {message}"
    for manifest in store.manifests:
        if manifest.run in runs.filter(state="running")["run"]:
            yield _so_far(store, manifest)
        if missing := missing_files(store.path, manifest):
            yield missing_files_sentence(store.path, manifest.run, missing)
        if (lost := lost_sentence(manifest)) is not None:
            yield lost


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
            lines.append(
                f"job {job} has spent {counted(calls, 'call', commas=True)}, "
                f"{counted(tokens, 'token', commas=True)}{dollars} in these {len(spent)} runs"
            )
    return lines


def _so_far(store: Store, manifest: Manifest) -> str:
    """What a run that is under way has on disk."""
    from logprob_store.store.call_log import CALL_LOG, read_call_log
    from logprob_store.store.manifest import run_folder

    path = run_folder(store.path, manifest.run) / CALL_LOG
    calls = max(manifest.spent.requests, read_call_log(path.read_bytes()).requests if path.is_file() else 0)
    made = f", {counted(calls, 'call')} made" if calls else ""
    answers = f"{counted(manifest.counts.completions, 'answer')} in {counted(len(manifest.parts), 'part')}"
    return (
        f"{manifest.run} is running: {answers if manifest.parts else 'nothing'} committed so far{made}; answers are "
        "committed once a minute, or more often"
    )


def _failures_by_class(failures: pl.DataFrame) -> Iterator[str]:
    """A line for each class of failure, the most frequent one first: how many, in which runs, and an example."""
    import polars as pl

    by_class = failures.group_by("error_type", maintain_order=True).agg(
        pl.col("prompts", "maybe_billed").sum(), runs=pl.struct("run", "prompts"), example=pl.col("example").last()
    )
    for row in by_class.sort("prompts", descending=True, maintain_order=True).iter_rows(named=True):
        runs = row["runs"]
        named = ", ".join(f"{one['run']} {one['prompts']}" for one in runs[-_RUNS_NAMED:])
        older = f"{counted(len(runs) - _RUNS_NAMED, 'older run')}, " if len(runs) > _RUNS_NAMED else ""
        where = f"in {runs[0]['run']}" if len(runs) == 1 else f"in {len(runs)} runs ({older}{named})"
        billed = f", {row['maybe_billed']} maybe billed" if row["maybe_billed"] else ""
        yield f"{row['prompts']} {row['error_type']} {where}{billed}, such as: {row['example']}"


def _runs_with_states(store: Store, failures: pl.DataFrame) -> pl.DataFrame:
    """The runs with their present state and open failures, and why a stopped or interrupted one ended.

    Open failures are counted anew, as a manifest has their number only once a session has ended.
    """
    import polars as pl

    from logprob_store.store.lock import state_now

    states = [state_now(store.path, manifest.run, manifest.state) for manifest in store.manifests]
    ends = [manifest.sessions[-1] if manifest.sessions else None for manifest in store.manifests]
    # The last manifest's reason is out of date for a run that is running now or has crashed since.
    ends = [end if state in {"stopped", "interrupted"} else None for end, state in zip(ends, states, strict=True)]
    by_run = dict(failures.group_by("run").agg(pl.col("prompts").sum()).iter_rows())
    messages = [
        _LAST_WORD if state == "crashed" else end and end.message for end, state in zip(ends, states, strict=True)
    ]
    return store.runs.collect().with_columns(
        failures=pl.Series([by_run.get(name, 0) for name in store.run_names], dtype=pl.Int64),
        state=pl.Series(states, dtype=pl.String),
        reason=pl.Series([end and end.reason for end in ends], dtype=pl.String),
        message=pl.Series(messages, dtype=pl.String),
    )
