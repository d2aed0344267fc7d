"""Scores of completions whose tokens lie in order, in numpy: a store's parts do, and it takes a fraction of the time.

Holds what `catalogue` computes of tokens by polars expressions, under the same names, over arrays in which the tokens
of a completion follow one another as they were written. The expressions say what the numbers mean; a test holds these
to them. Leaves out reading files, and finishing scores from totals (`catalogue`).
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import numpy as np
import polars as pl

from logprob_store.metrics.engine.catalogue import WINDOW
from logprob_store.metrics.tokens.training_data import EXACT, LOWEST_SHARE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Integers: TypeAlias = NDArray[np.int64]
    Booleans: TypeAlias = NDArray[np.bool_]

__all__ = ["IN_ORDER", "OrderedTokens", "scores_in_order"]

_LOW: Final = math.log(0.5)
_ROWS: Final = 2**16
"""Tokens whose windows are summed at a time: half a megabyte."""


class OrderedTokens(NamedTuple):
    """Tokens that a model wrote, as arrays of one length: ascending by completion_id and by `place`.

    `logprob` is any number where `scored` is false; a `scored` of None is true everywhere. `place` counts up by one
    from token to token; None where nobody needs it.
    """

    completion_id: Integers
    logprob: Floats
    scored: Booleans | None
    place: Integers | None


def scores_in_order(tokens: OrderedTokens, names: Collection[str]) -> pl.DataFrame | None:
    """One row per completion: completion_id, and the totals and scores of IN_ORDER that are named.

    None if the tokens of some completion do not follow one another.

    Two completions, of 1/2 and 1/4, and of one unscored token:

    >>> ids, logprobs = np.array([1, 1, 2]), np.log([1 / 2, 1 / 4, 1])
    >>> tokens = OrderedTokens(ids, logprobs, np.array([True, True, False]), np.array([0, 1, 0]))
    >>> scores_in_order(tokens, ["scored_tokens", "longest_low_confidence_span"]).rows()
    [(1, 2, 1), (2, 0, None)]
    """
    groups = _Groups(tokens)
    if (groups.ids[1:] <= groups.ids[:-1]).any():
        return None
    columns = [pl.Series("completion_id", groups.ids)]
    columns += [IN_ORDER[name](groups).alias(name) for name in names]
    return pl.DataFrame(columns)


class _Groups:
    """The tokens by completion, and of each the logprobs there are: `values`, of which a completion has `counts`."""

    def __init__(self, tokens: OrderedTokens) -> None:
        ids, scored = tokens.completion_id, tokens.scored
        self.tokens = tokens
        self.begins = np.append(np.arange(min(len(ids), 1)), np.flatnonzero(ids[1:] != ids[:-1]) + 1)
        self.ids = ids[self.begins]
        self.sizes = np.diff(self.begins, append=len(ids))
        self.counts = self.sizes if scored is None else _rows_in(np.flatnonzero(scored), self.begins, len(ids))
        self.values = tokens.logprob if scored is None else tokens.logprob[scored]
        self.some = self.counts > 0
        self.value_counts = self.counts[self.some]
        self.value_begins = np.cumsum(self.value_counts) - self.value_counts

    def series(self, values: NDArray[np.generic]) -> pl.Series:
        """One value for each completion that has a scored token, as a column of all of them; null for the others."""
        if self.some.all():
            return pl.Series(values)
        rows = np.zeros(len(self.ids), dtype=values.dtype)
        rows[self.some] = values
        return pl.select(pl.when(pl.Series(self.some)).then(pl.Series(rows))).to_series()

    @cached_property
    def sums(self) -> Floats:
        return _reduced(np.add, self.values, self.value_begins)

    @cached_property
    def low(self) -> Integers:
        """The rows of tokens with p < 1/2."""
        low = self.tokens.logprob < _LOW
        return np.flatnonzero(low if self.tokens.scored is None else low & self.tokens.scored)

    @cached_property
    def low_counts(self) -> Integers:
        return _rows_in(self.low, self.begins, len(self.tokens.logprob))

    @cached_property
    def windows(self) -> tuple[Floats, Floats]:
        """The lowest and the last mean of a window, by completion; the mean of all where they are fewer than a window.

        Some completions at a time, so that the sums stay in the processor's cache.
        """
        lowest = self.sums / self.value_counts
        last = lowest.copy()
        begins, whole = self.value_begins, self.value_counts >= WINDOW
        parts = np.flatnonzero(np.diff(begins // _ROWS)) + 1
        for part in np.split(np.arange(len(begins)), parts) if len(begins) else ():
            long = part[whole[part]]
            if not len(long):
                continue
            sums = _window_sums(self.values[begins[part[0]] : begins[part[-1]] + self.value_counts[part[-1]]])
            first = begins[long] - begins[part[0]]
            behind = first + self.value_counts[long] - WINDOW + 1
            # from the first window to behind the last, and from there to the next completion's, which nobody asked for
            both = np.stack([first, behind], axis=1).ravel()
            both = both[:-1] if both[-1] == len(sums) else both
            lowest[long] = np.minimum.reduceat(sums, both)[::2] / WINDOW
            last[long] = sums[behind - 1] / WINDOW
        return lowest, last


def _window_sums(values: Floats) -> Floats:
    """The sum of each value and those behind it, as many as a window has, whatever completion they are of.

    Added up in pairs, fours and so on: as exact as a sum of each, unlike differences of a running sum.
    """
    powers, size, total, behind = values, 1, None, 0
    while True:
        if WINDOW & size:
            shifted = powers[behind:]
            total = shifted if total is None else total[: len(shifted)] + shifted[: len(total)]
            behind += size
        if 2 * size > WINDOW:
            return values if total is None else total
        powers = powers[: max(len(powers) - size, 0)] + powers[size:]
        size *= 2


def _rows_in(rows: Integers, begins: Integers, end: int) -> Integers:
    """How many of the ascending `rows` there are from each of `begins` to the next, or the end."""
    return np.diff(np.searchsorted(rows, np.append(begins, end)))


def _reduced(how: np.ufunc, values: Floats, begins: Integers) -> Floats:
    return how.reduceat(values, begins) if len(begins) else values[:0]


def _low_tokens(groups: _Groups) -> pl.Series:
    return groups.series(groups.low_counts[groups.some].astype(np.uint32))


def _longest_span(groups: _Groups) -> pl.Series:
    """Of low tokens only, which are few: each that does not follow the one before begins a span."""
    rows, place = groups.low, groups.tokens.place
    longest = np.zeros(len(groups.ids), dtype=np.uint32)
    if place is not None and len(rows):
        owner = np.repeat(np.arange(len(groups.ids)), groups.low_counts)
        begins = np.flatnonzero((np.diff(rows) != 1) | (np.diff(place[rows]) != 1) | (np.diff(owner) != 0)) + 1
        begins = np.append(0, begins)
        lengths = np.diff(begins, append=len(rows))
        owner = owner[begins]
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        longest[owner[first]] = np.maximum.reduceat(lengths, first)
    return groups.series(longest[groups.some])


def _sliding(groups: _Groups) -> pl.Series:
    return groups.series(np.exp(np.minimum(groups.windows[0], 0.0)))


def _tail(groups: _Groups) -> pl.Series:
    return groups.series(np.exp(np.minimum(groups.windows[1], 0.0)))


def _min_k(groups: _Groups) -> pl.Series:
    """Completions of which as many tokens are wanted are the rows of a matrix, whose lowest are found at once."""
    counts, begins = groups.value_counts, groups.value_begins
    wanted = np.maximum(np.floor(counts * LOWEST_SHARE + EXACT), 1).astype(np.int64)
    means = np.empty(len(counts))
    by_wanted = np.argsort(wanted, kind="stable")
    for rows in np.split(by_wanted, np.flatnonzero(np.diff(wanted[by_wanted])) + 1) if len(wanted) else ():
        lowest, shortest, longest = wanted[rows[0]], counts[rows].min(), counts[rows].max()
        if begins[rows[-1]] + longest <= len(groups.values):
            matrix = np.lib.stride_tricks.sliding_window_view(groups.values, longest)[begins[rows]]
        else:
            matrix = groups.values.take(begins[rows, None] + np.arange(longest), mode="clip")
        matrix[:, shortest:][np.arange(shortest, longest) >= counts[rows, None]] = math.inf
        matrix.partition(lowest - 1, axis=1)
        means[rows] = np.add.reduce(matrix[:, :lowest], axis=1) / lowest
    return groups.series(means)


IN_ORDER: Final[Mapping[str, Callable[[_Groups], pl.Series]]] = {
    "scored_tokens": lambda groups: pl.Series(groups.counts.astype(np.uint32)),
    "unscored_tokens": lambda groups: pl.Series((groups.sizes - groups.counts).astype(np.uint32)),
    "_sum": lambda groups: groups.series(groups.sums),
    "_min": lambda groups: groups.series(_reduced(np.minimum, groups.values, groups.value_begins)),
    "_low": _low_tokens,
    "longest_low_confidence_span": _longest_span,
    "sliding_confidence": _sliding,
    "tail_confidence": _tail,
    "min_k_probability": _min_k,
}
"""What can be had in this way, and how."""
