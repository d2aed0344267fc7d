"""A real HTTP server on loopback: an OpenAI-compatible API that answers well, or misbehaves by script.

    python tests/faults/server.py --port 0 --script '429:retry-after-ms=20, reset, ok*3, hang' --ledger calls.jsonl

prints its base URL on one line and serves until it is ended. Answers follow from the request's body alone, so the
same question gets the same bytes from any server. The ledger has one line a call: what was asked, what was done, and
whether a real service would have billed it.

A script is a comma-separated list of steps, taken one a call in the order of arrival; then all is calm. A step is a
word of `STEPS` or an HTTP status, then options after `:` (`;` between them), then `*N` to repeat it:

    ok   hang   drip:seconds=0.5   reset   reset_body   short   truncated   malformed   html   empty   null
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

Standard library only, so that it starts in no time under any Python.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import itertools
import json
import random
import re
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Self

WORDS = (
    " the", " of", " Paris", " is", " Kabul", " a", " city", "\n", " 東京", " Zürich", " 🙂", ".", " and", " 42",
    ' "quoted"', " back\\slash", " we", " said", " not", " quite", " sure", "e", "é", " River", " 1e5",
)  # fmt: skip

STEPS = frozenset({
    "ok", "hang", "drip", "reset", "reset_body", "short", "truncated", "malformed", "html", "empty", "null",
    "error200", "quota", "content_filter", "no_logprobs", "redirect", "no_echo", "zeros", "utf16", "latin1",
    "unasked", "parting",
})  # fmt: skip

# Step to status, code, type and message.
ERRORS = {
    "quota": (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota."),
    "content_filter": (400, "content_filter", "invalid_request_error", "The prompt was filtered."),
    "no_logprobs": (403, None, "invalid_request_error", "You are not allowed to request logprobs from this model."),
    "401": (401, "invalid_api_key", "invalid_request_error", "Incorrect API key provided."),
    "403": (403, "unsupported_country", "request_forbidden", "Country not supported."),
    "429": (429, "rate_limit_exceeded", "requests", "Rate limit reached."),
    "limited": (429, "rate_limit_exceeded", "requests", "Rate limit reached."),
}

SPOILT = {
    "malformed": b'{"choices": [nonsense]}',
    "html": b"<!doctype html><html><body>Bad gateway</body></html>",
    "empty": b"",
    "error200": b'{"error":{"message":"upstream failed","type":"server_error","code":502}}',
}

BILLED = frozenset(
    {
        "ok",
        "drip",
        "reset_body",
        "short",
        "truncated",
        "malformed",
        "null",
        "no_echo",
        "zeros",
        "utf16",
        "latin1",
        "unasked",
        "parting",
    }
)
"""Steps for which a real service computes an answer, whether or not it arrives."""


@dataclass
class Step:
    """What to do with one call."""

    name: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long a `drip` takes."""
        return float(self.options.get("seconds", "0.2"))

    @property
    def headers(self) -> dict[str, str]:
        """The options that are headers of the answer."""
        headers = {name: value for name, value in self.options.items() if name not in {"seconds", "to", "billed"}}
        ahead_s, off_s = headers.pop("retry-after-date", None), headers.pop("clock-off", None)
        now = datetime.now(UTC) + timedelta(seconds=float(off_s or 0))
        if off_s is not None:
            headers["date"] = format_datetime(now, usegmt=True)
        if ahead_s is not None:
            headers["retry-after"] = format_datetime(now + timedelta(seconds=float(ahead_s)), usegmt=True)
        return headers

    @property
    def billed(self) -> bool:
        """Whether a real service would charge for this call."""
        said = self.options.get("billed")
        return self.name in BILLED if said is None else said == "yes"


def parse_script(text: str) -> list[Step]:
    """A script's steps; a misspelt one is a ValueError."""
    steps = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        spelled, _, times = part.partition("*")
        name, _, options = spelled.strip().partition(":")
        if name not in STEPS and not (name.isdecimal() and 400 <= int(name) < 600):
            raise ValueError(f"step {name!r}: use a status of 400 to 599 or one of {', '.join(sorted(STEPS))}")
        pairs = dict(option.split("=", 1) for option in options.split(";") if option)
        steps += [Step(name, pairs)] * (int(times) if times else 1)
    return steps


@dataclass
class Call:
    """One line of the ledger. `did` is None while the call is under way, `gone` when the client left first.

    `at` and `ended` are seconds of the machine's monotonic clock, the same for every process on it.
    """

    number: int
    path: str
    body: str
    headers: dict[str, str]
    at: float
    step: str = "ok"
    did: str | None = None
    billed: bool = False
    ended: float | None = None


@dataclass
class Burst:
    """A time of faults: for `lasting_s` in each `every_s`, from the first call on, a share of the calls goes wrong."""

    every_s: float
    lasting_s: float
    rate: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `every:lasting:rate`; the first burst comes at the end of the first `every`."""
        return cls(*map(float, text.split(":")))

    def is_on(self, since_s: float) -> bool:
        """Whether it is on so many seconds after the first call."""
        return since_s >= self.every_s and since_s % self.every_s < self.lasting_s


class Limits:
    """Limits over any minute, and how they stand."""

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        per_second: bool = False,
        silent: bool = False,
    ) -> None:
        self._most = {"requests": requests_per_minute, "tokens": tokens_per_minute}
        self._a_second = max(1.0, requests_per_minute / 60) if per_second and requests_per_minute else None
        self._silent = silent
        self._taken: deque[tuple[float, int]] = deque()
        self._tokens = 0

    def take(self, now: float, tokens: int) -> tuple[bool, dict[str, str]]:
        """Whether a call is within the limits, and what the headers say after it."""
        while self._taken and self._taken[0][0] <= now - 60:
            self._tokens -= self._taken.popleft()[1]
        spent = {"requests": len(self._taken), "tokens": self._tokens}
        cost = {"requests": 1, "tokens": tokens}
        within = all(most is None or spent[name] + cost[name] <= most for name, most in self._most.items())
        if self._a_second is not None:
            lately = sum(1 for at, _ in itertools.takewhile(lambda taken: taken[0] > now - 1, reversed(self._taken)))
            within = within and lately < self._a_second
        if within:
            self._taken.append((now, tokens))
            self._tokens += tokens
            spent = {name: spent[name] + cost[name] for name in spent}
        return within, {} if self._silent else self._headers(spent)

    def _headers(self, spent: dict[str, int]) -> dict[str, str]:
        said = {}
        for name, most in self._most.items():
            if most is not None:
                left = max(0, int(most - spent[name]))
                reset_s = spent[name] * 60 / most
                said |= {f"x-ratelimit-limit-{name}": f"{most:.0f}", f"x-ratelimit-remaining-{name}": str(left)}
                said[f"x-ratelimit-reset-{name}"] = f"{int(reset_s // 60)}m{reset_s % 60:.3f}s"
        return said


class Behaviour:
    """What the server does, and the ledger of what it did; may be changed while it serves."""

    def __init__(
        self,
        script: str = "",
        *,
        when: dict[str, str] | None = None,
        rate: float = 0.0,
        faults: str = "429,500,reset",
        seed: int = 0,
        delay_ms: float = 0.0,
        ledger: Path | None = None,
        limits: Limits | None = None,
        burst: Burst | None = None,
        keep: bool = True,
        brief: bool = False,
    ) -> None:
        self.calls: list[Call] = []
        self.count = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.delay_ms = delay_ms
        self.limits = limits
        self._script = deque(parse_script(script))
        self._when = {text: deque(parse_script(steps)) for text, steps in (when or {}).items()}
        self._rate = rate
        self._faults = parse_script(faults)
        self._burst = burst
        self._keep = keep
        self._brief = brief
        self._first_at: float | None = None
        self._seed = seed
        self._seen: Counter[bytes] = Counter()
        self._file = ledger.open("a", encoding="utf-8") if ledger is not None else None

    def script(self, text: str) -> None:
        """Add steps for the next calls."""
        self._script.extend(parse_script(text))

    def when(self, text: str, steps: str) -> None:
        """Add steps for the next calls whose body holds `text`."""
        self._when.setdefault(text, deque()).extend(parse_script(steps))

    def begin(self, path: str, headers: dict[str, str], body: bytes) -> tuple[Call, Step]:
        """Note a call and choose what to do with it."""
        text = body.decode("utf-8", "replace")
        now = asyncio.get_running_loop().time()
        self._first_at = now if self._first_at is None else self._first_at
        within, said = self._within_limits(now, text)
        step = self._choose(text, body, since_s=now - self._first_at) if within else Step("limited")
        step = Step(step.name, {**said, **step.options})
        call = Call(self.count, path, text, {} if self._brief else headers, now, step.name, billed=step.billed)
        self.count += 1
        if self._keep:
            self.calls.append(call)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        return call, step

    def end(self, call: Call, did: str) -> None:
        """Note what was done."""
        call.did = did
        call.ended = asyncio.get_running_loop().time()
        self.in_flight -= 1
        if self._file is not None:
            self._file.write(json.dumps(call.__dict__, ensure_ascii=False) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the ledger's file."""
        if self._file is not None:
            self._file.close()

    def _within_limits(self, now: float, text: str) -> tuple[bool, dict[str, str]]:
        if self.limits is None:
            return True, {}
        try:
            asked = json.loads(text)
        except ValueError:
            asked = {}
        most = int(asked.get("max_tokens") or asked.get("max_completion_tokens") or 5)
        return self.limits.take(now, len(text) // 4 + most * int(asked.get("n") or 1))

    def _choose(self, text: str, body: bytes, *, since_s: float = 0.0) -> Step:
        self._seen[body] += 1
        for wanted, steps in self._when.items():
            if wanted in text and steps:
                return steps.popleft()
        if self._script:
            return self._script.popleft()
        rate = self._burst.rate if self._burst is not None and self._burst.is_on(since_s) else self._rate
        if not rate:
            return Step("ok")
        # By what is asked and how often, not by when: the same whatever the order of arrival.
        chance = random.Random(f"{self._seed} {self._seen[body]} {text}")  # noqa: S311  no secret
        return chance.choice(self._faults) if chance.random() < rate else Step("ok")


def answer_to(path: str, body: dict[str, Any], *, step: str = "ok") -> bytes:
    """The answer to a request: follows from the request alone.

    Chat gets `logprobs.content`, the legacy endpoint `tokens`, `token_logprobs`, `top_logprobs` and `text_offset`, and
    what is asked for with `echo` and `prompt_logprobs`. Logprobs fall with the rank; the chosen token is now and then
    not the first.
    """
    null, asked_echo = step == "null", body.get("echo") and step != "no_echo"
    chat = path.endswith("/chat/completions")
    digest = hashlib.sha256(json.dumps([chat, body], sort_keys=True).encode()).hexdigest()
    asked = body.get("logprobs")
    top = int(body.get("top_logprobs") or 0) if chat else int(asked or 0)
    length = body.get("max_tokens") if body.get("max_tokens") is not None else body.get("max_completion_tokens") or 5
    length = max(min(int(length), 200), step == "no_echo")
    prompt = "" if chat else str(body.get("prompt"))
    given = [] if chat else prompt_tokens(prompt, int(body.get("prompt_logprobs") or top), zeros=step == "zeros")
    choices = []
    for index in range(int(body.get("n") or 1)):
        rng = random.Random(f"{digest} {index}")  # noqa: S311  no secret
        tokens = [_token(rng, top) for _ in range(length)]
        text = "".join(token["token"] for token in tokens)
        wanted = not null and asked is not None and asked is not False
        shaped = {"content": tokens, "refusal": None} if chat else _legacy(tokens)
        if asked_echo and not chat:
            tokens, text = given + tokens, prompt + text
            shaped = _legacy(tokens)
        said = {"message": {"role": "assistant", "content": text, "refusal": None}} if chat else {"text": text}
        if body.get("prompt_logprobs") is not None and step != "no_echo":
            said["prompt_logprobs"] = [_vllm(token) for token in given]
        choices.append({"index": index, **said, "logprobs": shaped if wanted else None, "finish_reason": "length"})
    produced = length * len(choices)
    answer = {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{digest[:24]}",
        "object": "chat.completion" if chat else "text_completion",
        "created": 1_700_000_000 + int(digest[:6], 16),
        "model": f"{body.get('model')}-2026-01-01",
        "system_fingerprint": "fp_fault",
        "choices": choices,
        "usage": {"prompt_tokens": 7, "completion_tokens": produced, "total_tokens": 7 + produced},
    }
    return json.dumps(answer, ensure_ascii=False).encode()


def responses_answer_to(_path: str, body: dict[str, Any], *, step: str = "ok") -> bytes:
    """The answer to a Responses request: the same tokens, in that API's shape."""
    wanted = "message.output_text.logprobs" in body.get("include", [])
    asked = {**body, "logprobs": wanted, "max_tokens": body.get("max_output_tokens")}
    chat = json.loads(answer_to("/v1/chat/completions", asked, step=step))
    choice, usage = chat["choices"][0], chat["usage"]
    part = {"type": "output_text", "text": choice["message"]["content"], "annotations": []}
    part["logprobs"] = choice["logprobs"]["content"] if choice["logprobs"] else []
    message = {"id": "msg_fault", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    answer = {
        "id": chat["id"].replace("chatcmpl", "resp"),
        "object": "response",
        "created_at": chat["created"],
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "model": chat["model"],
        "output": [message],
        "usage": {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]},
    }
    return json.dumps(answer, ensure_ascii=False).encode()


def pieces(text: str) -> list[str]:
    """The tokens of a prompt: up to four letters, with the white space before them."""
    return re.findall(r"\s*\S{1,4}|\s+\Z", text)


def logprob_after(before: str, piece: str) -> float:
    """What the server holds of a piece after a text: the same wherever and whenever it is asked."""
    digest = hashlib.sha256(f"{before}|{piece}".encode()).digest()
    return -round(1 + int.from_bytes(digest[:4]) / 2**30, 6)


def prompt_tokens(prompt: str, top: int, *, zeros: bool = False) -> list[dict[str, Any]]:
    """The tokens of a prompt, each after those before it; the first has no logprob, for nothing is before it."""
    tokens: list[dict[str, Any]] = []
    before = ""
    for piece in pieces(prompt):
        value = 0.0 if zeros else logprob_after(before, piece)
        ahead = 2 * (int(value * 1e6) % 2) - 1  # of every two tokens one is the likeliest
        others = [{"token": word, "logprob": value - n} for n, word in enumerate((" the", " of"), ahead)][:top]
        likely = sorted([*others, {"token": piece, "logprob": value}], key=lambda token: -token["logprob"])
        scored = {"token": piece, "logprob": value, "top_logprobs": likely if top else []}
        tokens.append(scored if before else {"token": piece, "logprob": None, "top_logprobs": None})
        before += piece
    return tokens


def _vllm(token: dict[str, Any]) -> dict[str, Any] | None:
    """One position of vLLM's `prompt_logprobs`: the prompt's own token first, by its id."""
    if token["logprob"] is None:
        return None
    own = {"token": token["token"], "logprob": token["logprob"]}
    ranked = [own, *(other for other in token["top_logprobs"] if other["token"] != own["token"])]
    order = sorted(ranked, key=lambda other: -other["logprob"])
    return {
        str(int.from_bytes(hashlib.sha256(other["token"].encode()).digest()[:3])): {
            "logprob": other["logprob"],
            "rank": order.index(other) + 1,
            "decoded_token": other["token"],
        }
        for other in ranked
    }


def _token(rng: random.Random, top: int) -> dict[str, Any]:
    words = rng.sample(WORDS, max(top, 2))
    values = sorted((round(-rng.expovariate(0.5), 6) for _ in words), reverse=True)
    ranked = [
        {"token": word, "logprob": value, "bytes": list(word.encode())}
        for word, value in zip(words, values, strict=True)
    ]
    chosen = ranked[1] if rng.random() < 0.1 else ranked[0]
    return {**chosen, "top_logprobs": ranked[:top]}


def _legacy(tokens: list[dict[str, Any]]) -> dict[str, Any]:
    texts = [token["token"] for token in tokens]
    return {
        "tokens": texts,
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": [
            None if token["top_logprobs"] is None else {top["token"]: top["logprob"] for top in token["top_logprobs"]}
            for token in tokens
        ],
        "text_offset": [len("".join(texts[:position])) for position in range(len(texts))],
    }


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
        """Hang up on everybody."""
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
        """Read a request and answer it; returns whether the connection lives on."""
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
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
            answer = responses_answer_to if path.endswith("/responses") else answer_to
            content = answer(path, json.loads(body), step=step.name)
        except ValueError as error:
            said = {"error": {"message": f"not JSON: {error}", "type": "invalid_request_error"}}
            return await _send(writer, 400, json.dumps(said).encode())
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
    """What is sent in place of an answer; the answer itself where the step changes nothing."""
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
        """The ledger; calls just answered get a moment to be written down."""
        until = time.monotonic() + 0.5
        while self.behaviour.in_flight and time.monotonic() < until:
            time.sleep(0.002)
        return self.behaviour.calls

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """What was asked, call by call."""
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
