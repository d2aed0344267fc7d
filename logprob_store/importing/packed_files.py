"""A file as bytes, whatever it is packed in, read block by block and counted.

Holds opening, gzip, zstd, the byte order mark and the checksum. Leaves out what the bytes mean (`sources`).
"""

from __future__ import annotations

import gzip
import io
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

import zstandard

from logprob_store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BLOCK_BYTES: Final = 1 << 20
"""Read at once; what is held of a file is one block and one line."""

DAMAGED: Final = (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)
"""What reading raises when a compressed file is broken off or spoilt."""

_PACKED_BYTES: Final = 1 << 16
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_UTF8_MARK: Final = b"\xef\xbb\xbf"


class _Stream(Protocol):
    def close(self) -> None: ...


class Counted(io.RawIOBase):
    """A stream that counts what is read through it: `size` in bytes, and `crc32`."""

    def __init__(self, stream: _Stream, read_into: Callable[[Any], int | None], file: _Stream) -> None:
        self._stream = stream
        self._read_into = read_into
        self._file = file
        self.size = 0
        self.crc32 = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read the next block."""
        count = self._read_into(buffer) or 0
        self.crc32 = zlib.crc32(memoryview(buffer)[:count], self.crc32)
        self.size += count
        return count

    def close(self) -> None:
        """Close the file below, too."""
        self._stream.close()
        self._file.close()
        super().close()


class _Unpacked(io.RawIOBase):
    """A zstd file of one or more frames, unpacked; unlike zstandard's own reader, it tells a file that is cut short."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame: Any = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._ready:
            packed = (self._frame.unused_data if self._frame is not None and self._frame.eof else b"") or (
                self._file.read(_PACKED_BYTES)
            )
            if not packed:
                if self._frame is not None and not self._frame.eof:
                    raise EOFError("it ends in the middle of a zstd frame")
                return 0
            if self._frame is None or self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._ready = memoryview(self._frame.decompress(packed))
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


def open_file(path: Path) -> tuple[io.BufferedReader, Counted]:
    """Open a file: plain, gzip or zstd, by its first bytes.

    Returns:
        The unpacked content, and the count of what has been read of it.

    Raises:
        InputError: it cannot be opened.
    """
    try:
        raw = path.open("rb")
        magic = raw.peek(4)[:4]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    stream: Any = raw
    if magic.startswith(_GZIP):
        stream = gzip.GzipFile(fileobj=raw)
        # One read below at a time: what comes before a damaged place is then delivered.
        counted = Counted(stream, stream.readinto1, raw)
        return io.BufferedReader(counted, BLOCK_BYTES), counted
    if magic == _ZSTD:
        stream = _Unpacked(raw)
    counted = Counted(stream, stream.readinto, raw)
    return io.BufferedReader(counted, BLOCK_BYTES), counted


def skip_mark(reader: io.BufferedReader) -> None:
    r"""Pass over a UTF-8 byte order mark, if there is one.

    >>> reader = io.BufferedReader(io.BytesIO(b"\xef\xbb\xbf{}"))
    >>> skip_mark(reader)
    >>> reader.read()
    b'{}'
    """
    if reader.peek(len(_UTF8_MARK)).startswith(_UTF8_MARK):
        reader.read(len(_UTF8_MARK))
