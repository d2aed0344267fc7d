"""The process that answers queries in SQL: it may take neither much memory nor write a file.

It reads lines of JSON: the store with its runs, and then, once it has said `ready`, a query in each line. It answers
each in one line of JSON. `sql.py` starts it, and ends it when a query takes too long.
"""

from __future__ import annotations

import contextlib
import json
import math
import resource
import sys
from pathlib import Path
from typing import Any, Final

_MOST_CPU_SECONDS: Final = 120
"""Of processor time for one query: for a process whose explorer was killed."""
_MOST_ROWS: Final = 1000
_LONGEST_CELL: Final = 1000
_MOST_CHARACTERS: Final = 2_000_000
"""Of all cells together: what a page can show."""


def main() -> None:
    """Answer queries until there are no more."""
    opened = json.loads(sys.stdin.readline())
    import polars as pl

    from logprob_store.analysis.opened_store import open_store
    from logprob_store.analysis.sql_tables import sql_tables
    from logprob_store.explorer.preparing import open_prepared
    from logprob_store.explorer.verdicts import with_verdicts

    store = open_store(opened["store"], runs=opened["runs"])
    folder = opened["folder"]
    prepared = open_prepared(store, folder_of=None if folder is None else lambda run: Path(folder) / run)
    if opened["expected"] is not None:
        prepared = with_verdicts(prepared, opened["expected"])
    # What is prepared has the scores already. Texts are plain there, as in the other tables: both are joined.
    scores = prepared.rows.lazy().filter(pl.col("error_type").is_null()).drop("search", "error_type")
    plain = scores.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
    tables = sql_tables(store) | {"scores": plain}
    _answer("select 1 as one from runs limit 1", tables)  # starts threads and imports modules
    _limit(resource.RLIMIT_DATA, _reserved() + opened["memory"])
    _limit(resource.RLIMIT_FSIZE, 0)
    _write({"ready": True})
    while asked := sys.stdin.readline():
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime) + _MOST_CPU_SECONDS)
        _write(_answer(json.loads(asked)["query"], tables))


def _answer(query: str, tables: Any) -> dict[str, Any]:
    from logprob_store.analysis.sql_tables import ask_in_sql, check_reads_no_files
    from logprob_store.errors import LogprobStoreError
    from logprob_store.explorer.sql import TOO_MUCH_MEMORY

    try:
        check_reads_no_files(query)
        frame = ask_in_sql(query, tables, limit=_MOST_ROWS + 1)
    except LogprobStoreError as error:
        return {"error": str(error)}
    except (MemoryError, SystemError):  # Python itself says the second where it has no memory left
        return {"error": TOO_MUCH_MEMORY}
    rows: list[list[Any]] = []
    left = _MOST_CHARACTERS
    for row in frame.head(_MOST_ROWS).iter_rows():
        cells = [_cell(value) for value in row]
        left -= sum(len(cell) if isinstance(cell, str) else 8 for cell in cells)
        if left < 0:
            break
        rows.append(cells)
    kinds = ["number" if kind.is_numeric() else "text" for kind in frame.dtypes]
    return {"columns": frame.columns, "kinds": kinds, "rows": rows, "more": len(rows) < frame.height}


def _cell(value: Any) -> Any:
    """A value as JSON: numbers, and the beginning of a text."""
    if value is None or isinstance(value, bool | int):
        return value if not isinstance(value, int) or abs(value) < 1 << 53 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]} … ({len(text):,} characters)"


def _reserved() -> int:
    """Bytes that count for the limit of memory before any query: threads and allocators reserve a gigabyte or two."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    except OSError:  # only Linux has it, and bounds this memory
        return 0
    return pages * resource.getpagesize()


def _limit(what: int, most: int) -> None:
    """Set a limit of the process, where the system knows it and lets it be set."""
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _write(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
