"""Which other processes have a file open, for errors that say for whom one has to wait.

Only Linux tells, and only of processes of the same user; elsewhere none is found.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_WORDS: Final = 8
_LONGEST_COMMAND: Final = 100


def users_of(path: Path) -> str:
    """The other processes that have a file or folder open, as in `process 12 (logprobs run a.toml), which is stopped`.

    >>> users_of(Path("/no/such/file"))
    'another process'
    """
    with contextlib.suppress(OSError):
        mine = path.stat()
        found = [_description(process) for process in _processes() if _has_open(process, mine)]
        if found:
            return " and ".join(found)
    return "another process"


def _processes() -> Iterator[Path]:
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            yield process


def _has_open(process: Path, file: os.stat_result) -> bool:
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:  # of another user, or it has ended
        return False
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            there = descriptor.stat()
            if (there.st_dev, there.st_ino) == (file.st_dev, file.st_ino):
                return True
    return False


def _description(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return f"process {process.name}"
    command = " ".join([Path(words[0]).name, *words[1:_MOST_WORDS]]).strip()
    stopped = ", which is stopped" if state in {"T", "t"} else ""
    return f"process {process.name} ({command[:_LONGEST_COMMAND]}){stopped}"
