"""Oddities of answers are counted, each kind by itself."""

from __future__ import annotations

import json
from typing import Any

from logprob_store.decode.anomalies import count_anomalies
from logprob_store.decode.decoder import decode_answers
from logprob_store.request import Answer, make_request


def token(text: str, logprob: float, *beside: tuple[str, float], spelled: list[int] | None = None) -> dict[str, Any]:
    """One entry of a chat answer."""
    entry: dict[str, Any] = {"token": text, "logprob": logprob, "bytes": spelled or list(text.encode())}
    return entry | {"top_logprobs": [{"token": t, "logprob": value, "bytes": list(t.encode())} for t, value in beside]}


def counts(*answers: tuple[str | None, list[dict[str, Any]]]) -> dict[str, int]:
    """Decode answers with these texts and tokens, and count."""
    made = []
    for index, (text, tokens) in enumerate(answers):
        body = {"choices": [{"index": 0, "message": {"content": text}, "logprobs": {"content": tokens}}]}
        request = make_request({"logprobs": True}, endpoint="chat", provider="p", prompt_index=index)
        made.append(Answer(request, 200, {}, json.dumps(body).encode(), "api"))
    decoded = decode_answers(made)
    assert decoded.failures == []
    return count_anomalies(decoded.completions, decoded.tokens, decoded.alternatives)


def test_nothing_odd() -> None:
    """An ordinary answer counts nothing."""
    ordinary = [token("Hi", -0.1, ("Hi", -0.1), ("Ho", -2.0)), token(" 💙", -0.2, (" 💙", -0.2))]

    assert counts(("Hi 💙", ordinary), ("", [])) == {
        "flagged": 0,
        "chosen_missing": 0,
        "text_differs": 0,
        "lossy_bytes": 0,
        "without_tokens": 0,
    }


def test_flagged_counts_tokens_and_alternatives() -> None:
    """A sentinel among the tokens and a positive value among the alternatives are two."""
    assert counts(("ab", [token("a", -9999.0, ("b", 0.5)), token("b", -1.0, ("b", -1.0))]))["flagged"] == 2


def test_chosen_missing_counts_tokens_that_have_alternatives() -> None:
    """A token that is not among its alternatives counts; one without alternatives does not."""
    tokens = [token("a", -3.0, ("b", -0.1)), token("b", -0.1, ("b", -0.1)), token("c", -0.1)]

    assert counts(("abc", tokens))["chosen_missing"] == 1


def test_text_differs_counts_completions() -> None:
    """An answer whose white space was stripped counts once; its neighbours, before and after, do not."""
    spaced = [token(" a", -0.1), token("b", -0.1)]

    assert counts((" ab", spaced), ("ab", spaced), (" ab", spaced))["text_differs"] == 1


def test_text_is_spelled_by_bytes() -> None:
    """Tokens that share the bytes of a character spell the text, whatever their own texts say."""
    halves = [token("\\xf0\\x9f", -0.1, spelled=[0xF0, 0x9F]), token("\\x92\\x99", -0.1, spelled=[0x92, 0x99])]

    assert counts(("💙", halves))["text_differs"] == 0


def test_lossy_bytes() -> None:
    """A token spelled as U+FFFD has lost its bytes."""
    assert counts(("\ufffd", [token("\ufffd", -0.1)]))["lossy_bytes"] == 1


def without_tokens(*choices: dict[str, Any], **asked: Any) -> int:
    """How many answers, one of each choice, count as without tokens."""
    made = []
    for index, choice in enumerate(choices):
        body = {"choices": [choice], "usage": choice.pop("usage", None)}
        request = make_request({"logprobs": True, **asked}, endpoint="chat", provider="p", prompt_index=index)
        made.append(Answer(request, 200, {}, json.dumps(body).encode(), "api"))
    decoded = decode_answers(made)
    assert decoded.failures == []
    counted = count_anomalies(decoded.completions, decoded.tokens, decoded.alternatives, answers=made)
    return counted["without_tokens"]


def test_without_tokens_counts_answers_that_have_none() -> None:
    """Tool calls alone, and a limit used up by reasoning; not an answer that the server lists as empty."""
    calls = {"logprobs": None, "message": {"tool_calls": [{"id": "c"}]}}
    thought = {"logprobs": {"content": []}, "finish_reason": "length", "usage": {"completion_tokens": 64}}
    empty = {"logprobs": {"content": []}, "finish_reason": "stop", "message": {"content": ""}}
    scored = {"logprobs": None, "finish_reason": "stop", "prompt_logprobs": [None, {"5": {"logprob": -1.0}}]}
    good = {"logprobs": {"content": [token("a", -0.1)]}, "message": {"content": "a"}}

    assert without_tokens(calls, thought, empty, scored, good) == 2


def test_without_tokens_counts_only_what_was_asked_for() -> None:
    """An answer to a request without logprobs has none, as it should."""
    assert without_tokens({"text": "a", "finish_reason": "stop"}, logprobs=False) == 0
