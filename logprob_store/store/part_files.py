"""The Parquet files of a part: their settings, and how one is written so that it survives a power cut.

A file is written under a temporary name, synced and renamed. It counts once the run's manifest lists it, which is up to
`store.commit`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import pyarrow.parquet as pq

from logprob_store.schema import SCHEMA_VERSION, SCHEMA_VERSION_METADATA, TABLES
from logprob_store.store.durable_files import make_folder, sync_file
from logprob_store.store.manifest import PartFile, part_path, table_folder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pyarrow as pa

    from logprob_store.store.manifest import Manifest

# Chosen for size at reading speed: token texts and ids repeat (dictionary), the high bytes of logprobs do (split).
_PLAIN_COLUMNS: Final = frozenset({"logprob", "logprob_wire", "logprob_sum", "logprob_min", "latency_s"})
# The texts are in no order, so their minimum and maximum help no reader, and finding them takes a fifth of the time.
_TEXT_COLUMNS: Final = frozenset({"token", "bytes"})
_ROW_GROUP_ROWS: Final = 1_000_000
# A page of 2^17 float64, split into their bytes, is eight zstd blocks of 128 KiB with bytes of one kind each: a tenth
# smaller.
_PAGE_ROWS: Final = 1 << 17
_ZSTD_LEVEL: Final = 2


def write_part_file(store: Path, run: str, table: str, part: str, rows: pa.Table) -> PartFile:
    """Write one table of a part; its bytes are durable when this returns, its name once its folder is synced.

    Raises:
        OSError: it cannot be written; a file under the temporary name may be left.
    """
    folder = table_folder(store, table, run)
    make_folder(folder)
    temporary = folder / _temporary_name(part)
    metadata = {**(rows.schema.metadata or {}), SCHEMA_VERSION_METADATA: str(SCHEMA_VERSION).encode()}
    plain = [column for column in rows.column_names if column in _PLAIN_COLUMNS]
    pq.write_table(
        rows.replace_schema_metadata(metadata),
        temporary,
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        row_group_size=_ROW_GROUP_ROWS,
        max_rows_per_page=_PAGE_ROWS,
        data_page_size=16 * _PAGE_ROWS,  # bytes; more than a page of numbers takes, so that _PAGE_ROWS alone ends it
        write_statistics=[column for column in rows.column_names if column not in _TEXT_COLUMNS],
        use_dictionary=[column for column in rows.column_names if column not in _PLAIN_COLUMNS],
        column_encoding=dict.fromkeys(plain, "BYTE_STREAM_SPLIT") or None,
    )
    crc, size = sync_file(temporary)
    temporary.replace(part_path(store, table, run, part))
    return PartFile(rows.num_rows, size, crc)


def remove_part_files(store: Path, run: str, part: str, tables: Iterable[str]) -> None:
    """Remove what was written of a part that failed: it takes up room, and engines that read folders would see it."""
    for table in tables:
        for path in (table_folder(store, table, run) / _temporary_name(part), part_path(store, table, run, part)):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def remove_unlisted_files(store: Path, manifest: Manifest) -> None:
    """Remove a run's part files that its manifest does not list: an earlier session died before it listed them."""
    for table in (*TABLES, "imports"):
        listed = {f"{part.name}.parquet" for part in manifest.parts if table in part.files}
        folder = table_folder(store, table, manifest.run)
        for path in folder.glob("*") if folder.is_dir() else ():
            if path.name.startswith((".part-", "part-")) and path.name not in listed:
                path.unlink()


def _temporary_name(part: str) -> str:
    return f".{part}.parquet.tmp"
