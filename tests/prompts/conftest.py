"""A measure of the memory that reading prompts takes."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
