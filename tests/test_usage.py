"""The usual `usage` is read in a short way, which finds what the long one finds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logprob_store.usage import ReportedUsage, read_usage, said_usage

COUNTS = st.one_of(st.integers(0, 50), st.sampled_from([None, -1, 1.5, 10**9, 10**9 - 1, "7", True]))
DETAILS = st.one_of(
    st.none(),
    st.fixed_dictionaries({}, optional={"cached_tokens": COUNTS, "reasoning_tokens": COUNTS, "audio_tokens": COUNTS}),
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
