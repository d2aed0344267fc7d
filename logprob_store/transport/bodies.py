"""The bodies of answers, read within bounds: no server can fill this machine's memory.

Holds an HTTP client that counts bytes while they come, and again while they are inflated, and stops at a limit. Leaves
out what a body says (`live`, `refusals`).

The SDK and httpx2 read whatever comes, and hold it whole, before anybody can look; a gzip bomb is a thousand times its
size by then. Here a body is never longer than the limit, and only two at a time may grow beyond 4 MiB: with many calls
under way that is what bounds their sum.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from typing import TYPE_CHECKING, Any, Final

import httpx2
import openai

from logprob_store.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ANSWER_BYTES: Final = 1 << 28
"""By default: 100,000 tokens with 20 alternatives each are some 160 MB of JSON."""

ACCEPT_ENCODING: Final = "gzip, deflate"
"""What is asked for, as it is what can be bounded here; httpx2 would ask for whatever is installed."""

_SMALL: Final = 4 << 20
_LARGE_AT_ONCE: Final = 2
_MOST_OF_A_REFUSAL: Final = 1 << 20
_SUCCESS: Final = range(200, 300)
_DEFLATE: Final = 15
_WINDOWS: Final = {"gzip": 31, "x-gzip": 31, "deflate": _DEFLATE}
_OF_THE_WIRE: Final = (b"content-encoding", b"content-length", b"transfer-encoding")


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


class BoundedClient(openai.DefaultAioHttpClient):
    """The SDK's client over aiohttp, whose answers have bodies of at most so many bytes.

    Of an answer that is no success only the first megabyte is read: enough for what it says.

    Args:
        max_answer_bytes: both as received and inflated.
        settings: those of `openai.DefaultAioHttpClient`.
    """

    def __init__(self, *, max_answer_bytes: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._max_answer_bytes = max_answer_bytes
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def send(self, request: httpx2.Request, *, stream: bool = False, **how: Any) -> httpx2.Response:  # noqa: ARG002
        """Send a request and read its answer.

        Raises:
            TooLargeError: a success that is longer than the limit.
        """
        response = await super().send(request, stream=True, **how)
        body = await self._read(response)
        # A plain copy: what was received is not what `content-encoding` and `content-length` say any more.
        kept = [(name, value) for name, value in response.headers.raw if name.lower() not in _OF_THE_WIRE]
        return httpx2.Response(
            response.status_code, headers=kept, content=body, request=request, extensions=response.extensions
        )

    async def _read(self, response: httpx2.Response) -> bytes:
        success = response.status_code in _SUCCESS
        limit = self._max_answer_bytes if success else _MOST_OF_A_REFUSAL
        declared = response.headers.get("content-length", "")
        if success and declared.isdecimal() and int(declared) > limit:
            await response.aclose()
            raise TooLargeError(limit)
        window = _WINDOWS.get(response.headers.get("content-encoding", "").strip().lower())
        parts: list[bytes] = []
        size = 0
        try:
            async with contextlib.AsyncExitStack() as room, contextlib.aclosing(response.aiter_raw()) as raw:
                async for part in raw:
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
