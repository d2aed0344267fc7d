"""Two runs compared some pairs at a time, so that memory holds those and not the runs.

Holds which pairs are compared together, and LazyFrames that go through all of them. Leaves out what is compared
(`comparing`) and what is said of all pairs (`comparison`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import polars as pl
from polars.io.plugins import register_io_source

from logprob_store.metrics.engine.lazy_source import apply_pushdown
from logprob_store.metrics.two_runs.answer_pairs import compared_positions, compared_prompts, paired_answers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from logprob_store.metrics.arguments import Column
    from logprob_store.metrics.engine.part_batches import Tables

__all__ = ["PairedRuns"]

_ROWS: Final = 2_000_000
"""Tokens and alternatives of both runs at a time: some hundred megabytes."""

_OF_ALTERNATIVES: Final = frozenset(
    {"kl", "js", "same_top", "compared_places", "mean_kl", "mean_js", "max_js", "same_top_rate"}
)


@dataclass(frozen=True)
class PairedRuns:
    """The tables of two runs, and how they are compared.

    Args:
        a: tokens, alternatives (or None) and completions of one run.
        b: of the other.
        answer: what of a completion is compared.
        rows: tokens and alternatives of both at a time, at least one pair.
    """

    a: Tables
    b: Tables
    answer: Column = "text"
    rows: int = _ROWS

    def compared(self) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """The prompts and the positions (see `comparing`) of some pairs, then of others, until all were compared."""
        return map(self.compare, self.batches(self.pairs()))

    def prompts(self) -> pl.LazyFrame:
        """One row per pair of answers, and one for each answer without a partner."""
        return self._lazy(0)

    def positions(self) -> pl.LazyFrame:
        """One row per place up to the first difference."""
        return self._lazy(1)

    def compare(self, pairs: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The prompts and the positions of some pairs, as `batches` gives them."""
        positions = compared_positions(self.a, self.b, pairs)
        prompts = compared_prompts(self.a, self.b, pairs, positions, answer=self.answer)
        return prompts.drop("pair"), positions.drop("pair")

    def _lazy(self, which: int) -> pl.LazyFrame:
        """One of the two tables that `compare` gives.

        A filter on what pairs answers decides which are compared; others are applied to what came of it.
        """

        def read(
            columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _batch_size: int | None
        ) -> Iterator[pl.DataFrame]:
            pairs = self.pairs()
            if predicate is not None and set(pairs.columns).issuperset(predicate.meta.root_names()):
                pairs = pairs.filter(predicate)
            # polars names the predicate's columns among those it asks for
            narrow = columns is not None and _OF_ALTERNATIVES.isdisjoint(columns)
            runs = self._without_alternatives() if narrow else self
            tables = (runs.compare(batch)[which] for batch in runs.batches(pairs))
            return apply_pushdown(tables, columns, predicate, n_rows)

        name = ("compared_prompts", "compared_positions")[which]
        return register_io_source(read, schema=lambda: self._empty()[which].schema, is_pure=True, explain_name=name)

    def _empty(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """What is compared of nothing: the columns and their types."""
        runs = replace(self, a=_cleared(self.a), b=_cleared(self.b))
        return runs.compare(next(runs.batches(runs.pairs())))

    def _without_alternatives(self) -> PairedRuns:
        return replace(self, a=(self.a[0], None, self.a[2]), b=(self.b[0], None, self.b[2]))

    def pairs(self) -> pl.DataFrame:
        """All pairs: what is in memory of both runs as a whole."""
        return paired_answers(self.a, self.b).collect(engine="streaming")

    def batches(self, pairs: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """The pairs in the order of the first run's ids, some at a time, each with its number among them."""
        ids = ("completion_id_a", "completion_id_b")
        ordered = pairs.sort(ids, nulls_last=True)
        if sum(map(_rows, (self.a, self.b))) > self.rows:
            size = pl.lit(0.0)
            for tables, column in zip((self.a, self.b), ids, strict=True):
                sizes = _sizes(tables).rename({"completion_id": column, "size": f"size_{column}"})
                ordered = ordered.join(sizes, on=column, how="left", maintain_order="left")
                size += pl.col(f"size_{column}").fill_null(0.0)
            # answers of the second run alone come last, and by themselves: their ids begin anew
            parts = [pl.col(ids[0]).is_null(), (size.cum_sum() - size) // self.rows]
            number = pl.struct(alone=parts[0], batch=parts[1]).rle_id()
            batches = (
                ordered.with_columns(batch=number)
                .select(*pairs.columns, "batch")
                .partition_by("batch", maintain_order=True, include_key=False)
            )
        else:
            batches = [ordered]
        for batch in batches:
            yield batch.with_row_index("pair").with_columns(pl.col("pair").cast(pl.Int64))


def _cleared(tables: Tables) -> Tables:
    tokens, alternatives, completions = tables
    return tokens.clear(), None if alternatives is None else alternatives.clear(), completions.clear()


def _rows(tables: Tables) -> int:
    """Tokens and alternatives."""
    counts = [table.select(pl.len()) for table in tables[:2] if table is not None]
    return sum(int(count.item()) for count in pl.collect_all(counts, engine="streaming"))


def _sizes(tables: Tables) -> pl.DataFrame:
    """By completion_id: tokens, and as many alternatives as each token has on average."""
    tokens, _, _ = tables
    counts = tokens.group_by("completion_id").agg(size=pl.len().cast(pl.Float64)).collect(engine="streaming")
    total = counts["size"].sum()
    return counts.with_columns(size=pl.col("size") * (_rows(tables) / total)) if total else counts
