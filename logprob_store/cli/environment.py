"""What a command needs of its environment, checked before it runs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from logprob_store.errors import InputError

_MOST_THREADS: Final = 1024
"""More than this, and polars fails or never returns."""


def check_environment() -> None:
    """Refuse to start where libraries would end in a traceback or hang.

    Raises:
        InputError: the working folder has been deleted, so that no relative path leads anywhere; or polars is told to
            use a number of threads that cannot be.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise InputError(f"the working directory is gone ({error.strerror}): go to one that is there") from error
    threads = os.environ.get("POLARS_MAX_THREADS") or "1"
    if not re.fullmatch("[0-9]{1,4}", threads) or not 1 <= int(threads) <= _MOST_THREADS:
        raise InputError(
            f"POLARS_MAX_THREADS is {threads[:40]!r}: set it to a number from 1 to {_MOST_THREADS}, or unset it"
        )
    if not os.environ.get("TERMINAL_WIDTH", "1").isdecimal():
        del os.environ["TERMINAL_WIDTH"]  # typer ends in a traceback
