"""Zip archives: the logs of Inspect (`.eval`), and any other archive of files that can be imported."""

from __future__ import annotations

import io
import shutil
import tempfile
import zipfile
import zlib
from typing import TYPE_CHECKING, Final

from logprob_store.importing.items import SourceItem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAGIC: Final = b"PK\x03\x04"
_INSPECT_HEADERS: Final = ("header.json", "_journal/start.json")
_SAMPLES: Final = "samples/"
_DAMAGED: Final = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error)


def recognises(head: bytes) -> bool:
    """Whether a file that starts like this is a zip archive."""
    return head.startswith(_MAGIC)


def read(
    reader: io.BufferedReader, read_items: Callable[[io.BufferedReader], Iterator[SourceItem]], /
) -> Iterator[SourceItem]:
    """The items of each file in the archive; of a log of Inspect those of its samples."""
    with tempfile.TemporaryFile() as copy:  # an archive is read from its end
        shutil.copyfileobj(reader, copy)
        try:
            archive = zipfile.ZipFile(copy)
        except zipfile.BadZipFile as error:
            yield SourceItem(1, b"zip", problem=f"is a damaged zip archive: {error}")
            return
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
        if any(name in names for name in _INSPECT_HEADERS):
            names = [name for name in names if name.startswith(_SAMPLES)]
        if not names:
            yield SourceItem(1, b"zip", problem="is a zip archive without anything to import", is_unknown_format=True)
        for name in names:
            yield from _read_member(archive, name, read_items)


def _read_member(
    archive: zipfile.ZipFile, name: str, read_items: Callable[[io.BufferedReader], Iterator[SourceItem]]
) -> Iterator[SourceItem]:
    shown = "".join(c if c.isprintable() else "?" for c in name)
    try:
        with archive.open(name) as member:
            for item in read_items(io.BufferedReader(member)):  # type: ignore[arg-type]
                yield item._replace(member=shown)
    except _DAMAGED as error:
        yield SourceItem(1, name.encode(), problem=f"cannot be read from the archive: {error}", member=shown)
