r"""Where the tokens of a scored text stand in it, by bytes.

Holds the texts that were scored, as the prompts table has them, and the place of each token in its text. Leaves out
what is summed over which tokens (`candidates`, `texts`).

Tokens are counted from the text's end, since servers put a begin-of-text token in front that the text does not hold.
Where the tokens' strings spell the text, their lengths are right and all is done in polars. Where they do not (U+FFFD
or `bytes:\xf0\x9f` for tokens that split a character), each token is looked for in the text, one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.schema import KEYS
from logprob_store.token_bytes import bytes_of_token

if TYPE_CHECKING:
    from collections.abc import Sequence

_ASKED: Final = pl.Struct({"context": pl.String, "continuations": pl.List(pl.String)})
_REPLACED: Final = "\ufffd"


def asked_texts(prompts: pl.LazyFrame) -> pl.LazyFrame:
    """The prompts with `context` and, where they were scored with candidates, `continuations`; chats are left out.

    >>> rows = {"prompt_index": [0, 1], "messages": ['"Hi"', '{"context":"2+2=","continuations":["4","5"]}']}
    >>> asked_texts(pl.LazyFrame(rows)).select("context", "continuations").collect().rows()
    [('Hi', None), ('2+2=', ['4', '5'])]
    """
    messages = pl.col("messages")
    whole = (
        pl.when(messages.str.starts_with('{"context":'))
        .then(messages)
        .when(messages.str.starts_with('"'))
        .then(pl.concat_str(pl.lit('{"context":'), messages, pl.lit("}")))
    )
    return prompts.with_columns(whole.str.json_decode(_ASKED).struct.unnest()).filter(pl.col("context").is_not_null())


def scored_texts(completions: pl.LazyFrame, prompts: pl.LazyFrame) -> pl.LazyFrame:
    """KEYS, `prompt_index`, `candidate`, `context`, `continuation` (null without candidates) and the `text` sent."""
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


def placed_tokens(tokens: pl.LazyFrame, texts: pl.LazyFrame) -> pl.LazyFrame:
    """The tokens of the `prompt` section of the completions in `texts`, with their place in the text.

    Adds the columns of `texts` and, in bytes, `size`, how long the token is, and `behind`, how much of the text is
    behind its end. A token with `behind` of at least the text's length is no part of it. Both are null where the
    tokens do not spell the text. A token without a string is part of the one behind it.

    Args:
        tokens: the tokens table.
        texts: KEYS, the whole `text`, and whatever else is wanted beside each token; one row for each completion.
    """
    given = tokens.filter(pl.col("section") == "prompt").select(*KEYS, "position", "token", "bytes", "logprob")
    spelled = given.group_by(KEYS).agg(
        spelled=pl.col("token").sort_by("position").str.join(ignore_nulls=False), begins=pl.col("position").min()
    )
    known = texts.join(spelled, on=KEYS, how="inner")
    # vLLM leaves the first token out, of which it has no logprob.
    cut = (pl.col("begins") > 0) & pl.col("text").str.ends_with(pl.col("spelled"))
    plainly = (pl.col("spelled").str.ends_with(pl.col("text")) | cut).fill_null(value=False)
    right = known.filter(plainly).drop("spelled", "begins")
    sized = given.join(right, on=KEYS, how="inner").with_columns(size=pl.col("token").str.len_bytes().cast(pl.Int64))
    rest = given.join(known.filter(~plainly).drop("spelled", "begins"), on=KEYS, how="inner")
    together = pl.concat([sized, _looked_for(rest)], how="vertical")
    after = pl.col("size").cum_sum(reverse=True).over(KEYS, order_by="position") - pl.col("size")
    return together.with_columns(behind=after)


def _looked_for(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows with their sizes, found one completion at a time."""
    others = [name for name in rows.collect_schema().names() if name not in KEYS]
    begins = pl.col("position").list.first().alias("begins")
    found = pl.struct("token", "bytes", pl.col("text").list.first(), begins).map_elements(
        lambda row: token_sizes(row["token"], row["bytes"], row["text"], cut=row["begins"] > 0),
        return_dtype=pl.List(pl.Int64),
        skip_nulls=False,
    )
    return (
        rows.group_by(KEYS)
        .agg(pl.col(others).sort_by("position"))
        .with_columns(size=found)
        .explode(*others, "size")
        .select(*rows.collect_schema().names(), "size")
    )


def token_sizes(
    tokens: Sequence[str | None], spelled: Sequence[bytes | None], text: str, *, cut: bool = False
) -> list[int | None]:
    r"""How many bytes of the text each token is, looked for from the end; all None where they do not spell it.

    Neighbours whose bytes nobody knows are together what lies between their neighbours; the last of them has it all.

    Args:
        tokens: the tokens' strings, None where the wire gave none.
        spelled: their bytes, None where the wire gave none.
        text: what they should spell, but for tokens in front of it.
        cut: whether the text's first token is missing from the tokens.

    >>> token_sizes(["<s>", "a ", "\ufffd", "\ufffd", "!"], [None] * 5, "a 💙!")
    [3, 2, 0, 4, 1]
    >>> token_sizes(["bytes: \\xf0\\x9f", "bytes:\\x92\\x99"], [None] * 2, " 💙")
    [3, 2]
    >>> token_sizes(["<s>", "\ufffd", "\ufffd!"], [None] * 3, "💙!")
    [3, 0, 5]
    >>> token_sizes(["b"], [None], "a")
    [None]
    """
    whole = text.encode()
    sizes: list[int | None] = [0] * len(tokens)
    at, unknown, least = len(whole), None, 0
    for number in range(len(tokens) - 1, -1, -1):
        piece = _piece(tokens[number], spelled[number])
        if piece is None:
            unknown = number if unknown is None else unknown
            # A replaced byte is at least one; what else the string shows is known.
            least += len((tokens[number] or "?").replace(_REPLACED, "?").encode())
        if not piece:
            continue
        start = whole.rfind(piece, 0, max(at - least, 0)) if at else 0
        if start < 0 and unknown is not None and number == 0 and not whole.startswith(piece):
            # A begin-of-text token in front; what is unknown then begins the text.
            sizes[unknown], unknown, least, at, start = at, None, 0, 0, 0
        if start < 0 or (unknown is None and at and start + len(piece) != at):
            return [None] * len(tokens)
        if unknown is not None:
            sizes[unknown], unknown, least = at - start - len(piece) if at else 0, None, 0
        sizes[number] = len(piece)
        at = start
    if unknown is not None and not cut:
        sizes[unknown], at = at, 0
    return sizes if at == 0 or (cut and unknown is None) else [None] * len(tokens)


def _piece(token: str | None, spelled: bytes | None) -> bytes | None:
    """A token's bytes; None where they are lost."""
    lost = spelled is None and token is not None and _REPLACED in token
    return None if lost else bytes_of_token(token, spelled)
