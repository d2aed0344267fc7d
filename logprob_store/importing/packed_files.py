"""Files as decompressed UTF-8, read a block at a time, with their size and checksum.

A file may be plain or compressed with gzip, zstd, bzip2 or xz, and its text may be UTF-16 or UTF-32.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

import zstandard

from logprob_store.errors import InputError
from logprob_store.mended_json import encoding_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BLOCK_BYTES: Final = 1 << 20
"""Bytes of one read; of a file, one block and one line are in memory."""

DAMAGED: Final = (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError, lzma.LZMAError)
"""What reading raises when a compressed file is truncated or corrupt."""

_COMPRESSED_BLOCK_BYTES: Final = 1 << 16
_FEWEST_BYTES: Final = 1 << 9
"""Compressed bytes that are read at a time, at most and at least."""

_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_BZIP2_MAGIC: Final = b"BZh"
_XZ_MAGIC: Final = b"\xfd7zXZ\x00"
_MOST_LAYERS: Final = 4
"""How often a file is unpacked that holds a compressed file itself."""
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
    """The content of a zstd file of one or more frames; unlike zstandard's reader, it raises at a truncated file.

    A block of a few bytes may hold 128 KiB, so how much is unpacked at a time follows from what the last bytes became.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame: Any = None
        self._ready = memoryview(b"")
        self._size = _FEWEST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._ready:
            compressed = (self._frame.unused_data if self._frame is not None and self._frame.eof else b"") or (
                self._file.read(self._size)
            )
            if not compressed:
                if self._frame is not None and not self._frame.eof:
                    raise EOFError("it ends in the middle of a zstd frame")
                return 0
            if self._frame is None or self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._ready = memoryview(self._frame.decompress(compressed))
            is_dense = len(self._ready) > BLOCK_BYTES
            self._size = _FEWEST_BYTES if is_dense else min(2 * self._size, _COMPRESSED_BLOCK_BYTES)
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


class _ReadAhead:
    """The content of a bzip2 or xz file. All content before a damaged place is returned first."""

    def __init__(self, file: bz2.BZ2File | lzma.LZMAFile) -> None:
        self._file = file

    def readinto(self, buffer: Any, /) -> int:
        try:
            content = self._file.read1(len(buffer))
        except OSError as error:
            if error.errno is not None:
                raise
            raise EOFError(str(error)) from error  # bz2 has no error of its own for damaged files
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._file.close()


class _Utf8Stream(io.RawIOBase):
    """A text in another encoding as UTF-8; what cannot be decoded becomes U+FFFD."""

    def __init__(self, reader: io.BufferedReader, encoding: str) -> None:
        self._reader = reader
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        self._ready = b""
        self._is_at_end = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._ready and not self._is_at_end:
            block = self._reader.read1(_COMPRESSED_BLOCK_BYTES)
            self._is_at_end = not block
            self._ready = self._decoder.decode(block, final=not block).encode()
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


def open_file(path: Path) -> tuple[io.BufferedReader, CountingStream]:
    """Open a file; its first bytes tell whether and how it is compressed.

    Returns:
        A reader of the decompressed content, and the stream that counts what has been read.

    Raises:
        InputError: the file cannot be opened.
    """
    try:
        raw = path.open("rb")
        magic = raw.peek(6)[:6]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    counting = _unpacking(raw, magic) or CountingStream(raw, raw.readinto, raw)
    return io.BufferedReader(counting, BLOCK_BYTES), counting


def unpack(reader: io.BufferedReader) -> io.BufferedReader:
    r"""The content of what may be compressed itself, such as a file in an archive.

    >>> unpack(io.BufferedReader(io.BytesIO(gzip.compress(gzip.compress(b"{}"))))).read()
    b'{}'
    """
    for _ in range(_MOST_LAYERS):
        unpacking = _unpacking(reader, reader.peek(len(_XZ_MAGIC))[: len(_XZ_MAGIC)])
        if unpacking is None:
            break
        reader = io.BufferedReader(unpacking, BLOCK_BYTES)
    return reader


def _unpacking(raw: io.BufferedReader, magic: bytes) -> CountingStream | None:
    """What a compressed file with these first bytes holds; None if it is not compressed."""
    if magic.startswith(_GZIP_MAGIC):
        file = gzip.GzipFile(fileobj=raw)
        # readinto1 reads the file once a call, so that all content before a damaged place is returned first.
        return CountingStream(file, file.readinto1, raw)
    stream: Any = None
    if magic.startswith(_ZSTD_MAGIC):
        stream = _ZstdStream(raw)
    elif magic.startswith(_BZIP2_MAGIC):
        stream = _ReadAhead(bz2.BZ2File(raw))
    elif magic == _XZ_MAGIC:
        stream = _ReadAhead(lzma.LZMAFile(raw))  # noqa: SIM115  closed with what is returned
    return None if stream is None else CountingStream(stream, stream.readinto, raw)


def unify_encoding(reader: io.BufferedReader) -> io.BufferedReader:
    r"""The content as UTF-8 without a byte order mark; the mark, or a NUL beside the first character, tells what it is.

    >>> unify_encoding(io.BufferedReader(io.BytesIO(b"\xef\xbb\xbf{}"))).read()
    b'{}'
    >>> unify_encoding(io.BufferedReader(io.BytesIO('{"a": "é"}'.encode("utf-16")))).read().decode()
    '{"a": "é"}'
    """
    head = reader.peek(4)[:4]
    if head.startswith(_BYTE_ORDER_MARK):
        reader.read(len(_BYTE_ORDER_MARK))
        return reader
    encoding = encoding_of(head)
    return reader if encoding is None else io.BufferedReader(_Utf8Stream(reader, encoding), BLOCK_BYTES)
