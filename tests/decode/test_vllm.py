"""vLLM's logprobs of the prompt and token ids in place of texts, and other servers' extra keys of tokens."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from builders import answer_with
from decode.decoding import assert_scanned, decode_one, failure_of, rebuild

from logprob_store.decode.decoder import decode_answers


def one(logprob: float, rank: Any, text: str | None) -> dict[str, Any]:
    """A value of an entry of `prompt_logprobs`."""
    return {"logprob": logprob, "rank": rank, "decoded_token": text}


PROMPT = [
    None,
    {"17": one(-2.5, 3, " cat"), "9": one(-0.5, 1, " dog"), "4": one(-1.0, 2, " ox")},
    {"30": one(-0.25, 1, " sat"), "31": one(-9999.0, 2, " ran")},
]
CHAT = {"content": [{"token": "!", "logprob": -1.0, "bytes": [33], "top_logprobs": []}]}


def value_and_wire(body: Any, **options: Any) -> tuple[dict[int, Any], list[str]]:
    """The value rebuilt from a body's tables, and its `wire` column."""
    decoded = decode_answers([answer_with(body, **options)])
    assert decoded.failures == []
    value = rebuild(decoded)
    return value, decoded.completions.column("wire").to_pylist()


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_the_prompt_is_a_section_whose_positions_are_the_prompts(endpoint: str) -> None:
    """The first token has no logprob and no row, so positions start at 1; sums leave the prompt out."""
    choice = {"index": 0, "text": "!", "message": {"content": "!"}, "logprobs": CHAT}
    if endpoint == "chat":
        body = {"choices": [{**choice}], "prompt_logprobs": PROMPT}
    else:
        body = {"choices": [{**choice, "prompt_logprobs": PROMPT}]}
    completions, tokens, alternatives = decode_one(body, endpoint=endpoint)

    assert tokens.select("section", "position", "token", "token_id", "logprob", "logprob_flag").rows() == [
        ("prompt", 1, " cat", 17, -2.5, None),
        ("prompt", 2, " sat", 30, -0.25, None),
        ("content", 0, "!", None, -1.0, None),
    ]
    assert alternatives.select(
        "section", "position", "rank", "token", "token_id", "logprob", "logprob_flag"
    ).rows() == [
        ("prompt", 1, 1, " cat", 17, -2.5, None),
        ("prompt", 1, 2, " dog", 9, -0.5, None),
        ("prompt", 1, 3, " ox", 4, -1.0, None),
        ("prompt", 2, 1, " sat", 30, -0.25, None),
        ("prompt", 2, 2, " ran", 31, None, "sentinel"),
    ]
    assert completions.select("token_count", "logprob_sum").row(0) == (1, -1.0)


def test_both_values_are_rebuilt() -> None:
    """Ranks that follow from the order of logprobs are not stored."""
    value, [wire] = value_and_wire({"choices": [{"logprobs": CHAT}], "prompt_logprobs": PROMPT})

    assert value == {0: {"logprobs": CHAT, "prompt_logprobs": PROMPT}}
    assert [list(entry) for entry in value[0]["prompt_logprobs"][1:]] == [["17", "9", "4"], ["30", "31"]]
    assert json.loads(wire)["prompt_logprobs"] == {
        "shape": "prompt_logprobs",
        "nulls": [0],
        "keys": ["logprob", "rank", "decoded_token"],
    }


def test_a_rank_beyond_those_listed_is_in_the_template() -> None:
    """The prompt's own token has rank 1234, which does not follow from the listed logprobs."""
    prompt = [None, {"17": one(-9.5, 1234, "x"), "9": one(-0.5, 1, "y")}, {"9": one(-0.5, 1, "y")}]
    value, [wire] = value_and_wire({"choices": [{"logprobs": CHAT}], "prompt_logprobs": prompt})

    assert value[0]["prompt_logprobs"] == prompt
    assert json.loads(wire)["prompt_logprobs"]["ranks"] == [1234, 1]
    assert "patch" not in wire


@pytest.mark.parametrize(
    "prompt",
    [
        [],
        [None],
        [None, None, {}],
        [{"5": one(-1.0, 1, "a")}, None, {"6": one(-1.0, 1, "b")}],
        [None, {"5": one(-1.0, None, "a")}],
        [None, {"5": one(-1.0, 1, None)}],
        [None, {"5": {"logprob": -1.0}}, {"5": {"logprob": -1.0, "rank": 1, "extra": [1]}}],
        [None, {"x": one(-1.0, 1, "a"), "007": one(-1, 2, "b"), "99999999999": one(-1, 3, "b")}],
        [None, {"5": {**one(float("-inf"), 1, "a"), "rank": True}, "6": one(0.5, 7, "\ud83d")}],
        [None, {"5": one(-2.0, 1, "a"), "6": one(-1.0, 2, "b")}],
    ],
)
def test_odd_values_are_rebuilt_too(prompt: Any) -> None:
    """Entries that are empty, without id or text, or with contradicting ranks."""
    value, _ = value_and_wire({"choices": [{"logprobs": CHAT, "prompt_logprobs": prompt}]})

    assert repr(value[0]["prompt_logprobs"]) == repr(prompt)


def test_prompt_logprobs_of_a_chat_belong_to_the_first_choice() -> None:
    """There is one prompt, however many choices; null counts as absent."""
    choices = [{"index": n, "logprobs": CHAT} for n in (1, 0)]
    value, _ = value_and_wire({"choices": choices, "prompt_logprobs": PROMPT})

    assert value == {0: {"logprobs": CHAT, "prompt_logprobs": PROMPT}, 1: CHAT}

    value, _ = value_and_wire({"choices": choices, "prompt_logprobs": None})

    assert value == {0: CHAT, 1: CHAT}


def test_an_echoed_prompt_that_differs_has_its_rows_from_the_echo() -> None:
    """The echo and `prompt_logprobs` differ in length, and both are rebuilt."""
    echoed = {"tokens": ["The", " cat", " sat"], "token_logprobs": [None, -2.5, -0.25]}
    body = {"choices": [{"text": "The cat sat", "logprobs": echoed, "prompt_logprobs": PROMPT}]}
    asked = {"endpoint": "completions", "echo": True, "prompt": "The cat"}
    decoded = decode_answers([answer_with(body, **asked)])

    assert decoded.tokens.column("section").to_pylist() == ["prompt", "prompt", "content"]

    value, _ = value_and_wire(body, **asked)

    assert value == {0: {"logprobs": echoed, "prompt_logprobs": PROMPT}}


@pytest.mark.parametrize("change", [{"tokens": ["The", " dog", " sat"]}, {"token_logprobs": [None, -2.25, -0.25]}])
def test_an_echoed_prompt_that_contradicts_keeps_its_own_rows(change: Any) -> None:
    """With equal lengths and another token or number, the rows are the echo's, and both are rebuilt."""
    echoed = {"tokens": ["The", " cat", " sat"], "token_logprobs": [None, -2.5, -0.25], **change}
    body = {
        "choices": [{"text": "The cat sat", "logprobs": echoed, "prompt_logprobs": PROMPT}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 0},
    }
    asked = {"endpoint": "completions", "echo": True, "prompt": "The cat sat"}
    decoded = decode_answers([answer_with(body, **asked)])

    assert decoded.tokens.column("token").to_pylist() == echoed["tokens"]
    assert decoded.tokens.column("logprob").to_pylist() == echoed["token_logprobs"]
    assert decoded.tokens.column("token_id").to_pylist() == [None, None, None]
    assert value_and_wire(body, **asked)[0] == {0: {"logprobs": echoed, "prompt_logprobs": PROMPT}}


def test_an_echo_and_prompt_logprobs_that_agree_share_their_rows() -> None:
    """The rows have the echo's first token and the other value's ids, and neither value is stored twice."""
    echoed = {
        "tokens": ["The", " cat", " sat", "!"],
        "token_logprobs": [None, -2.5, -0.25, -1.0],
        "top_logprobs": [
            None,
            {" cat": -2.5, " dog": -0.5, " ox": -1.0},
            {" sat": -0.25, " ran": -9999.0},
            {"!": -1.0},
        ],
        "text_offset": [0, 3, 7, 11],
    }
    body = {"choices": [{"text": "The cat sat!", "logprobs": echoed, "prompt_logprobs": PROMPT}]}
    asked = {"endpoint": "completions", "echo": True, "prompt": "The cat sat"}
    decoded = decode_answers([answer_with(body, **asked)])
    tokens = decoded.tokens

    assert tokens.column("section").to_pylist() == ["prompt", "prompt", "prompt", "content"]
    assert tokens.column("position").to_pylist() == [0, 1, 2, 0]
    assert tokens.column("token_id").to_pylist() == [None, 17, 30, None]

    value, [wire] = value_and_wire(body, **asked)

    assert value == {0: {"logprobs": echoed, "prompt_logprobs": PROMPT}}
    assert "patch" not in wire


def test_null_logprobs_though_asked_for_is_a_failure_beside_a_prompt() -> None:
    """The logprobs of the prompt do not replace those of the answer."""
    body = {"choices": [{"text": "a", "logprobs": None, "prompt_logprobs": PROMPT}]}

    assert failure_of(body) == ("no_logprobs", "choices[0].logprobs: null, though asked for")


def test_an_import_without_its_request_needs_no_logprobs() -> None:
    """An answer whose request is unknown is not failed for logprobs of the answer that it lacks."""
    body = {"choices": [{"text": "", "logprobs": None, "finish_reason": None, "prompt_logprobs": PROMPT}]}
    known = answer_with(body)
    unknown = replace(known, request=replace(known.request, content=b""))

    assert [error.error_type for _, error in decode_answers([known]).failures] == ["no_logprobs"]
    assert decode_answers([unknown]).tokens.column("section").to_pylist() == ["prompt", "prompt"]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ({}, []),
        ("no", []),
        ([None, [], {"5": one(-1.0, 1, "a")}], [(1, None, None, None), (2, "a", 5, -1.0)]),
        ([{"5": 1}, {"5": one(-1.0, 1, "a")}], [(0, None, 5, None), (1, "a", 5, -1.0)]),
        ([{"5": {"decoded_token": 1, "logprob": -1.0}}], [(0, None, 5, -1.0)]),
        ([None, {"5": one(-3.0, "x", "a"), "6": one(-1.0, 1, "b")}], [(1, "a", 5, -3.0)]),
    ],
)
def test_an_odd_item_of_a_prompt_is_null(prompt: Any, expected: Any) -> None:
    """Its row is null, the other rows are unchanged, and the value is rebuilt."""
    body = {"choices": [{"logprobs": CHAT, "prompt_logprobs": prompt}]}
    decoded = decode_answers([answer_with(body)])
    rows = decoded.tokens.filter(pc.equal(decoded.tokens["section"].cast(pa.string()), "prompt"))

    columns = (rows[name].to_pylist() for name in ("position", "token", "token_id", "logprob"))

    assert list(zip(*columns, strict=True)) == expected
    assert value_and_wire(body)[0] == {0: {"logprobs": CHAT, "prompt_logprobs": prompt}}


QUESTION, THE, TAGS = one(-1.25, 1, "Question"), one(-3.5, 3, "The"), one(-2.0, 2, "Tags")
BY_RANK = {"9": QUESTION, "7": TAGS, "5": THE}
FAR = {"220": one(-0.5, 1, " "), "68": one(-9.5, 117, " capital")}
NEAR = {"220": one(-0.5, 1, " "), "68": one(-9.5, 2, " capital")}


def own_tokens(listed: Any, choice: Any = None, **options: Any) -> list[Any]:
    """The text, id, logprob and flag of the prompt's tokens, by position."""
    body = {"choices": [{"text": "!", "logprobs": CHAT, "prompt_logprobs": listed, **(choice or {})}]}
    decoded = decode_answers([answer_with(body, **options)])

    assert value_and_wire(body, **options)[0] == {0: {"logprobs": CHAT, "prompt_logprobs": listed}}
    assert decoded.alternatives.num_rows == sum(len(item or ()) for item in listed)

    columns = [decoded.tokens[name].to_pylist() for name in ("token", "token_id", "logprob", "logprob_flag")]
    return list(zip(*columns, strict=True))[:-1]


CAPITAL = (" capital", 68, -9.5, None)


def test_the_prompts_own_token_is_found_by_its_id() -> None:
    """The choice gives the ids of its prompt, and the keys are in the order of the ranks."""
    own = own_tokens([None, BY_RANK, FAR], {"prompt_token_ids": [1, 5, 68]})

    assert own == [("The", 5, -3.5, None), CAPITAL]
    assert own_tokens([None, BY_RANK, FAR], prompt=[1, 5, 68]) == own


def test_an_id_that_is_not_listed_is_flagged() -> None:
    """The row has the id and no logprob, because those of other tokens would be wrong."""
    own = own_tokens([None, BY_RANK], {"prompt_token_ids": [1, 4]})

    assert own == [(None, 4, None, "missing")]


def test_the_prompts_own_token_is_found_by_its_rank() -> None:
    """Rank 117 shows that keys are ordered by rank, so the own token of the first position is unknown."""
    assert own_tokens([None, BY_RANK, FAR]) == [(None, None, None, "missing"), CAPITAL]


def test_a_rank_just_beyond_the_likeliest_is_the_own_token() -> None:
    """Another position lists one likeliest token, so here the second is the prompt's own."""
    assert own_tokens([None, NEAR, FAR]) == [CAPITAL, CAPITAL]


@pytest.mark.parametrize(("prompt", "listed"), [("The capital", [BY_RANK, FAR]), ("<s>The", [BY_RANK])])
def test_the_prompts_own_token_is_found_by_the_text(prompt: str, listed: Any) -> None:
    """The own tokens spell the end of the prompt, and no others do."""
    own = own_tokens([None, *listed], endpoint="completions", prompt=prompt)

    assert own == [("The", 5, -3.5, None), CAPITAL][: len(listed)]


def test_vllms_order_puts_the_own_token_first() -> None:
    """One position has to show that order, and none may contradict it."""
    first = {"5": THE, "9": QUESTION, "7": TAGS}

    assert own_tokens([None, first, BY_RANK]) == [("The", 5, -3.5, None), ("Question", 9, -1.25, None)]


def test_a_whole_vocabulary_harms_no_other_answer() -> None:
    """Of 2**15 alternatives those with a rank are rows; the own token has its logprob, and all is rebuilt."""
    many = {str(n): one(-1.0 - n, n + 1, f"t{n}") for n in range(2**15)}
    body = {"choices": [{"logprobs": CHAT, "prompt_logprobs": [None, many], "prompt_token_ids": [1, 2**15 - 1]}]}
    good = {"choices": [{"logprobs": CHAT}]}
    decoded = decode_answers([answer_with(good), answer_with(body, prompt_index=1), answer_with(good, prompt_index=2)])

    assert decoded.failures == []
    assert decoded.tokens.column("token").to_pylist() == ["!", f"t{2**15 - 1}", "!", "!"]
    assert decoded.alternatives.num_rows == 2**15 - 1
    [back] = value_and_wire(body)[0].values()
    assert back == {"logprobs": CHAT, "prompt_logprobs": [None, many]}
    assert list(back["prompt_logprobs"][1]) == list(many)


def listed(**keys: Any) -> dict[str, Any]:
    """A body whose tokens and alternatives have these keys beside text and logprob."""
    made = {"token": "a" * 99, "logprob": -1.0, **keys}
    return {"choices": [{"logprobs": {"content": [{**made, "top_logprobs": [made]}] * 2}}]}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"token": "token_id:123"}, 123),
        ({"token": "token_id:2147483648"}, None),
        ({"token": "token_id:"}, None),
        ({"token": " token_id:1"}, None),
        ({"token": "token_id:5", "id": 7}, 7),
        ({"token": "token_id:5", "id": None}, None),
        ({"token_id": 8}, 8),
    ],
)
def test_token_ids_have_their_column(keys: Any, expected: int | None) -> None:
    """An id in the text of a token goes into the column for ids, scanned or token by token; the text stays."""
    irregular = listed(**keys)
    irregular["choices"][0]["logprobs"]["extra"] = None
    for body, ways in ((listed(**keys), []), (irregular, [0])):
        decoded = decode_answers([answer_with(body)], scanner_min_bytes=0)

        assert decoded.failures == []
        assert_scanned(decoded, but=ways)
        for table in (decoded.tokens, decoded.alternatives):
            assert table.column("token_id").to_pylist() == [expected] * 2
        assert decoded.tokens.column("token")[0].as_py() == keys.get("token", "a" * 99)
        assert value_and_wire(body)[0] == {0: body["choices"][0]["logprobs"]}


def test_token_ids_stand_in_the_legacy_shape_too() -> None:
    """They are read from the keys of a dict of alternatives as well."""
    value = {"tokens": ["token_id:5"], "token_logprobs": [-1.0], "top_logprobs": [{"token_id:6": -2.0}]}
    _, tokens, alternatives = decode_one({"choices": [{"logprobs": value}]}, endpoint="completions")

    assert (tokens["token_id"].to_list(), alternatives["token_id"].to_list()) == ([5], [6])


def test_keys_without_a_column_are_lists_in_the_template() -> None:
    """Fireworks' `text_offset` and `sampling_logprob` have a value for each token, and need no patch."""
    tokens = [
        {"token": "a", "logprob": -1.0, "sampling_logprob": -0.5, "text_offset": n, "top_logprobs": []} for n in (0, 1)
    ]
    value, [wire] = value_and_wire({"choices": [{"logprobs": {"content": tokens}}]})

    assert value == {0: {"content": tokens}}
    assert json.loads(wire)["extra"] == {"sampling_logprob": [-0.5, -0.5], "text_offset": [0, 1]}
    assert "patch" not in wire
