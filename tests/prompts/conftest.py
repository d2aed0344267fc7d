"""Files of prompts, ways to read them, and a measure of memory, for the tests of this folder.

A fixture with the name of a function of this file returns that function: the tests are no package to import from.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from logprob_store.prompts.batches import read_prompts
from logprob_store.prompts.columns import Columns, unified_schema
from logprob_store.prompts.input_files import find_inputs
from logprob_store.prompts.scanning import scan_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from logprob_store.prompts.input_files import InputFile
    from logprob_store.prompts.prompt import Prompt

# Not `ru_maxrss`: a child process inherits the value of its parent.
MEASURE = """
import re, sys
from pathlib import Path
from logprob_store.errors import PromptsError
from logprob_store.prompts.batches import read_prompts
from logprob_store.prompts.columns import Columns
from logprob_store.prompts.ids import check_ids
from logprob_store.prompts.input_files import find_inputs
def peak():
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read()).group(1)) // 1024
inputs = find_inputs("*.parquet", base=Path(sys.argv[1]))
before = peak()
{code}
print(peak() - before)
"""


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


@pytest.fixture(name="write_tables", scope="session")
def _write_tables() -> Callable[..., list[InputFile]]:
    """`write_tables`."""
    return write_tables


@pytest.fixture(name="write_numbers", scope="session")
def _write_numbers() -> Callable[..., Path]:
    """`write_numbers`."""
    return write_numbers


@pytest.fixture(name="read_all", scope="session")
def _read_all() -> Callable[..., list[Prompt]]:
    """`read_all`."""
    return read_all


@pytest.fixture(scope="session")
def read_one() -> Callable[..., Prompt]:
    """Write a file of one row and read its prompt."""

    def read(base: Path, table: dict[str, Any], endpoint: str = "chat", **columns: Any) -> Prompt:
        (prompt,) = read_all(write_tables(base, table), endpoint, **columns)
        return prompt

    return read


@pytest.fixture(name="scan_column", scope="session")
def _scan_column() -> Callable[..., Iterator[list[Any]]]:
    """`scan_column`."""
    return scan_column


@pytest.fixture(scope="session")
def bad_utf8() -> pa.Array:
    """The texts "a" and two bytes that are not UTF-8."""
    buffers = [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xff\xfe")]
    return pa.Array.from_buffers(pa.string(), 2, buffers)


@pytest.fixture
def measured(tmp_path: Path) -> Callable[[str], tuple[str, int]]:
    """Run code over `inputs`, the files of `tmp_path`: returns what it prints, and by how many MiB peak memory rose."""
    if sys.platform != "linux":
        pytest.skip("reads /proc")

    def measure(code: str) -> tuple[str, int]:
        command = [sys.executable, "-c", MEASURE.format(code=code), str(tmp_path)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        printed, mebibytes = out.split()
        return printed, int(mebibytes)

    return measure
