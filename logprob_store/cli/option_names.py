"""Messages about a setting that an option gave: they name the option, where others name the key of the job file."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_P = ParamSpec("_P")
_R = TypeVar("_R")

_IN_MESSAGES: Final = {
    "base_url": ((r"model\.base_url|model: base_url", "--base-url"),),
    "store": ((r"store\.path", "--store"),),
    "transport": ((r'transport\.kind = "(\w+)"', r"--transport \1"), (r"transport\.fixtures", "--fixtures")),
    "fixtures": ((r"transport\.fixtures", "--fixtures"),),
    "select": ((r'(?:prompts: )?select = "(\w+)"', r"--select \1"), (r"prompts\.select", "--select")),
    "run": ((r"^run name ", "--run: run name "),),
}
"""How a message speaks of what an option gives, by the parameter of the command, and how it is to."""


def in_options(message: str, given: Mapping[str, object]) -> str:
    """A message about a job, with the options that were given in place of the keys that they replace.

    Args:
        message: for people.
        given: the values of a command's options, by the names of its parameters.

    >>> in_options("See that model.base_url is right (model.name).", {"base_url": "http://h/v1"})
    'See that --base-url is right (model.name).'
    """
    for name, words in _IN_MESSAGES.items():
        if given.get(name) is not None:
            for pattern, option in words:
                message = re.sub(f"(?:command line: )?(?:{pattern})", option, message)
    return message


def names_options(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """The command; where it takes a job file, its errors name the options that were given."""

    @functools.wraps(command)
    def named(*args: _P.args, **options: _P.kwargs) -> _R:
        from logprob_store.errors import DiskError, InputError, StopRunError

        try:
            return command(*args, **options)
        except (InputError, DiskError, StopRunError) as error:
            if "job_file" in options:
                error.args = (in_options(str(error), options), *error.args[1:])
            raise

    return named
