"""The Parquet files of a part: their settings, and how one is written so that it survives a power cut.

A file is written under a temporary name, synced and renamed. It counts once the run's manifest lists it, which is up to
`store.commit`. Its Parquet metadata names its run and part, so that a file that came to another place is found there.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from logprob_store.counted import counted
from logprob_store.errors import StoreError
from logprob_store.schema import SCHEMA_VERSION, SCHEMA_VERSION_METADATA
from logprob_store.store.durable_files import FILE_MODE, create_file, make_folder, sync_file
from logprob_store.store.manifest import PartFile, part_path, table_folder
from logprob_store.store.run_folders import ALL_TABLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from logprob_store.store.manifest import Manifest

RUN_METADATA: Final = b"logprob_store.run_id"
PART_METADATA: Final = b"logprob_store.part"
"""Keys of a file's Parquet metadata: the id of its run, and the name of its part. Version 0.1.0 did not write them."""

# Chosen for size at reading speed: token texts and ids repeat (dictionary), the high bytes of logprobs do (split).
_PLAIN_COLUMNS: Final = frozenset({"logprob", "logprob_wire", "logprob_sum", "logprob_min", "latency_s"})
# The texts are in no order, so their minimum and maximum help no reader, and finding them takes a fifth of the time.
_TEXT_COLUMNS: Final = frozenset({"token", "bytes"})
_ROW_GROUP_ROWS: Final = 1_000_000
# A page of 2^17 float64, split into their bytes, is eight zstd blocks of 128 KiB with bytes of one kind each: a tenth
# smaller.
_PAGE_ROWS: Final = 1 << 17
_ZSTD_LEVEL: Final = 2
_SET_ASIDE: Final = ".unlisted"


def scan_part_files(files: Sequence[Path], schema: pl.Schema | None = None) -> pl.LazyFrame:
    """The rows of files of one table, whichever versions wrote them: a column is null where a version had it not.

    Args:
        files: at least one.
        schema: the table's columns; those of the first file if None, for readers of columns that all versions have.
    """
    # Hive partitioning would also read keys from the folders above the store (".../date=2026-11-22/store"), and guess
    # types for run names that look like dates.
    return pl.scan_parquet(
        list(files),
        schema=schema,
        hive_partitioning=False,
        glob=False,
        missing_columns="insert",
        extra_columns="ignore",
    )


def write_part_file(
    store: Path, manifest: Manifest, table: str, part: str, rows: pa.Table, *, mode: int = FILE_MODE
) -> PartFile:
    """Write one table of a part; its bytes are durable when this returns, its name once its folder is synced.

    Args:
        store: the store's folder.
        manifest: of the run.
        table: the table's name.
        part: the part's name.
        rows: of the table.
        mode: the permissions of the file.

    Raises:
        OSError: it cannot be written; a file under the temporary name may be left.
    """
    folder = table_folder(store, table, manifest.run)
    make_folder(folder)
    temporary = folder / _temporary_name(part)
    metadata = {
        **(rows.schema.metadata or {}),
        SCHEMA_VERSION_METADATA: str(SCHEMA_VERSION).encode(),
        RUN_METADATA: manifest.run_id.encode(),
        PART_METADATA: part.encode(),
    }
    os.close(create_file(temporary, mode=mode))
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
    temporary.replace(part_path(store, table, manifest.run, part))
    return PartFile(rows.num_rows, size, crc)


def remove_part_files(store: Path, run: str, part: str, tables: Iterable[str]) -> None:
    """Remove what was written of a part that failed: it takes up room, and engines that read folders would see it."""
    for table in tables:
        for path in (table_folder(store, table, run) / _temporary_name(part), part_path(store, table, run, part)):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def check_folders(store: Path, run: str) -> None:
    """See that no folder of a run's files is a link: what it leads to belongs to something else.

    Raises:
        StoreError: one is.
    """
    for folder in (table_folder(store, table, run) for table in ALL_TABLES):
        if folder.is_symlink():
            raise StoreError(
                f"{folder} is a link to {folder.readlink()}, whose files are not this run's: they could be removed as "
                f"leftovers. Put a folder in its place, or give the run another name with --run NAME."
            )


def missing_files(store: Path, manifest: Manifest) -> list[Path]:
    """The files of parts that a manifest lists and that are not there, as in a store that was copied in part."""
    missing = []
    for table in ALL_TABLES:
        if listed := [f"{part.name}.parquet" for part in manifest.parts if table in part.files]:
            folder = table_folder(store, table, manifest.run)
            there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
            missing += [folder / name for name in listed if name not in there]
    return missing


def missing_files_sentence(store: Path, run: str, missing: Sequence[Path]) -> str:
    """What to do about files that are not there."""
    return (
        f"run {run} lacks {counted(len(missing), 'file')} of its rows, such as {missing[0]}. If the store was copied, "
        f"copy it again, whole; else `logprobs verify {store} --repair` takes out the parts that lack one"
    )


def unlisted_files(store: Path, manifest: Manifest) -> list[Path]:
    """A run's part files that its manifest does not list, those under temporary names too."""
    found = []
    for table in ALL_TABLES:
        listed = {f"{part.name}.parquet" for part in manifest.parts if table in part.files}
        folder = table_folder(store, table, manifest.run)
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            is_part = path.name.startswith((".part-", "part-")) and not path.name.endswith(_SET_ASIDE)
            if is_part and path.name not in listed:
                found.append(path)
    return found


def remove_unlisted_files(store: Path, manifest: Manifest) -> None:
    """Remove a run's part files that its manifest does not list: an earlier session died before it listed them.

    Raises:
        StoreError: one is a file of another run.
    """
    unlisted = unlisted_files(store, manifest)
    for path in unlisted:
        if (owner := _run_of(path)) not in {None, manifest.run_id}:
            raise StoreError(
                f"{path} is a file of another run (its id is {owner}), in the folder of run {manifest.run!r}. "
                "Move it back to where it was."
            )
    for path in unlisted:
        path.unlink()


def set_aside_unlisted_files(store: Path, manifest: Manifest) -> list[Path]:
    """Rename a run's part files that its manifest does not list; returns their new paths.

    Where the manifest is an older copy, such files may be of a part that was committed after it.
    """
    moved = []
    for path in unlisted_files(store, manifest):
        number, aside = 0, path.with_name(path.name + _SET_ASIDE)
        while aside.exists():
            number += 1
            aside = path.with_name(f"{path.name}.{number}{_SET_ASIDE}")
        moved.append(path.rename(aside))
    return moved


def _run_of(path: Path) -> str | None:
    """The id of the run that a file says it is of; None if it says none."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except (pa.ArrowException, OSError):
        return None
    run = metadata.get(RUN_METADATA)
    return None if run is None else run.decode(errors="replace")


def _temporary_name(part: str) -> str:
    return f".{part}.parquet.tmp"
