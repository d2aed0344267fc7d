"""Pairs of answers from two runs of the same prompts: which differ, from which token on, and by how much.

Answers are paired by prompt_id, sample_index and choice_index. Tokens are compared up to and including the first
difference; after it the two models were given different texts. All functions work on one batch of pairs in memory.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.metrics.alternatives.divergence import js_divergence, kl_divergence
from logprob_store.metrics.arguments import Column, as_column, generated
from logprob_store.metrics.tokens import sequence
from logprob_store.metrics.tokens.windows import written_order
from logprob_store.token_bytes import token_bytes

if TYPE_CHECKING:
    from logprob_store.metrics.engine.part_batches import Tables

PAIR_KEYS: Final = ("prompt_id", "sample_index", "choice_index")
_SCORES: Final = (
    sequence.scored_tokens(),
    sequence.unscored_tokens(),
    sequence.logprob_sum(),
    sequence.mean_logprob(),
    sequence.confidence(),
    sequence.perplexity(),
)
_COUNTS: Final = ("scored_tokens", "unscored_tokens")
_DIFFERENCES: Final = ("mean_logprob", "confidence", "perplexity")
_PLACES_PER_PAIR: Final = 2**36
"""Above every value of `written_order`, so that pair * 2**36 + written_order identifies a place."""


def paired_answers(a: Tables, b: Tables) -> pl.LazyFrame:
    """One row per answer of either run, beside its partner in the other run.

    Columns: prompt_id, sample_index, choice_index; completion_id_a, completion_id_b, null where that run has no such
    answer. Nulls match each other.
    """
    sides = [
        completions.select(*PAIR_KEYS, pl.col("completion_id").alias(f"completion_id_{name}"))
        for (_, _, completions), name in ((a, "a"), (b, "b"))
    ]
    return sides[0].join(sides[1], on=list(PAIR_KEYS), how="full", coalesce=True, nulls_equal=True)


def compared_positions(a: Tables, b: Tables, pairs: pl.DataFrame) -> pl.DataFrame:
    """One row per place up to the first difference, for the pairs with two answers.

    Columns: `pair`, the number of the pair in `pairs`, those of `Comparison.positions`, and `shown`, whether a side has
    alternatives.
    """
    matched = pairs.drop_nulls(["completion_id_a", "completion_id_b"])
    tokens = _paired_tokens(a, b, matched)
    ends = tokens.filter(~pl.col("same_token")).group_by("pair").agg(pl.col("place").min().alias("end"))
    within = (pl.col("place") <= pl.col("end")).fill_null(value=True)
    # Sorted, so that means are the same to the last digit whatever the order of rows.
    shared = tokens.join(ends, on="pair", how="left").filter(within).drop("end").sort("place")
    divergences = _divergences(a, b, matched.join(ends, on="pair", how="left"))
    p = {name: pl.col(f"logprob_{name}").exp() for name in "ab"}
    return (
        matched.select("pair", *PAIR_KEYS, "completion_id_a")
        .join(shared, on="pair", maintain_order="right")
        .join(divergences, on="place", how="left", maintain_order="left")
        .with_columns(pl.col("shown").fill_null(value=False), delta_p=pl.when("same_token").then(p["b"] - p["a"]))
        .drop("place")
    )


def compared_prompts(
    a: Tables, b: Tables, pairs: pl.DataFrame, positions: pl.DataFrame, *, answer: Column = "text"
) -> pl.DataFrame:
    """One row per pair, with flips, differences of scores and means over its places.

    Columns: `pair`, the number of the pair in `pairs`, and those of `Comparison.prompts`.
    """
    by_pair = positions.group_by("pair", maintain_order=True).agg(
        _at_difference("position").alias("first_difference"),
        _at_difference("section").alias("difference_section"),
        pl.col("same_token").sum().alias("common_tokens"),
        pl.col("shown").sum().alias("shown_places"),
        pl.col("js").count().alias("compared_places"),
        pl.col("kl").mean().alias("mean_kl"),
        pl.col("js").mean().alias("mean_js"),
        pl.col("js").max().alias("max_js"),
        pl.col("same_top").mean().alias("same_top_rate"),
        pl.col("delta_p").count().alias("compared_tokens"),
        pl.col("delta_p").pow(2).mean().sqrt().alias("rms_delta_p"),
        pl.col("delta_p").abs().max().alias("max_abs_delta_p"),
    )
    table = pairs
    for tables, name in ((a, "a"), (b, "b")):
        table = table.join(_answers_of_side(tables, pairs, name, answer), on="pair", how="left", maintain_order="left")
    names = {name: [f"{column}_{name}" for column in ("run", "completion_id", "answer")] for name in "ab"}
    scored = [f"{score.meta.output_name()}_{name}" for name in "ab" for score in _SCORES]
    fully_scored = (pl.col("unscored_tokens_a") == 0) & (pl.col("unscored_tokens_b") == 0)
    deltas = {name: pl.col(f"{name}_b") - pl.col(f"{name}_a") for name in ("logprob_sum", *_DIFFERENCES)}
    deltas["logprob_sum"] = pl.when(fully_scored).then(deltas["logprob_sum"])
    return (
        table.select("pair", *PAIR_KEYS, *names["a"], *names["b"], _flip(), _copied(), _first_different_byte(), *scored)
        .with_columns(**{f"delta_{name}": delta for name, delta in deltas.items()})
        .join(by_pair, on="pair", how="left", maintain_order="left")
    )


def _answers_of_side(tables: Tables, pairs: pl.DataFrame, name: str, answer: Column) -> pl.DataFrame:
    """One row per pair: run, answer and scores of the answer of side `name`."""
    tokens, _, completions = tables
    has_source = "source" in completions.collect_schema()
    source = pl.col("source").cast(pl.String) if has_source else pl.lit(None, pl.String)
    named = completions.select("completion_id", "run", as_column(answer).alias("answer"), source.alias("source"))
    scored = _rows_of_pairs(tokens.filter(generated()), pairs, name).group_by("pair").agg(_SCORES)
    answers, scores = pl.collect_all([_rows_of_pairs(named, pairs, name), scored], engine="streaming")
    return (
        answers.drop("completion_id")
        .join(scores, on="pair", how="left")
        .with_columns(pl.col(_COUNTS).fill_null(0))
        .rename(lambda column: column if column == "pair" else f"{column}_{name}")
    )


def _flip() -> pl.Expr:
    """Whether the answers differ; null where one is missing."""
    both = pl.col("completion_id_a").is_not_null() & pl.col("completion_id_b").is_not_null()
    return pl.when(both).then(pl.col("answer_a").ne_missing(pl.col("answer_b"))).alias("flip")


def _copied() -> pl.Expr:
    """Whether run b took its answer from the cache and asked nothing; null where one is missing, or nobody knows."""
    both = pl.col("completion_id_a").is_not_null() & pl.col("completion_id_b").is_not_null()
    return pl.when(both).then(pl.col("source_b") == "cache").alias("copied")


def _at_difference(column: str) -> pl.Expr:
    """The value of the column at the first difference, which is the last place of a pair, if there is one."""
    return pl.col(column).filter(~pl.col("same_token")).first()


def _first_different_byte() -> pl.Expr:
    texts = pl.struct(pl.col("answer_a", "answer_b").cast(pl.String))
    return texts.map_batches(_different_bytes, return_dtype=pl.Int64, is_elementwise=True).alias("first_different_byte")


def _different_bytes(pairs: pl.Series) -> pl.Series:
    places = [_first_difference(*pair.values()) for pair in pairs]
    return pl.Series(pairs.name, places, dtype=pl.Int64)


def _first_difference(first: str | None, second: str | None) -> int | None:
    """The index of the first byte that differs; None where the texts are equal, or one is missing."""
    if first is None or second is None or first == second:
        return None
    a, b = first.encode(), second.encode()
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle - 1)
    return low


def _rows_of_pairs(rows: pl.LazyFrame, pairs: pl.DataFrame, name: str) -> pl.LazyFrame:
    """The rows of the answers of side `name`, with `pair` and any further columns of `pairs`."""
    own, other = f"completion_id_{name}", f"completion_id_{'b' if name == 'a' else 'a'}"
    ids = pairs.drop(*PAIR_KEYS, other).rename({own: "completion_id"}).drop_nulls("completion_id")
    if not ids.height:
        return rows.clear().join(ids.lazy(), on="completion_id")
    # Parquet files can be skipped by a range of ids, not by a join.
    in_range = pl.col("completion_id").is_between(ids["completion_id"].min(), ids["completion_id"].max())
    return rows.filter(in_range).join(ids.lazy(), on="completion_id")


def _rows_with_place(rows: pl.LazyFrame, pairs: pl.DataFrame, name: str) -> pl.LazyFrame:
    """The generated rows of the answers of side `name`, with the numbers `pair` and `place`."""
    return _rows_of_pairs(rows.filter(generated()), pairs, name).with_columns(
        place=pl.col("pair") * _PLACES_PER_PAIR + written_order()
    )


def _paired_tokens(a: Tables, b: Tables, matched: pl.DataFrame) -> pl.DataFrame:
    """One row per place with the tokens of both sides, null where a side has ended, and `same_token`."""
    columns = ("section", "position", "token", "bytes", "logprob")
    queries = [
        _rows_with_place(tables[0], matched, name).select("place", pl.col(columns).name.suffix(f"_{name}"))
        for tables, name in ((a, "a"), (b, "b"))
    ]
    first, second = pl.collect_all(queries, engine="streaming")
    in_both = pl.col("section_a").is_not_null() & pl.col("section_b").is_not_null()
    # bytes where both have them: the strings of tokens that split a character lie
    alike = (pl.col("bytes_a") == pl.col("bytes_b")).fill_null(pl.col("token_a").eq_missing(pl.col("token_b")))
    return first.join(second, on="place", how="full", coalesce=True).select(
        (pl.col("place") // _PLACES_PER_PAIR).alias("pair"),
        "place",
        *(pl.coalesce(f"{name}_a", f"{name}_b").alias(name) for name in ("section", "position")),
        *("token_a", "token_b", "logprob_a", "logprob_b"),
        same_token=in_both & alike,
    )


def _divergences(a: Tables, b: Tables, ends: pl.DataFrame) -> pl.DataFrame:
    """One row per place with alternatives up to the `end` of its pair (null: all): kl, js, same_top, shown."""
    shown = _paired_alternatives(a, b, ends)
    expressions = [kl_divergence().alias("kl"), js_divergence().alias("js")]
    divergences = shown.lazy().group_by("place").agg(expressions).collect(engine="streaming")
    # Sorted only now: on a column flagged as sorted, the group_by above takes ten times as long.
    tops = _same_top(shown.sort("place")).with_columns(shown=pl.lit(value=True))
    return divergences.join(tops, on="place", how="left")


def _paired_alternatives(a: Tables, b: Tables, ends: pl.DataFrame) -> pl.DataFrame:
    """One row per place and token that either side showed: place, key, logprob_a, logprob_b."""
    columns = {"place": pl.Int64, "key": pl.UInt64, "logprob_a": pl.Float64, "logprob_b": pl.Float64}
    shown = [pl.LazyFrame(schema=columns)]
    for (_, alternatives, _), name, other in ((a, "a", "b"), (b, "b", "a")):
        if alternatives is None:
            continue
        rows = _rows_with_place(alternatives.filter(pl.col("logprob").is_not_null()), ends, name)
        within = (pl.col("place") <= pl.col("end")).fill_null(value=True)
        # Bytes, which tell tokens apart that are shown alike, where the server sends them; as 64 bits, for the rows of
        # two runs are many, and of the few tokens of one place no two share them.
        key = token_bytes().hash().alias("key")
        none = pl.lit(None, pl.Float64).alias(f"logprob_{other}")
        shown.append(
            rows.filter(within).with_columns(key, none, pl.col("logprob").alias(f"logprob_{name}")).select(*columns)
        )
    # A union and a group_by instead of a join: they stream, and tokens with equal bytes are added up.
    together = pl.concat(shown).group_by("place", "key").agg(_log_of_sum("logprob_a"), _log_of_sum("logprob_b"))
    return together.collect(engine="streaming")


def _log_of_sum(column: str) -> pl.Expr:
    """The ln of the sum of the probabilities; null without a value."""
    logprob = pl.col(column)
    # A group nearly always has one row: its logprob is kept as it is, because exp and log would lose digits.
    several = logprob.exp().sum().log()
    return pl.when(logprob.count() > 1).then(several).otherwise(logprob.max()).alias(column)


def _same_top(shown: pl.DataFrame) -> pl.DataFrame:
    """One row per place: whether one token is likeliest on both sides; null where a side showed nothing.

    Args:
        shown: rows of `_paired_alternatives`, sorted by place.
    """
    import numpy as np

    # In numpy, because an expression that compares with the maximum of its group takes eight times as long.
    begins = pl.arg_where(shown["place"].rle_id().diff().fill_null(1) != 0, eager=True).to_numpy()  # uint32[places]
    if not begins.size:
        return shown.select("place", same_top=pl.lit(None, pl.Boolean))
    sizes = np.diff(begins, append=shown.height)
    both = np.ones(shown.height, dtype=bool)
    empty = np.zeros(len(begins), dtype=bool)
    for name in "ab":
        logprobs = shown[f"logprob_{name}"].fill_null(-math.inf).to_numpy()
        largest = np.maximum.reduceat(logprobs, begins)
        both &= logprobs == np.repeat(largest, sizes)
        empty |= largest == -math.inf
    same_top = pl.Series("same_top", np.logical_or.reduceat(both, begins))
    return shown[begins].select("place", same_top=pl.when(~pl.Series(empty)).then(same_top))
