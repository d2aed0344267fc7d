"""Replay answers from recordings only; the error of a miss names the nearest recording and what differs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from replay.recording import capital_request, write_recordings

from logprob_store.errors import ReplayMissError
from logprob_store.replay.matching import ReplayTransport

if TYPE_CHECKING:
    from pathlib import Path

    from logprob_store.replay.fixtures import Recordings
    from logprob_store.request import Answer, Request


@pytest.fixture
def recordings(tmp_path: Path) -> Recordings:
    """A recording of `capital_request()`, and one of a request with several differences from it."""
    other = capital_request("Something else", top_p=0.5, seed=1)
    return write_recordings(tmp_path / "f.jsonl", (capital_request(), b'{"v":1}'), (other, b'{"v":2}'))


def replay(recordings: Recordings, request: Request) -> Answer:
    """The answer that the replay transport gives."""

    async def main() -> Answer:
        return await ReplayTransport(recordings.path)(request)

    return asyncio.run(main())


def test_a_recorded_request_is_answered(recordings: Recordings) -> None:
    """The answer has the bytes, status and headers that were recorded, without network (tests have none)."""
    answer = replay(recordings, capital_request())

    assert (answer.body, answer.status, answer.source) == (b'{"v":1}', 200, "fixture")
    assert answer.headers == {"content-type": "application/json"}
    assert answer.request == capital_request()


def test_equal_numbers_match(recordings: Recordings) -> None:
    """0.0 matches the recorded 0."""
    assert replay(recordings, capital_request(temperature=0.0)).body == b'{"v":1}'


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
    recordings: Recordings, changes: dict[str, Any], expected: list[str]
) -> None:
    """The error names the recording with the fewest differences, and for each the requested and the recorded value."""
    with pytest.raises(ReplayMissError) as caught:
        replay(recordings, capital_request(**changes))

    assert caught.value.differences == expected
    assert f"nearest {capital_request().key[:12]}" in str(caught.value)
    assert str(recordings.path) in str(caught.value)


def test_a_long_text_shows_the_place_of_the_change(tmp_path: Path) -> None:
    """Of two long prompts the error shows the part around the first difference, not their common beginning."""
    start = "word " * 200
    recordings = write_recordings(tmp_path / "f.jsonl", (capital_request(start + "old end"), b"{}"))

    with pytest.raises(ReplayMissError) as caught:
        replay(recordings, capital_request(start + "new end"))

    (difference,) = caught.value.differences
    assert "word new end" in difference
    assert "word old end" in difference
    assert len(difference) < 200


def test_many_differences_are_counted(recordings: Recordings) -> None:
    """Four differences are shown, the others are counted."""
    with pytest.raises(ReplayMissError) as caught:
        replay(recordings, capital_request(a=1, b=2, c=3, d=4, e=5, f=6))

    assert len(caught.value.differences) == 5
    assert caught.value.differences[-1] == "and 2 more"


def test_another_endpoint_has_no_nearest(recordings: Recordings) -> None:
    """Recordings of another endpoint are not compared."""
    with pytest.raises(ReplayMissError, match="there is none for this endpoint"):
        replay(recordings, capital_request(endpoint="completions"))
