"""The verdict on two runs: which limits are passed, which cannot be judged, and how small a change would be seen.

The numbers that are judged are computed in `comparison`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from logprob_store.counted import counted
from logprob_store.errors import InputError
from logprob_store.metrics.truth.shares import chance_of_at_least, share_interval

if TYPE_CHECKING:
    from collections.abc import Mapping

ALARM_LEVEL: Final = 0.95
"""How sure an alarm is that the true value is above its limit."""
SEEN: Final = 0.8
"""The power that is said beside a limit: 4 nights in 5."""
_SHARES: Final = frozenset({"max_flip_rate", "max_missing", "max_added"})
_HALVINGS: Final = 50


@dataclass(frozen=True)
class Verdict:
    """Whether two runs are similar enough.

    Attributes:
        line: a sentence for a person.
        exceeded: the names of the metrics above their limits.
        unknown: the names of the metrics that have a limit and cannot be judged.
    """

    line: str
    exceeded: tuple[str, ...]
    unknown: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every limit could be judged, and none is passed."""
        return not self.exceeded and not self.unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One metric and its limit.

    Attributes:
        metric: its name.
        words: how its value is said, with a place for it.
        number: the form of the value alone.
        limit: None for no limit.
        estimate: the value; None where there is none.
        at_least: what the true value is at least, with ALARM_LEVEL; for a count that is no sample, the estimate.
        obstacle: why the value says nothing, such as "50 of 50 tokens of tuesday have no logprob"; empty if it does.
    """

    metric: str
    words: str
    number: str
    limit: float | None
    estimate: float | None
    at_least: float | None
    obstacle: str = ""

    @property
    def is_unknown(self) -> bool:
        """Whether there is a limit and no telling."""
        return self.limit is not None and (self.estimate is None or self.at_least is None or bool(self.obstacle))

    @property
    def is_exceeded(self) -> bool:
        """Whether the true value is above the limit, with ALARM_LEVEL."""
        return not self.is_unknown and self.limit is not None and (self.at_least or 0.0) > self.limit

    def phrase(self) -> str:
        """What the verdict says of it; empty for a metric without a limit and a value."""
        if self.is_unknown:
            name = self.words.replace("{}", "").strip()
            why = self.obstacle or "there is nothing to compute it of"
            return f"{name} cannot be judged (limit {self.limit:g}): {why}"
        if self.estimate is None:
            return ""
        said = self.words.replace("{}", self.number.format(self.estimate))
        if self.limit is None:
            return said
        sure = "" if self.at_least == self.estimate else f": at least {self.number.format(self.at_least)}"
        if self.is_exceeded:
            return f"{said} (above limit {self.limit:g}{sure})"
        if self.estimate > self.limit:
            return f"{said} (limit {self.limit:g} not surely passed{sure})"
        return f"{said} (limit {self.limit:g})"


def checked_limits(limits: Mapping[str, float | None]) -> dict[str, float | None]:
    """The limits by name; an infinite one is none.

    Raises:
        InputError: one is not a number, below 0, or a share above 1.
    """
    for name, limit in limits.items():
        if limit is None or limit == math.inf:
            continue
        if math.isnan(limit):
            raise InputError(f"{name} nan: nothing is ever above it; give a number, or inf for no limit")
        if name in _SHARES and not 0 <= limit <= 1:
            raise InputError(f"{name} {limit:g}: it is a share, from 0 to 1 (0.02 is 2 %); inf is no limit")
        if limit < 0:
            raise InputError(f"{name} {limit:g}: it has to be at least 0; inf is no limit")
    return {name: None if limit == math.inf else limit for name, limit in limits.items()}


def power_phrase(prompts: int, limit: float | None) -> str:
    """How large a share of changed answers an alarm at this limit sees, 4 nights in 5.

    >>> power_phrase(50, 0.02), power_phrase(50, None)
    ('with 50 prompts, a true flip rate of 10.8% is seen 4 nights in 5', '')
    >>> power_phrase(1, 0.5)
    'with 1 prompt, no flip rate is surely above the limit'
    """
    if limit is None or limit >= 1:
        return ""
    among = f"with {counted(prompts, 'prompt')}"
    share = seen_share(prompts, limit)
    if share is None:
        return f"{among}, no flip rate is surely above the limit"
    return f"{among}, a true flip rate of {share:.1%} is seen 4 nights in 5"


def seen_share(trials: int, limit: float) -> float | None:
    """The least true share at which an alarm on the exact lower bound rings with chance SEEN; None where none does."""
    if _lower_bound(trials, trials) <= limit:
        return None
    few, enough = 0, trials
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if _lower_bound(middle, trials) > limit else (middle, enough)
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle_share = (low + high) / 2
        seen = chance_of_at_least(enough, trials, middle_share) >= SEEN
        low, high = (low, middle_share) if seen else (middle_share, high)
    return high


def _lower_bound(successes: int, trials: int) -> float:
    return share_interval(successes, trials, level=2 * ALARM_LEVEL - 1).low or 0.0
