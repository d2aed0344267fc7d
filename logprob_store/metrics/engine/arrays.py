"""Scores of completions computed over numpy arrays of tokens, in a fraction of the time of polars' expressions.

Each function here computes what an expression in `catalogue` defines, and a test compares the two. Files are read in
`analysis.token_arrays`; scores are computed from totals in `score_table`.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import numpy as np
import polars as pl

from logprob_store.metrics.tokens.training_data import EXACT, LOWEST_SHARE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Integers: TypeAlias = NDArray[np.int64]
    Booleans: TypeAlias = NDArray[np.bool_]

WINDOW: Final = 32
"""Tokens of a window, in the scores that have a name."""
LOW: Final = math.log(0.5)
"""The logprob, in nats, below which a token is a low one."""
_TOKENS_AT_ONCE: Final = 2**16
"""Tokens whose windows are summed at a time: half a megabyte of float64, which fits in the processor's cache."""


class OrderedTokens(NamedTuple):
    """Generated tokens as arrays of one length, sorted by `completion_id` and `place`.

    `logprob` is any number where `scored` is false; a `scored` of None means true everywhere. `place` grows by one from
    a token to the next of the same section; None where it is not needed. A `content` of None means that all tokens are
    of the section content.
    """

    completion_id: Integers  # int64[tokens]
    logprob: Floats  # float64[tokens], nats
    scored: Booleans | None  # bool[tokens]
    place: Integers | None  # int64[tokens]
    content: Booleans | None = None  # bool[tokens]


def array_scores(
    tokens: OrderedTokens, functions: Mapping[str, Callable[[ByCompletion], pl.Series]]
) -> pl.DataFrame | None:
    """One row per completion: completion_id, and a column for each function.

    Returns None if the tokens of a completion are not all next to each other.

    Two completions: one with the probabilities 1/2 and 1/4, one with a single unscored token:

    >>> ids, logprobs = np.array([1, 1, 2]), np.log([1 / 2, 1 / 4, 1])
    >>> tokens = OrderedTokens(ids, logprobs, np.array([True, True, False]), np.array([0, 1, 0]))
    >>> array_scores(tokens, {"scored": scored_tokens, "longest": longest_low_confidence_span}).rows()
    [(1, 2, 1), (2, 0, None)]
    """
    groups = ByCompletion(tokens)
    if (groups.ids[1:] <= groups.ids[:-1]).any():
        return None
    columns = [pl.Series("completion_id", groups.ids)]
    columns += [function(groups).alias(name) for name, function in functions.items()]
    return pl.DataFrame(columns)


class ByCompletion:
    """Tokens grouped by completion.

    `values` has the logprobs of the scored tokens of all completions, one completion after the other. `some` marks the
    completions that have a scored token; the arrays `value_begins` and `value_counts` have one item for each of these.

    Args:
        tokens: of whole completions.
        tokens_at_once: tokens whose windows are summed at a time.
    """

    ids: Integers  # int64[completions]
    begins: Integers  # int64[completions]: the first token of each
    sizes: Integers  # int64[completions]: tokens
    counts: Integers  # int64[completions]: scored tokens
    values: Floats  # float64[scored tokens], nats
    some: Booleans  # bool[completions]
    value_begins: Integers  # int64[completions with a scored token]: the first value of each
    value_counts: Integers  # int64[completions with a scored token]

    def __init__(self, tokens: OrderedTokens, *, tokens_at_once: int = _TOKENS_AT_ONCE) -> None:
        ids, scored = tokens.completion_id, tokens.scored
        self.tokens = tokens
        self._tokens_at_once = tokens_at_once
        self.begins = np.append(np.arange(min(len(ids), 1)), np.flatnonzero(ids[1:] != ids[:-1]) + 1)
        self.ids = ids[self.begins]
        self.sizes = np.diff(self.begins, append=len(ids))
        self.counts = self.sizes if scored is None else _rows_in(np.flatnonzero(scored), self.begins, len(ids))
        self.values = tokens.logprob if scored is None else tokens.logprob[scored]
        self.some = self.counts > 0
        self.value_counts = self.counts[self.some]
        self.value_begins = np.cumsum(self.value_counts) - self.value_counts

    def series(self, values: NDArray[np.generic]) -> pl.Series:
        """A column with a row for each completion, from values for those with a scored token; null for the others."""
        if self.some.all():
            return pl.Series(values)
        rows = np.zeros(len(self.ids), dtype=values.dtype)
        rows[self.some] = values
        return pl.select(pl.when(pl.Series(self.some)).then(pl.Series(rows))).to_series()

    @cached_property
    def sums(self) -> Floats:
        """The sum of the values of each completion; float64[completions with a scored token]."""
        return _reduced(np.add, self.values, self.value_begins)

    @cached_property
    def low(self) -> Integers:
        """The row numbers of the tokens with p < 1/2; int64[low tokens]."""
        low = self.tokens.logprob < LOW
        return np.flatnonzero(low if self.tokens.scored is None else low & self.tokens.scored)

    @cached_property
    def low_counts(self) -> Integers:
        """The number of low tokens of each completion; int64[completions]."""
        return _rows_in(self.low, self.begins, len(self.tokens.logprob))

    @cached_property
    def windows(self) -> tuple[Floats, Floats]:
        """The lowest and the last mean of a window of each completion; each float64[completions with a scored token].

        Both are the mean of all scored tokens where a completion has fewer than a window.
        """
        lowest = self.sums / self.value_counts
        last = lowest.copy()
        begins, whole = self.value_begins, self.value_counts >= WINDOW
        parts = np.flatnonzero(np.diff(begins // self._tokens_at_once)) + 1
        for part in np.split(np.arange(len(begins)), parts) if len(begins) else ():
            long = part[whole[part]]
            if not len(long):
                continue
            sums = _window_sums(self.values[begins[part[0]] : begins[part[-1]] + self.value_counts[part[-1]]])
            first = begins[long] - begins[part[0]]
            behind = first + self.value_counts[long] - WINDOW + 1
            # reduceat takes the minimum from each index to the next: over a completion's windows, and then from behind
            # its last window to the next completion's first, which is not used
            both = np.stack([first, behind], axis=1).ravel()
            both = both[:-1] if both[-1] == len(sums) else both
            lowest[long] = np.minimum.reduceat(sums, both)[::2] / WINDOW
            last[long] = sums[behind - 1] / WINDOW
        return lowest, last


def _window_sums(values: Floats) -> Floats:
    """The sum of each window of values, also across two completions; float64[values - WINDOW + 1].

    Values are added in pairs, then fours and so on, which is as exact as summing each window; differences of a running
    sum are less exact.
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
    """How many of the ascending `rows` are in each range from one of `begins` to the next, or `end`; int64[begins]."""
    return np.diff(np.searchsorted(rows, np.append(begins, end)))


def _reduced(how: np.ufunc, values: Floats, begins: Integers) -> Floats:
    return how.reduceat(values, begins) if len(begins) else values[:0]


def scored_tokens(groups: ByCompletion) -> pl.Series:
    """The number of tokens with a logprob."""
    return pl.Series(groups.counts.astype(np.uint32))


def unscored_tokens(groups: ByCompletion) -> pl.Series:
    """The number of tokens without a logprob."""
    return pl.Series((groups.sizes - groups.counts).astype(np.uint32))


def logprob_sum(groups: ByCompletion) -> pl.Series:
    """The sum of the logprobs, in nats."""
    return groups.series(groups.sums)


def lowest_logprob(groups: ByCompletion) -> pl.Series:
    """The lowest logprob, in nats."""
    return groups.series(_reduced(np.minimum, groups.values, groups.value_begins))


def content_mean(groups: ByCompletion) -> pl.Series:
    """The mean logprob of the tokens of the section content, in nats."""
    content, scored = groups.tokens.content, groups.tokens.scored
    if content is None:
        return groups.series(groups.sums / groups.value_counts)
    of_content = content if scored is None else content[scored]
    sums = _reduced(np.add, np.where(of_content, groups.values, 0.0), groups.value_begins)
    counts = _reduced(np.add, of_content.astype(np.int64), groups.value_begins)
    means = np.full(len(sums), math.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return groups.series(means).fill_nan(None)


def low_tokens(groups: ByCompletion) -> pl.Series:
    """The number of tokens with p < 1/2."""
    return groups.series(groups.low_counts[groups.some].astype(np.uint32))


def longest_low_confidence_span(groups: ByCompletion) -> pl.Series:
    """The most consecutive tokens with p < 1/2. Only the low tokens are visited, which are few."""
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


def lowest_window(groups: ByCompletion) -> pl.Series:
    """The confidence of the least confident window."""
    return groups.series(np.exp(np.minimum(groups.windows[0], 0.0)))


def last_window(groups: ByCompletion) -> pl.Series:
    """The confidence of the last window."""
    return groups.series(np.exp(np.minimum(groups.windows[1], 0.0)))


def min_k_probability(groups: ByCompletion) -> pl.Series:
    """The mean of the lowest fifth of the logprobs.

    Completions with the same number of tokens in that fifth are the rows of a matrix, which is partitioned at once.
    """
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
