"""The command line, `logprobs`.

Holds the program itself: its commands and their order, logging, and which error ends with which exit code. Each command
is a few lines over the library, in a module of its kind:

    running    run, record
    stores     import, status, verify
    analysing  scores
    answering  labels, fields
    calibrating calibrate
    comparing  compare
    showing    show
    logs       where log records go
    options    words that several commands share, and the exit codes
    output     lines, JSON, tables and files

Leaves out everything that can be called from Python. Nothing outside this package reads argv or the environment.

Exit codes: 0 done, 2 the job file or its input is wrong, 3 finished with failed prompts, 4 stopped by a limit and can
be continued, 5 two compared runs differ by more than a limit, 130 interrupted and can be continued.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from logprob_store.cli.calibrate import calibrate
from logprob_store.cli.common import EXIT_INPUT, EXIT_INTERRUPTED, EXIT_LIMIT, LogJsonOption
from logprob_store.cli.compare import compare
from logprob_store.cli.import_ import import_, status, verify
from logprob_store.cli.labels import fields, labels
from logprob_store.cli.logs import log_json, log_lines, logs_json
from logprob_store.cli.run import record, run
from logprob_store.cli.scores import scores
from logprob_store.cli.show import show

if TYPE_CHECKING:
    from logprob_store.errors import LogprobStoreError

__all__ = ["app", "main"]

log = logging.getLogger(__name__)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Ask a model about every prompt, keep every token's log-probability and every alternative, in Parquet.",
)


def main() -> NoReturn:
    """Run the command line and exit; errors the user can mend are said in one message, without a traceback."""
    from logprob_store.errors import DiskError, InputError

    try:
        app(standalone_mode=True)
    except InputError as error:
        _exit(error, EXIT_INPUT)
    except DiskError as error:
        _exit(error, EXIT_LIMIT)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`); Python would complain again while shutting down.
        sys.stderr.close()
        sys.exit(1)
    sys.exit(0)


def _exit(error: LogprobStoreError, code: int) -> NoReturn:
    from logprob_store.events import emit

    if logs_json():
        emit(log, "error", "%s", error, exit_code=code)
    else:
        print(f"logprobs: {error}", file=sys.stderr)  # noqa: T201  the command line's own output
    sys.exit(code)


@app.callback()
def _logging(
    *,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log every event: retries, commits, limits.")
    ] = False,
    as_json: LogJsonOption = False,
) -> None:
    if as_json:
        log_json()
    else:
        log_lines(verbose=verbose)


# The order here is the order in `--help`.
app.command(rich_help_panel="Ask")(run)
app.command(rich_help_panel="Ask")(record)
app.command("import", rich_help_panel="Ask")(import_)
app.command(rich_help_panel="Look")(status)
app.command(rich_help_panel="Look")(scores)
app.command(rich_help_panel="Look")(labels)
app.command(rich_help_panel="Look")(fields)
app.command(rich_help_panel="Look")(calibrate)
app.command(rich_help_panel="Look")(compare)
app.command(rich_help_panel="Look")(show)
app.command(rich_help_panel="Keep")(verify)
