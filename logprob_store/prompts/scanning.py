"""The rows of all files in order, in bounded memory.

Holds `scan` and `Rows`. Leaves out which schema the rows are read in (`unifying`) and what they mean (`reading`).

pyarrow.dataset was rejected: it cannot start at a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from logprob_store.errors import PromptsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow.parquet as pq

    from logprob_store.prompts.input_files import InputFile


@dataclass(frozen=True, slots=True)
class Rows:
    """Some consecutive rows of one file.

    `index` is the first row's index over all files, `row` its index in `file`.
    """

    file: InputFile
    index: int
    row: int
    batch: pa.RecordBatch

    @property
    def where(self) -> str:
        """The file and its rows, for errors."""
        return f"{self.file.path}, rows {self.row} to {self.row + self.batch.num_rows - 1}"


def scan(
    inputs: Sequence[InputFile],
    schema: pa.Schema,
    *,
    skip: int = 0,
    limit: int | None = None,
    batch_rows: int = 1000,
) -> Iterator[Rows]:
    """The rows `skip <= index < limit` over all files in order, with the columns of `schema` only.

    Whole files and whole row groups before `skip` are not read. A batch never spans two files.

    Raises:
        PromptsError: a file is damaged, changed since it was found, or holds a value its common type cannot.
    """
    before = 0
    for file in inputs:
        low = max(skip - before, 0)
        high = file.rows if limit is None else min(limit - before, file.rows)
        if low < high:
            for row, batch in _scan_file(file, low, high, schema, batch_rows):
                yield Rows(file, before + row, row, batch)
        before += file.rows


def _scan_file(
    file: InputFile, low: int, high: int, schema: pa.Schema, batch_rows: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows `low <= row < high` of one file, each batch with the index of its first row."""
    with file.open() as parquet, file.watched() as check:
        groups, at = _row_groups(parquet.metadata, low, high)
        own = [name for name in schema.names if name in parquet.schema_arrow.names]
        for batch in parquet.iter_batches(batch_size=batch_rows, row_groups=groups, columns=own):
            check()
            first, end = max(low - at, 0), min(high - at, batch.num_rows)
            if first < end:
                yield at + first, _conform(batch.slice(first, end - first), schema, file, at + first)
            at += batch.num_rows
            if at >= high:
                return
    # Of a file that was cut off under its hands Arrow reads what is left, and says nothing.
    raise file.changed()


def _row_groups(metadata: pq.FileMetaData, low: int, high: int) -> tuple[list[int], int]:
    """The row groups that hold the rows `low <= row < high`, and the first row of the first of them."""
    groups: list[int] = []
    start = end = 0
    for group in range(metadata.num_row_groups):
        begin, end = end, end + metadata.row_group(group).num_rows
        if begin < high and end > low:
            start = start if groups else begin
            groups.append(group)
    return groups, start


def _conform(batch: pa.RecordBatch, schema: pa.Schema, file: InputFile, row: int) -> pa.RecordBatch:
    """The batch in the common schema, with partition columns filled in."""
    constants = file.partition()
    columns = []
    for field in schema:
        if field.name not in batch.schema.names:
            value = pa.scalar(constants[field.name], pa.string())
            columns.append(pa.repeat(value.cast(field.type), batch.num_rows))
            continue
        column = batch.column(field.name)
        try:
            columns.append(column if column.type == field.type else column.cast(field.type))
        except pa.ArrowException as error:
            raise PromptsError(
                f"{file.path}, column {field.name!r}, rows {row} to {row + len(column) - 1}: a value does "
                f"not fit {field.type}, the type all files can be read as: {error}"
            ) from error
    return pa.record_batch(columns, schema=schema)
