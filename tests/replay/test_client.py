"""Clients that answer from fixtures: the SDK's own, offline, and never anything that was not recorded."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai.types.chat import ChatCompletion

import logprob_store as ls
from logprob_store.errors import FixtureError, ReplayMissError
from logprob_store.replay.fixtures import Recordings, write_fixtures
from logprob_store.request import Answer, make_request

if TYPE_CHECKING:
    from collections.abc import Iterator

CAPITALS = Path(__file__).parents[2] / "fixtures" / "capitals-chat.jsonl"


@pytest.fixture
def asked() -> dict[str, Any]:
    """What was asked in the first recording of the capitals."""
    return dict(next(iter(Recordings(CAPITALS))).request)


def _body() -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "logprobs": True, "top_logprobs": 2}


@pytest.fixture
def recording(tmp_path: Path, fault_server: Any) -> Iterator[openai.OpenAI]:
    """A client that records from the fault server."""
    path = tmp_path / "made" / "f.jsonl"
    with ls.replay_client(path, mode="record", base_url=fault_server.url, api_key="sk-test") as client:
        yield client


def test_a_synchronous_client(asked: dict[str, Any]) -> None:
    """Gives the SDK's own objects, logprobs and all."""
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
    """The same for `AsyncOpenAI`."""

    async def main() -> ChatCompletion:
        async with ls.replay_client(CAPITALS, asynchronous=True) as client:
            answer = await client.chat.completions.create(**asked)
            assert isinstance(answer, ChatCompletion)
            return answer

    assert asyncio.run(main()).object == "chat.completion"


def test_names_in_another_order_match(asked: dict[str, Any]) -> None:
    """The whole body is what matches, not its spelling."""
    with ls.replay_client(CAPITALS) as client:
        client.chat.completions.create(**{**dict(reversed(asked.items())), "temperature": 0.0})


def test_a_miss_comes_out_unwrapped(asked: dict[str, Any]) -> None:
    """The caller sees what differs, not an APIConnectionError; where it would have been sent is no difference."""
    with (
        ls.replay_client(CAPITALS) as client,
        pytest.raises(ReplayMissError, match=r"temperature: asked 0\.7, recorded 0") as caught,
    ):
        client.chat.completions.create(**{**asked, "temperature": 0.7})

    assert caught.value.differences == ["temperature: asked 0.7, recorded 0"]


def test_a_miss_of_an_asynchronous_client(asked: dict[str, Any]) -> None:
    """The same for `AsyncOpenAI`."""

    async def main() -> None:
        async with ls.replay_client(CAPITALS, asynchronous=True) as client:
            await client.chat.completions.create(**{**asked, "seed": 1})

    with pytest.raises(ReplayMissError, match="seed: asked 1, recorded nothing"):
        asyncio.run(main())


def test_another_provider_s_recordings_do_not_match(asked: dict[str, Any]) -> None:
    """With a provider named, only its recordings answer."""
    with ls.replay_client(CAPITALS, provider="other") as client, pytest.raises(ReplayMissError, match="provider"):
        client.chat.completions.create(**asked)


def test_an_endpoint_that_is_not_recorded() -> None:
    """Embeddings and the like are told apart from a miss."""
    with ls.replay_client(CAPITALS) as client, pytest.raises(FixtureError, match="/v1/models: recordings are of"):
        client.models.list()


def test_samples_come_in_turn(tmp_path: Path) -> None:
    """Equal requests get the recorded samples one after the other, then from the first again."""
    answers = [
        Answer(
            make_request(_body(), endpoint="chat", provider="p", sample_index=index),
            200,
            {"content-type": "application/json"},
            json.dumps({"id": f"sample {index}", "choices": []}).encode(),
            "api",
        )
        for index in (1, 0)
    ]
    write_fixtures(tmp_path / "f.jsonl", answers)

    with ls.replay_client(tmp_path / "f.jsonl") as client:
        ids = [client.chat.completions.create(**_body()).id for _ in range(3)]

    assert ids == ["sample 0", "sample 1", "sample 0"]


def test_recorded_once_it_replays_with_the_server_gone(
    tmp_path: Path, fault_server: Any, recording: openai.OpenAI
) -> None:
    """The first run asks and appends a line; later ones need neither server nor key."""
    first = recording.chat.completions.create(**_body())
    with ls.replay_client(
        tmp_path / "made" / "f.jsonl", mode="record", base_url=fault_server.url, api_key="sk-test"
    ) as again:
        second = again.chat.completions.create(**_body())
    fault_server.stop()
    with ls.replay_client(tmp_path / "made" / "f.jsonl") as client:
        third = client.chat.completions.create(**_body())

    assert len(fault_server.calls) == 1
    assert (tmp_path / "made" / "f.jsonl").read_bytes().count(b"\n") == 1
    assert first == second == third
    assert b"sk-test" not in (tmp_path / "made" / "f.jsonl").read_bytes()


def test_recording_asynchronously(tmp_path: Path, fault_server: Any) -> None:
    """The same for `AsyncOpenAI`."""

    async def main() -> None:
        path = tmp_path / "f.jsonl"
        async with ls.replay_client(
            path, asynchronous=True, mode="record", base_url=fault_server.url, api_key="sk-test"
        ) as client:
            await client.chat.completions.create(**_body())

    asyncio.run(main())

    assert len(Recordings(tmp_path / "f.jsonl")) == len(fault_server.calls) == 1


def test_equal_requests_are_recorded_as_samples(tmp_path: Path, fault_server: Any, recording: openai.OpenAI) -> None:
    """Two equal calls in one session are two samples, not one answer twice."""
    recording.chat.completions.create(**_body())
    recording.chat.completions.create(**_body())

    assert len(fault_server.calls) == 2
    assert [fixture.sample_index for fixture in Recordings(tmp_path / "made" / "f.jsonl")] == [0, 1]


def test_an_error_is_not_recorded(tmp_path: Path, fault_server: Any, recording: openai.OpenAI) -> None:
    """The code under test sees the SDK's error; the fixtures do not."""
    fault_server.script("429")

    with pytest.raises(openai.RateLimitError):
        recording.chat.completions.create(**_body())

    assert not (tmp_path / "made" / "f.jsonl").exists()


def test_a_line_is_added_below_an_unfinished_one(tmp_path: Path, fault_server: Any) -> None:
    """A file whose last line lacks its end is not spoilt."""
    path = tmp_path / "f.jsonl"
    other = make_request({"model": "other", "messages": []}, endpoint="chat", provider="p")
    write_fixtures(path, [Answer(other, 200, {}, b"{}", "api")])
    path.write_bytes(path.read_bytes().rstrip(b"\n"))

    with ls.replay_client(path, mode="record", base_url=fault_server.url, api_key="sk-test") as client:
        client.chat.completions.create(**_body())

    assert [fixture.request["model"] for fixture in Recordings(path)] == ["other", "m"]


def test_a_streamed_answer_replays(tmp_path: Path) -> None:
    """Server-sent events are kept as text and stream again."""
    body = {**_body(), "stream": True}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    events = [
        {**chunk, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
        for text in ("Hel", "lo")
    ]
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    request = make_request(body, endpoint="chat", provider="p")
    answer = Answer(request, 200, {"content-type": "text/event-stream"}, text.encode(), "api")
    write_fixtures(tmp_path / "f.jsonl", [answer])

    with ls.replay_client(tmp_path / "f.jsonl") as client:
        stream = client.chat.completions.create(**body)
        said = [event.choices[0].delta.content for event in stream]

    assert said == ["Hel", "lo"]


@pytest.mark.parametrize("mode", ["Record", "none", "", "once"])
def test_a_misspelt_mode(mode: Any) -> None:
    """Fails at once, and says which there are."""
    with pytest.raises(FixtureError, match="use one of replay, record"):
        ls.replay_client(CAPITALS, mode=mode)


@pytest.mark.parametrize("name", ["folder", "f.jsonl.zst"])
def test_recording_needs_a_plain_file(tmp_path: Path, name: str) -> None:
    """Lines cannot be added to a folder or a compressed file."""
    (tmp_path / "folder").mkdir()

    with pytest.raises(FixtureError, match="so name one"):
        ls.replay_client(tmp_path / name, mode="record", api_key="sk-test")


def test_no_fixtures() -> None:
    """A missing file is told when the client is made, not at the first call."""
    with pytest.raises(FixtureError, match=r"no fixtures at nowhere\.jsonl"):
        ls.replay_client("nowhere.jsonl")
