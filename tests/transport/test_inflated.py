"""Files that come compressed, in the ways that services have been seen to."""

from __future__ import annotations

import contextlib
import gzip
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from logprob_store.transport.inflated import Inflater, NotGivenError

TEXT = b'{"custom_id": "1-a", "response": {"status_code": 200}}\n' * 40


def bare_deflate(content: bytes) -> bytes:
    """As servers send it that take `deflate` for the algorithm alone."""
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(content) + stream.flush()


SPELLINGS = {
    "gzip": ("gzip", gzip.compress(TEXT)),
    "gzip in two members": ("gzip", gzip.compress(TEXT[:700]) + gzip.compress(TEXT[700:])),
    "gzip with padding": ("gzip", gzip.compress(TEXT) + bytes(512)),
    "x-gzip": ("x-gzip", gzip.compress(TEXT)),
    "gzip in capitals": ("GZIP", gzip.compress(TEXT)),
    "gzip without a header": ("", gzip.compress(TEXT)),
    "a file that is gzip itself, sent as gzip": ("gzip", gzip.compress(gzip.compress(TEXT))),
    "no gzip, whatever the header says": ("gzip", TEXT),
    "deflate": ("deflate", zlib.compress(TEXT)),
    "deflate without zlib's header": ("deflate", bare_deflate(TEXT)),
    "zstd": ("zstd", zstandard.compress(TEXT)),
    "an encoding that is not there": ("br", TEXT),
    "identity": ("identity", TEXT),
    "nothing": ("gzip", b""),
}


def inflate(encoding: str, content: bytes, at_once: int) -> bytes:
    """A file that comes so many bytes at once."""
    inflater = Inflater(encoding)
    blocks = [content[start : start + at_once] for start in range(0, len(content), at_once)]
    return b"".join([piece for block in blocks for piece in inflater.feed(block)] + list(inflater.finish()))


@pytest.mark.parametrize("at_once", [1, 100, 1 << 20])
@pytest.mark.parametrize(("encoding", "content"), SPELLINGS.values(), ids=SPELLINGS)
def test_a_file_is_inflated_however_it_comes(encoding: str, content: bytes, at_once: int) -> None:
    """Its first bytes say what it is, and it may come in blocks of any size."""
    assert inflate(encoding, content, at_once) == (TEXT if content else b"")


DAMAGE = {
    "cut gzip": ("gzip", gzip.compress(TEXT)[:-9], "broke off"),
    "cut second member": ("gzip", gzip.compress(TEXT) + gzip.compress(TEXT)[:-9], "broke off"),
    "damaged gzip": ("gzip", gzip.compress(TEXT)[:12] + b"#" * 40, "damaged"),
    "cut zstd": ("zstd", zstandard.compress(TEXT)[:-9], "broke off"),
    "damaged zstd": ("zstd", zstandard.compress(TEXT)[:4] + b"\xff" * 40, "damaged"),
    "an encoding that nobody asked for": ("br", b"\x8b\x02\x80abc", "'br', which cannot be read"),
}


@pytest.mark.parametrize(("encoding", "content", "said"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_an_error_of_ours(encoding: str, content: bytes, said: str) -> None:
    """It says what is wrong with the file."""
    with pytest.raises(NotGivenError, match=said):
        inflate(encoding, content, 16)


@given(st.sampled_from(["", "gzip", "deflate", "zstd", "br"]), st.binary(max_size=200))
def test_whatever_comes_nothing_else_is_raised(encoding: str, content: bytes) -> None:
    """A hostile service gives bytes, or an error of ours."""
    with contextlib.suppress(NotGivenError):
        inflate(encoding, content, 7)
