"""Which runs a command reads, and what it says of them on standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

from logprob_store.view.safe_text import printable

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.analysis.opened_store import Store

ALL_RUNS: Final = "all"
_RUNS_NAMED: Final = 3


def select_runs(path: Path, wanted: str) -> Store:
    """A store with the runs that `--run` names; warns of those that cannot be read.

    Args:
        path: the store's folder.
        wanted: the option's value, or its default.
    """
    return _selected(_read(path), wanted)


def _read(path: Path) -> Store:
    from logprob_store.analysis.opened_store import Store
    from logprob_store.store.tables import read_tables

    return read_tables(Store, path)


def _selected(every: Store, wanted: str) -> Store:
    from logprob_store.store.tables import warn_of_unreadable

    opened = runs_meant(every, wanted)
    warn_of_unreadable(every.path, every.unreadable)
    return opened


def runs_meant(every: Store, wanted: str) -> Store:
    """A store with the runs that `--run` names; takes the same as `select_runs`, and warns of nothing."""
    if wanted == ALL_RUNS and wanted not in every.run_names:
        return every
    return every.only(*filter(None, map(str.strip, wanted.split(","))))


def open_runs(store: Path, run: str | None) -> Store:
    """A store with the runs that `--run` names, or the newest one.

    Says on standard error which of several it is where none was named, and why there is no answer where there is none.
    """
    from logprob_store.store.missing_answers import why_no_answers
    from logprob_store.store.tables import NEWEST

    every = _read(store)
    opened = _selected(every, NEWEST if run is None else run)
    names = opened.run_names
    if run is None and len(every.manifests) > 1:
        kind = _kind(every, names[0])
        said = f"run {names[0]}{kind and f', {kind}'}, 1 of {len(every.manifests)} (--run all: all of them)"
        _say("; ".join(filter(None, [said, passed_over(every, names[0])])))
    elif not any(manifest.has_answers for manifest in opened.manifests):
        for name in names[-_RUNS_NAMED:]:
            _say(f"run {name} holds no answer: {why_no_answers(opened, name)}")
    return opened


def passed_over(every: Store, run: str) -> str:
    """The runs newer than the one that is read where none was named, and why they are not; empty for none."""
    newer = every.run_names[every.run_names.index(run) + 1 :]
    named = [f"{name} ({_kind(every, name)})" for name in newer[-_RUNS_NAMED:]]
    more = f"{len(newer) - _RUNS_NAMED} more and " if len(newer) > _RUNS_NAMED else ""
    return f"newer, but passed over: {more}{', '.join(named)}" if newer else ""


def _kind(every: Store, run: str) -> str:
    """What a run is other than finished over all its prompts, in words; empty for one that is."""
    from logprob_store.store.lock import state_now
    from logprob_store.store.missing_answers import why_no_answers

    (manifest,) = every.only(run).manifests
    if not manifest.has_answers:
        return f"no answer: {why_no_answers(every, run)}"
    if manifest.is_partial:
        return "a trial of some of its prompts"
    state = state_now(every.path, run, manifest.state)
    return "" if state == "finished" else state


def _say(words: str) -> None:
    typer.echo(printable(words), err=True)
