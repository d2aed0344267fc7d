"""A selection as a file for download, made part by part as it is sent, so that a million rows take no memory.

Rows are in the order in which they were asked, with the whole text of each answer beside its scores.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final, Literal

import msgspec
import numpy as np
import polars as pl
import pyarrow.parquet as pq

from logprob_store.analysis.opened_store import Store
from logprob_store.view.spreadsheet_text import without_formulas

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from logprob_store.explorer.questions import Questions
    from logprob_store.explorer.selection import Selection

Format = Literal["csv", "parquet"]
MEDIA_TYPES: Final[dict[Format, str]] = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}
_ROWS_AT_ONCE: Final = 20_000


def export(questions: Questions, selection: Selection, kind: Format) -> Iterator[bytes]:
    """The bytes of a file with the rows of a selection.

    In CSV, a text that a spreadsheet would take for a formula has an apostrophe before it.
    """
    tables = _tables(questions, selection)
    return _csv(tables) if kind == "csv" else _parquet(tables)


def _tables(questions: Questions, selection: Selection) -> Iterator[pl.DataFrame]:
    """The rows of a selection, some at a time, with the same columns; one table without rows where there is none."""
    rows = questions.rows
    shown = [name for name in rows.columns if name not in {"search", "part"}]
    numbers = questions.numbers(selection)
    if not len(numbers):
        yield _with_words(rows.clear().select(shown))
    for start in range(0, len(numbers), _ROWS_AT_ONCE):
        some = rows[numbers[start : start + _ROWS_AT_ONCE].astype(np.int64)].drop("search")
        texts = [_texts(questions, str(run), number) for run, number in _parts_of(some)]
        if texts:
            keys = ["run", "completion_id"]
            some = (
                some.with_columns(pl.col("run").cast(pl.String))
                .join(pl.concat(texts), on=keys, how="left", maintain_order="left")
                .with_columns(pl.coalesce("whole", "text").alias("text"))
            )
        yield _with_words(some.select(shown))


def _parts_of(rows: pl.DataFrame) -> list[tuple[str, int]]:
    """The parts that completions among the rows are in."""
    return rows.filter(pl.col("part").is_not_null()).select("run", "part").unique(maintain_order=True).rows()


def _texts(questions: Questions, run: str, number: int) -> pl.DataFrame:
    """The texts of the answers of one part, whole."""
    store = questions.prepared.store.only(run)
    manifest = store.manifests[0]
    parts = [part for part in manifest.parts if part.name == f"part-{number:05d}"]
    part = Store(store.path, (msgspec.structs.replace(manifest, parts=parts),))
    return part.completions.select("run", "completion_id", pl.col("text").replace("", None).alias("whole")).collect()


def _with_words(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with words as plain texts: pieces of one file have to have the same types."""
    return rows.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))


def _csv(tables: Iterator[pl.DataFrame]) -> Iterator[bytes]:
    for number, table in enumerate(tables):
        yield without_formulas(table).write_csv(include_header=number == 0).encode()


def _parquet(tables: Iterator[pl.DataFrame]) -> Iterator[bytes]:
    drained = _Drained()
    writer: pq.ParquetWriter | None = None
    for table in tables:
        rows: pa.Table = table.to_arrow(compat_level=pl.CompatLevel.oldest())
        if writer is None:
            writer = pq.ParquetWriter(drained, rows.schema, compression="zstd")
        writer.write_table(rows)
        yield drained.taken()
    if writer is not None:
        writer.close()
    yield drained.taken()


class _Drained(io.RawIOBase):
    """A file that keeps what was written to it until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        held = bytes(memoryview(data))  # type: ignore[arg-type]
        self._held.append(held)
        self._written += len(held)
        return len(held)

    def tell(self) -> int:
        return self._written

    def taken(self) -> bytes:
        """What was written since the last time."""
        held, self._held = b"".join(self._held), []
        return held
