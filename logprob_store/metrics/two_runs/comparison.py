"""What is said of two runs together: a summary with paired intervals, and a verdict for an alarm.

Leaves out pairing answers and tokens (`comparing`), the bootstrap (`bootstrap`) and which runs to take (the store).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.errors import InputError
from logprob_store.metrics.given.texts import corpus_perplexity
from logprob_store.metrics.truth.bootstrap import bootstrap
from logprob_store.metrics.two_runs.pair_batches import PairedRuns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from logprob_store.metrics.arguments import Column
    from logprob_store.metrics.engine.part_batches import Tables

_QUANTILES: Final = {"median": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
_ORDER: Final = ("prompt_id", "sample_index", "choice_index", "completion_id_a", "completion_id_b")
_PAIRED: Final = pl.col("completion_id_a").is_not_null() & pl.col("completion_id_b").is_not_null()


@dataclass(frozen=True)
class Verdict:
    """Whether two runs are alike enough: a line for a person, and what was beyond its limit, by name."""

    line: str
    exceeded: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing was beyond its limit."""
        return not self.exceeded


@dataclass(frozen=True)
class ComparisonSummary:
    """Counts of answers, and a table with one row per statistic: metric, estimate, low, high, resamples.

    `metrics` holds, with paired bootstrap intervals: flip_rate; mean_delta_logprob_sum (nats an answer),
    mean_delta_confidence; perplexity_a, perplexity_b (of all tokens together), delta_perplexity, and
    perplexity_increase, b / a - 1; lower_confidence_share, of answers whose confidence fell; same_top_rate, mean_kl,
    mean_js, by place; rms_delta_p, by token; and without an interval abs_delta_p_median, _p90, _p99 and _max.
    """

    run_a: str
    run_b: str
    pairs: int
    only_a: int
    only_b: int
    metrics: pl.DataFrame

    def estimate(self, metric: str) -> float | None:
        """The number of one metric; None where there was nothing to compute it from."""
        value: float | None = self.metrics.filter(pl.col("metric") == metric)["estimate"].item()
        return value

    def verdict(
        self,
        *,
        max_flip_rate: float | None = 0.02,
        max_perplexity_increase: float | None = 0.05,
        max_js: float | None = None,
    ) -> Verdict:
        """Whether the estimates are within limits; one that is exactly at its limit is.

        Args:
            max_flip_rate: share of answers that may differ.
            max_perplexity_increase: by what share of itself the perplexity of all tokens may rise.
            max_js: mean Jensen-Shannon divergence by place, nats.
        """
        limits = {
            "flip_rate": (max_flip_rate, "{:.2%} of answers differ"),
            "perplexity_increase": (max_perplexity_increase, "perplexity {:+.2%}"),
            "mean_js": (max_js, "mean JS {:.4f}"),
        }
        exceeded, said = [], []
        for metric, (limit, words) in limits.items():
            value = self.estimate(metric)
            if value is None:
                continue
            beyond = limit is not None and value > limit
            exceeded += [metric] if beyond else []
            shown = "" if limit is None else f" ({'above ' if beyond else ''}limit {limit:g})"
            said.append(words.format(value) + shown)
        alone = f"; {self.only_a} only in {self.run_a}, {self.only_b} only in {self.run_b}"
        line = (
            f"{'CHANGED' if exceeded else 'ok'}: {self.run_b} against {self.run_a}, {self.pairs} pairs: "
            f"{', '.join(said)}{alone if self.only_a or self.only_b else ''}"
        )
        return Verdict(line, tuple(exceeded))


@dataclass(frozen=True)
class Comparison:
    """Two runs beside each other: `prompts`, one row per pair of answers; `positions`, one per compared token.

    Both are lazy; what they hold, `docs/comparing.md` says. Each collects anew, some pairs at a time.
    """

    prompts: pl.LazyFrame
    positions: pl.LazyFrame
    _compared: Callable[[], Iterable[tuple[pl.DataFrame, pl.DataFrame]]]

    def collect(self) -> Comparison:
        """The same with `prompts` in memory, so that what is asked of them, and `summary`, need no comparing again."""
        prompts, changes = self._kept(pl.all())
        return Comparison(prompts.lazy(), self.positions, lambda: [(prompts, changes)])

    def _kept(self, columns: pl.Expr) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Some columns of `prompts`, and the absolute delta_p of all positions: what a summary is made of."""
        kept = [
            (prompts.select(columns), positions.select(pl.col("delta_p").abs().drop_nulls()))
            for prompts, positions in self._compared()
        ]
        prompts, changes = (pl.concat(frames) for frames in zip(*kept, strict=True))
        return prompts, changes

    def summary(self, *, resamples: int = 1000, level: float = 0.95, seed: int = 0) -> ComparisonSummary:
        """What changed over all pairs, with paired bootstrap intervals.

        Prompts are drawn again, with all of their samples, and both runs' numbers of a prompt go together.

        Raises:
            InputError: no answer has a partner.
        """
        prompts, kept = self._kept(pl.exclude("answer_a", "answer_b"))
        # sorted once: each quantile of what is not sorted takes a copy
        changes = kept["delta_p"].sort()
        pairs = prompts.filter(_PAIRED).sort(*_ORDER)
        if not pairs.height:
            raise InputError(
                f"the runs have no answer in common: of {prompts.height}, none has the same prompt_id, sample and "
                "choice in both. Compare runs of the same prompts."
            )
        groups = "prompt_id" if pairs["prompt_id"].n_unique() < pairs.height else None
        named = pairs.with_columns(pl.col("prompt_id").fill_null(""))
        table = bootstrap(named, _statistics(), groups=groups, resamples=resamples, level=level, seed=seed)
        rows = [
            (f"abs_delta_p_{name}", changes.quantile(share, interpolation="linear"), None, None, 0)
            for name, share in _QUANTILES.items()
        ]
        return ComparisonSummary(
            run_a=pairs["run_a"][0],
            run_b=pairs["run_b"][0],
            pairs=pairs.height,
            only_a=prompts["completion_id_b"].null_count(),
            only_b=prompts["completion_id_a"].null_count(),
            metrics=table.vstack(pl.DataFrame(rows, schema=table.schema, orient="row")),
        )


def compare(a: Tables, b: Tables, *, answer: Column = "text") -> Comparison:
    """Two runs beside each other.

    Memory: some hundred megabytes, and in a summary the numbers of each pair and 8 bytes a token, however large the
    runs are.

    Args:
        a: tokens, alternatives (or None) and completions of one run, as `store.only(run).tables()` gives them.
        b: the same of the other.
        answer: what of a completion is compared: a column by name, or an expression such as
            `ls.normalised_text("text")`.
    """
    return compare_in_batches(PairedRuns(a, b, answer))


def compare_in_batches(runs: PairedRuns) -> Comparison:
    """`compare` of runs that say how many of their rows are compared at a time."""
    return Comparison(runs.prompts(), runs.positions(), runs.compared)


def _statistics() -> list[pl.Expr]:
    col = pl.col
    perplexity = {
        # a pair with a side that has no score says nothing of the difference
        name: corpus_perplexity(
            pl.when(col("logprob_sum_a").is_not_null() & col("logprob_sum_b").is_not_null()).then(
                col(f"logprob_sum_{name}")
            ),
            tokens=f"scored_tokens_{name}",
        )
        for name in "ab"
    }
    return [
        col("flip").mean().alias("flip_rate"),
        col("delta_logprob_sum").mean().alias("mean_delta_logprob_sum"),
        col("delta_confidence").mean().alias("mean_delta_confidence"),
        (col("delta_confidence") < 0).mean().alias("lower_confidence_share"),
        perplexity["a"].alias("perplexity_a"),
        perplexity["b"].alias("perplexity_b"),
        (perplexity["b"] - perplexity["a"]).alias("delta_perplexity"),
        (perplexity["b"] / perplexity["a"] - 1).alias("perplexity_increase"),
        *(_by_place(name, "compared_places").alias(name) for name in ("same_top_rate", "mean_kl", "mean_js")),
        _by_place(col("rms_delta_p").pow(2), "compared_tokens").sqrt().alias("rms_delta_p"),
    ]


def _by_place(mean: str | pl.Expr, count: str) -> pl.Expr:
    """The mean over all places, from each pair's mean and how many it is of."""
    value = pl.col(mean) if isinstance(mean, str) else mean
    total = pl.when(value.is_not_null()).then(pl.col(count)).sum()
    return pl.when(total > 0).then((value * pl.col(count)).sum() / total)
