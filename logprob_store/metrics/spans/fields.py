"""Fields of JSON answers: how sure the model was of each value.

Where the values stand in a text is in `json_scan`, where the tokens stand in `token_offsets`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from logprob_store.metrics.arguments import check_sections
from logprob_store.metrics.engine.lazy_source import scan_in_batches
from logprob_store.metrics.right_table import check_table
from logprob_store.metrics.spans.json_scan import find_json
from logprob_store.metrics.spans.token_offsets import LOCATED, SCORES, TokenOffsets, locate_tokens, span_scores
from logprob_store.schema import KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logprob_store.metrics.spans.json_scan import Leaf

_FIELD: Final = pl.Schema(
    {
        "field_index": pl.Int32(),
        "path": pl.String(),
        "type": pl.String(),
        "value": pl.String(),
        "complete": pl.Boolean(),
        "truncated": pl.Boolean(),
        "begin_byte": pl.Int64(),
        "end_byte": pl.Int64(),
    }
)
_COUNTS: Final = pl.Schema({"forced_tokens": pl.UInt32(), "straddling_tokens": pl.UInt32()})
_END: Final = pl.Schema({"end_logprob": pl.Float64()})
_UNKNOWN: Final = "the text of a token is unknown"
_QUOTES: Final = 2
"""Bytes of an empty string."""


def field_confidence(
    tokens: pl.LazyFrame, *, sections: Sequence[str] = ("content", "tool"), wrapped: bool = True
) -> pl.LazyFrame:
    r"""The scores of each value of each JSON answer, one row per value.

    A value is scored by exactly the tokens that have a byte of it. Columns:

    - `run`, `completion_id`, `section`
    - `field_index`: the place of the value in the answer, from 0
    - `path`: an RFC 6901 pointer; "" is the root, `~1` a slash in a key
    - `type`: string, number, boolean or null; object or array for `{}` and `[]`
    - `value`: the value as it is written
    - `complete`: whether the text holds the whole value; false for a value that the text ends within, and for a number
      at the end of truncated JSON, which may go on
    - `truncated`: whether the text ends before its JSON does
    - `begin_byte`, `end_byte`: what is scored, in bytes of the text of the section
    - `first_position`, `last_position`: of its tokens; join alternatives on them
    - `scored_tokens`, `unscored_tokens`, `logprob_sum`, `joint_probability`, `mean_logprob`, `confidence`,
      `perplexity`, `min_probability`: the metric of that name over these tokens, with its formula, range, unit and
      source
    - `forced_tokens`: those with l = 0 exactly
    - `straddling_tokens`: those that also have bytes outside the value; 0, 1 or 2
    - `end_logprob`: l of the token after the last one; (-inf, 0], nats
    - `error`: why a section has no fields, else null

    Which values count: those that hold no other value. Keys, brackets, commas and the quotes of strings do not count,
    except that an empty string is its two quotes, and `{}` and `[]` are their two brackets. Bytes are those of the text
    as it is written: `\u0041` is six. Values and tokens are matched by bytes, so a character split over several tokens
    shifts nothing. A key that appears twice gives two rows; most parsers take the later value, of the higher
    `field_index`.

    Tokens on an edge: a token that crosses an edge of the value counts whole, because a logprob cannot be divided:
    `":"P` has a quote and a letter. The joint probability is then that of the value and some punctuation, at most that
    of the value alone.

    The end of a value: the token after it, a comma or a brace, decided that 1 is not the beginning of 12; a quote ends
    a string. exp(logprob_sum + end_logprob) is the probability of the value and that end, at most the probability of
    the value with any end. `end_logprob` is null where the last token goes on beyond the value, because its own logprob
    then includes the end; where the text ends, because the token that ended it is not stored; and for values that end
    with a bracket or with scored quotes. Use `end_logprob.fill_null(0)` in sums.

    Forced tokens: constrained decoding reports l = 0 where the grammar leaves no choice, and servers do so for what
    they round to certain. They add nothing to sums and raise means: logprob_sum / (scored_tokens - forced_tokens) is
    the mean without them.

    Where the JSON is: the whole text, or what a fence or prose wraps: first the content of a ```json fence, then the
    first object or array that is complete or that the text ends within. With `wrapped=False`, only the whole text.
    Truncated JSON gives the values so far, the last perhaps with `complete` false. A section without JSON gives one row
    with a null path and the reason in `error`, so that no answer is missing: count these rows, or filter by
    `path.is_not_null()`. JSON may be of any depth, until the paths of one answer take 16 MB: that is an `error`, too.

    Needs: the tokens table.
    Nulls: tokens without a logprob are left out and counted in `unscored_tokens`; a value without a scored token has
    null scores. A section with a token of unknown text gives one row with an `error`.
    Source: RFC 8259, RFC 6901; the chain rule of probability.

    Args:
        tokens: the tokens table.
        sections: the sections to read; each is a text of its own.
        wrapped: whether to look for JSON inside other text.

    Raises:
        ValueError: `sections` is one string, or has a name that is no section.

    The value "Paris" is the second token, of 1/2, and the third, of 1/4, which also has the closing quote:

    >>> from math import log
    >>> rows = {"token": ['{"a": "', "Par", 'is"', "}"], "logprob": [0.0, log(1 / 2), log(1 / 4), 0.0]}
    >>> tokens = pl.LazyFrame({"position": [0, 1, 2, 3], **rows}).with_columns(
    ...     run=pl.lit("r"), completion_id=pl.lit(0), section=pl.lit("content"), bytes=pl.lit(None, pl.Binary)
    ... )
    >>> shown = pl.col("joint_probability").round(6), "scored_tokens", "straddling_tokens", "end_logprob"
    >>> field_confidence(tokens).select("path", "value", *shown).collect().rows()
    [('/a', '"Paris"', 0.125, 2, 1, None)]
    """
    return field_confidence_in_parts(tokens, sections=sections, wrapped=wrapped)


def field_confidence_in_parts(
    tokens: pl.LazyFrame, *, sections: Sequence[str], wrapped: bool, rows: int | None = None
) -> pl.LazyFrame:
    """`field_confidence`, computed over completions with about `rows` token rows at a time; None: two million."""
    check_sections(sections)
    kinds = check_table(tokens, "tokens", "field_confidence", LOCATED)
    chosen = tokens.filter(pl.col("section").cast(pl.String).is_in(list(sections)))
    where = {name: kinds[name] for name in (*KEYS, "section")}
    schema = pl.Schema({**where, **_FIELD, **SCORES, **_COUNTS, **_END, "error": pl.String()})

    def compute(part: pl.LazyFrame, _condition: pl.Expr) -> pl.DataFrame:
        offsets = locate_tokens(part)
        fields = field_spans(offsets, wrapped=wrapped)
        return _with_scores(fields, offsets).select(*schema)

    return scan_in_batches(chosen, compute, schema, explain_name="field_confidence", rows_per_batch=rows)


def field_spans(offsets: TokenOffsets, *, wrapped: bool = True) -> pl.DataFrame:
    """One row per value, or per text without JSON.

    Columns: `text`, those of `_FIELD`, error, offset (where the text begins), KEYS, section, and `begin` and `end`, the
    bytes that are scored, counted as in `offsets`.
    """
    columns: dict[str, list[Any]] = {name: [] for name in ("text", *_FIELD, "error")}
    fields = [columns[name] for name in _FIELD]
    texts = zip(offsets.bytes_of_texts().to_pylist(), offsets.texts["unknown"], strict=True)
    for number, (text, unknown) in enumerate(texts):
        found = find_json(text, wrapped=wrapped)
        error = _UNKNOWN if unknown else found.error
        rows = [_row(index, leaf, text, found.truncated) for index, leaf in enumerate(found.leaves)]
        if error is not None:
            rows = [(None,) * len(fields)]
        for column, values in zip(fields, zip(*rows, strict=True), strict=True):
            column.extend(values)
        columns["text"] += [number] * len(rows)
        columns["error"] += [error] * len(rows)
    frame = pl.DataFrame(columns, schema={"text": pl.Int64, **_FIELD, "error": pl.String})
    offset = offsets.texts["begin"][frame["text"]]
    where = [offset.rename("offset"), *(offsets.texts[name][frame["text"]] for name in (*KEYS, "section"))]
    return frame.with_columns(where).with_columns(
        begin=pl.col("begin_byte") + pl.col("offset"), end=pl.col("end_byte") + pl.col("offset")
    )


def _row(index: int, leaf: Leaf, text: bytes, truncated: bool) -> tuple[object, ...]:  # noqa: FBT001  positional, a million times
    """The columns of `_FIELD` for a leaf; a string is scored without its quotes, unless it is empty."""
    path, kind, begin, end, complete = leaf
    value = text[begin:end].decode("utf-8", "replace")
    if kind == "string" and end - begin > (_QUOTES if complete else 1):
        begin, end = begin + 1, end - complete
    return index, path, kind, value, complete, truncated, begin, end


def _with_scores(fields: pl.DataFrame, offsets: TokenOffsets) -> pl.DataFrame:
    """The fields with the scores of their tokens."""
    fields = fields.with_row_index("span")
    spans = fields.filter(pl.col("begin").is_not_null()).select("span", "begin", "end")
    edges = spans.rename({"begin": "from", "end": "to"})
    by_span = offsets.tokens_of(spans).join(edges, on="span", how="left", maintain_order="left")
    crosses_edge = (pl.col("begin") < pl.col("from")) | (pl.col("end") > pl.col("to"))
    scores = span_scores(
        by_span,
        (pl.col("logprob") == 0).sum().alias("forced_tokens"),
        crosses_edge.sum().alias("straddling_tokens"),
    )
    counts = pl.col("scored_tokens", "unscored_tokens", *_COUNTS)
    is_value = pl.col("path").is_not_null()
    table = fields.with_columns(_end_logprobs(fields, offsets))
    table = table.join(scores, on="span", how="left", maintain_order="left")
    return table.with_columns(pl.when(is_value).then(counts.fill_null(0))).with_columns(
        pl.col(name).cast(kind) for name, kind in (SCORES | _COUNTS).items()
    )


def _end_logprobs(fields: pl.DataFrame, offsets: TokenOffsets) -> pl.Series:
    """By field: the logprob of the token that begins where the value ends, null where no token does."""
    rows = offsets.tokens["begin"].search_sorted(fields["end"].fill_null(0), side="left").cast(pl.Int64)
    has_next = rows < offsets.tokens.height
    following = offsets.tokens[rows.filter(has_next)].select("text", "begin", "logprob")
    ends = fields.filter(has_next).select(
        "span",
        scored_end=pl.col("type").is_in(["object", "array"]) | (pl.col("value") == '""'),
        adjacent=(pl.col("text") == following["text"]) & (pl.col("end") == following["begin"]),
        logprob=following["logprob"],
    )
    known = ends.filter(pl.col("adjacent"), ~pl.col("scored_end"))
    return fields.join(known, on="span", how="left", maintain_order="left")["logprob"].alias("end_logprob")
