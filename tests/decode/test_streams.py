"""Recorded streams: many chunks are merged into one body, which is decoded like any other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from decode.decoding import decode_one, failure_of, rebuilt

from logprob_store.decode.formats.reader import merge_stream
from logprob_store.errors import DecodeError


def entry(text: str) -> dict[str, Any]:
    """A token."""
    return {"token": text, "logprob": -1.0, "bytes": list(text.encode()), "top_logprobs": []}


def chunk(delta: Any = None, logprobs: Any = None, *, index: int = 0, **keys: Any) -> dict[str, Any]:
    """A chunk of one choice."""
    choice = {"index": index, "delta": delta or {}, "logprobs": logprobs, "finish_reason": None, **keys}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m-1", "choices": [choice]}


def content(*tokens: str) -> dict[str, Any]:
    """A `logprobs` value."""
    return {"content": [entry(text) for text in tokens], "refusal": None}


def sse(*pieces: Any, end: str = "\n", done: bool = True) -> bytes:
    """Server-sent events."""
    events = [f"data: {json.dumps(piece)}{end}{end}" for piece in pieces]
    return ("".join(events) + f"data: [DONE]{end}{end}" * done).encode()


AZURE_FIRST = {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [{}]}
LAST = {**chunk(), "choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 3}}
STREAM = [
    AZURE_FIRST,
    chunk({"role": "assistant", "content": "", "refusal": None}, {"content": [], "refusal": None}),
    chunk({"content": "Hi"}, content("Hi")),
    chunk({"content": " a"}, content(" ", "a")),
    chunk({}, None, finish_reason="stop"),
    LAST,
    {"id": "", "choices": [], "usage": None},
]


def test_chunks_become_the_body_that_they_are_pieces_of() -> None:
    """Texts and lists grow; empty names of the first chunk and null logprobs of the last change nothing."""
    merged = json.loads(merge_stream(sse(*STREAM)))

    assert merged == {
        "id": "c1",
        "object": "chat.completion",
        "created": 5,
        "model": "m-1",
        "prompt_filter_results": [{}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 3},
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi a", "refusal": None},
                "logprobs": {"content": [entry("Hi"), entry(" "), entry("a")], "refusal": None},
                "finish_reason": "stop",
            }
        ],
    }


@pytest.mark.parametrize(
    "recorded",
    [
        sse(*STREAM),
        sse(*STREAM, end="\r\n"),
        sse(*STREAM, end="\r", done=False),
        b"\xef\xbb\xbf\n: comment\nid: 1\nevent: message\n" + sse(*STREAM).replace(b"data: ", b"data:"),
        sse(*STREAM).replace(b', "object"', b',\ndata: "object"'),
        json.dumps(STREAM).encode(),
        json.dumps(STREAM, indent=1).encode(),
        "\n".join(map(json.dumps, STREAM)).encode(),
        "\r\n\r\n".join(map(json.dumps, STREAM)).encode() + b"\n[DONE]\n",
    ],
    ids=["sse", "crlf", "cr", "fields", "lines of data", "list", "pretty list", "lines", "loose lines"],
)
def test_every_way_to_record_a_stream_is_decoded(recorded: bytes) -> None:
    """A stream may be recorded as events, as a list or as lines."""
    completions, tokens, _ = decode_one(recorded)

    assert tokens["token"].to_list() == ["Hi", " ", "a"]
    assert completions.select("text", "finish_reason", "response_id", "completion_tokens").row(0) == (
        "Hi a",
        "stop",
        "c1",
        3,
    )


def test_a_single_chunk_is_a_stream_too() -> None:
    """Its `object` is that of a chunk."""
    completions, tokens, _ = decode_one(chunk({"content": "Hi"}, content("Hi"), finish_reason="length"))

    assert tokens["token"].to_list() == ["Hi"]
    assert completions.select("text", "finish_reason").row(0) == ("Hi", "length")


def test_choices_are_kept_apart_however_they_are_mixed() -> None:
    """Chunks of two choices are told apart by their index."""
    pieces = [chunk({"content": text}, content(text), index=n) for n, text in ((1, "x"), (0, "a"), (1, "y"), (0, "b"))]
    completions, tokens, _ = decode_one(sse(*pieces, LAST))

    assert completions.select("choice_index", "text").rows() == [(0, "ab"), (1, "xy")]
    assert tokens["token"].to_list() == ["a", "b", "x", "y"]


def test_calls_of_tools_grow_by_their_index() -> None:
    """Names and arguments come in pieces, ids and types once, and two calls may be interleaved."""
    deltas = [
        {"index": 0, "id": "c_1", "type": "function", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"a"'}},
        {"index": 1, "id": "c_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        {"index": 0, "id": None, "function": {"arguments": ":1}"}},
    ]
    merged = json.loads(merge_stream(sse(*[chunk({"tool_calls": [delta]}) for delta in deltas], LAST)))

    assert merged["choices"][0]["message"]["tool_calls"] == [
        {"index": 0, "id": "c_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"index": 1, "id": "c_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


def test_reasoning_and_refusals_grow() -> None:
    """Both come in pieces, with logprobs of their own."""
    pieces = [
        chunk({"reasoning_content": "h"}, {"reasoning_content": [entry("h")], "content": None}),
        chunk({"reasoning_content": "m"}, {"reasoning_content": [entry("m")], "content": None}),
        chunk({"refusal": "n"}, {"refusal": [entry("n")]}),
        chunk({"refusal": "o"}, {"refusal": [entry("o")]}),
    ]
    completions, tokens, _ = decode_one(sse(*pieces, LAST))

    assert completions.select("text", "refusal").row(0) == (None, "no")
    assert tokens.select("section", "position", "token").rows() == [
        ("refusal", 0, "n"),
        ("refusal", 1, "o"),
        ("reasoning", 0, "h"),
        ("reasoning", 1, "m"),
    ]


def test_legacy_chunks_are_joined_column_by_column() -> None:
    """A column that is null in one chunk is padded, so that all columns have one value for each token."""
    pieces = [
        {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": None, "text_offset": [3]},
        {
            "tokens": ["b", "c"],
            "token_logprobs": [-2.0, -3.0],
            "top_logprobs": [{"b": -2.0}, {}],
            "text_offset": [4, 5],
        },
    ]
    chunks = [{"object": "text_completion", "choices": [{"index": 0, "text": "x", "logprobs": p}]} for p in pieces]
    merged = json.loads(merge_stream(sse(*chunks)))

    assert merged == {
        "object": "text_completion",
        "choices": [
            {
                "index": 0,
                "text": "xx",
                "logprobs": {
                    "tokens": ["a", "b", "c"],
                    "token_logprobs": [-1.0, -2.0, -3.0],
                    "top_logprobs": [None, {"b": -2.0}, {}],
                    "text_offset": [3, 4, 5],
                },
            }
        ],
    }

    _, tokens, alternatives = decode_one(sse(*chunks), endpoint="completions")

    assert tokens.select("token", "logprob").rows() == [("a", -1.0), ("b", -2.0), ("c", -3.0)]
    assert alternatives.select("position", "token").rows() == [(1, "b")]


def test_numbers_of_a_stream_keep_every_digit() -> None:
    """No float loses a bit when chunks are merged into JSON."""
    piece = sse(chunk({"content": "a"}, {"content": [{"token": "a", "logprob": 0}]}), LAST)
    for number in (
        "-0.1",
        "-1.7436232732772827",
        "-5e-324",
        "-0.0",
        "NaN",
        "-Infinity",
        "123456789012345678901234567890",
    ):
        merged = merge_stream(piece.replace(b'"logprob": 0', f'"logprob": {number}'.encode()))

        assert f'"logprob": {number}}}'.encode() in merged


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        (sse(chunk(), {"error": {"message": "overloaded"}}), "the server answered with an error: overloaded"),
        (sse(chunk())[:-40], "event 0 of the stream: the answer is not JSON"),
        (sse({"b": 1}, {"a": 1}), "a stream of no known format: its 2 pieces have the keys 'b, a'"),
        (sse({"error": "no"}), "the server answered with an error: no"),
        (sse(), "a stream without any answer: none of its events is an object"),
        (sse(LAST), "choices: empty"),
        (
            b'{"choices":[{"message":{"content":"a"}}]}\n' * 2,
            "chunk 0: choices[0].message: a whole answer, not a chunk of one",
        ),
    ],
)
def test_a_malformed_stream_names_the_chunk(recorded: bytes, expected: str) -> None:
    """The message begins with the chunk or event."""
    _, message = failure_of(recorded)

    assert message.startswith(expected)


def test_a_body_is_not_merged() -> None:
    """Merging a whole body is an error."""
    with pytest.raises(DecodeError, match="no stream of events, list of chunks or chunk a line"):
        merge_stream(b'{"choices": []}')


RESPONSE = {
    "object": "response",
    "status": "completed",
    "output": [
        {"type": "message", "content": [{"type": "output_text", "text": "Hi a", "logprobs": []}]},
    ],
}


def event(kind: str, **keys: Any) -> dict[str, Any]:
    """An event of the Responses API."""
    return {"type": f"response.{kind}", **keys}


@pytest.mark.parametrize("kinds", [("delta",), ("done",), ("delta", "done")])
def test_a_streamed_response_is_that_of_its_last_event(kinds: tuple[str, ...]) -> None:
    """The last event has the response; logprobs that it lacks are taken from earlier events, once."""
    place = {"output_index": 0, "content_index": 0}
    events = {
        "delta": [
            event("output_text.delta", **place, delta="Hi", logprobs=[entry("Hi")]),
            event("output_text.delta", **place, delta=" a", logprobs=[entry(" a")]),
        ],
        "done": [event("output_text.done", **place, text="Hi a", logprobs=[entry("Hi"), entry(" a")])],
    }
    listed = [event("created", response={}), *[one for kind in kinds for one in events[kind]]]
    recorded = sse(*listed, event("completed", response=RESPONSE), done=False)
    completions, tokens, _ = decode_one(recorded, endpoint="responses")

    assert tokens["token"].to_list() == ["Hi", " a"]
    assert completions["text"].to_list() == ["Hi a"]


def test_a_streamed_response_that_was_cut_is_a_failure() -> None:
    """Part of an answer would look like the whole."""
    _, message = failure_of(sse(event("created", response={})), endpoint="responses")

    assert message.startswith("the stream was cut: no event response.completed")
    assert failure_of(sse(event("created", response={}), {"type": "error", "message": "sorry"}))[0] == "error_body"


def spelled(text: str, logprobs: Any) -> dict[str, Any]:
    """A chunk with this text and these logprobs."""
    return chunk({"content": text}, logprobs)


@pytest.mark.parametrize(
    ("odd", "kept"),
    [
        (5, {"logprobs": 5}),
        ("x", {"logprobs": "x"}),
        ({"content": 5}, 5),
        ({"content": {"token": 7, "logprob": -1}}, {"token": 7, "logprob": -1}),
        ([None], None),
        (None, None),
        ({}, None),
    ],
)
def test_odd_logprobs_of_a_chunk_are_a_null_row(odd: Any, kept: Any) -> None:
    """The tokens around them keep their positions, and what the wire said is in the rebuilt list."""
    listed = [spelled("a", {"content": [entry("a")]}), spelled("b", odd), spelled("c", {"content": [entry("c")]})]
    recorded = sse(*listed, LAST)
    _, tokens, _ = decode_one(recorded)

    assert tokens.select("position", "token").rows() == [(0, "a"), (1, None), (2, "c")]
    assert rebuilt(recorded)[0]["content"] == [entry("a"), kept, entry("c")]


def test_odd_logprobs_of_a_chunk_without_text_are_no_row() -> None:
    """Nothing there could be a token; what the wire said is rebuilt."""
    recorded = sse(chunk({"role": "assistant", "content": ""}, 5), spelled("a", {"content": [entry("a")]}), LAST)
    _, tokens, _ = decode_one(recorded)

    assert tokens["token"].to_list() == ["a"]
    assert rebuilt(recorded) == {0: {"odd": [5], "content": [entry("a")]}}


def test_columns_of_another_length_cost_their_chunk_alone() -> None:
    """A chunk of legacy completions whose numbers are fewer than its tokens does not shift those of later chunks."""
    chunks = [
        {"choices": [{"index": 0, "text": text, "logprobs": {"tokens": [text], "token_logprobs": numbers}}]}
        for text, numbers in (("a", [-1.0]), ("b", []), ("c", [-3.0]))
    ]
    chunks[-1]["choices"][0]["finish_reason"] = "stop"
    _, tokens, _ = decode_one(sse(*chunks), endpoint="completions")

    assert tokens.select("token", "logprob").rows() == [("a", -1.0), ("b", None), ("c", -3.0)]


@pytest.mark.parametrize("index", [None, "0", "q", -1, [], True])
def test_a_chunk_with_an_odd_index_belongs_to_the_only_choice(index: Any) -> None:
    """Its text and its token are kept."""
    odd = spelled("b", {"content": [entry("b")]})
    odd["choices"][0]["index"] = index
    completions, tokens, _ = decode_one(sse(spelled("a", {"content": [entry("a")]}), odd, LAST))

    assert completions["text"].to_list() == ["ab"]
    assert tokens["token"].to_list() == ["a", "b"]


@pytest.mark.parametrize("odd", [None, 5, "x", [], {"choices": [None]}, {"choices": 5}, {"choices": {}}])
def test_an_event_without_an_answer_is_left_out(odd: Any) -> None:
    """Such as the null that some proxies send to keep a connection open."""
    recorded = sse(spelled("a", {"content": [entry("a")]}), odd, spelled("b", {"content": [entry("b")]}), LAST)
    _, tokens, _ = decode_one(recorded)

    assert tokens["token"].to_list() == ["a", "b"]


def test_chunks_in_a_list_in_one_event() -> None:
    """A proxy that gathers chunks sends them as one event."""
    listed = [spelled(text, {"content": [entry(text)]}) for text in "ab"]
    _, tokens, _ = decode_one(sse(listed, LAST))

    assert tokens["token"].to_list() == ["a", "b"]


@pytest.mark.parametrize("odd", [None, 5, {}, {"output": None}, {"output": 5}])
def test_a_last_event_without_a_response_costs_that_event_alone(odd: Any) -> None:
    """Text and tokens are those of the events before."""
    place = {"output_index": 0, "content_index": 0, "item_id": "i"}
    listed = [event("output_text.delta", **place, delta=text, logprobs=[entry(text)]) for text in ("Hi", " a")]
    done = event("output_text.done", **place, text="Hi a", logprobs=[])
    recorded = sse(*listed, done, event("completed", response=odd), done=False)
    completions, tokens, _ = decode_one(recorded, endpoint="responses")

    assert completions.select("text", "finish_reason").rows() == [("Hi a", "completed")]
    assert tokens["token"].to_list() == ["Hi", " a"]
