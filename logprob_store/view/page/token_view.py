r"""Completions as JSON for a page: their text in spans, and of each token what was almost written in its place.

A span is the shortest sequence of tokens that makes whole characters, so that an emoji over three tokens is drawn as
one. `tokens.js` draws what is made here.

    {"sections": [{"name": "content", "spans": [[TEXT, [TOKEN, ...]], ...]}], "left_out": 0}

A TOKEN is [position, text, logprob, rank, margin, entropy, alternatives]; an alternative is [text, logprob, 1 if it is
the chosen token, else 0]. Numbers are null where they are not known, and rounded to 5 decimals; entropy is in nats.
The text of a token that is no whole character has its bytes as `\xf0\x9f`; a token known by its id alone is `#id`.
"""

from __future__ import annotations

import codecs
import math
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from logprob_store.metrics.alternatives.chosen import chosen_rank, is_chosen, with_chosen
from logprob_store.metrics.alternatives.entropy import entropy
from logprob_store.metrics.alternatives.topk import margin
from logprob_store.metrics.arguments import POSITION
from logprob_store.metrics.tokens.windows import written_order
from logprob_store.schema import KEYS
from logprob_store.token_bytes import shown_token, token_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

_DECIMALS: Final = 5
_LONGEST_TEXT: Final = 2000
"""Characters of a token that are shown: a token of a megabyte is nothing to read."""
_UNSPELLED: Final = "\N{REPLACEMENT CHARACTER}"

TokenView = dict[str, Any]


def token_views(
    tokens: pl.DataFrame,
    alternatives: pl.DataFrame,
    *,
    most_tokens: int | None = None,
    most_alternatives: int | None = None,
) -> dict[tuple[str, int], TokenView]:
    """The views of some completions, by run and completion_id.

    Args:
        tokens: all token rows of these completions, in any order.
        alternatives: all their rows of alternatives.
        most_tokens: of each completion, the tokens from the first that are kept; `left_out` counts the others.
        most_alternatives: of each token, the likeliest alternatives that are kept beside the chosen one. Rank, margin
            and entropy are those of all.

    >>> rows = pl.DataFrame({"run": "r", "completion_id": [1], "section": "content", "position": 0, "token": "Hi",
    ...     "bytes": [b"Hi"], "token_id": 7, "logprob": -0.25, "logprob_flag": None})
    >>> other = rows.with_columns(rank=pl.lit(2), token=pl.lit("Oh"), bytes=pl.lit(b"Oh"), token_id=8, logprob=-2.0)
    >>> alternatives = pl.concat([rows.with_columns(rank=pl.lit(1)).select(other.columns), other])
    >>> token_views(rows, alternatives)["r", 1]["sections"][0]["spans"]
    [['Hi', [[0, 'Hi', -0.25, 1, 0.64347, 0.67617, [['Hi', -0.25, 1], ['Oh', -2.0, 0]]]]]]
    """
    rows = tokens.sort(*KEYS, written_order())
    left_out: dict[tuple[str, int], int] = {}
    if most_tokens is not None:
        sizes = rows.group_by(KEYS).len().filter(pl.col("len") > most_tokens)
        left_out = {(run, completion): size - most_tokens for run, completion, size in sizes.iter_rows()}
        rows = rows.filter(pl.int_range(pl.len()).over(KEYS) < most_tokens)
    shown = alternatives.join(rows.select(POSITION), on=POSITION, how="semi")
    others = _alternatives_by_token(rows, shown, most_alternatives)
    views: dict[tuple[str, int], TokenView] = {}
    for (run, completion, section), of_section in _with_numbers(rows, shown).group_by(
        *KEYS, "section", maintain_order=True
    ):
        key = (str(run), int(str(completion)))
        view = views.setdefault(key, {"sections": [], "left_out": left_out.get(key, 0)})
        view["sections"].append({"name": str(section), "spans": list(_spans(of_section, others))})
    return views


def _with_numbers(tokens: pl.DataFrame, alternatives: pl.DataFrame) -> pl.DataFrame:
    """The tokens, in their order, with rank, margin and entropy."""
    listed = alternatives.lazy().group_by(POSITION).agg(margin(), entropy())
    ranks = with_chosen(alternatives.lazy(), tokens.lazy()).group_by(POSITION).agg(chosen_rank())
    numbers = listed.join(ranks, on=POSITION, how="left")
    return tokens.lazy().join(numbers, on=POSITION, how="left", maintain_order="left").collect()


def _alternatives_by_token(
    tokens: pl.DataFrame, alternatives: pl.DataFrame, most: int | None
) -> dict[tuple[Any, ...], list[list[Any]]]:
    """The alternatives of each token as JSON, the likeliest first, by POSITION."""
    chosen = tokens.select(*POSITION, pl.col("token", "bytes", "token_id").name.prefix("chosen_"))
    rows = (
        alternatives.join(chosen, on=POSITION, how="left")
        .with_columns(chosen=is_chosen().fill_null(value=False), raw=token_bytes())
        .sort("logprob", "rank", descending=[True, False], nulls_last=True)
    )
    if most is not None:
        rows = rows.filter((pl.int_range(pl.len()).over(POSITION) < most) | pl.col("chosen"))
    found: dict[tuple[Any, ...], list[list[Any]]] = {}
    columns = rows.select(*POSITION, "token", "raw", "token_id", "logprob", "chosen")
    for *place, token, raw, token_id, logprob, is_written in columns.iter_rows():
        shown = [_shown(token, raw, token_id), _rounded(logprob), int(is_written)]
        found.setdefault(tuple(place), []).append(shown)
    return found


def _spans(tokens: pl.DataFrame, others: dict[tuple[Any, ...], list[list[Any]]]) -> Iterator[list[Any]]:
    """The spans of one section."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text, made = "", []
    numbers = ("logprob", "chosen_rank", "margin", "entropy")
    columns = tokens.select(*POSITION, "token", token_bytes(), "token_id", *numbers)
    for *place, token, raw, token_id, logprob, rank, lead, nats in columns.iter_rows():
        text += decoder.decode(_UNSPELLED.encode() if raw is None else raw)
        shown = _shown(token, raw, token_id)
        values = [_rounded(logprob), rank, _rounded(lead), _rounded(nats)]
        made.append([place[-1], shown, *values, others.get(tuple(place), [])])
        if not decoder.getstate()[0]:
            yield [_cut(text), made]
            text, made = "", []
    if made:
        yield [_cut(text + decoder.decode(b"", final=True)), made]


def _shown(token: str | None, raw: bytes | None, token_id: int | None) -> str:
    """The text of one token; `#7` where only its id is known."""
    text = shown_token(token, raw)
    return _cut(text) if text is not None else "?" if token_id is None else f"#{token_id}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} … ({len(text):,} characters)"


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, _DECIMALS)
