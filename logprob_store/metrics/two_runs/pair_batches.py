"""Comparison of two runs in batches of pairs, so that memory holds one batch and not the runs."""

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

_ROWS_AT_ONCE: Final = 2_000_000
"""Tokens and alternatives of both runs in one batch: some hundred megabytes."""

_FROM_ALTERNATIVES: Final = frozenset(
    {"kl", "js", "same_top", "shown_places", "compared_places", "mean_kl", "mean_js", "max_js", "same_top_rate"}
)


@dataclass(frozen=True)
class PairedRuns:
    """The tables of two runs, and how they are compared.

    Attributes:
        a: tokens, alternatives (or None) and completions of one run.
        b: the same of the other run.
        answer: the column or expression of completions that is compared.
        rows: tokens and alternatives of both runs in one batch; a batch has at least one pair.
    """

    a: Tables
    b: Tables
    answer: Column = "text"
    rows: int = _ROWS_AT_ONCE

    def compared_batches(self) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """The prompts and the positions of one batch of pairs after another."""
        return map(self.compare, self.batches(self.pairs()))

    def prompts(self) -> pl.LazyFrame:
        """One row per pair of answers, and one per answer without a partner."""
        return self._lazy_table(0)

    def positions(self) -> pl.LazyFrame:
        """One row per place up to the first difference."""
        return self._lazy_table(1)

    def compare(self, pairs: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The prompts and the positions of one batch of pairs."""
        positions = compared_positions(self.a, self.b, pairs)
        prompts = compared_prompts(self.a, self.b, pairs, positions, answer=self.answer)
        return prompts.drop("pair"), positions.drop("pair", "shown")

    def _lazy_table(self, which: int) -> pl.LazyFrame:
        """The prompts (0) or the positions (1), lazily.

        A filter on the columns that pair answers selects the pairs to compare; other filters are applied afterwards.
        """

        def read(
            columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _batch_size: int | None
        ) -> Iterator[pl.DataFrame]:
            pairs = self.pairs()
            if predicate is not None and set(pairs.columns).issuperset(predicate.meta.root_names()):
                pairs = pairs.filter(predicate)
            # `columns` includes those of the predicate.
            skip = columns is not None and _FROM_ALTERNATIVES.isdisjoint(columns)
            runs = self._without_alternatives() if skip else self
            tables = (runs.compare(batch)[which] for batch in runs.batches(pairs))
            return apply_pushdown(tables, columns, predicate, n_rows)

        name = ("compared_prompts", "compared_positions")[which]
        return register_io_source(
            read, schema=lambda: self._empty_tables()[which].schema, is_pure=True, explain_name=name
        )

    def _empty_tables(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The prompts and the positions without rows, for their schemas."""
        runs = replace(self, a=_cleared(self.a), b=_cleared(self.b))
        return runs.compare(next(runs.batches(runs.pairs())))

    def _without_alternatives(self) -> PairedRuns:
        return replace(self, a=(self.a[0], None, self.a[2]), b=(self.b[0], None, self.b[2]))

    def pairs(self) -> pl.DataFrame:
        """All pairs of both runs, in memory."""
        return paired_answers(self.a, self.b).collect(engine="streaming")

    def batches(self, pairs: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """The pairs in batches, in the order of the ids of run a, with their number in the batch as `pair`."""
        ids = ("completion_id_a", "completion_id_b")
        ordered = pairs.sort(ids, nulls_last=True)
        if sum(map(_row_count, (self.a, self.b))) > self.rows:
            size = pl.lit(0.0)
            for tables, column in zip((self.a, self.b), ids, strict=True):
                sizes = _answer_sizes(tables).rename({"completion_id": column, "size": f"size_{column}"})
                ordered = ordered.join(sizes, on=column, how="left", maintain_order="left")
                size += pl.col(f"size_{column}").fill_null(0.0)
            # Answers of run b alone come last and in batches of their own, because their ids start again.
            alone_in_b = pl.col(ids[0]).is_null()
            number = pl.struct(alone=alone_in_b, batch=(size.cum_sum() - size) // self.rows).rle_id()
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


def _row_count(tables: Tables) -> int:
    """The number of tokens and alternatives."""
    counts = [table.select(pl.len()) for table in tables[:2] if table is not None]
    return sum(int(count.item()) for count in pl.collect_all(counts, engine="streaming"))


def _answer_sizes(tables: Tables) -> pl.DataFrame:
    """One row per completion_id: `size`, its tokens times the average rows of tokens and alternatives per token."""
    tokens, _, _ = tables
    counts = tokens.group_by("completion_id").agg(size=pl.len().cast(pl.Float64)).collect(engine="streaming")
    total = counts["size"].sum()
    return counts.with_columns(size=pl.col("size") * (_row_count(tables) / total)) if total else counts
