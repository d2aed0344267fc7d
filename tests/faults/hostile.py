"""A server that attacks its clients: bombs, endless bodies, wrong lengths and encodings, harmful content.

    python tests/faults/hostile.py

prints its base URL and serves until it is ended. The attack is the word of `ATTACKS` that the request holds between
`<` and `>`; a request without one gets an honest answer. `OUTCOMES` says how each has to end for a job with
`attempts = 2`: `ok`, or the class of the failure.

Standard library only, like `fault_server`, whose honest answers it takes.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import re
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).parent))

from fault_answers import answer_to

if TYPE_CHECKING:
    from collections.abc import Callable

BOMB_BYTES: Final = 64 << 20
ESCAPES: Final = "\x1b]0;owned\x07\x1b[31mred\x1b[2J\x9b31m\r\n\u202eevil"

OUTCOMES: Final = {
    "gzip_bomb": "too_large",
    "deflate_bomb": "too_large",
    "declared": "too_large",
    "endless": "too_large",
    "endless_chunks": "too_large",
    "endless_refusal": "invalid_request",
    "endless_headers": "malformed_answer",
    "long_header": "malformed_answer",
    "no_http": "malformed_answer",
    "length_too_long": "connection",
    "length_too_short": "malformed_answer",
    "bad_chunks": "malformed_answer",
    "gzip_cut": "malformed_answer",
    "brotli": "unknown_encoding",
    "raw_nul": "ok",
    "deep": "malformed_answer",
    "not_gzip": "ok",
    "charset": "ok",
    "bom": "ok",
    "long_number": "ok",
    "twice": "ok",
    "no_choices": "error_body",
    "error_late": "server_error",
    "error_code": "server_error",
    "many_headers": "ok",
    "header_of_a_gateway": "ok",
    "key_in_the_answer": "ok",
    "key_escaped_in_the_answer": "ok",
    "key_in_headers": "ok",
    "key_in_html": "malformed_answer",
    "key_in_a_refusal": "invalid_request",
    "key_escaped": "invalid_request",
    "key_in_a_location": "invalid_request",
    "key_in_no_http": "malformed_answer",
    "long_token": "ok",
    "escapes": "ok",
    "nulls": "ok",
    "surrogates": "ok",
    "many_tokens": "ok",
}


def head(length: int | None = None, *more: str, status: str = "200 OK") -> bytes:
    """The status line and headers of an answer."""
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", *more]
    lines += [] if length is None else [f"content-length: {length}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def whole(body: bytes, *more: str) -> bytes:
    """An answer with its true length."""
    return head(len(body), *more) + body


def refusal(body: bytes) -> bytes:
    """A 400 with this message."""
    return head(len(body), status="400 Bad Request") + body


@functools.cache
def bomb(window: int) -> bytes:
    """JSON that begins well and then is `BOMB_BYTES` of white space, compressed a thousand times."""
    stream = zlib.compressobj(9, zlib.DEFLATED, window)
    parts = [stream.compress(b'{"choices": [')]
    parts += [stream.compress(b" " * (1 << 20)) for _ in range(BOMB_BYTES >> 20)]
    return b"".join([*parts, stream.compress(b"]}"), stream.flush()])


def with_tokens(answer: bytes, *texts: str, times: int = 1) -> bytes:
    """An answer whose tokens have these texts, and no bytes."""
    said: dict[str, Any] = json.loads(answer)
    tokens = [
        {
            "token": text,
            "logprob": -0.5,
            "bytes": None,
            "top_logprobs": [{"token": text, "logprob": -0.5, "bytes": None}],
        }
        for text in texts
    ]
    said["choices"][0]["logprobs"]["content"] = tokens * times
    said["choices"][0]["message"]["content"] = "".join(texts) * times
    return json.dumps(said).encode()


BODIES: Final[dict[str, Callable[[bytes], bytes]]] = {
    "gzip_bomb": lambda _: whole(bomb(31), "content-encoding: gzip"),
    "deflate_bomb": lambda _: whole(bomb(15), "content-encoding: deflate"),
    "declared": lambda _: head(1 << 40) + b'{"choices": [',
    "long_header": lambda answer: whole(answer, f"x-long: {'x' * (1 << 20)}"),
    "no_choices": lambda _: whole(b'{"status": "queued"}'),
    "error_late": lambda _: whole(b'{"id": "' + b"x" * 100 + b'", "error": {"message": "in the end"}}'),
    "error_code": lambda _: whole(b'{"error": {"code": 1' + b"0" * 30 + b"}}"),
    "many_headers": lambda answer: whole(answer, *(f"x-{n}: {n}" for n in range(500))),
    "header_of_a_gateway": lambda answer: whole(answer, f"content-security-policy: {'x' * 20_000}"),
    "no_http": lambda answer: b"220 smtp.example ESMTP\r\n" + answer,
    "length_too_long": lambda answer: head(len(answer) + 10, "connection: close") + answer,
    "length_too_short": lambda answer: head(len(answer) - 10) + answer,
    "bad_chunks": lambda answer: head(None, "transfer-encoding: chunked") + b"zzz\r\n" + answer,
    "gzip_cut": lambda answer: whole(gzip.compress(answer)[:-40], "content-encoding: gzip"),
    "brotli": lambda answer: whole(b"\x0b" + answer[:20], "content-encoding: br"),
    "bom": lambda answer: whole(b"\xef\xbb\xbf" + answer),
    "raw_nul": lambda answer: whole(answer.replace(b'"fp_fault"', b'"fp\0fault"')),
    "deep": lambda answer: whole(answer[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "not_gzip": lambda answer: whole(answer, "content-encoding: gzip"),
    "charset": lambda answer: whole(answer, "content-type: text/html; charset=klingon"),
    "long_number": lambda answer: whole(answer[:-1] + b',"x":' + b"9" * 1_000_000 + b"}"),
    "twice": lambda answer: whole(answer[:-1] + b',"model":"other"}'),
    "long_token": lambda answer: whole(with_tokens(answer, "x" * 1_000_000)),
    "escapes": lambda answer: whole(with_tokens(answer, ESCAPES)),
    "nulls": lambda answer: whole(with_tokens(answer, "a\0b", "\0")),
    "surrogates": lambda answer: whole(with_tokens(answer, "\ud83d", "\ude00", "x\udfff")),
    "many_tokens": lambda answer: whole(with_tokens(answer, " many", " words", times=50_000)),
}

ECHOES: Final[dict[str, Callable[[bytes, bytes], bytes]]] = {
    "key_in_the_answer": lambda answer, key: whole(answer.replace(b'"content": "', b'"content": "' + key, 1)),
    "key_escaped_in_the_answer": lambda answer, key: whole(
        answer.replace(b'"content": "', b'"content": "' + b"".join(b"\\u%04x" % byte for byte in key), 1)
    ),
    "key_in_headers": lambda answer, key: whole(answer, f"x-request-id: {key.decode()}", f"server: {key.decode()}"),
    "key_in_html": lambda _, key: whole(b"<html>not with " + key),
    "key_in_a_refusal": lambda _, key: refusal(b'{"error":{"message":"not with ' + key + b'"}}'),
    "key_escaped": lambda _, key: refusal(b'{"error":"' + b"".join(b"\\u%04x" % sign for sign in key) + b'"}'),
    "key_in_a_location": lambda _, key: head(0, f"location: http://127.0.0.1/?{key.decode()}", status="307 Elsewhere"),
    "key_in_no_http": lambda _, key: b"HTTP/1.1 " + key + b"\r\n\r\n",
}
"""What says the key of a call back."""

ENDLESS: Final = {
    "endless": (head(None, "connection: close") + b"{", b" " * 65536),
    "endless_chunks": (head(None, "transfer-encoding: chunked") + b"1\r\n{\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"),
    "endless_refusal": (head(None, "connection: close", status="400 Bad Request"), b"no " * 20000),
    "endless_headers": (b"HTTP/1.1 200 OK\r\n", b"x-more: yes\r\n" * 1000),
}

ATTACKS: Final = {*BODIES, *ECHOES, *ENDLESS}


async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Answer one request; returns whether the connection may go on."""
    said = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = re.search(r"content-length: (\d+)", said, re.IGNORECASE)
    body = await reader.readexactly(int(length[1]) if length else 0)
    wanted = re.search(r"<(\w+)>", body.decode())
    attack = wanted[1] if wanted else ""
    if attack in ENDLESS:
        first, again = ENDLESS[attack]
        writer.write(first)
        while True:
            writer.write(again)
            await writer.drain()
    honest = answer_to("/v1/chat/completions", json.loads(body))
    if attack in ECHOES:
        key = re.search(r"authorization: bearer (\S+)", said, re.IGNORECASE)
        writer.write(ECHOES[attack](honest, key[1].encode() if key else b""))
    else:
        writer.write(BODIES.get(attack, whole)(honest))
    await writer.drain()
    return attack not in {"declared", "no_http", "length_too_long", "bad_chunks", "key_in_no_http"}


async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests on one connection."""
    try:
        while await serve_one(reader, writer):
            pass
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main() -> None:
    """Serve until ended."""
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
