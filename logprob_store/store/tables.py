"""The tables of a store: the committed rows of its runs, as polars LazyFrames.

Only files that a manifest lists are read, so the part that a crash left unfinished is never seen. Scores and
comparisons are in `analysis.opened_store`.
"""

from __future__ import annotations

import fnmatch
import logging
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self, TypeVar

import polars as pl

from logprob_store.counted import counted
from logprob_store.errors import InputError, RunNotFoundError, StoreError, StoreWarning
from logprob_store.schema import ALTERNATIVES, COMPLETIONS, DECISIONS, FAILURES, IMPORTS, PROMPTS, TOKENS
from logprob_store.store.manifest import Counts, Manifest, find_manifest, listed_paths, no_manifest
from logprob_store.store.part_files import scan_part_files
from logprob_store.store.run_folders import run_names, runs_without_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

log = logging.getLogger(__name__)

_Tables = TypeVar("_Tables", bound="StoreTables")

NEWEST: Final = "newest"
_RUNS_SHOWN: Final = 4
_PROMPT: Final = ("run", "prompt_index")

RUNS: Final = pl.Schema(
    {
        "run": pl.String(),
        "state": pl.String(),
        "partial": pl.Boolean(),
        "created_at": pl.Datetime("us", "UTC"),
        "updated_at": pl.Datetime("us", "UTC"),
        "job": pl.String(),
        "model": pl.String(),
        "provider": pl.String(),
        **dict.fromkeys(Counts.__struct_fields__, pl.Int64()),
        "spent_requests": pl.Int64(),
        "spent_tokens": pl.Int64(),
        "spent_usd": pl.Float64(),
        "spent_usd_by_tier": pl.List(pl.Struct({"service_tier": pl.String(), "usd": pl.Float64()})),
    }
)
"""The columns of `StoreTables.runs`."""


@dataclass(frozen=True, repr=False)
class StoreTables:
    """The tables of a store, each a LazyFrame whose first column is `run`.

    Make one with `open_tables`. It shows what was committed at that time; open the store again to see more. Runs whose
    manifest is damaged or gone are in `unreadable`, each with the error that says what to do.
    """

    path: Path
    manifests: tuple[Manifest, ...]
    unreadable: Mapping[str, StoreError] = field(default_factory=lambda: MappingProxyType({}), kw_only=True)

    def __repr__(self) -> str:
        """The folder and its runs, on one line."""
        names = self.run_names
        shown = ", ".join(names[-_RUNS_SHOWN:])
        older = f"{len(names) - _RUNS_SHOWN} older and " if len(names) > _RUNS_SHOWN else ""
        return f"<{type(self).__name__} {str(self.path)!r}: {counted(len(names), 'run')}: {older}{shown or 'none'}>"

    def _repr_html_(self) -> str:
        columns = ("run", "state", "partial", "job", "model", "prompts", "completions", "tokens", "failures")
        return str(self.runs.select(*columns).collect()._repr_html_())

    @property
    def run_names(self) -> list[str]:
        """The runs in this view, oldest first."""
        return [manifest.run for manifest in self.manifests]

    def only(self, *runs: str) -> Self:
        """The same store with some of its runs; files of other runs are not read.

        Args:
            runs: names; patterns such as `nightly-*`; or `newest`, as `newest_run` says, unless a run has that name.

        Raises:
            RunNotFoundError: the store has no such run.
            StoreError: the run cannot be read.
        """
        by_name = {manifest.run: manifest for manifest in self.manifests}
        chosen: dict[str, Manifest] = {}
        for run in runs:
            found = [run] if run in by_name else fnmatch.filter(by_name, run)
            if not found and run == NEWEST:
                found = [self.newest_run()]
            if not found:
                raise self.missing_run(run)
            chosen |= {name: by_name[name] for name in found}
        return type(self)(self.path, tuple(chosen.values()), unreadable=self.unreadable)

    def missing_run(self, run: str) -> StoreError:
        """The error for a run that this view has not: it cannot be read, or there is none of that name or pattern."""
        unreadable = fnmatch.filter(self.unreadable, run)
        return self.unreadable[unreadable[0]] if unreadable else RunNotFoundError(run, self.run_names)

    def newest_run(self) -> str:
        """The run that began last of those that have answers and finished over all their prompts.

        Where there is none, the last trial of some prompts, then the last unfinished run, then one without an answer.

        Raises:
            InputError: there is no run.
        """
        if not self.manifests:
            raise InputError(f"{self.path} has no run yet; `logprobs run JOB.toml` makes one")
        return newest_of(self.manifests).run

    @cached_property
    def runs(self) -> pl.LazyFrame:
        """One row per run: its state, job, counts and what it has spent."""
        rows = [
            {
                "run": manifest.run,
                "state": manifest.state,
                "partial": manifest.is_partial,
                "created_at": manifest.created_at,
                "updated_at": manifest.updated_at,
                "job": manifest.job_name,
                "model": manifest.job.get("model.name"),
                "provider": manifest.job.get("model.provider"),
                **{name: _as_int64(getattr(manifest.counts, name)) for name in Counts.__struct_fields__},
                "spent_requests": _as_int64(manifest.spent.requests),
                "spent_tokens": _as_int64(manifest.spent.tokens),
                "spent_usd": manifest.spent.usd,
                "spent_usd_by_tier": [
                    {"service_tier": tier, "usd": usd} for tier, usd in manifest.spent.usd_by_tier.items()
                ],
            }
            for manifest in self.manifests
        ]
        return pl.DataFrame(rows, schema=RUNS).lazy()

    @cached_property
    def prompts(self) -> pl.LazyFrame:
        """One row per prompt that a run has read: its id, its messages as JSON, and the columns that the job keeps.

        Columns that runs kept with other types: see docs/store.md.
        """
        if not any(manifest.job.get("prompts.keep") for manifest in self.manifests):
            return self._scan("prompts", PROMPTS)
        from logprob_store.store.prompts_table import scan_prompts

        files = {manifest.run: listed_paths(self.path, manifest, "prompts") for manifest in self.manifests}
        files = {run: listed for run, listed in files.items() if listed}
        return scan_prompts(files) if files else self._scan("prompts", PROMPTS)

    @cached_property
    def completions(self) -> pl.LazyFrame:
        """One row per choice."""
        return self._scan("completions", COMPLETIONS)

    @cached_property
    def answers(self) -> pl.LazyFrame:
        """`completions`, each row with the columns that the job keeps of its prompt: one row per choice.

        A kept column with the name of a column of completions is renamed to `<name>_of_prompt`.
        """
        columns = self.prompts.collect_schema().names()
        return self.with_prompts(self.completions, [name for name in columns if name not in {*_PROMPT, "prompt_id"}])

    def with_prompts(self, rows: pl.LazyFrame, columns: Sequence[str]) -> pl.LazyFrame:
        """Rows that have `run` and `prompt_index`, with columns of their prompts.

        Args:
            rows: such as completions, or scores.
            columns: of `prompts`; one whose name the rows have is renamed to `<name>_of_prompt`.
        """
        taken = rows.collect_schema().names()
        prompts = self.prompts.select(*_PROMPT, *columns)
        prompts = prompts.rename({name: f"{name}_of_prompt" for name in columns if name in taken})
        return rows.join(prompts, on=_PROMPT, how="left", maintain_order="left")

    @cached_property
    def tokens(self) -> pl.LazyFrame:
        """One row per token."""
        return self._scan("tokens", TOKENS)

    @cached_property
    def alternatives(self) -> pl.LazyFrame:
        """One row per token and rank."""
        return self._scan("alternatives", ALTERNATIVES)

    @cached_property
    def decisions(self) -> pl.LazyFrame:
        """One row per option of each typed question that was asked."""
        return self._scan("decisions", DECISIONS)

    @cached_property
    def failures(self) -> pl.LazyFrame:
        """One row per call that failed and has no answer since: its last failure."""
        keys = ["run", "prompt_index", "sample_index"]
        rows = self._scan("failures", FAILURES)
        if not any("failures" in part.files for manifest in self.manifests for part in manifest.parts):
            return rows
        return rows.unique(keys, keep="last", maintain_order=True).join(
            self.completions.select(keys), on=keys, how="anti", maintain_order="left"
        )

    @cached_property
    def imports(self) -> pl.LazyFrame:
        """One row per imported record: its file and its place in the file."""
        return self._scan("imports", IMPORTS)

    def tables(self) -> tuple[pl.LazyFrame, pl.LazyFrame, pl.LazyFrame]:
        """The tokens, alternatives and completions, as the functions of `metrics` take them."""
        return self.tokens, self.alternatives, self.completions

    def files(self, table: str) -> list[Path]:
        """The committed Parquet files of a table, in order, for pyarrow, DuckDB or another reader."""
        return [path for manifest in self.manifests for path in listed_paths(self.path, manifest, table)]

    def _scan(self, table: str, schema: pl.Schema) -> pl.LazyFrame:
        scans = [  # one a run, with the run's name as a constant
            scan_part_files(files, schema).select(pl.lit(manifest.run).alias("run"), pl.all())
            for manifest in self.manifests
            if (files := listed_paths(self.path, manifest, table))
        ]
        if not scans:
            return pl.LazyFrame(schema={"run": pl.String(), **schema})
        return pl.concat(scans, how="vertical")


def newest_of(manifests: Sequence[Manifest]) -> Manifest:
    """The run to read where none is named, as `StoreTables.newest_run` says.

    Args:
        manifests: at least one, the oldest run first.
    """
    return max(reversed(manifests), key=lambda one: (one.has_answers, one.state == "finished", not one.is_partial))


def _as_int64(count: int) -> int:
    """A count, or the largest that a column holds: version 0.1.0 added up what servers made up."""
    return min(count, (1 << 63) - 1)


def open_tables(path: str | Path, *, runs: Sequence[str] | None = None) -> StoreTables:
    """Open the tables of a store for reading. Runs that cannot be read cause a warning, `StoreWarning`.

    Args:
        path: the store's folder.
        runs: only these runs, as for `StoreTables.only`; all when None.

    Raises:
        StoreNotFoundError: there is no store.
        RunNotFoundError: the store has no such run.
        StoreError: no run can be read, or none of those asked for.
        SchemaVersionError: the store was written with another schema version.
    """
    return open_as(StoreTables, Path(path), runs)


def open_as(kind: type[_Tables], path: Path, runs: Sequence[str] | None) -> _Tables:
    """Open a store as `open_tables` does, for a function that its user calls."""
    tables = read_tables(kind, path)
    chosen = tables if runs is None else tables.only(*runs)
    warn_of_unreadable(path, tables.unreadable, stacklevel=4)
    return chosen


def read_tables(kind: type[_Tables], path: Path) -> _Tables:
    """Open a store with all its runs, and warn of none.

    Raises:
        StoreNotFoundError: there is no store.
        StoreError: it has runs, and none can be read.
    """
    manifests, unreadable = read_manifests(path)
    if len(unreadable) == 1 and not manifests:
        raise next(iter(unreadable.values()))
    if unreadable and not manifests:
        raise StoreError(_unreadable_sentence(path, unreadable))
    return kind(path, manifests, unreadable=unreadable)


def read_manifests(path: Path) -> tuple[tuple[Manifest, ...], dict[str, StoreError]]:
    """The manifests of a store's runs, the oldest run first, and why runs cannot be read, by their names.

    A line is logged for each manifest that stands in for a damaged one.

    Raises:
        StoreNotFoundError: there is no store.
    """
    manifests, unreadable = [], {}
    for run in (names := run_names(path)):
        try:
            found = find_manifest(path, run)
        except StoreError as error:
            unreadable[run] = error
            continue
        if found is None:  # it was just removed
            continue
        manifests.append(found.manifest)
        if found.problem is not None:
            log.warning(
                "run %s: %s; its copy is read. `logprobs verify %s --repair` puts the copy in its place",
                run,
                found.problem,
                path,
            )
    unreadable |= {run: no_manifest(path, run) for run in runs_without_manifest(path, names)}
    return tuple(sorted(manifests, key=lambda manifest: (manifest.created_at, manifest.run))), unreadable


def warn_of_unreadable(path: Path, unreadable: Mapping[str, StoreError], *, stacklevel: int = 2) -> None:
    """Warn once of all runs that cannot be read."""
    if not unreadable:
        return
    warnings.warn(_unreadable_sentence(path, unreadable), StoreWarning, stacklevel=stacklevel)


def _unreadable_sentence(path: Path, unreadable: Mapping[str, StoreError]) -> str:
    """Which runs cannot be read, why the first, and what to do."""
    first, *others = unreadable
    if not others:
        return f"run {first} of {path} cannot be read, and is left out: {unreadable[first]}"
    listed = ", ".join([*unreadable][:_RUNS_SHOWN]) + (", ..." if len(unreadable) > _RUNS_SHOWN else "")
    return (
        f"{len(unreadable)} runs of {path} cannot be read: {listed}. {unreadable[first]}. "
        f"`logprobs verify {path}` says what is wrong with the others"
    )
