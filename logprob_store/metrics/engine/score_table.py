"""One row of scores per completion, lazily.

Holds which table is read for which score, and how: a run in pieces, each in memory for itself. Leaves out the names
(`catalogue`), the formulas (`sequence`, `topk` and the others) and opening a store (`logprob_store.store`).
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
from logprob_store.metrics.engine import catalogue
from logprob_store.metrics.engine.arrays import IN_ORDER, scores_in_order
from logprob_store.metrics.engine.part_batches import Piece, Tables, batches, may_hold
from logprob_store.metrics.tokens.windows import group_confidence
from logprob_store.schema import KEYS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Piece", "scores", "scores_in_pieces"]

_ROWS_AT_ONCE: Final = 20_000_000
"""Tokens and alternatives that are in memory at a time, about a GB."""

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
    """One row per completion: who it is, and how sure the model was of it.

    Columns: run, completion_id, prompt_id, prompt_index, sample_index, choice_index, finish_reason, text,
    token_count; scored_tokens, unscored_tokens, logprob_sum, joint_probability, mean_logprob, confidence,
    perplexity, min_probability over the tokens of all sections but `prompt`; mean_entropy (the `tail` form,
    nats), mean_margin and mean_missing_mass, means over the tokens that have at least two alternatives with a
    logprob.

    `metrics` chooses by name what follows token_count (docs/metrics.md lists the names), and may hold expressions over
    the tokens of a completion, such as `ls.sliding_confidence(window=256)`.

    A completion without tokens stays, with nulls and scored_tokens 0; without alternatives (or with None for
    the table) what is of them is null. The order of rows is not promised. To count the mass of sampled tokens
    the API did not list, give `with_chosen(alternatives, tokens)` as alternatives.

    Lazy: a filter on the keys reaches the files, and the alternatives are read only when a column from them
    is asked for. Needs: the three tables. Ranges, directions, sources: as each metric's own function says.

    Raises:
        InputError: a name that there is not, or one of two columns.

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
    return plan.read([Piece(None, 0, lambda: tables)], tables)


def scores_in_pieces(
    pieces: Sequence[Piece], empty: Tables, *, metrics: Sequence[str | pl.Expr] | None = None
) -> pl.LazyFrame:
    """`scores` of a store in pieces, so that memory holds some at a time: 20 million rows, and at least one piece.

    Args:
        pieces: the tables of whole completions, of one run each.
        empty: tables without rows, for the columns.
        metrics: as in `scores`.
    """
    # Of one run, completion_id is enough: to group by a constant run as well takes twice the time.
    return _Plan.of(metrics, keys=("completion_id",), measured=True).read(pieces, empty)


@dataclass(frozen=True)
class _Plan:
    """What is asked for. `measured`: the alternatives are files, whose largest rank is quickly known."""

    names: tuple[str, ...]
    own: tuple[pl.Expr, ...]
    keys: tuple[str, ...]
    measured: bool

    @classmethod
    def of(cls, metrics: Sequence[str | pl.Expr] | None, *, keys: tuple[str, ...], measured: bool) -> _Plan:
        if isinstance(metrics, str):
            raise InputError(f"metrics {metrics!r} is one text; give a list")
        listed = catalogue.DEFAULT_METRICS if metrics is None else metrics
        names = tuple(dict.fromkeys(metric for metric in listed if isinstance(metric, str)))
        catalogue.check_metrics(names)
        own = tuple(metric for metric in listed if isinstance(metric, pl.Expr))
        taken = {*_FROM_COMPLETIONS, *names}
        for name in (expr.meta.output_name() for expr in own):
            if name in taken:
                raise InputError(f"two columns of scores are called {name!r}; name the expression with .alias()")
            taken.add(name)
        return cls(names, own, keys, measured)

    @property
    def of_tokens(self) -> list[str]:
        return [name for name in self.names if name not in catalogue.OF_ALTERNATIVES]

    @property
    def of_alternatives(self) -> list[str]:
        return [name for name in self.names if name in catalogue.OF_ALTERNATIVES]

    def read(self, pieces: Sequence[Piece], empty: Tables) -> pl.LazyFrame:
        """A table in pieces, each planned without what the query asks for no column of, such as the alternatives.

        polars keeps a left join none of whose columns are selected, for it cannot know that keys are unique, and
        would scan all alternatives for a list of perplexities. A horizontal concat is dropped, but stops filters.
        So we choose once the query's columns are known, and hand filters on.
        """

        def read(
            columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _batch_size: int | None
        ) -> Iterator[pl.DataFrame]:
            # polars names the predicate's columns among those it asks for
            plan = self if columns is None else self._of(columns)
            possible = [piece for piece in pieces if predicate is None or may_hold(predicate, piece.run)]
            for together in batches(possible, -1 if n_rows is not None else _ROWS_AT_ONCE):
                tables = plan.of_pieces(together, predicate)
                if predicate is not None:
                    tables = [table.filter(predicate) for table in tables]
                if columns is not None:
                    tables = [table.select(columns) for table in tables]
                if n_rows is not None:
                    tables = [table.head(n_rows) for table in tables]
                # not collect_batches: in polars 2.1 a damaged file ends its batches early, without an error
                found = pl.collect_all(tables, engine="streaming")
                yield from found
                if n_rows is not None:
                    n_rows -= sum(frame.height for frame in found)
                    if n_rows <= 0:
                        return

        unmeasured = replace(self, measured=False)
        return register_io_source(
            read, schema=lambda: unmeasured.wide(empty).collect_schema(), is_pure=True, explain_name="scores"
        )

    def _of(self, columns: Sequence[str]) -> _Plan:
        """What of it these columns need."""
        own = tuple(expr for expr in self.own if expr.meta.output_name() in columns)
        return replace(self, names=tuple(name for name in self.names if name in columns), own=own)

    def of_pieces(self, pieces: Sequence[Piece], predicate: pl.Expr | None) -> list[pl.LazyFrame]:
        """The rows of each piece, over arrays where they lie in order."""
        # a filter on what a completion is may spare most of the tokens' files, which polars knows to leave alone
        whole = predicate is None or {*_FROM_COMPLETIONS}.isdisjoint({*predicate.meta.root_names()} - {"run"})
        if self.own or not whole or not IN_ORDER.keys() >= self._token_aggs().keys():
            return [self.wide(piece.tables()) for piece in pieces]
        with ThreadPoolExecutor(min(pl.thread_pool_size(), 4)) as pool:
            found = pool.map(self._scores_in_order, pieces)
            return [self.wide(piece.tables(), scored) for piece, scored in zip(pieces, found, strict=True)]

    def _scores_in_order(self, piece: Piece) -> pl.LazyFrame | None:
        names = self._token_aggs()
        if piece.in_order is None:
            return None
        parts = [
            None if tokens is None else scores_in_order(tokens, names)
            for tokens in piece.in_order("longest_low_confidence_span" in names)
        ]
        known = [part for part in parts if part is not None]
        return pl.concat(known).lazy() if known and len(known) == len(parts) else None

    def narrow(self, tables: Tables, scored: pl.LazyFrame | None = None) -> pl.LazyFrame:
        """Without what is of the alternatives; `scored` are the scores of the tokens, if they are known."""
        tokens, _, completions = tables
        names = self.of_tokens
        if scored is None:
            scored = tokens.filter(generated()).group_by(self.keys).agg(*self.own, **self._token_aggs())
        table = completions.select(_FROM_COMPLETIONS).join(scored, on=self.keys, how="left")
        counts = [name for name in ("scored_tokens", "unscored_tokens") if name in {"scored_tokens", *names}]
        finished = {name: catalogue.FROM_TOTALS[name][1] for name in names if name in catalogue.FROM_TOTALS}
        finished |= {name: catalogue.FROM_TEXT[name] for name in names if name in catalogue.FROM_TEXT}
        table = table.with_columns(pl.col(counts).fill_null(0)).with_columns(**finished)
        return table.select(*_FROM_COMPLETIONS, *names, *self._own_names())

    def wide(self, tables: Tables, scored: pl.LazyFrame | None = None) -> pl.LazyFrame:
        """With it; null where there are no alternatives."""
        tokens, alternatives, _ = tables
        table = self.narrow(tables, scored)
        if not self.of_alternatives:
            return table
        if alternatives is None:
            table = table.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in self.of_alternatives)
        else:
            table = table.join(self._alternative_scores(tokens, alternatives), on=self.keys, how="left")
        return table.select(*_FROM_COMPLETIONS, *self.names, *self._own_names())

    def _own_names(self) -> list[str]:
        return [expr.meta.output_name() for expr in self.own]

    def _token_aggs(self) -> dict[str, pl.Expr]:
        """What is computed of the tokens of a completion: totals, and what is no function of them."""
        totals = {"scored_tokens"}
        for name in self.of_tokens:
            totals.update(catalogue.FROM_TOTALS[name][0] if name in catalogue.FROM_TOTALS else ())
            totals.update(("_sum",) if name in catalogue.FROM_TEXT else ())
        aggs = {total: catalogue.TOTALS[total] for total in sorted(totals)}
        return aggs | {name: catalogue.FROM_TOKENS[name] for name in self.names if name in catalogue.FROM_TOKENS}

    def _alternative_scores(self, tokens: pl.LazyFrame, alternatives: pl.LazyFrame) -> pl.LazyFrame:
        largest = LARGEST_RANK
        if self.measured:
            largest = alternatives.select(pl.col("rank").max()).collect(engine="streaming").item() or 1
        by_token = {
            name: catalogue.by_token(name, largest) for name in catalogue.BY_TOKEN if f"mean_{name}" in self.names
        }
        means = {f"mean_{name}": pl.col(name).mean() for name in by_token}
        if "group_confidence" in self.names:
            by_token["token_confidence"] = catalogue.by_token("token_confidence", largest)
            means["group_confidence"] = group_confidence(window=catalogue.WINDOW)
        place = (*self.keys, "section", "position")
        rows = alternatives.filter(generated())
        found = []
        if by_token:
            found.append(rows.group_by(place).agg(**by_token).group_by(self.keys).agg(**means))
        if beside := [name for name in self.names if name in catalogue.BY_CHOSEN]:
            both = with_chosen(rows, tokens.filter(generated())).group_by(place)
            by_place = both.agg(**{name: catalogue.BY_CHOSEN[name] for name in beside})
            found.append(by_place.group_by(self.keys).agg(pl.col(beside).mean()))
        return found[0] if len(found) == 1 else found[0].join(found[1], on=self.keys, how="full", coalesce=True)
