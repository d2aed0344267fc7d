"""An OpenAI client that answers from recorded fixtures, to test code that calls the API offline.

The client is the SDK's own over an httpx2 transport that replays, so the code under test sees what it sees in
production.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, overload

import httpx2
import msgspec
import openai

from logprob_store.errors import FixtureError
from logprob_store.replay.fixtures import Recordings, fixture_line
from logprob_store.replay.matching import miss_error
from logprob_store.request import OPENAI_BASE_URL, PATHS, Answer, canonical_json, make_request, provider_of
from logprob_store.transport.environment import server_of_environment
from logprob_store.transport.kept_headers import RECORDED, kept

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logprob_store.request import Request

Mode = Literal["replay", "record"]

_MODES: Final = ("replay", "record")
_ADVICE: Final = 'Record it once, with a server: `pytest --logprobs-record`, or `ls.replay_client(..., mode="record")`.'
_Call = tuple[str, bytes]  # endpoint and canonical body


class FixtureTransport(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """Answers HTTP requests from recordings; in mode `record`, sends those without a recording and records the answers.

    A request matches a recording of the same endpoint whose whole body is equal. If several samples of a request were
    recorded, equal requests get them in turn.

    A recorded refusal comes back with its status and the headers that say when to try again.

    Args:
        fixtures: a `.jsonl` file or, for replay, also a folder of them.
        mode: `replay` or `record`.
        provider: match only recordings of this provider; in mode `record`, the provider that is recorded.
        refusals: in mode `record`, record refusals (400, 429, 500) as well.

    Raises:
        FixtureError: the mode is misspelt, or the fixtures are missing or damaged.
    """

    def __init__(
        self, fixtures: str | Path, *, mode: Mode = "replay", provider: str | None = None, refusals: bool = False
    ) -> None:
        if mode not in _MODES:
            raise FixtureError(f"mode {mode!r}: use one of {', '.join(_MODES)}")
        self._path = Path(fixtures)
        if mode == "record" and (self._path.is_dir() or self._path.suffix == ".zst"):
            raise FixtureError(f"{fixtures}: mode record adds lines to a plain .jsonl file, so name one")
        self._mode = mode
        self._provider = provider
        self._records_refusals = refusals
        self._keys: defaultdict[_Call, list[str]] = defaultdict(list)  # one key a sample, by sample_index
        self._answered: Counter[_Call] = Counter()
        self._new_answers: dict[str, Answer] = {}
        self._upstream: httpx2.HTTPTransport | None = None
        self._async_upstream: httpx2.AsyncHTTPTransport | None = None
        self._recordings = (
            None if mode == "record" and not self._path.exists() else Recordings(fixtures, advice=_ADVICE)
        )
        for fixture in sorted(self._recordings or (), key=lambda fixture: fixture.sample_index):
            if provider in {None, fixture.provider}:
                self._keys[fixture.endpoint, canonical_json(fixture.request)].append(fixture.key)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a synchronous client."""
        wanted = self._to_request(request, request.read())
        if (recorded := self._recorded_response(wanted)) is not None:
            return recorded
        self._upstream = self._upstream or httpx2.HTTPTransport()
        response = self._upstream.handle_request(request)
        response.read()
        return self._record(wanted, response)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer an asynchronous client."""
        wanted = self._to_request(request, await request.aread())
        if (recorded := self._recorded_response(wanted)) is not None:
            return recorded
        self._async_upstream = self._async_upstream or httpx2.AsyncHTTPTransport()
        response = await self._async_upstream.handle_async_request(request)
        await response.aread()
        return self._record(wanted, response)

    def close(self) -> None:
        """Close the connections to the API, if any were made."""
        if self._upstream is not None:
            self._upstream.close()

    async def aclose(self) -> None:
        """Close the connections to the API, if any were made."""
        if self._async_upstream is not None:
            await self._async_upstream.aclose()

    def _to_request(self, request: httpx2.Request, content: bytes) -> Request:
        path = request.url.path
        # Longer paths first, because "/chat/completions" ends in "/completions" too.
        by_length = sorted(PATHS.items(), key=lambda item: -len(item[1]))
        endpoint = next((name for name, suffix in by_length if path.endswith(suffix)), None)
        if endpoint is None:
            raise FixtureError(f"{request.method} {path}: recordings are of {', '.join(PATHS.values())} only")
        body: Mapping[str, Any] = msgspec.json.decode(content)
        base_url = str(request.url).removesuffix(request.url.query.decode()).rstrip("?")
        provider = self._provider or provider_of(base_url.removesuffix(PATHS[endpoint]))
        sample_index = self._answered[endpoint, canonical_json(body)]
        return make_request(body, endpoint=endpoint, provider=provider, sample_index=sample_index)

    def _recorded_response(self, wanted: Request) -> httpx2.Response | None:
        """The next recorded sample; None in mode `record` if there is none left.

        Raises:
            ReplayMissError: mode `replay` has no recording.
        """
        call = (wanted.endpoint, canonical_json(wanted.body))
        keys = self._keys.get(call, [])
        number = self._answered[call]
        if self._mode == "replay" and not keys:
            assert self._recordings is not None  # noqa: S101  mode replay always has recordings
            raise miss_error(wanted, self._recordings, any_provider=self._provider is None)
        if not keys or (self._mode == "record" and number >= len(keys)):
            return None
        self._answered[call] += 1
        key = keys[number % len(keys)]
        recorded = self._new_answers.get(key) or (self._recordings and self._recordings.get(key))
        assert recorded  # noqa: S101  each key in _keys has a recording
        return httpx2.Response(recorded.status, headers=dict(recorded.headers), content=recorded.body)

    def _record(self, wanted: Request, response: httpx2.Response) -> httpx2.Response:
        """Append a response to the fixtures file; returns it with the headers that a replay has, and no others."""
        headers = kept(response.headers, RECORDED)
        if response.is_success or self._records_refusals:
            now = datetime.now(UTC)
            answer = Answer(wanted, response.status_code, headers, response.content, "api", fetched_at=now)
            line = fixture_line(answer)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a+b") as file:
                file.seek(max(file.tell() - 1, 0))
                unfinished = file.read() not in {b"", b"\n"}
                file.write(b"\n" * unfinished + line + b"\n")
            call = (wanted.endpoint, canonical_json(wanted.body))
            self._keys[call].append(wanted.key)
            self._answered[call] += 1
            self._new_answers[wanted.key] = answer
        return httpx2.Response(response.status_code, headers=headers, content=response.content)


@overload
def replay_client(
    fixtures: str | Path,
    *,
    asynchronous: Literal[False] = False,
    mode: Mode = "replay",
    provider: str | None = None,
    refusals: bool = False,
    base_url: str | None = None,
    api_key: str | None = None,
) -> openai.OpenAI: ...


@overload
def replay_client(
    fixtures: str | Path,
    *,
    asynchronous: Literal[True],
    mode: Mode = "replay",
    provider: str | None = None,
    refusals: bool = False,
    base_url: str | None = None,
    api_key: str | None = None,
) -> openai.AsyncOpenAI: ...


def replay_client(
    fixtures: str | Path,
    *,
    asynchronous: bool = False,
    mode: Mode = "replay",
    provider: str | None = None,
    refusals: bool = False,
    base_url: str | None = None,
    api_key: str | None = None,
) -> openai.OpenAI | openai.AsyncOpenAI:
    """An `OpenAI` (or `AsyncOpenAI`) client that answers from fixtures, without network or API key.

    Args:
        fixtures: a `.jsonl` file or a folder of them, as `logprobs record` or mode `record` writes.
        asynchronous: return an `AsyncOpenAI`.
        mode: `replay` answers only from fixtures; for any other request it raises `ReplayMissError`, which names the
            nearest recording and what differs. `record` sends such requests to the API and appends the answers.
        provider: match, or record under, this provider name.
        refusals: in mode `record`, record refusals as well, to test how your code takes them; a passing one would
            otherwise be replayed for ever.
        base_url: where mode `record` sends requests; if None, to OPENAI_BASE_URL of the environment, as the SDK's own
            client, and else to OpenAI.
        api_key: for mode `record`; if None, a server of the environment and OpenAI get the key of OPENAI_API_KEY, and a
            server of `base_url` gets none.

    Raises:
        FixtureError: the fixtures are missing or damaged, or the mode is misspelt.
        JobError: OPENAI_BASE_URL is no address.

    Example:
        >>> client = replay_client("fixtures/capitals-chat.jsonl")
        >>> client.max_retries
        0
    """
    transport = FixtureTransport(fixtures, mode=mode, provider=provider, refusals=refusals)
    # A text keeps the SDK from looking for OpenAI's key, which is no other server's business.
    key: str | None = (api_key if mode == "record" else None) or "none"
    if mode == "record" and base_url is None:
        base_url, named = server_of_environment()
        key = api_key or named or (None if base_url is None else "none")
    base = base_url or OPENAI_BASE_URL
    if asynchronous:
        return openai.AsyncOpenAI(
            api_key=key, base_url=base, max_retries=0, http_client=httpx2.AsyncClient(transport=transport)
        )
    return openai.OpenAI(api_key=key, base_url=base, max_retries=0, http_client=httpx2.Client(transport=transport))
