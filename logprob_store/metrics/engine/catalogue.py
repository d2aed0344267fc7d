"""The scores of a completion by name: what `scores(metrics=[...])` and `logprobs scores --metrics` can be asked for.

Holds the names, which table each reads, and the errors for names that are not here. Leaves out the formulas
(`sequence`, `windows`, `topk` and the others) and the joins (`scores`).
"""

from __future__ import annotations

import difflib
import math
import string
import unicodedata
from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.errors import InputError
from logprob_store.metrics.alternatives import chosen, topk
from logprob_store.metrics.alternatives import entropy as topk_entropy
from logprob_store.metrics.alternatives import entropy_bounds as topk_bounds
from logprob_store.metrics.tokens import sequence, training_data, windows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["DEFAULT_METRICS", "METRIC_NAMES", "check_metrics"]

WINDOW: Final = 32
"""Tokens of a window, where a metric is asked for by its name."""

DEFAULT_METRICS: Final = (
    "scored_tokens",
    "unscored_tokens",
    "logprob_sum",
    "joint_probability",
    "mean_logprob",
    "confidence",
    "perplexity",
    "min_probability",
    "mean_entropy",
    "mean_margin",
    "mean_missing_mass",
)

# polars sums anew for each expression of an agg, however alike they are: scores that are functions of a few totals are
# computed from the totals, three times as fast. A test holds each to the metric of its name.
TOTALS: Final = {
    "scored_tokens": sequence.scored_tokens(),
    "unscored_tokens": sequence.unscored_tokens(),
    "_sum": pl.col("logprob").sum(),
    "_min": pl.col("logprob").min(),
    "_low": (pl.col("logprob") < math.log(0.5)).sum(),
}
_SCORED: Final = pl.col("scored_tokens") > 0
_SUM: Final = pl.when(_SCORED).then(pl.col("_sum"))
_MEAN: Final = pl.when(_SCORED).then(pl.col("_sum") / pl.col("scored_tokens"))

FROM_TOTALS: Final[Mapping[str, tuple[tuple[str, ...], pl.Expr]]] = {
    "scored_tokens": ((), pl.col("scored_tokens")),
    "unscored_tokens": (("unscored_tokens",), pl.col("unscored_tokens")),
    "logprob_sum": (("_sum",), _SUM),
    "joint_probability": (("_sum",), _SUM.exp()),
    "mean_logprob": (("_sum",), _MEAN),
    "confidence": (("_sum",), _MEAN.exp()),
    "perplexity": (("_sum",), (0.0 - _MEAN).exp()),
    "mean_surprisal": (("_sum",), 0.0 - _MEAN),
    "min_probability": (("_min",), pl.col("_min").exp()),
    "max_surprisal": (("_min",), 0.0 - pl.col("_min")),
    "low_confidence_share": (("_low",), pl.when(_SCORED).then(pl.col("_low") / pl.col("scored_tokens"))),
}

FROM_TOKENS: Final = {
    "longest_low_confidence_span": windows.longest_low_confidence_span(),
    "sliding_confidence": windows.sliding_confidence(window=WINDOW),
    "tail_confidence": windows.sliding_confidence(window=WINDOW, statistic="tail").alias("tail_confidence"),
    "min_k_probability": training_data.min_k_probability(),
}

FROM_TEXT: Final = {"zlib_ratio": training_data.zlib_ratio(_MEAN)}

_BY_TOKEN: Final[Mapping[str, Callable[[int], pl.Expr]]] = {
    "entropy": lambda _: topk_entropy.entropy(form="tail"),
    "negentropy": lambda _: topk_entropy.negentropy(),
    "varentropy": lambda _: topk_entropy.varentropy(),
    # a server may list the sampled token though it is not among the likeliest; which rows those are nobody knows here
    "entropy_lower": lambda largest: topk_bounds.entropy_lower(appended=True, rank="rank", largest_rank=largest),
    "margin": lambda largest: topk.margin(rank="rank", largest_rank=largest),
    "logprob_margin": lambda largest: topk.logprob_margin(rank="rank", largest_rank=largest),
    "missing_mass": lambda _: topk.missing_mass(),
    "token_confidence": lambda _: topk.token_confidence(),
}
BY_TOKEN: Final = tuple(_BY_TOKEN)
"""Metrics of one token; the score is their mean over tokens, named mean_<name>."""


def by_token(name: str, largest_rank: int) -> pl.Expr:
    """A metric of BY_TOKEN, where no rank is above `largest_rank`."""
    return _BY_TOKEN[name](largest_rank)


# By token, with the chosen token's own logprob beside the alternatives.
BY_CHOSEN: Final = {
    "mean_chosen_rank": chosen.chosen_rank().alias("mean_chosen_rank"),
    "greedy_share": chosen.greedy().alias("greedy_share"),
}

METRIC_NAMES: Final = (
    *FROM_TOTALS,
    *FROM_TOKENS,
    *FROM_TEXT,
    *(f"mean_{name}" for name in BY_TOKEN),
    "group_confidence",
    *BY_CHOSEN,
)

_WHOLE_VOCABULARY: Final = {
    "mink++": "min_k_probability",
    "minkplusplus": "min_k_probability",
    "selfcertainty": "mean_token_confidence",
    "renyi": "mean_entropy",
    "tsallis": "mean_entropy",
    "fisherrao": "mean_entropy",
}
"""What each name's letters hold, whatever the signs between them: Min-K%++, rényi_entropy."""

_LETTERS: Final = frozenset(string.ascii_lowercase + "+")

OF_ALTERNATIVES: Final = frozenset([*(f"mean_{name}" for name in BY_TOKEN), "group_confidence", *BY_CHOSEN])
"""The scores that read the alternatives."""


def check_metrics(names: Sequence[str]) -> None:
    """Whether all names are in the catalogue.

    Raises:
        InputError: one is not: the nearest ones, or why it cannot be computed.

    >>> check_metrics(["perplexity", "mean_entropy"])
    """
    for name in names:
        if name not in METRIC_NAMES:
            raise InputError(_unknown(name))


def _unknown(name: str) -> str:
    plain = name.strip().lower().replace("-", "_")
    letters = "".join(sign for sign in unicodedata.normalize("NFKD", plain) if sign in _LETTERS)
    for refused, instead in _WHOLE_VOCABULARY.items():
        if refused in letters:
            return (
                f"metric {name!r} needs the probabilities of the whole vocabulary, which no API gives; "
                f"{instead} is what can be had (docs/metrics.md, 'Not here, and why')"
            )
    near = [known for known in METRIC_NAMES if plain and plain in known] or difflib.get_close_matches(
        plain, METRIC_NAMES, n=3, cutoff=0.5
    )
    meant = f"did you mean {' or '.join(near[:3])}? " if near else ""
    return f"there is no metric {name!r}; {meant}There are {', '.join(METRIC_NAMES)}"
