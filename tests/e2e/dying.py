"""The command line, killed with -9 right before its N-th change of the disk: `dying.py N run job.toml --run r`.

With 0 it lives, and says at the end how many changes there were. Changes are those of the store, the manifest and the
cache: files opened for writing, written, synced, renamed, linked, removed; folders made; answers kept.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_HERE = os.getcwd()  # noqa: PTH109  what audit events name are plain strings
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_COUNT = itertools.count(1)
_DIES_AT = int(sys.argv.pop(1)) if __name__ == "__main__" else 0
made = 0


def change() -> None:
    """Count a change, and die if it is the N-th."""
    global made  # noqa: PLW0603
    made = next(_COUNT)
    if made == _DIES_AT:
        os.kill(os.getpid(), signal.SIGKILL)


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook that counts the changes made by Python's own calls."""
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, str) and path.startswith(_HERE) and flags & _WRITES:
            change()
    elif event in {"os.rename", "os.link", "os.remove", "os.mkdir"} and str(arguments[0]).startswith(_HERE):
        change()


def watched(call: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose call counts as one change, and that may die right after it too."""

    def wrapped(*arguments: Any, **named: Any) -> Any:
        change()
        result = call(*arguments, **named)
        change()
        return result

    return wrapped


def main() -> None:
    """Run the command line and count its changes."""
    import pyarrow.parquet as pq

    from logprob_store.cache.answers import AnswerCache
    from logprob_store.cli import main as logprobs

    pq.write_table = watched(pq.write_table)
    AnswerCache.put_many = watched(AnswerCache.put_many)  # type: ignore[method-assign]
    for name in ("fsync", "fdatasync", "write", "pwrite"):
        setattr(os, name, watched(getattr(os, name)))
    sys.addaudithook(watch)
    try:
        logprobs()
    finally:
        sys.stderr.write(f"{made} changes\n")


if __name__ == "__main__":
    main()
