"""What an explorer asks again and again, prepared once: a row for each completion with its scores, and for each token.

The rows are made some parts at a time, so that memory is bounded, and kept in files (`prepared_files`). A run that goes
on adds parts: only those are new.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import polars as pl

from logprob_store.analysis.opened_store import Store
from logprob_store.errors import disk_error
from logprob_store.explorer.json_fields import FIELD, json_fields
from logprob_store.explorer.prepared_files import crc_of_parts, folder_in_store, open_files, write_file, write_index
from logprob_store.metrics.alternatives.chosen import without_chosen
from logprob_store.metrics.arguments import generated
from logprob_store.metrics.engine.catalogue import DEFAULT_METRICS
from logprob_store.schema import PROMPTS, Section
from logprob_store.token_bytes import token_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from logprob_store.explorer.prepared_files import PreparedFile
    from logprob_store.store.manifest import Manifest, Part

SCORES: Final = (*DEFAULT_METRICS, "label_probability", "token_count", "cost_usd", "latency_s")
"""The numbers of a completion that can be sorted by, filtered by and drawn as a histogram."""
KEPT: Final = "kept_"
"""What the names of columns begin with that a job keeps of its prompts."""
HEAD: Final = 200
"""Characters of a text that a list shows."""

_ROWS_PER_FILE: Final = 50_000
"""Completions from which on a file is full; smaller ones are put together as a run goes on."""
_ROWS_AT_ONCE: Final = 3_000_000
"""Rows of tokens and alternatives that are read at a time, unless a single part has more: some hundred megabytes."""
_LONGEST_LABEL: Final = 40
_MOST_KEPT: Final = 8
_LONGEST_KEPT: Final = 200
_EXAMPLES: Final = 5
_PLACE: Final = ("completion_id", "section", "position")


@dataclass(frozen=True, slots=True)
class Prepared:
    """The rows of some runs.

    Attributes:
        store: the runs, as they were when this was prepared.
        rows: one row per completion and per open failure. A completion has `completion_id` and the number of its
            `part`; a failure has `error_type`, and its message for a text. `text` has the first characters, `search`
            the whole text in small letters, and `verdict` is null (`verdicts` sets it).
        tokens: for each file and token, how often it was written and how often it was an alternative that was not.
    """

    store: Store
    rows: pl.DataFrame
    tokens: pl.DataFrame


def prepare(
    store: Store, *, folder_of: Callable[[str], Path] | None = None, say: Callable[[str], None] = lambda _: None
) -> Prepared:
    """Prepare what is new of a store's runs, and open all of it.

    Args:
        store: the runs.
        folder_of: where the files of a run go; beside its manifest when None.
        say: called with a sentence as the work goes on.

    Raises:
        DiskError: there is no room for the files.
        OSError: they cannot be written, as in a store that may only be read.
    """
    for manifest in store.manifests:
        _prepare_run(store.path, manifest, _folder(store, manifest, folder_of), say)
    return open_prepared(store, folder_of=folder_of)


def open_prepared(store: Store, *, folder_of: Callable[[str], Path] | None = None) -> Prepared:
    """Open what is prepared of a store's runs; what is not yet, is left out."""
    runs = pl.Enum(store.run_names)
    rows, tokens = [], []
    for manifest in store.manifests:
        run = pl.lit(manifest.run, dtype=runs).alias("run")
        for file in open_files(_folder(store, manifest, folder_of), crc_of_parts(manifest)):
            rows.append(file.completions.select(run, pl.all()))
            tokens.append(file.tokens.select(run, pl.all()))
        if (failures := _failures(store.only(manifest.run), manifest)).height:
            rows.append(failures.select(run, pl.all()))
    none = _empty_rows()
    together = pl.concat([none.select(pl.lit(None, dtype=runs).alias("run"), pl.all()), *rows], how="diagonal_relaxed")
    words = ("model", "finish_reason", "error_type")
    return Prepared(
        store,
        together.with_columns(pl.col(words).cast(pl.Categorical), pl.lit(None, dtype=pl.Categorical).alias("verdict")),
        pl.concat(tokens) if tokens else _empty_tokens(runs),
    )


def _folder(store: Store, manifest: Manifest, folder_of: Callable[[str], Path] | None) -> Path:
    return folder_in_store(store.path, manifest.run) if folder_of is None else folder_of(manifest.run)


def scores_in(rows: pl.DataFrame) -> list[str]:
    """Of `numbers_in`, those that a row at least has, in the order in which they are listed."""
    return [name for name in numbers_in(rows) if rows[name].count()]


def numbers_in(rows: pl.DataFrame) -> list[str]:
    """What rows can be sorted by and bounded: the scores, and the numbers that jobs keep of their prompts."""
    return [*SCORES, *(name for name in kept_in(rows) if rows.schema[name].is_numeric())]


def kept_in(rows: pl.DataFrame) -> list[str]:
    """The columns that jobs keep of their prompts, and those of JSON answers."""
    return [name for name in rows.columns if name.startswith((KEPT, FIELD))]


def _prepare_run(path: Path, manifest: Manifest, folder: Path, say: Callable[[str], None]) -> None:
    """Add the files of one run that are missing."""
    parts = crc_of_parts(manifest)
    files = open_files(folder, parts)
    done = {name for file in files for name in file.listed.parts}
    new = [part for part in manifest.parts if part.name in parts and part.name not in done]
    if not new:
        return
    total = sum(part.files["completions"].rows for part in manifest.parts if part.name in parts)
    replaced: list[PreparedFile] = []
    try:
        for some in _in_groups(new):
            completions, tokens = _rows_of_parts(path, manifest, some)
            crcs = {part.name: parts[part.name] for part in some}
            if files and files[-1].listed.rows + completions.height <= _ROWS_PER_FILE:
                last = files.pop()
                replaced.append(last.listed)
                completions = pl.concat([last.completions, completions], how="diagonal_relaxed")
                tokens = pl.concat([last.tokens, tokens])
                crcs = last.listed.parts | crcs
            files.append(write_file(folder, crcs, completions, tokens))
            write_index(folder, [file.listed for file in files], replaced=replaced)
            ready = sum(file.listed.rows for file in files)
            say(f"run {manifest.run}: {ready:,} of {total:,} answers prepared")
    except OSError as error:
        if (full := disk_error("what the explorer prepares", folder, error, of_answers=False)) is not None:
            raise full from error
        raise


def _in_groups(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Parts to read together."""
    group: list[Part] = []
    completions = rows = 0
    for part in parts:
        size = sum(part.files[table].rows for table in ("tokens", "alternatives") if table in part.files)
        answers = part.files["completions"].rows
        if group and (rows + size > _ROWS_AT_ONCE or completions + answers > _ROWS_PER_FILE):
            yield group
            group, completions, rows = [], 0, 0
        group.append(part)
        completions, rows = completions + answers, rows + size
    if group:
        yield group


def _rows_of_parts(path: Path, manifest: Manifest, parts: list[Part]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of completions and of tokens of some parts of a run."""
    some = _only_parts(path, manifest, parts)
    described = pl.collect_all([_described(_only_parts(path, manifest, [part]), part) for part in parts])
    rows = pl.concat(described)
    scores = some.scores().select("completion_id", *DEFAULT_METRICS).collect(engine="streaming")
    rows = rows.join(scores, on="completion_id", how="left", maintain_order="left")
    rows = _with_decisions(rows, some)
    rows = _with_kept(rows, Store(path, (manifest,)), manifest)
    rows = _with_fields(rows, some)
    rows = rows.with_columns(pl.lit(None, dtype=pl.String).alias("error_type"))
    return rows.select(*_columns(rows)), _token_rows(some)


def _only_parts(path: Path, manifest: Manifest, parts: list[Part]) -> Store:
    return Store(path, (msgspec.structs.replace(manifest, parts=parts),))


def _described(store: Store, part: Part) -> pl.LazyFrame:
    """The completions of one part, as a list shows them."""
    return store.completions.with_columns(_said()).select(
        *("completion_id", "prompt_id", "prompt_index", "sample_index", "choice_index", "finish_reason"),
        pl.coalesce("response_model", "model").alias("model"),
        pl.col("said").str.slice(0, HEAD).alias("text"),
        pl.col("said").str.to_lowercase().alias("search"),
        _label().alias("label"),
        *("token_count", "cost_usd", "latency_s"),
        pl.col("source").cast(pl.String),
        pl.lit(int(part.name.removeprefix("part-")), dtype=pl.Int32).alias("part"),
    )


def _columns(rows: pl.DataFrame) -> list[str]:
    """The columns in an order that is the same in all files."""
    return [*_empty_rows().columns, *kept_in(rows)]


def _empty_rows() -> pl.DataFrame:
    texts = ("prompt_id", "finish_reason", "model", "text", "search", "label", "source", "error_type")
    numbers = dict.fromkeys(SCORES, pl.Float64()) | {
        "completion_id": pl.Int64(),
        "prompt_index": pl.Int64(),
        "sample_index": pl.Int32(),
        "choice_index": pl.Int32(),
        "part": pl.Int32(),
        "token_count": pl.Int32(),
        "scored_tokens": pl.UInt32(),
        "unscored_tokens": pl.UInt32(),
    }
    return pl.DataFrame(schema={**dict.fromkeys(texts, pl.String()), **numbers})


def _empty_tokens(runs: pl.Enum) -> pl.DataFrame:
    places = pl.List(pl.Struct({"completion_id": pl.Int64(), "section": Section, "position": pl.Int32()}))
    counted = {"written": pl.UInt32(), "written_logprob": pl.Float64(), "written_at": places}
    almost = {"almost": pl.UInt32(), "almost_logprob": pl.Float64(), "almost_at": places}
    return pl.DataFrame(schema={"run": runs, "key": pl.Binary(), **counted, **almost})


def _said() -> pl.Expr:
    """What the model said, in whichever column: its text, its refusal, its calls of tools."""
    parts = [pl.col(name).replace("", None) for name in ("text", "refusal", "tool_calls")]
    return pl.concat_str(parts, separator="\n", ignore_nulls=True).alias("said")


def _label() -> pl.Expr:
    """The whole answer where it is short enough to be a label."""
    text = pl.col("text").str.strip_chars()
    is_short = (text.str.len_chars() <= _LONGEST_LABEL) & (text != "") & ~text.str.contains("\n", literal=True)
    return pl.when(is_short).then(text)


def _with_decisions(rows: pl.DataFrame, some: Store) -> pl.DataFrame:
    """The rows with the decided label of the first typed question, where a run asked any, and its probability."""
    if not some.has_decisions:
        return rows.with_columns(pl.lit(None, dtype=pl.Float64).alias("label_probability"))
    decided = (
        some.decided()
        .sort("completion_id", "position")
        .unique("completion_id", keep="first", maintain_order=True)
        .select("completion_id", "label", "label_probability")
        .collect()
    )
    return rows.drop("label").join(decided, on="completion_id", how="left", maintain_order="left")


def _with_kept(rows: pl.DataFrame, run: Store, manifest: Manifest) -> pl.DataFrame:
    """The rows with the columns that the job keeps of the prompts: numbers as they are, all else as texts."""
    if not manifest.job.get("prompts.keep") or not rows.height:
        return rows
    kinds = run.prompts.collect_schema()
    kept = [name for name in kinds.names() if name not in {"run", *PROMPTS}][:_MOST_KEPT]
    of_rows = pl.col("prompt_index").is_between(rows["prompt_index"].min(), rows["prompt_index"].max())
    columns = [_kept(name, kinds[name]).alias(f"{KEPT}{name}") for name in kept]
    prompts = run.prompts.filter(of_rows).select("prompt_index", *columns).unique("prompt_index", keep="last").collect()
    return rows.join(prompts, on="prompt_index", how="left", maintain_order="left")


def _kept(name: str, kind: pl.DataType) -> pl.Expr:
    if kind.is_integer() or kind.is_float():
        return pl.col(name)
    if kind.is_decimal():
        return pl.col(name).cast(pl.Float64)
    return pl.col(name).cast(pl.String, strict=False).str.slice(0, _LONGEST_KEPT)


def _with_fields(rows: pl.DataFrame, some: Store) -> pl.DataFrame:
    """The rows with the values of JSON answers."""
    texts = some.completions.select("completion_id", "text").collect()
    fields = json_fields(texts["text"])
    if not fields.width:
        return rows
    found = fields.with_columns(texts["completion_id"])
    return rows.join(found, on="completion_id", how="left", maintain_order="left")


def _token_rows(some: Store) -> pl.DataFrame:
    """For each token, how often it was written, how often it was an alternative that was not, and a few places."""
    place = pl.struct(_PLACE).head(_EXAMPLES)
    written = (
        some.tokens.filter(generated())
        .group_by(token_bytes().alias("key"))
        .agg(pl.len().alias("written"), pl.col("logprob").mean().alias("written_logprob"), place.alias("written_at"))
    )
    almost = (
        without_chosen(some.alternatives.filter(generated()), some.tokens)
        .group_by(token_bytes().alias("key"))
        .agg(pl.len().alias("almost"), pl.col("logprob").mean().alias("almost_logprob"), place.alias("almost_at"))
    )
    rows = written.join(almost, on="key", how="full", coalesce=True).filter(pl.col("key").is_not_null())
    return rows.with_columns(pl.col("written", "almost").fill_null(0)).collect(engine="streaming")


def _failures(run: Store, manifest: Manifest) -> pl.DataFrame:
    """The open failures of a run, as rows beside those of completions."""
    message = pl.col("message").fill_null("")
    rows = run.failures.select(
        *("prompt_id", "prompt_index", "sample_index", "error_type"),
        pl.lit(manifest.job.get("model.name"), dtype=pl.String).alias("model"),
        message.str.slice(0, HEAD).alias("text"),
        message.str.to_lowercase().alias("search"),
    ).collect()
    return _with_kept(rows, run, manifest)
