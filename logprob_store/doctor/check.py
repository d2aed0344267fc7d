"""One thing that a run needs, and how it stands."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

State = Literal["ok", "warn", "fail"]


class Check(NamedTuple):
    """What was looked at, how it stands, and what was found; where it is not `ok`, `said` also says what to do.

    With `warn` a run can begin, and something may go wrong or be slow; with `fail` it cannot, or is of no use.
    """

    name: str
    state: State
    said: str


def failed(name: str, error: Exception) -> Check:
    """The check that an error is the outcome of; messages of several lines become one."""
    said = re.sub(r":\s*\n\s*-?\s*", ": ", str(error))
    return Check(name, "fail", "; ".join(line.strip().removeprefix("- ") for line in said.splitlines()))
