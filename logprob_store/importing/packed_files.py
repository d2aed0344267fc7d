"""Files as decompressed bytes, read a block at a time: plain, gzip or zstd, with their size and checksum."""

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
"""Bytes of one read; of a file, one block and one line are in memory."""

DAMAGED: Final = (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)
"""What reading raises when a compressed file is truncated or corrupt."""

_COMPRESSED_BLOCK_BYTES: Final = 1 << 16
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class _Closeable(Protocol):
    def close(self) -> None: ...


class CountingStream(io.RawIOBase):
    """A stream that counts what is read through it: `size` in bytes, and `crc32`."""

    def __init__(self, stream: _Closeable, read_into: Callable[[Any], int | None], file: _Closeable) -> None:
        self._stream = stream
        self._read_into = read_into
        self._file = file
        self.size = 0
        self.crc32 = 0

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read the next block into `buffer`; returns its size in bytes."""
        count = self._read_into(buffer) or 0
        self.crc32 = zlib.crc32(memoryview(buffer)[:count], self.crc32)
        self.size += count
        return count

    def close(self) -> None:
        """Close the stream and the file below it."""
        self._stream.close()
        self._file.close()
        super().close()


class _ZstdStream(io.RawIOBase):
    """The content of a zstd file of one or more frames; unlike zstandard's reader, it raises at a truncated file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame: Any = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._ready:
            compressed = (self._frame.unused_data if self._frame is not None and self._frame.eof else b"") or (
                self._file.read(_COMPRESSED_BLOCK_BYTES)
            )
            if not compressed:
                if self._frame is not None and not self._frame.eof:
                    raise EOFError("it ends in the middle of a zstd frame")
                return 0
            if self._frame is None or self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._ready = memoryview(self._frame.decompress(compressed))
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


def open_file(path: Path) -> tuple[io.BufferedReader, CountingStream]:
    """Open a file; its first bytes tell whether it is plain, gzip or zstd.

    Returns:
        A reader of the decompressed content, and the stream that counts what has been read.

    Raises:
        InputError: the file cannot be opened.
    """
    try:
        raw = path.open("rb")
        magic = raw.peek(4)[:4]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    stream: Any = raw
    if magic.startswith(_GZIP_MAGIC):
        stream = gzip.GzipFile(fileobj=raw)
        # readinto1 reads the file once a call, so that all content before a damaged place is returned first.
        counting = CountingStream(stream, stream.readinto1, raw)
        return io.BufferedReader(counting, BLOCK_BYTES), counting
    if magic == _ZSTD_MAGIC:
        stream = _ZstdStream(raw)
    counting = CountingStream(stream, stream.readinto, raw)
    return io.BufferedReader(counting, BLOCK_BYTES), counting


def skip_byte_order_mark(reader: io.BufferedReader) -> None:
    r"""Skip a UTF-8 byte order mark if the content starts with one.

    >>> reader = io.BufferedReader(io.BytesIO(b"\xef\xbb\xbf{}"))
    >>> skip_byte_order_mark(reader)
    >>> reader.read()
    b'{}'
    """
    if reader.peek(len(_BYTE_ORDER_MARK)).startswith(_BYTE_ORDER_MARK):
        reader.read(len(_BYTE_ORDER_MARK))
