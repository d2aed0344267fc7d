"""The named scores of a completion: one record each, from which everything else about them is derived.

`scores(metrics=[...])`, `logprobs scores --metrics` and the reference page read `SCORES`. To add a named score, add its
record; the metric itself is a function in one of the folders of `metrics`.
"""

from __future__ import annotations

import difflib
import string
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from logprob_store.errors import InputError
from logprob_store.metrics.alternatives import chosen, entropy, entropy_bounds, production_rate, topk
from logprob_store.metrics.engine import arrays
from logprob_store.metrics.engine.arrays import LOW, WINDOW
from logprob_store.metrics.tokens import sequence, training_data, windows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from logprob_store.metrics.engine.arrays import ByCompletion

    ArrayScore = Callable[[ByCompletion], pl.Series]
    MetricOfToken = Callable[[int], pl.Expr]


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """A sum over the tokens of a completion, from which several scores are computed.

    polars computes equal sums again for each expression of an `agg`. Scores that are functions of a few totals are
    therefore computed from the totals, which is three times as fast.

    Args:
        expression: over the tokens of a completion.
        array: the same over arrays.
    """

    expression: pl.Expr
    array: ArrayScore


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A named score of a completion. One of the expressions says how it is computed.

    Args:
        name: the name of its column, and in `scores(metrics=[...])`.
        metric: the public function that defines it.
        note: which value of `metric` it is, where the name does not say so.
        default: whether `scores()` has it when no metrics are named.
        totals: the names of TOTALS that it needs beside `scored_tokens`.
        from_totals: an expression over the totals.
        from_text: an expression over the totals and the completion's `text`.
        from_tokens: an expression over the tokens of a completion.
        array: the same as `from_tokens`, over arrays.
        of_token: an expression over the alternatives of one token; the score is its mean over the completion's tokens.
            The function takes the largest rank that any alternative has.
        of_chosen: like `of_token`, over the alternatives with the chosen token's own logprob beside them.
        least: whether the score is the least of its `of_token`, in place of their mean.
        windows_of: the name of an `of_token` whose windows are averaged, in place of its mean.
    """

    name: str
    metric: Callable[..., Any]
    note: str = ""
    default: bool = False
    totals: tuple[str, ...] = ()
    from_totals: pl.Expr | None = None
    from_text: pl.Expr | None = None
    from_tokens: pl.Expr | None = None
    array: ArrayScore | None = None
    of_token: MetricOfToken | None = None
    of_chosen: pl.Expr | None = None
    least: bool = False
    windows_of: str | None = None

    @property
    def reads_alternatives(self) -> bool:
        """Whether it needs the alternatives."""
        return self.of_token is not None or self.of_chosen is not None or self.windows_of is not None

    @property
    def summary(self) -> str:
        """One sentence: the first line of the metric's docstring, and the note."""
        first = (self.metric.__doc__ or "").strip().partition("\n")[0].rstrip(".")
        return f"{first}; {self.note}." if self.note else f"{first}."


TOTALS: Final[Mapping[str, Total]] = {
    "scored_tokens": Total(expression=sequence.scored_tokens(), array=arrays.scored_tokens),
    "unscored_tokens": Total(expression=sequence.unscored_tokens(), array=arrays.unscored_tokens),
    "_sum": Total(expression=pl.col("logprob").sum(), array=arrays.logprob_sum),
    "_min": Total(expression=pl.col("logprob").min(), array=arrays.lowest_logprob),
    "_content_mean": Total(
        expression=pl.col("logprob").filter(pl.col("section") == "content").mean(), array=arrays.content_mean
    ),
    "_low": Total(expression=(pl.col("logprob") < LOW).sum(), array=arrays.low_tokens),
}

_SCORED: Final = pl.col("scored_tokens") > 0
_SUM: Final = pl.when(_SCORED).then(pl.col("_sum"))
_MEAN: Final = pl.when(_SCORED).then(pl.col("_sum") / pl.col("scored_tokens"))
_LOW_SHARE: Final = pl.when(_SCORED).then(pl.col("_low") / pl.col("scored_tokens"))
_MEAN_OVER_TOKENS: Final = "mean over the tokens with at least two alternatives"

_SCORES: Final = (
    Score(name="scored_tokens", metric=sequence.scored_tokens, default=True, from_totals=pl.col("scored_tokens")),
    Score(
        name="unscored_tokens",
        metric=sequence.unscored_tokens,
        default=True,
        totals=("unscored_tokens",),
        from_totals=pl.col("unscored_tokens"),
    ),
    Score(name="logprob_sum", metric=sequence.logprob_sum, default=True, totals=("_sum",), from_totals=_SUM),
    Score(
        name="joint_probability",
        metric=sequence.joint_probability,
        default=True,
        totals=("_sum",),
        from_totals=_SUM.exp(),
    ),
    Score(name="mean_logprob", metric=sequence.mean_logprob, default=True, totals=("_sum",), from_totals=_MEAN),
    Score(name="confidence", metric=sequence.confidence, default=True, totals=("_sum",), from_totals=_MEAN.exp()),
    Score(
        name="perplexity", metric=sequence.perplexity, default=True, totals=("_sum",), from_totals=(0.0 - _MEAN).exp()
    ),
    Score(name="mean_surprisal", metric=sequence.mean_surprisal, totals=("_sum",), from_totals=0.0 - _MEAN),
    Score(
        name="min_probability",
        metric=sequence.min_probability,
        default=True,
        totals=("_min",),
        from_totals=pl.col("_min").exp(),
    ),
    Score(name="max_surprisal", metric=sequence.max_surprisal, totals=("_min",), from_totals=0.0 - pl.col("_min")),
    Score(name="low_confidence_share", metric=sequence.low_confidence_share, totals=("_low",), from_totals=_LOW_SHARE),
    Score(
        name="longest_low_confidence_span",
        metric=windows.longest_low_confidence_span,
        from_tokens=windows.longest_low_confidence_span(),
        array=arrays.longest_low_confidence_span,
    ),
    Score(
        name="sliding_confidence",
        metric=windows.sliding_confidence,
        note=f"the lowest window of {WINDOW} tokens",
        from_tokens=windows.sliding_confidence(window=WINDOW),
        array=arrays.lowest_window,
    ),
    Score(
        name="tail_confidence",
        metric=windows.sliding_confidence,
        note=f"the last window of {WINDOW} tokens",
        from_tokens=windows.sliding_confidence(window=WINDOW, statistic="tail").alias("tail_confidence"),
        array=arrays.last_window,
    ),
    Score(
        name="min_k_probability",
        metric=training_data.min_k_probability,
        from_tokens=training_data.min_k_probability(),
        array=arrays.min_k_probability,
    ),
    Score(
        name="zlib_ratio",
        metric=training_data.zlib_ratio,
        note="of the section `content`, which `text` is",
        totals=("_content_mean",),
        from_text=training_data.zlib_ratio("_content_mean"),
    ),
    Score(
        name="mean_entropy",
        metric=entropy.entropy,
        note=f"form `tail`, {_MEAN_OVER_TOKENS}",
        default=True,
        of_token=lambda _: entropy.entropy(form="tail"),
    ),
    Score(
        name="mean_negentropy",
        metric=entropy.negentropy,
        note=_MEAN_OVER_TOKENS,
        of_token=lambda _: entropy.negentropy(),
    ),
    Score(
        name="min_negentropy",
        metric=entropy.min_negentropy,
        of_token=lambda _: entropy.negentropy(),
        least=True,
    ),
    Score(
        name="mean_varentropy",
        metric=entropy.varentropy,
        note=_MEAN_OVER_TOKENS,
        of_token=lambda _: entropy.varentropy(),
    ),
    Score(
        name="mean_entropy_lower",
        metric=entropy_bounds.entropy_lower,
        note=f"{_MEAN_OVER_TOKENS}, with logprobs taken as exact",
        # A server may list the sampled token although it is not among the likeliest; these rows do not show it.
        of_token=lambda largest: entropy_bounds.entropy_lower(appended=True, rank="rank", largest_rank=largest),
    ),
    Score(
        name="epr",
        metric=production_rate.epr,
        note=f"the {production_rate.LARGEST_K} likeliest, mean over the tokens with an alternative",
        of_token=production_rate.production_of_token,
    ),
    Score(
        name="mean_margin",
        metric=topk.margin,
        note=_MEAN_OVER_TOKENS,
        default=True,
        of_token=lambda largest: topk.margin(rank="rank", largest_rank=largest),
    ),
    Score(
        name="mean_logprob_margin",
        metric=topk.logprob_margin,
        note=_MEAN_OVER_TOKENS,
        of_token=lambda largest: topk.logprob_margin(rank="rank", largest_rank=largest),
    ),
    Score(
        name="mean_missing_mass",
        metric=topk.missing_mass,
        note=_MEAN_OVER_TOKENS,
        default=True,
        of_token=lambda _: topk.missing_mass(),
    ),
    Score(
        name="mean_token_confidence",
        metric=topk.token_confidence,
        note=_MEAN_OVER_TOKENS,
        of_token=lambda _: topk.token_confidence(),
    ),
    Score(
        name="group_confidence",
        metric=windows.group_confidence,
        note=f"the lowest window of {WINDOW} tokens",
        windows_of="mean_token_confidence",
    ),
    Score(
        name="mean_chosen_rank",
        metric=chosen.chosen_rank,
        note="mean over tokens",
        of_chosen=chosen.chosen_rank().alias("mean_chosen_rank"),
    ),
    Score(
        name="greedy_share",
        metric=chosen.greedy,
        note="share of tokens",
        of_chosen=chosen.greedy().alias("greedy_share"),
    ),
)

SCORES: Final[Mapping[str, Score]] = {score.name: score for score in _SCORES}
"""The named scores, in the order in which they are listed."""

DEFAULT_METRICS: Final = tuple(score.name for score in _SCORES if score.default)
"""The scores of `scores()` when none are named."""

ARRAYS: Final[Mapping[str, ArrayScore]] = {name: total.array for name, total in TOTALS.items()} | {
    score.name: score.array for score in _SCORES if score.array is not None
}
"""The functions over arrays, by the name of their total or score."""

_WHOLE_VOCABULARY: Final = {
    "mink++": "min_k_probability",
    "minkplusplus": "min_k_probability",
    "selfcertainty": "mean_token_confidence",
    "renyi": "mean_entropy",
    "tsallis": "mean_entropy",
    "fisherrao": "mean_entropy",
}
"""Metrics that need the whole vocabulary, by the letters of their names (Min-K%++: mink++), and what replaces each."""

_LETTERS: Final = frozenset(string.ascii_lowercase + "+")


def check_metrics(names: Sequence[str]) -> None:
    """Check that all names are in the catalogue.

    Raises:
        InputError: one is not; the error names the nearest ones, or says why it cannot be computed.

    >>> check_metrics(["perplexity", "mean_entropy"])
    """
    for name in names:
        if name not in SCORES:
            raise InputError(_unknown(name))


def _unknown(name: str) -> str:
    plain = name.strip().lower().replace("-", "_")
    letters = "".join(sign for sign in unicodedata.normalize("NFKD", plain) if sign in _LETTERS)
    for refused, instead in _WHOLE_VOCABULARY.items():
        if refused in letters:
            return (
                f"metric {name!r} needs the probabilities of the whole vocabulary, which no API gives; "
                f"{instead} is what can be had (docs/metrics/README.md, 'Not here, and why')"
            )
    near = [known for known in SCORES if plain and plain in known] or difflib.get_close_matches(
        plain, SCORES, n=3, cutoff=0.5
    )
    meant = f"did you mean {' or '.join(near[:3])}? " if near else ""
    return f"there is no metric {name!r}; {meant}The metrics are {', '.join(SCORES)}"
