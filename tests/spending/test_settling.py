"""What an answered call counts for: its usage where that can be believed, else its worst case."""

from __future__ import annotations

import json
from typing import Any

import pytest
from builders import chat_body, chat_request, chat_token, completions_request
from hypothesis import given
from hypothesis import strategies as st

from logprob_store.spending.prices import LongContext, Prices
from logprob_store.spending.settling import tokens_spent
from logprob_store.usage import Usage, usage_of

REQUEST = chat_request("Hi", max_tokens=1000)
WORST = Usage(70, 0, 1000)
THREE = [chat_token(text) for text in ("a", "b", "c")]


def spent(usage: Any, *, tokens: list[dict[str, Any]] = THREE, request: Any = REQUEST, **options: Any) -> Usage:
    """What a call counts for whose answer has three tokens and this usage."""
    body = json.dumps(chat_body(tokens, **({} if usage == "none" else {"usage": usage}))).encode()
    return Usage(*tokens_spent(request, body, usage_of(body), WORST, **options))


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 3}, (7, 0, 3)),
        ({"input_tokens": 7, "output_tokens": 3}, (7, 0, 3)),
        ({"prompt_tokens": 7.2, "completion_tokens": 3.0}, (8, 0, 3)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "input_tokens": 0, "output_tokens": 500}, (7, 0, 500)),
        ({"prompt_tokens": 7, "total_tokens": 12}, (7, 0, 5)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 60}, (7, 0, 53)),
        # three tokens are shown: reasoning is a part of nine, but none of three
        ({"prompt_tokens": 7, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 6}}, (7, 0, 9)),
        ({"input_tokens": 7, "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 40}}, (7, 0, 43)),
        ({"input_tokens": 7, "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 2}}, (7, 0, 5)),
        # DeepSeek: hits of its cache and misses are the prompt
        (
            {"prompt_tokens": 7, "completion_tokens": 3, "prompt_cache_hit_tokens": 5, "prompt_cache_miss_tokens": 2},
            (7, 5, 3),
        ),
        ({"completion_tokens": 3, "prompt_cache_hit_tokens": 5, "prompt_cache_miss_tokens": 9}, (14, 5, 3)),
        # more than there are: nothing is believed to have been cheaper
        ({"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 99}}, (7, 0, 3)),
        ({"input_tokens": 7, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 99}}, (7, 0, 3)),
        # Moonshot: beside the tokens
        ({"prompt_tokens": 7, "completion_tokens": 3, "cached_tokens": 5}, (7, 5, 3)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": -9}}, (7, 0, 3)),
        # Anthropic: what its cache holds stands beside the input
        ({"input_tokens": 7, "output_tokens": 3, "cache_read_input_tokens": 50}, (57, 50, 3)),
        # four tokens may be three: some servers do not count the last one
        ({"prompt_tokens": 7, "completion_tokens": 2}, (7, 0, 3)),
    ],
    ids=str,
)
def test_what_is_said_is_believed(usage: dict[str, Any], expected: tuple[int, ...]) -> None:
    """In any spelling; the larger number where two differ."""
    assert spent(usage)[:3] == expected


@pytest.mark.parametrize(
    "usage",
    [
        "none",
        None,
        [],
        "many",
        {},
        {"completion_tokens": 1},  # three are there
        {"prompt_tokens": -1, "completion_tokens": 3},
        {"prompt_tokens": "7", "completion_tokens": "3"},
        *(
            {"prompt_tokens": 7, "completion_tokens": value}
            for value in (-3, 1e30, float("nan"), "three", True, [3], {"text": 3})
        ),
        {"prompt_tokens": {"text": 7}, "completion_tokens": {"text": 3}},
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"prompt_tokens": 0, "completion_tokens": 3},
        {"prompt_tokens": 7, "completion_tokens": 0},
        {"prompt_tokens": 7, "total_tokens": 7},
        {"prompt_tokens": 7, "completion_tokens": 1},  # three are there
        {"total_tokens": 10},
    ],
    ids=str,
)
def test_what_is_unsaid_or_cannot_be_counts_at_its_worst(usage: Any) -> None:
    """A half that is missing, absurd or 0 is unsaid, and so is a number that the answer contradicts."""
    assert spent(usage) == WORST


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 7}, (7, 0, 1000)),
        ({"completion_tokens": 3}, (70, 0, 3)),
        ({"prompt_tokens": 7, "completion_tokens": None}, (7, 0, 1000)),
    ],
    ids=str,
)
def test_the_half_that_is_unsaid_counts_at_its_worst(usage: dict[str, Any], expected: tuple[int, ...]) -> None:
    """The other half is believed."""
    assert spent(usage)[:3] == expected


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 90_000}, (90_000, 0, 1000)),
        ({"completion_tokens": "90000"}, (70, 0, 90_000)),
        ({"prompt_tokens": 90_000, "completion_tokens": 0}, (90_000, 0, 1000)),
        ({"total_tokens": 90_000}, (70, 0, 90_000)),
    ],
)
def test_what_is_said_beyond_the_worst_case_counts(usage: dict[str, Any], expected: tuple[int, ...]) -> None:
    """Half a usage is still the least that was taken."""
    assert spent(usage)[:3] == expected


def test_an_answer_of_more_tokens_than_its_worst_case() -> None:
    """Without a usage, the tokens of the answer itself are the least."""
    assert spent("none", tokens=[chat_token("a")] * 1200)[:3] == (70, 0, 1200)


def test_a_prompt_has_a_token_for_each_hundred_bytes() -> None:
    """Ten for 20,000 letters cannot be; for a picture or a schema of that size they can."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 20_000}}
    said = {"prompt_tokens": 10, "completion_tokens": 3}

    assert spent(said, request=chat_request("x" * 20_000, max_tokens=9)) == WORST
    assert spent({"prompt_tokens": 10}, request=chat_request("x" * 20_000, max_tokens=9)) == WORST
    assert spent(said, request=chat_request([image], max_tokens=9))[:3] == (10, 0, 3)
    assert spent(said, request=chat_request("Hi", max_tokens=9, guided_json={"x": "x" * 20_000}))[:3] == (10, 0, 3)


def test_tokens_of_the_legacy_endpoint_are_counted() -> None:
    """Five tokens where the usage says one."""
    logprobs = {"tokens": list("abcde"), "token_logprobs": [None, -1.0, -1.0, -1.0, -1.0], "top_logprobs": None}
    body = json.dumps({"choices": [{"text": "abcde", "logprobs": logprobs}]}).encode()
    asked = completions_request("Hi", max_tokens=1000)

    assert tokens_spent(asked, body, Usage(2, 0, 1), WORST) == WORST
    assert tokens_spent(asked, body, Usage(2, 0, 5), WORST)[:3] == (2, 0, 5)


def test_an_echoed_prompt_is_no_answer() -> None:
    """Where a text is scored, its tokens are those of the prompt, and none is written."""
    logprobs = {"tokens": list("abcde"), "token_logprobs": [None, -1.0, -1.0, -1.0, -1.0], "top_logprobs": None}
    body = json.dumps({"choices": [{"text": "abcde", "logprobs": logprobs}]}).encode()
    asked, worst = completions_request("abcde", max_tokens=0, echo=True), Usage(60, 0, 0)

    assert tokens_spent(asked, body, Usage(5, 0, 0), worst)[:3] == (5, 0, 0)
    assert tokens_spent(None, body, Usage(5, 0, 0), worst)[:3] == (5, 0, 0)
    assert tokens_spent(asked, body, Usage(1, 0, 0), worst) == worst


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (0.000013, (7, 0, 3)),  # 7 * 1 + 3 * 2 = 13 millionths
        (0.000001, (7, 0, 3)),
        (0.000113, (7, 0, 53)),  # 100 millionths more are 50 tokens at 2
        ({"total_cost": 0.000113}, (7, 0, 53)),
        (-1, (7, 0, 3)),
        (1e30, (7, 0, 3)),
        ("free", (7, 0, 3)),
    ],
)
def test_a_cost_beyond_the_prices_counts(cost: Any, expected: tuple[int, ...]) -> None:
    """OpenRouter says what a call cost: where that is more than its tokens do, it counts as more tokens."""
    assert spent({"prompt_tokens": 7, "completion_tokens": 3, "cost": cost}, prices=Prices(1.0, 2.0))[:3] == expected


def test_the_dearer_of_two_input_prices_is_the_worst() -> None:
    """Where cached tokens are dearer, the worst case counts them as cached."""
    worst = Usage(70, 70, 10)

    assert tokens_spent(REQUEST, b"{}", None, worst) == worst


def test_a_stream_counts_at_its_largest() -> None:
    """The usage of a stream counts up; a last piece that says less takes nothing back."""
    pieces = [{"usage": {"prompt_tokens": 7, "completion_tokens": count}} for count in (1, 40, 2)]
    body = b"".join(b"data: " + json.dumps(piece).encode() + b"\n\n" for piece in pieces)

    assert usage_of(body)[:3] == (7, 0, 40)


def tier_of_answer(asked: str | None, served: str | None, *, sent_tier: str | None = None) -> str:
    """The tier that a call counts by, which asked for one and was served by one; its dearest is `priority`."""
    request = chat_request("Hi", max_tokens=9, **({} if asked is None else {"service_tier": asked}))
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    said = {} if served is None else {"service_tier": served}
    body = json.dumps(chat_body(THREE, usage=usage, **said)).encode()
    worst = Usage(70, 0, 9, tier="priority")
    return tokens_spent(request, body, usage_of(body), worst, sent_tier=sent_tier).tier


def test_a_call_counts_by_the_tier_that_served_it() -> None:
    """Whatever it asked for."""
    assert tier_of_answer("priority", "default") == ""
    assert tier_of_answer(None, "flex") == "flex"
    assert tier_of_answer("flex", "default") == ""


def test_an_answer_that_names_no_tier() -> None:
    """A call that asked for one counts by the dearest that it may have had; one that asked for none by the standard."""
    assert tier_of_answer("priority", None) == "priority"
    assert tier_of_answer(None, None, sent_tier="priority") == "priority"
    assert tier_of_answer(None, None) == ""
    assert tier_of_answer("auto", None) == ""


def test_a_long_prompt_is_what_was_billed() -> None:
    """Not what was reserved: 101 tokens are more than 100, and 100 are not."""
    prices = Prices(1.0, 2.0, long_context=LongContext(100, 2.0, 1.5))

    assert spent({"prompt_tokens": 101, "completion_tokens": 3}, prices=prices).is_long
    assert not spent({"prompt_tokens": 100, "completion_tokens": 3}, prices=prices).is_long


def test_a_cost_beyond_the_prices_of_a_tier_counts() -> None:
    """By flex, at half the price, 99.5 millionths more are 100 tokens of the answer."""
    prices = Prices(1.0, 2.0, tiers={"flex": Prices(0.5, 1.0)})
    usage = {"prompt_tokens": 8, "completion_tokens": 3, "cost": 0.0001065, "service_tier": "flex"}

    assert spent(usage, prices=prices) == Usage(8, 0, 103, tier="flex")


NUMBERS = st.none() | st.integers(-5, 3000) | st.floats() | st.sampled_from([True, "3", "x", [], {}, 1e30, 2**63])
NAMES = ("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "cost")


@given(st.dictionaries(st.sampled_from(NAMES), NUMBERS) | st.none() | st.lists(NUMBERS, max_size=2))
def test_no_usage_makes_a_call_cheaper_than_its_answer(usage: Any) -> None:
    """Whatever it says: each half counts as a number that was said, or at its worst, and the answer's tokens count."""
    found = spent(usage)

    assert found.completion_tokens >= len(THREE)
    assert found.prompt_tokens >= 1
    assert found.cached_tokens <= found.prompt_tokens
