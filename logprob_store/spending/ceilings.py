"""Ceilings: the most dollars, calls and tokens that may be spent. `budget` keeps those of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The most that may be spent; None where there is no ceiling."""

    usd: float | None = None
    requests: int | None = None
    tokens: int | None = None

    @property
    def any(self) -> bool:
        """Whether there is a ceiling."""
        return self.usd is not None or self.requests is not None or self.tokens is not None

    @property
    def need_bounds(self) -> bool:
        """Whether each call must have a worst case in tokens."""
        return self.usd is not None or self.tokens is not None


NO_CEILINGS: Final = Ceilings()
