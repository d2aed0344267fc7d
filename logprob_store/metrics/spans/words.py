"""Words, sentences and lines of answers: how surprising each was to the model.

Where the tokens stand in a text is in `token_offsets`; values of JSON are in `fields`.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import polars as pl

from logprob_store.metrics.engine.lazy_source import scan_in_batches
from logprob_store.metrics.right_table import check_table
from logprob_store.metrics.spans.token_offsets import LOCATED, SCORES, TokenOffsets, locate_tokens, span_scores
from logprob_store.schema import KEYS

Unit: TypeAlias = Literal["word", "sentence", "line"]

_SPAN: Final = pl.Schema(
    {"span_index": pl.UInt32(), "span": pl.String(), "begin_byte": pl.Int64(), "end_byte": pl.Int64()}
)
_MORE: Final = pl.Schema({"straddling_tokens": pl.UInt32(), "surprisal": pl.Float64()})
_PLACEHOLDER: Final = "\x1a"
"""Takes the place of a byte that is not UTF-8: one byte, and part of no word."""

_PIECES: Final = {
    # A word, or the text between two words.
    "word": r"\w+(?:['\u2019.\-]\w+)*|\W+",
    # Up to the nearest end of a sentence, its closing quotes and brackets and the white space after, or of a line.
    "sentence": r"(?s).+?(?:[.!?…।؟]+[\"'”’»)\]*_]*(?:\s+|\z)|[。！？]+[」』”’）]*\s*|\s*\n\s*|\z)",  # noqa: RUF001  their own signs
    "line": r"[^\n\r]*(?:\r\n|\n|\r)|[^\n\r]+",
}
"""Every byte of a text is in exactly one piece, so the lengths of the pieces give their offsets."""

_IS_SPAN: Final = {"word": r"^\w", "sentence": r"\S", "line": r"\S"}


def span_surprisal(tokens: pl.LazyFrame, unit: Unit = "word") -> pl.LazyFrame:
    """The surprisal of each word, sentence or line of each answer, one row per span.

    Columns:

    - `run`, `completion_id`, `section`
    - `span_index`: the place of the span in the section, from 0
    - `span`: its text
    - `begin_byte`, `end_byte`: in bytes of the text of the section
    - `first_position`, `last_position`: of its tokens
    - `surprisal`: -sum l; [0, inf), nats, lower is surer
    - `scored_tokens`, `unscored_tokens`, `logprob_sum`, `joint_probability`, `mean_logprob`, `confidence`,
      `perplexity`, `min_probability`: the metric of that name over these tokens, with its formula, range, unit and
      source
    - `straddling_tokens`: those that also have bytes of the span before or after

    What is a span: a word is a run of Unicode letters, digits, marks and underscores, with single apostrophes, hyphens
    and dots inside ("don't", "3.14", "e-mail"); in scripts without spaces it is the whole run. A sentence ends with . !
    ? or … and any closing quotes and brackets, where white space follows; with their full-width forms, whatever
    follows; and with the line. An abbreviation ends a sentence, too. A line ends with its line break. Blank spans are
    left out.

    Which tokens: each counts once, in the first span of which it has a byte, so that " Paris." with its space and dot
    counts for the word. A token between two words counts for none. A token of white space between two sentences or
    lines counts for the one before, so that the sentences or lines add up to the answer (without tokens of zero bytes,
    such as an end-of-text token). A token with bytes of several spans is `straddling` in each; a span that begins no
    token has null scores.

    Formula: surprisal = -sum l over the tokens of the span.
    Range: [0, inf), lower is surer. Unit: nats.
    Needs: the tokens table. Prompt tokens are left out.
    Nulls: tokens without a logprob are left out and counted in `unscored_tokens`; a span without a scored token has
    null scores. Sections with a token of unknown text are left out.
    Source: surprisal of words as sums over tokens, Hale 2001; Smith and Levy 2013.

    Args:
        tokens: the tokens table.
        unit: "word", "sentence" or "line".

    Raises:
        ValueError: `unit` is unknown.

    "Paris" is two tokens, of 1/2 and 1/4; the question mark counts for no word:

    >>> from math import log
    >>> rows = {"token": ["Par", "is", " or", " Rome", "?"], "logprob": [log(1 / 2), log(1 / 4), -1.0, -2.0, -0.5]}
    >>> tokens = pl.LazyFrame({"position": [0, 1, 2, 3, 4], **rows}).with_columns(
    ...     run=pl.lit("r"), completion_id=pl.lit(0), section=pl.lit("content"), bytes=pl.lit(None, pl.Binary)
    ... )
    >>> span_surprisal(tokens).select("span", pl.col("joint_probability").round(6)).collect().rows()
    [('Paris', 0.125), ('or', 0.367879), ('Rome', 0.135335)]
    >>> span_surprisal(tokens, "sentence").select("span", "scored_tokens").collect().rows()
    [('Paris or Rome?', 5)]
    """
    if unit not in get_args(Unit):
        raise ValueError(f"unit {unit!r} is none of {', '.join(get_args(Unit))}")
    kinds = check_table(tokens, "tokens", "span_surprisal", LOCATED)
    written = tokens.filter(pl.col("section").cast(pl.String) != "prompt")
    where = {name: kinds[name] for name in (*KEYS, "section")}
    schema = pl.Schema({**where, **_SPAN, **SCORES, **_MORE})

    def compute(part: pl.LazyFrame, _condition: pl.Expr) -> pl.DataFrame:
        offsets = locate_tokens(part)
        spans = _spans(offsets, unit)
        return _with_scores(spans, offsets, gaps=unit != "word").select(*schema)

    return scan_in_batches(written, compute, schema, explain_name="span_surprisal")


def _spans(offsets: TokenOffsets, unit: Unit) -> pl.DataFrame:
    """The spans in order, with `begin` and `end` as `offsets` counts bytes."""
    texts = offsets.texts.with_columns(whole=_as_text(offsets))
    pieces = texts.select(
        *KEYS, "section", "text", "unknown", offset="begin", piece=pl.col("whole").str.extract_all(_PIECES[unit])
    )
    stripped = unit == "sentence"
    begun = pl.col("piece").str.strip_chars_start() if stripped else pl.col("piece")
    size = pl.col("piece").str.len_bytes().cast(pl.Int64)
    spans = (
        pieces.explode("piece")
        .with_columns(stop=size.fill_null(0).cum_sum())
        .filter(~pl.col("unknown") & pl.col("piece").str.contains(_IS_SPAN[unit]))
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


def _as_text(offsets: TokenOffsets) -> pl.Series:
    """The texts as strings of the same length in bytes: a placeholder stands for each byte that is not UTF-8."""
    raw = pl.Series("raw", offsets.bytes_of_texts(), dtype=pl.Binary)
    try:
        return raw.cast(pl.String)
    except pl.exceptions.ComputeError:
        return pl.Series("raw", [_with_placeholders(text) for text in raw], dtype=pl.String)


def _with_placeholders(text: bytes) -> str:
    return "".join(
        _PLACEHOLDER if "\udc80" <= sign <= "\udcff" else sign for sign in text.decode("utf-8", "surrogateescape")
    )


def _with_scores(spans: pl.DataFrame, offsets: TokenOffsets, *, gaps: bool) -> pl.DataFrame:
    """The spans with the scores of the tokens that begin in them; with `gaps`, also of the tokens between spans."""
    spans = spans.with_row_index("number").with_columns(pl.col("number").cast(pl.Int64))
    # A token has bytes of the spans `first` to `last`; it is between two spans where `last` is smaller.
    tokens = offsets.tokens.with_columns(
        first=spans["end"].search_sorted(offsets.tokens["begin"], side="right").cast(pl.Int64),
        last=spans["begin"].search_sorted(offsets.tokens["reach"], side="left").cast(pl.Int64) - 1,
    )
    is_inside = pl.col("last") >= pl.col("first")
    own = tokens.filter(is_inside).with_columns(number=pl.col("first"))
    if gaps and spans.height:
        own = pl.concat([own, _with_nearest_span(tokens.filter(~is_inside), spans)])
    scores = span_scores(own.rename({"number": "span"})).rename({"span": "number"})
    several = tokens.filter(pl.col("last") > pl.col("first"))
    several = several.select(number=pl.int_ranges("first", pl.col("last") + 1)).explode("number")
    straddling = several.group_by("number").agg(pl.len().alias("straddling_tokens"))
    table = spans
    for counts in (scores, straddling):
        table = table.join(counts, on="number", how="left", maintain_order="left")
    return table.with_columns(
        pl.col("scored_tokens", "unscored_tokens", "straddling_tokens").fill_null(0),
        surprisal=0.0 - pl.col("logprob_sum"),
    ).with_columns(pl.col(name).cast(kind) for name, kind in (SCORES | _MORE).items())


def _with_nearest_span(between: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Tokens between spans with the `number` of the span before them, else after them, in the same text."""
    texts = spans["text"]
    before = (between["first"] - 1).clip(0)
    after = between["first"].clip(0, spans.height - 1)
    same_text = texts[before] == between["text"]
    number = pl.select(pl.when(same_text).then(before).otherwise(after)).to_series()
    between = between.with_columns(number=number)
    return between.filter(texts[number] == between["text"])
