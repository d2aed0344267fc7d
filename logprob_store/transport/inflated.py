"""Files of any size, inflated as they come: gzip in any number of members, zlib or bare deflate, zstd.

What a file is its first bytes say: some services compress and do not say so, store what is compressed already, or name
an encoding that is not there. The header is asked for deflate alone, which has no mark. Whole bodies of answers are
read by `body_reader`.
"""

from __future__ import annotations

import functools
import zlib
from typing import TYPE_CHECKING, Any, Final, Protocol

import zstandard

from logprob_store.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PIECE_BYTES: Final = 4 << 20
"""The most bytes that come at once, so that no small block fills the memory."""
_FED_BYTES: Final = 1 << 12
"""The most bytes that are inflated at once: a block of zstd has 128 KiB in four bytes, at most."""
_MARK_BYTES: Final = 4
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_MOST_LAYERS: Final = 3
_READABLE: Final = (b"{", b"[", b"<", b" ", b"\n", b"\r", b"\t", b"\xef\xbb\xbf")
"""How JSON Lines or a page begin."""


class NotGivenError(CallError):
    """A service does not give a file of its own, or gives what cannot be read; it may do so later."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message, error_type="invalid_request", status=status)


class _Decoder(Protocol):
    def feed(self, block: bytes) -> Iterator[bytes]:
        """What the next bytes inflate to."""

    def finish(self) -> Iterator[bytes]:
        """What is left at the end."""


class _Step(Protocol):
    def __call__(self, decoder: _Decoder) -> Iterator[bytes]:
        """What a decoder gives."""


class _Members:
    """Gzip or zstd of one or more members, or deflate; what stands behind the last member is padding.

    Args:
        begin: a decompressor of one member.
        mark: the first byte of a member.
    """

    def __init__(self, begin: Callable[[], Any], mark: bytes) -> None:
        self._begin = begin
        self._mark = mark
        self._stream = begin()
        self._is_over = False

    def feed(self, block: bytes) -> Iterator[bytes]:
        for start in range(0, len(block), _FED_BYTES):
            rest = block[start : start + _FED_BYTES]
            while rest and not self._is_over:
                if self._stream.eof:
                    self._is_over = not rest.startswith(self._mark)
                    if self._is_over:
                        return
                    self._stream = self._begin()
                yield from self._inflate(rest)
                rest = self._stream.unused_data

    def _inflate(self, block: bytes) -> Iterator[bytes]:
        if self._mark == _ZSTD[:1]:  # it has no limit of what comes at once
            yield self._stream.decompress(block)
            return
        while piece := self._stream.decompress(block, _PIECE_BYTES):
            yield piece
            block = self._stream.unconsumed_tail

    def finish(self) -> Iterator[bytes]:
        if not self._stream.eof:
            raise NotGivenError("the file broke off")
        return iter(())


class _Plain:
    def feed(self, block: bytes) -> Iterator[bytes]:
        yield block

    def finish(self) -> Iterator[bytes]:
        return iter(())


class Inflater:
    """Inflates a file block by block.

    Args:
        encoding: the header that names its encodings.

    >>> inflater = Inflater("x-gzip")
    >>> twice = zlib.compress(b"a" * 9, wbits=31) + zlib.compress(b"b", wbits=31)
    >>> b"".join([*inflater.feed(twice[:7]), *inflater.feed(twice[7:]), *inflater.finish()])
    b'aaaaaaaaab'
    """

    def __init__(self, encoding: str = "", *, layers: int = _MOST_LAYERS) -> None:
        self._encoding = encoding
        self._layers = layers
        self._beginning = b""
        self._decoder: _Decoder | None = None
        self._inner: Inflater | None = None

    def feed(self, block: bytes) -> Iterator[bytes]:
        """What the next bytes inflate to, in pieces.

        Raises:
            NotGivenError: they are damaged, or encoded so that nobody can read them.
        """
        if self._decoder is None:
            self._beginning += block
            if len(self._beginning) < _MARK_BYTES:
                return
            block = self._begin()
        yield from self._through(lambda decoder: decoder.feed(block))

    def finish(self) -> Iterator[bytes]:
        """What is left at the end of the file.

        Raises:
            NotGivenError: it broke off.
        """
        if self._decoder is None:
            rest = self._begin()
            yield from self._through(lambda decoder: decoder.feed(rest))
        yield from self._through(lambda decoder: decoder.finish())
        if self._inner is not None:
            yield from self._inner.finish()

    def _begin(self) -> bytes:
        """Choose a decoder by the first bytes; returns them."""
        beginning, self._beginning = self._beginning, b""
        self._decoder = self._choose(beginning)
        if self._layers and not isinstance(self._decoder, _Plain):
            self._inner = Inflater(layers=self._layers - 1)
        return beginning

    def _choose(self, beginning: bytes) -> _Decoder:
        if not self._layers:
            return _Plain()
        if beginning.startswith(_GZIP):
            return _zlib(16 + zlib.MAX_WBITS)
        if beginning.startswith(_ZSTD):
            return _Members(zstandard.ZstdDecompressor().decompressobj, _ZSTD[:1])
        names = {name.strip().lower() for name in self._encoding.split(",")}
        if not beginning or beginning.startswith(_READABLE):
            return _Plain()
        if "deflate" in names:
            return _zlib(zlib.MAX_WBITS if _has_zlib_header(beginning) else -zlib.MAX_WBITS)
        if unknown := names - {"", "identity", "gzip", "x-gzip", "zstd"}:
            raise NotGivenError(f"the file is encoded as {min(unknown)[:40]!r}, which cannot be read")
        return _Plain()

    def _through(self, take: _Step) -> Iterator[bytes]:
        if self._decoder is None:
            return
        try:
            for piece in take(self._decoder):
                if self._inner is None:
                    yield piece
                else:
                    yield from self._inner.feed(piece)
        except (zlib.error, zstandard.ZstdError) as error:
            raise NotGivenError(f"the file is damaged ({error})") from error


def _zlib(window: int) -> _Members:
    return _Members(functools.partial(zlib.decompressobj, window), _GZIP[:1])


def _has_zlib_header(beginning: bytes) -> bool:
    """By RFC 1950: the method deflate, and a checksum of both bytes."""
    return beginning[0] & 0x0F == 8 and int.from_bytes(beginning[:2], "big") % 31 == 0  # noqa: PLR2004
