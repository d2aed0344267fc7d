"""Items as records: what came back, for which prompt, and what was asked where the item says so.

Holds the forms of an item, told apart by their keys. Leaves out reading files (`sources`), what a body holds
(`decode`), and whether a record is new (`ledger`).

| form | keys |
|---|---|
| our fixture | `fixture`, `request` |
| Batch API output | `custom_id` with `response` or `error` |
| Batch API input | `custom_id`, `body` |
| pair | `request` with `response` or `error` |
| piece of a stream | says that it is a chunk: those that follow each other under one id are one record |
| response | anything else |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.body import excerpt, loads
from logprob_store.errors import CallError, DecodeError, FixtureError
from logprob_store.importing.known_requests import Asked, read_asked
from logprob_store.importing.raw_json import (
    begins_stream,
    endpoint_of,
    ends_stream,
    id_of,
    id_of_events,
    is_piece_of_stream,
    keys_of,
    text_of,
    value_of,
)
from logprob_store.importing.sources import UNKNOWN_FORMAT, Item
from logprob_store.replay.fixtures import read_fixture

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from logprob_store.importing.raw_json import Keys


BAD_LINE: Final = "bad_line"
_SUCCESS: Final = range(200, 300)


@dataclass(frozen=True, slots=True)
class Record:
    """One answer, or what is known of one that failed.

    Args:
        place: line, and element in a list.
        line: from 1.
        body: the response's bytes; of a failure, what tells it from others.
        source: `batch` or `import`.
        id: the id that the recording gives the prompt.
        asked: the request.
        response_id: the response's own id.
        endpoint: seen from the body.
        problem: why there is no answer.
        input: the line is a request of a Batch API input file.
        recorded_at: when the answer came.
    """

    place: str
    line: int
    body: bytes
    source: str = "import"
    id: str | None = None
    asked: Asked | None = None
    response_id: str | None = None
    endpoint: str = "unknown"
    problem: CallError | None = None
    input: bool = False
    recorded_at: datetime | None = None


def read_records(items: Iterable[Item]) -> Iterator[Record]:
    """The records of a file's items, in order; the pieces of a stream, one an item, are put together."""
    held: list[tuple[Item, Keys]] = []
    held_id: str | None = None
    for item in items:
        keys = None if item.events or item.problem else keys_of(item.content)
        ends = keys is not None and bool(held) and ends_stream(keys, held[0][1])
        is_piece = keys is not None and (ends or is_piece_of_stream(keys))
        piece_id = text_of(keys, "id") if keys is not None and is_piece else None
        begins = item.element == 0 or (keys is not None and begins_stream(keys))
        if held and (not is_piece or begins or (held_id and piece_id and piece_id != held_id)):
            yield _stream(held, held_id)
            held, held_id = [], None
        if keys is None or not is_piece:
            yield _record(item, keys)
            continue
        held.append((item, keys))
        held_id = held_id or piece_id
        if ends:
            yield _stream(held, held_id)
            held, held_id = [], None
    if held:
        yield _stream(held, held_id)


def problem(message: str, *, error_type: str, status: int | None = None) -> CallError:
    """A failure that was read, not met: importing makes no calls."""
    error = CallError(message, error_type=error_type, status=status)
    error.attempts = 0
    return error


def _record(item: Item, keys: Keys | None) -> Record:
    base = Record(item.place, item.line, item.content)
    if item.events:
        endpoint = "responses" if b'"response.' in item.content else "chat"
        return replace(base, endpoint=endpoint, response_id=id_of_events(item.content))
    if keys is None:
        said = item.problem or f"is no JSON object: {excerpt(item.content)}"
        return _bad(base, said, UNKNOWN_FORMAT if item.unknown else BAD_LINE)
    try:
        return _of_form(base, keys)
    except (DecodeError, FixtureError) as error:
        return _bad(base, str(error), BAD_LINE)


def _bad(base: Record, said: str, error_type: str) -> Record:
    return replace(base, problem=problem(f"line {base.place}: {said}", error_type=error_type))


def _of_form(base: Record, keys: Keys) -> Record:
    answered = "response" in keys or "error" in keys
    if "fixture" in keys and "request" in keys:
        return _fixture(base)
    if "request" in keys and answered:
        return _answered(replace(base, id=id_of(keys), asked=read_asked(value_of(keys, "request"))), keys)
    if "custom_id" in keys and answered:
        return _answered(replace(base, id=id_of(keys), source="batch"), keys)
    if "custom_id" in keys and "body" in keys:
        asked = read_asked({"url": value_of(keys, "url"), "body": value_of(keys, "body")})
        return replace(base, id=id_of(keys), asked=asked, input=True)
    return _with_body(base, base.body, keys)


def _fixture(base: Record) -> Record:
    fixture = read_fixture(base.body, f"line {base.place}")
    asked = Asked(fixture.request, fixture.endpoint, fixture.provider, fixture.key, fixture.sample_index)
    known = replace(base, asked=asked, recorded_at=fixture.recorded_at)
    if fixture.status not in _SUCCESS:
        return replace(known, problem=_refused(fixture.status, fixture.body))
    return _with_body(known, fixture.body, keys_of(fixture.body))


def _answered(base: Record, keys: Keys) -> Record:
    """The `response` of a pair or of a Batch API output line: bare, or in an envelope with its status."""
    raw = bytes(keys.get("response", b"null"))
    envelope = keys_of(raw)
    status = 200
    if envelope is not None and "body" in envelope and "choices" not in envelope:
        said = next((value_of(envelope, name) for name in ("status_code", "status") if name in envelope), 200)
        status = said if isinstance(said, int) else 200
        raw = bytes(envelope["body"])
    if raw.startswith(b'"'):
        raw = loads(raw).encode(errors="surrogatepass")
    if status not in _SUCCESS:
        return replace(base, problem=_refused(status, raw))
    if raw in (b"null", b""):
        return replace(base, problem=_unanswered(value_of(keys, "error")))
    return _with_body(base, raw, keys_of(raw))


def _with_body(base: Record, body: bytes, keys: Keys | None) -> Record:
    if keys is None:
        return replace(base, body=body, endpoint="chat" if body[:1] == b"[" else "unknown")
    return replace(base, body=body, endpoint=endpoint_of(keys, body), response_id=text_of(keys, "id"))


def _stream(pieces: list[tuple[Item, Keys]], response_id: str | None) -> Record:
    first, _ = pieces[0]
    body = b"[" + b",".join(item.content for item, _ in pieces) + b"]"
    last, keys = pieces[-1]
    return Record(first.place, first.line, body, endpoint=endpoint_of(keys, last.content), response_id=response_id)


def _refused(status: int, body: bytes) -> CallError:
    """What a recorded status other than 2xx means, in the words that a live call would have found."""
    from logprob_store.errors import StopRunError
    from logprob_store.transport.refusals import error_of_status

    error = error_of_status(status, {}, body)
    error_type = error.reason if isinstance(error, StopRunError) else getattr(error, "error_type", "server_error")
    return problem(str(error), error_type=error_type, status=status)


def _unanswered(error: Any) -> CallError:
    """Why a Batch API line has no response: it expired, was cancelled, or failed in the server."""
    said = error if isinstance(error, dict) else {}
    code = said.get("code")
    known = isinstance(code, str) and code.isascii() and code.isidentifier()
    message = said.get("message", error)
    return problem(
        f"no response: {message if message is not None else 'and no error says why'}",
        error_type=str(code) if known else "no_answer",
    )
