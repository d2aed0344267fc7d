"""Token healing: bounds of the probability that a prompt ends inside what would be one token.

A polars expression over the `alternatives` table. Which token is the last of the prompt is in the tokens table of a
scored prompt, or known to the tokenizer of the server.
"""

from __future__ import annotations

import polars as pl

from logprob_store.metrics.alternatives.topk import hidden_mass
from logprob_store.metrics.arguments import Column, as_column
from logprob_store.token_bytes import token_bytes


def healing_bounds(
    cut: Column, *, text: Column = "token", raw: Column = "bytes", column: Column = "logprob"
) -> tuple[pl.Expr, pl.Expr]:
    """Bounds of the probability that one token goes on beyond the end of the prompt.

    The two expressions are named healing_lower and healing_upper. They answer, from the alternatives to the last token
    of a prompt and that token as `cut`: if the text goes on with the cut, does one token cross its end?
    docs/cookbook/token-healing.md is a worked example.

    Formula: lower = E / (E + X + B + m), upper = (E + B + m) / (E + X + B + m). E is the mass of the alternatives that
    begin with the cut and go on, X that of the cut itself, B that of proper beginnings of the cut, and m = 1 - sum p. B
    and m may end at the cut or cross it.
    Range: [0, 1], lower is the better place to end a prompt. Unit: none. A lower bound above 1/2 speaks for removing
    the cut from the prompt, an upper bound below 1/2 for leaving it.
    Needs: the alternatives at one position, by token (`POSITION`), and the cut: a column of texts or bytes, equal in
    all rows of a group; `pl.lit(":")` is one cut for all. The probability of a cut of several tokens is in B.
    Nulls: left out, so that their mass is in m. No alternative with a logprob, an empty or null cut, and no mass in any
    of the four give null.
    Source: token healing, Lundberg 2023, "The art of prompt design: prompt boundaries and token healing"; the bounds
    follow because the probabilities sum to 1.

    Args:
        cut: the last token of the prompt.
        text: the strings of the alternatives, for those without bytes.
        raw: the bytes of the alternatives.
        column: their logprobs.

    After "http", cut ":": "://" has 5/8, ":" 1/8, "s" 1/8, so m is 1/8; 5/8 and 6/8 of 7/8:

    >>> rows = {"token": ["://", ":", "s"], "bytes": [b"://", b":", b"s"], "p": [5 / 8, 1 / 8, 1 / 8]}
    >>> found = pl.DataFrame(rows).select(healing_bounds(pl.lit(":"), column=pl.col("p").log()))
    >>> [round(bound, 6) for bound in found.row(0)]
    [0.714286, 0.857143]
    """
    logprob, end = as_column(column), as_column(cut).cast(pl.Binary)
    token = token_bytes(text, raw)
    ends = token == end
    extends = token.bin.starts_with(end) & ~ends
    begins = end.bin.starts_with(token) & ~ends & (token.bin.size() > 0)
    # Not `filter(...).sum()`, which takes seven times as long in a group.
    crossing, ending, undecided = (pl.when(where).then(logprob.exp()).sum() for where in (extends, ends, begins))
    open_mass = undecided + hidden_mass(logprob)
    total = crossing + ending + open_mass
    known = (logprob.count() > 0) & (end.bin.size().max() > 0) & (total > 0)
    lower = pl.when(known).then(crossing / total)
    upper = pl.when(known).then((crossing + open_mass) / total)
    return lower.alias("healing_lower"), upper.alias("healing_upper")
