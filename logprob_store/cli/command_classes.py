"""The classes of the commands: help that crops nothing, and wrong values in plain words.

typer's tables shorten the names of options, which are there to be typed. Where a terminal is wide enough, the names
have what they need, and the sentences beside them are folded. A narrower one has no room for a table: there help is
plain text.
"""

from __future__ import annotations

import re
import shutil
from collections import UserDict
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from logprob_store.cli.json_errors import error_to_program

if TYPE_CHECKING:
    from collections.abc import Callable

_USAGE_ERROR: Final[Any] = typer.BadParameter.__base__
"""The class of all errors in the words of a command line, which typer does not name."""
_LIST_OF_COMMANDS: Final = 60
_LIST_OF_OPTIONS: Final = 80
"""Terminal columns that a table takes at least."""
_FOLDED: Final = 2
"""Columns of a table, from the last, that may be folded: the values of an option, and its help."""


_WORDS: Final = (
    (r"^Value error, ", ""),
    (r"^Input should be greater than or equal to ", "it has to be at least "),
    (r"^Input should be greater than ", "it has to be above "),
    (r"^Input should be less than or equal to ", "it has to be at most "),
    (r"^Input should be less than ", "it has to be below "),
    (r"^Input should be a valid integer.*", "it has to be a whole number"),
    (r"^Input should be a valid number.*", "it has to be a number"),
)


class Command(TyperCommand):
    """A command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options; a value that is wrong is said in words."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = in_words(error.message)
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print it."""
        _print_whole(self, super().format_help, ctx, formatter, _LIST_OF_OPTIONS)


class Commands(UserDict[str, Any]):
    """Commands by name, made from functions that build them.

    A command is built when it is first looked up: all of them take 50 ms, and a program runs one.
    """

    def __getitem__(self, name: str) -> Any:
        """Build it, unless it is built."""
        command = self.data[name]
        if not isinstance(command, TyperCommand):
            command = self.data[name] = command()
        return command


class Program(TyperGroup):
    """The program, which has the commands."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; where its words are wrong, a program that asked for JSON is told so."""
        try:
            return super().invoke(ctx)
        except _USAGE_ERROR as error:
            error_to_program(error, error.format_message(), error.exit_code)
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print it."""
        _print_whole(self, super().format_help, ctx, formatter, _LIST_OF_COMMANDS)


def in_words(message: str) -> str:
    """What pydantic says of an option's value, as the messages about a job file say it.

    >>> in_words("Input should be greater than or equal to 1")
    'it has to be at least 1'
    """
    for pattern, words in _WORDS:
        message = re.sub(pattern, words, message)
    return message


def _print_whole(
    command: TyperCommand | TyperGroup,
    print_help: Callable[[Any, Any], None],
    ctx: Any,
    formatter: Any,
    least_columns: int,
) -> None:
    from rich.table import Table
    from typer import rich_utils

    class WholeTable(Table):
        """Folds what does not fit, and never the names of options."""

        def add_row(self, *cells: Any, **settings: Any) -> None:
            super().add_row(*cells, **settings)
            for column in self.columns:
                column.overflow = "fold"
            for column in self.columns[:-_FOLDED]:
                column.no_wrap = True

    if shutil.get_terminal_size().columns < least_columns:
        command.rich_markup_mode = None
    vars(rich_utils)["Table"] = WholeTable  # typer takes no table of ours
    print_help(ctx, formatter)
