"""Fields of structured output: how sure the model was of each value of a JSON answer.

Leaves out where values stand in a text (`json_find`, `json_scan`) and where tokens do (`spelled`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from logprob_store.metrics.arguments import check_sections
from logprob_store.metrics.engine.lazy_source import scan_in_batches
from logprob_store.metrics.spans.json_find import find_json
from logprob_store.metrics.spans.token_offsets import SCORES, Spelled, scores_of, spell
from logprob_store.schema import KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logprob_store.metrics.spans.json_scan import Leaf

__all__ = ["field_confidence", "field_spans"]

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
_LOST: Final = "the text of a token is unknown"
_QUOTES: Final = 2


def field_confidence(
    tokens: pl.LazyFrame, *, sections: Sequence[str] = ("content", "tool"), wrapped: bool = True
) -> pl.LazyFrame:
    r"""One row per value of each JSON answer: the scores of exactly the tokens that have a byte of it.

    Columns: run, completion_id, section; field_index, the value's place in the answer; path, an RFC 6901 pointer ("" is
    the root, `~1` a slash in a key); type (string, number, boolean, null, and object or array of what is empty); value,
    as it is written; complete, whether the text ends after it; truncated, whether the text ends before the whole answer
    does; begin_byte and end_byte, of what is scored, in the section's text; first_position and last_position, of its
    tokens; scored_tokens, unscored_tokens, logprob_sum, joint_probability, mean_logprob, confidence, perplexity,
    min_probability, each as the metric of that name over these tokens; forced_tokens, those with l = 0 exactly;
    straddling_tokens, those that also have bytes outside the value (0, 1 or 2); end_logprob, l of the token behind the
    last one, (-inf, 0], nats; error.

    What counts: values that hold no other; keys, brackets, commas and the quotes of strings do not. (An empty string is
    nothing but its quotes, and counts them.) A token that straddles an edge counts whole, since its logprob cannot be
    divided. Places are bytes, of the text as written: `\u0041` is six. A key that appears twice gives two rows.

    The end: that 1 is not the beginning of 12 was decided by the token behind it, a comma or a brace, and that a string
    ends by its quote. exp(logprob_sum + end_logprob) is the probability of the value and of that end, at most that of
    the value and any end. end_logprob is null where the last token goes on beyond the value (the end is then in its own
    logprob), where nothing follows, and for what ends with a bracket or with scored quotes.

    Forced tokens: constrained decoding reports l = 0 for what the grammar leaves no choice; so do servers for what they
    round to certain. They are in the sums, where they add nothing, and in the means, which they raise:
    logprob_sum / (scored_tokens - forced_tokens) is the mean without them.

    The answer's JSON is the whole text, or what a fence or prose wraps: first a ```json fence, then the first object or
    array that is complete or that the text ends within. With `wrapped=False`: only the whole text. Of truncated JSON
    there are the values so far; the last may have `complete` false. A section without JSON is one row with null path
    and what is wrong in `error`, so that nothing is lost: count them, or drop them by `path.is_not_null()`.

    Needs: the tokens table, with bytes (or strings). Nulls are left out, and counted; a value without a scored token
    has null scores. Ranges, directions, units: as each metric's own. Source: RFC 8259, RFC 6901; the chain rule.

    Args:
        tokens: the tokens table.
        sections: which sections to read; each is a text of its own.
        wrapped: whether to look for JSON inside other text.

    Raises:
        ValueError: there is no such section.

    The value of `"a"` is the second token, of 1/2, and the third, of 1/4, which also has the closing quote:

    >>> from math import log
    >>> rows = {"token": ['{"a": "', "Par", 'is"', "}"], "logprob": [0.0, log(1 / 2), log(1 / 4), 0.0]}
    >>> tokens = pl.LazyFrame({"position": [0, 1, 2, 3], **rows}).with_columns(
    ...     run=pl.lit("r"), completion_id=pl.lit(0), section=pl.lit("content"), bytes=pl.lit(None, pl.Binary)
    ... )
    >>> shown = pl.col("joint_probability").round(6), "scored_tokens", "straddling_tokens", "end_logprob"
    >>> field_confidence(tokens).select("path", "value", *shown).collect().rows()
    [('/a', '"Paris"', 0.125, 2, 1, None)]
    """
    check_sections(sections)
    chosen = tokens.filter(pl.col("section").cast(pl.String).is_in(list(sections)))
    kinds = tokens.collect_schema()
    where = {name: kinds[name] for name in (*KEYS, "section")}
    schema = pl.Schema({**where, **_FIELD, **SCORES, **_COUNTS, **_END, "error": pl.String()})

    def compute(part: pl.LazyFrame, _condition: pl.Expr) -> pl.DataFrame:
        spelled = spell(part)
        found = field_spans(spelled, wrapped=wrapped)
        return _scored(found, spelled).select(*schema)

    return scan_in_batches(chosen, compute, schema, explain_name="field_confidence")


def field_spans(spelled: Spelled, *, wrapped: bool = True) -> pl.DataFrame:
    """One row per value, or per text without JSON, with `begin` and `end` in the bytes of all texts."""
    columns: dict[str, list[Any]] = {name: [] for name in ("text", *_FIELD, "error")}
    fields = [columns[name] for name in _FIELD]
    for number, (text, lost) in enumerate(
        zip(spelled.bytes_of_texts().to_pylist(), spelled.texts["lost"], strict=True)
    ):
        found = find_json(text, wrapped=wrapped)
        error = _LOST if lost else found.error
        rows = [_row(index, leaf, text, found.truncated) for index, leaf in enumerate(found.leaves)]
        if error is not None:
            rows = [(None,) * len(fields)]
        for column, values in zip(fields, zip(*rows, strict=True), strict=True):
            column.extend(values)
        columns["text"] += [number] * len(rows)
        columns["error"] += [error] * len(rows)
    frame = pl.DataFrame(columns, schema={"text": pl.Int64, **_FIELD, "error": pl.String})
    offset = spelled.texts["begin"][frame["text"]]
    where = [offset.rename("offset"), *(spelled.texts[name][frame["text"]] for name in (*KEYS, "section"))]
    return frame.with_columns(where).with_columns(
        begin=pl.col("begin_byte") + pl.col("offset"), end=pl.col("end_byte") + pl.col("offset")
    )


def _row(index: int, leaf: Leaf, text: bytes, truncated: bool) -> tuple[object, ...]:  # noqa: FBT001  positional, a million times
    path, kind, begin, end, complete = leaf
    value = text[begin:end].decode("utf-8", "replace")
    if kind == "string" and end - begin > (_QUOTES if complete else 1):
        begin, end = begin + 1, end - complete
    return index, path, kind, value, complete, truncated, begin, end


def _scored(found: pl.DataFrame, spelled: Spelled) -> pl.DataFrame:
    """The spans with the scores of their tokens."""
    found = found.with_row_index("span")
    spans = found.filter(pl.col("begin").is_not_null()).select("span", "begin", "end")
    edges = spans.rename({"begin": "from", "end": "to"})
    by_span = spelled.tokens_of(spans).join(edges, on="span", how="left", maintain_order="left")
    outside = (pl.col("begin") < pl.col("from")) | (pl.col("end") > pl.col("to"))
    scored = scores_of(
        by_span,
        (pl.col("logprob") == 0).sum().alias("forced_tokens"),
        outside.sum().alias("straddling_tokens"),
    )
    counts = pl.col("scored_tokens", "unscored_tokens", *_COUNTS)
    is_value = pl.col("path").is_not_null()
    table = found.with_columns(_end(found, spelled)).join(scored, on="span", how="left", maintain_order="left")
    return table.with_columns(pl.when(is_value).then(counts.fill_null(0))).with_columns(
        pl.col(name).cast(kind) for name, kind in (SCORES | _COUNTS).items()
    )


def _end(found: pl.DataFrame, spelled: Spelled) -> pl.Series:
    """By span: the logprob of the token that begins where the value ends, null where none does."""
    rows = spelled.tokens["begin"].search_sorted(found["end"].fill_null(0), side="left").cast(pl.Int64)
    followed = rows < spelled.tokens.height
    behind = spelled.tokens[rows.filter(followed)].select("text", "begin", "logprob")
    ends = found.filter(followed).select(
        "span",
        own_end=pl.col("type").is_in(["object", "array"]) | (pl.col("value") == '""'),
        same=(pl.col("text") == behind["text"]) & (pl.col("end") == behind["begin"]),
        logprob=behind["logprob"],
    )
    known = ends.filter(pl.col("same"), ~pl.col("own_end"))
    return found.join(known, on="span", how="left", maintain_order="left")["logprob"].alias("end_logprob")
