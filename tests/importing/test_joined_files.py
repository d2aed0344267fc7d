"""Files that were joined, packed twice or torn in front, and equal answers in a row: each whole answer is read once."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from typing import Any

import pytest
from importing.recorded import jsonl, recorded_body, recorded_chunks

from logprob_store.errors import InputError

TRIPLES = [[-0.5, 1, "a"]]
WITHOUT_END = {
    "sglang": {"text": "a", "meta_info": {"id": "x", "output_token_logprobs": TRIPLES}},
    "gemini": {
        "candidates": [
            {
                "content": {"parts": [{"text": "a"}]},
                "logprobsResult": {
                    "chosenCandidates": [{"token": "a", "tokenId": 5, "logProbability": -0.5}],
                    "topCandidates": [],
                },
            }
        ]
    },
}
BODIES = [json.dumps(recorded_body(n)) for n in range(4)]
MARK = "\ufeff"


def zipped(**members: str | bytes) -> bytes:
    """A zip archive of these files."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


@pytest.mark.parametrize("name", WITHOUT_END)
def test_an_answer_without_its_end_that_stands_twice(importing: Any, name: str) -> None:
    """Two equal bodies are no stream, whose pieces would go on, and a list of one body is that body."""
    importing.lines(WITHOUT_END[name], WITHOUT_END[name], run="lines")
    importing.lines({"request": {"prompt": "q"}, "response": [WITHOUT_END[name]]}, name="pair.jsonl", run="pair")

    assert set(importing.frames("lines")["completions"]["text"]) == {"a"}
    assert importing.frames("pair")["completions"]["text"].to_list() == ["a"]
    assert [len(importing.frames(run)["failures"]) for run in ("lines", "pair")] == [0, 0]


def test_a_list_of_one_answer_of_lightllm(importing: Any) -> None:
    """It is read as the answer, not as one of TGI, whose lists look alike."""
    body = {"generated_text": ["a"], "count_output_tokens": 1, "tokens": [{"id": 1, "text": "a", "logprob": -1}]}
    importing.lines({"request": {"inputs": "q"}, "response": [body]})

    assert importing.frames()["tokens"]["logprob"].to_list() == [-1]


@pytest.mark.parametrize(
    "content",
    [
        f"{MARK}{BODIES[0]}\n{MARK}{BODIES[1]}\n",
        f"{MARK}{BODIES[0]}{MARK}{BODIES[1]}",
        MARK + json.dumps(recorded_body(0), indent=1) + "\n" + MARK + json.dumps(recorded_body(1), indent=1),
        MARK.join(["", *("".join(f"data: {json.dumps(one)}\n\n" for one in recorded_chunks(n)) for n in range(2))]),
    ],
    ids=["lines", "glued", "printed", "events"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_a_byte_order_mark_in_mid_file(importing: Any, content: str, encoding: str) -> None:
    """It stands where a file that begins with one was joined to another."""
    importing.content(content.encode(encoding))

    assert importing.texts == ["n0!", "n1!"]
    assert importing.open_failures == []


@pytest.mark.parametrize("encoding", ["utf-32-le", "utf-32-be"])
def test_utf_32_without_a_mark(importing: Any, encoding: str) -> None:
    """The NULs beside the first character tell it from UTF-16."""
    importing.content("\n".join(BODIES[:2]).encode(encoding))

    assert importing.texts == ["n0!", "n1!"]


def test_packed_files_in_packed_files(importing: Any) -> None:
    """A compressed file in an archive, an archive in an archive, and a file that was compressed twice."""
    inner = {"a.gz": gzip.compress(BODIES[0].encode()), "b.zip": zipped(x=BODIES[1])}
    importing.content(zipped(**inner), "a.zip", run="archive")
    importing.content(gzip.compress(gzip.compress(BODIES[2].encode())), "c.gz", run="twice")

    assert sorted(importing.frames("archive")["completions"]["text"]) == ["n0!", "n1!"]
    assert importing.frames("twice")["completions"]["text"].to_list() == ["n2!"]


def test_a_zip_archive_without_its_directory(importing: Any) -> None:
    """One sentence says what is missing and what to do."""
    whole = zipped(a=BODIES[0], b=BODIES[1])
    importing.content(whole[: whole.index(b"PK\x01\x02")], "a.zip")
    [message] = importing.frames()["failures"]["message"]

    assert message.startswith("line 1: is a zip archive that was cut off: the list of its files")


def test_an_empty_zip_archive(importing: Any) -> None:
    """It is one, though it begins differently."""
    with pytest.raises(InputError, match="is a zip archive without anything to import"):
        importing.content(zipped(), "a.zip")


@pytest.mark.parametrize(
    "torn",
    [
        '[-0.5, 1, "a"], [-1.0, 2, "b"]]}',
        '[97], "top_logprobs": [{"token": "x"}]}]}}]}',
        '[{"token": "x", "logprob": -1.0}, {"token": "y", "logprob": -1.0}]}}]}',
        "[1, 2, 3]",
        ': "x", "logprob": -1.0}]}}]}',
        ", 97]}]}}]},",
        '"logprob": -1.0}]}}]}',
    ],
)
@pytest.mark.parametrize("glued", [True, False])
def test_a_line_that_lost_its_front(importing: Any, torn: str, glued: bool) -> None:  # noqa: FBT001
    """It is one failure, whatever it begins with, and an answer behind it is one."""
    importing.content(f"{BODIES[0]}\n{torn}{'' if glued else chr(10)}{BODIES[1]}\n{BODIES[2]}\n")

    assert importing.texts == ["n0!", "n1!", "n2!"]
    assert importing.open_failures == [("answers.jsonl:2", "bad_line")]


def test_comments_of_a_stream_are_none(importing: Any) -> None:
    """What keeps a connection alive may be JSON, too."""
    events = "".join(f': {{"ping": [1]}}\n\n: OPENROUTER PROCESSING\n\ndata: {json.dumps(one)}\n\n' for one in CHUNKS)
    importing.content(events)

    assert importing.texts == ["n0!"]
    assert importing.open_failures == []


CHUNKS = recorded_chunks(0)


def legacy_chunks(number: int, *, end: bool = True) -> list[dict[str, Any]]:
    """A stream of legacy completions without an id, whose chunks look like answers."""

    def chunk(text: str, logprob: float | None, finish_reason: str | None) -> dict[str, Any]:
        logprobs = None if logprob is None else {"tokens": [text], "token_logprobs": [logprob], "top_logprobs": None}
        return {"choices": [{"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}]}

    return [chunk(f"{number}", -0.5, None), chunk("!", -1.5, None), *([chunk("", None, "stop")] if end else [])]


@pytest.mark.parametrize("form", ["lines", "list", "lists", "events"])
def test_chunks_of_legacy_completions_without_an_id(importing: Any, form: str) -> None:
    """The end that follows tells them from answers: each stream is one record, in every form of a file."""
    one, other = legacy_chunks(0), legacy_chunks(1)
    contents = {
        "lines": jsonl(*one, *other),
        "list": json.dumps([*one, *other]),
        "lists": jsonl(one, other),
        "events": "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in (*one, *other)),
    }
    importing.content(contents[form])

    assert importing.texts == ["0!", "1!"]
    assert importing.open_failures == []


def test_answers_that_look_like_chunks_are_answers(importing: Any) -> None:
    """Without an end behind them, or with several tokens each, they are no stream."""
    whole = legacy_chunks(5)[0]
    whole["choices"][0]["logprobs"] = {"tokens": ["5", "x"], "token_logprobs": [-1, -2], "top_logprobs": None}
    whole["choices"][0]["text"] = "5x"
    importing.lines(*legacy_chunks(0, end=False), run="no_end")
    importing.lines(whole, legacy_chunks(6)[2] | {"id": "y"}, name="b.jsonl", run="several")

    assert sorted(importing.frames("no_end")["completions"]["text"]) == ["!", "0"]
    assert "5x" in importing.frames("several")["completions"]["text"].to_list()
