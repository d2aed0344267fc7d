"""Files that survive a power cut: written under a temporary name, synced, renamed, and the folder synced."""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from pathlib import Path

FILE_MODE: Final = 0o600
"""The permissions of new files: prompts and answers are for nobody else, unless the job says so."""


def create_file(path: Path, *, mode: int = FILE_MODE) -> int:
    """Create an empty file in place of a leftover under its name; returns its descriptor.

    A link that somebody planted under a temporary name is removed, never followed.
    """
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_APPEND | os.O_CLOEXEC, mode)
    os.fchmod(descriptor, mode)  # whatever the umask
    return descriptor


def replace_file(path: Path, content: bytes, *, mode: int = FILE_MODE) -> None:
    """Write a file under a temporary name, make it durable, then rename it into place."""
    temporary = path.with_name(f".{path.name}.tmp")
    with os.fdopen(create_file(temporary, mode=mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names of the files in a folder durable, after files were added to it or renamed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> tuple[int, int]:
    """Make a file's bytes durable; returns their CRC-32 and the file's size in bytes."""
    with path.open("rb+") as file:
        crc, size = checksum(file)
        os.fsync(file.fileno())
    return crc, size


def checksum(file: BinaryIO) -> tuple[int, int]:
    """The CRC-32 and the size in bytes of a file, from where it is read to."""
    crc, size = 0, 0
    while block := file.read(1 << 20):
        crc = zlib.crc32(block, crc)
        size += len(block)
    return crc, size


def make_folder(folder: Path) -> None:
    """Make a folder and the missing ones above it, with durable names: a synced file in a lost folder is lost."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)
