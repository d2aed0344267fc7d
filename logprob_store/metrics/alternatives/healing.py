"""Whether a prompt ends within what would be one token: bounds, from the alternatives to its last token.

A polars expression over the `alternatives` table. Leaves out which token is the last (the tokens table of a scored
prompt knows, or the server's tokenizer) and asking again (docs/cookbook/token-healing.md does).
"""

from __future__ import annotations

import polars as pl

from logprob_store.metrics.alternatives.topk import hidden_mass
from logprob_store.metrics.arguments import Column, as_column
from logprob_store.token_bytes import token_bytes


def healing_bounds(
    cut: Column, *, text: Column = "token", raw: Column = "bytes", column: Column = "logprob"
) -> tuple[pl.Expr, pl.Expr]:
    """Between which two values the probability is that a token goes on beyond the end of the prompt.

    Named healing_lower and healing_upper. Given the alternatives to the last token of a prompt, and that token as
    `cut`: if the text goes on with the cut, does a token cross its end? With E the mass of alternatives that begin with
    the cut and go on, X of the cut itself, B of what is a beginning of the cut, and m = 1 - sum p:
    lower = E / (E + X + B + m), upper = (E + B + m) / (E + X + B + m), since B and what was not shown may end there or
    cross. A lower bound above 1/2 speaks for backing off by the cut; an upper bound below 1/2 for leaving it.

    Range [0, 1], down is the better place to end. Needs: the alternatives at one position, by token (`POSITION`), with
    their bytes (where there are none, their text), and the cut as a column of texts or bytes, the same in all rows of a
    group; `pl.lit(":")` is one for all. The probability of a cut of several tokens is in B. Source: token healing,
    Lundberg 2023, "The art of prompt design: prompt boundaries and token healing"; the bounds: probabilities sum to 1.
    Nulls are left out, so their mass is in m; no alternative with a logprob, an empty or null cut, and no mass on any
    of the four give null.

    After "http", cut ":": "://" 5/8, ":" 1/8, "s" 1/8, so m is 1/8; 5/8 and 6/8 over 7/8:

    >>> rows = {"token": ["://", ":", "s"], "bytes": [b"://", b":", b"s"], "p": [5 / 8, 1 / 8, 1 / 8]}
    >>> found = pl.DataFrame(rows).select(healing_bounds(pl.lit(":"), column=pl.col("p").log()))
    >>> [round(bound, 6) for bound in found.row(0)]
    [0.714286, 0.857143]
    """
    logprob, end = as_column(column), as_column(cut).cast(pl.Binary)
    spelled = token_bytes(text, raw)
    ends = spelled == end
    extends = spelled.bin.starts_with(end) & ~ends
    begins = end.bin.starts_with(spelled) & ~ends & (spelled.bin.size() > 0)
    crossing, ending, undecided = (logprob.filter(where).exp().sum() for where in (extends, ends, begins))
    open_mass = undecided + hidden_mass(logprob)
    total = crossing + ending + open_mass
    known = (logprob.count() > 0) & (end.bin.size().max() > 0) & (total > 0)
    lower = pl.when(known).then(crossing / total)
    upper = pl.when(known).then((crossing + open_mass) / total)
    return lower.alias("healing_lower"), upper.alias("healing_upper")
