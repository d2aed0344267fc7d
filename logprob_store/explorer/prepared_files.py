"""The files that an explorer keeps of a run, beside its manifest: which parts they hold, and whether they still do.

They lie in `runs/run=<run>/explorer/`, so that a run that is removed takes them along: they have texts of answers. Each
is an Arrow file that is mapped into memory as it is. `index.json` lists them with the parts that they were made of;
what it does not list counts for nothing. Anybody may delete the folder: it is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import polars as pl
import pyarrow as pa

from logprob_store.store.durable_files import FILE_MODE, create_file, make_folder, replace_file, sync_file, sync_folder
from logprob_store.store.manifest import run_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from logprob_store.store.manifest import Manifest

FOLDER: Final = "explorer"
"""The name of the folder in that of a run."""
VERSION: Final = 2
"""Of what the files hold: files of another version are made again."""
_INDEX: Final = "index.json"


class PreparedFile(msgspec.Struct):
    """What one pair of files holds: its name, the parts by name with the CRC-32 of their answers, and its rows."""

    name: str
    parts: dict[str, int]
    rows: int


class _Index(msgspec.Struct):
    version: int
    files: list[PreparedFile]


class OpenFile(NamedTuple):
    """A pair of files, mapped into memory: the rows of completions, and of the tokens in them."""

    listed: PreparedFile
    completions: pl.DataFrame
    tokens: pl.DataFrame


def folder_in_store(store: Path, run: str) -> Path:
    """Where the files of a run lie, beside its manifest."""
    return run_folder(store, run) / FOLDER


def crc_of_parts(manifest: Manifest) -> dict[str, int]:
    """The parts of a run that have answers, by name, with the CRC-32 of their file of completions."""
    return {part.name: part.files["completions"].crc32 for part in manifest.parts if "completions" in part.files}


def open_files(folder: Path, parts: Mapping[str, int]) -> list[OpenFile]:
    """The files in a folder that hold parts of a run as they are now, in order; none where there is no folder.

    Args:
        folder: of the files.
        parts: of the run, as `crc_of_parts` gives them.
    """
    try:
        index = msgspec.json.decode((folder / _INDEX).read_bytes(), type=_Index)
    except (OSError, msgspec.DecodeError):
        return []
    if index.version != VERSION:
        return []
    found = []
    for listed in index.files:
        if listed.parts.items() <= parts.items():
            # Another explorer may have replaced it, or somebody damaged it: then it is made again.
            with contextlib.suppress(OSError, pa.ArrowException):
                found.append(_opened(folder, listed))
    return found


def write_file(folder: Path, parts: Mapping[str, int], completions: pl.DataFrame, tokens: pl.DataFrame) -> OpenFile:
    """Write a pair of files, which count once `write_index` lists them.

    Args:
        folder: of the files; it is made where it is missing.
        parts: that the rows are of, with their CRC-32.
        completions: the rows of completions.
        tokens: the rows of tokens.

    Raises:
        OSError: they cannot be written.
    """
    name = hashlib.sha256(msgspec.json.encode([VERSION, sorted(parts.items())])).hexdigest()[:16]
    make_folder(folder)
    for path, frame in zip(_paths(folder, name), (completions, tokens), strict=True):
        temporary = path.with_name(f".{path.name}.tmp")
        _create(temporary)
        frame.write_ipc(temporary, compression="uncompressed")  # compressed files cannot be mapped
        sync_file(temporary)
        temporary.replace(path)
    sync_folder(folder)
    return _opened(folder, PreparedFile(name, dict(parts), completions.height))


def write_index(folder: Path, files: Sequence[PreparedFile], *, replaced: Sequence[PreparedFile] = ()) -> None:
    """List the files that count, and remove those that were replaced; a process that has one mapped keeps it.

    Args:
        folder: of the files.
        files: in order.
        replaced: files that count no longer.

    Raises:
        OSError: the index cannot be written.
    """
    replace_file(folder / _INDEX, msgspec.json.encode(_Index(VERSION, list(files))))
    kept = {listed.name for listed in files}
    for listed in replaced:
        if listed.name not in kept:
            for path in _paths(folder, listed.name):
                path.unlink(missing_ok=True)


def _opened(folder: Path, listed: PreparedFile) -> OpenFile:
    completions, tokens = (_mapped(path) for path in _paths(folder, listed.name))
    if completions.height != listed.rows:
        raise OSError(f"{folder}: {listed.name} has other rows than its index says")
    return OpenFile(listed, completions, tokens)


def _mapped(path: Path) -> pl.DataFrame:
    """The rows of an Arrow file where they lie; polars' own reader copies them."""
    with pa.memory_map(str(path)) as file:
        return pl.DataFrame(pa.ipc.open_file(file).read_all())


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"completions-{name}.arrow", folder / f"tokens-{name}.arrow"


def _create(path: Path) -> None:
    os.close(create_file(path, mode=FILE_MODE))
