r"""Byte alignment of the tokens of a scored text with the text.

Tokens are counted from the end of the text, because servers put a begin-of-text token in front that the text does not
contain. Where the joined token strings equal the text, their UTF-8 lengths are exact and polars computes everything.
Where they do not (U+FFFD or `bytes:\xf0\x9f` for tokens that split a character), each token is searched for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.schema import KEYS
from logprob_store.token_bytes import bytes_of_token

if TYPE_CHECKING:
    from collections.abc import Sequence

ALIGNED: Final = (*KEYS, "section", "position", "token", "bytes", "logprob")
"""The columns of tokens that `aligned_tokens` reads."""
ANSWERED: Final = (*KEYS, "prompt_index", "sample_index", "choice_index")
ASKED: Final = ("run", "prompt_index", "messages")
"""Those of completions and of prompts that `scored_texts` reads."""

_ASKED: Final = pl.Struct({"context": pl.String, "continuations": pl.List(pl.String)})
_REPLACED: Final = "\ufffd"


def asked_texts(prompts: pl.LazyFrame) -> pl.LazyFrame:
    """The prompts that are texts, with `context` and `continuations` (null without candidates); chats are left out.

    >>> rows = {"prompt_index": [0, 1], "messages": ['"Hi"', '{"context":"2+2=","continuations":["4","5"]}']}
    >>> asked_texts(pl.LazyFrame(rows)).select("context", "continuations").collect().rows()
    [('Hi', None), ('2+2=', ['4', '5'])]
    """
    messages = pl.col("messages")
    asked = (
        pl.when(messages.str.starts_with('{"context":'))
        .then(messages)
        .when(messages.str.starts_with('"'))
        .then(pl.concat_str(pl.lit('{"context":'), messages, pl.lit("}")))
    )
    return prompts.with_columns(asked.str.json_decode(_ASKED).struct.unnest()).filter(pl.col("context").is_not_null())


def scored_texts(completions: pl.LazyFrame, prompts: pl.LazyFrame) -> pl.LazyFrame:
    """One row per text that was sent: KEYS, `prompt_index`, `candidate`, `context`, `continuation` and `text`.

    `continuation` is null without candidates. `text` is `context` followed by `continuation`.
    """
    sent = asked_texts(prompts).select("run", "prompt_index", "context", "continuations")
    continuation = pl.col("continuations").list.get(pl.col("candidate"), null_on_oob=True)
    return (
        completions.filter(pl.col("choice_index") == 0)
        .select(*KEYS, "prompt_index", candidate="sample_index")
        .join(sent, on=["run", "prompt_index"], how="inner")
        .with_columns(continuation=continuation)
        .with_columns(text=pl.concat_str("context", pl.col("continuation").fill_null("")))
        .drop("continuations")
    )


def aligned_tokens(tokens: pl.LazyFrame, texts: pl.LazyFrame) -> pl.LazyFrame:
    """The tokens of the `prompt` section of the completions in `texts`, each with its place in the text.

    Args:
        tokens: the tokens table.
        texts: one row per completion: KEYS, `text`, and any further columns to keep beside each token.

    Returns:
        One row per token: its columns, those of `texts`, and in bytes `byte_length`, the length of the token, and
        `bytes_after`, how much of the text follows it. A token whose `bytes_after` is at least the length of the text
        lies in front of the text. A token without a string has length 0 and belongs to the token that follows it. Both
        columns are null where the tokens do not spell the text.
    """
    given = tokens.filter(pl.col("section") == "prompt").select(*KEYS, "position", "token", "bytes", "logprob")
    joined = given.group_by(KEYS).agg(
        joined=pl.col("token").sort_by("position").str.join(ignore_nulls=False), first_position=pl.col("position").min()
    )
    compared = texts.join(joined, on=KEYS, how="inner")
    # vLLM sends no row for the first token, which has no logprob.
    without_first = (pl.col("first_position") > 0) & pl.col("text").str.ends_with(pl.col("joined"))
    equal = (pl.col("joined").str.ends_with(pl.col("text")) | without_first).fill_null(value=False)
    length = pl.col("token").str.len_bytes().cast(pl.Int64)
    exact = given.join(compared.filter(equal).drop("joined", "first_position"), on=KEYS, how="inner")
    inexact = given.join(compared.filter(~equal).drop("joined", "first_position"), on=KEYS, how="inner")
    measured = pl.concat([exact.with_columns(byte_length=length), _with_searched_lengths(inexact)], how="vertical")
    return measured.with_columns(
        bytes_after=pl.col("byte_length").cum_sum(reverse=True).over(KEYS, order_by="position") - pl.col("byte_length")
    )


def _with_searched_lengths(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows with `byte_length`, searched for in the text of one completion after another."""
    others = [name for name in rows.collect_schema().names() if name not in KEYS]
    first_position = pl.col("position").list.first().alias("first_position")
    lengths = pl.struct("token", "bytes", pl.col("text").list.first(), first_position).map_elements(
        lambda row: token_lengths(row["token"], row["bytes"], row["text"], first_missing=row["first_position"] > 0),
        return_dtype=pl.List(pl.Int64),
        skip_nulls=False,
    )
    return (
        rows.group_by(KEYS)
        .agg(pl.col(others).sort_by("position"))
        .with_columns(byte_length=lengths)
        .explode(*others, "byte_length")
        .select(*rows.collect_schema().names(), "byte_length")
    )


def token_lengths(
    tokens: Sequence[str | None], spelled: Sequence[bytes | None], text: str, *, first_missing: bool = False
) -> list[int | None]:
    r"""How many bytes of the text each token has, searched for from the end; all None where they do not spell it.

    Consecutive tokens whose bytes are unknown share the bytes between the tokens around them; the last of them is given
    all of these bytes, the others 0.

    Args:
        tokens: the strings of the tokens, None where the server sent none.
        spelled: the bytes of the tokens, None where the server sent none.
        text: the text that the tokens spell, apart from tokens in front of it.
        first_missing: whether the first token of the text is not among the tokens.

    >>> token_lengths(["<s>", "a ", "\ufffd", "\ufffd", "!"], [None] * 5, "a 💙!")
    [3, 2, 0, 4, 1]
    >>> token_lengths(["bytes: \\xf0\\x9f", "bytes:\\x92\\x99"], [None] * 2, " 💙")
    [3, 2]
    >>> token_lengths(["<s>", "\ufffd", "\ufffd!"], [None] * 3, "💙!")
    [3, 0, 5]
    >>> token_lengths(["b"], [None], "a")
    [None]
    """
    whole = text.encode()
    lengths: list[int | None] = [0] * len(tokens)
    end = len(whole)  # the bytes from here on have their tokens
    unknown: int | None = None  # index of the last of the unknown tokens before `end`
    least = 0  # the fewest bytes that these tokens can have
    for number in range(len(tokens) - 1, -1, -1):
        piece = _piece(tokens[number], spelled[number])
        if piece is None:
            unknown = number if unknown is None else unknown
            # U+FFFD stands for at least one byte; the other characters of the string are known.
            least += len((tokens[number] or "?").replace(_REPLACED, "?").encode())
        if not piece:
            continue
        start = whole.rfind(piece, 0, max(end - least, 0)) if end else 0
        if start < 0 and unknown is not None and number == 0 and not whole.startswith(piece):
            # A begin-of-text token in front: the unknown tokens begin the text.
            lengths[unknown], unknown, least, end, start = end, None, 0, 0, 0
        if start < 0 or (unknown is None and end and start + len(piece) != end):
            return [None] * len(tokens)
        if unknown is not None:
            lengths[unknown], unknown, least = end - start - len(piece) if end else 0, None, 0
        lengths[number] = len(piece)
        end = start
    if unknown is not None and not first_missing:
        lengths[unknown], end = end, 0
    return lengths if end == 0 or (first_missing and unknown is None) else [None] * len(tokens)


def _piece(token: str | None, spelled: bytes | None) -> bytes | None:
    """A token's bytes; None where they are lost."""
    lost = spelled is None and token is not None and _REPLACED in token
    return None if lost else bytes_of_token(token, spelled)
