"""Interval sets: a set of integers, in whatever order they are added."""

from __future__ import annotations

from itertools import count, pairwise

from hypothesis import given
from hypothesis import strategies as st

from logprob_store.store.intervals import IntervalSet

_NUMBERS = st.lists(st.integers(0, 40), max_size=30)


@given(batches=st.lists(_NUMBERS, max_size=5))
def test_it_is_a_set(batches: list[list[int]]) -> None:
    """Membership, size and first gap are those of a plain set."""
    intervals, plain = IntervalSet(), set[int]()
    for batch in batches:
        intervals.update(batch)
        plain.update(batch)

    assert [number for number in range(-2, 45) if number in intervals] == sorted(plain)
    assert len(intervals) == len(plain)
    assert intervals.first_missing() == next(number for number in count() if number not in plain)


@given(numbers=_NUMBERS)
def test_intervals_are_the_fewest(numbers: list[int]) -> None:
    """Intervals are sorted, disjoint and not adjacent, and make the same set again."""
    intervals = IntervalSet()
    intervals.update(numbers)
    found = intervals.intervals

    assert all(start < stop for start, stop in found)
    assert all(one[1] < other[0] for one, other in pairwise(found))
    assert IntervalSet(reversed(found)).intervals == found
