"""Streams and native bodies that deviate in one place: at most the item there is lost, and all else is kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest
from builders import answer_with
from decode.decoding import rebuild, same
from decode.native_bodies import gemini, gemini_body, llamacpp, ollama, prob_token, sglang, tgi
from decode.test_deviations import BODIES as OPENAI
from decode.test_deviations import GONE, ODD, TEXT, TOKENS

from logprob_store.decode.decoder import decode_answers
from logprob_store.decode.formats import responses_stream
from logprob_store.decode.formats.reader import read_body
from logprob_store.decode.formats.registry import restore
from logprob_store.errors import RetryableError
from logprob_store.schema import completion_id
from logprob_store.sse import event_data
from logprob_store.transport.answer_check import check_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXTS: Final = [token["token"] for token in TOKENS]
NUMBERS: Final = [token["logprob"] for token in TOKENS]


def named(n: int, token: str, logprob: str, **ids: int) -> dict[str, Any]:
    """Token n under these keys."""
    return {token: TEXTS[n], logprob: NUMBERS[n], **ids}


def chat_chunk(n: int) -> dict[str, Any]:
    """The chunk of token n."""
    choice = {"index": 0, "delta": {"content": TEXTS[n]}, "logprobs": {"content": [TOKENS[n]], "refusal": None}}
    return {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [{**choice, "finish_reason": None}]}


def legacy_chunk(n: int) -> dict[str, Any]:
    """The chunk of token n in the form of legacy completions."""
    tops = {one["token"]: one["logprob"] for one in TOKENS[n]["top_logprobs"]}
    logprobs = {"tokens": [TEXTS[n]], "token_logprobs": [NUMBERS[n]], "top_logprobs": [tops], "text_offset": [2 * n]}
    choice = {"index": 0, "text": TEXTS[n], "logprobs": logprobs, "finish_reason": None}
    return {"id": "c", "object": "text_completion", "model": "m", "choices": [choice]}


def response_delta(n: int) -> dict[str, Any]:
    """The event of token n."""
    place = {"item_id": "i", "output_index": 0, "content_index": 0}
    return {"type": "response.output_text.delta", **place, "delta": TEXTS[n], "logprobs": [TOKENS[n]]}


PART = {"type": "output_text", "text": TEXT, "annotations": [], "logprobs": []}
RESPONSE = {"id": "r", "status": "completed", "output": [{"type": "message", "id": "i", "content": [PART]}]}
CHAT_END = {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": {}}]}
CHAT_END["choices"][0]["finish_reason"] = "stop"
LEGACY_END = {"id": "c", "object": "text_completion", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}
STREAMS: dict[str, list[Any]] = {
    "chat": [*map(chat_chunk, range(3)), CHAT_END],
    "legacy": [*map(legacy_chunk, range(3)), LEGACY_END],
    "responses": [*map(response_delta, range(3)), {"type": "response.completed", "response": RESPONSE}],
    "llamacpp": [
        *(llamacpp([TOKENS[n]], content=TEXTS[n], stop=False, stop_type="none") for n in range(3)),
        llamacpp([], content="", stop=True),
    ],
    "ollama": [*(ollama([TOKENS[n]], response=TEXTS[n], done=False) for n in range(3)), ollama(None, response="")],
    "tgi": [
        *({"token": named(n, "text", "logprob", id=n), "index": n + 1, "generated_text": None} for n in range(3)),
        {"token": None, "index": 4, "generated_text": TEXT, "details": {"finish_reason": "length"}},
    ],
    "gemini": [
        *(
            {
                "candidates": [
                    {
                        "content": {"parts": [{"text": TEXTS[n]}]},
                        "logprobsResult": {
                            "chosenCandidates": [named(n, "token", "logProbability", tokenId=n)],
                            "topCandidates": [{"candidates": [named(n, "token", "logProbability", tokenId=n)]}],
                        },
                    }
                ],
                "responseId": "r",
            }
            for n in range(3)
        ),
        {"candidates": [{"content": {"parts": []}, "finishReason": "STOP"}], "responseId": "r"},
    ],
    "sglang": [
        *(
            {"text": TEXTS[n], "meta_info": {"id": "s", "output_token_logprobs": [[NUMBERS[n], n, TEXTS[n]]]}}
            for n in range(3)
        ),
        {"text": "", "meta_info": {"id": "s", "finish_reason": {"type": "stop"}, "output_token_logprobs": []}},
    ],
    "cohere": [
        {"type": "message-start", "id": "c"},
        *(
            {
                "type": "content-delta",
                "index": 0,
                "delta": {"message": {"content": {"text": TEXTS[n]}}},
                "logprobs": {"text": TEXTS[n], "token_ids": [n], "logprobs": [NUMBERS[n]]},
            }
            for n in range(3)
        ),
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}},
    ],
    "transcription": [
        *({"type": "transcript.text.delta", "delta": TEXTS[n], "logprobs": [TOKENS[n]]} for n in range(3)),
        {"type": "transcript.text.done", "text": TEXT},
    ],
    "watsonx": [
        *(
            {
                "model_id": "m",
                "results": [
                    {
                        "generated_text": TEXTS[n],
                        "stop_reason": "not_finished",
                        "generated_tokens": [{**named(n, "text", "logprob"), "top_tokens": [{"text": "x"}], "rank": 1}],
                    }
                ],
            }
            for n in range(3)
        ),
        {"model_id": "m", "results": [{"generated_text": "", "stop_reason": "eos_token"}]},
    ],
    "dashscope": [
        *(
            {
                "request_id": "r",
                "output": {
                    "choices": [
                        {
                            "finish_reason": "null",
                            "message": {"role": "assistant", "content": TEXTS[n]},
                            "logprobs": {"content": [TOKENS[n]]},
                        }
                    ]
                },
            }
            for n in range(3)
        ),
        {"request_id": "r", "output": {"choices": [{"finish_reason": "stop", "message": {"content": ""}}]}},
    ],
}

RANGE: Final = {"start": 0, "end": 1}
ONES: Final = [{"token": TEXTS[n], "logprob": NUMBERS[n], "raw_logprob": NUMBERS[n]} for n in range(3)]
BODIES: dict[str, tuple[Any, tuple[tuple[Any, ...], ...]]] = {
    "llamacpp": (llamacpp(TOKENS), (("completion_probabilities",),)),
    "llamacpp sampled": (
        llamacpp([prob_token(TEXTS[n], 0.5, n, top_probs=[prob_token("a", 0.5, 7)]) for n in range(3)]),
        (("completion_probabilities",),),
    ),
    "llamacpp oldest": (
        llamacpp([{"content": text, "probs": [{"tok_str": text, "prob": 0.5}]} for text in TEXTS]),
        (("completion_probabilities",),),
    ),
    "ollama": (ollama(TOKENS), (("logprobs",),)),
    "sglang": (
        sglang(
            output_token_logprobs=[[NUMBERS[n], n, TEXTS[n]] for n in range(3)],
            output_top_logprobs=[[[NUMBERS[n], n, TEXTS[n]], [-3.0, 9, "z"]] for n in range(3)],
            output_token_ids_logprobs=[[[-4.0, 11, "y"]] for n in range(3)],
        ),
        tuple(("meta_info", f"output_{kind}_logprobs") for kind in ("token", "top", "token_ids")),
    ),
    "tgi": (
        tgi(
            tokens=[named(n, "text", "logprob", id=n, special=False) for n in range(3)],
            top_tokens=[[named(n, "text", "logprob", id=n, special=False)] for n in range(3)],
        ),
        (("details", "tokens"), ("details", "top_tokens")),
    ),
    "gemini": (
        gemini_body(
            gemini(
                {
                    "chosenCandidates": [named(n, "token", "logProbability", tokenId=n) for n in range(3)],
                    "topCandidates": [
                        {"candidates": [named(n, "token", "logProbability", tokenId=n)]} for n in range(3)
                    ],
                }
            )
        ),
        tuple(("candidates", 0, "logprobsResult", key) for key in ("chosenCandidates", "topCandidates")),
    ),
    "transcription": ({"text": TEXT, "logprobs": TOKENS, "usage": {"input_tokens": 1}}, (("logprobs",),)),
    "watsonx": (
        {
            "model_id": "m",
            "results": [
                {
                    "generated_text": TEXT,
                    "stop_reason": "eos_token",
                    "generated_tokens": [
                        {**named(n, "text", "logprob"), "rank": 1, "top_tokens": [named(n, "text", "logprob")]}
                        for n in range(3)
                    ],
                }
            ],
        },
        (("results", 0, "generated_tokens"),),
    ),
    "cohere": (
        {
            "finish_reason": "COMPLETE",
            "message": {"content": [{"type": "text", "text": TEXT}]},
            "logprobs": [{"text": TEXTS[n], "token_ids": [n], "logprobs": [NUMBERS[n]]} for n in range(3)],
        },
        (("logprobs",),),
    ),
    "ai21": (
        {
            "prompt": {"text": "p"},
            "completions": [
                {
                    "data": {
                        "text": TEXT,
                        "tokens": [{"generatedToken": one, "topTokens": [one], "textRange": RANGE} for one in ONES],
                    },
                    "finishReason": {"reason": "length"},
                }
            ],
        },
        (("completions", 0, "data", "tokens"),),
    ),
    "lightllm": (
        {
            "generated_text": [TEXT],
            "count_output_tokens": 3,
            "tokens": [named(n, "text", "logprob", id=n, special=False) for n in range(3)],
        },
        (("tokens",),),
    ),
    "dashscope": (
        {
            "request_id": "r",
            "output": {
                "choices": [{"finish_reason": "stop", "message": {"content": TEXT}, "logprobs": {"content": TOKENS}}]
            },
        },
        (("output", "choices", 0, "logprobs", "content"),),
    ),
    "bare choice": (OPENAI["chat"]["choices"][0], (("logprobs", "content"),)),
}
"""A body with three tokens, and the paths of its lists with an item for each token."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values inside a JSON value."""
    for key, held in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(held, (*path, key))


def deviating(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of the body with this value at the path."""
    body = json.loads(json.dumps(body))
    place = body
    for step in path[:-1]:
        place = place[step]
    if value is GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return body


class Decoded:
    """Bodies that are decoded together: the rows of each, and whether its logprobs are rebuilt."""

    def __init__(self, contents: list[bytes]) -> None:
        self._answers = [answer_with(content, prompt_index=n) for n, content in enumerate(contents)]
        decoded = decode_answers(self._answers)
        self.failures = decoded.failures
        self._rebuilt = rebuild(decoded)
        others: dict[tuple[int, int], list[Any]] = {}
        for row in decoded.alternatives.to_pylist():
            others.setdefault((row["completion_id"], row["position"]), []).append(self._values(row))
        self._rows: dict[int, list[Any]] = {}
        for row in decoded.tokens.to_pylist():
            if row["section"] == "content":
                listed = others.get((row["completion_id"], row["position"]), [])
                self._rows.setdefault(row["completion_id"], []).append((*self._values(row), listed))

    def _values(self, row: Any) -> tuple[Any, ...]:
        columns = ("token", "bytes", "token_id", "logprob", "logprob_flag", "logprob_wire")
        return tuple(row[column] for column in columns)

    def rows(self, number: int) -> list[Any]:
        """Text, bytes, id and number of each token of a body, with those of its alternatives."""
        return self._rows.get(completion_id(number, 0, 0), [])

    def is_rebuilt(self, number: int) -> bool:
        """Whether the logprobs of its one choice are rebuilt from the tables as the reader of the body saw them."""
        [choice] = read_body(self._answers[number]).choices
        held = choice.logprobs
        value = json.loads(held) if isinstance(held, bytes) else held
        found = self._rebuilt[completion_id(number, 0, choice.index)]
        return same(found, value if choice.layout is None else restore(choice.layout, value))


def events(pieces: list[Any]) -> bytes:
    """Pieces as server-sent events, with the mark that ends them."""
    return b"".join(b"data: %b\n\n" % json.dumps(piece).encode() for piece in pieces) + b"data: [DONE]\n\n"


@pytest.mark.parametrize("name", STREAMS)
def test_a_deviation_in_a_piece_costs_that_piece_alone(name: str) -> None:
    """Every value of every piece that brings a token, replaced by every odd value: the other tokens are kept."""
    pieces = STREAMS[name]
    first = next(n for n, piece in enumerate(pieces) if TEXTS[0] in json.dumps(piece, ensure_ascii=False))
    with_tokens = pieces[first : first + 3]
    cases = [
        (path, value)
        for path in places(with_tokens)
        for value in (GONE, *ODD)
        if not (path[-1] == "index" and value == 5)  # a piece of another choice
    ]
    odd = [[*pieces[:first], *deviating(with_tokens, *case), *pieces[first + 3 :]] for case in cases]
    decoded = Decoded([events(pieces), *map(events, odd)])
    good = decoded.rows(0)

    assert len(good) == 3
    assert [(cases[n - 1], error) for n, error in decoded.failures] == []

    for number, (path, value) in enumerate(cases, 1):
        kept = [row for n, row in enumerate(good) if n != path[0]]
        found = decoded.rows(number)

        assert [row for row in found if row in kept] == kept, (path, value)
        assert len(found) <= len(good), (path, value)
        assert decoded.is_rebuilt(number), (path, value)


def token_of(path: tuple[Any, ...], lists: tuple[tuple[Any, ...], ...]) -> int | None:
    """The number of the token that a path is inside of; None if it is elsewhere."""
    return next((path[len(one)] for one in lists if path[: len(one)] == one and len(path) > len(one)), None)


@pytest.mark.parametrize("name", BODIES)
def test_a_deviation_in_a_native_body_costs_its_own_item_alone(name: str) -> None:
    """Every value inside and beside the lists of tokens, replaced by every odd value: the other tokens keep theirs."""
    body, lists = BODIES[name]
    inside = [path for path in places(body) if len(path) > 1 and not any(one[: len(path)] == path for one in lists)]
    cases = [
        (path, value)
        for path in inside
        for value in (GONE, *ODD)
        if not (value is GONE and isinstance(path[-1], int))  # no deviation, but one item less
    ]
    decoded = Decoded([json.dumps(one).encode() for one in (body, *(deviating(body, *case) for case in cases))])
    good = decoded.rows(0)

    assert len(good) == 3
    assert [(cases[n - 1], error) for n, error in decoded.failures] == []

    for number, (path, value) in enumerate(cases, 1):
        own, found = token_of(path, lists), decoded.rows(number)
        kept = [row for n, row in enumerate(good) if n != own]

        assert [row for n, row in enumerate(found) if n != own] == kept, (path, value)
        assert decoded.is_rebuilt(number), (path, value)


@pytest.mark.parametrize("odd", [[], {"a": 1}, 7])
def test_an_event_of_a_response_with_an_odd_id_is_described(odd: object) -> None:
    """Only a text is an id, of a response or of a part of it."""
    added = responses_stream.describe({"type": "response.output_item.added", "item": {"id": odd}})
    last = responses_stream.describe({"type": "response.completed", "response": {"id": odd}})

    assert added is not None
    assert added.item_ids == frozenset()
    assert last is not None
    assert last.stream_id is None


@pytest.mark.parametrize("name", ["responses", "transcription"])
def test_events_may_have_their_type_in_the_event_line_alone(name: str) -> None:
    """The name of the event is the type that its data lacks."""
    pieces = STREAMS[name]
    bare = b"".join(
        b"event: %b\ndata: %b\n\n"
        % (piece["type"].encode(), json.dumps({key: held for key, held in piece.items() if key != "type"}).encode())
        for piece in pieces
    )
    usual = b"".join(b"data: %b\n\n" % json.dumps(piece).encode() for piece in pieces)

    expected, actual = (decode_answers([answer_with(content)]) for content in (usual, bare))
    assert actual.failures == []
    assert actual.tokens.num_rows == len(TOKENS)
    assert (actual.completions, actual.tokens) == (expected.completions, expected.tokens)


def test_the_end_of_a_response_may_be_in_the_event_line_alone() -> None:
    """The check of an answer takes such a stream for whole, and one that failed for a failure."""
    check_answer(b'event: response.completed\ndata: {"response": {"output": []}}\n\n')

    with pytest.raises(RetryableError, match="status: failed"):
        check_answer(b'event: response.failed\ndata: {"response": {"status": "failed"}}\n\n')


def test_other_names_of_events_are_no_type() -> None:
    """`event: message` says nothing, and data that has a type keeps it."""
    assert event_data(b'event: message\ndata: {"a": 1}\n\n') == [b'{"a": 1}']
    assert event_data(b'event: a.b\ndata: {"x": {"type": 1}}\n\n') == [b'{"type":"a.b","x": {"type": 1}}']
    assert event_data(b'event: a.b\ndata: {"x": 1, "type": "c"}\n\n') == [b'{"x": 1, "type": "c"}']
    assert event_data(b"event: a.b\ndata: {}\n\n") == [b'{"type":"a.b"}']
