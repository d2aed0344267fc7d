"""What tokens cost: by kind, by service tier, and for long prompts."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logprob_store.spending.prices import LongContext, Prices
from logprob_store.usage import Bill, Usage

LUNA = Prices(0.1, 0.5, 0.01, 0.125, LongContext(272_000, 2.0, 1.5))
WHOLE = LUNA.with_tiers({"flex": LUNA.scaled(0.5), "priority": LUNA.scaled(2.0)})
"""Those of gpt-6-luna."""


@pytest.mark.parametrize(
    ("usage", "millionths"),
    [
        (Usage(1000, 0, 100), 150),  # 1000 * 0.1 + 100 * 0.5
        (Usage(1000, 400, 100), 114),  # 600 * 0.1 + 400 * 0.01 + 50
        (Usage(1000, 400, 100, 600), 129),  # 600 * 0.125 + 400 * 0.01 + 50
        (Usage(1000, 0, 100, tier="flex"), 75),
        (Usage(1000, 0, 100, tier="batch"), 150),  # not said, and not dearer than the standard one
        (Usage(1000, 0, 100, tier="priority"), 300),
        (Usage(300_000, 100_000, 1000, 50_000, is_long=True), 45_250),  # 2 * (15_000 + 1000 + 6250) + 750
        (Usage(300_000, 0, 1000, tier="flex", is_long=True), 30_375),  # (2 * 30_000 + 750) / 2
    ],
)
def test_what_a_call_costs(usage: Usage, millionths: float) -> None:
    """Each kind of tokens at its price, all of them by the tier and the length of the prompt."""
    assert WHOLE.usd(usage) == pytest.approx(millionths * 1e-6)


def test_many_calls_cost_the_sum() -> None:
    """Whatever they were billed as."""
    calls = [Usage(1000, 0, 100), Usage(1000, 0, 100, tier="flex"), Usage(300_000, 0, 0, is_long=True)]

    assert WHOLE.usd(Bill(*calls)) == pytest.approx(sum(map(WHOLE.usd, calls)))


PRICE = st.floats(0, 20)
FACTOR = st.floats(0, 5)
SOME_PRICES = st.builds(
    lambda standard, factors: standard.with_tiers({tier: standard.scaled(factor) for tier, factor in factors.items()}),
    st.builds(
        Prices,
        PRICE,
        PRICE,
        st.none() | PRICE,
        st.none() | PRICE,
        st.none() | st.builds(LongContext, st.integers(1, 200), FACTOR, FACTOR),
    ),
    st.dictionaries(st.sampled_from(["flex", "priority", "batch"]), FACTOR),
)


@given(
    prices=SOME_PRICES,
    most=st.tuples(st.integers(0, 300), st.integers(0, 50)),
    asked=st.sampled_from([None, "auto", "default", "flex", "priority", "fast"]),
    shares=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_no_way_of_billing_is_dearer_than_the_worst(
    prices: Prices, most: tuple[int, int], asked: str | None, shares: tuple[float, ...]
) -> None:
    """Any part of the tokens, cached or written or neither, by any tier that may serve the call."""
    worst = prices.worst(*most, prices.may_serve(asked))
    prompt, completion = int(most[0] * shares[0]), int(most[1] * shares[1])
    cached = int(prompt * shares[2])
    written = int((prompt - cached) * shares[3])
    # Where a long prompt costs less, the length of the prompt itself decides, and a shorter one may be dearer.
    long = prices.long_context
    is_never_cheaper = long is None or (long.input_factor >= 1 and long.output_factor >= 1)
    if not is_never_cheaper:
        prompt, cached, written = most[0], int(most[0] * shares[2]), 0

    for tier in prices.may_serve(asked):
        billed = Usage(prompt, cached, completion, written, tier, prices.is_long(prompt))
        assert prices.usd(billed) <= prices.usd(worst) + 1e-12


@pytest.mark.parametrize("tier", ["flex", "priority", "", "unknown"])
def test_the_dearest_token_is_the_dearest_of_all_tiers(tier: str) -> None:
    """One of an answer to a long prompt by `priority`: 0.5 * 1.5 * 2."""
    assert WHOLE.dearest_usd == pytest.approx(1.5e-6)
    for usage, is_long in product((Usage(1), Usage(1, 1), Usage(1, written_tokens=1), Usage(0, 0, 1)), (False, True)):
        assert WHOLE.usd(usage._replace(tier=tier, is_long=is_long)) <= WHOLE.dearest_usd


def test_own_prices_take_from_the_list_what_is_dearer_than_they_say() -> None:
    """Prices from before tokens written into the cache were billed know neither these nor long prompts."""
    whole = Prices(0.2, 1.0, 0.05).completed_by(WHOLE)

    assert (whole.input, whole.output, whole.cached_input) == (0.2, 1.0, 0.05)
    assert whole.cache_write == pytest.approx(0.25)  # 1.25 times the input, as it is listed
    assert whole.long_context == LUNA.long_context
    assert whole.usd(Usage(1000, 0, 0, tier="priority")) == pytest.approx(0.0004)
    assert whole.usd(Usage(1000, 0, 0, tier="flex")) == pytest.approx(0.0002)  # a discount is not assumed


def test_own_prices_are_not_changed_by_the_list() -> None:
    """What they say themselves holds."""
    own = Prices(0.2, 1.0, 0.05, 0.2, LongContext(10, 1.0, 1.0), {"priority": Prices(0.3, 2.0)})

    assert own.completed_by(WHOLE) == own
