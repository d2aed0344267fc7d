"""Requests to a service of the Batch API: its files and its batches, each asked once.

Addresses and authentication are the SDK's. An error is as for a call: `RetryableError` where the same request may
succeed, `StopRunError` where none can. `made_nothing` tells whether an upload or a creation that failed left nothing
behind. The secrets are taken out of all that a service says before it is read.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

import aiohttp
import msgspec
import yarl

from logprob_store.errors import CallError, DiskError, RetryableError
from logprob_store.store.durable_files import FILE_MODE, create_file, sync_folder
from logprob_store.transport.addresses import Addresses
from logprob_store.transport.body_reader import BodyReader
from logprob_store.transport.environment import check_environment
from logprob_store.transport.inflated import Inflater, NotGivenError
from logprob_store.transport.live import certificate_error, connection_error, http_session
from logprob_store.transport.redaction import Redaction
from logprob_store.transport.refusals import error_of_status, one_line
from logprob_store.transport.url_and_key import check_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping
    from pathlib import Path

    from logprob_store.errors import StopRunError

_MOST_BYTES: Final = 1 << 24
_PAGE: Final = 100
_MOST_PAGES: Final = 50
_BLOCK: Final = 1 << 20
_REQUEST_TIMEOUT_S: Final = 120.0
_FILE_TIMEOUT_S: Final = 3600.0
_LONGEST_LINE: Final = 1 << 26
_GZIP: Final = MappingProxyType({"Accept-Encoding": "gzip"})
_OK: Final = range(200, 300)
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_NOT_FOUND: Final = frozenset({404, 410})
_MOST_REDIRECTS: Final = 5
_PURPOSE: Final = "batch"
_MOST_ERRORS: Final = 1000
_REFUSALS: Final = frozenset(range(400, 500)) - {408, 409, 424, 425, 499}
"""Statuses of a request that was refused. The others of 4xx say that it took too long, or that it was made before."""
_LONGEST_ERROR: Final = 300

_ENDS: Final = ("completed_at", "expired_at", "cancelled_at", "failed_at")

METADATA: Final = "logprob_store"
"""The key of a batch's metadata that says which batch of which run it is."""

RUNNING: Final = frozenset({"validating", "in_progress", "finalizing", "cancelling"})
ENDED: Final = frozenset({"completed", "expired", "cancelled", "failed"})


class LineError(NamedTuple):
    """Why a service refused an input file: a code, the line from 1 on where there is one, and words."""

    code: str
    line: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as its service describes it."""

    id: str
    status: str
    input_file_id: str = ""
    output_file_id: str = ""
    error_file_id: str = ""
    total: int = 0
    completed: int = 0
    failed: int = 0
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    expires_at: datetime | None = None
    errors: tuple[LineError, ...] = ()
    tag: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.status in ENDED

    @property
    def error_words(self) -> str:
        """What the service says is wrong with the file, on one line."""
        said = [f"{error.code}: {error.message}" if error.message else error.code for error in self.errors]
        return one_line("; ".join(dict.fromkeys(said)))[:_LONGEST_ERROR]


class BatchClient:
    """Asks a service for its files and batches; make one with `open_client`."""

    def __init__(self, session: aiohttp.ClientSession, addresses: Addresses, *, file_mode: int = FILE_MODE) -> None:
        self._session = session
        self._addresses = addresses
        self._bodies = BodyReader(_MOST_BYTES)
        self._file_mode = file_mode
        self.redaction = Redaction(*addresses.secrets)

    async def check(self) -> None:
        """See that the service has files and batches, and lists them.

        Raises:
            CallError: it does not.
            StopRunError: the service refuses the key, or does not let it list.
        """
        await self._ask("GET", "/files", query={"purpose": _PURPOSE, "limit": "1"})
        await self._ask("GET", "/batches", query={"limit": "1"})

    async def upload(self, path: Path, name: str) -> str:
        """Send an input file under a name; returns its id.

        Raises:
            RetryableError: look with `find_file` before sending it again, unless `made_nothing`.
            CallError: the service refuses it, if `made_nothing`.
            StopRunError: the service refuses the key.
        """
        with path.open("rb") as file:
            form = aiohttp.FormData()
            form.add_field("purpose", _PURPOSE)
            form.add_field("file", file, filename=name, content_type="application/jsonl")
            said = await self._ask("POST", "/files", data=form, timeout_s=_FILE_TIMEOUT_S)
        return _id_of(said) or _raise_unnamed("file")

    async def is_ready(self, file_id: str) -> bool:
        """Whether the service has looked at an input file, and takes it.

        Raises:
            CallError: it does not.
        """
        said = await self._ask("GET", f"/files/{file_id}")
        status = _text(said.get("status")).lower()
        if status in {"error", "failed"}:
            why = one_line(_text(said.get("status_details")))
            raise CallError(f"the service refuses the file: {why}", error_type="invalid_request")
        return status not in {"pending", "running", "notrunning", "uploaded"}

    async def find_file(self, name: str) -> str | None:
        """The id of an input file that was sent under a name; None if there is none."""
        async for item in self._listed("/files", purpose=_PURPOSE):
            if item.get("filename") == name and (file_id := _id_of(item)):
                return file_id
        return None

    async def create(self, file_id: str, *, endpoint: str, window: str, tag: str) -> Batch:
        """Begin a batch.

        Args:
            file_id: of its input file.
            endpoint: the path that its lines ask.
            window: how long the service may take.
            tag: goes into the metadata, by which the batch is found again.

        Raises:
            RetryableError: look with `find_batches` before beginning it again, unless `made_nothing`.
            CallError: the service refuses it, if `made_nothing`.
            StopRunError: the service refuses the key.
        """
        asked = {
            "input_file_id": file_id,
            "endpoint": endpoint,
            "completion_window": window,
            "metadata": {METADATA: tag},
        }
        begun = batch_of(await self._ask("POST", "/batches", json=asked))
        return begun if begun.id else _raise_unnamed("batch")

    async def get(self, batch_id: str) -> Batch:
        """How a batch is now."""
        return batch_of(await self._ask("GET", f"/batches/{batch_id}"), id=batch_id)

    async def find_batches(self, *, tag: str, file_id: str, but: Collection[str] = ()) -> AsyncIterator[Batch]:
        """The batches that the service lists with a tag, or of an input file.

        Args:
            tag: as for `create`.
            file_id: of its input file.
            but: the ids of batches that are not meant.
        """
        async for item in self._listed("/batches"):
            batch = batch_of(item)
            is_meant = batch.tag == tag or (file_id and batch.input_file_id == file_id)
            if batch.id and batch.id not in but and is_meant:
                yield batch

    async def cancel(self, batch_id: str) -> None:
        """Ask the service to end a batch; what it has done by then is kept and billed."""
        await self._ask("POST", f"/batches/{batch_id}/cancel")

    async def download(self, file_id: str, path: Path) -> None:
        """Write a file of the service to a path, inflated and without secrets, durable when this returns.

        Raises:
            RetryableError: it broke off.
            NotGivenError: the service does not find it, or what it sends cannot be read.
            CallError: the service does not give it.
            DiskError: it could not be written.
        """
        address = await self._addresses.of_path(f"/files/{file_id}/content")
        temporary = path.with_name(f".{path.name}.tmp")
        await self._download_from(address.url, {**address.headers, **_GZIP}, address.proxy, temporary)
        try:
            temporary.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            raise DiskError("the answers of a batch", path, error, of_answers=False) from error

    async def _download_from(
        self, url: yarl.URL, headers: Mapping[str, str], proxy: str | None, path: Path, redirects: int = 0
    ) -> None:
        """Download; a redirect is followed, and another host gets no key."""
        timeout = aiohttp.ClientTimeout(total=_FILE_TIMEOUT_S, sock_read=_REQUEST_TIMEOUT_S)
        try:
            async with self._session.get(
                url, headers=headers, proxy=proxy, allow_redirects=False, timeout=timeout
            ) as response:
                if (elsewhere := _elsewhere(response)) is None or redirects == _MOST_REDIRECTS:
                    if response.status not in _OK:
                        raise await self._not_given(response, is_elsewhere=redirects > 0)
                    await self._write_stream(response, path)
                    return
        except aiohttp.ClientConnectorCertificateError as error:
            raise certificate_error(error) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreached(error) from error
        sent = headers if elsewhere.origin() == url.origin() else _GZIP
        await self._download_from(elsewhere, sent, proxy, path, redirects + 1)

    async def _not_given(self, response: aiohttp.ClientResponse, *, is_elsewhere: bool) -> Exception:
        """The error of a file that does not come; what a store of files says repeats the signature of its address."""
        if is_elsewhere and response.status in _REFUSALS:
            return NotGivenError(f"HTTP {response.status} from {response.url.host}, where the service keeps its files")
        error = await self._error(response)
        return NotGivenError(str(error), status=response.status) if response.status in _NOT_FOUND else error

    async def _write_stream(self, response: aiohttp.ClientResponse, path: Path) -> None:
        """Write a body to a file, inflated, line by line without secrets."""
        inflater = Inflater(response.headers.get("content-encoding", ""))
        lines = WholeLines(self.redaction)
        try:
            file = create_file(path, mode=self._file_mode)
        except OSError as error:
            raise DiskError("the answers of a batch", path, error, of_answers=False) from error
        try:
            async for block in response.content.iter_chunked(_BLOCK):
                for piece in inflater.feed(block):
                    await asyncio.to_thread(_write, file, lines.feed(piece), path)
            for piece in inflater.finish():
                await asyncio.to_thread(_write, file, lines.feed(piece), path)
            await asyncio.to_thread(_write, file, lines.finish(), path)
            await asyncio.to_thread(_sync, file, path)
        finally:
            os.close(file)

    async def _listed(self, path: str, **query: str) -> AsyncIterator[dict[str, Any]]:
        """The items of a list, page by page, the newest first."""
        after, place = "", "after"
        for _ in range(_MOST_PAGES):
            asked = {"limit": str(_PAGE), **query} | ({place: after} if after else {})
            said = await self._ask("GET", path, query=asked)
            items = [item for item in said.get("data") or () if isinstance(item, dict)]
            for item in items:
                yield item
            paging = said.get("paging")
            cursor = paging.get("next_cursor") if isinstance(paging, dict) else None  # Groq's
            if not items or not (said.get("has_more") or cursor):
                return
            place = "cursor" if cursor else "after"
            after = str(cursor or said.get("last_id") or items[-1].get("id"))

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] = MappingProxyType({}),
        timeout_s: float = _REQUEST_TIMEOUT_S,
        **content: Any,
    ) -> dict[str, Any]:
        address = await self._addresses.of_path(path)
        url = address.url.update_query(query) if query else address.url
        headers = {name: value for name, value in address.headers.items() if name.lower() != "content-type"}
        try:
            async with self._session.request(
                method,
                url,
                headers=headers,
                proxy=address.proxy,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
                **content,
            ) as response:
                if response.status not in _OK:
                    raise await self._error(response)
                body = self.redaction.refusal(await self._bodies.read(response))
        except aiohttp.ClientConnectorCertificateError as error:
            raise certificate_error(error) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreached(error) from error
        try:
            said = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            said = None
        if isinstance(said, list):  # some gateways list so
            said = {"data": said}
        if not isinstance(said, dict):
            raise RetryableError(
                f"{method} {path} was answered with what is no JSON object",
                error_type="malformed_answer",
                maybe_billed=True,
            )
        return said

    async def _error(self, response: aiohttp.ClientResponse) -> Exception:
        body = self.redaction.refusal(await self._bodies.read(response))
        return error_of_status(response.status, response.headers, body, redact=self.redaction.text)

    def _unreached(self, error: Exception) -> RetryableError:
        if isinstance(error, TimeoutError):
            return RetryableError("the service did not answer in time", error_type="timeout", maybe_billed=True)
        return connection_error(error, self.redaction.text)


@asynccontextmanager
async def open_client(
    *,
    base_url: str | None,
    api_key: str | None,
    azure_api_version: str | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
    query: Mapping[str, str] = MappingProxyType({}),
    file_mode: int = FILE_MODE,
) -> AsyncIterator[BatchClient]:
    """A client of the service at a base URL, for as long as the context lasts; the arguments are as for calls.

    Raises:
        JobError: as `live_transport`.
    """
    check_url(base_url)
    check_environment(base_url)
    addresses = Addresses(
        base_url=base_url, api_key=api_key, azure_api_version=azure_api_version, headers=headers, query=query
    )
    async with http_session(base_url, addresses, concurrency=8, timeout_s=_FILE_TIMEOUT_S) as session:
        yield BatchClient(session, addresses, file_mode=file_mode)


def made_nothing(error: CallError | StopRunError) -> bool:
    """Whether an upload or a creation surely made nothing: it was not sent, or a status says that it is refused.

    A gateway answers 504 when the service behind it has long begun; so do other errors of servers, redirects, and
    answers that nobody can read.

    >>> made_nothing(CallError("", error_type="invalid_request", status=400))
    True
    >>> made_nothing(RetryableError("", error_type="server_error", status=504))
    False
    """
    return not error.maybe_billed if error.status is None else error.status in _REFUSALS


def _raise_unnamed(what: str) -> NoReturn:
    raise RetryableError(
        f"the service answered with a {what} that has no id", error_type="malformed_answer", maybe_billed=True
    )


def batch_of(said: Mapping[str, Any], *, id: str = "") -> Batch:  # noqa: A002  as the service calls it
    """A batch as a service describes it: OpenAI's words, also in capitals, with one L, or as texts and not numbers.

    Args:
        said: the service's description.
        id: for one without an id; it is empty if this is too.

    >>> batch = batch_of({"id": "b", "status": "completed", "output_file_id": "f", "request_counts": {"completed": 2}})
    >>> batch.output_file_id, batch.completed, batch.has_ended
    ('f', 2, True)
    """
    counts = said.get("request_counts")
    counts = counts if isinstance(counts, dict) else {}
    metadata = said.get("metadata")
    errors = said.get("errors") or said.get("error")
    listed = errors.get("data", [errors]) if isinstance(errors, dict) else errors
    return Batch(
        _id_of(said) or id,
        str(said.get("status") or "").lower().replace("canceled", "cancelled").replace("canceling", "cancelling"),
        input_file_id=_text(said.get("input_file_id")),
        output_file_id=_text(said.get("output_file_id")),
        error_file_id=_text(said.get("error_file_id")),
        total=_count(counts.get("total")),
        completed=_count(counts.get("completed")),
        failed=_count(counts.get("failed")),
        created_at=_time(said.get("created_at")),
        started_at=_time(said.get("in_progress_at")),
        ended_at=next((at for name in _ENDS if (at := _time(said.get(name))) is not None), None),
        expires_at=_time(said.get("expires_at")),
        errors=tuple(_line_errors(listed)),
        tag=_text(metadata.get(METADATA)) if isinstance(metadata, dict) else "",
    )


def _text(said: Any) -> str:
    """A text; what is none, such as the empty object that stands for no file at Groq, is empty."""
    return said if isinstance(said, str) else ""


def _line_errors(listed: Any) -> list[LineError]:
    if isinstance(listed, str):
        return [LineError("", None, listed)]
    items = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    return [
        LineError(str(item.get("code") or ""), _line_number(item.get("line")), str(item.get("message") or ""))
        for item in items[:_MOST_ERRORS]
    ]


def _line_number(said: Any) -> int | None:
    return said if isinstance(said, int) and not isinstance(said, bool) and said > 0 else None


def _id_of(said: Mapping[str, Any]) -> str:
    return _text(said.get("id"))


def _count(said: Any) -> int:
    return said if isinstance(said, int) and not isinstance(said, bool) and said > 0 else 0


def _time(said: Any) -> datetime | None:
    try:
        if isinstance(said, str) and not said.isdecimal():
            told = datetime.fromisoformat(said)
            return told if told.tzinfo is not None else told.replace(tzinfo=UTC)
        return datetime.fromtimestamp(float(said), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _elsewhere(response: aiohttp.ClientResponse) -> yarl.URL | None:
    """Where a redirect leads to; None for what is none, or leads to what is no address."""
    location = response.headers.get("location")
    if response.status not in _REDIRECTS or not location:
        return None
    try:
        url = response.url.join(yarl.URL(location))
    except ValueError:
        return None
    return url if url.scheme in {"http", "https"} and url.host else None


class WholeLines:
    """Pieces of a file as whole lines, without secrets: one that is cut in two would not be found."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._rest = b""

    def feed(self, piece: bytes) -> bytes:
        """The lines that end within a piece; what is too long for one is no line."""
        content = self._rest + piece
        end = content.rfind(b"\n") + 1
        if not end and len(content) > _LONGEST_LINE:
            end = len(content)
        self._rest = content[end:]
        return self._redaction.answer(content[:end])

    def finish(self) -> bytes:
        """The last line."""
        return self._redaction.answer(self._rest)


def _write(file: int, content: bytes, path: Path) -> None:
    try:
        while content:
            content = content[os.write(file, content) :]
    except OSError as error:
        raise DiskError("the answers of a batch", path, error, of_answers=False) from error


def _sync(file: int, path: Path) -> None:
    try:
        os.fsync(file)
    except OSError as error:
        raise DiskError("the answers of a batch", path, error, of_answers=False) from error
