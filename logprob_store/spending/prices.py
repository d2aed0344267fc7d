"""The prices of tokens, as a service bills them: by kind, by service tier, and by whether the prompt is long.

The prices of models that are known without a job's own are in `price_table`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from logprob_store.usage import STANDARD, Bill, Usage, tier_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MILLION: Final = 1_000_000
_LONG_ABOVE: Final = 272_000
"""Tokens of a prompt above which a call is kept apart, where no prices say it: prices that do may come later."""
CHEAPER_TIERS: Final = frozenset({"flex", "batch"})
"""Tiers that are not dearer than the standard one, so that its prices are enough for them."""
_NEVER_UNASKED: Final = frozenset({"batch", "reserved", "ultrafast"})
"""Tiers that no call is served by unless it asks for them."""


class LongContext(NamedTuple):
    """How the prices of all tokens of a call rise where its prompt has more than so many tokens."""

    above_tokens: int
    input_factor: float
    output_factor: float


class _Rates(NamedTuple):
    """US dollars per million tokens, by kind."""

    fresh: float
    cached: float
    written: float
    output: float

    def usd(self, usage: Usage) -> float:
        prompt, cached, completion, written = usage[:4]
        fresh = (prompt - cached - written) * self.fresh
        return (fresh + cached * self.cached + written * self.written + completion * self.output) / _MILLION

    @property
    def dearest_prompt(self) -> float:
        return max(self.fresh, self.cached, self.written)


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars per million tokens.

    Args:
        input: of the prompt.
        output: of the answer, reasoning included.
        cached_input: of the prompt where the service had it cached; as `input` where unsaid.
        cache_write: of the prompt where the service wrote it into its cache; as `input` where unsaid.
        long_context: how the prices rise for a long prompt.
        tiers: the prices by other service tiers than the standard one, by their name in `usage.TIERS`.
        guessed: those of them that nobody has published: enough to reserve, but no price.

    >>> prices = Prices(2.0, 8.0, cached_input=1.0, tiers={"flex": Prices(1.0, 4.0, 0.5)})
    >>> prices.usd(Usage(300, 100, 50)), prices.usd(Usage(300, 100, 50, tier="flex"))
    (0.0009, 0.00045)
    """

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None
    long_context: LongContext | None = None
    tiers: Mapping[str, Prices] = field(default_factory=dict)
    guessed: frozenset[str] = frozenset()
    _rates: dict[tuple[str, bool], _Rates] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out the prices of each tier once."""
        cheaper = dict.fromkeys(CHEAPER_TIERS - self.tiers.keys(), self)
        for tier, prices in {STANDARD: self, **cheaper, **self.tiers}.items():
            for is_long in (False, True):
                self._rates[tier, is_long] = prices._rates_of(self.long_context if is_long else None)  # noqa: SLF001

    def _rates_of(self, long: LongContext | None) -> _Rates:
        prompt, output = (1.0, 1.0) if long is None else long[1:]
        cached = self.input if self.cached_input is None else self.cached_input
        written = self.input if self.cache_write is None else self.cache_write
        return _Rates(self.input * prompt, cached * prompt, written * prompt, self.output * output)

    @property
    def dearest_usd(self) -> float:
        """US dollars for one token of the dearest kind."""
        return max(max(rates.dearest_prompt, rates.output) for rates in self._rates.values()) / _MILLION

    def usd(self, usage: Usage | Bill) -> float:
        """US dollars for the tokens of a call, or of many; by a tier without a price, at the dearest that there is."""
        if isinstance(usage, Bill):
            return sum(self.usd(line) for line in usage)
        rates = self._rates.get((usage.tier, usage.is_long))
        if rates is None:
            return max(rates.usd(usage) for (_, is_long), rates in self._rates.items() if is_long == usage.is_long)
        return rates.usd(usage)

    def knows(self, tier: str) -> bool:
        """Whether there is a price by a tier."""
        return (tier, False) in self._rates and tier not in self.guessed

    def may_serve(self, asked: Any) -> tuple[str, ...]:
        """The tiers that a call may be served by.

        One that asks for a tier may fall back to the standard one. One that names none is served as the account's
        settings say, which may be any.

        Args:
            asked: the body's `service_tier`; None where there is none.

        >>> prices = Prices(2.0, 8.0, tiers={"flex": Prices(1.0, 4.0), "priority": Prices(4.0, 16.0)})
        >>> prices.may_serve("flex"), prices.may_serve("default"), prices.may_serve(None)
        (('', 'flex'), ('',), ('', 'flex', 'priority'))
        """
        tier = tier_of(asked)
        if tier is None:
            return (STANDARD, *(known for known in self.tiers if known not in _NEVER_UNASKED))
        return (STANDARD,) if tier == STANDARD else (STANDARD, tier)

    def worst(self, prompt_tokens: int, completion_tokens: int, tiers: Iterable[str]) -> Usage:
        """The dearest way in which so many tokens may be billed, by any of these tiers.

        >>> Prices(2.0, 8.0, cache_write=2.5).worst(100, 10, [""])
        Usage(prompt_tokens=100, cached_tokens=0, completion_tokens=10, written_tokens=100)
        """
        is_long = self.is_long(prompt_tokens)
        return max(
            (self._worst_by(tier, prompt_tokens, completion_tokens, is_long=is_long) for tier in tiers), key=self.usd
        )

    def _worst_by(self, tier: str, prompt: int, completion: int, *, is_long: bool) -> Usage:
        rates = self._rates.get((tier, is_long)) or self._rates[STANDARD, is_long]
        cached = prompt if rates.cached > max(rates.fresh, rates.written) else 0
        written = prompt if not cached and rates.written > rates.fresh else 0
        return Usage(prompt, cached, completion, written, tier, is_long)

    def is_long(self, prompt_tokens: int) -> bool:
        """Whether a prompt of so many tokens is billed as a long one."""
        return is_long(prompt_tokens, self)

    def scaled(self, factor: float) -> Prices:
        """These prices, each multiplied by a factor, without tiers."""
        cached, written = self.cached_input, self.cache_write
        return Prices(
            self.input * factor,
            self.output * factor,
            None if cached is None else cached * factor,
            None if written is None else written * factor,
        )

    def of_input_alone(self) -> Prices:
        """These prices for calls that are billed as fresh input and as nothing else: answers to typed questions.

        >>> Prices(2.0, 8.0, cached_input=1.0, cache_write=2.5).of_input_alone().usd(Usage(300, 200, 50, 100))
        0.0006
        """
        tiers = {tier: prices.of_input_alone() for tier, prices in self.tiers.items()}
        return replace(self, output=0.0, cached_input=None, cache_write=None, tiers=tiers)

    def with_tiers(self, tiers: Mapping[str, Prices]) -> Prices:
        """The same, with other prices by other tiers."""
        return replace(self, tiers=tiers)

    def guessing(self, tier: str, factor: float) -> Prices:
        """The same, reserving so much more in case of a tier whose price is not known.

        >>> prices = Prices(2.0, 8.0).guessing("priority", 2.5)
        >>> prices.usd(Usage(100, 0, 10, tier="priority")), prices.knows("priority")
        (0.0007, False)
        """
        return replace(self, tiers={**self.tiers, tier: self.scaled(factor)}, guessed=self.guessed | {tier})

    def completed_by(self, listed: Prices) -> Prices:
        """These prices, with what is dearer than they say by what is listed for the same model.

        A job's own prices may be older than a kind of tokens or a tier that is billed by now, such as those that are
        written into the cache: what they leave out would pass a ceiling.
        """
        cache_write, long_context = self.cache_write, self.long_context
        if cache_write is None and listed.cache_write is not None and listed.input > 0:
            cache_write = self.input * max(1.0, listed.cache_write / listed.input)
        whole = replace(self, cache_write=cache_write, long_context=long_context or listed.long_context)
        dearer = {
            tier: whole.scaled(prices.output / listed.output)
            for tier, prices in listed.tiers.items()
            if tier not in self.tiers and tier not in CHEAPER_TIERS and listed.output > 0
        }
        return replace(whole, tiers={**self.tiers, **dearer}, guessed=listed.guessed & dearer.keys())

    def as_dict(self) -> dict[str, Any]:
        """The prices as values that JSON has, without what is unsaid."""
        said = {
            "input": self.input,
            "output": self.output,
            "cached_input": self.cached_input,
            "cache_write": self.cache_write,
            "long_context": None if self.long_context is None else self.long_context._asdict(),
            "tiers": {tier: prices.as_dict() for tier, prices in self.tiers.items() if self.knows(tier)},
        }
        return {name: value for name, value in said.items() if value not in (None, {})}


def is_long(prompt_tokens: int, prices: Prices | None) -> bool:
    """Whether a prompt of so many tokens is billed as a long one, or by prices that are not known yet may be."""
    long = None if prices is None else prices.long_context
    return prompt_tokens > (_LONG_ABOVE if long is None else long.above_tokens)
