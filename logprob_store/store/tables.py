"""Reading a store: the committed rows of all runs, or of some, as polars LazyFrames.

Holds `open_store` and `Store`. Reads what the manifests list and nothing else, so a part that a crash left behind is
never seen. Leaves out computing anything beyond joining what belongs together: that is `metrics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import polars as pl

from logprob_store.errors import InputError, RunNotFoundError, StoreNotFoundError
from logprob_store.schema import ALTERNATIVES, COMPLETIONS, FAILURES, IMPORTS, PROMPTS, TOKENS
from logprob_store.store.manifest import Counts, Manifest, Part, read_manifest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from logprob_store.metrics.engine.arrays import OrderedTokens
    from logprob_store.metrics.engine.part_batches import Piece
    from logprob_store.metrics.labels.probabilities import Shared
    from logprob_store.metrics.labels.spelling import Difference, Labels
    from logprob_store.metrics.samples import Clusters
    from logprob_store.metrics.two_runs.comparison import Comparison

_LARGE_PART: Final = 250_000
"""Tokens and alternatives from which on a part is read by itself."""

_RUNS: Final = pl.Schema(
    {
        "run": pl.String(),
        "state": pl.String(),
        "created_at": pl.Datetime("us", "UTC"),
        "updated_at": pl.Datetime("us", "UTC"),
        "job": pl.String(),
        "model": pl.String(),
        "provider": pl.String(),
        **dict.fromkeys(Counts.__struct_fields__, pl.Int64()),
        "spent_requests": pl.Int64(),
        "spent_tokens": pl.Int64(),
        "spent_usd": pl.Float64(),
    }
)


@dataclass(frozen=True)
class Store:
    """The tables of a store, each a LazyFrame whose first column is `run`.

    Make one with `open_store`. The object shows what was committed when it was opened; open again to see more.
    """

    path: Path
    manifests: tuple[Manifest, ...]

    @property
    def run_names(self) -> list[str]:
        """The runs in this view, oldest first."""
        return [manifest.run for manifest in self.manifests]

    def only(self, *runs: str) -> Store:
        """The same store, narrowed to some runs; no other run's files are touched.

        Raises:
            RunNotFoundError: the store has no such run.
        """
        by_name = {manifest.run: manifest for manifest in self.manifests}
        for run in runs:
            if run not in by_name:
                raise RunNotFoundError(run, self.run_names)
        return Store(self.path, tuple(by_name[run] for run in runs))

    @cached_property
    def runs(self) -> pl.LazyFrame:
        """One row per run: how it stands and what it did."""
        rows = [
            {
                "run": manifest.run,
                "state": manifest.state,
                "created_at": manifest.created_at,
                "updated_at": manifest.updated_at,
                "job": manifest.job_name,
                "model": manifest.job.get("model.name"),
                "provider": manifest.job.get("model.provider"),
                **{name: getattr(manifest.counts, name) for name in Counts.__struct_fields__},
                "spent_requests": manifest.spent.requests,
                "spent_tokens": manifest.spent.tokens,
                "spent_usd": manifest.spent.usd,
            }
            for manifest in self.manifests
        ]
        return pl.DataFrame(rows, schema=_RUNS).lazy()

    @cached_property
    def prompts(self) -> pl.LazyFrame:
        """One row per prompt that a run has read: its id, its messages as JSON, the kept columns."""
        return self._scan("prompts", PROMPTS)

    @cached_property
    def completions(self) -> pl.LazyFrame:
        """One row per choice."""
        return self._scan("completions", COMPLETIONS)

    @cached_property
    def answers(self) -> pl.LazyFrame:
        """`completions`, each row with the columns that the job keeps of its prompt: one row per choice.

        A kept column that is called like one of completions is there as `<name>_of_prompt`.
        """
        prompts = self.prompts.drop("prompt_id")
        taken = set(COMPLETIONS.names())
        names = prompts.collect_schema().names()
        kept = prompts.rename({name: f"{name}_of_prompt" for name in names if name in taken - {"prompt_index"}})
        return self.completions.join(kept, on=["run", "prompt_index"], how="left", maintain_order="left")

    @cached_property
    def tokens(self) -> pl.LazyFrame:
        """One row per token."""
        return self._scan("tokens", TOKENS)

    @cached_property
    def alternatives(self) -> pl.LazyFrame:
        """One row per token and rank."""
        return self._scan("alternatives", ALTERNATIVES)

    @cached_property
    def failures(self) -> pl.LazyFrame:
        """One row per call that is still without an answer: one that later succeeded is not here."""
        keys = ["run", "prompt_index", "sample_index"]
        rows = self._scan("failures", FAILURES)
        if not any("failures" in part.files for manifest in self.manifests for part in manifest.parts):
            return rows
        return rows.unique(keys, keep="last", maintain_order=True).join(
            self.completions.select(keys), on=keys, how="anti", maintain_order="left"
        )

    @cached_property
    def imports(self) -> pl.LazyFrame:
        """One row per imported record: the file and the place in it that it came from."""
        return self._scan("imports", IMPORTS)

    def scores(self, *, metrics: Sequence[str | pl.Expr] | None = None) -> pl.LazyFrame:
        """One row per completion: perplexity, confidence and the rest, or the `metrics` named; see docs/metrics.md.

        Raises:
            InputError: there is no metric of a name.
        """
        from logprob_store.metrics.engine.score_table import scores_in_pieces

        return scores_in_pieces(list(self._pieces()), Store(self.path, ()).tables(), metrics=metrics)

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
        """Two runs of the same prompts beside each other; see docs/comparing.md.

        Args:
            run_a: the run to compare with. None: the one before `run_b` of the same job, or the newest with `other`.
            run_b: the run that may have changed; None: the newest.
            other: the store that `run_b` is in, if not this one.
            answer: what of a completion is compared, as a column or an expression.

        Raises:
            InputError: there are no two runs of one job.
            RunNotFoundError: a store has no such run.
        """
        from logprob_store.metrics.two_runs.comparison import compare

        theirs = self if other is None else other
        later = theirs.only(run_b or theirs.newest_run())
        if run_a is None:
            run_a = self.newest_run() if other is not None else self._run_before(later.manifests[0])
        return compare(self.only(run_a).tables(), later.tables(), answer=answer)

    def newest_run(self) -> str:
        """The run that began last.

        Raises:
            InputError: there is no run.
        """
        if not self.manifests:
            raise InputError(f"{self.path} has no run yet; `logprobs run JOB.toml` makes one")
        return self.run_names[-1]

    def _run_before(self, later: Manifest) -> str:
        """The run of the same job that began last before `later`."""
        names = self.run_names
        earlier = self.manifests[: names.index(later.run)]
        for manifest in reversed(earlier):
            if manifest.job_name == later.job_name:
                return manifest.run
        raise InputError(
            f"run {later.run!r} is the first of job {later.job_name!r} in {self.path}; name the run to compare "
            f"with, of {', '.join(names[-8:])}"
        )

    def tables(self) -> tuple[pl.LazyFrame, pl.LazyFrame, pl.LazyFrame]:
        """The tokens, the alternatives and the completions: what metrics start from."""
        return self.tokens, self.alternatives, self.completions

    def _pieces(self) -> Iterator[Piece]:
        """All parts with answers: a large one by itself, small ones of a run together."""
        for manifest in self.manifests:
            parts: list[Part] = []
            rows = 0
            for part in manifest.parts:
                if "completions" not in part.files:
                    continue
                size = sum(part.files[table].rows for table in ("tokens", "alternatives") if table in part.files)
                if size >= _LARGE_PART:
                    yield self._piece(manifest, [part], size)
                    continue
                parts.append(part)
                rows += size
                if rows >= _LARGE_PART:
                    yield self._piece(manifest, parts, rows)
                    parts, rows = [], 0
            if parts:
                yield self._piece(manifest, parts, rows)

    def _piece(self, manifest: Manifest, parts: list[Part], rows: int) -> Piece:
        from logprob_store.metrics.engine.part_batches import Piece

        of_parts = Store(self.path, (msgspec.structs.replace(manifest, parts=parts),))
        tables = of_parts.sorted_tables if len(parts) == 1 else of_parts.tables
        return Piece(manifest.run, rows, tables, of_parts.tokens_in_order)

    def tokens_in_order(self, places: bool) -> list[OrderedTokens | None]:  # noqa: FBT001  a Piece calls it
        """The tokens of each part as arrays, None for a part where they do not lie in the order of writing."""
        from logprob_store.analysis.token_arrays import read_in_order

        return [read_in_order(path, places=places) for path in self.files("tokens")]

    def sorted_tables(self) -> tuple[pl.LazyFrame, pl.LazyFrame, pl.LazyFrame]:
        """`tables` of a single part, which polars is told are sorted: grouping is then a third faster."""
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

    def labels(
        self,
        labels: Labels,
        *,
        after: str | None = None,
        field: str | None = None,
        ignore: Collection[Difference] = ("space", "case", "quotes"),
        shared: Shared = "error",
        section: str = "content",
    ) -> pl.LazyFrame:
        """One row per completion and label: how likely the model was to give it; see docs/metrics.md."""
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
        """One row per value of each JSON answer, with the scores of its tokens; see docs/metrics.md."""
        from logprob_store.metrics.spans.fields import field_confidence

        return field_confidence(self.tokens, sections=sections, wrapped=wrapped)

    def files(self, table: str) -> list[Path]:
        """The committed Parquet files of a table, in order: for pyarrow, DuckDB or anything else."""
        return [path for manifest in self.manifests for path in self._files(table, manifest)]

    def _files(self, table: str, manifest: Manifest) -> list[Path]:
        folder = self.path / table / f"run={manifest.run}"
        return [folder / f"{part.name}.parquet" for part in manifest.parts if table in part.files]

    def _scan(self, table: str, schema: pl.Schema) -> pl.LazyFrame:
        # One scan per run with its name as a constant: polars would read hive keys from the folders above the
        # store too (".../date=2026-11-22/store"), and guess types for run names that look like dates.
        scans = [
            pl.scan_parquet(files, hive_partitioning=False, glob=False).select(
                pl.lit(manifest.run).alias("run"), pl.all()
            )
            for manifest in self.manifests
            if (files := self._files(table, manifest))
        ]
        if not scans:
            return pl.LazyFrame(schema={"run": pl.String(), **schema})
        # Only prompts differ between runs: each keeps the columns its job asked for.
        return pl.concat(scans, how="diagonal_relaxed" if table == "prompts" else "vertical")


def open_store(path: str | Path, *, runs: Sequence[str] | None = None) -> Store:
    """Open a store for reading.

    Args:
        path: the store's folder.
        runs: only these runs, all when None.

    Raises:
        StoreNotFoundError: there is none.
        RunNotFoundError: it has no such run.
        SchemaVersionError: it was written with another schema version.
    """
    path = Path(path)
    if not (path / "runs").is_dir():
        raise StoreNotFoundError(path)
    manifests = [read_manifest(file) for file in path.glob("runs/run=*/run.json")]
    store = Store(path, tuple(sorted(manifests, key=lambda manifest: (manifest.created_at, manifest.run))))
    return store if runs is None else store.only(*runs)
