r"""Surprisal of the words, sentences and lines of answers, aligned by bytes.

Leaves out where tokens stand (`spelled`) and the values of JSON (`fields`).
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import polars as pl

from logprob_store.metrics.engine.lazy_source import scan_in_batches
from logprob_store.metrics.spans.token_offsets import SCORES, Spelled, scores_of, spell
from logprob_store.schema import KEYS

__all__ = ["Unit", "span_surprisal"]

Unit: TypeAlias = Literal["word", "sentence", "line"]

_SPAN: Final = pl.Schema(
    {"span_index": pl.UInt32(), "span": pl.String(), "begin_byte": pl.Int64(), "end_byte": pl.Int64()}
)
_MORE: Final = pl.Schema({"straddling_tokens": pl.UInt32(), "surprisal": pl.Float64()})
_PLACEHOLDER: Final = "\x1a"

_PIECES: Final = {
    # A word, or what is between two.
    "word": r"\w+(?:['\u2019.\-]\w+)*|\W+",
    # As little as can be, up to an end with all that closes it and the white space behind, or to a line's end.
    "sentence": r"(?s).+?(?:[.!?…।؟]+[\"'”’»)\]*_]*(?:\s+|\z)|[。！？]+[」』”’）]*\s*|\s*\n\s*|\z)",  # noqa: RUF001  their own signs
    "line": r"[^\n\r]*(?:\r\n|\n|\r)|[^\n\r]+",
}
"""Every byte of a text is in one piece, so that the pieces' lengths say where they stand."""

_IS_SPAN: Final = {"word": r"^\w", "sentence": r"\S", "line": r"\S"}


def span_surprisal(tokens: pl.LazyFrame, unit: Unit = "word") -> pl.LazyFrame:
    """One row per word, sentence or line of each answer: the scores of the tokens that begin in it.

    Columns: run, completion_id, section; span_index, from 0; span, its text; begin_byte and end_byte, in the section's
    text; first_position and last_position, of its tokens; surprisal, -sum l, nats, [0, inf), down is surer;
    scored_tokens, unscored_tokens, logprob_sum, joint_probability, mean_logprob, confidence, perplexity,
    min_probability, each as the metric of that name over these tokens; straddling_tokens, those that are also in the
    span before or behind.

    A word is a run of Unicode letters, digits, marks and underscores, with single apostrophes, hyphens and dots inside
    ("don't", "3.14", "e-mail"); in scripts without spaces, the whole run. A sentence ends behind . ! ? or … (and what
    closes brackets and quotes) where white space follows, behind their full-width forms in any case, and where a line
    ends; an abbreviation ends one, too. A line ends at its line break. Blank ones are left out.

    Which tokens: each counts once, for the first span that it has a byte of; " Paris." is the word's, space and dot
    included. Tokens between two words count for none. Those between two sentences or lines (white space) count for the
    one before, so that sentences, or lines, add up to the answer (but for tokens without bytes, as an end-of-text
    token). A token with bytes of several spans is `straddling` in each; a span without a token of its own has null
    scores.

    Needs: the tokens table, with bytes (or strings). Prompt tokens are left out, and sections with a token of unknown
    text. Nulls are left out, and counted; a span without a scored token has null scores. Source: surprisal of
    words as sums over tokens, Hale 2001; Smith and Levy 2013.

    >>> from math import log
    >>> rows = {"token": ["Par", "is", " or", " Rome", "?"], "logprob": [log(1 / 2), log(1 / 4), -1.0, -2.0, -0.5]}
    >>> tokens = pl.LazyFrame({"position": [0, 1, 2, 3, 4], **rows}).with_columns(
    ...     run=pl.lit("r"), completion_id=pl.lit(0), section=pl.lit("content"), bytes=pl.lit(None, pl.Binary)
    ... )
    >>> span_surprisal(tokens).select("span", pl.col("joint_probability").round(6)).collect().rows()
    [('Paris', 0.125), ('or', 0.367879), ('Rome', 0.135335)]
    >>> span_surprisal(tokens, "sentence").select("span", "scored_tokens").collect().rows()
    [('Paris or Rome?', 5)]

    Raises:
        ValueError: there is no such unit.
    """
    if unit not in get_args(Unit):
        raise ValueError(f"unit {unit!r} is none of {', '.join(get_args(Unit))}")
    written = tokens.filter(pl.col("section").cast(pl.String) != "prompt")
    kinds = tokens.collect_schema()
    where = {name: kinds[name] for name in (*KEYS, "section")}
    schema = pl.Schema({**where, **_SPAN, **SCORES, **_MORE})

    def compute(part: pl.LazyFrame, _condition: pl.Expr) -> pl.DataFrame:
        spelled = spell(part)
        spans = _spans(spelled, unit)
        return _scored(spans, spelled, gaps=unit != "word").select(*schema)

    return scan_in_batches(written, compute, schema, explain_name="span_surprisal")


def _spans(spelled: Spelled, unit: Unit) -> pl.DataFrame:
    """The spans in order, with `begin` and `end` in the bytes of all texts."""
    texts = spelled.texts.with_columns(whole=_as_text(spelled))
    pieces = texts.select(
        *KEYS, "section", "text", "lost", offset="begin", piece=pl.col("whole").str.extract_all(_PIECES[unit])
    )
    stripped = unit == "sentence"
    begun = pl.col("piece").str.strip_chars_start() if stripped else pl.col("piece")
    size = pl.col("piece").str.len_bytes().cast(pl.Int64)
    spans = (
        pieces.explode("piece")
        .with_columns(stop=size.fill_null(0).cum_sum())
        .filter(~pl.col("lost") & pl.col("piece").str.contains(_IS_SPAN[unit]))
        .with_columns(
            begin=pl.col("stop") - begun.str.len_bytes().cast(pl.Int64),
            span=begun.str.strip_chars_end() if stripped else begun.str.strip_chars_end("\r\n"),
            span_index=pl.int_range(pl.len(), dtype=pl.UInt32).over("text"),
        )
    )
    end = pl.col("begin") + pl.col("span").str.len_bytes().cast(pl.Int64)
    return spans.with_columns(end=end).with_columns(
        begin_byte=pl.col("begin") - pl.col("offset"), end_byte=pl.col("end") - pl.col("offset")
    )


def _as_text(spelled: Spelled) -> pl.Series:
    """The texts as strings, of the same bytes: what is no UTF-8 has a sign of one byte in the place of each."""
    raw = pl.Series("raw", spelled.bytes_of_texts(), dtype=pl.Binary)
    try:
        return raw.cast(pl.String)
    except pl.exceptions.ComputeError:
        return pl.Series("raw", [_mended(text) for text in raw], dtype=pl.String)


def _mended(text: bytes) -> str:
    return "".join(
        _PLACEHOLDER if "\udc80" <= sign <= "\udcff" else sign for sign in text.decode("utf-8", "surrogateescape")
    )


def _scored(spans: pl.DataFrame, spelled: Spelled, *, gaps: bool) -> pl.DataFrame:
    """The spans with the scores of the tokens that begin in them; with `gaps`, of those behind them, too."""
    spans = spans.with_row_index("number")
    tokens = spelled.tokens.with_columns(
        first=spans["end"].search_sorted(spelled.tokens["begin"], side="right").cast(pl.Int64),
        last=spans["begin"].search_sorted(spelled.tokens["reach"], side="left").cast(pl.Int64) - 1,
    )
    inside = pl.col("last") >= pl.col("first")
    tokens = tokens.with_columns(inside=inside)
    own = tokens.filter("inside").with_columns(number=pl.col("first"))
    if gaps and spans.height:
        texts = spans["text"]
        between = tokens.filter(~pl.col("inside"))
        before = between.with_columns(number=(pl.col("first") - 1).clip(0))
        behind = between.with_columns(number=pl.col("first").clip(0, spans.height - 1))
        mine = texts[before["number"]] == between["text"]
        number = pl.select(pl.when(mine).then(before["number"]).otherwise(behind["number"])).to_series()
        between = between.with_columns(number=number)
        own = pl.concat([own, between.filter(texts[number] == between["text"])])
    scored = scores_of(own.rename({"number": "span"})).rename({"span": "number"})
    several = tokens.filter(pl.col("last") > pl.col("first"))
    several = several.select(number=pl.int_ranges("first", pl.col("last") + 1)).explode("number")
    straddling = several.group_by("number").agg(pl.len().alias("straddling_tokens"))
    counted = [scored.with_columns(pl.col("number").cast(pl.Int64)), straddling]
    table = spans.with_columns(pl.col("number").cast(pl.Int64))
    for counts in counted:
        table = table.join(counts, on="number", how="left", maintain_order="left")
    return table.with_columns(
        pl.col("scored_tokens", "unscored_tokens", "straddling_tokens").fill_null(0),
        surprisal=0.0 - pl.col("logprob_sum"),
    ).with_columns(pl.col(name).cast(kind) for name, kind in (SCORES | _MORE).items())
