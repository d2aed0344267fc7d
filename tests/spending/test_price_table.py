"""The table of prices that ships with the package."""

from __future__ import annotations

import tomllib
from datetime import date, timedelta
from pathlib import Path

import pytest

import logprob_store
from logprob_store.spending.price_table import OLD_AFTER_DAYS, listed_price
from logprob_store.usage import TIERS, Usage

TABLE = Path(logprob_store.__file__).parent / "spending" / "prices.toml"
FAMILIES = tomllib.loads(TABLE.read_text(encoding="utf-8"))
MODELS = {model: row for family in FAMILIES.values() for model, row in family["models"].items()}
KEYS = {"input", "cached_input", "cache_write", "output", "tiers", "long_context"}


def test_each_row_says_where_it_was_read_and_when() -> None:
    """So that somebody can look again."""
    for family in FAMILIES.values():
        assert "https://" in family["source"]
        assert isinstance(family["checked"], date)


@pytest.mark.parametrize("model", MODELS)
def test_each_price_can_be(model: str) -> None:
    """Cached tokens cost less than others, written ones a quarter more, and each tier is one that is known."""
    row = MODELS[model]
    prices = listed_price(model)

    assert prices is not None
    assert row.keys() <= KEYS
    assert row["cached_input"] < row["input"] < row["output"]
    assert row.get("cache_write", row["input"] * 1.25) == pytest.approx(row["input"] * 1.25)
    assert prices.prices.tiers.keys() <= set(TIERS)


def test_a_price_worked_out_by_hand() -> None:
    """gpt-6-luna by flex, 300,000 tokens of a prompt: twice $0.10 and 1.5 times $0.50 a million, and half of that."""
    listed = listed_price("gpt-6-luna")

    assert listed is not None
    assert listed.prices.usd(Usage(300_000, 0, 10, tier="flex", is_long=True)) == pytest.approx(0.03000375)


def test_a_dated_version_costs_what_the_name_does() -> None:
    """The name is an alias of one of them."""
    assert listed_price("gpt-4o-mini-2024-07-18") == listed_price("gpt-4o-mini") is not None


@pytest.mark.parametrize("model", ["ft:gpt-4o-mini:me::1", "gpt-6-luna-mine", "llama", "", "gpt-6-luna-2026"])
def test_other_models_have_no_price(model: str) -> None:
    """Fine-tuned ones least of all: they cost more."""
    assert listed_price(model) is None


def test_a_price_that_nobody_looked_at_for_long_is_marked() -> None:
    """From the 91st day on."""
    listed = listed_price("gpt-6-luna")
    assert listed is not None
    young, old = (listed.checked + timedelta(days=OLD_AFTER_DAYS + more) for more in (0, 1))

    assert (listed.is_old(young), listed.is_old(old)) == (False, True)
    assert "days old" not in listed.sentence(young)
    assert "91 days old: see whether they still hold, or set [prices]" in listed.sentence(old)
