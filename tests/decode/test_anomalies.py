"""Anomalies of answers are counted, each kind by itself."""

from __future__ import annotations

from typing import Any

from builders import answer_with, chat_body, chat_token

from logprob_store.decode.anomalies import count_anomalies
from logprob_store.decode.decoder import decode_answers


def counts(*answers: tuple[str, list[dict[str, Any]]]) -> dict[str, int]:
    """Decode answers with these texts and tokens, and count their anomalies."""
    bodies = [chat_body(tokens, text) for text, tokens in answers]
    decoded = decode_answers([answer_with(body, prompt_index=index) for index, body in enumerate(bodies)])
    assert decoded.failures == []
    return count_anomalies(decoded.completions, decoded.tokens, decoded.alternatives)


def test_an_ordinary_answer() -> None:
    """It has no anomaly."""
    ordinary = [chat_token("Hi", -0.1, {"Hi": -0.1, "Ho": -2.0}), chat_token(" 💙", -0.2, {" 💙": -0.2})]

    assert counts(("Hi 💙", ordinary), ("", [])) == {
        "flagged": 0,
        "chosen_missing": 0,
        "text_differs": 0,
        "lossy_bytes": 0,
        "without_tokens": 0,
        "choices_differ": 0,
        "model_differs": 0,
        "tier_differs": 0,
    }


def test_flagged_counts_tokens_and_alternatives() -> None:
    """A sentinel among the tokens and a positive logprob among the alternatives are two."""
    assert counts(("ab", [chat_token("a", -9999.0, {"b": 0.5}), chat_token("b", -1.0, {"b": -1.0})]))["flagged"] == 2


def test_chosen_missing_counts_tokens_that_have_alternatives() -> None:
    """A token that is not among its alternatives counts; one without alternatives does not."""
    tokens = [chat_token("a", -3.0, {"b": -0.1}), chat_token("b", -0.1, {"b": -0.1}), chat_token("c", -0.1)]

    assert counts(("abc", tokens))["chosen_missing"] == 1


def test_text_differs_counts_completions() -> None:
    """An answer whose white space was stripped counts once; the answers around it do not."""
    spaced = [chat_token(" a", -0.1), chat_token("b", -0.1)]

    assert counts((" ab", spaced), ("ab", spaced), (" ab", spaced))["text_differs"] == 1


def test_text_is_spelled_by_bytes() -> None:
    """Tokens that share the bytes of a character spell the text, whatever their strings say."""
    halves = [chat_token("\\xf0\\x9f", -0.1, raw=b"\xf0\x9f"), chat_token("\\x92\\x99", -0.1, raw=b"\x92\x99")]

    assert counts(("💙", halves))["text_differs"] == 0


def test_lossy_bytes() -> None:
    """A token spelled as U+FFFD has lost its bytes."""
    assert counts(("\ufffd", [chat_token("\ufffd", -0.1)]))["lossy_bytes"] == 1


def without_tokens(*choices: dict[str, Any], **asked: Any) -> int:
    """The number of answers without tokens; each answer has one of these choices."""
    bodies = [{"choices": [choice], "usage": choice.pop("usage", None)} for choice in choices]
    made = [answer_with(body, prompt_index=index, **asked) for index, body in enumerate(bodies)]
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
    good = {"logprobs": {"content": [chat_token("a", -0.1)]}, "message": {"content": "a"}}

    assert without_tokens(calls, thought, empty, scored, good) == 2


def test_without_tokens_counts_only_what_was_asked_for() -> None:
    """An answer to a request without logprobs has none, as it should."""
    assert without_tokens({"text": "a", "finish_reason": "stop"}, logprobs=False) == 0
