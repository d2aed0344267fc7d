"""`store.describe()`: every table and column of a store with its type, unit and meaning.

The meanings are written in `store.column_meanings`; here they meet the columns that a store has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from logprob_store.counted import counted
from logprob_store.errors import InputError
from logprob_store.store.column_meanings import MEANINGS, described, described_columns

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.store.column_meanings import Row
    from logprob_store.store.tables import StoreTables


@dataclass(frozen=True, repr=False)
class Description:
    """The tables of a store and what their columns mean: print it, or take `frame`."""

    path: Path
    tables: dict[str, list[Row]]

    @property
    def frame(self) -> pl.DataFrame:
        """One row per column: `table`, `column`, `type`, `unit` (null for a text, an id or a share), `meaning`."""
        rows = [(table, *column) for table, columns in self.tables.items() for column in columns]
        frame = pl.DataFrame(
            rows, schema=dict.fromkeys(("table", "column", "type", "unit", "meaning"), pl.String), orient="row"
        )
        return frame.with_columns(pl.col("unit").replace("", None))

    def __str__(self) -> str:
        return self.text()

    def text(self, *, width: int = 80) -> str:
        """Every table and column, in lines of at most so many columns of a terminal."""
        return described(self.tables, width=width)

    def __repr__(self) -> str:
        """What it is of, on one line."""
        columns = sum(map(len, self.tables.values()))
        of = f"{counted(columns, 'column')} of {', '.join(self.tables)}"
        return f"<Description of {str(self.path)!r}: {of}; print() shows them>"

    def _repr_html_(self) -> str:
        with pl.Config(tbl_rows=-1, fmt_str_lengths=1000, tbl_hide_dataframe_shape=True):
            return str(self.frame.with_columns(pl.col("unit").fill_null(""))._repr_html_())


def describe(store: StoreTables, table: str | None = None) -> Description:
    """The tables of a store, or one of them.

    Raises:
        InputError: there is no such table.
    """
    if table is not None and table not in MEANINGS:
        raise InputError(f"no table {table!r} in a store; the tables are {', '.join(MEANINGS)}")
    names = MEANINGS if table is None else [table]
    return Description(
        store.path, {name: described_columns(name, getattr(store, name).collect_schema()) for name in names}
    )
