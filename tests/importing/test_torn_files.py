"""Torn files with many calls in one object: those before and after the tear are answers, and the tear is one row."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest
import yaml
from importing.recorded import input_line, jsonl, output_line, recorded_body, recorded_chunks, recorded_request
from importing.test_readers import URL, cassette

from logprob_store.errors import InputError


def har(*numbers: int) -> dict[str, Any]:
    """A HAR file with a call that is none to a model before those with these numbers."""
    entries = [
        {
            "startedDateTime": "2025-01-01T00:00:00Z",
            "time": 1,
            "request": {"method": "POST", "url": URL, "postData": {"text": json.dumps(recorded_request(n))}},
            "response": {"status": 200, "content": {"text": json.dumps(recorded_body(n))}},
        }
        for n in numbers
    ]
    page = {"startedDateTime": "2025-01-01T00:00:00Z", "id": "p", "title": "x", "pageTimings": {}}
    other = {"startedDateTime": "2025-01-01T00:00:00Z", "request": {"url": "http://x/a.png"}, "response": {}}
    return {"log": {"version": "1.2", "creator": {"name": "x"}, "pages": [page], "entries": [other, *entries]}}


def vcr(*numbers: int) -> dict[str, Any]:
    """A cassette of these calls."""
    return cassette(*((json.dumps(recorded_request(n)), {"string": json.dumps(recorded_body(n))}) for n in numbers))


def inspect(*numbers: int) -> dict[str, Any]:
    """A log of Inspect with these samples."""
    choices = [recorded_body(n)["choices"] for n in numbers]
    samples = [
        {"id": n, "epoch": 1, "input": [{"id": "m", "role": "user", "content": "q"}], "output": {"choices": choices[n]}}
        for n in numbers
    ]
    return {"version": 2, "status": "success", "eval": {"task": "t", "config": {}}, "samples": samples}


def page(*numbers: int) -> dict[str, Any]:
    """A page of stored completions."""
    return {"object": "list", "data": [recorded_body(n) for n in numbers], "has_more": False}


FILES = {"har": har, "cassette": vcr, "inspect": inspect, "page": page}


@pytest.mark.parametrize("indent", [None, 1], ids=["one line", "indented"])
@pytest.mark.parametrize("made", FILES.values(), ids=FILES)
def test_a_torn_file_of_many_calls(importing: Any, made: Any, indent: int | None) -> None:
    """Cut off at the end, or damaged in the middle, it loses one call, and a failure names the line."""
    content = json.dumps(made(0, 1, 2, 3), indent=indent)
    importing.content(content[: content.index("n3") - 30], name="cut.json", run="cut")
    importing.content(content.replace("n2", '"', 1), name="torn.json")
    cut = importing.frames("cut")

    assert cut["completions"].sort("completion_id")["text"].to_list() == ["n0!", "n1!", "n2!"]
    assert cut["failures"]["error_type"].to_list() == ["bad_line"]
    assert sorted(importing.texts) == ["n0!", "n1!", "n3!"]
    assert [kind for _, kind in importing.open_failures] == ["bad_line"]
    assert "of the file)" in importing.frames()["failures"]["message"][0]


@pytest.mark.parametrize("made", FILES.values(), ids=FILES)
def test_a_file_of_many_calls_that_lacks_its_end_alone(importing: Any, made: Any) -> None:
    """All calls are answers, and a failure says that something is missing."""
    content = json.dumps(made(0, 1))
    importing.content(content[:-1], name="cut.json")

    assert importing.texts == ["n0!", "n1!"]
    assert [kind for _, kind in importing.open_failures] == ["bad_line"]


def test_a_torn_cassette_in_yaml(importing: Any) -> None:
    """The interactions before and after a damaged one are read."""
    content = yaml.safe_dump(vcr(0, 1, 2))
    importing.content(content.replace("body: '", "body: ''", 2).replace("body: ''", "body: '", 1), name="a.yaml")

    assert importing.texts == ["n0!", "n2!"]
    assert [kind for _, kind in importing.open_failures] == ["bad_line"]


def test_single_entries_as_lines(importing: Any) -> None:
    """An entry of a HAR file, or an interaction of a cassette, a line: as programs write them that only append."""
    importing.lines(har(0)["log"]["entries"][1], vcr(1)["interactions"][0])

    assert importing.texts == ["n0!", "n1!"]
    assert [json.loads(text) for text in importing.frames()["prompts"]["messages"]] == [
        recorded_request(n)["messages"] for n in range(2)
    ]


def test_a_whole_answer_glued_to_a_torn_event(importing: Any) -> None:
    """The answer on the same line is one; the stream whose event was torn is a failure with its text."""
    pieces = [f"data: {json.dumps(piece)}\n\n" for piece in recorded_chunks(0)]
    importing.content(
        "".join(pieces[:2]) + pieces[2][:60] + json.dumps(recorded_body(1)) + "\n" + json.dumps(recorded_body(2))
    )

    assert importing.texts == ["n1!", "n2!"]
    assert [kind for _, kind in importing.open_failures] == ["malformed_answer"]
    assert "'n0'" in importing.frames()["failures"]["message"][0]


def test_a_stream_glued_to_a_torn_event(importing: Any) -> None:
    """A program that was killed and started again goes on behind the half event."""
    one, other = ([f"data: {json.dumps(piece)}\n\n" for piece in recorded_chunks(n)] for n in range(2))
    importing.content("".join(one[:2]) + one[2][:60] + "".join(other))

    assert importing.texts == ["n1!"]
    assert [kind for _, kind in importing.open_failures] == ["malformed_answer"]


def archive(**members: str) -> bytes:
    """A zip archive of these files, in this order."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        for name, content in members.items():
            made.writestr(name, content)
    return packed.getvalue()


def test_each_file_in_an_archive_stands_for_itself(importing: Any) -> None:
    """One in no known format is a failure, also where it is the first, and the answers in the others are read."""
    content = archive(a="name,score\n", b=jsonl(recorded_body(0)), c="# Notes")
    importing.content(content, name="answers.zip")

    assert importing.texts == ["n0!"]
    assert importing.open_failures == [("answers.zip:a:1", "unknown_format"), ("answers.zip:c:1", "unknown_format")]


def test_an_archive_of_nothing_known_is_refused(importing: Any) -> None:
    """With the problem of its first file."""
    with pytest.raises(InputError, match=r"answers.zip: line a:1: is no JSON and no stream of events"):
        importing.content(archive(a="name,score\n", b="# Notes"), name="answers.zip")


@pytest.mark.parametrize("order", ["io", "oi"])
def test_an_archive_of_a_batch_with_its_input(importing: Any, order: str) -> None:
    """The answers get their requests from the input file beside them, wherever it lies."""
    files = {
        "i": jsonl(input_line("a", recorded_request(0))),
        "o": jsonl(output_line("a", recorded_body(0))),
    }
    importing.content(archive(**{name: files[name] for name in order}), name="batch.zip")

    assert importing.texts == ["n0!"]
    assert importing.open_failures == []
    assert json.loads(importing.frames()["prompts"]["messages"][0]) == recorded_request(0)["messages"]
