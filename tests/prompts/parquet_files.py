"""Files of prompts, and ways to read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from logprob_store.prompts.batches import read_prompts
from logprob_store.prompts.columns import Columns, unified_schema
from logprob_store.prompts.input_files import find_inputs
from logprob_store.prompts.scanning import scan_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from logprob_store.prompts.input_files import InputFile
    from logprob_store.prompts.prompt import Prompt


def write_tables(base: Path, *tables: dict[str, Any]) -> list[InputFile]:
    """Write one file a table, in order."""
    base.mkdir(parents=True, exist_ok=True)
    for number, columns in enumerate(tables):
        pq.write_table(pa.table(columns), base / f"{number}.parquet")
    return find_inputs("*.parquet", base=base)


def read_all(inputs: list[InputFile], endpoint: str = "chat", **columns: Any) -> list[Prompt]:
    """All prompts of the files."""
    batches = read_prompts(inputs, Columns(**columns), endpoint=endpoint)
    return [prompt for batch in batches for prompt in batch.prompts]


def write_numbers(path: Path, rows: int = 1, *, row_group_size: int | None = None, first: int = 0) -> Path:
    """A Parquet file with a column `n` that counts from `first`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = pa.array(range(first, first + rows), pa.int64())
    pq.write_table(pa.table({"n": numbers}), path, row_group_size=row_group_size)
    return path


def scan_column(inputs: list[InputFile], name: str, **options: Any) -> Iterator[list[Any]]:
    """The values of one column, a list a batch."""
    schema = unified_schema(inputs, {name: "prompts.prompt"})
    return (rows.record_batch[name].to_pylist() for rows in scan_rows(inputs, schema, **options))


def read_one(base: Path, table: dict[str, Any], endpoint: str = "chat", **columns: Any) -> Prompt:
    """Write a file of one row and read its prompt."""
    (prompt,) = read_all(write_tables(base, table), endpoint, **columns)
    return prompt


def bad_utf8() -> pa.Array:
    """The texts "a" and two bytes that are not UTF-8."""
    buffers = [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xff\xfe")]
    return pa.Array.from_buffers(pa.string(), 2, buffers)
