"""`ls.Store`, an opened store with its scores and comparisons, and `open_store`, which makes one.

The tables are in `store.tables`, the formulas in `metrics`.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import msgspec
import polars as pl

from logprob_store.analysis.latest_calls import CALL, latest_calls
from logprob_store.counted import listed_runs
from logprob_store.errors import InputError
from logprob_store.schema import KEYS
from logprob_store.store.column_meanings import meanings_as_text
from logprob_store.store.missing_answers import why_no_answers
from logprob_store.store.tables import StoreTables, newest_of, open_as

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from logprob_store.analysis.description import Description
    from logprob_store.analysis.plots import StorePlots
    from logprob_store.metrics.engine.arrays import OrderedTokens
    from logprob_store.metrics.engine.part_batches import PartBatch, Tables
    from logprob_store.metrics.labels.probabilities import Shared
    from logprob_store.metrics.labels.spelling import Difference, Labels
    from logprob_store.metrics.samples import Clusters
    from logprob_store.metrics.two_runs.comparison import Comparison
    from logprob_store.store.manifest import Manifest, Part

_LARGE_PART: Final = 250_000
"""Rows of tokens and alternatives from which on a part is a batch of its own; smaller parts are read together."""


class Store(StoreTables):
    """The tables of a store, each a LazyFrame whose first column is `run`, and the scores and comparisons of its runs.

    Make one with `open_store`. It shows what was committed at that time; open the store again to see more.
    """

    @cached_property
    def latest(self) -> Store:
        """The newest answer of each prompt over the runs, as a store: thirty nights of a job are one copy then.

        A prompt is known by its job and its id, and each of its samples counts by itself. Of prompts that no run has an
        answer of, it has the newest failure; of runs without a row left, nothing.
        """
        answered, failed = latest_calls(self)
        runs = {*answered["run"], *failed["run"]}
        manifests = tuple(manifest for manifest in self.manifests if manifest.run in runs)
        return LatestAnswers(self.path, manifests, answered, failed, unreadable=self.unreadable)

    @property
    def plot(self) -> StorePlots:
        """Charts of this store for a notebook, as `store.plot.histogram("confidence")`; see docs/gallery.md."""
        from logprob_store.analysis.plots import StorePlots

        return StorePlots(self)

    def describe(self, table: str | None = None) -> Description:
        """Every table and column with its type, unit and meaning: print it, or take its `frame`.

        Args:
            table: only this one, such as "tokens"; all when None.

        Raises:
            InputError: there is no such table.
        """
        from logprob_store.analysis.description import describe

        return describe(self, table)

    def scores(self, *, metrics: Sequence[str | pl.Expr] | None = None) -> pl.LazyFrame:
        """One row per completion, with its scores; see docs/metrics.md.

        Args:
            metrics: names of scores, or expressions over the tokens of a completion; the usual scores when None.

        Raises:
            InputError: a name is not that of a score.
        """
        from logprob_store.metrics.engine.score_table import scores_of_parts

        return scores_of_parts(list(self._part_batches()), Store(self.path, ()).tables(), metrics=metrics)

    def sample_scores(
        self, *, clusters: Clusters | None = None, by: Sequence[str] = ("run", "prompt_id")
    ) -> pl.LazyFrame:
        """One row per prompt that has several answers: agreement, semantic entropy and more; see docs/metrics.md."""
        from logprob_store.metrics.samples import sample_scores

        return sample_scores(self.scores(), clusters=clusters, by=by)

    def compare(
        self,
        run_a: str | None = None,
        run_b: str | None = None,
        *,
        other: Store | None = None,
        answer: str | pl.Expr = "text",
    ) -> Comparison:
        """The comparison of two runs of the same prompts; see docs/comparing.md.

        Args:
            run_a: the run to compare with. When None, the run before `run_b` of the same job; with `other`, the newest.
            run_b: the run that may have changed. When None, the newest; both defaults are as `newest_run` says.
            other: the store that `run_b` is in, if not this one.
            answer: the column or expression of completions that is compared.

        Raises:
            InputError: there are no two runs of one job, they are one run, or a run holds no answer.
            RunNotFoundError: a store has no such run.
        """
        from logprob_store.metrics.two_runs.comparison import compare

        earlier, later = self.runs_to_compare(run_a, run_b, other=other)
        if earlier.has_decisions and later.has_decisions:
            return _advised(compare(*_tables_of_questions(earlier, later), answer=answer), earlier, later)
        if earlier.has_decisions or later.has_decisions:
            asked, plain = (earlier, later) if earlier.has_decisions else (later, earlier)
            raise InputError(
                f"run {asked.run_names[0]!r} asked typed questions and run {plain.run_names[0]!r} did not: no answers "
                "can be compared. `logprobs calibrate` holds each against the truth"
            )
        return _advised(compare(earlier.tables(), later.tables(), answer=answer), earlier, later)

    def runs_to_compare(
        self, run_a: str | None = None, run_b: str | None = None, *, other: Store | None = None
    ) -> tuple[Store, Store]:
        """The two runs that `compare` takes, each as a store of its own.

        Args:
            run_a: as for `compare`.
            run_b: the same.
            other: the same.

        Raises:
            InputError: as `compare`.
            RunNotFoundError: a store has no such run.
        """
        store_b = self if other is None else other
        later = store_b.only(run_b or store_b.newest_run())
        if run_a is None:
            run_a = self.newest_run() if other is not None else self._run_before(later.manifests[0])
        earlier = self.only(run_a)
        for one in (earlier, later):
            _check_has_answers(one)
        if (earlier.path.resolve(), earlier.run_names) == (later.path.resolve(), later.run_names):
            raise InputError(
                f"run {later.run_names[0]!r} cannot be compared with itself, where nothing differs: name two runs; "
                "`logprobs status STORE` lists them"
            )
        return earlier, later

    def _run_before(self, later: Manifest) -> str:
        """Of the runs of the same job that began before `later`, the one that `newest_of` gives."""
        names = self.run_names
        earlier = [one for one in self.manifests[: names.index(later.run)] if one.job_name == later.job_name]
        if earlier:
            return newest_of(earlier).run
        raise InputError(
            f"run {later.run!r} is the first of job {later.job_name!r} in {self.path}; name the run to compare "
            f"with, of {listed_runs(names)}"
        )

    def _part_batches(self) -> Iterator[PartBatch]:
        """The parts with answers, in batches: each large one by itself, small ones of a run together."""
        for manifest in self.manifests:
            parts: list[Part] = []
            rows = 0
            for part in manifest.parts:
                if "completions" not in part.files:
                    continue
                size = sum(part.files[table].rows for table in ("tokens", "alternatives") if table in part.files)
                if size >= _LARGE_PART:
                    yield self._part_batch(manifest, [part], size)
                    continue
                parts.append(part)
                rows += size
                if rows >= _LARGE_PART:
                    yield self._part_batch(manifest, parts, rows)
                    parts, rows = [], 0
            if parts:
                yield self._part_batch(manifest, parts, rows)

    def _part_batch(self, manifest: Manifest, parts: list[Part], rows: int) -> PartBatch:
        from logprob_store.metrics.engine.part_batches import PartBatch

        of_parts = Store(self.path, (msgspec.structs.replace(manifest, parts=parts),))
        tables = of_parts.sorted_tables if len(parts) == 1 else of_parts.tables
        return PartBatch(manifest.run, rows, tables, of_parts.tokens_in_order)

    def tokens_in_order(self, places: bool) -> list[OrderedTokens | None]:  # noqa: FBT001  called by a PartBatch
        """The generated tokens of each part as arrays; None for a part whose rows are not in the order of generation.

        Args:
            places: whether to read `OrderedTokens.place` too.
        """
        from logprob_store.analysis.token_arrays import read_in_order

        return [read_in_order(path, places=places) for path in self.files("tokens")]

    def sorted_tables(self) -> tuple[pl.LazyFrame, pl.LazyFrame, pl.LazyFrame]:
        """`tables` of a single part, marked as sorted for polars: grouping is then a third faster."""
        tokens, alternatives, completions = self.tables()
        return tokens.set_sorted("completion_id"), alternatives, completions

    def candidate_scores(self) -> pl.LazyFrame:
        """One row per candidate of runs that scored continuations; see docs/scoring.md."""
        from logprob_store.metrics.given.candidates import candidate_scores

        return candidate_scores(self.tokens, self.alternatives, self.completions, self.prompts)

    def text_scores(self) -> pl.LazyFrame:
        """One row per text that was sent and scored: perplexity, bits per byte and more; see docs/scoring.md."""
        from logprob_store.metrics.given.texts import text_scores

        return text_scores(self.tokens, self.completions, self.prompts)

    @property
    def has_decisions(self) -> bool:
        """Whether a run asked typed questions."""
        return bool(self.files("decisions"))

    def decided(self) -> pl.LazyFrame:
        """One row per typed question of each answer: the likeliest option, its probability and lead; docs/store.md."""
        from logprob_store.metrics.labels.decided import decided

        return decided(self.decisions)

    def labels(
        self,
        labels: Labels | None = None,
        *,
        question: str | None = None,
        after: str | None = None,
        field: str | None = None,
        ignore: Collection[Difference] = ("space", "case", "quotes", "form"),
        shared: Shared = "error",
        section: str = "content",
    ) -> pl.LazyFrame:
        """One row per completion and label: how likely the model was to answer with it; see docs/metrics.md.

        Args:
            labels: the labels to look for in the answers; None for the options of typed questions.
            question: of those, the question of this name alone.
            after: as for `label_probabilities`.
            field: the same.
            ignore: the same.
            shared: the same.
            section: the same.

        Raises:
            InputError: no labels are given, and no run asked typed questions.
            ValueError: as `label_probabilities`, or a question is named beside labels.
        """
        if labels is None and not self.has_decisions:
            raise InputError("name the labels to look for: no run here asked typed questions, which have their own")
        if labels is None:
            from logprob_store.metrics.labels.decided import decision_probabilities

            decisions = self.decisions
            return decision_probabilities(
                decisions if question is None else decisions.filter(pl.col("question") == question)
            )
        if question is not None:
            raise ValueError("the labels of a question are its options: leave out labels")
        from logprob_store.metrics.labels.probabilities import label_probabilities

        return label_probabilities(
            self.tokens,
            self.alternatives,
            labels,
            after=after,
            field=field,
            ignore=ignore,
            shared=shared,
            section=section,
        )

    def fields(self, *, sections: Sequence[str] = ("content", "tool"), wrapped: bool = True) -> pl.LazyFrame:
        """One row per value in each JSON answer, with the scores of its tokens; see docs/metrics.md."""
        from logprob_store.metrics.spans.fields import field_confidence

        return field_confidence(self.tokens, sections=sections, wrapped=wrapped)


Store.__doc__ = f"{inspect.cleandoc(Store.__doc__ or '')}\n\nThe tables and their columns:\n\n{meanings_as_text()}\n"


def _check_has_answers(store: Store) -> None:
    """Check that the runs to compare hold an answer.

    Raises:
        InputError: they hold none; the message says why.
    """
    if store.manifests and not any(one.has_answers for one in store.manifests):
        run = store.run_names[0]
        raise InputError(
            f"run {run!r} has nothing to compare: it holds no answer, as {why_no_answers(store, run)}. Name two runs "
            f"with answers; `logprobs status {store.path}` lists them"
        )


def _advised(comparison: Comparison, *runs: Store) -> Comparison:
    """The comparison; where a run asked only what was new, it says why no answer may have a partner."""
    new = [run.run_names[0] for run in runs if run.manifests[0].job.get("prompts.select") == "new"]
    if not new:
        return comparison
    asked = f"run {new[0]} asked" if len(new) == 1 else f"runs {' and '.join(new)} asked"
    return replace(
        comparison,
        _advice=f'{asked} only new prompts (select = "new"), which by design no earlier run has. To look for '
        'drift, ask the same prompts each night: a job of its own for them, with select = "all" and mode = "refresh" '
        "under [cache]",
    )


def _tables_of_questions(*stores: Store) -> Iterator[Tables]:
    """The tables of some stores, in which each question is an answer."""
    from logprob_store.metrics.labels.decided import decisions_as_answers, numbered_questions

    numbers = numbered_questions([store.decisions for store in stores])
    for store in stores:
        yield decisions_as_answers(store.completions, store.decisions, numbers)


@dataclass(frozen=True, repr=False)
class LatestAnswers(Store):
    """Some answers and failures of a store's runs. Make one with `Store.latest`.

    `answered` and `failed` have the run, prompt_index and sample_index of the calls in it.
    """

    answered: pl.DataFrame
    failed: pl.DataFrame

    def only(self, *runs: str) -> Self:
        """Those of the rows that are of some runs.

        Raises:
            RunNotFoundError: no row is of such a run.
        """
        by_name = {manifest.run: manifest for manifest in self.manifests}
        for run in runs:
            if run not in by_name:
                raise self.missing_run(run)
        chosen = tuple(by_name[run] for run in runs)
        return type(self)(self.path, chosen, self.answered, self.failed, unreadable=self.unreadable)

    @cached_property
    def latest(self) -> Store:
        """This view itself."""
        return self

    @cached_property
    def completions(self) -> pl.LazyFrame:
        """One row per choice of the newest answers."""
        return _those(self._all.completions, self.answered.lazy(), CALL)

    @cached_property
    def failures(self) -> pl.LazyFrame:
        """One row per call that no run has an answer of: its last failure."""
        return _those(self._all.failures, self.failed.lazy(), CALL)

    @cached_property
    def prompts(self) -> pl.LazyFrame:
        """The rows of prompts that belong to these answers and failures."""
        calls = pl.concat([self.answered, self.failed])
        return _those(self._all.prompts, calls.lazy(), CALL[:2])

    @cached_property
    def tokens(self) -> pl.LazyFrame:
        """One row per token of the newest answers."""
        return _those(self._all.tokens, self.completions, KEYS)

    @cached_property
    def alternatives(self) -> pl.LazyFrame:
        """One row per token and rank, of the newest answers."""
        return _those(self._all.alternatives, self.completions, KEYS)

    @cached_property
    def decisions(self) -> pl.LazyFrame:
        """One row per option of each question, of the newest answers."""
        return _those(self._all.decisions, self.completions, KEYS)

    def scores(self, *, metrics: Sequence[str | pl.Expr] | None = None) -> pl.LazyFrame:
        """The scores of the newest answers; see `Store.scores`."""
        return _those(self._all.scores(metrics=metrics), self.completions, KEYS)

    @property
    def _all(self) -> Store:
        """All rows of the runs."""
        return Store(self.path, self.manifests)


def open_store(path: str | Path, *, runs: str | Sequence[str] | None = None) -> Store:
    """Open a store for reading. Runs that cannot be read cause a warning, `ls.StoreWarning`, and are left out.

    Args:
        path: the store's folder.
        runs: only this run or these: names, patterns such as `nightly-*`, or `newest`; all when None.

    Raises:
        StoreNotFoundError: there is no store.
        RunNotFoundError: the store has no such run.
        StoreError: no run can be read, or none of those asked for.
        SchemaVersionError: the store was written with another schema version.
    """
    return open_as(Store, Path(path), [runs] if isinstance(runs, str) else runs)


def _those(rows: pl.LazyFrame, keys: pl.LazyFrame, on: Sequence[str]) -> pl.LazyFrame:
    """The rows whose columns `on` are among the keys."""
    return rows.join(keys.select(on), on=on, how="semi", maintain_order="left")
