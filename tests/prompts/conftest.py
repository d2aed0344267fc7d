"""Files of prompts, ways to read them, and a measure of memory, for the tests of this folder."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from logprob_store.prompts.batches import read_prompts
from logprob_store.prompts.columns import Columns
from logprob_store.prompts.input_files import find_inputs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from logprob_store.prompts.input_files import InputFile
    from logprob_store.prompts.prompt import Prompt

# Not `ru_maxrss`: a child starts with its parent's.
MEASURE = """
import re, sys
from pathlib import Path
from logprob_store.errors import PromptsError
from logprob_store.prompts import Columns, check_ids, find_inputs, read_prompts
def peak():
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read()).group(1)) // 1024
inputs = find_inputs("*.parquet", base=Path(sys.argv[1]))
before = peak()
{code}
print(peak() - before)
"""


def put_files(base: Path, *tables: dict[str, Any]) -> list[InputFile]:
    """One file a table, in order."""
    base.mkdir(parents=True, exist_ok=True)
    for number, columns in enumerate(tables):
        pq.write_table(pa.table(columns), base / f"{number}.parquet")
    return find_inputs("*.parquet", base=base)


def read_all(inputs: list[InputFile], endpoint: str = "chat", **columns: Any) -> list[Prompt]:
    """All prompts."""
    batches = read_prompts(inputs, Columns(**columns), endpoint=endpoint)
    return [prompt for batch in batches for prompt in batch.prompts]


def write_numbers(path: Path, rows: int = 1, *, row_group_size: int | None = None, first: int = 0) -> Path:
    """A Parquet file with a column `n` that counts from `first`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = pa.array(range(first, first + rows), pa.int64())
    pq.write_table(pa.table({"n": numbers}), path, row_group_size=row_group_size)
    return path


@pytest.fixture(scope="session")
def put() -> Callable[..., list[InputFile]]:
    """`put_files`."""
    return put_files


@pytest.fixture(scope="session")
def read() -> Callable[..., list[Prompt]]:
    """`read_all`."""
    return read_all


@pytest.fixture(scope="session")
def one() -> Callable[..., Prompt]:
    """Write a file of one row and give its prompt."""

    def one_prompt(base: Path, columns: dict[str, Any], endpoint: str = "chat", **says: Any) -> Prompt:
        (prompt,) = read_all(put_files(base, columns), endpoint, **says)
        return prompt

    return one_prompt


@pytest.fixture(scope="session")
def write() -> Callable[..., Path]:
    """`write_numbers`."""
    return write_numbers


@pytest.fixture(scope="session")
def bad_utf8() -> pa.Array:
    """The texts "a" and two bytes that are not UTF-8."""
    buffers = [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xff\xfe")]
    return pa.Array.from_buffers(pa.string(), 2, buffers)


@pytest.fixture
def measured(tmp_path: Path) -> Callable[[str], tuple[str, int]]:
    """Run code over `inputs`, the files of `tmp_path`; what it prints, and the MiB its peak of memory rose by."""
    if sys.platform != "linux":
        pytest.skip("reads /proc")

    def measure(code: str) -> tuple[str, int]:
        command = [sys.executable, "-c", MEASURE.format(code=code), str(tmp_path)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        printed, mebibytes = out.split()
        return printed, int(mebibytes)

    return measure
