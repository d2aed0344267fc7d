"""Zip archives: the logs of Inspect (`.eval`), and any other archive of files that can be imported."""

from __future__ import annotations

import io
import lzma
import shutil
import tempfile
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Final

from logprob_store.importing.items import SourceItem
from logprob_store.importing.raw_json import read_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAGIC: Final = (b"PK\x03\x04", b"PK\x05\x06")
"""Of an archive with files, and of an empty one."""

_DIRECTORY_END: Final = b"PK\x05\x06"
_LONGEST_END: Final = 66_000
_CUT_OFF: Final = (
    "is a zip archive that was cut off: the list of its files, which stands at its end, is missing. Copy or download "
    "it again, or unpack what is left of it (zip -FF) and import that"
)
_INSPECT_HEADERS: Final = ("header.json", "_journal/start.json")
_SAMPLES: Final = "samples/"
_REQUEST_KEYS: Final = ({"custom_id", "body"}, {"key", "request"}, {"recordId", "modelInput"})
"""The keys that tell a request of a batch of OpenAI, Gemini, or Bedrock, if none of these tells an answer."""

_ANSWER_KEYS: Final = frozenset({"response", "error", "modelOutput"})
_DAMAGED: Final = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,  # bzip2
    lzma.LZMAError,
    zlib.error,
)


def recognises(head: bytes) -> bool:
    """Whether a file that starts like this is a zip archive."""
    return head.startswith(_MAGIC)


def read(
    reader: io.BufferedReader, read_items: Callable[[io.BufferedReader], Iterator[SourceItem]], /
) -> Iterator[SourceItem]:
    """The items of each file in the archive, batches' input files first; of a log of Inspect those of its samples."""
    with tempfile.TemporaryFile() as copy:  # an archive is read from its end
        shutil.copyfileobj(reader, copy)
        try:
            archive = zipfile.ZipFile(copy)
        except zipfile.BadZipFile as error:
            said = f"is a damaged zip archive: {error}" if _has_directory(copy) else _CUT_OFF
            yield SourceItem(1, b"zip", problem=said)
            return
        members = [info for info in archive.infolist() if not info.is_dir() and not _is_hidden(info.filename)]
        if any(info.filename in _INSPECT_HEADERS for info in members):
            members = [info for info in members if info.filename.startswith(_SAMPLES)]
        else:
            members.sort(key=lambda entry: not _begins_with_request(archive, entry, read_items))
        if not members:
            yield SourceItem(1, b"zip", problem="is a zip archive without anything to import", is_unknown_format=True)
        for member in members:  # by its entry, because two files of an archive may have one name
            yield from _read_member(archive, member, read_items)


def _has_directory(archive: IO[bytes]) -> bool:
    """Whether an archive has the record that ends its directory, which may be 64 KiB before its end."""
    size = archive.seek(0, io.SEEK_END)
    archive.seek(max(0, size - _LONGEST_END))
    return _DIRECTORY_END in archive.read()


def _is_hidden(name: str) -> bool:
    """Whether a file is one that systems leave in archives, such as `__MACOSX/._a` and `.DS_Store`."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _begins_with_request(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, read_items: Callable[[io.BufferedReader], Iterator[SourceItem]]
) -> bool:
    """Whether a file begins with a request of a batch, so that it is read before the answers to its requests."""
    item = next(_read_member(archive, entry, read_items), None)
    held = read_object(item.content) if item is not None and item.problem is None else None
    return held is not None and _ANSWER_KEYS.isdisjoint(held) and any(keys <= held.keys() for keys in _REQUEST_KEYS)


def _read_member(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, read_items: Callable[[io.BufferedReader], Iterator[SourceItem]]
) -> Iterator[SourceItem]:
    shown = "".join(c if c.isprintable() else "?" for c in entry.filename)
    try:
        with archive.open(entry) as member:
            for item in read_items(io.BufferedReader(member)):  # type: ignore[arg-type]
                yield item._replace(member=shown)
    except _DAMAGED as error:
        yield SourceItem(1, entry.filename.encode(), problem=f"cannot be read from the archive: {error}", member=shown)
