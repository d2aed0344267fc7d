"""The table of prices that ships with the package."""

from __future__ import annotations

import tomllib
from datetime import date, timedelta
from pathlib import Path

import pytest

import logprob_store
from logprob_store.spending.price_table import OLD_AFTER_DAYS, listed_price
from logprob_store.spending.prices import Prices
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
    assert row.get("cached_input", 0) < row["input"] < row["output"]
    assert row.get("cache_write", row["input"] * 1.25) == pytest.approx(row["input"] * 1.25)
    assert prices.prices.tiers.keys() <= set(TIERS)


@pytest.mark.parametrize(
    ("model", "usd"),
    [("gpt-4o", 4.25 + 17), ("gpt-4o-mini", 0.25 + 1), ("gpt-4.1", 3.5 + 14), ("gpt-4.1-mini", 0.7 + 2.8)],
)
def test_a_call_that_names_no_tier_may_be_served_by_priority(model: str, usd: float) -> None:
    """https://openai.com/api-priority-processing, a million tokens each way; a ceiling reserves as much, and more."""
    listed = listed_price(model)
    assert listed is not None
    prices = listed.prices

    assert prices.usd(Usage(1_000_000, 0, 1_000_000, tier="priority")) == pytest.approx(usd)
    assert prices.usd(prices.worst(1_000_000, 1_000_000, prices.may_serve(None))) == pytest.approx(usd)


def test_where_no_price_by_priority_is_known_the_dearest_factor_is_reserved() -> None:
    """2.5 times, as of gpt-5.5: $0.20 and $1.25 a million; it is no price, which a row or a job could be told."""
    listed = listed_price("gpt-5.4-nano")
    assert listed is not None
    prices = listed.prices

    assert prices.usd(prices.worst(1_000_000, 1_000_000, prices.may_serve(None))) == pytest.approx(2.5 * 1.45)
    assert not prices.knows("priority")
    assert "priority" not in prices.as_dict().get("tiers", {})


def test_own_prices_reserve_what_is_guessed_of_the_same_model() -> None:
    """A guess stays one: 2.5 times their own $1 and $2."""
    listed = listed_price("gpt-5.4-nano")
    assert listed is not None

    own = Prices(1.0, 2.0).completed_by(listed.prices)

    assert own.usd(own.worst(1_000_000, 1_000_000, own.may_serve(None))) == pytest.approx(7.5)
    assert not own.knows("priority")


@pytest.mark.parametrize(
    ("model", "usd"),
    [
        ("gpt-5.6", 35.0),  # the name stands for gpt-5.6-sol; its lower price ended, or did not
        ("gpt-5.6-sol", 35.0),
        ("gpt-4o-2024-05-13", 20.0),  # older than the price of gpt-4o
        ("gpt-5.4-nano", 1.45),
        ("o3", 10.0),
    ],
)
def test_prices_of_single_models(model: str, usd: float) -> None:
    """A million tokens each way."""
    listed = listed_price(model)

    assert listed is not None
    assert listed.prices.usd(Usage(1_000_000, 0, 1_000_000)) == pytest.approx(usd)


@pytest.mark.parametrize("model", ["gpt-5.4-mini", "gpt-5.4-nano", "gpt-5-mini"])
def test_models_of_400_000_tokens_have_one_price_for_all_prompts(model: str) -> None:
    """Only those with a million tokens of context have another for long ones."""
    listed = listed_price(model)

    assert listed is not None
    assert listed.prices.usd(Usage(300_000, is_long=True)) == listed.prices.usd(Usage(300_000))


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
