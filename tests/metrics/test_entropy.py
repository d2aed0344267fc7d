"""Entropies and their bounds: by hand, against slow references, and as laws of distributions cut at k."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import logprob_store as ls

if TYPE_CHECKING:
    from collections.abc import Callable

weights = st.lists(st.floats(1e-6, 1), min_size=3, max_size=60)


def entropy_of(probabilities: list[float]) -> float:
    """H = -sum p ln p in nats, with 0 ln 0 = 0."""
    return -math.fsum(p * math.log(p) for p in probabilities if p > 0)


def lower_of(shown: list[float]) -> float:
    """Put the missing mass into tokens as likely as the least likely shown, one after the other."""
    left, limit, hidden = max(0.0, 1 - math.fsum(shown)), min(shown), []
    while left > limit:
        hidden.append(limit)
        left -= limit
    return entropy_of([*shown, *hidden, left])


def upper_of(shown: list[float], vocabulary_size: int) -> float:
    """Give every token that was not shown an equal part of the missing mass."""
    others = vocabulary_size - len(shown)
    return entropy_of([*shown, *[max(0.0, 1 - math.fsum(shown)) / others] * others])


def alternatives(probabilities: list[float]) -> pl.DataFrame:
    """One token's alternatives, ranked as given."""
    frame = pl.DataFrame({"logprob": [math.log(p) for p in probabilities]})
    return frame.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int16))


def of(probabilities: list[float], *metrics: pl.Expr) -> tuple[float, ...]:
    """The metrics of one token whose alternatives have these probabilities."""
    return alternatives(probabilities).select(metric.alias(str(i)) for i, metric in enumerate(metrics)).row(0)


def test_forms_by_hand() -> None:
    """Of p = (1/2, 1/4), ln 2 is shown; m = 1/4 adds 1/4 ln 4; q = (2/3, 1/3) renormalised."""
    partial, tail, renormalised = of(
        [0.5, 0.25], ls.entropy(form="partial"), ls.entropy(), ls.entropy(form="renormalised")
    )

    assert partial == pytest.approx(0.693147, abs=1e-6)
    assert tail == pytest.approx(1.5 * math.log(2))
    assert renormalised == pytest.approx(entropy_of([2 / 3, 1 / 3]))


def test_bounds_by_hand() -> None:
    """With p = (1/2, 1/4), V = 4, m is one 1/4 at the least (1.5 bits), two 1/8 at the most (1.75 bits)."""
    assert of([0.5, 0.25], *ls.entropy_bounds(vocabulary_size=4, base=2)) == pytest.approx((1.5, 1.75))


def test_lower_fills_with_copies_and_a_rest() -> None:
    """With p = (0.4, 0.1), m = 0.5 is at its most concentrated five more tokens of 0.1."""
    assert of([0.4, 0.1], ls.entropy_lower())[0] == pytest.approx(entropy_of([0.4, *[0.1] * 6]))


@pytest.mark.parametrize("form", ["tail", "partial", "renormalised"])
def test_forms_agree_on_a_whole_distribution(form: Literal["tail", "partial", "renormalised"]) -> None:
    """Where nothing is missing there is one entropy and one varentropy: 1/2, 1/4, 1/8, 1/8 has 1.75 bits."""
    actual = of([0.5, 0.25, 0.125, 0.125], ls.entropy(form=form, base=2), ls.varentropy(form=form, base=2))

    # 1/2 x 1 + 1/4 x 4 + 1/4 x 9 - 1.75^2
    assert actual == pytest.approx((1.75, 0.6875))


def test_varentropy_forms_by_hand() -> None:
    """With p = (1/2, 1/4), in squared bits: 0.5 partial, 0.25 with m as an outcome, 2/9 renormalised."""
    # 1/2 x 1 + 1/4 x 4 - 1; 1/2 + 1 + 1 - 1.5^2; surprisals one bit apart, q = (2/3, 1/3): 2/3 x 1/3
    forms = [ls.varentropy(form=form, base=2) for form in ("partial", "tail", "renormalised")]

    assert of([0.5, 0.25], *forms) == pytest.approx((0.5, 0.25, 2 / 9))


def test_equal_options_have_no_varentropy_and_no_negentropy() -> None:
    """Four options of a quarter: all surprisals are equal, and the entropy is the largest possible."""
    varentropy, negentropy, entropy = of([0.25] * 4, ls.varentropy(), ls.negentropy(), ls.entropy(base=2))

    assert (varentropy, negentropy, entropy) == (0.0, 0.0, 2.0)


@given(weights, st.integers(2, 59))
def test_bounds_enclose_the_true_entropy(raw: list[float], k: int) -> None:
    """Any distribution cut at any k has its entropy between the bounds; `tail` and `partial` are not above."""
    total = math.fsum(raw)
    whole = sorted((x / total for x in raw), reverse=True)
    shown = whole[: min(k, len(whole))]
    truth = entropy_of(whole)
    lower, upper, without_v, tail, partial = of(
        shown,
        *ls.entropy_bounds(vocabulary_size=len(whole)),
        ls.entropy_lower(),
        ls.entropy(),
        ls.entropy(form="partial"),
    )
    slack = 1e-9

    assert partial - slack <= tail <= without_v + slack
    assert lower - slack <= truth <= upper + slack
    assert without_v - slack <= truth
    assert lower <= upper


@given(weights, st.integers(2, 59), st.integers(1, 1000))
def test_bounds_against_slow_references(raw: list[float], k: int, more: int) -> None:
    """Filling and spreading token by token gives the same two numbers."""
    total = math.fsum(raw)
    whole = sorted((x / total for x in raw), reverse=True)
    shown = whole[: min(k, len(whole) - 1)]
    size = len(whole) + more

    assert of(shown, *ls.entropy_bounds(vocabulary_size=size)) == pytest.approx(
        (lower_of(shown), upper_of(shown, size)), rel=1e-9, abs=1e-9
    )


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_vocabulary_no_larger_than_k_has_no_room(size: int) -> None:
    """With V <= k the mass that rounding leaves is one token, in both bounds."""
    lower, upper, tail = of([0.5, 0.25, 0.125, 0.1249], *ls.entropy_bounds(vocabulary_size=size), ls.entropy())

    assert lower == upper == tail


@pytest.mark.parametrize("smallest", [-800.0, -745.0, -60.0])
def test_a_limit_the_vocabulary_refutes_is_not_believed(smallest: float) -> None:
    """Shown are 1/2 and e^-60, of 1000 tokens: the other half counts as one token, not as e^60 of them."""
    frame = pl.DataFrame({"logprob": [math.log(0.5), smallest]})
    lower, upper, without_v = frame.select(
        *ls.entropy_bounds(vocabulary_size=1000), ls.entropy_lower().alias("without")
    ).row(0)

    assert lower == without_v == pytest.approx(math.log(2))
    assert lower < upper


def test_only_the_top_limits_what_was_not_shown() -> None:
    """With the chosen token (0.01) appended, m = 0.29 may still be one 0.2 and a 0.09."""
    frame = pl.DataFrame({"logprob": [math.log(p) for p in (0.5, 0.2, 0.01)], "rank": [1, 2, 0]})
    lower = frame.select(ls.entropy_lower(top=pl.col("rank") > 0)).item()

    assert lower == pytest.approx(entropy_of([0.5, 0.2, 0.01, 0.2, 0.09]))


@pytest.mark.slow
@given(weights, st.integers(2, 20), st.integers(0, 59))
def test_a_sampled_token_among_the_top_limits_nothing(raw: list[float], k: int, sampled: int) -> None:
    """Beside the k likeliest, or in the place of the last, a server may list any token: the bounds still hold."""
    total = math.fsum(raw)
    whole = sorted((x / total for x in raw), reverse=True)
    chosen = min(sampled, len(whole) - 1)
    truth = entropy_of(whole)
    for shown in (k, k - 1):
        listed = [p for place, p in enumerate(whole) if place < shown or place == chosen]
        if len(listed) < 2:
            continue
        frame = alternatives(listed)
        lower, upper, ranked = frame.select(
            *ls.entropy_bounds(vocabulary_size=len(whole), appended=True),
            ls.entropy_lower(appended=True, rank="rank", vocabulary_size=len(whole)).alias("ranked"),
        ).row(0)

        assert lower - 1e-9 <= truth <= upper + 1e-9
        assert ranked == pytest.approx(lower)


@given(
    raw=weights,
    k=st.integers(2, 59),
    decimals=st.integers(0, 6),
    more=st.integers(0, 1000),
    appended=st.booleans(),
)
def test_bounds_hold_for_all_logprobs_that_round_to_what_was_shown(
    *, raw: list[float], k: int, decimals: int, more: int, appended: bool
) -> None:
    """With the decimals given, the entropy of the unrounded distribution is between the bounds."""
    total = math.fsum(raw)
    whole = sorted((x / total for x in raw), reverse=True)
    shown = whole[: min(k, len(whole))] if not appended else [*whole[: min(k, len(whole)) - 1], whole[-1]]
    rounded = [min(0.0, round(math.log(p), decimals)) for p in shown]
    lower, upper, without_v = (
        pl.DataFrame({"logprob": rounded})
        .select(
            *ls.entropy_bounds(vocabulary_size=len(whole) + more, decimals=decimals, appended=appended),
            ls.entropy_lower(decimals=decimals, appended=appended).alias("without"),
        )
        .row(0)
    )

    assert lower - 1e-9 <= entropy_of(whole) <= upper + 1e-9
    assert without_v - 1e-9 <= entropy_of(whole)
    assert lower <= upper


def test_bounds_of_rounded_logprobs_by_hand() -> None:
    """Where all was shown, as 0.69 twice, the lower bound is 2 p ln p at one end and the upper at l - 0.005."""
    lower, upper = (
        pl.DataFrame({"logprob": [-0.69, -0.69]}).select(*ls.entropy_bounds(vocabulary_size=4, decimals=2)).row(0)
    )
    # hidden at most 1 - 2 e^-0.695, which two tokens share
    low, high = math.exp(-0.695), math.exp(-0.685)

    assert lower == pytest.approx(min(entropy_of([low] * 2), entropy_of([high] * 2)))
    assert upper == pytest.approx(entropy_of([low, low, 0.5 - low, 0.5 - low]))


def test_rounding_alone_takes_the_entropy_out_of_the_bounds() -> None:
    """Of 0.49 and 0.51, shown as -0.7 and -0.7, the mass of 0.007 that seems hidden is none."""
    truth = entropy_of([0.49, 0.51])
    frame = pl.DataFrame({"logprob": [-0.7, -0.7]})
    exact, rounded = frame.select(ls.entropy_lower(), ls.entropy_lower(decimals=1).alias("rounded")).row(0)

    assert rounded < truth < exact


@pytest.mark.parametrize("bound", [ls.entropy_lower, ls.entropy_upper, ls.entropy_bounds])
def test_decimals_are_not_negative(bound: Callable[..., object]) -> None:
    """Tens and hundreds are not decimals."""
    with pytest.raises(ValueError, match="decimals -1 is not a number of decimals"):
        bound(vocabulary_size=4, decimals=-1)


@given(st.lists(st.floats(-30, 0), min_size=2, max_size=20), st.sampled_from(["partial", "tail", "renormalised"]))
def test_varentropy_is_that_of_two_passes(
    logprobs: list[float], form: Literal["partial", "tail", "renormalised"]
) -> None:
    """Each form has the digits of a mean and squared distances from it, added without rounding."""
    frame = pl.DataFrame({"logprob": logprobs})
    outcomes = [(math.exp(x), -x) for x in logprobs]
    mass = math.fsum(p for p, _ in outcomes)
    if form == "renormalised":
        outcomes = [(p / mass, s + math.log(mass)) for p, s in outcomes]
    elif form == "tail" and mass < 1:
        outcomes.append((1 - mass, -math.log(1 - mass)))
    elif form == "partial":
        outcomes.append((1 - mass, 0.0))
    mean = math.fsum(p * s for p, s in outcomes)
    expected = max(0.0, math.fsum(p * (s - mean) ** 2 for p, s in outcomes))

    assert frame.select(ls.varentropy(form=form)).item() == pytest.approx(expected, rel=1e-9, abs=1e-13)


@pytest.mark.parametrize(
    ("logprobs", "variance"),
    # two outcomes whose surprisals differ by d: q1 q2 d^2, with q1 = 1 / (1 + e^-d)
    [([-7.57204, -7.57196], 8e-5**2 / 4), ([-700.0, -700.01], 1e-2**2 / 4), ([-3000.0, -3000.5], None)],
)
def test_varentropy_of_like_surprisals_keeps_its_digits(logprobs: list[float], variance: float | None) -> None:
    """The difference of two squares would lose them, and lose all where p underflows."""
    distance = logprobs[0] - logprobs[1]
    share = 1 / (1 + math.exp(-distance))
    exact = share * (1 - share) * distance**2
    found = pl.DataFrame({"logprob": logprobs}).select(ls.varentropy(form="renormalised")).item()

    assert found == pytest.approx(exact, rel=1e-9)
    assert variance is None or found == pytest.approx(variance, rel=1e-4)


def test_varentropy_is_by_token_in_any_engine() -> None:
    """Tokens with one alternative, or none with a logprob, are null; the streaming engine agrees."""
    rows = {"token": [1, 1, 2, 2, 3], "logprob": [math.log(0.5), math.log(0.25), -0.1, None, None]}
    grouped = pl.LazyFrame(rows).group_by("token").agg(ls.varentropy(base=2)).sort("token")

    for engine in ("in-memory", "streaming"):
        assert grouped.collect(engine=engine)["varentropy"].to_list() == [pytest.approx(0.25), None, None]
    assert pl.DataFrame(rows).with_columns(ls.varentropy(base=2).over("token"))["varentropy"][0] == pytest.approx(0.25)


def test_varentropy_of_a_nearly_certain_token_keeps_its_digits() -> None:
    """1 - e^-1e-12 is 1e-12 to 16 digits, which 1 - sum p has three of: with m, m ln^2 m to first order."""
    m = -math.expm1(-1e-12) - 1e-13
    frame = pl.DataFrame({"logprob": [-1e-12, math.log(1e-13)]})
    first_order = m * math.log(m) ** 2 + 1e-13 * math.log(1e-13) ** 2

    assert frame.select(ls.varentropy()).item() == pytest.approx(first_order, rel=1e-9)


def test_what_underflows_is_renormalised_all_the_same() -> None:
    """Logprobs of -800 and -800 - ln 3 are shares of 3/4 and 1/4, though exp of each is 0."""
    frame = pl.DataFrame({"logprob": [-800.0, -800.0 - math.log(3)]})
    entropy = entropy_of([0.75, 0.25])

    found = frame.select(ls.entropy(form="renormalised"), ls.negentropy()).row(0)
    assert found == pytest.approx((entropy, 1 - entropy / math.log(2)))


def test_shares_of_tiny_probabilities_keep_their_digits() -> None:
    """Near the least number of floating point, where exp has few digits, the shares are still 2/3 and 1/3."""
    frame = pl.DataFrame({"logprob": [-744.0, -744.0 - math.log(2)]})

    assert frame.select(ls.entropy(form="renormalised")).item() == pytest.approx(entropy_of([2 / 3, 1 / 3]), rel=1e-12)


def test_a_sampled_token_by_hand() -> None:
    """Of p = (1/2, 1/5) and a sampled 0.01, m = 0.29 is one 1/5 and 0.09, and not 29 times 0.01."""
    lower = alternatives([0.5, 0.2, 0.01]).select(ls.entropy_lower(appended=True)).item()

    assert lower == pytest.approx(entropy_of([0.5, 0.2, 0.01, 0.2, 0.09]))


def test_an_alternative_without_a_logprob_limits_nothing() -> None:
    """Where rounding took a p above 1, the rest counts as one token, not as e^14 tokens of e^-14."""
    frame = pl.DataFrame({"logprob": [None, -12.0, -14.0], "rank": [1, 2, 3]})
    bounds = ls.entropy_bounds(vocabulary_size=10_000_000)
    lower, upper, without_v, tail = frame.select(*bounds, ls.entropy_lower().alias("without"), ls.entropy()).row(0)

    assert lower == without_v == tail
    assert lower < 0.001 < upper


def test_an_unscored_alternative_below_the_top_is_no_matter() -> None:
    """A chosen token appended as the 3rd is no likelier than the 2nd: m = 0.3 is still one 0.2 and a 0.1."""
    frame = pl.DataFrame({"logprob": [math.log(0.5), math.log(0.2), None], "rank": [1, 2, 3]})
    lower = frame.select(ls.entropy_lower(top=pl.col("rank") <= 2)).item()

    assert lower == pytest.approx(entropy_of([0.5, 0.2, 0.2, 0.1]))


@pytest.mark.parametrize("metric", [ls.entropy, ls.varentropy])
def test_unknown_form_is_refused(metric: object) -> None:
    """A misspelt form names the three that exist."""
    with pytest.raises(ValueError, match="'normalized' is none of tail, partial, renormalised"):
        metric(form="normalized")  # type: ignore[operator]


@pytest.mark.parametrize("size", [0, -5])
def test_vocabulary_must_have_tokens(size: int) -> None:
    """A vocabulary size below 1 is refused."""
    with pytest.raises(ValueError, match=f"vocabulary_size {size}"):
        ls.entropy_bounds(vocabulary_size=size)
