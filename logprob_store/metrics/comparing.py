"""Two runs of the same prompts: which answers changed, from where on, and by how much.

Holds the pairs of answers and the pairs of tokens, lazily. Leaves out what is said of all pairs together
(`comparison`), the divergences (`divergence`) and opening stores.

Answers are paired by prompt_id, sample_index and choice_index. Tokens are compared as long as all before them are the
same: what a model gives after another text is another question.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from logprob_store.metrics.columns import Column, as_column, generated
from logprob_store.metrics.divergence import js_divergence, kl_divergence
from logprob_store.metrics.scores import Tables, scores
from logprob_store.metrics.windows import written_order
from logprob_store.schema import KEYS

__all__ = ["compared_positions", "compared_prompts", "paired_answers"]

_MATCH: Final = ("prompt_id", "sample_index", "choice_index")
_SCORES: Final = ("scored_tokens", "unscored_tokens", "logprob_sum", "mean_logprob", "confidence", "perplexity")
_DIFFERENCES: Final = ("mean_logprob", "confidence", "perplexity")


def paired_answers(a: Tables, b: Tables, *, answer: Column = "text") -> pl.LazyFrame:
    """Every answer of both runs beside its partner, or alone.

    Columns: prompt_id, sample_index, choice_index; run_a, run_b; completion_id_a, completion_id_b, null where that run
    has no such answer; answer_a, answer_b, what is compared. Nulls match each other.
    """
    sides = []
    for (_, _, completions), name in ((a, "a"), (b, "b")):
        columns = {"run": pl.col("run"), "completion_id": pl.col("completion_id"), "answer": as_column(answer)}
        named = {f"{column}_{name}": expr for column, expr in columns.items()}
        sides.append(completions.select(*_MATCH, **named))
    return sides[0].join(sides[1], on=list(_MATCH), how="full", coalesce=True, nulls_equal=True)


def compared_positions(a: Tables, b: Tables, pairs: pl.LazyFrame) -> pl.LazyFrame:
    """One row per place up to the first difference, of the pairs that have two answers.

    Columns: completion_id_a; section, position; token_a, token_b, logprob_a, logprob_b, null where that answer has
    ended; same_token; delta_p, p_b - p_a of a token that both chose; kl, js and same_top (the likeliest tokens of both
    are the same; ties count), null where a side has no alternatives. The place of the first difference is in: both were
    given the same text there.
    """
    matched = pairs.drop_nulls(["completion_id_a", "completion_id_b"]).select("completion_id_a", "completion_id_b")
    tokens = _paired_tokens(a, b, matched)
    ends = tokens.filter(~pl.col("same_token")).group_by("completion_id_a").agg(pl.col("place").min().alias("_end"))
    within = (pl.col("place") <= pl.col("_end")).fill_null(value=True)
    shared = tokens.join(ends, on="completion_id_a", how="left").filter(within).drop("_end")
    shown = _paired_alternatives(a, b, matched).join(ends, on="completion_id_a", how="left").filter(within)
    divergences = shown.group_by("completion_id_a", "place").agg(
        kl_divergence().alias("kl"), js_divergence().alias("js"), _same_top().alias("same_top")
    )
    p = {name: pl.col(f"logprob_{name}").exp() for name in "ab"}
    return (
        shared.join(divergences, on=["completion_id_a", "place"], how="left")
        .with_columns(delta_p=pl.when("same_token").then(p["b"] - p["a"]))
        .drop("place")
    )


def compared_prompts(a: Tables, b: Tables, pairs: pl.LazyFrame, positions: pl.LazyFrame) -> pl.LazyFrame:
    """One row per pair: flips, differences of scores, and what its positions say.

    Columns: those of `paired_answers`; flip, whether the answers differ (null where one is missing);
    first_different_byte, of their UTF-8; first_difference, the position of the first token that differs, and
    difference_section; common_tokens before it; scores of both sides; delta_logprob_sum (null where a token of either
    is unscored), delta_mean_logprob, delta_confidence, delta_perplexity, b - a; compared_places, mean_kl, mean_js,
    max_js, same_top_rate, rms_delta_p, max_abs_delta_p.
    """
    by_pair = positions.group_by("completion_id_a").agg(
        _where_different("position").alias("first_difference"),
        _where_different("section").alias("difference_section"),
        pl.col("same_token").sum().alias("common_tokens"),
        pl.col("js").count().alias("compared_places"),
        pl.col("kl").mean().alias("mean_kl"),
        pl.col("js").mean().alias("mean_js"),
        pl.col("js").max().alias("max_js"),
        pl.col("same_top").mean().alias("same_top_rate"),
        pl.col("delta_p").count().alias("compared_tokens"),
        pl.col("delta_p").pow(2).mean().sqrt().alias("rms_delta_p"),
        pl.col("delta_p").abs().max().alias("max_abs_delta_p"),
    )
    table = pairs.with_columns(_flip(), _first_different_byte())
    for tables, name in ((a, "a"), (b, "b")):
        scored = scores(tables[0], None, tables[2], metrics=_SCORES)
        renamed = scored.select(pl.col("run", "completion_id", *_SCORES).name.suffix(f"_{name}"))
        table = table.join(renamed, on=[f"{key}_{name}" for key in KEYS], how="left")
    whole = (pl.col("unscored_tokens_a") == 0) & (pl.col("unscored_tokens_b") == 0)
    deltas = {name: pl.col(f"{name}_b") - pl.col(f"{name}_a") for name in ("logprob_sum", *_DIFFERENCES)}
    deltas["logprob_sum"] = pl.when(whole).then(deltas["logprob_sum"])
    return table.with_columns(**{f"delta_{name}": delta for name, delta in deltas.items()}).join(
        by_pair, on="completion_id_a", how="left"
    )


def _flip() -> pl.Expr:
    both = pl.col("completion_id_a").is_not_null() & pl.col("completion_id_b").is_not_null()
    return pl.when(both).then(pl.col("answer_a").ne_missing(pl.col("answer_b"))).alias("flip")


def _where_different(column: str) -> pl.Expr:
    # there is one such place at most, and it is the last
    return pl.col(column).filter(~pl.col("same_token")).first()


def _first_different_byte() -> pl.Expr:
    texts = pl.struct(pl.col("answer_a", "answer_b").cast(pl.String))
    return texts.map_batches(_different_bytes, return_dtype=pl.Int64, is_elementwise=True).alias("first_different_byte")


def _different_bytes(pairs: pl.Series) -> pl.Series:
    places = [_first_difference(*pair.values()) for pair in pairs]
    return pl.Series(pairs.name, places, dtype=pl.Int64)


def _first_difference(first: str | None, second: str | None) -> int | None:
    """Where two texts part, in bytes; None where they do not, or one is missing."""
    if first is None or second is None or first == second:
        return None
    a, b = first.encode(), second.encode()
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle - 1)
    return low


def _placed(rows: pl.LazyFrame, matched: pl.LazyFrame, side: str) -> pl.LazyFrame:
    """The rows that a model wrote in paired answers, under the first run's completion_id."""
    own = f"completion_id_{side}"
    ids = matched if side == "b" else matched.select(own)
    return rows.filter(generated()).rename({"completion_id": own}).join(ids, on=own).with_columns(place=written_order())


def _paired_tokens(a: Tables, b: Tables, matched: pl.LazyFrame) -> pl.LazyFrame:
    place = ["completion_id_a", "place"]
    columns = ("section", "position", "token", "bytes", "logprob")
    sides = [
        _placed(tables[0], matched, name).select(*place, pl.col(columns).name.suffix(f"_{name}"))
        for tables, name in ((a, "a"), (b, "b"))
    ]
    there = pl.col("section_a").is_not_null() & pl.col("section_b").is_not_null()
    # bytes where both have them: the strings of tokens that split a character lie
    alike = (pl.col("bytes_a") == pl.col("bytes_b")).fill_null(pl.col("token_a").eq_missing(pl.col("token_b")))
    return (
        sides[0]
        .join(sides[1], on=place, how="full", coalesce=True)
        .select(
            *place,
            *(pl.coalesce(f"{name}_a", f"{name}_b").alias(name) for name in ("section", "position")),
            *("token_a", "token_b", "logprob_a", "logprob_b"),
            same_token=there & alike,
        )
    )


def _paired_alternatives(a: Tables, b: Tables, matched: pl.LazyFrame) -> pl.LazyFrame:
    """One row per place and token that either side showed, with the logprob on both sides."""
    keys = {"completion_id_a": pl.Int64, "place": pl.Int64, "key": pl.UInt64}
    columns = {**keys, "logprob_a": pl.Float64, "logprob_b": pl.Float64}
    shown = [pl.LazyFrame(schema=columns)]
    for (_, alternatives, _), name, other in ((a, "a", "b"), (b, "b", "a")):
        if alternatives is None:
            continue
        rows = _placed(alternatives.filter(pl.col("logprob").is_not_null()), matched, name)
        # Bytes, which tell tokens apart that are shown alike, where the server sends them; as 64 bits, for the rows of
        # two runs are many, and of the few tokens of one place no two share them.
        key = pl.coalesce("bytes", pl.col("token").cast(pl.Binary)).hash().alias("key")
        none = pl.lit(None, pl.Float64).alias(f"logprob_{other}")
        shown.append(rows.with_columns(key, none, pl.col("logprob").alias(f"logprob_{name}")).select(*columns))
    # A union and a group, not a join: it streams, and tokens that are spelled alike come together.
    return (
        pl.concat(shown)
        .group_by("completion_id_a", "place", "key")
        .agg(_log_of_sum("logprob_a"), _log_of_sum("logprob_b"))
    )


def _log_of_sum(column: str) -> pl.Expr:
    logprob = pl.col(column)
    # of one row, which is the rule, the logprob itself: exp and log would cost digits
    several = logprob.exp().sum().log()
    return pl.when(logprob.count() > 1).then(several).otherwise(logprob.max()).alias(column)


def _same_top() -> pl.Expr:
    a, b = pl.col("logprob_a"), pl.col("logprob_b")
    return pl.when((a.count() > 0) & (b.count() > 0)).then(((a == a.max()) & (b == b.max())).any())
