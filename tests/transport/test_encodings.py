"""The bodies of answers: encodings that were asked for and others, and limits on what they grow to."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from logprob_store.errors import CallError, RetryableError
from logprob_store.transport.body_reader import BodyReader, TooLargeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ANSWER = b'{"choices": []}' + b" " * 1000


def read(body: bytes, encoding: str, *, status: int = 200, most: int = 1 << 20) -> bytes:
    """The body of a response with this content encoding, as it is read."""

    async def parts() -> AsyncIterator[bytes]:
        for first in range(0, len(body), 500):
            yield body[first : first + 500]

    headers = {"content-encoding": encoding}
    content = SimpleNamespace(iter_any=parts)
    response: Any = SimpleNamespace(status=status, headers=headers, content=content, content_length=len(body))

    async def main() -> bytes:
        return await BodyReader(most).read(response)

    return asyncio.run(main())


def _raw_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(body) + stream.flush()


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("", bytes),
        ("identity", bytes),
        ("gzip", gzip.compress),
        ("X-GZIP", gzip.compress),
        ("gzip", lambda body: b"".join(gzip.compress(body[at : at + 50]) for at in range(0, len(body), 50))),
        ("gzip", lambda body: gzip.compress(body[:5]) + gzip.compress(b"") + gzip.compress(body[5:])),
        ("gzip", lambda body: gzip.compress(body) + b"\0" * 8),
        ("deflate", zlib.compress),
        ("deflate", _raw_deflate),
        ("zstd", zstandard.compress),
        ("zstd", lambda body: zstandard.compress(body[:9]) + zstandard.compress(body[9:])),
        ("", zstandard.compress),
        ("identity", gzip.compress),
        ("br", gzip.compress),
        ("gzip, gzip", lambda body: gzip.compress(gzip.compress(body))),
        ("deflate, gzip", lambda body: gzip.compress(zlib.compress(body))),
        ("gzip, identity", gzip.compress),
        ("br", bytes),
        ("gzip", bytes),
        ("zstd", bytes),
    ],
)
def test_an_answer_is_decoded(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    """Also where it has several encodings, one that was not asked for, or another than the header says."""
    assert read(encode(ANSWER), encoding) == ANSWER


@pytest.mark.parametrize("encoding", ["br", "gzip, br", "compress", "x" * 10_000])
def test_an_encoding_that_cannot_be_read_is_refused_at_once(encoding: str) -> None:
    """It is no error that is tried again: the answer is bought, and the next would be no better."""
    with pytest.raises(CallError, match="which was not asked for") as caught:
        read(b"\x0b\x02\x80xx\x03", encoding)

    assert not isinstance(caught.value, RetryableError)
    assert (caught.value.error_type, caught.value.maybe_billed) == ("unknown_encoding", True)
    assert len(str(caught.value)) < 300


def test_an_encoding_below_another_is_refused() -> None:
    """What gzip unpacks to is still encoded as the header says."""
    with pytest.raises(CallError, match="'br', which was not asked for"):
        read(gzip.compress(b"\x0b\x02\x80xx\x03"), "br, gzip")


def test_what_begins_with_a_control_character_is_no_json() -> None:
    """Brotli may begin with a vertical tab, which is white space to Python alone."""
    with pytest.raises(CallError, match="which was not asked for"):
        read(b'\x0b{"id": "chatcmpl', "br")


def test_a_refusal_in_an_encoding_that_cannot_be_read_is_a_refusal() -> None:
    """Its status says what it is."""
    assert read(b"\x0b\x02\x80xx\x03", "br", status=429) == b"\x0b\x02\x80xx\x03"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "zstd, gzip"])
def test_what_grows_beyond_the_limit_is_too_large(encoding: str) -> None:
    """A bomb of a thousand times its size is not inflated whole."""
    bomb = bytes(8 << 20)
    for name in encoding.split(", "):
        bomb = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstandard.compress}[name](bomb)

    with pytest.raises(TooLargeError):
        read(bomb, encoding)


def test_large_answers_are_decoded_whole() -> None:
    """Beyond the 4 MiB that are inflated at first."""
    body = b"{" + bytes(6 << 20)

    for encoding, encode in (("gzip", gzip.compress), ("zstd", zstandard.compress)):
        assert read(encode(body), encoding, most=16 << 20) == body
