"""Every kind of file that can be imported, recognised by its content; errors name file and line."""

from __future__ import annotations

import gzip
import json
import secrets
from typing import Any

import pytest
import zstandard
from builders import open_writer
from importing.recorded import jsonl, recorded_body, recorded_chunks, recorded_request

from logprob_store.errors import InputError, RunChangedError


def test_lines_of_raw_responses(importing: Any) -> None:
    """In JSON Lines of responses, the prompt's id is the response's, and the request is unknown."""
    done = importing.lines(recorded_body(0), "", recorded_body(1))
    rows = importing.frames()

    assert (done.records, done.added, done.failures) == (2, 2, 0)
    assert importing.texts == ["n0!", "n1!"]
    assert rows["prompts"]["prompt_id"].to_list() == ["chatcmpl-0", "chatcmpl-1"]
    assert rows["prompts"]["messages"].to_list() == [None, None]
    assert rows["completions"]["source"].to_list() == ["import", "import"]
    assert rows["completions"]["endpoint"].to_list() == ["chat", "chat"]
    assert rows["imports"].select("file", "place").rows() == [("answers.jsonl", "1"), ("answers.jsonl", "3")]


@pytest.mark.parametrize("indent", [None, 1])
def test_one_response_a_file(importing: Any, indent: int | None) -> None:
    """A file with one response may have it on one line or printed over several."""
    importing.content(json.dumps(recorded_body(7), indent=indent), "seven.json")

    assert importing.texts == ["n7!"]


def test_printed_responses_in_sequence(importing: Any) -> None:
    """A file may hold several printed responses, as jq writes them; their places are the lines they start on."""
    printed = json.dumps(recorded_body(0), indent=1)
    importing.content(f"{printed}\n\n{json.dumps(recorded_body(1), indent=1)}\n", "many.json")
    lines = printed.count("\n") + 1

    assert importing.texts == ["n0!", "n1!"]
    assert importing.frames()["imports"]["place"].to_list() == ["1", str(lines + 2)]


@pytest.mark.parametrize("indent", [None, 1])
def test_list_of_responses(importing: Any, indent: int | None) -> None:
    """Each element of a JSON list is an answer; places count the elements from 0."""
    importing.content(json.dumps([recorded_body(0), recorded_body(1)], indent=indent), "list.json")

    assert importing.texts == ["n0!", "n1!"]
    assert importing.frames()["imports"]["place"].to_list() == ["1[0]", "1[1]"]


def test_pairs(importing: Any) -> None:
    """A pair's request gives the messages and the key of a run with that provider."""
    from logprob_store.request import request_key

    pair = {"request": recorded_request(3), "response": recorded_body(3)}
    importing.lines(pair, provider="p")
    rows = importing.frames()

    assert rows["completions"]["request_key"].to_list() == [
        request_key(recorded_request(3), endpoint="chat", provider="p")
    ]
    assert json.loads(rows["prompts"]["messages"][0]) == recorded_request(3)["messages"]
    assert rows["completions"]["model"].to_list() == ["m"]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda request, body: {"request": request, "response": {"status_code": 200, "body": body}},
        lambda request, body: {"request": {"body": request}, "response": {"status": 200, "body": json.dumps(body)}},
        lambda request, body: {"request": json.dumps(request), "response": json.dumps(body), "error": None},
        lambda request, body: {
            "request": {"method": "POST", "url": "https://h/v1/chat/completions", "body": request},
            "response": body,
        },
    ],
)
def test_pairs_in_envelopes(importing: Any, wrap: Any) -> None:
    """Requests and responses may be wrapped in an object or written as JSON text."""
    importing.lines({"id": 5, **wrap(recorded_request(3), recorded_body(3))})
    rows = importing.frames()

    assert importing.texts == ["n3!"]
    assert rows["prompts"]["prompt_id"].to_list() == ["5"]
    assert json.loads(rows["prompts"]["messages"][0]) == recorded_request(3)["messages"]


def test_samples_of_one_request(importing: Any) -> None:
    """Different answers to one request are samples of one prompt, with the keys of a run."""
    from logprob_store.request import request_key

    importing.lines(*({"request": recorded_request(0), "response": recorded_body(n)} for n in range(3)))
    rows = importing.frames()["completions"].sort("completion_id")

    assert rows.select("prompt_index", "sample_index").rows() == [(0, 0), (0, 1), (0, 2)]
    assert rows["prompt_id"].n_unique() == 1
    assert rows["request_key"].to_list() == [
        request_key(recorded_request(0), endpoint="chat", provider="import", sample_index=sample) for sample in range(3)
    ]


def sse(pieces: list[Any]) -> str:
    """Server-sent events."""
    return "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + "data: [DONE]\n\n"


@pytest.mark.parametrize(
    "write",
    [
        lambda pieces: "".join(map(sse, pieces)),
        lambda pieces: ": a comment\n\n" + "".join(map(sse, pieces)).removesuffix("data: [DONE]\n\n"),
        lambda pieces: "".join(json.dumps(piece) + "\n" for stream in pieces for piece in stream),
        lambda pieces: "".join(json.dumps(stream) + "\n" for stream in pieces),
        lambda pieces: json.dumps([piece for stream in pieces for piece in stream], indent=2),
        lambda pieces: "".join(json.dumps({"request": {}, "response": sse(stream)}) + "\n" for stream in pieces),
    ],
    ids=["events", "events without an end", "a chunk a line", "a list a line", "one printed list", "text in a pair"],
)
def test_streams(importing: Any, write: Any) -> None:
    """Two recorded streams in a file give the token rows of the same answers unstreamed."""
    importing.content(write([recorded_chunks(0), recorded_chunks(1)]), "stream.txt")
    streamed = importing.frames()
    importing.lines(recorded_body(0), recorded_body(1), run="whole")
    whole = importing.frames("whole")

    assert importing.texts == ["n0!", "n1!"]
    assert streamed["tokens"].drop("run").equals(whole["tokens"].drop("run"))
    assert streamed["alternatives"].drop("run").equals(whole["alternatives"].drop("run"))


def test_streams_that_mark_their_end(importing: Any) -> None:
    """Ollama's pieces up to the one that is done are one answer; whole answers next to them stay separate."""

    def piece(text: str, *, done: bool) -> dict[str, Any]:
        logprobs = [{"token": text, "logprob": -0.5}] if text else []
        return {
            "model": "m",
            "created_at": "2026-01-01T00:00:00Z",
            "response": text,
            "done": done,
            "logprobs": logprobs,
        }

    stream = [piece("a", done=False), piece("b", done=False), piece("", done=True)]
    importing.lines(*stream, piece("whole", done=True), *stream, recorded_body(0))

    assert importing.texts == ["ab", "whole", "ab", "n0!"]
    assert importing.frames()["completions"]["endpoint"].to_list() == ["ollama", "ollama", "ollama", "chat"]


def test_events_of_a_response(importing: Any) -> None:
    """Events of the Responses API, one a line, are one answer: the response in the last event."""
    token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    content = [{"type": "output_text", "text": "a", "logprobs": [token]}]
    whole = {"id": "resp_1", "object": "response", "status": "completed", "model": "m"}
    whole["output"] = [{"type": "message", "content": content}]
    events = [
        {"type": "response.created", "response": {"id": "resp_1", "object": "response", "output": []}},
        {"type": "response.completed", "response": whole},
    ]
    importing.lines(*events)

    assert importing.texts == ["a"]
    assert importing.frames()["completions"]["endpoint"].to_list() == ["responses"]


def test_azure_begins_a_stream_without_choices(importing: Any) -> None:
    """The first chunk, which has no choices and no name, belongs to the stream that follows it."""
    first = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": []}
    importing.lines(first, *recorded_chunks(0), first, *recorded_chunks(1))

    assert importing.texts == ["n0!", "n1!"]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_folders_are_searched_to_the_bottom(importing: Any, suffix: str) -> None:
    """A folder gives its files with known suffixes, sorted by path, compressed or not, without hidden ones."""
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}[suffix]
    for number, name in enumerate(["a.json", "b/c.jsonl", "b/d.ndjson", "e.txt"]):
        importing.file(f"in/{name}{suffix}", pack(json.dumps(recorded_body(number)).encode()))
    importing.file("in/.hidden.json", json.dumps(recorded_body(8)))
    importing.file("in/readme.md", "# not to be read")
    done = importing(importing.folder / "in")

    assert (done.files, done.failures) == (4, 0)
    assert importing.texts == ["n0!", "n1!", "n2!", "n3!"]
    assert importing.frames()["imports"]["file"].to_list()[1] == f"in/b/c.jsonl{suffix}"


def test_compression_is_recognised_by_content(importing: Any) -> None:
    """A gzip file may have any name."""
    importing.content(gzip.compress(jsonl(recorded_body(0)).encode()), "answers.jsonl")

    assert importing.texts == ["n0!"]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_marks_and_line_ends(importing: Any, ending: str) -> None:
    """A byte order mark and Windows line ends change nothing."""
    text = ending.join(json.dumps(recorded_body(number)) for number in range(2))
    importing.content(b"\xef\xbb\xbf" + text.encode())

    assert importing.texts == ["n0!", "n1!"]


def test_bad_lines_are_failures_among_answers(importing: Any) -> None:
    """Each bad line becomes a row with file, line and error; the answers around it are imported."""
    lines = jsonl('{"id": "chatcmpl-9", "cho', recorded_body(0), "oops", recorded_body(1), "null", '{"a": 1}', '"x"')
    done = importing.content(lines)
    failures = importing.frames()["failures"].sort("prompt_index")

    assert importing.texts == ["n0!", "n1!"]
    assert importing.open_failures == [
        ("answers.jsonl:1", "bad_line"),
        ("answers.jsonl:3", "bad_line"),
        ("answers.jsonl:5", "bad_line"),
        ("answers.jsonl:6", "malformed_answer"),
        ("answers.jsonl:7", "bad_line"),
    ]
    assert "line 3: is no JSON object: 'oops'" in failures["message"][1]
    assert failures["attempts"].to_list() == [0] * 5
    assert (done.records, done.added, done.failures) == (7, 2, 5)


def test_numbers_that_are_no_json(importing: Any) -> None:
    """Answers with NaN or -Infinity, which servers written in Python send, are imported, also in pairs."""
    bare = json.dumps(recorded_body(0)).replace("-0.001", "-Infinity")
    pair = json.dumps({"request": recorded_request(1), "response": recorded_body(1)}).replace("-0.002", "-Infinity")
    importing.lines(bare, pair)

    assert importing.texts == ["n0!", "n1!"]
    assert importing.frames()["tokens"]["logprob_flag"].to_list() == ["neg_inf", None, "neg_inf", None]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_a_file_cut_short_keeps_what_it_has(importing: Any, pack: Any) -> None:
    """The readable start of a truncated compressed file is imported, and its end becomes a failure row."""
    content = "".join(jsonl({**recorded_body(number), "noise": secrets.token_hex(300)}) for number in range(2000))
    packed = pack(content.encode())
    done = importing.content(packed[: len(packed) // 2], "cut.jsonl.gz")
    [(place, error_type)] = importing.open_failures

    assert error_type == "bad_line"
    assert place.startswith("cut.jsonl.gz:")
    assert "the file is damaged" in importing.frames()["failures"]["message"][0]
    assert 100 < done.added < 2000


def test_several_compressed_frames(importing: Any) -> None:
    """A compressed file may have several frames, as writers that append make them."""
    for number, pack in enumerate([gzip.compress, zstandard.ZstdCompressor().compress]):
        importing.content(b"".join(pack(jsonl(recorded_body(2 * number + n)).encode()) for n in range(2)))

    assert importing.texts == ["n0!", "n1!", "n2!", "n3!"]


def test_an_unknown_file_among_others_is_a_failure(importing: Any) -> None:
    """A file in an unknown format becomes one failure row, however many lines it has."""
    importing(importing.file("a.txt", "name,score\nx,1\n"), importing.jsonl("b.jsonl", recorded_body(0)))

    assert importing.open_failures == [("a.txt:1", "unknown_format")]
    assert importing.texts == ["n0!"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "name,score\nx,1\n", "a.csv: line 1: is no JSON and no stream of events: 'name,score"),
        ("a.png", b"\x89PNG\r\n\x1a\n\x00\x00", "a.png: line 1: is no JSON"),
        ("in.jsonl", '{"custom_id": "1", "method": "POST", "url": "/v1/x", "body": {}}', "only Batch API input files"),
    ],
)
def test_nothing_to_import_is_an_error(importing: Any, name: str, content: str | bytes, message: str) -> None:
    """If no file holds anything to import, the error says so and no run is made."""
    with pytest.raises(InputError, match=f"^.*{message.split(':', maxsplit=1)[0]}") as error:
        importing.content(content, name)

    assert message in str(error.value)
    assert not importing.store.exists()


def test_missing_paths(importing: Any) -> None:
    """A missing file, an empty folder and no path at all are errors."""
    with pytest.raises(InputError, match="is not there"):
        importing(importing.folder / "no.json")
    with pytest.raises(InputError, match="holds nothing to import"):
        importing(importing.folder)
    with pytest.raises(InputError, match="name a file or a folder"):
        importing()


def test_a_run_of_a_job_is_not_imported_into(importing: Any) -> None:
    """The name of a run that a job made is refused."""
    open_writer(importing.store).close()

    with pytest.raises(RunChangedError, match="import is True"):
        importing.lines(recorded_body(0), run="r")


def test_answers_without_logprobs_are_failures(importing: Any) -> None:
    """An answer without logprobs is a failure, unless its request is known not to ask for them."""
    unasked = {"request": recorded_request(1, logprobs=False), "response": recorded_body(1, logprobs=False)}
    asked = {"request": recorded_request(2), "response": recorded_body(2, logprobs=False)}
    done = importing.lines(recorded_body(0, logprobs=False), unasked, asked)

    assert [error_type for _, error_type in importing.open_failures] == ["no_logprobs"] * 2
    assert importing.texts == ["n1!"]
    assert dict(done.problems) == {"no_logprobs": 2}
