"""Errors as JSON on standard output, for the programs that asked for JSON."""

from __future__ import annotations

import sys

from logprob_store.cli.common import echo
from logprob_store.cli.streams import output_error


def error_to_program(error: BaseException, message: str, code: int) -> None:
    """Print an error as one JSON value, if the command line has `--json`: standard output is never empty then.

    Args:
        error: its class is the kind.
        message: what people read on standard error.
        code: the exit code.
    """
    words = sys.argv[1:]
    if "--json" not in words[: words.index("--") if "--" in words else None]:
        return
    try:
        echo({"error": {"message": message, "kind": type(error).__name__, "exit_code": code}})
    except OSError as failed:  # nothing can be printed, which may be the error itself
        output_error(failed)
