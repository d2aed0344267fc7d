"""The generated tokens of a part as numpy arrays, for `metrics.engine.arrays`, which computes scores of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from logprob_store.errors import StoreError
from logprob_store.metrics.engine.arrays import OrderedTokens
from logprob_store.schema import Section

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_in_order"]

_PLACES_PER_SECTION: Final = 2**32
"""More than the positions of a section, so that places of two sections never follow one another."""
_SECTIONS: Final = {section: number for number, section in enumerate(Section.categories)}


def read_in_order(path: Path, *, places: bool) -> OrderedTokens | None:
    """The generated tokens of a file; None if its rows are not in the order of generation.

    That is so where there is reasoning beside another section: the table has reasoning behind the content.

    Args:
        path: a file of the tokens table.
        places: whether to read `OrderedTokens.place` too.

    Raises:
        StoreError: the file is damaged.
        FileNotFoundError: it is gone.
    """
    only, rows = _read(path, ["completion_id", "logprob", *(["position"] if places else [])])
    if only is None:
        sections = rows["section"].combine_chunks().cast(pa.string()).dictionary_encode()
        if "reasoning" in sections.dictionary.to_pylist():
            return None
        numbers = np.array([_SECTIONS[name] for name in sections.dictionary.to_pylist()])[sections.indices.to_numpy()]
        rows = rows.append_column("number", pa.array(numbers)).filter(pa.array(numbers != _SECTIONS["prompt"]))
    elif only == "prompt":
        rows = rows.slice(0, 0)
    content = None
    if only is None:
        content = rows["number"].to_numpy() == _SECTIONS["content"]
    elif only != "content":
        content = np.zeros(rows.num_rows, dtype=np.bool_)
    logprob = rows["logprob"].combine_chunks()
    place = None
    if places:
        place = rows["position"].to_numpy()
        if only is None:
            place = place + rows["number"].to_numpy() * _PLACES_PER_SECTION
    return OrderedTokens(
        rows["completion_id"].to_numpy(),
        logprob.to_numpy(zero_copy_only=False),
        logprob.is_valid().to_numpy(zero_copy_only=False) if logprob.null_count else None,
        place,
        content,
    )


def _read(path: Path, columns: list[str]) -> tuple[str | None, pa.Table]:
    """The section of all rows if the file's statistics show one, and these columns; else None, and `section` too."""
    try:
        with pq.ParquetFile(path) as file:
            only = _only_section(file.metadata)
            # one thread, because several parts are read at once
            return only, file.read(columns=columns if only else [*columns, "section"], use_threads=False)
    except FileNotFoundError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        raise StoreError(
            f"{path} cannot be read: {str(error).rstrip('.')}. `logprobs verify {path.parents[2]} --repair` takes "
            "damaged parts out, and the job fills them in from the cache."
        ) from error


def _only_section(metadata: pq.FileMetaData) -> str | None:
    """The section of all rows, if the file's statistics show that there is one; None otherwise."""
    names = set()
    column = metadata.schema.names.index("section")
    for number in range(metadata.num_row_groups):
        found = metadata.row_group(number).column(column).statistics
        if found is None or not found.has_min_max or found.null_count:
            return None
        names |= {found.min, found.max}
    return names.pop() if len(names) == 1 else None
