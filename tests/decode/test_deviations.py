"""Single deviations of a good body, one a case: each costs at most the item that deviates, and all of it is rebuilt."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

import pytest

from logprob_store.decode.decoder import decode_answers
from logprob_store.decode.rebuild import rebuild_logprobs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GONE: Final = object()
"""Stands for a key that is left out."""

ODD: Final = (None, 5, -0.5, True, "x", [], {}, [None], {"a": 1}, float("nan"))


def one(text: str, logprob: float, *others: tuple[str, float]) -> dict[str, Any]:
    """A token with its alternatives."""
    made: dict[str, Any] = {"token": text, "logprob": logprob, "bytes": list(text.encode())}
    if others:
        made["top_logprobs"] = [one(*other) for other in others]
    return made


TOKENS = [
    one("Hi", -0.25, ("Hi", -0.25), ("Ho", -1.5)),
    one(" é", -0.5, (" é", -0.5), (" a", -2.0)),
    one("!", -1.0, ("!", -1.0), ("?", -1.25)),
]
TEXT = "Hi é!"
BESIDE = {"id": "r-1", "model": "m-1", "created": 1700000000, "created_at": 1700000000, "system_fingerprint": "f"}
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "input_tokens": 7, "output_tokens": 3}
CHAT = {
    **BESIDE,
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": TEXT, "refusal": None},
            "logprobs": {"content": TOKENS, "refusal": None},
        }
    ],
    "usage": USAGE,
}
LEGACY = {
    **BESIDE,
    "object": "text_completion",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "text": TEXT,
            "logprobs": {
                "tokens": [token["token"] for token in TOKENS],
                "token_logprobs": [token["logprob"] for token in TOKENS],
                "top_logprobs": [{other["token"]: other["logprob"] for other in t["top_logprobs"]} for t in TOKENS],
                "text_offset": [0, 2, 4],
            },
        }
    ],
    "usage": USAGE,
}
RESPONSES = {
    **BESIDE,
    "object": "response",
    "status": "completed",
    "output": [
        {"type": "reasoning", "summary": []},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": TEXT, "annotations": [], "logprobs": TOKENS}],
        },
    ],
    "usage": USAGE,
}
BODIES = {"chat": CHAT, "legacy": LEGACY, "responses": RESPONSES}
LISTS = {
    "chat": ("choices", 0, "logprobs", "content"),
    "responses": ("output", 1, "content", 0, "logprobs"),
    "legacy": ("choices", 0, "logprobs"),
}

Case = tuple[str, tuple[Any, ...], Any, set[Any]]
"""The body's name, the path of what deviates, its value, and what that may cost.

`n` costs the row of token n and no alternative, `(n,)` all alternatives of token n, `(n, rank)` that one; a text costs
a column of the completion.
"""


def of_tokens() -> list[Case]:
    """Deviations of the second token, and of its second alternative."""
    cases: list[Case] = []
    for name in ("chat", "responses"):
        token = (*LISTS[name], 1)
        cases += [(name, token, value, {1, (1,)}) for value in (*ODD, ["a", -1.0])]
        cases += [(name, (*token, key), value, {1}) for key in ("token", "logprob", "bytes") for value in (GONE, *ODD)]
        cases += [(name, (*token, "top_logprobs"), value, {(1,)}) for value in (GONE, *ODD)]
        cases += [(name, (*token, "top_logprobs"), value, {(1,)}) for value in ({" é": -0.5, " a": -2.0}, one("b", -1))]
        cases += [(name, (*token, key), value, {1}) for key in ("id", "token_id") for value in (9, *ODD, 2**40)]
        other = (*token, "top_logprobs", 1)
        cases += [(name, other, value, {(1, 2)}) for value in ODD]
        cases += [
            (name, (*other, key), value, {(1, 2)}) for key in ("token", "logprob", "bytes") for value in (GONE, *ODD)
        ]
        cases += [(name, (*token, "extra"), value, set()) for value in ODD]
    return cases


def of_legacy_columns() -> list[Case]:
    """Deviations of the lists of the legacy shape, and of their second items."""
    cases: list[Case] = []
    all_tokens, all_others = {0, 1, 2}, {(0,), (1,), (2,)}
    at = LISTS["legacy"]
    for key, whole, item in (
        ("tokens", all_tokens, {1}),
        ("token_logprobs", all_tokens, {1}),
        ("top_logprobs", all_others, {(1,)}),
        ("text_offset", set(), set()),
    ):
        lists = ([1], [None] * 3, [None] * 4, [{}, {}])
        cases += [("legacy", (*at, key), value, whole) for value in (GONE, *ODD, *lists)]
        cases += [("legacy", (*at, key, 1), value, item) for value in (*ODD, [one("b", -1.0)], 10**30)]
    cases += [("legacy", (*at, "top_logprobs", 1, " a"), value, {(1, 2)}) for value in (GONE, *ODD)]
    cases += [("legacy", (*at, "token_ids"), value, set()) for value in ([1], "x", {}, 5)]
    return cases


def of_plain_fields() -> list[Case]:
    """Deviations of the fields around the tokens."""
    cases: list[Case] = []
    for name, body in BODIES.items():
        for key, column in (("id", "response_id"), ("model", "response_model"), ("system_fingerprint", "")):
            cases += [(name, (key,), value, {column or key}) for value in (GONE, *ODD)]
        cases += [(name, (key,), value, {"created"}) for key in ("created", "created_at") for value in (GONE, *ODD)]
        cases += [(name, ("usage",), value, {"prompt_tokens", "completion_tokens"}) for value in (GONE, *ODD)]
        for key in USAGE:
            cost = "prompt_tokens" if key in ("prompt_tokens", "input_tokens") else "completion_tokens"
            cases += [(name, ("usage", key), value, {cost}) for value in (GONE, *ODD)]
        cases += [(name, ("object",), value, set()) for value in (GONE, *ODD)]
        if name == "responses":
            continue
        assert isinstance(body["choices"], list)
        choice = ("choices", 0)
        indices = (GONE, *(value for value in ODD if value != 5), "0", -1, 1000, 0.0)
        cases += [(name, (*choice, "index"), value, set()) for value in indices]
        cases += [(name, (*choice, "finish_reason"), value, {"finish_reason"}) for value in (GONE, *ODD)]
        cases += [(name, (*choice, key), value, set()) for key in ("error", "seed") for value in (None, {}, "", [])]
        cases += [(name, ("choices", 1), value, set()) for value in ODD]
        cases += [(name, ("choices",), body["choices"][0], set())]
    cases += [("chat", ("choices", 0, "message"), value, {"text"}) for value in (GONE, *ODD)]
    for key in ("content", "refusal", "tool_calls", "role"):
        costs = {"content": {"text"}, "refusal": {"refusal"}, "tool_calls": {"tool_calls"}}.get(key, set())
        cases += [("chat", ("choices", 0, "message", key), value, costs) for value in (GONE, *ODD)]
    cases += [("chat", ("choices", 0, "logprobs", key), v, set()) for key in ("refusal", "extra") for v in (GONE, *ODD)]
    cases += [("chat", ("choices", 0, "logprobs"), TOKENS, set())]
    cases += [("legacy", ("choices", 0, "text"), value, {"text"}) for value in (GONE, *ODD)]
    cases += [("responses", ("output", 0), value, {"tool_calls"}) for value in ODD]
    for key in ("type", "role", "status", "id"):
        cases += [("responses", ("output", 1, key), value, set()) for value in (GONE, *ODD)]
    for key in ("type", "text", "annotations"):
        cases += [("responses", ("output", 1, "content", 0, key), value, {"text"}) for value in (GONE, *ODD)]
    cases += [("responses", ("output", 1, "content", 1), value, {"text"}) for value in ODD]
    cases += [("responses", ("status",), value, {"finish_reason"}) for value in (GONE, *ODD)]
    cases += [("responses", ("incomplete_details",), value, set()) for value in ODD]
    return cases


def deviating(body: Any, path: Sequence[Any], value: Any) -> Any:
    """A copy of the body with this value at the path; one behind the end of a list is appended."""
    body = copy.deepcopy(body)
    place = body
    for step in path[:-1]:
        place = place[step]
    if value is GONE:
        place.pop(path[-1], None)
    elif isinstance(place, list) and path[-1] == len(place):
        place.append(value)
    else:
        place[path[-1]] = value
    return body


def part_of(body: Any) -> Any:
    """The logprobs part of a body."""
    if "output" not in body:
        choices = body["choices"] if isinstance(body["choices"], list) else [body["choices"]]
        return choices[0]["logprobs"]
    return [
        {"item": i, "part": j, "logprobs": part["logprobs"]}
        for i, item in enumerate(body["output"])
        if isinstance(item, dict)
        for j, part in enumerate(item.get("content", []))
        if isinstance(part, dict) and "logprobs" in part
    ]


def rows_of(decoded: Any) -> tuple[dict[str, Any], dict[int, Any], dict[tuple[int, int], Any]]:
    """The completion, the tokens by position, and the alternatives by position and rank."""
    [completion] = decoded.completions.drop_columns(["wire", "token_count", "logprob_sum", "logprob_min"]).to_pylist()
    tokens = {row["position"]: row for row in decoded.tokens.to_pylist() if row["section"] == "content"}
    return completion, tokens, {(row["position"], row["rank"]): row for row in decoded.alternatives.to_pylist()}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{case[0]} {'.'.join(map(str, case[1]))} {'absent' if case[2] is GONE else case[2]}")
        for case in (*of_tokens(), *of_legacy_columns(), *of_plain_fields())
    ],
)
def test_a_deviation_costs_what_deviates(
    answer: Callable[..., Any],
    is_same: Callable[[Any, Any], bool],
    case: Case,
) -> None:
    """All other rows and columns are those of the good body, and what the wire said is rebuilt."""
    name, path, value, costs = case
    asked = {"endpoint": "responses", "include": ["message.output_text.logprobs"]} if name == "responses" else {}
    body = deviating(BODIES[name], path, value)
    good = decode_answers([answer(BODIES[name], **asked)], scanner_min_bytes=0)
    odd = decode_answers([answer(body, **asked)], scanner_min_bytes=0)

    assert odd.failures == []

    (completion, tokens, others), (found, found_tokens, found_others) = rows_of(good), rows_of(odd)

    assert found_tokens.keys() == tokens.keys()
    assert {key for key in completion if completion[key] != found[key]} <= costs
    assert {n for n in tokens if tokens[n] != found_tokens[n]} <= costs
    assert {at for at in others if found_others.get(at) != others[at] and (at[0],) not in costs} <= costs

    [rebuilt] = rebuild_logprobs(odd.completions, odd.tokens, odd.alternatives).values()

    assert is_same(rebuilt, part_of(body))


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"id": 7, "logprob": -0.5}, (None, None, 7, -0.5)),
        ({"token": 7, "logprob": -0.5, "bytes": "Hi"}, ("Hi", None, 7, -0.5)),
        ({"token": 7, "logprob": -0.5, "bytes": [72, 105]}, (None, b"Hi", 7, -0.5)),
        ({"token": None, "id": 7, "logprob": "-0.5"}, (None, None, 7, None)),
        ({"token": "Hi", "bytes": "Hi"}, ("Hi", None, None, None)),
        ({}, (None, None, None, None)),
        (None, (None, None, None, None)),
    ],
)
def test_what_is_left_of_an_odd_token_is_kept(decode_one: Callable[..., Any], item: Any, expected: Any) -> None:
    """An id under its own key or in place of the text, and a text in place of the bytes; of tokens and alternatives."""
    listed = [{**(item or {}), "top_logprobs": [item]}, {"token": "!", "logprob": -1.0, "top_logprobs": [item]}]
    _, tokens, alternatives = decode_one({"choices": [{"text": "Hi!", "logprobs": {"content": listed}}]})

    columns = ("token", "bytes", "token_id", "logprob")

    assert tokens.select(columns).rows() == [expected, ("!", None, None, -1.0)]
    assert alternatives.select(columns).rows() == [expected, expected]


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        ({"a": -1.0, "b": -2.0}, [(1, "a", -1.0), (2, "b", -2.0)]),
        ({"token": "a", "logprob": -1.0, "bytes": [97]}, [(1, "a", -1.0)]),
        ([None, {"token": "b", "logprob": -2.0}], [(1, None, None), (2, "b", -2.0)]),
        ({"a": {"b": 1}}, []),
    ],
)
def test_alternatives_in_another_form_are_read(decode_one: Callable[..., Any], top: Any, expected: Any) -> None:
    """An object of texts to numbers as in legacy completions, one object alone, nulls in between."""
    item = {"token": "a", "logprob": -1.0, "top_logprobs": top}
    _, _, alternatives = decode_one({"choices": [{"text": "a", "logprobs": {"content": [item]}}]})

    assert alternatives.select("rank", "token", "logprob").rows() == expected


@pytest.mark.parametrize(
    ("indices", "expected"),
    [
        ([0, 0], [0, 1]),
        ([None, None], [0, 1]),
        ([GONE, GONE], [0, 1]),
        (["0", "1"], [0, 1]),
        (["1", "0"], [1, 0]),
        ([1, None], [1, 0]),
        ([0, -1, 0], [0, 1, 2]),
        ([2, 2, {}], [2, 1, 0]),
    ],
)
def test_choices_are_numbered_by_their_place(decode_one: Callable[..., Any], indices: Any, expected: Any) -> None:
    """Where an index is taken or none; each choice keeps its text and its tokens."""
    choices = [
        {"text": f"t{n}", "logprobs": {"content": [{"token": f"t{n}", "logprob": -1.0}]}, "index": index}
        for n, index in enumerate(indices)
    ]
    for choice in choices:
        if choice["index"] is GONE:
            del choice["index"]
    completions, tokens, _ = decode_one({"choices": choices})

    texts = [f"t{expected.index(n)}" for n in sorted(expected)]

    assert completions.select("choice_index", "text").rows() == list(zip(sorted(expected), texts, strict=True))
    assert tokens["token"].to_list() == texts


def test_a_part_without_a_list_costs_its_own_tokens(
    answer: Callable[..., Any], is_same: Callable[[Any, Any], bool]
) -> None:
    """Two parts of a response, of which one has a text for logprobs: the other's tokens are kept."""
    parts = [{"type": "output_text", "text": "x", "logprobs": value} for value in (TOKENS, "x", {"a": [1]}, TOKENS)]
    body = {"output": [{"type": "message", "content": parts}], "status": "completed"}
    decoded = decode_answers([answer(body, endpoint="responses", include=["message.output_text.logprobs"])])

    assert decoded.failures == []
    assert decoded.tokens.column("token").to_pylist() == ["Hi", " é", "!"] * 2

    [rebuilt] = rebuild_logprobs(decoded.completions, decoded.tokens, decoded.alternatives).values()

    assert is_same(rebuilt, part_of(body))
