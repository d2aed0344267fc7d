"""What an explorer holds: its runs as they are prepared, its questions, and what has come to the store since.

The server is in `server`; here is nothing of HTTP.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import polars as pl
import pyarrow as pa

from logprob_store.counted import counted
from logprob_store.errors import InputError, StoreError
from logprob_store.explorer.one_completion import compared
from logprob_store.explorer.prepared_files import crc_of_parts
from logprob_store.explorer.preparing import prepare
from logprob_store.explorer.questions import Questions
from logprob_store.explorer.sql import Sql
from logprob_store.explorer.verdicts import with_verdicts
from logprob_store.store.lock import state_now
from logprob_store.store.manifest import find_manifest, manifest_path, run_folder
from logprob_store.store.run_folders import run_names
from logprob_store.store.verifying import verify_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from logprob_store.analysis.opened_store import Store
    from logprob_store.store.manifest import Manifest

MOST_ANSWERS: Final = 3_000_000
"""Answers from which on older runs are left out, where none is named: each million takes a minute to prepare."""

_UNREADABLE: Final = (
    StoreError,
    OSError,
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    pa.ArrowException,
)
"""What is raised over files that are damaged."""


class Exploring:
    """Runs of a store that are being explored; also a context manager.

    Args:
        open_runs: opens the store with the runs that are wanted.
        expected: a column kept with the prompts that says what the answer should be; None for none.
        leave_out_damaged: whether runs whose files cannot be read are left out, where others can; that is said.
        say: called with a sentence as the work goes on.

    Raises:
        InputError: the store has no run, or no such column was kept.
        StoreError: a run is damaged, and is not left out.
        DiskError: there is no room to prepare the runs.
    """

    def __init__(
        self,
        open_runs: Callable[[], Store],
        *,
        expected: str | None = None,
        leave_out_damaged: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._open_runs = open_runs
        self._expected = expected
        self._leave_out_damaged = leave_out_damaged
        self.say = say
        self._left_out: dict[str, str] = {}
        store = open_runs()
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if not all(os.access(run_folder(store.path, run), os.W_OK) for run in store.run_names):
            self._temporary = tempfile.TemporaryDirectory(prefix="logprobs-explore-")
            say(f"{store.path} may only be read: what is prepared goes into {self._temporary.name} until this ends")
        self._refreshing = threading.Lock()
        self._seen: dict[str, tuple[int, int]] = {}
        self._news: dict[str, Any] = {}
        with contextlib.ExitStack() as if_it_fails:
            if_it_fails.callback(self._remove_temporary)
            self.questions = self._prepared(store)
            self.sql = self._sql(self.questions.prepared.store)
            if_it_fails.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process for SQL, and remove what was prepared for a store that may only be read."""
        self.sql.close()
        self._remove_temporary()

    def news(self) -> dict[str, Any]:
        """What has come to the store since it was opened: answers in the open runs, new runs, and which are at it."""
        store = self.questions.prepared.store
        known = set(store.run_names)
        now = {run: _stamp(store.path, run) for run in run_names(store.path)}
        if now != self._seen:
            self._news = self._compared(store, known)
            self._seen = now
        open_now = [run for run in known if run in now]
        under_way = [run for run in open_now if state_now(store.path, run, "finished") == "running"]
        return {**self._news, "under_way": under_way}

    def refresh(self) -> dict[str, Any]:
        """Open the store anew, prepare what is new, and answer over that from now on; returns the overview."""
        with self._refreshing:
            store = self._open_runs()
            questions = self._prepared(store)
            sql, self.sql = self.sql, self._sql(questions.prepared.store)
            self.questions = questions
            self._seen = {}
            sql.close()
            return questions.overview

    def _prepared(self, store: Store) -> Questions:
        if not store.run_names:
            raise InputError(f"{store.path} has no run yet; `logprobs run JOB.toml` makes one")
        store = self._readable(store)
        prepared = prepare(store, folder_of=self._folder_of(), say=self.say)
        if self._expected is not None:
            prepared = with_verdicts(prepared, self._expected)
        questions = Questions(prepared, left_out=self._left_out)
        # What only the first question of a kind would wait for: a second of a million rows.
        questions.warm()
        answers = questions.rows.lazy().filter(pl.col("completion_id").is_not_null())
        for run, completion_id in answers.select("run", "completion_id").head(1).collect().iter_rows():
            with contextlib.suppress(OSError, pl.exceptions.PolarsError):  # of a part that is gone
                compared(questions, (str(run), completion_id), (str(run), completion_id))
        return questions

    def _readable(self, store: Store) -> Store:
        """The store with the runs that can be prepared; why others cannot is said, and kept in `_left_out`.

        Raises:
            StoreError: a run is damaged, and is not left out, or is the last one.
        """
        left_out: dict[str, str] = {}
        for run in store.run_names:
            try:
                prepare(store.only(run), folder_of=self._folder_of(), say=self.say)
            except _UNREADABLE as error:
                if (damage := _damage(store.path, run)) is None:
                    raise
                if not self._leave_out_damaged or len(left_out) + 1 == len(store.manifests):
                    others = "" if self._leave_out_damaged else ". Without --run, the other runs are opened"
                    raise StoreError(f"run {run} is damaged: {damage}{others}") from error
                left_out[run] = damage
                if run not in self._left_out:
                    self.say(f"run {run} is left out, as it is damaged: {damage}")
        self._left_out = left_out
        return store.only(*(run for run in store.run_names if run not in left_out)) if left_out else store

    def _folder_of(self) -> Callable[[str], Path] | None:
        if self._temporary is None:
            return None
        base = Path(self._temporary.name)
        return lambda run: base / run

    def _sql(self, store: Store) -> Sql:
        folder = None if self._temporary is None else Path(self._temporary.name)
        return Sql(store.path.resolve(), store.run_names, folder=folder, expected=self._expected)

    def _compared(self, store: Store, known: set[str]) -> dict[str, Any]:
        """How many answers the open runs have more than when they were opened, and which runs are new."""
        answers = 0
        runs = []
        before = {manifest.run: manifest for manifest in store.manifests}
        for run in run_names(store.path):
            if (manifest := _manifest(store.path, run)) is None:
                continue
            if run in self._left_out:
                continue
            if run not in known:
                if manifest.created_at > max(one.created_at for one in store.manifests):
                    runs.append(run)
                continue
            if crc_of_parts(manifest) != crc_of_parts(before[run]):
                answers += max(0, manifest.counts.completions - before[run].counts.completions)
        return {"new_answers": answers, "new_runs": runs}

    def _remove_temporary(self) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None


def newest_runs(store: Store, most: int = MOST_ANSWERS) -> list[str]:
    """The newest runs of a store that together have no more answers than a page can wait for; the newest one always."""
    chosen: list[str] = []
    answers = 0
    for manifest in reversed(store.manifests):
        answers += manifest.counts.completions
        if chosen and answers > most:
            break
        chosen.append(manifest.run)
    return chosen[::-1]


def _damage(store: Path, run: str) -> str | None:
    """Which file of a run is damaged, and what to do; None where none is."""
    problems = [problem for problem in verify_store(store, runs=[run]) if problem.kind == "part"]
    if not problems:
        return None
    return (
        f"{str(problems[0]).rstrip('.')} ({counted(len(problems), 'damaged file')} in all). `logprobs verify {store} "
        "--repair` takes damaged parts out; the job, run again, takes back those answers that its cache still has"
    )


def _manifest(store: Path, run: str) -> Manifest | None:
    """A run's manifest; None where it cannot be read now."""
    try:
        found = find_manifest(store, run)
    except StoreError:
        return None
    return None if found is None else found.manifest


def _stamp(store: Path, run: str) -> tuple[int, int]:
    """What changes when a run's manifest is written."""
    try:
        status = manifest_path(store, run).stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_ino
