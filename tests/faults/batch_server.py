"""A real HTTP server on loopback with the files and batches of OpenAI's Batch API, which misbehaves by script.

Answers to lines follow from their bodies alone, as those of the fault server do. The ledger has each line that was
executed and what it cost. Batches are carried forward as they are looked at: so many looks in each state.

What becomes of the batches, in the order in which they are created, is said by `scripts`, one text for each, then all
is well. A text has words, with numbers after `=`:

    ok   paused=N (a state that nobody knows, N looks long)   expired=SHARE   cancelled=SHARE (done of all lines)
    errors_only (no output file: each line fails)   missing=N   doubled=N   stranger (a line of no call)   odd (NaN)
    cut=N (the first N times its output is sent, half of the last line is missing, without a word)
    fail=CODE   fail=CODE@LINE   late_output=N (completed, the file comes N looks later)   gone (old: files are 404)
    no_counts   stuck (it never ends once it is cancelled)   short=N (the counts say N answers more than it gives)

`faults` has, by kind of request (`upload`, `create`, `get`, `list_files`, `list_batches`, `cancel`, `content`), a list
of what happens to the next ones: a status, `lost` (done, and no answer), `reset` (not done, no answer), `no_file`.
`done` and a status, `done_html`, `done_empty`, `done_no_id`, `done_redirect`: it is done, and that is the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web
from fault_answers import answer_to, responses_answer_to

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TERMINAL = {"completed", "failed", "expired", "cancelled"}


@dataclass
class ServedBatch:
    """A batch of the server."""

    id: str
    key: str
    input_file_id: str
    endpoint: str
    metadata: dict[str, str]
    words: dict[str, str]
    tokens: int
    status: str = "validating"
    looks: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)
    done: int = 0
    failed: int = 0
    is_billed: bool = False


class BatchServer:
    """The server in a thread of its own; a context manager.

    Args:
        validating: looks at a batch before it is in progress.
        working: looks at it before it is done.
        queue_tokens: tokens, as bytes / 4, that may be queued.
        input_usd: for a token of a prompt.
        output_usd: for a token of an answer.
    """

    def __init__(
        self,
        *,
        validating: int = 1,
        working: int = 1,
        queue_tokens: int | None = None,
        input_usd: float = 0.5e-6,
        output_usd: float = 2e-6,
    ) -> None:
        self.validating, self.working = validating, working
        self.queue_tokens = queue_tokens
        self.input_usd, self.output_usd = input_usd, output_usd
        self.now = time.time()
        self.files: dict[str, dict[str, Any]] = {}
        self.batches: dict[str, ServedBatch] = {}
        self.scripts: list[str] = []
        self.faults: dict[str, list[str]] = {}
        self.requests: list[str] = []
        self.executed: list[str] = []
        self.usd = 0.0
        self.max_creations: int | None = None
        self.max_bytes: int | None = None
        self.file_looks = 0
        self.keeps_metadata = True
        self.list_lag = 0
        self.lists_from = 0
        self.is_held = 0
        self.redirects = False
        self.encoding = ""
        self.encode: Callable[[bytes], bytes] = bytes
        self.says = ""
        self.kill: tuple[int, str, Callable[[], int]] | None = None
        self.url = ""
        self._seen: dict[str, int] = {}
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="batch-server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(10)

    def times_executed(self) -> dict[str, int]:
        """How often each line was executed, by its custom id without the digits of the key."""
        counts: dict[str, int] = {}
        for custom_id in self.executed:
            counts[custom_id] = counts.get(custom_id, 0) + 1
        return counts

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        app = web.Application(client_max_size=1 << 30)
        app.add_routes(
            [
                web.post("/v1/files", self._handler("upload", self._upload)),
                web.get("/v1/files", self._handler("list_files", self._list_files)),
                web.get("/v1/files/{id}", self._handler("get_file", self._get_file)),
                web.get("/v1/files/{id}/content", self._handler("content", self._content)),
                web.post("/v1/batches", self._handler("create", self._create)),
                web.get("/v1/batches", self._handler("list_batches", self._list_batches)),
                web.get("/v1/batches/{id}", self._handler("get", self._get)),
                web.post("/v1/batches/{id}/cancel", self._handler("cancel", self._cancel)),
                web.post("/v1/chat/completions", self._handler("live", self._live)),
            ]
        )
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self.url = f"http://127.0.0.1:{port}/v1"
        self._ready.set()
        await self._stopping.wait()
        await runner.cleanup()

    def _handler(
        self, kind: str, handle: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handler(request: web.Request) -> web.StreamResponse:
            number = len(self.requests)
            self.requests.append(kind)
            if self._kills_client(number, "before"):
                return _hang_up(request)
            fault = self.faults[kind].pop(0) if self.faults.get(kind) else ""
            if (refusal := _refusal(request, fault)) is not None:
                return refusal
            try:
                response = await handle(request)
            except ConnectionResetError:  # the client was killed while it sent
                return _hang_up(request)
            if self._kills_client(number, "after") or fault == "lost":
                return _hang_up(request)
            return _instead(fault.removeprefix("done")) if fault.startswith("done") else response

        return handler

    def _kills_client(self, number: int, when: str) -> bool:
        if self.kill is None or self.kill[:2] != (number, when):
            return False
        os.kill(self.kill[2](), signal.SIGKILL)
        self.kill = None
        return True

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        file: Any = form["file"]
        content = file.file.read()
        if not file.filename.endswith(".jsonl"):
            return _error(400, "Invalid file format for Batch API. Must be .jsonl", "invalid_request")
        if self.max_bytes is not None and len(content) > self.max_bytes:
            return _error(413, "File is too large", "too_large")
        made = {
            "id": f"file-{len(self.files)}",
            "object": "file",
            "filename": file.filename,
            "purpose": form["purpose"],
            "bytes": len(content),
            "key": _key(request),
            "content": content,
        }
        self.files[made["id"]] = made
        return web.json_response(_shown_file(made))

    async def _list_files(self, request: web.Request) -> web.Response:
        mine = [_shown_file(file) for file in self.files.values() if file["key"] == _key(request)]
        return _page(request, mine[::-1])

    async def _get_file(self, request: web.Request) -> web.Response:
        file = self.files[request.match_info["id"]]
        file["looks"] = file.get("looks", 0) + 1
        status = "processed" if file["looks"] > self.file_looks else "pending"
        return web.json_response({**_shown_file(file), "status": status})

    async def _content(self, request: web.Request) -> web.Response:
        file = self.files.get(request.match_info["id"])
        if self.redirects and "signed" not in request.query:
            return web.Response(status=302, headers={"location": f"{request.path}?signed=SIGNATURE"})
        if file is None or file["key"] != _key(request) or file.get("gone"):
            return _error(404, "No such File object", "not_found")
        content = file["content"]
        if file.get("cut"):
            file["cut"] -= 1
            content = content[: len(content.rstrip()) - 50]
        headers = {"content-encoding": self.encoding} if self.encoding else {}
        return web.Response(body=self.encode(content), content_type="application/octet-stream", headers=headers)

    async def _create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        file = self.files.get(asked["input_file_id"])
        if file is None or file["key"] != _key(request):
            return _error(404, "Cannot find file", "not_found")
        if self.max_creations is not None and len(self.batches) >= self.max_creations:
            self.max_creations = None
            response = _error(429, "Too many batches created", "rate_limit_exceeded")
            response.headers["retry-after"] = "0.05"
            return response
        words = self.scripts.pop(0) if self.scripts else "ok"
        batch = ServedBatch(
            f"batch_{len(self.batches)}",
            _key(request),
            asked["input_file_id"],
            asked["endpoint"],
            (asked.get("metadata") or {}) if self.keeps_metadata else {},
            dict(word.partition("=")[::2] for word in words.split()),
            len(file["content"]) // 4,
        )
        self.batches[batch.id] = batch
        return web.json_response(self._shown(batch))

    async def _list_batches(self, request: web.Request) -> web.Response:
        mine = [self._shown(batch) for batch in self.batches.values() if batch.key == _key(request)]
        self.list_lag -= 1
        return _page(request, mine[::-1] if self.list_lag < 0 and len(mine) >= self.lists_from else [])

    async def _get(self, request: web.Request) -> web.Response:
        batch = self.batches.get(request.match_info["id"])
        if batch is None or batch.key != _key(request):
            return _error(404, "No batch found", "not_found")
        self._advance(batch)
        return web.json_response(self._shown(batch))

    async def _cancel(self, request: web.Request) -> web.Response:
        batch = self.batches.get(request.match_info["id"])
        if batch is None or batch.key != _key(request):
            return _error(404, "No batch found", "not_found")
        if batch.status in TERMINAL:
            return _error(400, f"Cannot cancel a batch with status '{batch.status}'", "invalid_request")
        batch.words["cancelled"] = batch.words.get("cancelled", "0.5" if batch.status == "in_progress" else "0")
        batch.status = "cancelling"
        return web.json_response(self._shown(batch))

    async def _live(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.executed.append(f"live {body['messages'][-1]['content']}")
        content = answer_to("/v1/chat/completions", body)
        usage = json.loads(content)["usage"]
        self.usd += 2 * (usage["prompt_tokens"] * self.input_usd + usage["completion_tokens"] * self.output_usd)
        return web.Response(body=content, content_type="application/json")

    def _advance(self, batch: ServedBatch) -> None:
        """One look further."""
        batch.looks += 1
        words = batch.words
        if batch.status == "cancelling" and "stuck" not in words:
            self._end(batch, "cancelled", float(words["cancelled"]))
        elif batch.status == "validating" and batch.looks >= self.validating:
            self._validate(batch)
        elif batch.status == "in_progress" and batch.looks >= self.validating + self.working:
            if batch.looks < self.validating + self.working + int(words.get("paused", 0)):
                batch.status = "paused"
            elif "expired" in words:
                self._end(batch, "expired", float(words["expired"]))
            elif "cancelled" in words:
                self._end(batch, "cancelled", float(words["cancelled"]))
            else:
                self._end(batch, "completed", 1.0)
        elif batch.status == "paused":
            batch.status = "in_progress"
        elif batch.status == "completed" and batch.looks >= int(words.get("shown_at", 0)):
            batch.output_file_id = batch.output_file_id or words.get("output_file_id")

    def _validate(self, batch: ServedBatch) -> None:
        code, _, line = batch.words.get("fail", "").partition("@")
        queued = sum(one.tokens for one in self.batches.values() if one.status in {"in_progress", "cancelling"})
        self.is_held -= 1
        if self.is_held >= 0:
            code, line = "token_limit_exceeded", ""
        if self.queue_tokens is not None and queued + batch.tokens > self.queue_tokens:
            code, line = "token_limit_exceeded", ""
        if code:
            said = f"{code} {self.says}".rstrip()
            if self.queue_tokens is not None:
                said = "Enqueued token limit reached for gpt-4o in organization org-x. Limit: {:,} enqueued tokens."
                said = said.format(self.queue_tokens)
            batch.status = "failed"
            batch.errors = [{"code": code, "line": int(line) if line else None, "message": said, "param": None}]
        else:
            batch.status = "in_progress"

    def _end(self, batch: ServedBatch, status: str, share: float) -> None:
        words = batch.words
        lines = [json.loads(line) for line in self.files[batch.input_file_id]["content"].splitlines()]
        done = round(share * len(lines))
        output, errors = [], []
        for number, line in enumerate(lines):
            if number >= done:
                code = "batch_cancelled" if status == "cancelled" else "batch_expired"
                errors.append(
                    {"custom_id": line["custom_id"], "response": None, "error": {"code": code, "message": code}}
                )
                continue
            answered = self._execute(line, fails="errors_only" in words)
            (output if answered["response"]["status_code"] == 200 else errors).append(answered)
        for _ in range(int(words.get("missing", 0))):
            output.pop()
        batch.done, batch.failed = len(output), len(errors)
        for _ in range(int(words.get("short", 0))):
            output.pop()
        output += output[: int(words.get("doubled", 0))]
        if "stranger" in words and output:
            output.append({**output[0], "custom_id": "999999-0000000000000000"})
        output.reverse()
        texts = [json.dumps(line, ensure_ascii=False) for line in output]
        if "odd" in words:
            texts[0] = texts[0].replace('"created":', '"nan": NaN, "created":')
        batch.status = status
        if output:
            file_id = self._add_file(batch, "\r\n".join(texts) + "\n\n")
            if "late_output" in words:
                words["shown_at"], words["output_file_id"] = str(batch.looks + int(words["late_output"])), file_id
            else:
                batch.output_file_id = file_id
        if errors:
            batch.error_file_id = self._add_file(batch, "\n".join(map(json.dumps, errors)))

    def _add_file(self, batch: ServedBatch, text: str) -> str:
        file_id = f"file-{len(self.files)}"
        gone, cut = "gone" in batch.words, int(batch.words.get("cut", 0))
        self.files[file_id] = {"id": file_id, "key": batch.key, "content": text.encode(), "gone": gone, "cut": cut}
        return file_id

    def _execute(self, line: dict[str, Any], *, fails: bool) -> dict[str, Any]:
        """A line's answer, as its text asks for it.

        `FAIL400`, `FAIL401`, `FAIL500` the first time, `FAIL500ALWAYS`, and the first time `FAIL401ONCE` and
        `FAIL429QUOTAONCE`.
        """
        custom_id, body = line["custom_id"], line["body"]
        text = json.dumps(body)
        self._seen[custom_id] = self._seen.get(custom_id, 0) + 1
        status = 200
        if fails or "FAIL400" in text:
            status = 400
        elif "FAIL401" in text and ("ONCE" not in text or self._seen[custom_id] == 1):
            status = 401
        elif "FAIL429QUOTAONCE" in text and self._seen[custom_id] == 1:
            status = 429
        elif "FAIL500ALWAYS" in text or ("FAIL500" in text and self._seen[custom_id] == 1):
            status = 500
        if status != 200:
            code = "insufficient_quota" if status == 429 else None
            said: dict[str, Any] = {"error": {"message": "unwell", "type": "invalid_request_error", "code": code}}
        else:
            answer = responses_answer_to if "input" in body else answer_to
            url = line.get("url", "/v1/chat/completions")
            said = json.loads(answer(url, body)) | {"service_tier": "default"}
            self.executed.append(custom_id)
            usage = said["usage"]
            prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
            completion = usage.get("completion_tokens", usage.get("output_tokens"))
            self.usd += prompt * self.input_usd + completion * self.output_usd
        response = {"status_code": status, "request_id": "req", "body": said}
        return {"id": f"batch_req_{custom_id}", "custom_id": custom_id, "response": response, "error": None}

    def _shown(self, batch: ServedBatch) -> dict[str, Any]:
        total = self.files[batch.input_file_id]["content"].count(b"\n")
        counts = {"total": total, "completed": batch.done, "failed": batch.failed}
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.endpoint,
            "input_file_id": batch.input_file_id,
            "completion_window": "24h",
            "status": batch.status,
            "output_file_id": batch.output_file_id,
            "error_file_id": batch.error_file_id,
            "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
            "metadata": batch.metadata,
            "request_counts": None if "no_counts" in batch.words else counts,
            "created_at": int(self.now),
            "completed_at": int(self.now - (31 * 86400 if "gone" in batch.words else 0)),
            "expires_at": int(self.now) + 86400,
        }


def _key(request: web.Request) -> str:
    return request.headers.get("authorization", "")


def _shown_file(file: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in file.items() if name not in {"content", "key", "gone", "cut"}}


def _page(request: web.Request, items: list[dict[str, Any]]) -> web.Response:
    limit, after = int(request.query.get("limit", 20)), request.query.get("after")
    first = next((place + 1 for place, item in enumerate(items) if item["id"] == after), 0)
    some = items[first : first + limit]
    last = some[-1]["id"] if some else None
    return web.json_response({"object": "list", "data": some, "has_more": first + limit < len(items), "last_id": last})


def _error(status: int, message: str, code: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "error", "code": code}}, status=status)


def _refusal(request: web.Request, fault: str) -> web.Response | None:
    """What comes of a request that is not done; None where it is."""
    if fault == "reset":
        return _hang_up(request)
    if fault == "no_file":
        return _error(404, "Cannot find file", "not_found")
    if fault == "busy_profile":
        return _error(400, "Your organization's profile does not allow batches", "invalid_request")
    if fault == "wait":
        response = _error(429, "later", "rate_limit_exceeded")
        response.headers["retry-after"] = "86400"
        return response
    return _error(int(fault), "unwell", "server_error") if fault.isdecimal() else None


def _instead(said: str) -> web.Response:
    """What comes in place of an answer to a request that was done."""
    if said == "_html":
        return web.Response(text="<html>sign in</html>", content_type="text/html")
    if said == "_empty":
        return web.Response(body=b"")
    if said == "_no_id":
        return web.json_response({"object": "batch", "id": 12, "status": "validating"})
    if said == "_redirect":
        return web.Response(status=307, headers={"location": "/v1/elsewhere?sig=SECRET"})
    return _error(int(said), "unwell", "server_error")


def _hang_up(request: web.Request) -> web.Response:
    """Break the connection off; the response goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
