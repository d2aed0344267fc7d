"""The server that everything is measured against: a small real program, in a process of its own.

    python benchmarks/server.py

prints its base URL and serves until its standard input is closed, so that it ends with whoever started it. It answers
every POST with the next ready-made chat completion of the size that the model's name asks for (`answers.SIZES`); each
answer has an id of its own. Leaves out everything else a server does: it is not to be what bounds the clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import uvloop
from answers import SIZES, Size, make_bodies

if TYPE_CHECKING:
    from collections.abc import Iterator

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_MODEL: Final = re.compile(rb'"model": ?"([^"]*)"')
_ID: Final = b'{"id":"chatcmpl-000000000000'
_HEADERS: Final = (
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nserver: bench\r\nx-request-id: req_0123456789abcdef\r\n"
    "openai-processing-ms: 12\r\nconnection: keep-alive\r\ncontent-length: {length}\r\n\r\n"
)

Pools = dict[bytes, list[bytes]]


def make_pools(sizes: list[Size]) -> Pools:
    """Answers by model; of each only what stands behind its id."""
    return {size.model.encode(): [body[len(_ID) :] for body in make_bodies(size)] for size in sizes}


class Connection(asyncio.Protocol):
    """One client's connection: requests in, ready-made answers out."""

    numbers = count()

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to answer."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        self._read = read = self._read + data if self._read else data
        while (end := read.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(read, 0, end)
            size = end + 4 + (int(length[1]) if length else 0)
            if len(read) < size:
                return
            self._answer(read[end + 4 : size])
            self._read = read = read[size:]

    def _answer(self, asked: bytes) -> None:
        model = _MODEL.search(asked)
        pool = self._pools[model[1]] if model else next(iter(self._pools.values()))
        number = next(self.numbers)
        rest = pool[number % len(pool)]
        headers = _HEADERS.format(length=len(_ID) + len(rest)).encode()
        self._transport.writelines([headers, b'{"id":"chatcmpl-%012d' % number, rest])


async def serve() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    pools = make_pools(list(SIZES.values()))
    server = await loop.create_server(lambda: Connection(pools), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    async with server:
        await loop.run_in_executor(None, sys.stdin.read)


@contextlib.contextmanager
def running_server() -> Iterator[str]:
    """Start the server in its own process; its base URL, for as long as the context lasts."""
    command = [sys.executable, str(Path(__file__))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101  for the type checker
        assert process.stdin is not None  # noqa: S101
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(timeout=10)


if __name__ == "__main__":
    uvloop.run(serve())
