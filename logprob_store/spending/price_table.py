"""The prices that are known without a job's own: those of `prices.toml`, a dated table that ships with this package.

They hold for a model's own service alone: the same name at another address may cost anything, and a fine-tuned model
costs more than the one that it was made from.
"""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from logprob_store.spending.prices import LongContext, Prices

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

OLD_AFTER_DAYS: Final = 90
"""Days after which a price that nobody has looked at again is said to be old."""
_TABLE: Final = Path(__file__).with_name("prices.toml")
_PRIORITY: Final = "priority"
"""The tier that may serve calls which ask for none."""
_VERSION: Final = re.compile(r"-20[0-9]{2}-[0-9]{2}-[0-9]{2}$")


class ListedPrice(NamedTuple):
    """The prices of a model, where they were read, and when."""

    prices: Prices
    source: str
    checked: date

    def age_days(self, today: date | None = None) -> int:
        """How many days ago somebody looked."""
        return ((today or datetime.now(UTC).date()) - self.checked).days

    def sentence(self, today: date | None = None) -> str:
        """Where the prices are from, with a mark where they are old.

        >>> from datetime import date
        >>> ListedPrice(Prices(1.0, 2.0), "example.com", date(2026, 1, 1)).sentence(date(2026, 12, 27))
        'prices of 2026-01-01 (example.com), 360 days old: see whether they still hold, or set [prices]'
        """
        said = f"prices of {self.checked} ({self.source})"
        if not self.is_old(today):
            return said
        return f"{said}, {self.age_days(today)} days old: see whether they still hold, or set [prices]"

    def is_old(self, today: date | None = None) -> bool:
        """Whether nobody has looked for so long that they may be others by now."""
        return self.age_days(today) > OLD_AFTER_DAYS


def listed_price(model: str) -> ListedPrice | None:
    """The prices of a model at its own service, by its name or that of a dated version; None if none are known.

    >>> listed_price("gpt-6-luna").prices.output, listed_price("ft:gpt-6-luna:me::1") is None
    (0.5, True)
    """
    table = _read_table()
    return table.get(model) or table.get(_VERSION.sub("", model))


@cache
def _read_table() -> Mapping[str, ListedPrice]:
    families = tomllib.loads(_TABLE.read_text(encoding="utf-8"))
    rows = {
        model: (_prices({**family, **row}), family)
        for family in families.values()
        for model, row in family["models"].items()
    }
    dearest = max(_factor(_PRIORITY, prices) for prices, _ in rows.values())
    return {
        model: ListedPrice(
            prices if _PRIORITY in prices.tiers else prices.guessing(_PRIORITY, dearest),
            family["source"],
            family["checked"],
        )
        for model, (prices, family) in rows.items()
    }


def _factor(tier: str, prices: Prices) -> float:
    """How much dearer than the standard tier another one is; 1 where its price is not known."""
    dearer = prices.tiers.get(tier, prices)
    return max(dearer.input / prices.input, dearer.output / prices.output)


def _prices(row: Mapping[str, Any]) -> Prices:
    standard = Prices(
        row["input"],
        row["output"],
        row.get("cached_input"),
        row.get("cache_write"),
        LongContext(**row["long_context"]) if "long_context" in row else None,
    )
    tiers = {
        tier: Prices(**said) if isinstance(said, dict) else standard.scaled(said)
        for tier, said in row.get("tiers", {}).items()
    }
    return standard.with_tiers(tiers)
