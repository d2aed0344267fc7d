"""Replay: recorded answers and nothing else; a miss says what is nearest and where it differs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from logprob_store.errors import ReplayMissError
from logprob_store.replay.fixtures import Recordings, write_fixtures
from logprob_store.replay.matching import replay_transport
from logprob_store.request import Answer, Request, make_request

if TYPE_CHECKING:
    from pathlib import Path


def _chat(text: str = "The capital of France is", **changes: Any) -> Request:
    settings = {name: changes.pop(name) for name in ("provider", "sample_index", "endpoint") if name in changes}
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "temperature": 0, **changes}
    return make_request(body, **{"endpoint": "chat", "provider": "p", **settings})


@pytest.fixture
def recorded(tmp_path: Path) -> Recordings:
    """One recording of `_chat()`, and an unlike one."""
    answers = [
        Answer(_chat(), 200, {"content-type": "application/json"}, b'{"v":1}', "api"),
        Answer(_chat("Something else", top_p=0.5, seed=1), 200, {}, b'{"v":2}', "api"),
    ]
    write_fixtures(tmp_path / "f.jsonl", answers)
    return Recordings(tmp_path / "f.jsonl")


def _replay(recorded: Recordings, request: Request) -> Answer:
    async def main() -> Answer:
        return await replay_transport(recorded)(request)

    return asyncio.run(main())


def test_a_recorded_request_is_answered(recorded: Recordings) -> None:
    """With the bytes, status and headers that were recorded, and no network (the tests have none)."""
    answer = _replay(recorded, _chat())

    assert (answer.body, answer.status, answer.source) == (b'{"v":1}', 200, "fixture")
    assert answer.headers == {"content-type": "application/json"}
    assert answer.request == _chat()


def test_spelling_does_not_matter(recorded: Recordings) -> None:
    """0.0 matches the recorded 0."""
    assert _replay(recorded, _chat(temperature=0.0)).body == b'{"v":1}'


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"temperature": 0.7}, ["temperature: asked 0.7, recorded 0"]),
        ({"temperature": False}, ["temperature: asked False, recorded 0"]),
        ({"seed": 7}, ["seed: asked 7, recorded nothing"]),
        ({"model": "other"}, ["model: asked 'other', recorded 'm'"]),
        ({"sample_index": 1}, ["sample_index: asked 1, recorded 0"]),
        ({"provider": "q"}, ["provider: asked 'q', recorded 'p'"]),
        ({"text": "The capital of Spain is"},
         ["messages[0].content: asked 'The capital of Spain is', recorded 'The capital of France is'"]),
    ],
    ids=str,
)  # fmt: skip
def test_a_miss_names_the_nearest_and_what_differs(
    recorded: Recordings, changes: dict[str, Any], expected: list[str]
) -> None:
    """The recording with the fewest differences, each with what was asked and what was recorded."""
    with pytest.raises(ReplayMissError) as caught:
        _replay(recorded, _chat(**changes))

    assert caught.value.differences == expected
    assert f"nearest {_chat().key[:12]}" in str(caught.value)
    assert str(recorded.path) in str(caught.value)


def test_a_long_text_shows_the_place_of_the_change(tmp_path: Path) -> None:
    """Of two long prompts the part around the first difference is shown, not their common beginning."""
    start = "word " * 200
    write_fixtures(tmp_path / "f.jsonl", [Answer(_chat(start + "old end"), 200, {}, b"{}", "api")])

    with pytest.raises(ReplayMissError) as caught:
        _replay(Recordings(tmp_path / "f.jsonl"), _chat(start + "new end"))

    (difference,) = caught.value.differences
    assert "word new end" in difference
    assert "word old end" in difference
    assert len(difference) < 200


def test_many_differences_are_counted(recorded: Recordings) -> None:
    """Four are shown, the rest is counted."""
    with pytest.raises(ReplayMissError) as caught:
        _replay(recorded, _chat(a=1, b=2, c=3, d=4, e=5, f=6))

    assert len(caught.value.differences) == 5
    assert caught.value.differences[-1] == "and 2 more"


def test_another_endpoint_has_no_nearest(recorded: Recordings) -> None:
    """Recordings of another endpoint are no comparison."""
    with pytest.raises(ReplayMissError, match="there is none for this endpoint"):
        _replay(recorded, _chat(endpoint="completions"))
