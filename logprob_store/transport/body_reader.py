"""The bodies of answers, read within a limit, so that no server can fill this machine's memory.

An HTTP client reads a whole body before its caller sees any of it; a gzip bomb has grown a thousandfold by then. Here
bytes are counted as they are received, and again as they are inflated, and reading stops at the limit. Only two bodies
at a time may grow beyond 4 MiB, which limits the sum over many calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from typing import TYPE_CHECKING, Final

from logprob_store.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Callable

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
                    small = min(_SMALL_BYTES, limit)
                    parts[0], inflate_rest = _inflate(parts[0], window, small)
                    if inflate_rest is not None:
                        if size <= _SMALL_BYTES:
                            await large_body.enter_async_context(self._large)
                        # In a thread: zlib inflates half a gigabyte a second, and would block the event loop.
                        parts.append(await asyncio.to_thread(inflate_rest, limit + 1 - small))
                        parts[:] = [b"".join(parts)]
                if success and max(size, len(parts[0])) > limit:
                    raise TooLargeError(limit)
                return parts[0]
        finally:
            parts.clear()  # an error keeps this frame and its bytes alive until the next garbage collection


def _inflate(body: bytes, window: int, most: int) -> tuple[bytes, Callable[[int], bytes] | None]:
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
        return _inflate(body, -_DEFLATE, most)  # some servers omit zlib's header
    if stream.eof or len(first) < most:
        return first, None

    def rest(more: int) -> bytes:
        with contextlib.suppress(zlib.error):  # truncated: the first part alone is no JSON, and is refused later
            return stream.decompress(stream.unconsumed_tail, more)
        return b""

    return first, rest
