"""Bodies of answers: what is inflated, and how much memory that takes."""

from __future__ import annotations

import asyncio
import gzip
import os
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from logprob_store.transport.body_reader import BodyReader, TooLargeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MIB = 1 << 20
LARGE = os.urandom(500) * (10 * MIB // 500)


class Response:
    """What of a response is read: its status, headers and content, in pieces of 64 KiB."""

    def __init__(self, body: bytes, encoding: str, *, status: int = 200) -> None:
        self.status = status
        self.headers = {"content-encoding": encoding}
        self.content_length = len(body)
        self.content = self
        self._body = body

    async def iter_any(self) -> AsyncIterator[bytes]:
        """The pieces, as they come."""
        for start in range(0, len(self._body), 1 << 16):
            await asyncio.sleep(0)
            yield self._body[start : start + (1 << 16)]


def read(*bodies: Any, limit: int = 1 << 28) -> list[Any]:
    """What comes of these responses, all read at once: bodies, or errors."""

    async def all_of_them() -> list[Any]:
        reader = BodyReader(limit)
        return await asyncio.gather(*(reader.read(body) for body in bodies), return_exceptions=True)

    return asyncio.run(all_of_them())


def deflated(body: bytes) -> bytes:
    """A body as servers send it that leave out zlib's header."""
    return zlib.compress(body)[2:-4]


@pytest.mark.parametrize("body", [b'{"choices": []}', LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress),
        ("gzip", lambda body: gzip.compress(body[:5]) + gzip.compress(body[5:])),
        ("deflate", zlib.compress),
        ("deflate", deflated),
        ("identity", bytes),
    ],
    ids=["gzip", "members", "zlib", "deflate", "as it is"],
)
def test_a_body_comes_back_whole(body: bytes, encoding: str, packed: Any) -> None:
    """In each encoding that is asked for, small or large."""
    assert read(Response(packed(body), encoding)) == [body]


@pytest.mark.parametrize("body", [b"{}", LARGE], ids=["small", "large"])
def test_bytes_behind_the_end_are_left_out(body: bytes) -> None:
    """Some servers pad what they compress."""
    assert read(Response(gzip.compress(body) + b"\0" * 20, "gzip")) == [body]


def test_a_body_that_is_not_compressed() -> None:
    """A wrong header costs nothing: the body may be an answer."""
    assert read(Response(b'{"choices": []}', "gzip")) == [b'{"choices": []}']


@pytest.mark.parametrize("at", [-200, -6], ids=["within", "its checksum"])
def test_a_body_that_was_damaged_is_refused_later(at: int) -> None:
    """It comes back as it came, which is no JSON: it costs its own call another try, and never the run."""
    packed = bytearray(gzip.compress(LARGE[:1000]))
    packed[at] ^= 0x55

    assert read(Response(bytes(packed), "gzip")) == [bytes(packed)]


def test_of_a_large_body_that_breaks_off_the_beginning_is_left() -> None:
    """It is refused later, as no JSON."""
    (beginning,) = read(Response(gzip.compress(LARGE)[:-30], "gzip"))

    assert LARGE.startswith(beginning)
    assert len(beginning) == 4 * MIB


@pytest.mark.parametrize("more", [0, 1])
def test_the_limit_is_that_of_the_inflated_body(more: int) -> None:
    """A body of as many bytes as the limit is read, and one with one more is not."""
    (outcome,) = read(Response(gzip.compress(LARGE), "gzip"), limit=len(LARGE) - more)

    assert isinstance(outcome, TooLargeError) if more else outcome == LARGE


def test_of_a_refusal_its_beginning_is_read() -> None:
    """A bomb with an error status is as harmless."""
    (beginning,) = read(Response(gzip.compress(LARGE), "gzip", status=400))

    assert LARGE.startswith(beginning)
    assert len(beginning) == MIB + 1


async def most_bytes(reader: BodyReader, *bodies: Any) -> int:
    """The most memory that reading these responses, all at once, takes."""
    tracemalloc.start()
    try:
        await asyncio.gather(*(reader.read(body) for body in bodies), return_exceptions=True)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_many_bombs_at_once_take_no_memory() -> None:
    """100 answers of 16 MiB that came in 16 KiB each: while they wait, they are as small as they came."""
    bomb = gzip.compress(b" " * (16 * MIB))

    most = asyncio.run(most_bytes(BodyReader(12 * MIB), *(Response(bomb, "gzip") for _ in range(100))))

    # Two at a time have a piece of 4 MiB, and so has one whose beginning is looked at; zlib has each piece twice.
    assert most < 30 * MIB


def test_a_large_answer_is_in_memory_once() -> None:
    """Beside the body as it came; while it is counted, a piece of 4 MiB is kept."""
    most = asyncio.run(most_bytes(BodyReader(1 << 28), Response(gzip.compress(LARGE * 5), "gzip")))

    assert most < 5 * 1.1 * len(LARGE)
