"""The benchmarks start; what they measure is no matter of tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.name)
def test_a_benchmark_finds_what_it_imports(path: Path) -> None:
    """A module that was renamed is missed here, not a month later."""
    code = f"import runpy, sys; sys.path.insert(0, {str(path.parent)!r}); runpy.run_path({str(path)!r}, run_name='x')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)

    missing = [line for line in done.stderr.splitlines() if "No module named" in line]
    assert all("simdjson" in line or "uvloop" in line for line in missing), done.stderr
