"""The explorer's server: its page, its answers as JSON, and files for download, on this machine alone.

Questions are answered in threads, so that a slow one holds up no other. What a browser may ask is up to `gate`.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from logprob_store.errors import InputError, LogprobStoreError
from logprob_store.explorer.exporting import MEDIA_TYPES, export
from logprob_store.explorer.gate import TOKEN, Gate
from logprob_store.explorer.going_on import Place, alternatives_to_ask, find_place, gone_on
from logprob_store.explorer.one_completion import compared, one_completion, one_failure, one_token
from logprob_store.explorer.selection import read_page
from logprob_store.extras import import_extra
from logprob_store.view.safe_text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Send

    from logprob_store.explorer.exploring import Exploring
    from logprob_store.what_if.asking import WhatIf

HOST: Final = "127.0.0.1"
_MOST_BODY: Final = 100_000
_LOOK_UP_S: Final = 0.1
"""How often a call or a query looks whether the explorer ends."""
_SQL_THREADS: Final = 4
_OF_THE_STORE: Final = (LogprobStoreError, OSError, pl.exceptions.PolarsError)
"""What is raised over files of the store."""
_SHARED: Final = ("tokens.js", "page.css")
_OWN: Final = (
    *("address.js", "asking.js", "csv.js", "details.js", "entering.js", "explorer.js", "focus.js", "histogram.js"),
    *("lists.js", "neighbours.js", "numbers.js", "sql.js", "what_if.js", "explorer.css"),
)
_KINDS: Final = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}


class Served:
    """A server that listens, from `serve_exploring`. `run` answers until `stop` is called, also before it."""

    def __init__(self, exploring: Exploring, listening: socket.socket, what_if: WhatIf | None = None) -> None:
        uvicorn = import_extra("uvicorn")
        self._socket = listening
        self.port: int = listening.getsockname()[1]
        application = _application(exploring, what_if, lambda: self._server.should_exit)
        gate = Gate(application, self.port)
        self.url = f"http://{HOST}:{self.port}/?{TOKEN}={gate.token}"
        """The address to open, once."""
        self._server = uvicorn.Server(
            uvicorn.Config(
                gate,
                http="h11",
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=2,
            )
        )

    def run(self) -> None:
        """Answer until it is ended."""
        with self._socket:
            self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """End `run`; may be called by another thread, or by a signal's handler."""
        self._server.should_exit = True


def serve_exploring(exploring: Exploring, *, port: int = 0, what_if: WhatIf | None = None) -> Served:
    """A server over some runs, which listens on 127.0.0.1 already and answers once it runs.

    Args:
        exploring: the runs.
        port: to listen on; a free one when 0.
        what_if: asks what would have followed another token; without it no call can be made.

    Raises:
        InputError: the port is taken, or may not be listened on.
        ImportError: the extra `view` is not installed.
    """
    for module in ("uvicorn", "starlette.applications", "jinja2"):
        import_extra(module)
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise InputError(
            f"--port {port}: cannot be listened on ({error.strerror}); leave it out for a free one"
        ) from error
    return Served(exploring, listening, what_if)


def _application(exploring: Exploring, what_if: WhatIf | None, is_ending: Callable[[], bool]) -> Starlette:
    """The application behind the gate."""
    applications, routing = import_extra("starlette.applications"), import_extra("starlette.routing")
    answers: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        "overview": lambda _: exploring.questions.overview,
        "news": lambda _: exploring.news(),
        "completion": lambda given: one_completion(
            exploring.questions, *_key(given), passed_over=_whole({"passed_over": "0", **given}, "passed_over")
        ),
        "failure": lambda given: one_failure(
            exploring.questions, _given(given, "run"), _whole(given, "prompt_index"), _whole(given, "sample_index")
        ),
        "compare": lambda given: compared(exploring.questions, _key(given, "a_"), _key(given, "b_")),
        "token": lambda given: one_token(
            exploring.questions, *_key(given), _given(given, "section"), _whole(given, "position")
        ),
        "what_if": lambda given: what_if and alternatives_to_ask(_place(exploring, given), what_if),
    }
    routes = [routing.Route("/", _page(str(exploring.questions.prepared.store.path)), methods=["GET"])]
    routes += [routing.Route(f"/api/{name}", _answering(answer), methods=["GET"]) for name, answer in answers.items()]
    routes += [
        routing.Route("/api/rows", _answering_selection(exploring, _rows), methods=["GET"]),
        routing.Route("/api/histogram", _answering_selection(exploring, _histogram), methods=["GET"]),
        routing.Route("/api/values", _answering_selection(exploring, _values), methods=["GET"]),
        routing.Route("/api/sql", _answering_sql(exploring, is_ending), methods=["POST"]),
        routing.Route("/api/refresh", _answering_body(lambda _: exploring.refresh()), methods=["POST"]),
        routing.Route("/api/go_on", _answering_call(exploring, what_if, is_ending), methods=["POST"]),
        routing.Route("/export", _exported(exploring), methods=["GET"]),
        routing.Route("/static/{name:path}", _static(), methods=["GET"]),
    ]
    application: Starlette = applications.Starlette(routes=routes, exception_handlers={})
    return application


def _page(store: str) -> Callable[[Request], Any]:
    responses = import_extra("starlette.responses")
    jinja2 = import_extra("jinja2")
    text = files("logprob_store.explorer").joinpath("templates/page.html").read_text(encoding="utf-8")
    html = (
        jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
        .from_string(text)
        .render(store=printable(store))
    )

    async def answer(_: Request) -> Response:
        response: Response = responses.HTMLResponse(html)
        return response

    return answer


def _static() -> Callable[[Request], Any]:
    """Files by their paths in the package, as their imports have them; read once, so that no name leads to another."""
    responses = import_extra("starlette.responses")
    package = files("logprob_store")
    held = {f"view/page/{name}": package.joinpath("view", "page", name).read_bytes() for name in _SHARED}
    held |= {f"explorer/static/{name}": package.joinpath("explorer", "static", name).read_bytes() for name in _OWN}

    async def answer(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in held:
            return _error(404, "there is no such file")
        response: Response = responses.Response(held[name], media_type=_KINDS[name.rpartition(".")[2]])
        return response

    return answer


def _answering(answer: Callable[[Mapping[str, Any]], Any]) -> Callable[[Request], Any]:
    """A handler that answers by the parameters of the address."""

    async def handle(request: Request) -> Response:
        return await _in_thread(answer, dict(request.query_params))

    return handle


def _answering_selection(
    exploring: Exploring, answer: Callable[[Exploring, Sequence[tuple[str, str]]], Any]
) -> Callable[[Request], Any]:
    """A handler that answers by a selection, whose parameters may stand several times."""

    async def handle(request: Request) -> Response:
        pairs = request.query_params.multi_items()
        return await _in_thread(lambda _: answer(exploring, pairs), {})

    return handle


def _answering_body(answer: Callable[[Mapping[str, Any]], Any]) -> Callable[[Request], Any]:
    """A handler that answers by the body of a POST."""

    async def handle(request: Request) -> Response:
        given = await _read_body(request)
        return await _in_thread(answer, given) if isinstance(given, dict) else given

    return handle


def _answering_sql(exploring: Exploring, is_ending: Callable[[], bool]) -> Callable[[Request], Any]:
    """A handler for SQL. A query ends when its client is gone, when a newer one is asked, or with the explorer.

    It waits in threads of its own, so that slow ones take none from other questions.
    """
    threads = ThreadPoolExecutor(_SQL_THREADS, thread_name_prefix="sql")

    async def handle(request: Request) -> Response:
        given = await _read_body(request)
        if not isinstance(given, dict):
            return given
        try:
            asked = exploring.sql.begin(str(given.get("query", "")))
            answer = asyncio.get_running_loop().run_in_executor(threads, asked.answer)
            while not answer.done():
                await asyncio.wait({answer}, timeout=_LOOK_UP_S)
                if is_ending():
                    asked.end("the explorer was ended before the answer came")
                elif await request.is_disconnected():
                    asked.end("nobody waits for the answer any more")
            return _json(answer.result())
        except InputError as error:  # a slip in a query is no failed request, which a browser would log
            return _json({"error": str(error)})

    return handle


def _answering_call(
    exploring: Exploring, what_if: WhatIf | None, is_ending: Callable[[], bool]
) -> Callable[[Request], Any]:
    """A handler that asks the server of a job; a call is given up when the explorer ends."""
    concurrency = import_extra("starlette.concurrency")

    async def handle(request: Request) -> Response:
        given = await _read_body(request)
        if not isinstance(given, dict):
            return given
        if what_if is None:
            return _error(404, "no job is named to ask by: start `logprobs explore` with --job JOB.toml")
        try:
            place = await concurrency.run_in_threadpool(_place, exploring, given)
            asking = asyncio.ensure_future(gone_on(place, what_if, _whole(given, "rank")))
            while not asking.done() and not is_ending():
                await asyncio.wait({asking}, timeout=_LOOK_UP_S)
            if asking.done():
                return _json(asking.result())
        except InputError as error:
            return _error(400, str(error))
        except LogprobStoreError as error:
            return _error(502, str(error))
        asking.cancel()
        await asyncio.wait({asking})
        return _error(503, "the explorer was ended before the answer came")

    return handle


async def _read_body(request: Request) -> dict[str, Any] | Response:
    """The body of a POST, which is a JSON object: a form of another site cannot send that. Else the refusal."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return _error(415, "send JSON")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_BODY:
            return _error(413, f"send {_MOST_BODY} bytes at most")
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):  # the latter of thousands of brackets
        given = None
    return given if isinstance(given, dict) else _error(400, "send a JSON object")


def _exported(exploring: Exploring) -> Callable[[Request], Any]:
    """A handler for downloads. One that cannot be finished is broken off, so that no browser takes it for whole."""
    concurrency, responses = import_extra("starlette.concurrency"), import_extra("starlette.responses")

    streaming: Any = responses.StreamingResponse

    class Download(streaming):  # type: ignore[misc]  # of an extra that may be missing
        async def stream_response(self, send: Send) -> None:
            try:
                await super().stream_response(send)
            except _BrokenOffError as error:  # uvicorn closes the connection of an answer that has no end
                exploring.say(f"a download was broken off: {error}")

    async def handle(request: Request) -> Response:
        pairs = request.query_params.multi_items()
        kind = dict(pairs).get("format", "csv")
        if kind not in MEDIA_TYPES:
            return _error(400, f"format={kind}: write csv or parquet")
        questions = exploring.questions
        try:
            page = read_page([pair for pair in pairs if pair[0] != "format"], questions.rows)
        except InputError as error:
            return _error(400, str(error))
        made = _until_broken(export(questions, page.selection, kind))
        try:
            first = await concurrency.run_in_threadpool(next, made, b"")
        except _BrokenOffError as error:
            return _error(500, str(error))
        pieces = concurrency.iterate_in_threadpool(chain([first], made))
        named = {"content-disposition": f'attachment; filename="selection.{kind}"'}
        response: Response = Download(pieces, media_type=MEDIA_TYPES[kind], headers=named)
        return response

    return handle


class _BrokenOffError(Exception):
    """A file that cannot be made to its end, with why and what to do."""


def _until_broken(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces; an error of the store among them says what to do."""
    try:
        yield from pieces
    except _OF_THE_STORE as error:
        raise _BrokenOffError(_in_words(error)) from error


async def _in_thread(answer: Callable[[Mapping[str, Any]], Any], given: Mapping[str, Any]) -> Response:
    """The answer as JSON, or the error in words."""
    concurrency = import_extra("starlette.concurrency")
    try:
        return _json(await concurrency.run_in_threadpool(answer, given))
    except InputError as error:
        return _error(400, str(error))
    except _OF_THE_STORE as error:
        return _error(500, _in_words(error))


def _in_words(error: BaseException) -> str:
    return f"{str(error).rstrip('.')}. `logprobs verify STORE` says whether the store is damaged"


def _rows(exploring: Exploring, pairs: Sequence[tuple[str, str]]) -> Any:
    return exploring.questions.page(read_page(pairs, exploring.questions.rows))


def _histogram(exploring: Exploring, pairs: Sequence[tuple[str, str]]) -> Any:
    score, others = _taken(pairs, "score")
    return exploring.questions.histogram(read_page(others, exploring.questions.rows).selection, score)


def _values(exploring: Exploring, pairs: Sequence[tuple[str, str]]) -> Any:
    column, others = _taken(pairs, "column")
    contains = dict(others).get("contains", "")
    asked = read_page([pair for pair in others if pair[0] != "contains"], exploring.questions.rows)
    return exploring.questions.values(asked.selection, column, contains)


def _taken(pairs: Sequence[tuple[str, str]], name: str) -> tuple[str, list[tuple[str, str]]]:
    """The value of a parameter, and the other ones."""
    found = [value for key, value in pairs if key == name]
    if not found:
        raise InputError(f"{name} is missing in the address")
    return found[0], [pair for pair in pairs if pair[0] != name]


def _place(exploring: Exploring, given: Mapping[str, Any]) -> Place:
    return find_place(exploring.questions, *_key(given), _given(given, "section"), _whole(given, "position"))


def _key(given: Mapping[str, Any], prefix: str = "") -> tuple[str, int]:
    return _given(given, f"{prefix}run"), _whole(given, f"{prefix}id")


def _given(given: Mapping[str, Any], name: str) -> str:
    if name not in given:
        raise InputError(f"{name} is missing in the address")
    return str(given[name])


def _whole(given: Mapping[str, Any], name: str) -> int:
    value = _given(given, name)
    if not (value.isascii() and value.isdecimal() and len(value) < 19):  # noqa: PLR2004  fits an Int64
        raise InputError(f"{name}={value[:30]}: write a whole number")
    return int(value)


def _json(value: Any, status: int = 200) -> Response:
    responses = import_extra("starlette.responses")
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:  # JSON has no infinity
        text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"))
    response: Response = responses.Response(text.encode(), status, media_type="application/json")
    return response


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _error(status: int, words: str) -> Response:
    return _json({"error": words}, status)
