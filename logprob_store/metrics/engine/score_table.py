"""The table of scores, one row per completion, as a LazyFrame that reads only the tables which its columns need.

The named scores are in `catalogue`, the formulas in the folders of `metrics`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import polars as pl
from polars.io.plugins import register_io_source

from logprob_store.errors import InputError
from logprob_store.metrics.alternatives.chosen import with_chosen
from logprob_store.metrics.alternatives.topk import LARGEST_RANK
from logprob_store.metrics.arguments import generated
from logprob_store.metrics.engine.arrays import WINDOW, array_scores
from logprob_store.metrics.engine.catalogue import ARRAYS, DEFAULT_METRICS, SCORES, TOTALS, check_metrics
from logprob_store.metrics.engine.part_batches import PartBatch, Tables, batches, may_hold
from logprob_store.metrics.right_table import check_tables
from logprob_store.metrics.tokens.windows import group_confidence
from logprob_store.schema import KEYS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from logprob_store.metrics.engine.catalogue import Score

_ROWS_AT_ONCE: Final = 20_000_000
"""Rows of tokens and alternatives in memory at a time: about a GB."""

_FROM_COMPLETIONS: Final = (
    *KEYS,
    "prompt_id",
    "prompt_index",
    "sample_index",
    "choice_index",
    "finish_reason",
    "text",
    "token_count",
)


def scores(
    tokens: pl.LazyFrame,
    alternatives: pl.LazyFrame | None,
    completions: pl.LazyFrame,
    *,
    metrics: Sequence[str | pl.Expr] | None = None,
) -> pl.LazyFrame:
    """One row per completion: its keys, its text, and how certain the model was of it.

    Columns: run, completion_id, prompt_id, prompt_index, sample_index, choice_index, finish_reason, text,
    token_count; scored_tokens, unscored_tokens, logprob_sum, joint_probability, mean_logprob, confidence,
    perplexity, min_probability over the tokens of all sections but `prompt`; mean_entropy (the `tail` form,
    nats), mean_margin and mean_missing_mass, means over the tokens that have at least two alternatives with a
    logprob.

    `metrics` chooses by name what follows token_count (docs/metrics.md lists the names), and may hold expressions over
    the tokens of a completion, such as `ls.sliding_confidence(window=256)`.

    A completion without tokens stays, with nulls and scored_tokens 0. Without alternatives (or with None for the table)
    their columns are null. The order of rows is not promised. To count the mass of sampled tokens that the API did not
    list, give `with_chosen(alternatives, tokens)` as alternatives.

    Lazy: a filter on the keys reaches the files, and the alternatives are read only when a column from them
    is asked for. Needs: the three tables. Ranges, directions, sources: as each metric's own function says.

    Raises:
        InputError: no score has a name, or two columns have the same name.

    Two tokens of 1/2 and 1/8, the second completion without any:

    >>> from math import log
    >>> tokens = pl.LazyFrame(
    ...     {"run": "r", "completion_id": [1, 1], "section": "content", "logprob": [log(0.5), log(0.125)]}
    ... )
    >>> completions = pl.LazyFrame(
    ...     {
    ...         "run": "r",
    ...         "completion_id": [1, 2],
    ...         "prompt_id": ["a", "b"],
    ...         "prompt_index": [0, 1],
    ...         "sample_index": 0,
    ...         "choice_index": 0,
    ...         "finish_reason": "stop",
    ...         "text": "",
    ...         "token_count": [2, 0],
    ...     }
    ... )
    >>> table = scores(tokens, None, completions).sort("completion_id")
    >>> table.select("prompt_id", "scored_tokens", pl.col("perplexity").round(6)).collect().rows()
    [('a', 2, 4.0), ('b', 0, None)]
    """
    plan = _Plan.of(metrics, keys=KEYS, measured=False)
    tables = (tokens, alternatives, completions)
    check_tables(tables, "scores", KEYS)
    return plan.lazy_frame([PartBatch(None, 0, lambda: tables)], tables)


def scores_of_parts(
    parts: Sequence[PartBatch], empty: Tables, *, metrics: Sequence[str | pl.Expr] | None = None
) -> pl.LazyFrame:
    """`scores` of a store, some parts at a time: memory has 20 million rows, or one batch of parts if it has more.

    Args:
        parts: the tables of whole completions, each of one run.
        empty: tables without rows, for the columns.
        metrics: as in `scores`.
    """
    # Within a run completion_id is a key; grouping by the run too, which is constant, takes twice the time.
    return _Plan.of(metrics, keys=("completion_id",), measured=True).lazy_frame(parts, empty)


@dataclass(frozen=True)
class _Plan:
    """The columns of a table of scores, and how to compute them.

    Args:
        names: the named scores.
        own: the caller's expressions over the tokens of a completion.
        keys: the columns that identify a completion in the tables.
        measured: whether to look up the largest rank first, which is fast where the alternatives are files.
    """

    names: tuple[str, ...]
    own: tuple[pl.Expr, ...]
    keys: tuple[str, ...]
    measured: bool

    @classmethod
    def of(cls, metrics: Sequence[str | pl.Expr] | None, *, keys: tuple[str, ...], measured: bool) -> _Plan:
        if isinstance(metrics, str):
            raise InputError(f"metrics {metrics!r} is one text; give a list")
        listed = DEFAULT_METRICS if metrics is None else metrics
        names = tuple(dict.fromkeys(metric for metric in listed if isinstance(metric, str)))
        check_metrics(names)
        own = tuple(metric for metric in listed if isinstance(metric, pl.Expr))
        taken = {*_FROM_COMPLETIONS, *names}
        for name in (expr.meta.output_name() for expr in own):
            if name in taken:
                raise InputError(f"two columns of scores are called {name!r}; name the expression with .alias()")
            taken.add(name)
        return cls(names, own, keys, measured)

    @property
    def scores(self) -> list[Score]:
        return [SCORES[name] for name in self.names]

    @property
    def of_alternatives(self) -> list[Score]:
        return [score for score in self.scores if score.reads_alternatives]

    def lazy_frame(self, parts: Sequence[PartBatch], empty: Tables) -> pl.LazyFrame:
        """The scores as a LazyFrame that reads only the tables which the query's columns need.

        polars keeps a left join even if none of its columns is selected, because it cannot know that keys are unique,
        and would scan all alternatives for a list of perplexities. It drops a horizontal concat, but no filter passes
        one. So the tables are joined when the query's columns are known, and its filter is applied to them.
        """

        def read(
            columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _batch_size: int | None
        ) -> Iterator[pl.DataFrame]:
            # `columns` includes the columns of the predicate.
            plan = self if columns is None else self._narrowed_to(columns)
            possible = [batch for batch in parts if predicate is None or may_hold(predicate, batch.run)]
            for together in batches(possible, -1 if n_rows is not None else _ROWS_AT_ONCE):
                tables = plan.tables_of(together, predicate)
                if predicate is not None:
                    tables = [table.filter(predicate) for table in tables]
                if columns is not None:
                    tables = [table.select(columns) for table in tables]
                if n_rows is not None:
                    tables = [table.head(n_rows) for table in tables]
                # Not collect_batches: in polars 2.1 a damaged file ends its batches early, without an error.
                found = pl.collect_all(tables, engine="streaming")
                yield from found
                if n_rows is not None:
                    n_rows -= sum(frame.height for frame in found)
                    if n_rows <= 0:
                        return

        unmeasured = replace(self, measured=False)
        return register_io_source(
            read, schema=lambda: unmeasured.all_scores(empty).collect_schema(), is_pure=True, explain_name="scores"
        )

    def _narrowed_to(self, columns: Sequence[str]) -> _Plan:
        """A plan of the scores among these columns."""
        own = tuple(expr for expr in self.own if expr.meta.output_name() in columns)
        return replace(self, names=tuple(name for name in self.names if name in columns), own=own)

    def tables_of(self, parts: Sequence[PartBatch], predicate: pl.Expr | None) -> list[pl.LazyFrame]:
        """The table of scores of each batch; computed over arrays where the tokens are in the order of generation."""
        # A filter on a column of completions may exclude most tokens: polars then skips their rows, arrays do not.
        whole = predicate is None or {*_FROM_COMPLETIONS}.isdisjoint({*predicate.meta.root_names()} - {"run"})
        if self.own or not whole or not ARRAYS.keys() >= self._token_aggs().keys():
            return [self.all_scores(batch.tables()) for batch in parts]
        with ThreadPoolExecutor(min(pl.thread_pool_size(), 4)) as pool:
            found = pool.map(self._array_scores, parts)
            return [self.all_scores(batch.tables(), scored) for batch, scored in zip(parts, found, strict=True)]

    def _array_scores(self, batch: PartBatch) -> pl.LazyFrame | None:
        functions = {name: ARRAYS[name] for name in self._token_aggs()}
        if batch.ordered_tokens is None:
            return None
        tables = [
            None if tokens is None else array_scores(tokens, functions)
            for tokens in batch.ordered_tokens("longest_low_confidence_span" in functions)
        ]
        known = [table for table in tables if table is not None]
        return pl.concat(known).lazy() if known and len(known) == len(tables) else None

    def token_scores(self, tables: Tables, scored: pl.LazyFrame | None = None) -> pl.LazyFrame:
        """The scores that do not read the alternatives.

        Args:
            tables: of a batch.
            scored: the aggregates of `_token_aggs`, where they are computed already.
        """
        tokens, _, completions = tables
        if scored is None:
            scored = tokens.filter(generated()).group_by(self.keys).agg(*self.own, **self._token_aggs())
        table = completions.select(_FROM_COMPLETIONS).join(scored, on=self.keys, how="left")
        of_tokens = [score for score in self.scores if not score.reads_alternatives]
        counts = [name for name in ("scored_tokens", "unscored_tokens") if name in {"scored_tokens", *self.names}]
        finished = {
            score.name: expression
            for score in of_tokens
            for expression in (score.from_totals, score.from_text)
            if expression is not None
        }
        table = table.with_columns(pl.col(counts).fill_null(0)).with_columns(**finished)
        return table.select(*_FROM_COMPLETIONS, *(score.name for score in of_tokens), *self._own_names())

    def all_scores(self, tables: Tables, scored: pl.LazyFrame | None = None) -> pl.LazyFrame:
        """All scores; those of alternatives are null where there is no such table. Arguments as for `token_scores`."""
        tokens, alternatives, _ = tables
        table = self.token_scores(tables, scored)
        names = [score.name for score in self.of_alternatives]
        if not names:
            return table
        if alternatives is None:
            table = table.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in names)
        else:
            table = table.join(self._alternative_scores(tokens, alternatives), on=self.keys, how="left")
        return table.select(*_FROM_COMPLETIONS, *self.names, *self._own_names())

    def _own_names(self) -> list[str]:
        return [expr.meta.output_name() for expr in self.own]

    def _token_aggs(self) -> dict[str, pl.Expr]:
        """Expressions over the tokens of a completion: the totals, and the scores that are not functions of totals."""
        totals = sorted({"scored_tokens"}.union(*(score.totals for score in self.scores)))
        aggs = {total: TOTALS[total].expression for total in totals}
        return aggs | {score.name: score.from_tokens for score in self.scores if score.from_tokens is not None}

    def _alternative_scores(self, tokens: pl.LazyFrame, alternatives: pl.LazyFrame) -> pl.LazyFrame:
        largest = LARGEST_RANK
        if self.measured:
            largest = alternatives.select(pl.col("rank").max()).collect(engine="streaming").item() or 1
        position = (*self.keys, "section", "position")
        rows = alternatives.filter(generated())
        found = []
        of_token: dict[str, pl.Expr] = {}
        over_tokens: dict[str, pl.Expr] = {}
        for score in self.of_alternatives:
            if score.of_token is not None:
                of_token[score.name] = score.of_token(largest)
                over_tokens[score.name] = pl.col(score.name).min() if score.least else pl.col(score.name).mean()
            elif score.windows_of is not None and (each := SCORES[score.windows_of].of_token) is not None:
                of_token[score.windows_of] = each(largest)
                over_tokens[score.name] = group_confidence(score.windows_of, window=WINDOW)
        if over_tokens:
            found.append(rows.group_by(position).agg(**of_token).group_by(self.keys).agg(**over_tokens))
        of_chosen = {score.name: score.of_chosen for score in self.of_alternatives if score.of_chosen is not None}
        if of_chosen:
            both = with_chosen(rows, tokens.filter(generated())).group_by(position).agg(**of_chosen)
            found.append(both.group_by(self.keys).agg(pl.col(list(of_chosen)).mean()))
        return found[0] if len(found) == 1 else found[0].join(found[1], on=self.keys, how="full", coalesce=True)
