"""The chat shape: the row that each value on the wire becomes."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from builders import answer_with, chat_body, chat_token
from decode.decoding import decode_one

from logprob_store.decode.decoder import decode_answers
from logprob_store.schema import ALTERNATIVES, COMPLETIONS, TOKENS, arrow_schema

HI = {
    "token": "Hi",
    "logprob": -0.5,
    "bytes": [72, 105],
    "top_logprobs": [
        {"token": "Hi", "logprob": -0.5, "bytes": [72, 105]},
        {"token": "<eos>", "logprob": -1.25, "bytes": None},
    ],
}
BODY = {
    "id": "chatcmpl-1",
    "created": 1700000000,
    "model": "m-2024",
    "system_fingerprint": "fp",
    "service_tier": "default",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hi!", "refusal": None},
            "logprobs": {
                "content": [HI, {**HI, "token": "!", "logprob": -2, "bytes": [33], "top_logprobs": []}],
                "refusal": None,
            },
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 4, "completion_tokens": 3},
}


def test_the_tables_have_the_documented_schemas() -> None:
    """The Arrow schemas equal those of `schema`, with rows and without."""
    for answers in ([], [answer_with(BODY)], [answer_with(b"")]):
        decoded = decode_answers(answers)

        assert decoded.completions.schema.equals(arrow_schema(COMPLETIONS), check_metadata=True)
        assert decoded.tokens.schema.equals(arrow_schema(TOKENS), check_metadata=True)
        assert decoded.alternatives.schema.equals(arrow_schema(ALTERNATIVES), check_metadata=True)


def test_a_token_becomes_a_row_and_so_does_each_alternative() -> None:
    """Positions count from 0, ranks from 1; null bytes stay null; an integer logprob becomes a float."""
    _, tokens, alternatives = decode_one(BODY, prompt_index=3)

    nothing = (None, None, None)

    assert tokens.rows() == [
        (300_000_000, "content", 0, "Hi", b"Hi", None, -0.5, None, None),
        (300_000_000, "content", 1, "!", b"!", None, -2.0, None, None),
    ]
    assert alternatives.rows() == [
        (300_000_000, "content", 0, 1, "Hi", b"Hi", None, -0.5, *nothing[:2]),
        (300_000_000, "content", 0, 2, "<eos>", None, None, -1.25, *nothing[:2]),
    ]


def test_a_choice_becomes_a_row_with_sums() -> None:
    """The sum of -0.5 and -2 is -2.5, and the minimum is -2."""
    completions, _, _ = decode_one(BODY, prompt_index=3, source="fixture")
    row = completions.row(0, named=True)
    del row["request_key"]

    expected = {
        "completion_id": 300_000_000,
        "prompt_id": "p3",
        "prompt_index": 3,
        "sample_index": 0,
        "choice_index": 0,
        "endpoint": "chat",
        "model": "m",
        "response_model": "m-2024",
        "response_id": "chatcmpl-1",
        "system_fingerprint": "fp",
        "service_tier": "default",
        "created": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),  # date -ud @1700000000
        "finish_reason": "stop",
        "text": "Hi!",
        "refusal": None,
        "tool_calls": None,
        "prompt_tokens": 4,
        "completion_tokens": 3,
        "cost_usd": None,
        "token_count": 2,
        "logprob_sum": -2.5,
        "logprob_min": -2.0,
        "source": "fixture",
        "attempts": 1,
        "maybe_billed": False,
        "latency_s": None,
        "wire": '{"shape":"chat","content":"list","refusal":"null","token":["bytes","logprob","token","top_logprobs"],'
        '"alternative":["bytes","logprob","token"]}',
    }

    assert row == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("-0.25", (-0.25, None, None)),
        ("-0.0", (-0.0, None, None)),
        ("-9998.9", (-9998.9, None, None)),
        ("-9999.0", (None, "sentinel", -9999.0)),
        ("-3.4028235e38", (None, "sentinel", -3.4028235e38)),
        ("3.05e-05", (None, "positive", 3.05e-05)),
        ("Infinity", (None, "positive", math.inf)),
        ("-Infinity", (None, "neg_inf", None)),
        ("-1e999", (None, "neg_inf", None)),
        ("null", (None, "missing", None)),
        ('"-0.25"', (None, "missing", None)),
        ("true", (None, "missing", None)),
    ],
)
@pytest.mark.parametrize("filler", ["a", "a" * 300])
def test_what_is_no_probability_is_null_and_flagged(written: str, expected: tuple[Any, ...], filler: str) -> None:
    """A logprob is a number in (-9999, 0]; any other value is null, with a flag that says why."""
    entry = f'{{"token":"{filler}","logprob":{written}}}'
    body = f'{{"choices":[{{"logprobs":{{"content":[{entry[:-1]},"top_logprobs":[{entry}]}}]}}}}]}}'
    _, tokens, alternatives = decode_one(body.encode())

    for frame in (tokens, alternatives):
        row = frame.select("logprob", "logprob_flag", "logprob_wire").row(0)

        assert row == expected
        assert math.copysign(1, row[0] or 0.0) == math.copysign(1, expected[0] or 0.0)


def test_nan_is_missing_and_kept() -> None:
    """NaN is flagged as missing, and `logprob_wire` keeps it."""
    _, tokens, _ = decode_one(b'{"choices":[{"logprobs":{"content":[{"token":"a","logprob":NaN}]}}]}')

    assert tokens["logprob"].to_list() == [None]
    assert tokens["logprob_flag"].to_list() == ["missing"]
    assert tokens["logprob_wire"].is_nan().to_list() == [True]


def test_flagged_tokens_are_counted_but_not_summed() -> None:
    """Of three tokens one has a logprob, -1.5; without any, sum and minimum are null."""
    listed = [{"token": "a", "logprob": value} for value in (-9999.0, -1.5, 0.7)]
    columns = ("token_count", "logprob_sum", "logprob_min")
    completions, _, _ = decode_one({"choices": [{"logprobs": {"content": listed}}]})

    assert completions.select(columns).row(0) == (3, -1.5, -1.5)

    completions, _, _ = decode_one({"choices": [{"logprobs": {"content": listed[:1]}}]})

    assert completions.select(columns).row(0) == (1, None, None)


def test_sections_are_sorted_and_each_counts_from_zero() -> None:
    """The order is content, refusal, reasoning, whatever it was on the wire."""
    value = {
        "reasoning_content": [{"token": "r", "logprob": -1}],
        "refusal": [{"token": "n", "logprob": -1}, {"token": "o", "logprob": -1}],
        "content": [{"token": "c", "logprob": -1}],
    }
    completions, tokens, _ = decode_one({"choices": [{"message": {"reasoning_content": "r"}, "logprobs": value}]})

    expected = [("content", 0, "c"), ("refusal", 0, "n"), ("refusal", 1, "o"), ("reasoning", 0, "r")]

    assert tokens.select("section", "position", "token").rows() == expected
    assert completions["token_count"].to_list() == [4]
    assert completions["logprob_sum"].to_list() == [-4.0]


def test_choices_are_rows_by_index_and_share_the_usage() -> None:
    """The completion_id follows from the index of a choice, not from its place in the body."""
    choices = [
        {"index": n, "text": t, "logprobs": {"content": [{"token": t, "logprob": -n}]}} for n, t in ((7, "b"), (2, "a"))
    ]
    completions, tokens, _ = decode_one({"choices": choices, "usage": {"completion_tokens": 9}})

    expected = [(2, 2, "a", 9), (7, 7, "b", 9)]

    assert completions.select("completion_id", "choice_index", "text", "completion_tokens").rows() == expected
    assert tokens.select("completion_id", "token").rows() == [(2, "a"), (7, "b")]


def test_token_ids_are_kept() -> None:
    """llama.cpp's ids are kept; one beyond Int32 is in the patch only."""
    listed = [{"id": number, "token": "a" * 100, "logprob": -1.0, "bytes": [97]} for number in (5, 2**31 - 1, 2**31)]
    _, tokens, _ = decode_one({"choices": [{"logprobs": {"content": listed}}]})

    assert tokens["token_id"].to_list() == [5, 2**31 - 1, None]


def test_bytes_that_are_none_become_null() -> None:
    """A list with 256 is null; an empty list is not."""
    listed = [{"token": "a", "logprob": -1.0, "bytes": spelled} for spelled in ([97], [], None, [256], [1.0])]
    _, tokens, _ = decode_one({"choices": [{"logprobs": {"content": listed}}]})

    assert tokens["bytes"].to_list() == [b"a", b"", None, None, None]


def test_lone_surrogates_are_replaced_in_the_tables() -> None:
    """A table holds UTF-8, which has no surrogates."""
    body = rb'{"choices":[{"message":{"content":"x\ud83d"},"logprobs":{"content":[{"token":"\ude00y","logprob":-1}]}}]}'
    completions, tokens, _ = decode_one(body)

    assert completions["text"].to_list() == ["x�"]
    assert tokens["token"].to_list() == ["�y"]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"content": "a"}, ("a", None, None)),
        ({"content": [{"type": "text", "text": "a"}, {"type": "image"}, {"text": "b"}]}, ("ab", None, None)),
        ({"content": None, "refusal": "no"}, (None, "no", None)),
        ({"content": 7, "refusal": [], "tool_calls": []}, (None, None, None)),
        ({"tool_calls": [{"id": 1, "function": {"name": "é"}}]}, (None, None, '[{"id":1,"function":{"name":"é"}}]')),
        (None, (None, None, None)),
        ("what?", (None, None, None)),
    ],
)
def test_messages_are_read_leniently(message: Any, expected: tuple[str | None, ...]) -> None:
    """Text, content parts, refusals and tool calls are read; anything else becomes null."""
    completions, _, _ = decode_one({"choices": [{"message": message, "logprobs": None}]}, logprobs=False)

    assert completions.select("text", "refusal", "tool_calls").row(0) == expected


@pytest.mark.parametrize("created", ["yesterday", -1e300, 10**18, 10**40, None, [], True, math.inf])
def test_an_unusable_field_is_null(created: Any) -> None:
    """A field of the wrong type that no row depends on does not fail the answer."""
    body = {**BODY, "created": created, "id": 5, "model": {}, "system_fingerprint": [], "usage": {"prompt_tokens": "4"}}
    completions, tokens, _ = decode_one(body)
    columns = ("created", "response_id", "response_model", "system_fingerprint", "prompt_tokens", "completion_tokens")

    assert completions.select(columns).row(0) == (None,) * 6
    assert len(tokens) == 2


def test_created_may_be_a_fraction() -> None:
    """A time half a second past the epoch is kept."""
    completions, _, _ = decode_one({**BODY, "created": 0.5})

    assert completions["created"].to_list() == [datetime(1970, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)]


def test_a_byte_order_mark_is_skipped() -> None:
    """Some proxies put one before the body."""
    _, tokens, _ = decode_one(b'\xef\xbb\xbf{"choices":[{"logprobs":{"content":[{"token":"a","logprob":-1}]}}]}')

    assert tokens["token"].to_list() == ["a"]


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 0, "completion_tokens": 0, "input_tokens": 9, "output_tokens": 4}, (9, 4)),
        ({"prompt_tokens": 0, "completion_tokens": 4}, (0, 4)),
        ({"prompt_tokens": 9, "completion_tokens": 4, "input_tokens": 0, "output_tokens": 0}, (9, 4)),
    ],
)
def test_tokens_are_counted_by_either_name(usage: dict[str, int], expected: tuple[int, int]) -> None:
    """A batch has the names of the Responses API, beside those of chat that are 0."""
    rows = decode_answers([answer_with(chat_body([chat_token("a")], usage=usage))]).completions

    assert (rows["prompt_tokens"].to_pylist(), rows["completion_tokens"].to_pylist()) == ([expected[0]], [expected[1]])
