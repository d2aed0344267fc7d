"""Multiple choice: how likely each of several continuations of one text is, and which is the likeliest.

Leaves out scoring whole texts (`texts`), where tokens stand (`alignment`) and asking (`run.prompt_scoring`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.metrics.arguments import POSITION
from logprob_store.metrics.given.alignment import asked_texts, placed_tokens, scored_texts
from logprob_store.schema import KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence

_CANDIDATE: Final = ("run", "prompt_index", "candidate")
_PROMPT: Final = ("run", "prompt_id", "prompt_index")
_SCORES: Final = (
    *(*_PROMPT, "candidate", "completion_id", "continuation"),
    *("scored_tokens", "unscored_tokens", "straddles"),
    *("loglikelihood", "loglikelihood_per_char", "loglikelihood_per_byte", "greedy", "rank"),
)
_CHOICES: Final = (
    *(*_PROMPT, "candidates", "scored_candidates"),
    *("choice", "continuation", "choice_per_char", "choice_per_byte", "margin"),
)


def candidate_scores(
    tokens: pl.LazyFrame, alternatives: pl.LazyFrame | None, completions: pl.LazyFrame, prompts: pl.LazyFrame
) -> pl.LazyFrame:
    """One row per candidate: how likely the model holds it after its context.

    Columns: run, prompt_id, prompt_index, candidate (its place in the row's list, the `sample_index`), completion_id,
    continuation; scored_tokens and unscored_tokens, of the continuation; straddles, whether a token crosses its
    beginning; loglikelihood, sum l over its tokens, (-inf, 0], nats, up is better; loglikelihood_per_char and
    _per_byte, the same divided by the length of the continuation as it was given; greedy, whether each of its tokens
    is the likeliest of its place; rank, 1 + the candidates of the prompt that are likelier.

    Where the continuation begins: white space at the end of the context counts as the continuation's, for most
    tokenizers put it into the first word's token (lm-evaluation-harness, `TemplateLM._encode_pair`). A token that still
    crosses the beginning counts whole, and `straddles` says so: its logprob cannot be divided, and without it a
    candidate would have its first letters for nothing.

    Nulls: a candidate that was not answered has no completion_id and no scores. One whose tokens do not spell what was
    sent has a completion_id and no counts. One with a token without a logprob (as the first of a text without context)
    has neither loglikelihood nor greedy: a sum without its least likely token would be the best of all. `greedy` is
    also null where a token has fewer than two alternatives.

    Needs: the four tables of a run with `mode = "score"`; None for alternatives costs `greedy`. Source: Brown et al.
    2020 (arXiv:2005.14165), section 2.4; per byte, Gao 2021, "Multiple Choice Normalization in LM Evaluation".

    "Is" is context; " yes" is one token of 1/2, " no" two of 1/2 and 1/4:

    >>> from math import log
    >>> asked = '{"context":"Is","continuations":[" yes"," no"]}'
    >>> prompts = pl.LazyFrame({"run": "r", "prompt_id": "a", "prompt_index": [0], "messages": asked})
    >>> done = {"run": "r", "completion_id": [0, 1000], "prompt_index": 0, "sample_index": [0, 1], "choice_index": 0}
    >>> rows = {"completion_id": [0, 0, 1000, 1000, 1000], "position": [0, 1, 0, 1, 2]}
    >>> rows |= {"token": ["Is", " yes", "Is", " n", "o"], "logprob": [None, log(1 / 2), None, log(1 / 2), log(1 / 4)]}
    >>> tokens = pl.LazyFrame(rows).with_columns(
    ...     run=pl.lit("r"), section=pl.lit("prompt"), bytes=pl.lit(None, pl.Binary)
    ... )
    >>> table = candidate_scores(tokens, None, pl.LazyFrame(done), prompts).sort("candidate")
    >>> table.select("continuation", "scored_tokens", pl.col("loglikelihood").exp().round(6), "rank").collect().rows()
    [(' yes', 1, 0.5, 1), (' no', 2, 0.125, 2)]
    """
    own = pl.col("text").str.len_bytes().cast(pl.Int64) - pl.col("context").str.strip_chars_end().str.len_bytes()
    texts = scored_texts(completions, prompts).filter(pl.col("continuation").is_not_null())
    texts = texts.select(*KEYS, "text", own=own)
    counted = _with_greedy(placed_tokens(tokens, texts).filter(_is_counted()), alternatives)
    by_candidate = _asked(prompts).join(
        completions.filter(pl.col("choice_index") == 0).select(
            "run", "prompt_index", "completion_id", candidate="sample_index"
        ),
        on=_CANDIDATE,
        how="left",
    )
    whole = pl.col("loglikelihood")
    return (
        by_candidate.join(_summed(counted), on=KEYS, how="left")
        .with_columns(
            loglikelihood_per_char=whole / pl.col("continuation").str.len_chars(),
            loglikelihood_per_byte=whole / pl.col("continuation").str.len_bytes(),
            rank=whole.rank("min", descending=True).over("run", "prompt_index"),
        )
        .select(_SCORES)
    )


def _asked(prompts: pl.LazyFrame) -> pl.LazyFrame:
    """Every candidate that was asked about, answered or not."""
    listed = asked_texts(prompts).filter(pl.col("continuations").is_not_null())
    numbered = listed.with_columns(candidate=pl.int_ranges(0, pl.col("continuations").list.len(), dtype=pl.Int32))
    return numbered.select(*_PROMPT, "candidate", continuation="continuations").explode("candidate", "continuation")


def _is_counted() -> pl.Expr:
    """Whether a token has part in the continuation's score; `own` is where that begins, in bytes from the end."""
    behind, size = pl.col("behind"), pl.col("size")
    # A token without a string is part of the one behind it, but for the one that begins the text.
    return (behind < pl.col("own")) | ((size == 0) & (behind == pl.col("own")) & (pl.col("position") > 0))


def _with_greedy(counted: pl.LazyFrame, alternatives: pl.LazyFrame | None) -> pl.LazyFrame:
    if alternatives is None:
        return counted.with_columns(greedy=pl.lit(None, pl.Boolean))
    others = alternatives.filter(pl.col("section") == "prompt").group_by(POSITION)
    most = others.agg(most=pl.col("logprob").max(), shown=pl.col("logprob").count()).drop("section")
    likeliest = pl.when(pl.col("shown") > 1).then(pl.col("logprob") >= pl.col("most"))
    return counted.join(most, on=[*KEYS, "position"], how="left").with_columns(greedy=likeliest)


def _summed(counted: pl.LazyFrame) -> pl.LazyFrame:
    logprob, begins = pl.col("logprob"), pl.col("behind") + pl.col("size")
    # The first token of a text, of which nobody has a logprob, may have no row.
    unscored = logprob.null_count() + (begins.max() < pl.col("own").first())
    return counted.group_by(KEYS).agg(
        scored_tokens=logprob.count(),
        unscored_tokens=unscored,
        straddles=(begins > pl.col("own")).any(),
        loglikelihood=pl.when(unscored == 0).then(logprob.sum()),
        greedy=pl.when(unscored == 0).then(pl.col("greedy").all(ignore_nulls=False)),
    )


def choices(
    candidates: pl.LazyFrame,
    *,
    unconditional: pl.LazyFrame | None = None,
    on: Sequence[str] = ("prompt_id", "continuation"),
) -> pl.LazyFrame:
    """One row per prompt: which of its candidates the model chooses, by each way to compare them.

    Columns: run, prompt_id, prompt_index; candidates and scored_candidates, how many there are and how many have a
    score; choice, the candidate of the highest loglikelihood l(y|x), and continuation, its text; choice_per_char and
    choice_per_byte, of the highest l(y|x) / length, which does not favour the short; margin, l of the first minus l of
    the second, [0, inf), nats, up is surer. With `unconditional`: choice_pmi, of the highest l(y|x) - l(y|premise),
    which does not favour what is likely anywhere, and margin_pmi.

    Of equals the first in the list is chosen. All choices of a prompt are null while one of its candidates has no
    score, as one that cannot be seen may be the best; the margin also where there is one candidate only.

    Args:
        candidates: what `candidate_scores` gives.
        unconditional: the same, of one other run in which the continuations follow a premise that says nothing of the
            question, such as "Answer:".
        on: the columns that make a candidate of one run a candidate of the other; `["continuation"]` where the
            premise's run has each text once.

    Needs: `candidate_scores`. Source: lm-evaluation-harness, `acc`, `acc_norm`, `acc_bytes`; PMI-DC, Holtzman et al.
    2021 (arXiv:2104.08315).

    "yes" is likelier, but the longer "certainly" is likelier per letter (-3/9 > -2/3):

    >>> rows = {"candidate": [0, 1], "continuation": ["yes", "certainly"], "loglikelihood": [-2.0, -3.0]}
    >>> table = pl.LazyFrame({"run": "r", "prompt_id": "a", "prompt_index": 0, **rows}).with_columns(
    ...     loglikelihood_per_char=pl.col("loglikelihood") / pl.Series([3, 9]),
    ...     loglikelihood_per_byte=pl.col("loglikelihood") / pl.Series([3, 9]),
    ... )
    >>> choices(table).select("continuation", "choice", "choice_per_char", "margin").collect().rows()
    [('yes', 0, 1, 1.0)]
    >>> anywhere = table.with_columns(loglikelihood=pl.Series([-1.0, -5.0]))
    >>> choices(table, unconditional=anywhere).select("choice_pmi", "margin_pmi").collect().rows()
    [(1, 3.0)]
    """
    ways = {"": "loglikelihood", "_per_char": "loglikelihood_per_char", "_per_byte": "loglikelihood_per_byte"}
    if unconditional is not None:
        premise = unconditional.select(*on, premise="loglikelihood").unique(on)
        candidates = candidates.join(premise, on=on, how="left").with_columns(
            pmi=pl.col("loglikelihood") - pl.col("premise")
        )
        ways["_pmi"] = "pmi"
    table = candidates.group_by(_PROMPT).agg(
        pl.len().alias("candidates"),
        pl.col("loglikelihood").count().alias("scored_candidates"),
        *(_first("candidate", by).alias(f"choice{name}") for name, by in ways.items()),
        _first("continuation", "loglikelihood"),
        *(_margin(by).alias(f"margin{name}") for name, by in ways.items() if name in {"", "_pmi"}),
    )
    return table.select(*_CHOICES, *(() if unconditional is None else ("choice_pmi", "margin_pmi")))


def _first(column: str, by: str) -> pl.Expr:
    best = pl.col(column).sort_by(by, "candidate", descending=[True, False], nulls_last=True).first()
    return pl.when(pl.col(by).null_count() == 0).then(best)


def _margin(by: str) -> pl.Expr:
    best = pl.col(by).sort(descending=True)
    enough = (pl.col(by).null_count() == 0) & (pl.len() > 1)
    return pl.when(enough).then(best.get(0, null_on_oob=True) - best.get(1, null_on_oob=True))
