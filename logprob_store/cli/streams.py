"""Standard input, output and error: made usable before a command runs, and their failures as one message.

A scheduler or a terminal may give a command streams that are closed, full, or unable to show all letters.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from logprob_store.errors import DiskError

_DESCRIPTORS: Final = (0, 1, 2)


def prepare_streams() -> None:
    """Open what is closed, and let letters that a stream cannot show be replaced.

    A descriptor that is left closed would be that of the next file to be opened, such as a part of the store, and what
    any library writes to standard error would go into it.
    """
    for number in _DESCRIPTORS:
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors != "backslashreplace":
        sys.stdout.reconfigure(errors="replace")


def shows_all_letters() -> bool:
    """Whether standard output is UTF-8; else texts for machines are written in ASCII."""
    return (sys.stdout.encoding or "").lower().replace("-", "").replace("_", "") == "utf8"


def output_error(failed: OSError) -> DiskError | None:
    """The error of a disk that is full or fails, under standard output or a file; what was left to print is dropped.

    A large text fails as it is written, and nothing is left in the buffer to fail again. What fails so names no file.
    """
    from logprob_store.errors import DiskError, disk_error

    try:
        sys.stdout.flush()
    except OSError as error:
        # What is still in the buffer would fail again as Python ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return DiskError("the output", "standard output", error, of_answers=False)
    if failed.filename is not None:
        return disk_error("a file", failed.filename, failed, of_answers=False)
    return disk_error("the output", "standard output", failed, of_answers=False)
