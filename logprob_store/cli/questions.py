"""Questions to a person at a terminal, on standard error; a program is never asked."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

import typer

from logprob_store.cli.common import EXIT_INTERRUPTED
from logprob_store.view.safe_text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


def can_ask() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty()


def answer(
    question: str, given: str | None, check: Callable[[str], _T], *, default: str | None = None, asks: bool
) -> _T:
    """What was given by an option, or else what a person answers, or else the default; checked.

    Args:
        question: what is asked.
        given: the option's value; None where there is none.
        check: makes of the text what is wanted. A person whose answer it refuses is asked again.
        default: what an empty answer means; without one, an option has to say it where nobody is asked.
        asks: whether to ask.

    Raises:
        InputError: `check` refuses what was given, or the default where nobody is asked.
    """
    from logprob_store.errors import InputError

    if given is not None or not asks:
        return check(given if given is not None else default or "")
    while True:
        try:
            said = typer.prompt(question, default=default, err=True)
        except typer.Abort:  # Ctrl-C, or the end of the input
            raise typer.Exit(EXIT_INTERRUPTED) from None
        try:
            return check(said.strip())
        except InputError as error:
            typer.echo(printable(str(error), keep="\n"), err=True)


def require(*, asks: bool, **options: str | None) -> None:
    """Refuse to go on without options that nobody is asked for; `base_url` is `--base-url`.

    Raises:
        InputError: some are missing; the message names all of them.
    """
    from logprob_store.errors import InputError

    missing = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is None]
    if missing and not asks:
        are = "is" if len(missing) == 1 else "are"
        raise InputError(f"{' and '.join(missing)} {are} missing, and standard input is no terminal to ask at")
