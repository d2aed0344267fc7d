"""What plots and truths ask of a store, as a protocol: `opened_store.Store` has plots, and the plots are of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    import polars as pl

    from logprob_store.metrics.labels.probabilities import Shared
    from logprob_store.metrics.labels.spelling import Difference, Labels


class AnyStore(Protocol):
    """The tables of a store and what is computed of them; `ls.Store` says what each is."""

    @property
    def path(self) -> Path: ...  # noqa: D102
    @property
    def run_names(self) -> list[str]: ...  # noqa: D102
    @property
    def runs(self) -> pl.LazyFrame: ...  # noqa: D102
    @property
    def prompts(self) -> pl.LazyFrame: ...  # noqa: D102
    @property
    def completions(self) -> pl.LazyFrame: ...  # noqa: D102
    @property
    def tokens(self) -> pl.LazyFrame: ...  # noqa: D102
    @property
    def alternatives(self) -> pl.LazyFrame: ...  # noqa: D102
    @property
    def decisions(self) -> pl.LazyFrame: ...  # noqa: D102
    @property
    def failures(self) -> pl.LazyFrame: ...  # noqa: D102
    @property
    def has_decisions(self) -> bool: ...  # noqa: D102
    def only(self, *runs: str) -> Self: ...  # noqa: D102
    def runs_to_compare(self, run_a: str | None, run_b: str | None, *, other: Any = ...) -> tuple[Self, Self]: ...  # noqa: D102
    def scores(self, *, metrics: Sequence[str | pl.Expr] | None = None) -> pl.LazyFrame: ...  # noqa: D102
    def decided(self) -> pl.LazyFrame: ...  # noqa: D102
    def labels(  # noqa: D102
        self,
        labels: Labels | None = None,
        *,
        question: str | None = None,
        after: str | None = None,
        field: str | None = None,
        ignore: Collection[Difference] = ...,
        shared: Shared = ...,
        section: str = ...,
    ) -> pl.LazyFrame: ...
    def fields(self, *, sections: Sequence[str] = ..., wrapped: bool = ...) -> pl.LazyFrame: ...  # noqa: D102
