"""A set of integers stored as intervals, such as the numbers of the calls of a run that have an outcome.

Answers come nearly in order, so a million of them are a few intervals, and a manifest stays small.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class IntervalSet:
    """A set of integers, held as sorted half-open intervals.

    >>> done = IntervalSet([(0, 3)])
    >>> done.update([4, 3, 9])
    >>> done.intervals
    [(0, 5), (9, 10)]
    >>> 4 in done, 5 in done, len(done), done.first_missing()
    (True, False, 6, 5)
    """

    def __init__(self, intervals: Iterable[tuple[int, int]] = ()) -> None:
        self._intervals = _merged(sorted((start, stop) for start, stop in intervals))

    @property
    def intervals(self) -> list[tuple[int, int]]:
        """The half-open intervals (first, last + 1): sorted, disjoint, not adjacent."""
        return list(self._intervals)

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, int):
            return False
        at = bisect_right(self._intervals, (number, float("inf"))) - 1
        return at >= 0 and number < self._intervals[at][1]

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self._intervals)

    def update(self, numbers: Iterable[int]) -> None:
        """Add numbers, in any order."""
        added = ((number, number + 1) for number in sorted(numbers))
        self._intervals = _merged(sorted([*self._intervals, *_merged(added)]))

    def update_intervals(self, intervals: Iterable[tuple[int, int]]) -> None:
        """Add all numbers of half-open intervals, in any order."""
        self._intervals = _merged(sorted([*self._intervals, *intervals]))

    def without(self, other: IntervalSet) -> IntervalSet:
        """The numbers of this set that another one lacks.

        >>> IntervalSet([(0, 10)]).without(IntervalSet([(2, 4), (8, 12)])).intervals
        [(0, 2), (4, 8)]
        """
        left = []
        for first, stop in self._intervals:
            start = first
            for gone_start, gone_stop in other.intervals:
                if start < gone_start < stop:
                    left.append((start, gone_start))
                if gone_start < stop:
                    start = max(start, gone_stop)
            if start < stop:
                left.append((start, stop))
        return IntervalSet(left)

    def first_missing(self) -> int:
        """The smallest number from 0 on that is not in the set."""
        if self._intervals and self._intervals[0][0] == 0:
            return self._intervals[0][1]
        return 0


def _merged(intervals: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, stop in intervals:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged
