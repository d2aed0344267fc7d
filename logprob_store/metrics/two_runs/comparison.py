"""The comparison of two runs as a whole: a summary with paired intervals; the words of its verdict are in `verdict`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.counted import counted
from logprob_store.errors import InputError
from logprob_store.html_tables import html_table
from logprob_store.metrics.given.texts import corpus_perplexity
from logprob_store.metrics.right_table import check_tables
from logprob_store.metrics.truth.bootstrap import bootstrap
from logprob_store.metrics.truth.shares import grouped_share_interval
from logprob_store.metrics.two_runs.answer_pairs import PAIR_KEYS
from logprob_store.metrics.two_runs.pair_batches import PairedRuns
from logprob_store.metrics.two_runs.verdict import ALARM_LEVEL, Judged, Verdict, checked_limits, power_phrase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from logprob_store.metrics.arguments import Column
    from logprob_store.metrics.engine.part_batches import Tables

_QUANTILES: Final = {"median": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
_LIMITED: Final = ("perplexity_increase", "mean_js")
"""The metrics of the bootstrap that a verdict may have a limit for."""
_ORDER: Final = (
    *("flip_rate", "mean_delta_logprob_sum", "mean_delta_confidence", "lower_confidence_share"),
    *("perplexity_a", "perplexity_b", "delta_perplexity", "perplexity_increase"),
    *("same_top_rate", "mean_kl", "mean_js", "rms_delta_p", *(f"abs_delta_p_{name}" for name in _QUANTILES)),
)
_SORT_KEYS: Final = ("prompt_id", "sample_index", "choice_index", "completion_id_a", "completion_id_b")
_NAME_TWO_RUNS: Final = (
    "Name two runs that asked the same prompts: `logprobs status STORE` lists the runs, and `prompts.id` of a job says "
    "where its ids come from"
)
_HAS_BOTH: Final = pl.col("completion_id_a").is_not_null() & pl.col("completion_id_b").is_not_null()


@dataclass(frozen=True)
class ComparisonSummary:
    """How two runs differ over all their pairs.

    `metrics` has one row per statistic: metric, estimate, low, high, resamples. Shares have exact intervals, which need
    no resamples.

    - `flip_rate`: the share of pairs whose answers differ
    - `mean_delta_logprob_sum`: the mean over pairs of b - a, nats per answer
    - `mean_delta_confidence`: the mean over pairs of b - a
    - `lower_confidence_share`: the share of pairs whose confidence fell
    - `perplexity_a`, `perplexity_b`, `delta_perplexity`: of all tokens together, and b - a
    - `perplexity_increase`: b / a - 1
    - `same_top_rate`: the share of places at which both runs have the same likeliest token
    - `mean_kl`, `mean_js`: the mean divergence over places, nats
    - `rms_delta_p`: the root mean square over tokens of the difference in probability
    - `abs_delta_p_median`, `_p90`, `_p99`, `_max`: quantiles of its absolute value, without an interval

    Attributes:
        run_a: the name of the first run.
        run_b: the name of the second run.
        prompts: the prompts with an answer that has a partner.
        prompts_only_a: the prompts of run a without one.
        prompts_only_b: the same of run b.
        pairs: the answers with a partner.
        only_a: the answers of run a without a partner.
        only_b: the answers of run b without a partner.
        copied: the answers with a partner that run b took from the cache, so that nothing was asked.
        tokens_a: the tokens of run a's answers with a partner.
        tokens_b: the same of run b.
        unscored_a: of these tokens, those without a logprob.
        unscored_b: the same of run b.
        silent_a: the answers of run a with a partner, and with tokens of which none has a logprob.
        silent_b: the same of run b.
        shown_places: the places, up to the first difference, where a run at least has alternatives.
        compared_places: of these, those where both have.
        uncompared_pairs: the pairs with such places, and none where both have.
        at_least: what the metrics that may have a limit are at least, each with 95 % confidence; None where there is
            no telling.
        metrics: the statistics, with paired intervals.
    """

    run_a: str
    run_b: str
    prompts: int
    prompts_only_a: int
    prompts_only_b: int
    pairs: int
    only_a: int
    only_b: int
    copied: int
    tokens_a: int
    tokens_b: int
    unscored_a: int
    unscored_b: int
    silent_a: int
    silent_b: int
    shown_places: int
    compared_places: int
    uncompared_pairs: int
    at_least: dict[str, float | None]
    metrics: pl.DataFrame

    def _repr_html_(self) -> str:
        """The statistics as a table, below the counts."""
        caption = (
            f"{self.run_b} against {self.run_a}: {counted(self.pairs, 'pair')}, {self.only_a} only in {self.run_a}, "
            f"{self.only_b} only in {self.run_b}"
        )
        rows = self.metrics.select("metric", "estimate", "low", "high").rows()
        return html_table(rows, header=("metric", "estimate", "low", "high"), caption=caption)

    @property
    def missing_share(self) -> float:
        """The share of run a's answers that have no partner in run b."""
        return self.only_a / (self.only_a + self.pairs)

    @property
    def missing_prompt_share(self) -> float:
        """The share of run a's prompts of which no answer has a partner in run b."""
        return self.prompts_only_a / (self.prompts_only_a + self.prompts)

    @property
    def added_share(self) -> float:
        """The share of run b's answers that have no partner in run a."""
        return self.only_b / (self.only_b + self.pairs)

    @property
    def added_prompt_share(self) -> float:
        """The share of run b's prompts of which no answer has a partner in run a."""
        return self.prompts_only_b / (self.prompts_only_b + self.prompts)

    def estimate(self, metric: str) -> float | None:
        """The estimate of one metric by name; None where it has none."""
        value: float | None = self.metrics.filter(pl.col("metric") == metric)["estimate"].item()
        return value

    def verdict(
        self,
        *,
        max_flip_rate: float | None = 0.02,
        max_perplexity_increase: float | None = 0.05,
        max_js: float | None = None,
        max_missing: float | None = 0.05,
        max_added: float | None = None,
    ) -> Verdict:
        """Whether the two runs are within limits. None, or infinity, is no limit.

        A limit is passed where the true value is above it with 95 % confidence: the exact lower bound for flips, and
        that of the bootstrap for the others. Equal to its limit is within. A metric cannot be judged where it has no
        value, or where more than `max_missing` of what it is computed of is missing. Answers that run b copied from the
        cache show no change: where more than `max_missing` of the pairs are such, or all, only a limit that the others
        pass all the same is judged.

        Args:
            max_flip_rate: the share of answers that may differ.
            max_perplexity_increase: the relative increase of the perplexity of all tokens, b / a - 1.
            max_js: the mean Jensen-Shannon divergence over places, in nats.
            max_missing: the share of run a's prompts, and of its answers, that run b may lack, of either run's tokens
                that may be without a logprob, and of places that may have alternatives in one run alone. These are
                counts, not samples.
            max_added: the share of run b's prompts, and of its answers, that run a may lack, as where rows were added.

        Raises:
            InputError: a limit is not a number.
        """
        limits = checked_limits(
            {
                "max_flip_rate": max_flip_rate,
                "max_perplexity_increase": max_perplexity_increase,
                "max_js": max_js,
                "max_missing": max_missing,
                "max_added": max_added,
            }
        )
        most_missing = limits["max_missing"]
        without_logprob = [
            f"{much} of {run} have no logprob"
            for run, unscored, tokens, silent in (
                (self.run_a, self.unscored_a, self.tokens_a, self.silent_a),
                (self.run_b, self.unscored_b, self.tokens_b, self.silent_b),
            )
            if (much := _what_is_much(most_missing, (unscored, tokens, "tokens"), (silent, self.pairs, "answers")))
        ]
        missed = self.shown_places - self.compared_places
        without_alternatives = _what_is_much(
            most_missing,
            (missed, self.shown_places, "places have alternatives in one run alone"),
            (self.uncompared_pairs, self.pairs, "answers have no place with alternatives in both runs"),
        )
        judged = (
            self._judged("flip_rate", "{} of answers differ", "{:.2%}", limits["max_flip_rate"]),
            self._judged(
                "perplexity_increase",
                "perplexity {}",
                "{:+.2%}",
                limits["max_perplexity_increase"],
                " and ".join(without_logprob),
            ),
            self._judged("mean_js", "mean JS {}", "{:.4f}", limits["max_js"], without_alternatives),
        )
        alone = (
            _counted_share("missing", self.run_a, self.missing_share, self.missing_prompt_share, most_missing),
            _counted_share("added", self.run_b, self.added_share, self.added_prompt_share, limits["max_added"]),
        )
        return self._verdict(judged, alone, power_phrase(self.prompts, limits["max_flip_rate"]), most_missing)

    def _judged(self, metric: str, words: str, number: str, limit: float | None, obstacle: str = "") -> Judged:
        return Judged(
            metric=metric,
            words=words,
            number=number,
            limit=limit,
            estimate=self.estimate(metric),
            at_least=self.at_least[metric],
            obstacle=obstacle,
        )

    def _verdict(
        self, judged: tuple[Judged, ...], alone: tuple[Judged, Judged], power: str, most_copied: float | None
    ) -> Verdict:
        """The verdict on all limits, with the power of the one on flips."""
        exceeded = tuple(one.metric for one in (*judged, *alone) if one.is_exceeded)
        # An answer that was copied can hide a change and cannot make one.
        blind = self.copied == self.pairs or (most_copied is not None and self.copied > most_copied * self.pairs)
        unjudged = [one for one in judged if blind and one.limit is not None and not one.is_exceeded]
        unknown = tuple(one.metric for one in judged if one.is_unknown or one in unjudged)
        state = "CHANGED" if exceeded else "UNKNOWN" if unknown else "ok"
        said = [self._copied_phrase(hides=bool(unjudged))] if self.copied else []
        said.append(", ".join(filter(None, (one.phrase() for one in judged))))
        if self.only_a or self.only_b:
            missing, added = alone
            said.append(
                f"{self.only_a} only in {self.run_a}, {self.only_b} only in {self.run_b}: {missing.phrase()}, "
                f"{added.phrase()}"
            )
        said += [power] if power and not unjudged else []
        line = f"{state}: {self.run_b} against {self.run_a}, {self.pairs} pairs: {'; '.join(said)}"
        return Verdict(line, exceeded, unknown)

    def _copied_phrase(self, *, hides: bool) -> str:
        """How many pairs say nothing about the model, and what to do where they hide a change."""
        were = "was" if self.copied == 1 else "were"
        said = f"{self.copied} of {counted(self.pairs, 'pair')} of {self.run_b} {were} copied from the cache"
        if not hides:
            return said
        asked = "nothing was asked" if self.copied == self.pairs else "they were not asked"
        return (
            f'{said}, so {asked} and a change of the model cannot be seen: ask anew, with mode = "refresh" under '
            "[cache] of the job"
        )


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two runs compared pair by pair, lazily. Every `collect` compares again, one batch of pairs at a time.

    `prompts` has one row per pair of answers, and one per answer without a partner:

    - `prompt_id`, `sample_index`, `choice_index`: the keys of the pair; nulls match each other
    - `run_a`, `run_b`, `completion_id_a`, `completion_id_b`: null where that run has no such answer
    - `answer_a`, `answer_b`, `flip`: what is compared, and whether it differs; null where one is missing
    - `copied`: whether run b took its answer from the cache, so that nothing was asked; null where one is missing, or
      the tables do not say
    - `first_different_byte`: the index of the first byte of the answers that differs, in UTF-8
    - `first_difference`, `difference_section`: the position and section of the first token that differs
    - `common_tokens`: the number of equal tokens before it
    - `scored_tokens_a` to `perplexity_b`: the scores of both answers
    - `delta_logprob_sum`, `delta_mean_logprob`, `delta_confidence`, `delta_perplexity`: b - a; the first is null where
      a token of either answer is unscored
    - `shown_places`: the places where a run at least has alternatives
    - `compared_places`, `mean_kl`, `mean_js`, `max_js`, `same_top_rate`: over the places where both runs have
      alternatives; nats
    - `compared_tokens`, `rms_delta_p`, `max_abs_delta_p`: over the tokens that both runs chose

    `positions` has one row per place of a pair, up to and including the first difference, at which both models were
    still given the same text:

    - `prompt_id`, `sample_index`, `choice_index`, `completion_id_a`, `section`, `position`
    - `token_a`, `token_b`, `logprob_a`, `logprob_b`: null where that answer has ended
    - `same_token`: whether both chose the same token
    - `kl`, `js`: the divergences, nats; null where a side has no alternatives
    - `same_top`: whether one token is likeliest on both sides, ties included; null as above
    - `delta_p`: p_b - p_a of a token that both chose

    Attributes:
        prompts: the rows of pairs.
        positions: the rows of places.
    """

    prompts: pl.LazyFrame
    positions: pl.LazyFrame
    _compared_batches: Callable[[], Iterable[tuple[pl.DataFrame, pl.DataFrame]]]
    _advice: str = _NAME_TWO_RUNS
    """What to do where no answer has a partner."""
    _in_memory: bool = False
    """Whether `prompts` is in memory, so that counting them compares nothing."""

    def __repr__(self) -> str:
        """What can be asked of it; it compares nothing."""
        return "<Comparison: .summary(), .prompts (a LazyFrame, one row per pair), .positions (one per place)>"

    def _repr_html_(self) -> str:
        """What can be asked of it and, of one in memory, its pairs in numbers; it compares nothing."""
        rows: list[tuple[object, ...]] = [
            (".summary()", "what changed over all pairs, with intervals"),
            (".prompts", "a LazyFrame, one row per pair of answers"),
            (".positions", "a LazyFrame, one row per place of a pair"),
        ]
        if not self._in_memory:
            return html_table([*rows, (".collect()", "the same in memory: compared once")], caption="Comparison")
        flip = pl.col("flip")
        pairs, flips, only_a, only_b, change = (
            self.prompts.select(
                flip.count().alias("pairs"),
                flip.sum().alias("flips"),
                pl.col("completion_id_b").is_null().sum().alias("only_a"),
                pl.col("completion_id_a").is_null().sum().alias("only_b"),
                pl.col("delta_confidence").mean(),
            )
            .collect()
            .row(0)
        )
        numbers = (
            ("pairs of answers", pairs),
            ("that differ", flips),
            ("only in the first run", only_a),
            ("only in the second run", only_b),
            ("mean change of confidence", change),
        )
        return html_table([*numbers, *rows], caption="Comparison")

    def collect(self) -> Comparison:
        """The comparison with `prompts` in memory, so that queries of `prompts` and `summary` compare nothing again."""
        prompts, changes = self._collected(pl.all())
        return Comparison(prompts.lazy(), self.positions, lambda: [(prompts, changes)], self._advice, _in_memory=True)

    def _collected(self, columns: pl.Expr) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The given columns of `prompts`, and the absolute `delta_p` of all positions (8 bytes each)."""
        batches = [
            (prompts.select(columns), positions.select(pl.col("delta_p").abs().drop_nulls()))
            for prompts, positions in self._compared_batches()
        ]
        prompts, changes = (pl.concat(frames) for frames in zip(*batches, strict=True))
        return prompts, changes

    def summary(self, *, resamples: int = 1000, level: float = 0.95, seed: int = 0) -> ComparisonSummary:
        """The differences over all pairs, with paired bootstrap intervals.

        Whole prompts are drawn, with all of their samples and with the numbers of both runs.

        Args:
            resamples: the number of resamples.
            level: the share of such intervals that hold the true value.
            seed: the same seed gives the same intervals.

        Raises:
            InputError: no answer has a partner.
        """
        prompts, changes_of_p = self._collected(pl.exclude("answer_a", "answer_b"))
        # Sorted once, because each quantile of an unsorted column makes a copy.
        changes = changes_of_p["delta_p"].sort()
        pairs = prompts.filter(_HAS_BOTH).sort(*_SORT_KEYS)
        if not pairs.height:
            raise InputError(f"{_nothing_in_common(prompts)}. {self._advice}")
        named = pairs.with_columns(pl.col("prompt_id").fill_null(""))
        groups = "prompt_id" if named["prompt_id"].n_unique() < pairs.height else None
        table = bootstrap(named, _statistics(), groups=groups, resamples=resamples, level=level, seed=seed)
        limited = [expression for expression in _statistics() if expression.meta.output_name() in _LIMITED]
        # An interval at 0.9 has a one-sided bound at 0.95 at each end.
        one_sided = 2 * ALARM_LEVEL - 1
        bounds = bootstrap(named, limited, groups=groups, resamples=resamples, level=one_sided, seed=seed)
        shares = _shares(named)
        rows = [(name, *grouped_share_interval(*counts, level=level), 0) for name, counts in shares.items()]
        rows += [
            (f"abs_delta_p_{name}", changes.quantile(share, interpolation="linear"), None, None, 0)
            for name, share in _QUANTILES.items()
        ]
        metrics = table.vstack(pl.DataFrame(rows, schema=table.schema, orient="row"))
        counts = named.select(
            *(
                pl.sum_horizontal(f"scored_tokens_{name}", f"unscored_tokens_{name}").sum().alias(f"tokens_{name}")
                for name in "ab"
            ),
            *(pl.col(f"unscored_tokens_{name}").sum().alias(f"unscored_{name}") for name in "ab"),
            *(
                ((pl.col(f"scored_tokens_{name}") == 0) & (pl.col(f"unscored_tokens_{name}") > 0))
                .sum()
                .alias(f"silent_{name}")
                for name in "ab"
            ),
            pl.col("shown_places", "compared_places").sum(),
            uncompared_pairs=((pl.col("shown_places") > 0) & (pl.col("compared_places") == 0)).sum(),
        )
        return ComparisonSummary(
            run_a=pairs["run_a"][0],
            run_b=pairs["run_b"][0],
            prompts=named["prompt_id"].n_unique(),
            **_prompts_alone(prompts, pairs),
            pairs=pairs.height,
            only_a=prompts["completion_id_b"].null_count(),
            only_b=prompts["completion_id_a"].null_count(),
            copied=int(prompts["copied"].sum()),
            **counts.row(0, named=True),
            at_least={
                "flip_rate": grouped_share_interval(*shares["flip_rate"], level=one_sided).low,
                **dict(bounds.select("metric", "low").iter_rows()),
            },
            metrics=metrics.sort(pl.col("metric").replace_strict(_ORDER, range(len(_ORDER)), return_dtype=pl.Int64)),
        )


def compare(a: Tables, b: Tables, *, answer: Column = "text") -> Comparison:
    """Compare two runs of the same prompts: which answers changed, and by how much the probabilities moved.

    Answers are paired by prompt_id, sample_index and choice_index. docs/comparing.md is a worked example.

    Needs: the tokens, alternatives and completions of two runs. Without alternatives, what is computed of them is null.
    Nulls: tokens without a logprob are left out of the scores, as by each metric; the columns say where they are null.
    Source: delta_p and same_top, llama.cpp's `perplexity --kl-divergence`; kl and js, see `kl_divergence` and
    `js_divergence`; intervals, Efron 1979.
    Memory: some hundred megabytes and one row per pair; a summary also needs the numbers of each pair and 8 bytes per
    token.

    Args:
        a: tokens, alternatives (or None) and completions of one run, as `store.only(run).tables()` gives them.
        b: the same of the other run.
        answer: the column or expression of completions that is compared, such as `ls.normalised_text("text")`.

    Both runs say "Paris", with probability 1/2 on Monday and 1/4 on Tuesday: no flip, and the perplexity rises from 2
    to 4.

    >>> from math import log
    >>> def tables(run, word, p):
    ...     keys = {"run": run, "completion_id": [0]}
    ...     token = {"section": "content", "position": 0, "token": word, "bytes": None, "logprob": log(p)}
    ...     answer = {"prompt_id": "FR", "sample_index": 0, "choice_index": 0, "text": word}
    ...     return pl.LazyFrame(keys | token), None, pl.LazyFrame(keys | answer)
    >>> comparison = compare(tables("monday", "Paris", 1 / 2), tables("tuesday", "Paris", 1 / 4))
    >>> comparison.prompts.select("flip", pl.col("delta_confidence", "rms_delta_p").round(6)).collect().rows()
    [(False, -0.25, 0.25)]
    >>> comparison.summary(resamples=10).verdict().exceeded
    ('perplexity_increase',)
    """
    for tables in (a, b):
        check_tables(tables, "compare", ("completion_id", *PAIR_KEYS))
    return compare_in_batches(PairedRuns(a, b, answer))


def compare_in_batches(runs: PairedRuns) -> Comparison:
    """`compare`, with the size of the batches given by `runs`."""
    return Comparison(runs.prompts(), runs.positions(), runs.compared_batches)


def _counted_share(name: str, run: str, of_answers: float, of_prompts: float, limit: float | None) -> Judged:
    """What one run has alone, with its limit: the larger share, as either may be lost without the other."""
    what, share = ("prompts", of_prompts) if of_prompts > of_answers else ("answers", of_answers)
    words = f"{{}} of the {what} of {run} {name}"
    return Judged(metric=f"{name}_share", words=words, number="{:.2%}", limit=limit, estimate=share, at_least=share)


def _prompts_alone(prompts: pl.DataFrame, pairs: pl.DataFrame) -> dict[str, int]:
    """By run, how many of its prompts have no answer with a partner."""
    shared = pairs["prompt_id"].n_unique()
    of_run = {side: prompts.filter(pl.col(f"completion_id_{side}").is_not_null())["prompt_id"] for side in "ab"}
    return {f"prompts_only_{side}": ids.n_unique() - shared for side, ids in of_run.items()}


def _nothing_in_common(prompts: pl.DataFrame) -> str:
    """What to say where no answer has a partner: what each run has."""
    sides = []
    for side in "ab":
        alone = prompts.filter(pl.col(f"completion_id_{side}").is_not_null())
        run, known = alone[f"run_{side}"].first(), alone["prompt_id"].drop_nulls()
        such = f" (one is to prompt {known[0]!r})" if len(known) else ""
        sides.append(f"run {run!r} has {counted(alone.height, 'answer')}{such}" if alone.height else "the other none")
    return (
        f"the runs have no answer in common: {' and '.join(sides)}; none has the same prompt_id, sample and choice in "
        "both"
    )


def _what_is_much(limit: float | None, *missing: tuple[int, int, str]) -> str:
    """The first of `missing` (how many, of how many, of what) of which more than the limit is; empty for none."""
    much = (f"{count} of {of} {what}" for count, of, what in missing if limit is not None and count > limit * of)
    return next(much, "")


def _shares(pairs: pl.DataFrame) -> dict[str, tuple[pl.Series, pl.Series]]:
    """By metric that is a share: how many of how many, one value per prompt."""
    fell = pl.col("delta_confidence") < 0
    places = pl.when(pl.col("same_top_rate").is_not_null()).then("compared_places")
    counts = {
        "flip_rate": (pl.col("flip").sum(), pl.len()),
        "lower_confidence_share": (fell.sum(), fell.count()),
        "same_top_rate": ((pl.col("same_top_rate") * places).round().sum(), places.sum()),
    }
    named = {f"{name} {part}": pair[part] for name, pair in counts.items() for part in (0, 1)}
    by_prompt = pairs.group_by("prompt_id", maintain_order=True).agg(**named)
    return {name: (by_prompt[f"{name} 0"], by_prompt[f"{name} 1"]) for name in counts}


def _statistics() -> list[pl.Expr]:
    """The metrics of a summary with bootstrap intervals, over rows of `Comparison.prompts` with both answers."""
    col = pl.col
    perplexity = {
        # Only pairs that are scored on both sides, so that both perplexities are of the same answers.
        name: corpus_perplexity(
            pl.when(col("logprob_sum_a").is_not_null() & col("logprob_sum_b").is_not_null()).then(
                col(f"logprob_sum_{name}")
            ),
            tokens=f"scored_tokens_{name}",
        )
        for name in "ab"
    }
    return [
        col("delta_logprob_sum").mean().alias("mean_delta_logprob_sum"),
        col("delta_confidence").mean().alias("mean_delta_confidence"),
        perplexity["a"].alias("perplexity_a"),
        perplexity["b"].alias("perplexity_b"),
        (perplexity["b"] - perplexity["a"]).alias("delta_perplexity"),
        (perplexity["b"] / perplexity["a"] - 1).alias("perplexity_increase"),
        *(_mean_over_places(name, "compared_places").alias(name) for name in ("mean_kl", "mean_js")),
        _mean_over_places(col("rms_delta_p").pow(2), "compared_tokens").sqrt().alias("rms_delta_p"),
    ]


def _mean_over_places(mean: str | pl.Expr, count: str) -> pl.Expr:
    """The mean over all places, from the mean of each pair and its number of places."""
    value = pl.col(mean) if isinstance(mean, str) else mean
    total = pl.when(value.is_not_null()).then(pl.col(count)).sum()
    return pl.when(total > 0).then((value * pl.col(count)).sum() / total)
