"""Streams of one file, told apart by their ids, their role, their numbers and their own end."""

from __future__ import annotations

import json
from itertools import zip_longest
from typing import Any

import pytest
from importing.recorded import recorded_body, recorded_chunks


def token(text: str) -> dict[str, Any]:
    """A token."""
    return {"token": text, "logprob": -0.5, "bytes": list(text.encode()), "top_logprobs": []}


def chunk(stream_id: str, text: str = "", *, role: bool = False, finish: str | None = None, **more: Any) -> Any:
    """A chunk of a chat stream: a role, a text with its token, or the end."""
    delta = {"role": "assistant"} if role else {}
    logprobs = {"content": [token(text)]} if text else None
    choice = {"index": 0, "delta": {**delta, "content": text}, "logprobs": logprobs, "finish_reason": finish, **more}
    return {"id": stream_id, "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def stream(stream_id: str, *words: str, end: bool = True, role: bool = True) -> list[Any]:
    """The chunks of an answer."""
    pieces = [chunk(stream_id, role=True)] if role else []
    pieces += [chunk(stream_id, word) for word in words]
    return [*pieces, chunk(stream_id, finish="stop")] if end else pieces


def sse(*pieces: Any) -> str:
    """Server-sent events."""
    return "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces)


def lines(*pieces: Any) -> str:
    """A value a line."""
    return "".join(f"{json.dumps(piece)}\n" for piece in pieces)


def as_list(*pieces: Any) -> str:
    """One list."""
    return json.dumps(pieces)


def mixed(*streams: list[Any]) -> list[Any]:
    """The pieces of several streams, in turns."""
    return [piece for pieces in zip_longest(*streams) for piece in pieces if piece is not None]


WAYS = pytest.mark.parametrize("write", [sse, lines, as_list])
USAGE = {"object": "chat.completion.chunk", "choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 1}}


@WAYS
def test_streams_with_different_ids(importing: Any, write: Any) -> None:
    """They are two answers without a `[DONE]` between them, and where their pieces are mixed."""
    importing.content(write(*stream("a", "Yes"), *stream("b", "No")), name="one.txt")
    importing.content(write(*mixed(stream("c", "Yes", "!"), stream("d", "No"))), name="mixed.txt")

    assert importing.texts == ["Yes", "No", "Yes!", "No"]


@pytest.mark.parametrize("role", [True, False])
@WAYS
def test_streams_without_ids(importing: Any, write: Any, *, role: bool) -> None:
    """What comes behind the end of an answer is another answer."""
    importing.content(write(*stream("", "Yes", role=role), *stream("", "No", role=role)))

    assert importing.texts == ["Yes", "No"]


def test_a_role_begins_another_stream(importing: Any) -> None:
    """A stream that was cut off is not continued by the next one, even under the same id."""
    importing.content(sse(*stream("x", "Yes", end=False), *stream("x", "No")))

    assert importing.texts == ["No"]
    assert importing.open_failures == [("x", "malformed_answer")]


def test_a_role_in_each_chunk_begins_nothing(importing: Any) -> None:
    """Some servers send the role with each chunk, and another with the usage behind the end."""
    chunks = [chunk("a", "Yes", role=True), chunk("a", "!", role=True), chunk("a", finish="stop", role=True)]
    usage = {**chunk("a", role=True), "usage": {"prompt_tokens": 2, "completion_tokens": 2}}
    importing.content(sse(*chunks, usage, *stream("b", "No")))

    assert importing.texts == ["Yes!", "No"]
    assert importing.frames()["completions"]["completion_tokens"].to_list() == [2, None]


def test_usage_belongs_to_the_stream_before(importing: Any) -> None:
    """The chunk with the usage comes behind the end, here after pieces of another stream."""
    first, second = stream("a", "Yes"), stream("b", "No", "!")
    importing.content(sse(*mixed(first, second), {"id": "a", **USAGE}, {"id": "b", **USAGE}))

    assert importing.texts == ["Yes", "No!"]
    assert importing.frames()["completions"]["prompt_tokens"].to_list() == [2, 2]


def test_choices_of_one_stream_stay_together(importing: Any) -> None:
    """A second choice begins where the first has ended, and is no second answer."""
    second = [{**piece, "choices": [{**piece["choices"][0], "index": 1}]} for piece in stream("n", "b")]
    importing.content(lines(*stream("n", "a"), *second))

    assert importing.texts == ["a", "b"]
    assert importing.frames()["completions"]["choice_index"].to_list() == [0, 1]


def test_indices_that_count_tokens(importing: Any) -> None:
    """TGI before 2.0 counted tokens in `index`: all chunks are one choice."""
    chunks = [chunk("", word, role=True, finish="length" if word == "c" else None) for word in "abc"]
    numbered = [
        {**one, "choices": [{**one["choices"][0], "index": number}]} for number, one in enumerate(chunks, start=1)
    ]
    importing.content(sse(*numbered, *numbered))

    assert importing.texts == ["abc", "abc"]


@WAYS
def test_legacy_chunks(importing: Any, write: Any) -> None:
    """A chunk of legacy completions looks like an answer but for its finish_reason; its id tells."""

    def piece(stream_id: str, text: str, *, last: bool = False) -> dict[str, Any]:
        logprobs = {"tokens": [text], "token_logprobs": [-1.0], "top_logprobs": None, "text_offset": [0]}
        choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": "stop" if last else None}
        return {"id": stream_id, "object": "text_completion", "choices": [choice]}

    importing.content(write(piece("a", "x"), piece("a", "y", last=True), piece("b", "z", last=True)))

    assert importing.texts == ["xy", "z"]


def response(number: int, text: str, *, numbered: bool, end: str = "completed") -> list[Any]:
    """The events of a response, whose last one lacks the logprobs."""
    names = {"response_id": f"resp_{number}", "item": f"msg_{number}"}
    place = {"item_id": names["item"], "output_index": 0, "content_index": 0}
    item = {"type": "message", "id": names["item"], "content": [{"type": "output_text", "text": text, "logprobs": []}]}
    whole = {"id": names["response_id"], "object": "response", "status": end, "output": [item], "error": None}
    if end == "failed":
        whole["error"] = {"message": "broken"}
    events = [
        {"type": "response.created", "response": {"id": names["response_id"], "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": names["item"]}},
        {"type": "response.output_text.delta", **place, "delta": text, "logprobs": [token(text)]},
        {"type": f"response.{end}", "response": whole},
    ]
    return [{**event, "sequence_number": n} if numbered else event for n, event in enumerate(events)]


@WAYS
def test_streams_of_the_responses_api(importing: Any, write: Any) -> None:
    """A response ends with its own last event; no `[DONE]` is sent."""
    importing.content(write(*response(1, "Yes", numbered=True), *response(2, "No", numbered=True)))

    assert importing.texts == ["Yes", "No"]
    assert importing.frames()["completions"]["response_id"].to_list() == ["resp_1", "resp_2"]


@pytest.mark.parametrize("numbered", [True, False])
def test_mixed_streams_of_the_responses_api(importing: Any, *, numbered: bool) -> None:
    """Events without the response's id are placed by their number, or by the id of their item."""
    importing.content(sse(*mixed(response(1, "Yes", numbered=numbered), response(2, "No", numbered=numbered))))

    assert importing.texts == ["Yes", "No"]
    assert importing.frames()["tokens"].sort("completion_id")["token"].to_list() == ["Yes", "No"]


@WAYS
def test_a_stream_that_was_cut_off_keeps_its_text(importing: Any, write: Any) -> None:
    """It is a failure, whose message has what came; the stream behind it is an answer."""
    importing.content(write(*stream("a", "Hel", "lo", end=False), *stream("b", "No")))

    assert importing.texts == ["No"]
    assert importing.frames()["failures"]["message"].to_list() == [
        "the stream was cut off before its end; what came of the answer: 'Hello'"
    ]


@pytest.mark.parametrize(
    "last",
    [
        {"error": {"message": "overloaded", "code": 503}},
        chunk("a", finish="error"),
        chunk("a", error={"message": "overloaded"}),
    ],
)
@WAYS
def test_a_stream_that_ends_with_an_error_keeps_its_text(importing: Any, write: Any, last: Any) -> None:
    """An error in the place of a chunk, as the reason to finish, or in a choice."""
    importing.content(write(*stream("a", "Hel", "lo", end=False), last, *stream("b", "No")))
    failures = importing.frames()["failures"]

    assert importing.texts == ["No"]
    assert failures["error_type"].to_list() == ["error_body"]
    assert failures["message"][0].endswith("what came of the answer: 'Hello'")


def test_a_failed_response_keeps_its_text(importing: Any) -> None:
    """`response.failed` ends a stream with an error, `response.incomplete` with an answer."""
    failed, incomplete = response(1, "Hello", numbered=True, end="failed"), response(2, "No", numbered=True)
    incomplete[-1] = {**incomplete[-1], "type": "response.incomplete"}
    importing.content(sse(*failed, *incomplete))

    assert importing.texts == ["No"]
    assert importing.frames()["failures"]["message"].to_list() == [
        "the server answered with an error: broken; what came of the answer: 'Hello'"
    ]


def test_a_damaged_event_costs_its_stream_only(importing: Any) -> None:
    """The file goes on behind it."""
    importing.content(sse(*stream("a", "Hel", end=False)) + 'data: {"id": "a", "cho\n\n' + sse(*stream("b", "No")))

    assert importing.texts == ["No"]
    assert "what came of the answer: 'Hel'" in importing.frames()["failures"]["message"][0]


@WAYS
def test_a_stream_of_gemini(importing: Any, write: Any) -> None:
    """Its pieces share a `responseId`, and only the last has a reason to finish; whole bodies stay answers."""

    def piece(stream_id: str, text: str, **more: Any) -> dict[str, Any]:
        chosen = [{"token": text, "tokenId": 1, "logProbability": -0.5}]
        candidate = {"content": {"parts": [{"text": text}]}, "logprobsResult": {"chosenCandidates": chosen}, **more}
        return {"candidates": [candidate], "responseId": stream_id}

    pieces = [piece("1", "a"), piece("1", "b", finishReason="STOP"), piece("2", "whole", finishReason="STOP")]
    tail = {"usageMetadata": {"promptTokenCount": 4}, "responseId": "2"}
    importing.content(write(*pieces, tail, piece("3", "c"), piece("3", "d", finishReason="STOP")))

    assert importing.texts == ["ab", "whole", "cd"]
    assert importing.frames()["completions"]["prompt_tokens"].to_list() == [None, 4, None]


@WAYS
def test_mixed_streams_of_sglang(importing: Any, write: Any) -> None:
    """Each piece repeats the one before it, and has the id of its answer."""

    def piece(stream_id: str, text: str, *, last: bool = False) -> dict[str, Any]:
        tokens = [[-0.5, ord(letter), letter] for letter in text]
        meta = {"id": stream_id, "finish_reason": {"type": "stop"} if last else None, "completion_tokens": len(text)}
        return {"text": text, "meta_info": {**meta, "output_token_logprobs": tokens}}

    first = [piece("x", "a"), piece("x", "ab", last=True)]
    second = [piece("y", "c"), piece("y", "cd"), piece("y", "cde", last=True)]
    importing.content(write(*mixed(first, second)))

    assert importing.texts == ["ab", "cde"]


def test_a_whole_answer_framed_as_an_event(importing: Any) -> None:
    """Each event with a whole answer is an answer; so is JSON in front of `[DONE]`."""
    importing.content(sse(recorded_body(0), recorded_body(1)) + "data: [DONE]\n\n", name="events.sse")
    importing.content(json.dumps(recorded_body(2)) + "\ndata: [DONE]\n\n", name="body.txt")

    assert importing.texts == ["n0!", "n1!", "n2!"]


def test_events_that_have_lost_their_blank_lines(importing: Any) -> None:
    """A line that is whole by itself ends the event before it."""
    importing.content(sse(*stream("a", "Yes"), *stream("b", "No")).replace("\n\n", "\n"))

    assert importing.texts == ["Yes", "No"]


def test_blanks_in_front_of_events(importing: Any) -> None:
    """Some recorders indent what they write."""
    importing.content(sse(*stream("a", "Yes")).replace("data:", "   data:"))

    assert importing.texts == ["Yes"]


def test_chunks_glued_in_one_event(importing: Any) -> None:
    """Proxies join what they have buffered."""
    glued = "".join(json.dumps(piece) for piece in stream("a", "Yes", "!"))
    importing.content(f"data: {glued}\n\n")

    assert importing.texts == ["Yes!"]


def test_events_as_texts_of_a_list(importing: Any) -> None:
    """A program kept the lines of a stream, or its answers, as JSON texts."""
    importing.content(json.dumps([f"data: {json.dumps(piece)}" for piece in stream("a", "Yes")]), name="list.json")
    importing.content(json.dumps(json.dumps(recorded_body(0))) + "\n", name="texts.jsonl")

    assert importing.texts == ["Yes", "n0!"]


def test_answers_and_events_in_one_file(importing: Any) -> None:
    """A file to which a program appended whatever came."""
    importing.content(
        json.dumps(recorded_body(0)) + "\n" + sse(*stream("a", "Yes")) + json.dumps(recorded_body(1)) + "\n"
    )

    assert importing.texts == ["n0!", "Yes", "n1!"]


def test_a_stream_counts_once_however_often_it_is_imported(importing: Any) -> None:
    """The pieces as they stand in the file identify it."""
    content = sse(*mixed(stream("a", "Yes"), stream("b", "No")))
    importing.content(content, name="one.sse")
    again = importing.content(content, name="two.sse")

    assert (again.added, again.already) == (0, 2)


def test_an_event_that_was_cut_off_costs_nothing_behind_it(importing: Any) -> None:
    """The next recording begins on the next line, without a blank line between them."""
    torn = sse(*stream("a", "Yes")[:1]) + 'data: {"id": "a", "cho\n'
    importing.content(torn + sse(*stream("b", "P", "Q")))

    assert importing.texts == ["PQ"]
    assert len(importing.open_failures) == 1


def test_choices_of_one_token_do_not_end_the_others(importing: Any) -> None:
    """Indices that begin at 0 are those of choices: choice 1 ends with its first token, and choice 0 goes on."""
    ended = {"choices": [{"index": 1, "text": "X", "finish_reason": "stop", "logprobs": legacy_logprobs("X")}]}
    pieces = [
        {"choices": [{"index": 0, "text": "A", "finish_reason": None, "logprobs": legacy_logprobs("A")}]},
        ended,
        {"choices": [{"index": 0, "text": "B", "finish_reason": "stop", "logprobs": legacy_logprobs("B")}]},
    ]
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m"}
    importing.content(sse(*({**head, **piece} for piece in pieces)) + "data: [DONE]\n\n")

    assert sorted(importing.texts) == ["AB", "X"]


def legacy_logprobs(token: str) -> dict[str, Any]:
    """Those of one token."""
    return {"tokens": [token], "token_logprobs": [-0.5], "top_logprobs": None, "text_offset": [0]}


@pytest.mark.parametrize("own_id", [True, False])
def test_a_null_among_the_pieces_of_a_list(importing: Any, own_id: bool) -> None:  # noqa: FBT001
    """It belongs to the stream around it and costs nothing."""
    pieces: list[Any] = recorded_chunks(0)
    for piece in pieces if not own_id else ():
        del piece["id"]
    importing.content(json.dumps([*pieces[:2], None, *pieces[2:]]))

    assert importing.texts == ["n0!"]
    assert importing.open_failures == []


def test_the_verdict_of_a_content_filter_is_no_answer(importing: Any) -> None:
    """Azure sends it behind the end, with an empty id and neither a text nor a delta."""
    verdict = {"index": 0, "finish_reason": None, "content_filter_offsets": {"check_offset": 1}}
    last = {"id": "", "object": "", "created": 0, "model": "", "choices": [verdict]}
    importing.content("".join(f"data: {json.dumps(piece)}\n\n" for piece in (*recorded_chunks(0), last)))

    assert importing.texts == ["n0!"]
    assert importing.open_failures == []
