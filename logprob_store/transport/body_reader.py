"""The bodies of answers, read within a limit, so that no server can fill this machine's memory.

An HTTP client reads a whole body before its caller sees any of it; a gzip bomb has grown a thousandfold by then. Here
bytes are counted as they are received, and again as they are inflated, and reading stops at the limit. Only two bodies
at a time may grow beyond 4 MiB, which limits the sum over many calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import zstandard

from logprob_store.errors import CallError

if TYPE_CHECKING:
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
_JSON_SPACE: Final = b" \t\r\n"
_LONGEST_NAME: Final = 40

_Decoded = tuple[bytes, Callable[[int], bytes] | None]


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
                small = min(_SMALL_BYTES, limit)
                for encoding in _encodings(response, parts[0], success=success):
                    parts[0], decode_rest = _DECODERS[encoding](parts[0], small)
                    if decode_rest is not None:
                        if size <= _SMALL_BYTES:
                            await large_body.enter_async_context(self._large)
                            size = _SMALL_BYTES + 1
                        # In a thread: zlib inflates half a gigabyte a second, and would block the event loop.
                        parts.append(await asyncio.to_thread(decode_rest, limit + 1 - small))
                        parts[:] = [b"".join(parts)]
                    if success and len(parts[0]) > limit:
                        raise TooLargeError(limit)
                return parts[0]
        finally:
            parts.clear()  # an error keeps this frame and its bytes alive until the next garbage collection


def _encodings(response: aiohttp.ClientResponse, body: bytes, *, success: bool) -> list[str]:
    """The encodings of a body, the last one first.

    Raises:
        CallError: a successful answer has one that was not asked for and cannot be read. It is bought and of no use,
            and so would every further one be.
    """
    listed = response.headers.get("content-encoding", "").lower().split(",")
    encodings = [encoding for name in reversed(listed) if (encoding := name.strip()) not in _NONE]
    unknown = [encoding for encoding in encodings if encoding not in _DECODERS]
    if not unknown:
        return encodings
    if success and not body.lstrip(_JSON_SPACE).startswith(_READABLE):
        raise CallError(
            f"the answer is encoded as {unknown[0][:_LONGEST_NAME]!r}, which was not asked for ({ACCEPT_ENCODING} was) "
            "and cannot be read. Look at what stands between here and the model",
            error_type="unknown_encoding",
            status=response.status,
            maybe_billed=True,
        )
    return []


def _inflate(body: bytes, most: int, *, window: int) -> _Decoded:
    """The first `most` inflated bytes of a body, and a function that inflates up to a number of further bytes.

    If the body has no further bytes, there is None in place of the function.

    A body that is not compressed is returned as it is, whatever its header says: it was paid for, and may be an answer.
    """
    stream = zlib.decompressobj(window)
    try:
        first = stream.decompress(body, most)
    except zlib.error:
        if window != _DEFLATE:
            return body, None
        return _inflate(body, most, window=-_DEFLATE)  # some servers omit zlib's header
    if stream.eof or len(first) < most:
        return first, None

    def rest(more: int) -> bytes:
        with contextlib.suppress(zlib.error):  # truncated: the first part alone is no JSON, and is refused later
            return stream.decompress(stream.unconsumed_tail, more)
        return b""

    return first, rest


def _unzstd(body: bytes, most: int) -> _Decoded:
    """As `_inflate`, of a body that is compressed with zstd."""
    stream = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).stream_reader(body)

    def read(more: int) -> bytes:
        with contextlib.suppress(zstandard.ZstdError):
            return stream.read(more)
        return b""

    first = read(most)
    return (first or body), (read if len(first) == most else None)


_DECODERS: Final[dict[str, Callable[[bytes, int], _Decoded]]] = {
    "gzip": functools.partial(_inflate, window=31),
    "x-gzip": functools.partial(_inflate, window=31),
    "deflate": functools.partial(_inflate, window=_DEFLATE),
    "zstd": _unzstd,
}
"""By content encoding. Zstd is not asked for, but some gateways send it."""
