"""Queries in SQL, each answered by a process of its own that is ended when it takes too long.

A query of polars cannot be stopped within a process, nor its memory be bounded. One process waits, with the store open,
so that a query need not wait for it to start.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, Self

from logprob_store.analysis.sql_tables import check_reads_no_files
from logprob_store.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

MOST_SECONDS: Final = 10.0
MOST_MEMORY: Final = 3 << 30
_LONGEST_QUERY: Final = 20_000


class Sql:
    """Answers queries over some runs of a store, one at a time; also a context manager.

    Args:
        store: the store's folder.
        runs: the runs.
        folder: where the prepared files of the runs are; None for beside their manifests.
        expected: the column of the prompts that says what the answer should be.
        seconds: how long a query may take.
        memory: bytes that it may take; files that it has mapped do not count.
    """

    def __init__(
        self,
        store: Path,
        runs: list[str],
        *,
        folder: Path | None,
        expected: str | None = None,
        seconds: float = MOST_SECONDS,
        memory: int = MOST_MEMORY,
    ) -> None:
        prepared = None if folder is None else str(folder)
        self._opened = {"store": str(store), "runs": runs, "folder": prepared, "memory": memory, "expected": expected}
        self._seconds = seconds
        self._lock = threading.Lock()
        self._waiting: subprocess.Popen[str] | None = self._started()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process that waits."""
        with self._lock:
            if self._waiting is not None:
                _end(self._waiting)
                self._waiting = None

    def ask(self, query: str) -> dict[str, Any]:
        """The answer to a query: `columns`, `kinds` (number, text), `rows` and whether there are `more`.

        Raises:
            InputError: the query cannot be answered, took too long, or too much memory.
        """
        if len(query) > _LONGEST_QUERY:
            raise InputError(f"the query is longer than {_LONGEST_QUERY:,} characters")
        check_reads_no_files(query)
        with self._lock:
            child = self._waiting if self._waiting is not None and self._waiting.poll() is None else self._started()
            self._waiting = None
            try:
                answer = _asked(child, query, self._seconds)
            finally:
                _end(child)
            self._waiting = self._started()
        if "error" in answer:
            raise InputError(answer["error"])
        return answer

    def _started(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-m", "logprob_store.explorer.sql_child"]
        pipe = subprocess.PIPE
        child = subprocess.Popen(  # noqa: S603  our own module
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, encoding="utf-8", start_new_session=True
        )
        _send(child.stdin, self._opened)
        return child


def _asked(child: subprocess.Popen[str], query: str, seconds: float) -> dict[str, Any]:
    """What a process answers to a query; an error in words where it gives no answer."""
    timer = threading.Timer(seconds, child.kill)
    late = False
    try:
        ready = _line(child.stdout)
        _send(child.stdin, {"query": query})
        timer.start()
        answer = _line(child.stdout) if ready is not None else None
    finally:
        late = timer.finished.is_set()
        timer.cancel()
    if answer is not None:
        return answer
    code = child.wait()
    if late:
        return {"error": f"the query took longer than {seconds:g} seconds and was ended: ask for less, as with WHERE"}
    if code in {-signal.SIGABRT, -signal.SIGKILL, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL}:
        return {"error": "the query takes too much memory and was ended: ask for less, as with WHERE or LIMIT"}
    return {"error": f"the query was not answered: its process ended with {code}"}


def _send(file: IO[str] | None, value: dict[str, Any]) -> None:
    if file is not None:
        try:
            file.write(json.dumps(value) + "\n")
            file.flush()
        except BrokenPipeError:  # it has ended: whoever reads its answer says so
            return


def _line(file: IO[str] | None) -> dict[str, Any] | None:
    """The next line of JSON; None at the end."""
    if file is None or not (line := file.readline()).endswith("\n"):
        return None
    value: dict[str, Any] = json.loads(line)
    return value


def _end(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()
    for file in (child.stdin, child.stdout):
        if file is not None:
            try:
                file.close()
            except BrokenPipeError:
                continue
