"""The bodies of answers, read within a limit, so that no server can fill this machine's memory.

An HTTP client reads a whole body before its caller sees any of it; a gzip bomb has grown a thousandfold by then. Here
bytes are counted as they are received, and again as they are inflated, and reading stops at the limit. Only two bodies
at a time may grow beyond 4 MiB, which limits the sum over many calls; the others wait as they came.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

import zstandard

from logprob_store.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import aiohttp

MAX_ANSWER_BYTES: Final = 1 << 28
"""The default: 100,000 tokens with 20 alternatives each are about 160 MB of JSON."""

ACCEPT_ENCODING: Final = "gzip, deflate"
"""The encodings that are asked for."""

SUCCESS: Final = range(200, 300)
_SMALL_BYTES: Final = 4 << 20
_LARGE_AT_ONCE: Final = 2
_MAX_REFUSAL_BYTES: Final = 1 << 20
_DEFLATE: Final = 15
_ZSTD_WINDOW_BYTES: Final = 1 << 23
"""What RFC 9659 allows in HTTP."""
_NONE: Final = frozenset({"", "identity"})
_READABLE: Final = (b"{", b"[", b"<", b"data:", b"event:", b":")
"""How JSON, a page or a stream of events begins."""
_GZIP_MAGIC: Final = b"\x1f\x8b"
_MAGIC: Final = {_GZIP_MAGIC: "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
"""How the bodies of these encodings begin, and no JSON does."""
_MOST_MEMBERS: Final = 100
"""Members of gzip that are read: what is behind each is copied."""
_JSON_SPACE: Final = b" \t\r\n"
_LONGEST_NAME: Final = 40


class TooLargeError(CallError):
    """An answer is larger than `limits.max_answer_bytes`."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the answer has more than {limit:,} bytes. Raise limits.max_answer_bytes if such answers are expected; "
            "lower max_tokens or top_logprobs if not",
            error_type="too_large",
            status=200,
            maybe_billed=True,
        )


class BodyReader:
    """Reads bodies of at most `max_answer_bytes`, both as received and as inflated.

    Of an answer with an error status, the first megabyte is read: enough for its message.

    Args:
        max_answer_bytes: the limit of a successful answer.
    """

    def __init__(self, max_answer_bytes: int) -> None:
        self._max_answer_bytes = max_answer_bytes
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def read(self, response: aiohttp.ClientResponse) -> bytes:
        """The inflated body of a response that the client has not inflated.

        Raises:
            TooLargeError: a successful answer is longer than the limit.
        """
        success = response.status in SUCCESS
        limit = self._max_answer_bytes if success else _MAX_REFUSAL_BYTES
        if success and (response.content_length or 0) > limit:
            raise TooLargeError(limit)
        parts: list[bytes] = []
        size = 0
        try:
            async with contextlib.AsyncExitStack() as large_body:
                async for part in response.content.iter_any():
                    if size <= _SMALL_BYTES < size + len(part):
                        await large_body.enter_async_context(self._large)
                    size += len(part)
                    parts.append(part)
                    if size > limit:
                        break
                parts[:] = [b"".join(parts)]
                if success and size > limit:
                    raise TooLargeError(limit)
                most = min(_SMALL_BYTES, limit) + 1
                for encoding in _encodings(response, parts[0], success=success):
                    decoder = _DECODERS[encoding]
                    decoded = decoder.begin(parts[0], most)
                    if success and len(decoded) == most:
                        # Let go of, for the other large bodies are waited for: hundreds of calls may be here at once.
                        del decoded
                        if size <= _SMALL_BYTES:
                            await large_body.enter_async_context(self._large)
                            size = most
                        # In a thread: zlib inflates half a gigabyte a second, and would block the event loop.
                        decoded = await asyncio.to_thread(decoder.decode, parts[0], limit)
                    parts[0] = decoded
                return parts[0]
        finally:
            parts.clear()  # an error keeps this frame and its bytes alive until the next garbage collection


def _encodings(response: aiohttp.ClientResponse, body: bytes, *, success: bool) -> list[str]:
    """The encodings of a body, the last one first.

    Raises:
        CallError: a successful answer has one that was not asked for and cannot be read. It is bought and of no use,
            and so would every further one be.
    """
    header = response.headers.get("content-encoding")
    if header is None and body.startswith(_READABLE):
        return []
    listed = (header or "").lower().split(",")
    encodings = [encoding for name in reversed(listed) if (encoding := name.strip()) not in _NONE]
    unknown = [encoding for encoding in encodings if encoding not in _DECODERS]
    if encodings and not unknown:
        return encodings
    by_magic = [name for magic, name in _MAGIC.items() if body.startswith(magic)]
    if by_magic and (not encodings or encodings[0] in unknown):
        return by_magic  # some gateways compress and forget to say so
    if unknown and success and not body.lstrip(_JSON_SPACE).startswith(_READABLE):
        raise CallError(
            f"the answer is encoded as {unknown[0][:_LONGEST_NAME]!r}, which was not asked for ({ACCEPT_ENCODING} was) "
            "and cannot be read. Look at what stands between here and the model",
            error_type="unknown_encoding",
            status=response.status,
            maybe_billed=True,
        )
    return []


class _Decoder(NamedTuple):
    """How a content encoding is undone.

    `begin` takes a body and a number of bytes, and returns at most so many decoded ones. `decode` takes a body and a
    limit, and returns the decoded body, in memory only once: its bytes are counted before any is kept, so that a bomb
    takes no memory, and more than the limit raise TooLargeError. Of a body that breaks off, some bytes are returned:
    they are no JSON, and are refused later. A body that is not encoded is returned as it is, whatever its header says:
    it was paid for, and may be an answer.
    """

    begin: Callable[[bytes, int], bytes]
    decode: Callable[[bytes, int], bytes]


def _begin_inflating(body: bytes, most: int, *, window: int) -> bytes:
    for bits in _bits_to_try(window):
        stream = zlib.decompressobj(bits)
        with contextlib.suppress(zlib.error):
            found = stream.decompress(body, most)
            return found if len(found) == most or not stream.unused_data else _begin_members(body, most, bits)
    return body


def _begin_members(body: bytes, most: int, bits: int) -> bytes:
    """The same of gzip in several members, which belong together."""
    parts: list[bytes] = []
    size = 0
    for part in _inflated_parts(body, bits):
        parts.append(part[: most - size])
        size += len(parts[-1])
        if size == most:
            break
    return b"".join(parts)


def _inflated_parts(body: bytes, bits: int) -> Iterator[bytes]:
    """What a body inflates to, part by part, and what the members behind the first one do; up to what is damaged."""
    rest = body
    for _ in range(_MOST_MEMBERS):
        stream = zlib.decompressobj(bits)
        with contextlib.suppress(zlib.error):
            while part := stream.decompress(rest, _SMALL_BYTES):
                yield part
                rest = stream.unconsumed_tail
        rest = stream.unused_data
        if not rest.startswith(_GZIP_MAGIC):
            return


def _inflate(body: bytes, limit: int, *, window: int) -> bytes:
    bits = _bits_of(body, window)
    if bits is None:
        return body
    size = 0
    for part in map(len, _inflated_parts(body, bits)):
        size += part
        if size > limit:
            raise TooLargeError(limit)
    # Into a buffer of that size: zlib would else put the bytes together from blocks, and have them twice.
    try:
        found = zlib.decompress(body, bits, max(size, 1))
    except zlib.error:  # it breaks off
        return _begin_inflating(body, _SMALL_BYTES, window=window)
    return found if len(found) == size else _begin_members(body, size, bits)


def _bits_of(body: bytes, window: int) -> int | None:
    """The `wbits` with which zlib inflates a body; None if it does not."""
    for bits in _bits_to_try(window):
        with contextlib.suppress(zlib.error):
            zlib.decompressobj(bits).decompress(body, 1)
            return bits
    return None


def _bits_to_try(window: int) -> tuple[int, ...]:
    return (window, -_DEFLATE) if window == _DEFLATE else (window,)  # some servers omit zlib's header


def _begin_unzstd(body: bytes, most: int) -> bytes:
    with contextlib.suppress(zstandard.ZstdError):
        return _zstd_reader(body).read(most) or body
    return body


def _unzstd(body: bytes, limit: int) -> bytes:
    reader, size = _zstd_reader(body), 0
    with contextlib.suppress(zstandard.ZstdError):
        while piece := len(reader.read(_SMALL_BYTES)):
            size += piece
            if size > limit:
                raise TooLargeError(limit)
    return _begin_unzstd(body, size)


def _zstd_reader(body: bytes) -> zstandard.ZstdDecompressionReader:
    return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).stream_reader(body, read_across_frames=True)


def _zlib_decoder(window: int) -> _Decoder:
    return _Decoder(functools.partial(_begin_inflating, window=window), functools.partial(_inflate, window=window))


_DECODERS: Final[dict[str, _Decoder]] = {
    "gzip": _zlib_decoder(31),
    "x-gzip": _zlib_decoder(31),
    "deflate": _zlib_decoder(_DEFLATE),
    "zstd": _Decoder(_begin_unzstd, _unzstd),
}
"""By content encoding. Zstd is not asked for, but some gateways send it."""
