"""The prices of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from logprob_store.usage import Usage

_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars per million tokens.

    >>> from logprob_store.usage import Usage
    >>> Prices(2.0, 8.0, cached_input=1.0).usd(Usage(prompt_tokens=300, cached_tokens=100, completion_tokens=50))
    0.0009
    """

    input: float
    output: float
    cached_input: float | None = None

    @property
    def dearest_usd(self) -> float:
        """US dollars for one token of the dearest kind."""
        return max(self.input, self.output, self.cached_input or 0.0) / _MILLION

    def usd(self, usage: Usage) -> float:
        """US dollars for some tokens; cached prompt tokens at their own price, if there is one."""
        prompt, cached, completion = usage
        cached_price = self.input if self.cached_input is None else self.cached_input
        return ((prompt - cached) * self.input + cached * cached_price + completion * self.output) / _MILLION

    def most_usd(self, usage: Usage, reserved_prompt: int, reserved_completion: int) -> float:
        """US dollars for used and for reserved tokens; reserved prompt tokens at the higher of the two input prices."""
        prompt_price = self.input if self.cached_input is None else max(self.input, self.cached_input)
        reserved = reserved_prompt * prompt_price + reserved_completion * self.output
        return self.usd(usage) + reserved / _MILLION
