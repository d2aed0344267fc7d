"""A store asked in SQL, by polars: its tables by name, which queries may be asked, and errors as sentences."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import polars as pl

from logprob_store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logprob_store.analysis.opened_store import Store

_READS: Final = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/|\()*(?:select|with|from|values|show|explain)\b", re.IGNORECASE | re.DOTALL
)
"""How a query begins that changes nothing, behind comments and brackets."""
_READS_FILES: Final = re.compile(r"read_[a-z]+", re.IGNORECASE)
"""The functions by which polars reads files: read_csv, read_ipc, read_json, read_parquet."""

_OWN_PLAN: Final = re.compile(r"\s*(?:Resolved plan|This error occurred with the following context stack)")
"""Where polars' message goes on with its own plan, which nobody wrote."""


def sql_tables(store: Store) -> dict[str, pl.LazyFrame]:
    """The tables that a query may name, each with the rows of the store's runs."""
    names = ("prompts", "completions", "tokens", "alternatives", "decisions", "failures", "imports", "runs", "answers")
    return {name: getattr(store, name) for name in names} | {"scores": store.scores(), "decided": store.decided()}


def check_reads_no_files(query: str) -> None:
    """Check that a query reads no files but the store's: it may come from somebody who may not read other files.

    The whole text is searched, its strings too: what is a string to us might be none to polars.

    Raises:
        InputError: it may.

    >>> check_reads_no_files("select * from scores")
    """
    if (found := _READS_FILES.search(query)) is not None:
        raise InputError(
            f"{found[0]} is not answered here, not even in a text: a query reads the tables of the store alone"
        )


def ask_in_sql(query: str, tables: Mapping[str, pl.LazyFrame], *, limit: int | None = None) -> pl.DataFrame:
    """The rows that a query asks for.

    Args:
        query: begins with SELECT, WITH or another word that changes nothing.
        tables: by name.
        limit: the most rows; all when None.

    Raises:
        InputError: it changes something, or polars cannot answer it; the message has the names of the tables.

    >>> ask_in_sql("select count(*) as n from t", {"t": pl.LazyFrame({"a": [1, 2]})}).item()
    2
    """
    with pl.SQLContext(dict(tables)) as context:
        known = f"the tables are {', '.join(context.tables())}"
        if _READS.match(query) is None:
            raise InputError(f"a query begins with SELECT or WITH, as a store is only read here; {known}")
        try:
            asked = context.execute(query)
            return (asked if limit is None else asked.head(limit)).collect(engine="streaming")
        except pl.exceptions.PolarsError as error:
            said = _OWN_PLAN.split(str(error), maxsplit=1)[0].strip()
            raise InputError(f"{said}\n{known}") from error
