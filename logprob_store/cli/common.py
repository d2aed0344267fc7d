"""Words that several commands share: arguments, options, exit codes.

Leaves out options that one command alone has; they stand in its signature.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

EXIT_INPUT = 2
EXIT_FAILURES = 3
EXIT_LIMIT = 4
EXIT_CHANGED = 5
EXIT_INTERRUPTED = 130


class TransportKind(StrEnum):
    """How answers are obtained."""

    live = "live"
    replay = "replay"


JobFile = Annotated[Path, typer.Argument(metavar="JOB.toml", help="The job file.")]
StorePath = Annotated[Path, typer.Argument(metavar="STORE", help="A store, the folder that `run` wrote.")]
RunOption = Annotated[str | None, typer.Option("--run", help="Only this run; default: all.")]
LogJsonOption = Annotated[bool, typer.Option("--log-json", help="Log events as lines of JSON on standard error.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text.")]
