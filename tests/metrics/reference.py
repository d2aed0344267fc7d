"""Slow, obvious versions of the metrics of one token's alternatives: lists and `math`, no polars."""

from __future__ import annotations

import math


def entropy_of(probabilities: list[float]) -> float:
    """H = -sum p ln p, with 0 ln 0 = 0, in nats."""
    return -sum(p * math.log(p) for p in probabilities if p > 0)


def missing_of(logprobs: list[float]) -> float:
    """What is left of 1."""
    return max(0.0, 1.0 - math.fsum(math.exp(x) for x in logprobs))


def margin_of(logprobs: list[float]) -> float:
    """The lead of the first over the second after sorting."""
    first, second = sorted(logprobs, reverse=True)[:2]
    return math.exp(first) - math.exp(second)


def lower_of(logprobs: list[float]) -> float:
    """Put the missing mass into tokens as large as the smallest shown, one after the other."""
    shown = [math.exp(x) for x in logprobs]
    left, limit, hidden = missing_of(logprobs), min(shown), []
    while left > limit:
        hidden.append(limit)
        left -= limit
    return entropy_of([*shown, *hidden, left])


def upper_of(logprobs: list[float], vocabulary_size: int) -> float:
    """Give every token that was not shown the same part of the missing mass."""
    shown = [math.exp(x) for x in logprobs]
    others = vocabulary_size - len(shown)
    return entropy_of([*shown, *[missing_of(logprobs) / others] * others])
