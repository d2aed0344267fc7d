"""`make bench`: how fast the whole job is, beside what a user would pick instead.

    python benchmarks/run.py [--only throughput] [--quick] [--full] [--docs]

prints a table with the goals beside what was measured, and keeps all figures in `out/benchmarks.json`. Takes some ten
minutes; `--quick` one round of little each, to see that all of it works, `--full` an hour, with a million prompts and
100 M rows. `--docs` writes the table into docs/performance.md. Needs an idle machine: all that runs beside it is in
the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import measurements
from table import as_markdown, as_text, write_between_markers

REPO: Final = Path(__file__).parents[1]
RESULTS: Final = REPO / "out" / "benchmarks.json"
PAGE: Final = REPO / "docs" / "performance.md"
_PACKAGES: Final = ("openai", "aiohttp", "polars", "pyarrow", "diskcache", "uvloop")
_TAKES_FULL: Final = frozenset({"growth", "memory", "analysis"})

GROUPS: Final = {
    "starting": measurements.starting,
    "decoding": measurements.decoding,
    "throughput": measurements.throughput,
    "memory": measurements.memory,
    "growth": measurements.growth,
    "analysis": measurements.analysis,
}


def machine() -> dict[str, str]:
    """When and where this is measured."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": str(len(os.sched_getaffinity(0))),
        "load": f"{os.getloadavg()[0]:.1f} before",
        "Python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
    }


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(GROUPS), help="one group; may be repeated")
    parser.add_argument("--quick", action="store_true", help="one round of little: does it work?")
    parser.add_argument("--full", action="store_true", help="a million prompts, 100 M rows: an hour")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/performance.md")
    given = parser.parse_args()
    where = machine()
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    figures: dict[str, Any] = {}
    rows = []
    # Beside the repository's own output, on a real disk: /tmp may be memory.
    RESULTS.parent.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="benchmarks-", dir=RESULTS.parent))
    try:
        for name in given.only or GROUPS:
            more = {"full": given.full} if name in _TAKES_FULL else {}
            for row in GROUPS[name](folder, quick=given.quick, figures=figures, **more):
                rows.append(row)
                print(as_text(row), flush=True)
    finally:
        shutil.rmtree(folder)
    kept = {"machine": where, "rows": [row._asdict() for row in rows], "figures": figures}
    RESULTS.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    if given.docs:
        write_between_markers(PAGE, as_markdown(rows, where))


if __name__ == "__main__":
    main()
