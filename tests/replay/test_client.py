"""Clients that answer from fixtures: the SDK's own, offline, with recorded answers only."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai.types.chat import ChatCompletion
from replay.recording import capital_body, capital_request, write_recordings

import logprob_store as ls
from logprob_store.errors import FixtureError, ReplayMissError
from logprob_store.replay.fixtures import Recordings

if TYPE_CHECKING:
    from collections.abc import Iterator


CAPITALS = Path(__file__).parents[2] / "fixtures" / "capitals-chat.jsonl"


@pytest.fixture
def asked() -> dict[str, Any]:
    """The request of the first recording of the capitals."""
    return dict(next(iter(Recordings(CAPITALS))).request)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A fixtures file in a folder that does not exist yet."""
    return tmp_path / "made" / "f.jsonl"


@pytest.fixture
def recording(path: Path, fault_server: Any) -> Iterator[openai.OpenAI]:
    """A client that records from the fault server into `path`."""
    with ls.replay_client(path, mode="record", base_url=fault_server.url, api_key="sk-test") as client:
        yield client


def test_a_synchronous_client(asked: dict[str, Any]) -> None:
    """It returns the SDK's own objects, with logprobs."""
    with ls.replay_client(CAPITALS) as client:
        answer = client.chat.completions.create(**asked)

    recorded = json.loads(next(iter(Recordings(CAPITALS))).body)["choices"][0]
    assert isinstance(answer, ChatCompletion)
    assert answer.choices[0].message.content == recorded["message"]["content"]
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [token.logprob for token in logprobs.content] == [
        token["logprob"] for token in recorded["logprobs"]["content"]
    ]


def test_an_asynchronous_client(asked: dict[str, Any]) -> None:
    """The same holds for `AsyncOpenAI`."""

    async def main() -> ChatCompletion:
        async with ls.replay_client(CAPITALS, asynchronous=True) as client:
            answer = await client.chat.completions.create(**asked)
            assert isinstance(answer, ChatCompletion)
            return answer

    assert asyncio.run(main()).object == "chat.completion"


def test_names_in_another_order_match(asked: dict[str, Any]) -> None:
    """The order of the body's names does not matter."""
    with ls.replay_client(CAPITALS) as client:
        client.chat.completions.create(**{**dict(reversed(asked.items())), "temperature": 0.0})


def test_a_miss_comes_out_unwrapped(asked: dict[str, Any]) -> None:
    """The caller gets ReplayMissError, not APIConnectionError; the provider does not count as a difference."""
    with (
        ls.replay_client(CAPITALS) as client,
        pytest.raises(ReplayMissError, match=r"temperature: asked 0\.7, recorded 0") as caught,
    ):
        client.chat.completions.create(**{**asked, "temperature": 0.7})

    assert caught.value.differences == ["temperature: asked 0.7, recorded 0"]


def test_a_miss_of_an_asynchronous_client(asked: dict[str, Any]) -> None:
    """The same holds for `AsyncOpenAI`."""

    async def main() -> None:
        async with ls.replay_client(CAPITALS, asynchronous=True) as client:
            await client.chat.completions.create(**{**asked, "seed": 1})

    with pytest.raises(ReplayMissError, match="seed: asked 1, recorded nothing"):
        asyncio.run(main())


def test_recordings_of_another_provider_do_not_match(asked: dict[str, Any]) -> None:
    """If a provider is given, only its recordings answer."""
    with ls.replay_client(CAPITALS, provider="other") as client, pytest.raises(ReplayMissError, match="provider"):
        client.chat.completions.create(**asked)


def test_an_endpoint_that_is_not_recorded() -> None:
    """A request to another endpoint is an error of its own, not a miss."""
    with ls.replay_client(CAPITALS) as client, pytest.raises(FixtureError, match="/v1/models: recordings are of"):
        client.models.list()


def test_samples_come_in_turn(path: Path) -> None:
    """Equal requests get the recorded samples in order, then from the first again."""
    calls = [
        (capital_request(sample_index=index), json.dumps({"id": f"sample {index}", "choices": []}).encode())
        for index in (1, 0)
    ]
    write_recordings(path, *calls)

    with ls.replay_client(path) as client:
        ids = [client.chat.completions.create(**capital_body()).id for _ in range(3)]

    assert ids == ["sample 0", "sample 1", "sample 0"]


def test_recorded_once_it_replays_with_the_server_gone(path: Path, fault_server: Any, recording: openai.OpenAI) -> None:
    """The first call asks the server and appends a line; later ones need neither server nor key."""
    first = recording.chat.completions.create(**capital_body())
    with ls.replay_client(path, mode="record", base_url=fault_server.url, api_key="sk-test") as again:
        second = again.chat.completions.create(**capital_body())
    fault_server.stop()
    with ls.replay_client(path) as client:
        third = client.chat.completions.create(**capital_body())

    assert len(fault_server.calls) == 1
    assert path.read_bytes().count(b"\n") == 1
    assert first == second == third
    assert b"sk-test" not in path.read_bytes()


def test_recording_asynchronously(path: Path, fault_server: Any) -> None:
    """The same holds for `AsyncOpenAI`."""

    async def main() -> None:
        async with ls.replay_client(
            path, asynchronous=True, mode="record", base_url=fault_server.url, api_key="sk-test"
        ) as client:
            await client.chat.completions.create(**capital_body())

    asyncio.run(main())

    assert len(Recordings(path)) == len(fault_server.calls) == 1


def test_equal_requests_are_recorded_as_samples(path: Path, fault_server: Any, recording: openai.OpenAI) -> None:
    """Two equal calls of one client are two samples, not one answer twice."""
    recording.chat.completions.create(**capital_body())
    recording.chat.completions.create(**capital_body())

    assert len(fault_server.calls) == 2
    assert [fixture.sample_index for fixture in Recordings(path)] == [0, 1]


def test_refusals_are_recorded_when_asked_for(path: Path, fault_server: Any) -> None:
    """Code that tries again gets, offline, the refusal with its headers and then the answer."""
    fault_server.script("429:retry-after=7, ok")
    with ls.replay_client(path, mode="record", refusals=True, base_url=fault_server.url, api_key="sk-test") as client:
        with pytest.raises(openai.RateLimitError) as recorded:
            client.chat.completions.create(**capital_body())
        client.chat.completions.create(**capital_body())
    with ls.replay_client(path) as client:
        with pytest.raises(openai.RateLimitError) as replayed:
            client.chat.completions.create(**capital_body())
        answer = client.chat.completions.create(**capital_body())

    assert isinstance(answer, ChatCompletion)
    assert replayed.value.body == recorded.value.body
    for error in (recorded, replayed):
        assert (error.value.response.status_code, error.value.response.headers["retry-after"]) == (429, "7")


def test_an_error_is_not_recorded(path: Path, fault_server: Any, recording: openai.OpenAI) -> None:
    """The code under test gets the SDK's error, and nothing is written."""
    fault_server.script("429")

    with pytest.raises(openai.RateLimitError):
        recording.chat.completions.create(**capital_body())

    assert not path.exists()


def test_a_line_is_added_below_an_unfinished_one(path: Path, fault_server: Any) -> None:
    """If the last line of the file has no line end, the new line does not run into it."""
    write_recordings(path, (capital_request(model="other"), b"{}"))
    path.write_bytes(path.read_bytes().rstrip(b"\n"))

    with ls.replay_client(path, mode="record", base_url=fault_server.url, api_key="sk-test") as client:
        client.chat.completions.create(**capital_body())

    assert [fixture.request["model"] for fixture in Recordings(path)] == ["other", "m"]


def test_a_streamed_answer_replays(path: Path) -> None:
    """Server-sent events are recorded as text and stream again."""
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    events = [
        {**chunk, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
        for text in ("Hel", "lo")
    ]
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    write_recordings(path, (capital_request(stream=True), text.encode()), content_type="text/event-stream")

    with ls.replay_client(path) as client:
        stream = client.chat.completions.create(**capital_body(stream=True))
        texts = [event.choices[0].delta.content for event in stream]

    assert texts == ["Hel", "lo"]


@pytest.mark.parametrize("mode", ["Record", "none", "", "once"])
def test_a_misspelt_mode(mode: Any) -> None:
    """The error comes at once and lists the modes."""
    with pytest.raises(FixtureError, match="use one of replay, record"):
        ls.replay_client(CAPITALS, mode=mode)


@pytest.mark.parametrize("name", ["folder", "f.jsonl.zst"])
def test_recording_needs_a_plain_file(tmp_path: Path, name: str) -> None:
    """Lines cannot be added to a folder or a compressed file."""
    (tmp_path / "folder").mkdir()

    with pytest.raises(FixtureError, match="so name one"):
        ls.replay_client(tmp_path / name, mode="record", api_key="sk-test")


def test_no_fixtures() -> None:
    """A missing file is an error when the client is made, not at the first call."""
    with pytest.raises(FixtureError, match=r"no fixtures at nowhere\.jsonl"):
        ls.replay_client("nowhere.jsonl")


def test_the_advice_is_for_a_test(tmp_path: Path, asked: dict[str, Any]) -> None:
    """In a test there is no job to record: no fixtures, and no recording of a request."""
    said = r"Record it once, with a server: `pytest --logprobs-record`"
    with pytest.raises(FixtureError, match=said):
        ls.replay_client(tmp_path / "none.jsonl")
    with ls.replay_client(CAPITALS) as client, pytest.raises(ReplayMissError, match=said):
        client.chat.completions.create(**{**asked, "temperature": 0.7})


def test_a_server_of_one_s_own_gets_no_key_of_openai(
    path: Path, fault_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recording from it needs no key, and sends none of the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")

    with ls.replay_client(path, mode="record", base_url=fault_server.url) as client:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}], logprobs=True)

    assert [call.headers["authorization"] for call in fault_server.calls] == ["Bearer none"]
