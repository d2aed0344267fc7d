"""The command line, `logprobs`.

Holds the list of commands and turns errors into exit codes. Each command is a module named like it (`import_` for
`import`); beside them stand

    command_classes  help that crops nothing, wrong values in plain words
    completion  names of runs, for shells
    chosen_runs  which runs a command reads
    common  what several commands share: exit codes, options, printing and writing
    json_errors  errors for programs that asked for JSON
    damage  errors over a damaged store
    questions  to a person at a terminal
    logs    where log records go
    streams standard output and error: closed, full, or not UTF-8
    environment  the working folder, and variables that would end a command in a traceback
    otel    OpenTelemetry exporters

Nothing else in `logprob_store` reads argv or configures logging. `os.environ` is also read by `run.resources`, for the
variables that a job names, and by `transport.environment`, for those of HTTP libraries.

Exit codes: 0 done, 2 the job file or its input is wrong, 3 finished with failed prompts, 4 stopped by a limit and can
be continued, 5 two compared runs differ by more than a limit, 6 a limit for two compared runs cannot be judged, 130
interrupted and can be continued.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from logprob_store.cli.batches import batches
from logprob_store.cli.calibrate import calibrate
from logprob_store.cli.choices import choices
from logprob_store.cli.command_classes import Command, Commands, Program
from logprob_store.cli.common import EXIT_INPUT, EXIT_INTERRUPTED, EXIT_LIMIT, LogJsonOption, echo
from logprob_store.cli.compare import compare
from logprob_store.cli.damage import names_damage
from logprob_store.cli.doctor import doctor
from logprob_store.cli.environment import check_environment
from logprob_store.cli.explore import explore
from logprob_store.cli.fields import fields
from logprob_store.cli.import_ import import_
from logprob_store.cli.init import init
from logprob_store.cli.json_errors import error_to_program
from logprob_store.cli.labels import labels
from logprob_store.cli.logs import log_json, log_lines, logs_json
from logprob_store.cli.models import models
from logprob_store.cli.option_names import names_options
from logprob_store.cli.record import record
from logprob_store.cli.report import report
from logprob_store.cli.rm import rm
from logprob_store.cli.run import run
from logprob_store.cli.samples import samples
from logprob_store.cli.scores import scores
from logprob_store.cli.show import show
from logprob_store.cli.sql import sql
from logprob_store.cli.status import status
from logprob_store.cli.streams import output_error, prepare_streams
from logprob_store.cli.verify import verify
from logprob_store.view.safe_text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from logprob_store.errors import LogprobStoreError

__all__ = ["app", "main"]

log = logging.getLogger(__name__)

_COMMANDS: Final = (
    ("init", "Begin", init),
    ("doctor", "Begin", doctor),
    ("models", "Begin", models),
    ("run", "Ask", run),
    ("record", "Ask", record),
    ("import", "Ask", import_),
    ("status", "Look", status),
    ("batches", "Look", batches),
    ("scores", "Look", scores),
    ("samples", "Look", samples),
    ("choices", "Look", choices),
    ("labels", "Look", labels),
    ("fields", "Look", fields),
    ("calibrate", "Look", calibrate),
    ("compare", "Look", compare),
    ("show", "Look", show),
    ("report", "Look", report),
    ("explore", "Look", explore),
    ("sql", "Look", sql),
    ("verify", "Keep", verify),
    ("rm", "Keep", rm),
)
"""Name, panel and function of each command, in the order of `--help`."""

_NAME: Final = "logprobs"
"""The program, also when it is started as `python -m logprob_store`: completion finds it by this name."""


class _Logprobs(Program):
    """The program with its commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = Commands({row[0]: partial(_command, *row) for row in _COMMANDS})


app = typer.Typer(
    cls=_Logprobs,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="Ask a model about every prompt, keep every token's log-probability and every alternative, in Parquet.",
)


def main() -> NoReturn:
    """Run the command line and exit; errors that the user can fix are one message, without a traceback."""
    from logprob_store.errors import DiskError, InputError, StopRunError

    prepare_streams()
    try:
        check_environment()
        app(prog_name=_NAME, standalone_mode=True)
    except InputError as error:
        _exit(error, EXIT_INPUT)
    except (DiskError, StopRunError) as error:
        _exit(error, EXIT_LIMIT)
    except KeyboardInterrupt as interrupt:
        error_to_program(interrupt, "interrupted", EXIT_INTERRUPTED)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output closed the pipe (`| head`). Closing stderr keeps Python from complaining at shutdown.
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        if (full := output_error(error)) is None:
            raise
        _exit(full, EXIT_LIMIT)
    sys.exit(0)


def _exit(error: LogprobStoreError, code: int) -> NoReturn:
    from logprob_store.events import emit

    error_to_program(error, str(error), code)
    if logs_json():
        emit(log, "error", "%s", error, exit_code=code)
    else:
        print(printable(f"logprobs: {error}", keep="\n\t"), file=sys.stderr)  # noqa: T201  the command line's own output
    sys.exit(code)


def _print_version(wanted: bool) -> None:  # noqa: FBT001  typer calls it so
    if wanted:
        from importlib.metadata import version

        echo(f"logprob-store {version('logprob-store')}")
        raise typer.Exit


@app.callback()
def _for_all_commands(
    *,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log every event: retries, commits, limits.")
    ] = False,
    as_json: LogJsonOption = False,
    version: Annotated[  # noqa: ARG001  its callback prints it
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if as_json:
        log_json()
    else:
        log_lines(verbose=verbose)


def _command(name: str, panel: str, function: Callable[..., None]) -> Any:
    """Build one command, as typer does of a program that has no other."""
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name, cls=Command, rich_help_panel=panel)(names_options(names_damage(function)))
    return typer.main.get_command(alone)
