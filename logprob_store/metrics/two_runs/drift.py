"""Drift of one token: whether the logprobs at one place of each answer moved between two runs.

The finest watch on a model behind an API: one token of output a call, asked a few times on each side. Flips and
divergences of whole answers are in `comparison`.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

import polars as pl

from logprob_store.errors import InputError
from logprob_store.metrics.arguments import check_sections
from logprob_store.metrics.right_table import check_tables
from logprob_store.token_bytes import token_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from logprob_store.metrics.engine.part_batches import Tables

    Floats: TypeAlias = NDArray[np.float64]

By: TypeAlias = Literal["prompt", "all"]

_ROUNDED: Final = 1e-12
"""A permutation whose drift is this much smaller counts as equal: sums in another order differ in their last digits."""
_CELLS_AT_ONCE: Final = 2_000_000
_SCHEMA: Final = pl.Schema(
    {
        "prompt_id": pl.String(),
        "answers_a": pl.Int64(),
        "answers_b": pl.Int64(),
        "shown_tokens": pl.Int64(),
        "drift": pl.Float64(),
        "p_value": pl.Float64(),
        "permutations": pl.Int64(),
    }
)


def logprob_drift(
    a: Tables,
    b: Tables,
    *,
    by: By = "prompt",
    section: str = "content",
    position: int = 0,
    permutations: int = 10_000,
    seed: int = 0,
) -> pl.DataFrame:
    """How far the logprobs at one place moved between two runs, and whether chance would move them as far.

    Each prompt is asked several times in each run: a server's logprobs vary a little from call to call. Columns:

    - `prompt_id`; with `by="all"` there is one row, of all prompts together, and `prompts` in its place
    - `answers_a`, `answers_b`: the answers that show something at the place
    - `shown_tokens`: the different tokens that they show; of all prompts, their sum
    - `drift`: [0, inf) nats, lower is more alike; of all prompts, the mean
    - `p_value`: (0, 1]; how often a split by chance gives this drift or a larger one
    - `permutations`: the splits that were tried

    Formula: over the n tokens that any answer of the prompt shows, sum |mean_a(t) - mean_b(t)| / n, the means over the
    answers of a run. A token that an answer does not show counts as the smallest logprob that it shows. p is
    (1 + splits of the answers into two runs with at least this drift) / (1 + splits tried), drawn by chance; where a
    prompt has no more than `permutations` splits, all are tried, and p is their share. Of all prompts together, each is
    split within itself.
    Range: drift [0, inf), lower is more alike. Unit: nats.
    Needs: the alternatives and completions of two runs, with at least two answers a prompt on each side: with one
    the two splits are the same, and p is 1. Three and three can give 0.1, four and four 0.029.
    Nulls: alternatives without a logprob are left out, and answers that then show nothing; a prompt that has none on a
    side has a null drift, and is in no mean.
    Source: log probability tracking, arXiv:2512.03816.

    Args:
        a: tokens, alternatives and completions of one run, as `store.only(run).tables()` gives them.
        b: the same of the other run.
        by: "prompt" or "all".
        section: the section of the place.
        position: the position of the place, 0 for the first token.
        permutations: how many splits to try.
        seed: the same seed draws the same splits.

    Raises:
        InputError: a run has no alternatives, or no prompt has some at the place in both.
        ValueError: the section or `by` is unknown, or `permutations` is below one.

    Twice ln 1/2 and twice ln 1/4: a drift of ln 2. Of six splits, two are as far apart: this one and its mirror.

    >>> from math import log
    >>> def tables(run, p):
    ...     keys = {"run": run, "completion_id": [0, 1]}
    ...     shown = {"section": "content", "position": 0, "token": "a", "bytes": None, "logprob": log(p)}
    ...     return pl.LazyFrame(keys), pl.LazyFrame(keys | shown), pl.LazyFrame(keys | {"prompt_id": "FR"})
    >>> table = logprob_drift(tables("monday", 1 / 2), tables("tuesday", 1 / 4))
    >>> table.select("answers_a", "shown_tokens", pl.col("drift", "p_value").round(6), "permutations").row(0)
    (2, 1, 0.693147, 0.333333, 6)
    """
    import numpy as np

    check_sections([section])
    if by not in get_args(By):
        raise ValueError(f"by {by!r} is none of {', '.join(get_args(By))}")
    if permutations < 1:
        raise ValueError(f"permutations {permutations}: at least one is needed, 10000 are usual")
    for tables in (a, b):
        check_tables(tables, "logprob_drift", ("completion_id", "prompt_id"))
    generator = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    # Of all prompts together: the sum of their drifts in each split, the first as it is.
    together = np.zeros(permutations + 1)
    for prompt, shown, first in _answers_by_prompt(a, b, section, position):
        counts = {"answers_a": int(first.sum()), "answers_b": int((~first).sum()), "shown_tokens": shown.shape[1]}
        row: dict[str, Any] = {"prompt_id": prompt, **counts}
        rows.append(row)
        if not 0 < first.sum() < len(first):
            continue
        if by == "all":
            drawn = generator.permuted(np.tile(first, (permutations, 1)), axis=1)
            drifts = _drifts(shown, np.vstack([first, drawn]))
            together += drifts
            row["drift"] = float(drifts[0])
        else:
            row |= _with_p_value(shown, first, permutations, generator)
    if not any("drift" in row for row in rows):
        raise InputError(
            f"no prompt has alternatives at position {position} of {section} in both runs; compare runs of the same "
            "prompts that asked for top_logprobs"
        )
    table = pl.DataFrame(rows, schema=_SCHEMA)
    if by == "prompt":
        return table
    known = table.filter(pl.col("drift").is_not_null())
    as_far = int((together[1:] >= together[0] - _ROUNDED * max(1, known.height)).sum())
    return known.select(
        pl.len().cast(pl.Int64).alias("prompts"),
        pl.col("answers_a", "answers_b", "shown_tokens").sum(),
        pl.col("drift").mean(),
        p_value=pl.lit((1 + as_far) / (1 + permutations)),
        permutations=pl.lit(permutations, pl.Int64),
    )


def _answers_by_prompt(
    a: Tables, b: Tables, section: str, position: int
) -> Iterator[tuple[str | None, Floats, NDArray[np.bool_]]]:
    """By prompt of both runs: its id, the logprobs float64[answers, tokens], and which answers are of run a.

    What an answer does not show has its smallest logprob.
    """
    import numpy as np

    sides = []
    for (_, alternatives, completions), name in ((a, "a"), (b, "b")):
        if alternatives is None:
            raise InputError("a run was given without alternatives; their logprobs are what drifts")
        at = (pl.col("section") == section) & (pl.col("position") == position) & pl.col("logprob").is_not_null()
        shown = alternatives.filter(at).select("completion_id", "logprob", token_bytes().alias("key"))
        prompts = completions.select("completion_id", "prompt_id")
        sides.append(shown.join(prompts, on="completion_id").with_columns(side=pl.lit(name)))
    # Tokens of equal bytes are one token: their probabilities are added up.
    one = pl.col("logprob").exp().sum().log()
    merged = pl.when(pl.len() > 1).then(one).otherwise(pl.col("logprob").first()).alias("logprob")
    rows = pl.concat(sides).group_by("prompt_id", "side", "completion_id", "key").agg(merged)
    found = rows.collect(engine="streaming").sort("prompt_id", "side", "completion_id", "key")
    for part in found.partition_by("prompt_id", maintain_order=True):
        answers = part.select(pl.struct("side", "completion_id").rle_id()).to_series().to_numpy()
        tokens = part["key"].rank("dense").to_numpy() - 1
        shown_by = np.full((int(answers[-1]) + 1, int(tokens.max()) + 1), np.nan)
        shown_by[answers, tokens] = part["logprob"].to_numpy()
        smallest = np.nanmin(shown_by, axis=1, keepdims=True)
        of_a = np.zeros(len(shown_by), dtype=bool)
        of_a[answers] = (part["side"] == "a").to_numpy()
        yield part["prompt_id"][0], np.where(np.isnan(shown_by), smallest, shown_by), of_a


def _with_p_value(
    shown: Floats, first: NDArray[np.bool_], permutations: int, generator: np.random.Generator
) -> dict[str, Any]:
    """The drift of one prompt, its p, and how many splits were tried."""
    import numpy as np

    count, of_a = len(first), int(first.sum())
    drift = float(_drifts(shown, first[None])[0])
    splits = math.comb(count, of_a)
    if splits <= permutations:
        chosen = np.array([*combinations(range(count), of_a)])
        every = np.zeros((splits, count), dtype=bool)
        every[np.arange(splits)[:, None], chosen] = True
        as_far = int((_drifts(shown, every) >= drift - _ROUNDED).sum())
        return {"drift": drift, "p_value": as_far / splits, "permutations": splits}
    drawn = generator.permuted(np.tile(first, (permutations, 1)), axis=1)
    as_far = int((_drifts(shown, drawn) >= drift - _ROUNDED).sum())
    return {"drift": drift, "p_value": (1 + as_far) / (1 + permutations), "permutations": permutations}


def _drifts(shown: Floats, splits: NDArray[np.bool_]) -> Floats:
    """The drift of each split, float64[splits].

    Args:
        shown: float64[answers, tokens].
        splits: bool[splits, answers], true for the answers of the first run.
    """
    import numpy as np

    of_a = int(splits[0].sum())
    of_b = splits.shape[1] - of_a
    size = max(1, _CELLS_AT_ONCE // shown.shape[1])
    drifts = []
    for begin in range(0, len(splits), size):
        part = splits[begin : begin + size].astype(np.float64)
        difference = part @ shown / of_a - (1 - part) @ shown / of_b
        drifts.append(np.abs(difference).mean(axis=1))
    found: Floats = np.concatenate(drifts)
    return found
