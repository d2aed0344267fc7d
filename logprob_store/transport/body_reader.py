"""The bodies of answers, read within a limit, so that no server can fill this machine's memory.

An HTTP client reads a whole body before its caller sees any of it; a gzip bomb has grown a thousandfold by then. Here
bytes are counted as they are received, and again as they are inflated, and reading stops at the limit. Only two bodies
at a time may grow beyond 4 MiB, which limits the sum over many calls; the others wait as they came.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from typing import TYPE_CHECKING, Final

from logprob_store.errors import CallError

if TYPE_CHECKING:
    import aiohttp

MAX_ANSWER_BYTES: Final = 1 << 28
"""The default: 100,000 tokens with 20 alternatives each are about 160 MB of JSON."""

ACCEPT_ENCODING: Final = "gzip, deflate"
"""The encodings that can be inflated within a limit here."""

SUCCESS: Final = range(200, 300)
_SMALL_BYTES: Final = 4 << 20
_LARGE_AT_ONCE: Final = 2
_MAX_REFUSAL_BYTES: Final = 1 << 20
_DEFLATE: Final = 15
_WINDOW_BITS: Final = {"gzip": 31, "x-gzip": 31, "deflate": _DEFLATE}
"""Content encoding to zlib's `wbits`."""


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
        window = _WINDOW_BITS.get(response.headers.get("content-encoding", "").strip().lower())
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
                if window is not None:
                    most = min(_SMALL_BYTES, limit) + 1
                    inflated, window = _inflate(parts[0], window, most)
                    if success and len(inflated) == most:
                        # Let go of, for the other large bodies are waited for: hundreds of calls may be here at once.
                        del inflated
                        if size <= _SMALL_BYTES:
                            await large_body.enter_async_context(self._large)
                        # In a thread: zlib inflates half a gigabyte a second, and would block the event loop.
                        inflated = await asyncio.to_thread(_inflate_large, parts[0], window, limit)
                    parts[0] = inflated
                if success and max(size, len(parts[0])) > limit:
                    raise TooLargeError(limit)
                return parts[0]
        finally:
            parts.clear()  # an error keeps this frame and its bytes alive until the next garbage collection


def _inflate(body: bytes, window: int, most: int) -> tuple[bytes, int]:
    """The first `most` inflated bytes of a body, and the `wbits` that it took.

    A body that is not compressed is returned as it is, whatever its header says: it was paid for, and may be an answer.
    """
    try:
        return zlib.decompressobj(window).decompress(body, most), window
    except zlib.error:
        if window != _DEFLATE:
            return body, window
        return _inflate(body, -_DEFLATE, most)  # some servers omit zlib's header


def _inflate_large(body: bytes, window: int, limit: int) -> bytes:
    """The inflated body, in memory only once.

    Its bytes are counted before any is kept, so that a bomb takes no memory. Of a body that breaks off, some are
    returned: they are no JSON, and are refused later.

    Raises:
        TooLargeError: it has more bytes than the limit.
    """
    stream = zlib.decompressobj(window)
    size, rest = 0, body
    with contextlib.suppress(zlib.error):
        while piece := len(stream.decompress(rest, _SMALL_BYTES)):
            size, rest = size + piece, stream.unconsumed_tail
            if size > limit:
                raise TooLargeError(limit)
    # Into a buffer of that size: zlib would else put the bytes together from blocks, and have them twice.
    return zlib.decompress(body, window, size) if stream.eof else _inflate(body, window, _SMALL_BYTES)[0]
