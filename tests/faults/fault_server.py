"""A real HTTP server on loopback: an OpenAI-compatible API that answers well, or misbehaves by script.

    python tests/faults/fault_server.py --script '429:retry-after-ms=20, reset, ok*3, hang' --ledger calls.jsonl

prints its base URL on one line and serves until it is ended. Answers follow from the request's body alone, so the
same question gets the same bytes from any server. The ledger has one line a call: what was asked, what was done, and
whether a real service would have billed it.

A script is a comma-separated list of steps, taken one a call in the order of arrival; then all is calm. A step is a
word of `STEPS` or an HTTP status, then options after `:` (`;` between them), then `*N` to repeat it:

    ok   hang   drip:seconds=0.5   reset   reset_body   short   truncated   malformed   html   empty   null   envelope
    error200   quota   content_filter   no_logprobs   redirect:to=/v1/elsewhere   429:retry-after=2   503*3
    no_echo (as if nobody had asked for the prompt's logprobs)   zeros (all of them 0.0)
    utf16   latin1 (a byte in the text that is no UTF-8)
    unasked (the answer, and once more 20 ms later)   parting (the answer, and 20 ms later a 408 to nothing)

Options are headers of the answer, but for `seconds`, `to` and these: `retry-after-date=2` is the date two seconds from
now, `clock-off=3600` sends a `Date` of a clock that is an hour ahead (and says `retry-after-date` by that clock), and
`billed=yes` notes a call as billed though the step is not one that computes an answer (`reset:billed=yes`).
`--when 'TEXT=STEPS'` is a script of its own for requests that hold TEXT. `--rate 0.3 --faults '429,500,reset'` lets
three in ten calls go wrong, by seed, whatever their order; `--burst 60:5:0.3` lets three in ten go wrong for 5 s in
each 60 s, from the first call on.

`--requests-per-minute 600` and `--tokens-per-minute 90000` are limits that the server enforces over any minute, and
says truthfully in the headers of every answer, as OpenAI does; `--per-second` enforces a sixtieth of the requests over
any second too, and `--silent` says nothing. What is above a limit gets 429 and stands in the ledger as `limited`.

A model that is called as one of OpenAI's is refused what that one refuses (`family_refusals.py`).

Standard library only, so that it starts in no time under any Python.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

from family_refusals import family_refusal
from fault_answers import answer_to, responses_answer_to
from fault_script import ERRORS, SPOILT, Behaviour, Burst, Call, Limits, Step


class Server:
    """Serves a `Behaviour`; `serve` runs until cancelled."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0) -> str:
        """Listen; returns the base URL."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port, limit=1 << 26, backlog=1024)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def stop(self) -> None:
        """Close all connections."""
        assert self._server is not None
        await asyncio.sleep(0.02)  # asyncio loses a connection that it accepts while its server closes
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)  # a transport closes in the loop's next turn; the loop ends after this

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._one_call(reader, writer):
                    pass
        finally:
            self._connections.discard(task)
            if task.cancelling():
                writer.transport.abort()
            writer.close()

    async def _one_call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read a request and answer it; returns whether the connection stays open."""
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if method == "GET" and path.endswith("/models"):  # no call: it is free, and in no ledger
            return await self._list_models(writer)
        call, step = self.behaviour.begin(path, headers, body)
        did = "gone"
        try:
            await asyncio.sleep(self.behaviour.delay_ms / 1000)
            if step.name == "hang":
                await reader.read(1)  # nothing more, until the client gives up
                return False
            did = await self._answer(method, path, body, step, writer)
        finally:
            self.behaviour.end(call, did)
        return did != "hung up"

    async def _list_models(self, writer: asyncio.StreamWriter) -> bool:
        names = self.behaviour.models
        shutdowns = self.behaviour.shutdowns
        data = [{"id": name, "object": "model", "shutdown_date": shutdowns.get(name)} for name in names or ()]
        listed = {"object": "list", "data": data}
        await _send(writer, 404 if names is None else 200, json.dumps(listed).encode())
        return True

    async def _answer(self, method: str, path: str, body: bytes, step: Step, writer: asyncio.StreamWriter) -> str:
        if step.name == "reset":
            return _reset(writer)
        if step.name == "redirect":
            return await _send(writer, 307, b"", {**step.headers, "location": step.options["to"]})
        if step.name in ERRORS or step.name.isdecimal():
            status, code, kind, message = ERRORS.get(step.name) or (int(step.name), None, "server_error", "unwell")
            said = {"error": {"message": message, "type": kind, "code": code, "param": None}}
            return await _send(writer, status, json.dumps(said).encode(), step.headers)
        path = path.partition("?")[0]
        if method != "POST" or not path.endswith(("/completions", "/responses")):
            return await _send(writer, 404, b'{"error":{"message":"no such path","code":"not_found"}}')
        try:
            asked = json.loads(body)
            refusal = family_refusal(path, asked)
            answer = responses_answer_to if path.endswith("/responses") else answer_to
            content = b"" if refusal else answer(path, asked, step=step.name)
        except ValueError as error:
            refusal = {"message": f"not JSON: {error}", "type": "invalid_request_error"}
        if refusal is not None:
            return await _send(writer, 400, json.dumps({"error": refusal}).encode())
        return await self._misbehave(content, step, writer)

    async def _misbehave(self, content: bytes, step: Step, writer: asyncio.StreamWriter) -> str:
        half = len(content) // 2
        if step.name in {"reset_body", "short"}:
            writer.write(_head(200, len(content), {}) + content[:half])
            await writer.drain()
            await asyncio.sleep(0.05)  # the client sees the half first
            return _reset(writer) if step.name == "reset_body" else _hang_up(writer)
        if step.name == "drip":
            writer.write(_head(200, len(content), {}))
            pieces = [content[at : at + half // 20 + 1] for at in range(0, len(content), half // 20 + 1)]
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(step.seconds / len(pieces))
            return "answered"
        answered = await _send(writer, 200, _spoilt(step.name, content), step.headers)
        if step.name in {"unasked", "parting"}:
            await asyncio.sleep(0.02)
            await (_send(writer, 200, content) if step.name == "unasked" else _send(writer, 408, b""))
        return answered


def _spoilt(name: str, content: bytes) -> bytes:
    """The bytes sent in place of an answer, or the answer itself where the step changes nothing."""
    if name == "truncated":
        return content[: len(content) // 2]
    if name == "utf16":
        return content.decode().encode("utf-16")
    if name == "latin1":
        return re.sub(rb'"(content|text)": "', rb'"\1": "' + b"\xe9", content, count=1)
    return SPOILT.get(name, content)


async def _send(
    writer: asyncio.StreamWriter, status: int, content: bytes, headers: dict[str, str] | None = None
) -> str:
    writer.write(_head(status, len(content), headers or {}) + content)
    await writer.drain()
    return "answered"


def _head(status: int, length: int, headers: dict[str, str]) -> bytes:
    kind = {"content-type": "application/json", "content-length": str(length), "x-request-id": "req_fault"}
    lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in (kind | headers).items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _reset(writer: asyncio.StreamWriter) -> str:
    # Lingering for no time makes the kernel send RST instead of FIN.
    kernel_socket = writer.get_extra_info("socket")
    kernel_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return _hang_up(writer)


def _hang_up(writer: asyncio.StreamWriter) -> str:
    writer.transport.abort()
    return "hung up"


class ServerThread:
    """The server in a thread of its own, for tests; a context manager."""

    def __init__(self, behaviour: Behaviour | None = None, *, port: int = 0) -> None:
        self.behaviour = behaviour or Behaviour()
        self.url = ""
        self._port = port
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fault-server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def calls(self) -> list[Call]:
        """The ledger, after a moment in which calls that were just answered are written down."""
        until = time.monotonic() + 0.5
        while self.behaviour.in_flight and time.monotonic() < until:
            time.sleep(0.002)
        return self.behaviour.calls

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The bodies of the requests, call by call."""
        return [json.loads(call.body) for call in self.calls]

    def script(self, text: str) -> None:
        """Add steps for the next calls."""
        self.behaviour.script(text)

    def when(self, text: str, steps: str) -> None:
        """Add steps for the next calls whose body holds `text`."""
        self.behaviour.when(text, steps)

    def stop(self) -> None:
        """End the server; calling it again does nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(10)

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        server = Server(self.behaviour)
        self.url = await server.start(self._port)
        self._ready.set()
        await self._stopping.wait()
        await server.stop()
        self.behaviour.close()


async def _main(arguments: argparse.Namespace) -> None:
    when = dict(pair.split("=", 1) for pair in arguments.when)
    behaviour = Behaviour(
        arguments.script,
        when=when,
        rate=arguments.rate,
        faults=arguments.faults,
        seed=arguments.seed,
        delay_ms=arguments.delay_ms,
        ledger=arguments.ledger,
        limits=Limits(
            arguments.requests_per_minute,
            arguments.tokens_per_minute,
            per_second=arguments.per_second,
            silent=arguments.silent,
        ),
        burst=arguments.burst,
        keep=False,
        brief=arguments.brief,
    )
    server = Server(behaviour)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    sys.stdout.write(await server.start(arguments.port) + "\n")
    sys.stdout.flush()
    await stopping.wait()
    await server.stop()
    behaviour.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--script", default="", help="steps for the first calls, in order of arrival")
    parser.add_argument("--when", action="append", default=[], metavar="TEXT=STEPS")
    parser.add_argument("--rate", type=float, default=0.0, help="share of the other calls that go wrong")
    parser.add_argument("--faults", default="429,500,reset", help="how they go wrong")
    parser.add_argument("--burst", type=Burst.parse, metavar="EVERY:LASTING:RATE", help="seconds, seconds, share")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--delay-ms", type=float, default=0.0, help="before each answer")
    parser.add_argument("--requests-per-minute", type=float, help="above it, 429")
    parser.add_argument(
        "--tokens-per-minute", type=float, help="the same; a call counts as a request's bytes / 4 + max_tokens"
    )
    parser.add_argument("--per-second", action="store_true", help="enforce a sixtieth of the requests a second, too")
    parser.add_argument("--silent", action="store_true", help="do not say what the limits are")
    parser.add_argument("--ledger", type=Path, help="a JSON line for each call, as it ends")
    parser.add_argument("--brief", action="store_true", help="leave the headers out of the ledger")
    asyncio.run(_main(parser.parse_args()))
