"""The bodies of answers, read within bounds: no server can fill this machine's memory.

Holds a reader that counts bytes while they come, and again while they are inflated, and stops at a limit. Leaves out
what a body says (`live`, `refusals`).

HTTP clients read whatever comes, and hold it whole, before anybody can look; a gzip bomb is a thousand times its
size by then. Here a body is never longer than the limit, and only two at a time may grow beyond 4 MiB: with many calls
under way that is what bounds their sum.
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
"""By default: 100,000 tokens with 20 alternatives each are some 160 MB of JSON."""

ACCEPT_ENCODING: Final = "gzip, deflate"
"""What is asked for, as it is what can be bounded here; a client would ask for whatever is installed."""

_SMALL: Final = 4 << 20
_LARGE_AT_ONCE: Final = 2
_MOST_OF_A_REFUSAL: Final = 1 << 20
SUCCESS: Final = range(200, 300)
_DEFLATE: Final = 15
_WINDOWS: Final = {"gzip": 31, "x-gzip": 31, "deflate": _DEFLATE}


class TooLargeError(CallError):
    """An answer above `limits.max_answer_bytes`."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the answer has more than {limit:,} bytes. Raise limits.max_answer_bytes if such answers are expected; "
            "lower max_tokens or top_logprobs if not",
            error_type="too_large",
            status=200,
            maybe_billed=True,
        )


class BodyReader:
    """Reads bodies of at most so many bytes, both as received and inflated.

    Of an answer that is no success only the first megabyte is read: enough for what it says.

    Args:
        max_answer_bytes: the limit.
    """

    def __init__(self, max_answer_bytes: int) -> None:
        self._max_answer_bytes = max_answer_bytes
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def read(self, response: aiohttp.ClientResponse) -> bytes:
        """The body of a response that was asked for without inflating it.

        Raises:
            TooLargeError: a success that is longer than the limit.
        """
        success = response.status in SUCCESS
        limit = self._max_answer_bytes if success else _MOST_OF_A_REFUSAL
        if success and (response.content_length or 0) > limit:
            raise TooLargeError(limit)
        window = _WINDOWS.get(response.headers.get("content-encoding", "").strip().lower())
        parts: list[bytes] = []
        size = 0
        try:
            async with contextlib.AsyncExitStack() as room:
                async for part in response.content.iter_any():
                    if size <= _SMALL < size + len(part):
                        await room.enter_async_context(self._large)
                    size += len(part)
                    parts.append(part)
                    if size > limit:
                        break
                parts[:] = [b"".join(parts)]
                if window is not None:
                    small = min(_SMALL, limit)
                    parts[0], inflate_rest = _inflate(parts[0], window, small)
                    if inflate_rest is not None:
                        if size <= _SMALL:
                            await room.enter_async_context(self._large)
                        # Off the event loop: zlib makes half a gigabyte a second out of next to nothing.
                        parts.append(await asyncio.to_thread(inflate_rest, limit + 1 - small))
                        parts[:] = [b"".join(parts)]
                if success and max(size, len(parts[0])) > limit:
                    raise TooLargeError(limit)
                return parts[0]
        finally:
            parts.clear()  # an error keeps this frame alive until the next garbage collection, and what is in it


def _inflate(body: bytes, window: int, most: int) -> tuple[bytes, Callable[[int], bytes] | None]:
    """The first `most` bytes of a body as it was before it was compressed, and what inflates the rest if there is any.

    A body that is not compressed stays as it is, whatever its header says: it was paid for, and may be an answer.
    """
    stream = zlib.decompressobj(window)
    try:
        first = stream.decompress(body, most)
    except zlib.error:
        if window != _DEFLATE:
            return body, None
        return _inflate(body, -_DEFLATE, most)  # some servers leave zlib's header out
    if stream.eof or len(first) < most:
        return first, None

    def rest(more: int) -> bytes:
        with contextlib.suppress(zlib.error):  # broken off: what is there will not be JSON
            return stream.decompress(stream.unconsumed_tail, more)
        return b""

    return first, rest
