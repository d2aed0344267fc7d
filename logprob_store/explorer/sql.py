"""Queries in SQL, answered by a process of their own that is ended when one takes too long or nobody waits for it.

A query of polars cannot be stopped within a process, nor its memory be bounded. One process waits, with the store open,
so that a query need not wait for it to start; it answers query after query until it has to be ended.
"""

from __future__ import annotations

import contextlib
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
_LONG_S: Final = 0.5
_LESS: Final = "ask for less, as with WHERE or LIMIT"
TOO_MUCH_MEMORY: Final = f"the query takes too much memory and was ended: {_LESS}"


class Sql:
    """Answers queries over some runs of a store, one at a time: a newer one ends the one before it.

    Also a context manager.

    Args:
        store: the store's folder.
        runs: the runs.
        folder: where the prepared files of the runs are; None for beside their manifests.
        expected: the column of the prompts that says what the answer should be.
        seconds: how long a query may take.
        memory: bytes that it may take beside those of a process that waits; files that it has mapped do not count.
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
        self.seconds: Final = seconds
        self._lock = threading.Lock()
        self._is_closed = False
        self._newest: AskedQuery | None = None
        self._waiting: _Child | None = self._started()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the query that is under way, and the process that waits."""
        with self._lock:
            self._is_closed = True
            waiting, self._waiting = self._waiting, None
        if self._newest is not None:
            self._newest.end("the explorer was ended, or its runs were opened anew")
        if waiting is not None:
            waiting.end()

    def ask(self, query: str) -> dict[str, Any]:
        """The answer to a query: `columns`, `kinds` (number, text), `rows` and whether there are `more`.

        Raises:
            InputError: the query cannot be answered, took too long, too much memory, or a newer one was asked.
        """
        return self.begin(query).answer()

    def begin(self, query: str) -> AskedQuery:
        """A query whose answer can be taken in another thread, and which can be ended meanwhile.

        Raises:
            InputError: it is too long, or may read other files.
        """
        if len(query) > _LONGEST_QUERY:
            raise InputError(f"the query is longer than {_LONGEST_QUERY:,} characters")
        check_reads_no_files(query)
        asked = AskedQuery(self, query)
        with self._lock:
            before, self._newest = self._newest, asked
        if before is not None:
            before.end("a newer query was asked before this one was answered; one is answered at a time")
        return asked

    def take_child(self) -> _Child:
        """A process to ask: the one that waits, if it lives."""
        with self._lock:
            child, self._waiting = self._waiting, None
            return child if child is not None and child.process.poll() is None else self._started()

    def give_back(self, used: _Child) -> None:
        """Keep a process for the next query, where it lives; otherwise have another wait."""
        with self._lock:
            is_kept = used.process.poll() is None and not self._is_closed
            other: _Child | None = used
            if is_kept:
                other, self._waiting = self._waiting, used
        if other is not None:
            other.end()
        if not is_kept:
            self.have_one_wait()

    def have_one_wait(self) -> None:
        """Start a process for the next query, unless one waits."""
        with self._lock:
            if self._waiting is None and not self._is_closed:
                self._waiting = self._started()

    def _started(self) -> _Child:
        command = [sys.executable, "-P", "-m", "logprob_store.explorer.sql_child"]
        pipe = subprocess.PIPE
        process = subprocess.Popen(  # noqa: S603  our own module
            command, stdin=pipe, stdout=pipe, stderr=pipe, encoding="utf-8", errors="replace", start_new_session=True
        )
        _send(process.stdin, self._opened)
        return _Child(process)


class AskedQuery:
    """A query that was asked, from `Sql.begin`."""

    def __init__(self, sql: Sql, query: str) -> None:
        self._sql = sql
        self._query = query
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._ended = ""

    def end(self, why: str) -> None:
        """Give it up: `answer` raises this reason at once, if it has no answer yet."""
        with self._lock:
            self._ended = self._ended or why
            if self._child is not None:
                self._child.process.kill()

    def answer(self) -> dict[str, Any]:
        """Wait for the answer, as `Sql.ask` gives it.

        Raises:
            InputError: as there.
        """
        answer, was_used = self._asked()
        if was_used and answer.get("error") == TOO_MUCH_MEMORY:  # some of it may have been of earlier queries
            answer, _ = self._asked()
        if "error" in answer:
            raise InputError(answer["error"])
        return answer

    def _asked(self) -> tuple[dict[str, Any], bool]:
        """The answer of a process or the error in words, and whether the process had answered another query before."""
        with self._lock:
            if self._ended:
                return {"error": self._ended}, False
            child = self._child = self._sql.take_child()
        was_used, child.was_used = child.was_used, True
        # While a query takes long, the process for the next one starts beside it.
        soon = threading.Timer(_LONG_S, self._sql.have_one_wait)
        try:
            if child.is_ready():
                soon.start()
            answer = child.ask(self._query, self._sql.seconds)
        finally:
            soon.cancel()
            with self._lock:
                self._child = None
            self._sql.give_back(child)
        return (answer if "rows" in answer else {"error": self._why_ended() or answer["error"]}), was_used

    def _why_ended(self) -> str:
        return self._ended


class _Child:
    """A process that answers queries one after another, and what it says of its own end."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._last_words = ""
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()
        self.was_used = False
        self._is_ready = False

    def is_ready(self) -> bool:
        """Wait until it can be asked; False where it has ended before."""
        if not self._is_ready:
            self._is_ready = _line(self.process.stdout) is not None
        return self._is_ready

    def ask(self, query: str, seconds: float) -> dict[str, Any]:
        """What it answers; an error in words where it gives no answer, and has ended."""
        answer = None
        late = threading.Event()

        def end_late() -> None:
            late.set()
            self.process.kill()

        timer = threading.Timer(seconds, end_late)
        if self.is_ready():
            timer.start()
            try:
                _send(self.process.stdin, {"query": query})
                answer = _line(self.process.stdout)
            finally:
                timer.cancel()
        if answer is not None:
            return answer
        code = self.process.wait()
        if late.is_set():
            return {"error": f"the query took longer than {seconds:g} seconds and was ended: {_LESS}"}
        self._listening.join()
        killed = {-signal.SIGABRT, -signal.SIGKILL, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL}
        if code in killed or self._last_words.startswith(("MemoryError", "SystemError")):
            return {"error": TOO_MUCH_MEMORY}
        why = self._last_words and f" ({self._last_words})"
        return {"error": f"the query was not answered: its process ended with {code}{why}"}

    def _listen(self) -> None:
        """Keep the last line of its standard error, which has the exception that ended it."""
        for line in self.process.stderr or ():
            self._last_words = line.strip() or self._last_words

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        self._listening.join()
        for file in (self.process.stdin, self.process.stdout, self.process.stderr):
            if file is not None:
                with contextlib.suppress(BrokenPipeError):
                    file.close()


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
