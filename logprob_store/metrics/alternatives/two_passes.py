"""Numbers of a token that need two passes over its alternatives: a mean first, then distances from it.

polars streams sums; a sum that has another sum of the same token in it, it does not. So the alternatives of a token are
gathered into a list, and numpy computes over the lists of many tokens at once: in half the time of the nested sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Integers: TypeAlias = NDArray[np.int64]


class Alternatives:
    """The logprobs of many tokens' alternatives, one token after the other, each with at least one alternative.

    Args:
        logprob: float64[alternatives], nats.
        sizes: int64[tokens]: the alternatives of each token.
    """

    def __init__(self, logprob: Floats, sizes: Integers) -> None:
        self.logprob = logprob
        self.sizes = sizes
        self._begins = np.cumsum(sizes) - sizes

    def sums(self, values: Floats) -> Floats:
        """The sum over each token's alternatives; float64[tokens]."""
        return np.add.reduceat(values, self._begins) if len(self.sizes) else values[:0]

    def largest(self) -> Floats:
        """The largest logprob of each token; float64[tokens]."""
        return np.maximum.reduceat(self.logprob, self._begins) if len(self.sizes) else self.logprob[:0]

    def not_shown(self) -> Floats:
        """1 - sum p of each token, also where that is far below the precision of 1; float64[tokens]."""
        likeliest = np.flatnonzero(self.logprob == self.each(self.largest()))
        tokens = np.repeat(np.arange(len(self.sizes)), self.sizes)[likeliest]
        others = np.exp(self.logprob)
        # The first of those that tie: its p is taken from 1 before anything is rounded to a digit of 1.
        others[likeliest[np.diff(tokens, prepend=-1) > 0]] = 0.0
        rest: Floats = -np.expm1(self.largest()) - self.sums(others)
        return rest

    def each(self, values: Floats) -> Floats:
        """A number of each token, beside each of its alternatives; float64[alternatives]."""
        return np.repeat(values, self.sizes)


def of_tokens(logprob: pl.Expr, number: Callable[[Alternatives], Floats], *, fewest: int) -> pl.Expr:
    """A number of each token from all of its alternatives that have a logprob; null where these are too few.

    Args:
        logprob: the logprobs, by token.
        number: takes the alternatives of many tokens, and gives float64[tokens].
        fewest: the least number of alternatives with a logprob, at least 1.
    """

    def compute(lists: pl.Series) -> pl.Series:
        sizes = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
        enough = sizes >= fewest
        logprobs = lists.filter(pl.Series(enough)).explode().cast(pl.Float64).to_numpy()
        numbers = np.zeros(len(lists))
        numbers[enough] = number(Alternatives(logprobs, sizes[enough]))
        return pl.select(pl.when(pl.Series(enough)).then(pl.Series(numbers))).to_series().alias(lists.name)

    listed = logprob.drop_nulls().implode()
    return listed.map_batches(compute, return_dtype=pl.Float64, is_elementwise=True)
