"""The usual `usage` is read in a short way, which finds what the long one finds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logprob_store.usage import Bill, ReportedUsage, Usage, read_usage, said_usage, usage_of

COUNTS = st.one_of(st.integers(0, 50), st.sampled_from([None, -1, 1.5, 10**9, 10**9 - 1, "7", True]))
DETAILS = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {}, optional={"cached_tokens": COUNTS, "cache_write_tokens": COUNTS, "reasoning_tokens": COUNTS}
    ),
)
USAGES = st.fixed_dictionaries(
    {"prompt_tokens": COUNTS, "completion_tokens": COUNTS},
    optional={
        "total_tokens": COUNTS,
        "prompt_tokens_details": DETAILS,
        "completion_tokens_details": DETAILS,
        "cost": COUNTS,
    },
)


def seen(usage: ReportedUsage | None) -> Any:
    """All that is read of a usage."""
    return usage and (*usage[:3], usage.reasoning_tokens, usage.cost_usd)


@given(USAGES)
def test_both_ways_find_the_same(usage: dict[str, Any]) -> None:
    """Whatever the counts are, and whichever of them are there."""
    raw = json.dumps(usage).encode()

    assert seen(read_usage(raw)) == seen(said_usage(raw).whole)


@pytest.mark.parametrize(
    ("details", "expected"),
    [({"reasoning_tokens": 3}, (7, 0, 5, 3, None)), ({"reasoning_tokens": 6}, (7, 0, 11, 0, None))],
)
def test_reasoning_that_is_no_part_of_the_completion_is_added(details: dict[str, int], expected: Any) -> None:
    """Of 5 tokens, 3 may be hidden; 6 cannot be: they come beside them."""
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12, "completion_tokens_details": details}

    assert seen(read_usage(json.dumps(usage).encode())) == expected


def test_a_count_that_stands_twice_is_the_larger_one() -> None:
    """A parser takes the last, which may be less than what is billed."""
    twice = b'{"prompt_tokens":900,"completion_tokens":80,"total_tokens":980,"prompt_tokens":1,"completion_tokens":90}'
    usage = read_usage(twice)

    assert usage is not None
    assert usage[:3] == (900, 0, 90)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 5}}, (9, 2, 5)),
        ({"input_tokens": 9, "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 5}}, (9, 2, 5)),
        # Anthropic counts neither what was read nor what was written among the input
        ({"input_tokens": 2, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 5}, (9, 2, 5)),
        # a batch: the old names are there, and empty
        (
            {
                "prompt_tokens": 0,
                "prompt_tokens_details": {"cached_tokens": 0},
                "input_tokens": 9,
                "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 5},
            },
            (9, 2, 5),
        ),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 5}}, (9, 8, 1)),
        # what is no number counts at its worst: all that was not cached
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": "x"}}, (9, 2, 7)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": None}}, (9, 2, 0)),
    ],
)
def test_tokens_written_into_the_cache_are_read(usage: dict[str, Any], expected: tuple[int, int, int]) -> None:
    """Of 9 tokens of a prompt, 2 were cached and 5 are written, in every spelling."""
    output = "output_tokens" if "input_tokens" in usage else "completion_tokens"
    read = read_usage(json.dumps({**usage, output: 3}).encode())

    assert read is not None
    assert (read.prompt_tokens, read.cached_tokens, read.written_tokens) == expected
    assert read.completion_tokens == 3


def test_a_batch_whose_old_names_are_empty_has_both_halves() -> None:
    """`prompt_tokens: 0` and `completion_tokens: 0` beside the new names are no tokens of their own."""
    raw = b'{"prompt_tokens":0,"completion_tokens":0,"input_tokens":9,"output_tokens":4,"total_tokens":13}'

    assert read_usage(raw) == Usage(9, 0, 4)


def test_tokens_that_are_kept_for_long_are_read() -> None:
    """They cost more than those that are kept for half an hour, and nobody has said how much."""
    details = {"cache_write_tokens": 9, "cache_write_tokens_details": {"ttl_12h_tokens": 4, "ttl_30m_tokens": 5}}
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "prompt_tokens_details": details}
    raw = json.dumps(usage).encode()

    assert [read and (read.kept_tokens, read.has_unpriced) for read in (read_usage(raw), said_usage(raw).whole)] == [
        (4, True),
        (4, True),
    ]


def test_audio_tokens_are_read() -> None:
    """3 in the prompt and 2 in the answer."""
    raw = json.dumps(
        {
            "prompt_tokens": 9,
            "completion_tokens": 4,
            "total_tokens": 13,
            "prompt_tokens_details": {"audio_tokens": 3},
            "completion_tokens_details": {"audio_tokens": 2},
        }
    ).encode()

    assert [usage and usage.audio_tokens for usage in (read_usage(raw), said_usage(raw).whole)] == [5, 5]


HALVES = {"prompt_tokens": 1, "completion_tokens": 1}


@pytest.mark.parametrize(
    ("body", "tier"),
    [
        ({"usage": HALVES, "service_tier": "flex"}, "flex"),
        ({"usage": HALVES, "service_tier": "fast"}, "priority"),
        ({"usage": HALVES, "service_tier": "default"}, ""),
        ({"usage": {**HALVES, "service_tier": "batch"}}, "batch"),  # Anthropic
        ({"usage": HALVES, "service_tier": "warp"}, "unknown"),
    ],
)
def test_the_tier_that_served_a_call_is_read(body: dict[str, Any], tier: str) -> None:
    """From the body, or from its usage; of a name that nobody knows it is known that it is no other."""
    usage = usage_of(json.dumps(body).encode())

    assert usage is not None
    assert (usage.tier, usage.says_tier) == (tier, True)


def test_the_last_piece_of_a_stream_says_the_tier() -> None:
    """The first ones may repeat what was asked for."""
    pieces = [
        {"type": "response.created", "response": {"service_tier": "auto"}},
        {"type": "response.in_progress", "response": {"service_tier": "flex"}},
        {"type": "response.completed", "response": {"service_tier": "default", "usage": HALVES}},
    ]
    body = b"".join(b"data: " + json.dumps(piece).encode() + b"\n\n" for piece in pieces)
    usage = usage_of(body)

    assert usage is not None
    assert (usage.tier, usage.says_tier) == ("", True)


def test_a_bill_keeps_apart_what_is_billed_apart() -> None:
    """And at least another bill is the larger number of each line."""
    bill = Bill(Usage(5, 1, 2), Usage(7, 0, 1, tier="flex"), Usage(1, 0, 1, 1))
    other = Bill(Usage(3, 9, 0), Usage(2, 0, 2, tier="flex", is_long=True))

    assert bill == Bill(Usage(6, 1, 3, 1), Usage(7, 0, 1, tier="flex"))
    assert bill.whole == Usage(13, 1, 4, 1)
    assert bill.at_least(other) == Bill(Usage(6, 9, 3, 1), *list(bill)[1:], *list(other)[1:])
