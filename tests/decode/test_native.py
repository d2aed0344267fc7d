"""Servers' native bodies: the rows for every form and quirk of each server, derived by hand."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from logprob_store.decode.anomalies import count_anomalies
from logprob_store.decode.decoder import decode_answers
from logprob_store.decode.rebuild import rebuild_logprobs
from logprob_store.view.highlight import coloured, uncertain

if TYPE_CHECKING:
    from collections.abc import Callable

    Frames = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]

RECORDINGS = Path(__file__).parents[2].parent / "shared" / "recordings"
HALF = 0.5


def chat_token(text: str, logprob: float, token_id: int, **more: Any) -> dict[str, Any]:
    """A token as llama.cpp sends it."""
    return {"id": token_id, "token": text, "bytes": list(text.encode()), "logprob": logprob, **more}


def prob_token(text: str, prob: Any, token_id: int, **more: Any) -> dict[str, Any]:
    """The same with a probability."""
    return {"id": token_id, "token": text, "bytes": list(text.encode()), "prob": prob, **more}


def llamacpp(probabilities: Any, **more: Any) -> dict[str, Any]:
    """A body of /completion."""
    return {
        "index": 0,
        "content": "ab",
        "id_slot": 3,
        "model": "gemma",
        "tokens_predicted": 2,
        "tokens_evaluated": 5,
        "prompt": "<bos>x",
        "stop_type": "limit",
        "completion_probabilities": probabilities,
        **more,
    }


def ollama(logprobs: Any, **more: Any) -> dict[str, Any]:
    """A body of /api/generate."""
    return {
        "model": "mistral",
        "created_at": "2025-12-16T12:38:48.4578211+01:00",
        "response": "ab",
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 5,
        "eval_count": 3,
        "logprobs": logprobs,
        **more,
    }


def sglang(index: int | None = None, text: str = "ab", **meta: Any) -> dict[str, Any]:
    """A body of /generate."""
    held = {"id": "x1", "finish_reason": {"type": "stop", "matched": 2}, "prompt_tokens": 5, "completion_tokens": 2}
    return {"text": text, "meta_info": {**held, **meta}, **({} if index is None else {"index": index})}


def tgi(**details: Any) -> dict[str, Any]:
    """A body of /generate."""
    held = {"finish_reason": "eos_token", "generated_tokens": 2, "seed": None, "prefill": []}
    return {"generated_text": "ab", "details": {**held, **details}}


def tgi_token(text: str, logprob: float | None, token_id: int, *, special: bool = False) -> dict[str, Any]:
    """A token as TGI sends it."""
    return {"id": token_id, "text": text, "logprob": logprob, "special": special}


def gemini(result: Any, *, parts: Any = ({"text": "ab"},), **more: Any) -> dict[str, Any]:
    """A candidate."""
    held = {"content": {"role": "model", "parts": list(parts)}, "finishReason": "STOP", "avgLogprobs": -9.5}
    return {**held, "logprobsResult": result, **more}


def gemini_body(*candidates: Any) -> dict[str, Any]:
    """A body of generateContent."""
    return {
        "candidates": list(candidates),
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2, "thoughtsTokenCount": 9},
        "modelVersion": "gemini-2.5-flash",
        "responseId": "r1",
        "createTime": "2026-02-15T07:50:39.178410123Z",
    }


def gemini_token(text: str, logprob: float, token_id: int) -> dict[str, Any]:
    """A token as Gemini sends it."""
    return {"token": text, "tokenId": token_id, "logProbability": logprob}


def rebuilt(body: Any, **options: Any) -> dict[int, Any]:
    """What is rebuilt from the tables of a body."""
    from logprob_store.request import Answer, make_request

    request = make_request({"model": "m", **options}, endpoint="chat", provider="p")
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    decoded = decode_answers([Answer(request, 200, {}, content, "import")])
    assert decoded.failures == []
    return rebuild_logprobs(decoded.completions, decoded.tokens, decoded.alternatives)


def columns(frame: pl.DataFrame, *names: str) -> list[tuple[Any, ...]]:
    """Some columns of a table, in order."""
    return frame.select(names).rows()


# llama.cpp


def test_llamacpp_says_what_became_of_the_answer(decode_one: Callable[..., Frames]) -> None:
    """Content, stop_type and counts have names of their own."""
    completions, _, _ = decode_one(llamacpp([chat_token("a", -1.5, 7)]))
    expected = [("gemma", "limit", "ab", 5, 2, 1, -1.5)]
    names = ("response_model", "finish_reason", "text", "prompt_tokens", "completion_tokens", "token_count")

    assert columns(completions, *names, "logprob_sum") == expected


def test_llamacpp_logprobs_are_those_of_chat(decode_one: Callable[..., Frames]) -> None:
    """Ids and bytes too; the lowest float is a sentinel, for JSON has no -inf."""
    lowest = -3.4028234663852886e38
    part = [chat_token("é", -0.5, 7, top_logprobs=[chat_token("é", -0.5, 7), chat_token("b", lowest, 8)])]
    _, tokens, alternatives = decode_one(llamacpp(part))

    assert columns(tokens, "token", "bytes", "token_id", "logprob") == [("é", b"\xc3\xa9", 7, -0.5)]
    assert columns(alternatives, "rank", "token", "logprob", "logprob_flag", "logprob_wire") == [
        (1, "é", -0.5, None, None),
        (2, "b", None, "sentinel", lowest),
    ]
    assert rebuilt(llamacpp(part)) == {0: part}


def test_llamacpp_probabilities_become_their_logarithms(decode_one: Callable[..., Frames]) -> None:
    """0 is neg_inf, more than 1 is positive, no probability is missing; all are rebuilt."""
    tops = [prob_token("b", prob, 8) for prob in (1, 0.0, 2.0, -0.5, None, True)]
    part = [prob_token("a", 0.25, 7, top_probs=tops)]
    _, tokens, alternatives = decode_one(llamacpp(part))

    assert columns(tokens, "token", "token_id", "logprob") == [("a", 7, math.log(0.25))]
    assert columns(alternatives, "logprob", "logprob_flag", "logprob_wire") == [
        (0.0, None, None),
        (None, "neg_inf", None),
        (None, "positive", math.log(2)),
        (None, "missing", None),
        (None, "missing", None),
        (None, "missing", None),
    ]
    assert repr(rebuilt(llamacpp(part))[0][0]["top_probs"]) == repr(
        [dict(prob_token("b", prob, 8)) for prob in (1.0, 0.0, 2.0, -0.5, None, True)]
    )


def test_probabilities_of_single_precision_need_no_patch(decode_one: Callable[..., Frames]) -> None:
    """exp(ln p) is off in the last bits; rounded to the precision of the server it is p. These are real ones."""
    probs = [0.01373891532421112, 0.3302119970321655, 0.15234194695949554, 0.9314325451850891, 1e-45]
    part = [prob_token("a", prob, 7, top_probs=[]) for prob in probs]
    completions, _, _ = decode_one(llamacpp(part))

    assert any(math.exp(math.log(prob)) != prob for prob in probs)
    assert json.loads(completions["wire"][0]).keys() == {"shape", "token", "prob", "patch"}
    assert [place for place, *_ in json.loads(completions["wire"][0])["patch"]] == [[4, "prob"]]  # 1e-45 is no float32
    assert rebuilt(llamacpp(part)) == {0: part}


def test_llamacpp_of_old_gives_the_chosen_token_no_number(decode_one: Callable[..., Frames]) -> None:
    """It has that of the alternative with its text, if there is just one."""
    part = [
        {"content": "a", "probs": [{"prob": 0.5, "tok_str": "b"}, {"prob": 0.25, "tok_str": "a"}]},
        {"content": "c", "probs": [{"prob": 0.5, "tok_str": "b"}]},
        {"content": "d", "probs": [{"prob": 0.5, "tok_str": "d"}, {"prob": 0.25, "tok_str": "d"}]},
    ]
    old = {"stop_type": None, "stopped_eos": False, "stopped_word": True, "stopped_limit": False}
    body = llamacpp(part, **old)
    del body["stop_type"]
    completions, tokens, alternatives = decode_one(body)

    assert columns(tokens, "token", "logprob", "logprob_flag") == [
        ("a", math.log(0.25), None),
        ("c", None, "missing"),
        ("d", None, "missing"),
    ]
    assert columns(alternatives.head(2), "position", "rank", "token", "logprob") == [
        (0, 1, "b", math.log(0.5)),
        (0, 2, "a", math.log(0.25)),
    ]
    assert completions["finish_reason"].to_list() == ["word"]
    assert rebuilt(body) == {0: part}


@pytest.mark.parametrize(("prompts", "counted"), [(("x", "x"), 5), (("x", "y"), 10)])
def test_llamacpp_several_answers_are_choices(
    decode_one: Callable[..., Frames], prompts: tuple[str, str], counted: int
) -> None:
    """Samples of one prompt, whose tokens count once, or of several, whose tokens are added up."""
    parts = [[chat_token("a", -1.0, 1)], [prob_token("b", HALF, 2)]]
    body = [llamacpp(parts[n], index=n, prompt=prompts[n]) for n in (1, 0)]
    completions, tokens, _ = decode_one(body)

    assert columns(completions, "completion_id", "choice_index", "prompt_tokens", "completion_tokens") == [
        (0, 0, counted, 4),
        (1, 1, counted, 4),
    ]
    assert columns(tokens, "completion_id", "token", "logprob") == [(0, "a", -1.0), (1, "b", math.log(HALF))]
    assert rebuilt(body) == {0: parts[0], 1: parts[1]}


@pytest.mark.parametrize("spell", ["events", "list"])
def test_llamacpp_streams_are_put_together(decode_one: Callable[..., Frames], spell: str) -> None:
    """As server-sent events, or as a list of their data; the last piece has the counts and no token."""
    tokens = [chat_token("a", -1.0, 1), prob_token("b", HALF, 2)]
    pieces = [
        {"index": 0, "content": "a", "stop": False, "tokens_predicted": 1, "completion_probabilities": tokens[:1]},
        {"index": 0, "content": "b", "stop": False, "tokens_predicted": 2, "completion_probabilities": tokens[1:]},
        {"index": 0, "content": "", "stop": True, "tokens_predicted": 2, "stop_type": "eos"},
    ]
    events = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces)
    body = events.encode() if spell == "events" else json.dumps(pieces).encode()
    completions, rows, _ = decode_one(body)

    assert columns(completions, "text", "finish_reason", "completion_tokens") == [("ab", "eos", 2)]
    assert columns(rows, "token", "logprob") == [("a", -1.0), ("b", math.log(HALF))]
    assert rebuilt(body) == {0: tokens}


# Ollama


def test_ollama_says_what_became_of_the_answer(decode_one: Callable[..., Frames]) -> None:
    """The time has seven digits after the second, and a time zone."""
    completions, tokens, _ = decode_one(ollama([{"token": "ab", "logprob": -1.5}]))
    created = datetime(2025, 12, 16, 11, 38, 48, 457821, UTC)
    names = ("response_model", "created", "finish_reason", "text", "prompt_tokens", "completion_tokens")

    assert columns(completions, *names) == [("mistral", created, "stop", "ab", 5, 3)]
    assert columns(tokens, "token", "bytes", "logprob") == [("ab", None, -1.5)]


def test_ollama_leaves_empty_lists_out(decode_one: Callable[..., Frames]) -> None:
    """Some tokens have no bytes and no alternatives where others have them."""
    part = [
        {"token": "", "logprob": -0.25},
        {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1, "bytes": [98]}]},
    ]
    _, tokens, alternatives = decode_one(ollama(part))

    assert columns(tokens, "token", "bytes", "logprob") == [("", None, -0.25), ("a", b"a", -0.5)]
    assert columns(alternatives, "position", "token", "bytes") == [(1, "b", b"b")]
    assert rebuilt(ollama(part)) == {0: part}


def test_ollama_chat_has_a_message(decode_one: Callable[..., Frames]) -> None:
    """Its content is the text, its calls of tools are kept."""
    call = {"function": {"name": "f", "arguments": {"x": 1}}}
    message = {"role": "assistant", "content": "hi", "thinking": "hm", "tool_calls": [call]}
    body = ollama([{"token": "hi", "logprob": -1}], message=message)
    del body["response"]
    completions, tokens, _ = decode_one(body)

    assert columns(completions, "text", "tool_calls") == [("hi", json.dumps([call], separators=(",", ":")))]
    assert columns(tokens, "section", "token") == [("content", "hi")]


@pytest.mark.parametrize("key", ["response", "message"])
def test_ollama_streams_are_put_together(decode_one: Callable[..., Frames], key: str) -> None:
    """Each line is a piece, with some tokens or none; the last has the counts."""
    tokens = [{"token": text, "logprob": -1.0, "bytes": [ord(text)]} for text in "abc"]
    said = [{"response": text} if key == "response" else {"message": {"content": text}} for text in ("a", "bc", "")]
    pieces = [
        {"model": "mistral", "done": False, "logprobs": tokens[:1], **said[0]},
        {"model": "mistral", "done": False, "logprobs": tokens[1:], **said[1]},
        {"model": "mistral", "done": True, "done_reason": "stop", "eval_count": 3, **said[2]},
    ]
    body = "\n".join(map(json.dumps, pieces)).encode()
    completions, rows, _ = decode_one(body)

    assert columns(completions, "text", "finish_reason", "completion_tokens") == [("abc", "stop", 3)]
    assert rows["token"].to_list() == ["a", "b", "c"]
    assert rebuilt(body) == {0: tokens}


def test_a_stream_that_was_cut_off_is_a_failure(failure_of: Callable[..., tuple[str, str]]) -> None:
    """Part of an answer would look like the whole."""
    pieces = [ollama([{"token": "a", "logprob": -1}], done=False)] * 2

    assert "cut off" in failure_of("\n".join(map(json.dumps, pieces)).encode())[1]


# SGLang


TRIPLES = [[-0.5, 11, " a"], [-0.25, 12, " b"]]


def test_sglang_says_what_became_of_the_answer(decode_one: Callable[..., Frames]) -> None:
    """The finish reason is an object, the rest stands in meta_info."""
    completions, tokens, _ = decode_one(sglang(output_token_logprobs=TRIPLES))
    names = ("response_id", "finish_reason", "text", "prompt_tokens", "completion_tokens", "token_count")

    assert columns(completions, *names) == [("x1", "stop", "ab", 5, 2, 2)]
    assert columns(tokens, "section", "token", "token_id", "logprob") == [
        ("content", " a", 11, -0.5),
        ("content", " b", 12, -0.25),
    ]


@pytest.mark.parametrize("names", [("input", "output"), ("prefill", "decode")])
def test_sglang_input_is_the_prompt(decode_one: Callable[..., Frames], names: tuple[str, str]) -> None:
    """Its first token has no logprob and no alternatives; releases before 0.4 have other names for it all."""
    part = {
        f"{names[0]}_token_logprobs": [[None, 1, "The"], [-2.5, 2, " cat"]],
        f"{names[1]}_token_logprobs": TRIPLES,
        f"{names[0]}_top_logprobs": [None, [[-1.0, 3, " dog"], [-2.5, 2, " cat"]]],
        f"{names[1]}_top_logprobs": [[[-0.5, 11, " a"]], [[-0.25, 12, " b"]]],
    }
    completions, tokens, alternatives = decode_one(sglang(**part))

    assert columns(tokens, "section", "position", "token", "logprob", "logprob_flag") == [
        ("prompt", 0, "The", None, "missing"),
        ("prompt", 1, " cat", -2.5, None),
        ("content", 0, " a", -0.5, None),
        ("content", 1, " b", -0.25, None),
    ]
    assert columns(alternatives, "section", "position", "rank", "token") == [
        ("prompt", 1, 1, " dog"),
        ("prompt", 1, 2, " cat"),
        ("content", 0, 1, " a"),
        ("content", 1, 1, " b"),
    ]
    assert columns(completions, "token_count", "logprob_sum") == [(2, -0.75)]
    assert rebuilt(sglang(**part)) == {0: part}
    assert "patch" not in completions["wire"][0]


def test_sglang_tokens_without_text_are_null_and_can_be_shown(decode_one: Callable[..., Frames]) -> None:
    """Only the id was sent; an empty text would say that the token is empty."""
    part = {"output_token_logprobs": [[-0.5, 11, None]], "output_top_logprobs": [[[-0.5, 11, None], [-1.0, 12, None]]]}
    completions, tokens, alternatives = decode_one(sglang(**part))

    assert columns(tokens, "token", "token_id", "logprob") == [(None, 11, -0.5)]
    assert columns(alternatives, "rank", "token", "token_id") == [(1, None, 11), (2, None, 12)]
    assert rebuilt(sglang(**part)) == {0: part}
    assert "patch" not in completions["wire"][0]
    assert str(coloured(tokens)) == "\N{REPLACEMENT CHARACTER}"
    assert uncertain(tokens, alternatives)


@pytest.mark.parametrize(("others", "missing"), [([[-0.5, 11, None]], 0), ([[-0.5, 12, None]], 1)])
def test_sglang_tokens_without_text_are_no_anomaly(answer: Callable[..., Any], others: list[Any], missing: int) -> None:
    """Their ids tell whether the chosen token is among its alternatives; a missing text differs from no other."""
    part = {"output_token_logprobs": [[-0.5, 11, None]], "output_top_logprobs": [others]}
    decoded = decode_answers([answer(sglang(**part))])
    counted = count_anomalies(decoded.completions, decoded.tokens, decoded.alternatives)

    assert (counted["chosen_missing"], counted["text_differs"]) == (missing, 0)


def test_sglang_ids_asked_for_follow_the_top_ones_once(decode_one: Callable[..., Frames]) -> None:
    """11 is among the top and is not counted twice; the order of the ids asked for is rebuilt."""
    part = {
        "output_token_logprobs": [[-0.5, 11, None], [-0.25, 12, None]],
        "output_top_logprobs": [[[-0.5, 11, None], [-1.0, 13, None]], [[-0.25, 12, None], [-2.0, 13, None]]],
        "output_token_ids_logprobs": [
            [[-9.0, 99, None], [-0.5, 11, None]],
            [[-8.0, 99, None], [-7.0, 11, None]],
        ],
    }
    completions, _, alternatives = decode_one(sglang(**part))

    assert columns(alternatives, "position", "rank", "token_id", "logprob") == [
        (0, 1, 11, -0.5),
        (0, 2, 13, -1.0),
        (0, 3, 99, -9.0),
        (1, 1, 12, -0.25),
        (1, 2, 13, -2.0),
        (1, 3, 99, -8.0),
        (1, 4, 11, -7.0),
    ]
    assert rebuilt(sglang(**part)) == {0: part}
    assert "patch" not in completions["wire"][0]


def test_sglang_empty_lists_of_older_releases_need_no_patch(decode_one: Callable[..., Frames]) -> None:
    """Newer releases send null there. The lists may be shorter than the tokens."""
    part = {"output_token_logprobs": [*TRIPLES, *TRIPLES], "output_top_logprobs": [[], [[-0.25, 12, " b"]], []]}
    completions, _, alternatives = decode_one(sglang(**part))

    assert columns(alternatives, "position", "rank", "token") == [(1, 1, " b")]
    assert rebuilt(sglang(**part)) == {0: part}
    assert "patch" not in completions["wire"][0]


def test_sglang_several_answers_are_choices(decode_one: Callable[..., Frames]) -> None:
    """In the order of the list."""
    body = [sglang(text=text, output_token_logprobs=[[-1.0, n, text]]) for n, text in enumerate("ab")]
    completions, tokens, _ = decode_one(body)

    assert columns(completions, "completion_id", "text", "prompt_tokens", "completion_tokens") == [
        (0, "a", 5, 4),
        (1, "b", 5, 4),
    ]
    assert columns(tokens, "completion_id", "token") == [(0, "a"), (1, "b")]


def test_ids_beyond_what_a_row_holds_are_null_and_come_back(decode_one: Callable[..., Frames]) -> None:
    """Int32 is the contract; the patch has the rest."""
    part = {"output_token_logprobs": [[-0.5, 2**31, "a"], [-0.5, -(2**31), "b"], [-0.5, True, "c"]]}
    _, tokens, _ = decode_one(sglang(**part))

    assert tokens["token_id"].to_list() == [None, -(2**31), None]
    assert repr(rebuilt(sglang(**part))) == repr({0: part})


# TGI


def test_tgi_says_what_became_of_the_answer(decode_one: Callable[..., Frames]) -> None:
    """Prefill is the prompt; whether a token is special is kept outside the rows."""
    part = {
        "tokens": [tgi_token("a", -0.5, 1), tgi_token("</s>", -0.25, 2, special=True)],
        "prefill": [{"id": 5, "text": "<s>", "logprob": None}, {"id": 6, "text": "x", "logprob": -3.0}],
        "top_tokens": [[tgi_token("a", -0.5, 1), tgi_token("b", -1.0, 3)], [tgi_token("</s>", -0.25, 2, special=True)]],
    }
    completions, tokens, alternatives = decode_one(tgi(**part))

    assert columns(completions, "finish_reason", "text", "completion_tokens", "token_count") == [
        ("eos_token", "ab", 2, 2)
    ]
    assert columns(tokens, "section", "token", "token_id", "logprob", "logprob_flag") == [
        ("prompt", "<s>", 5, None, "missing"),
        ("prompt", "x", 6, -3.0, None),
        ("content", "a", 1, -0.5, None),
        ("content", "</s>", 2, -0.25, None),
    ]
    assert columns(alternatives, "section", "position", "rank", "token_id") == [
        ("content", 0, 1, 1),
        ("content", 0, 2, 3),
        ("content", 1, 1, 2),
    ]
    assert rebuilt(tgi(**part)) == {0: part}
    assert "patch" not in completions["wire"][0]


def test_tgi_in_a_list_is_one_answer(decode_one: Callable[..., Frames]) -> None:
    """As `/` and hosted endpoints send it."""
    completions, tokens, _ = decode_one([tgi(tokens=[tgi_token("a", -0.5, 1)])])

    assert columns(completions, "completion_id", "text") == [(0, "ab")]
    assert columns(tokens, "token", "logprob") == [("a", -0.5)]


def test_tgi_of_old_has_triples(decode_one: Callable[..., Frames]) -> None:
    """Id, text, logprob, by their places."""
    body = {"generated_text": "a", "details": {"finish_reason": "length", "tokens": [[1, "a", -0.5], [2, "b", -0.25]]}}
    completions, tokens, _ = decode_one(body)

    assert columns(tokens, "token", "token_id", "logprob") == [("a", 1, -0.5), ("b", 2, -0.25)]
    assert rebuilt(body) == {0: {"tokens": [[1, "a", -0.5], [2, "b", -0.25]]}}
    assert "patch" not in completions["wire"][0]


def test_tgi_keys_that_are_left_out_need_no_patch(decode_one: Callable[..., Frames]) -> None:
    """Rust's serde leaves out what is None, as the first token's logprob."""
    body = tgi(prefill=[{"id": 5, "text": "<s>"}, {"id": 6, "text": "x", "logprob": -3.0}], tokens=[])
    completions, tokens, _ = decode_one(body, logprobs=False)

    assert columns(tokens, "token", "logprob", "logprob_flag") == [("<s>", None, "missing"), ("x", -3.0, None)]
    assert rebuilt(body) == {0: {key: body["details"][key] for key in ("prefill", "tokens")}}
    assert "patch" not in completions["wire"][0]


def test_tgi_the_best_of_several_is_the_first_choice(decode_one: Callable[..., Frames]) -> None:
    """The others are choices too, each with its own text and tokens."""
    other = {"generated_text": "c", "finish_reason": "length", "generated_tokens": 1, "prefill": []}
    other["tokens"] = [tgi_token("c", -2.0, 3)]
    completions, tokens, _ = decode_one(tgi(tokens=[tgi_token("a", -0.5, 1)], best_of_sequences=[other]))

    assert columns(completions, "completion_id", "text", "finish_reason", "completion_tokens") == [
        (0, "ab", "eos_token", 3),
        (1, "c", "length", 3),
    ]
    assert columns(tokens, "completion_id", "token") == [(0, "a"), (1, "c")]


@pytest.mark.parametrize("details", [{"top_tokens": []}, {"tokens": None, "top_tokens": [], "prefill": None}])
def test_tgi_lists_without_tokens_come_back(details: dict[str, Any]) -> None:
    """No token shows which keys an alternative has."""
    assert rebuilt({"generated_text": "", "details": details}) == {0: details}


# Gemini


RESULT = {
    "chosenCandidates": [gemini_token("a", -0.5, 1), gemini_token("b", -0.25, 2)],
    "topCandidates": [{"candidates": [gemini_token("a", -0.5, 1), gemini_token("c", -1.0, 3)]}, {}],
    "logProbabilitySum": -0.75,
}


def snake(value: Any) -> Any:
    """A value with the keys as the Python SDK spells them."""
    if isinstance(value, list):
        return [snake(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {"".join(f"_{c.lower()}" if c.isupper() else c for c in key): snake(held) for key, held in value.items()}


@pytest.mark.parametrize("spell", [lambda body: body, snake], ids=["camelCase", "snake_case"])
def test_gemini_in_both_spellings(decode_one: Callable[..., Frames], spell: Callable[[Any], Any]) -> None:
    """Sent, or dumped by the Python SDK: the rows are the same, and each is rebuilt in its own spelling."""
    body = spell(gemini_body(gemini(RESULT)))
    completions, tokens, alternatives = decode_one(body)
    created = datetime(2026, 2, 15, 7, 50, 39, 178410, UTC)
    names = ("response_id", "response_model", "created", "finish_reason", "text", "prompt_tokens", "completion_tokens")

    assert columns(completions, *names) == [("r1", "gemini-2.5-flash", created, "STOP", "ab", 5, 2)]
    assert columns(tokens, "token", "token_id", "logprob") == [("a", 1, -0.5), ("b", 2, -0.25)]
    assert columns(alternatives, "position", "rank", "token") == [(0, 1, "a"), (0, 2, "c")]
    assert rebuilt(body) == {0: spell({"avgLogprobs": -9.5, "logprobsResult": RESULT})}
    assert "patch" not in completions["wire"][0]


def test_gemini_nulls_of_a_dump_come_back() -> None:
    """model_dump() writes every field it knows."""
    body = snake(gemini_body(gemini({**RESULT, "topCandidates": None, "logProbabilitySum": None}, index=None)))

    assert rebuilt(body)[0]["logprobs_result"] == snake({**RESULT, "topCandidates": None, "logProbabilitySum": None})


def test_gemini_thoughts_are_no_text(decode_one: Callable[..., Frames]) -> None:
    """Nor are calls of functions, which are calls of tools."""
    parts = [
        {"text": "hm", "thought": True},
        {"text": "a"},
        {"functionCall": {"name": "f", "args": {}}},
        {"text": "b", "thought": False},
    ]
    completions, _, _ = decode_one(gemini_body(gemini(RESULT, parts=parts)))

    assert columns(completions, "text", "tool_calls") == [("ab", '[{"name":"f","args":{}}]')]


@pytest.mark.parametrize(("indices", "expected"), [((None, 1), [0, 1]), ((1, 0), [1, 0]), ((None, None), [0, 1])])
def test_gemini_an_index_may_lack(
    decode_one: Callable[..., Frames], indices: tuple[int | None, ...], expected: list[int]
) -> None:
    """JSON of protocol buffers leaves a 0 out; the place in the list stands for it."""
    held = [{} if index is None else {"index": index} for index in indices]
    texts = [gemini(RESULT, parts=[{"text": text}], **index) for text, index in zip("ab", held, strict=True)]
    completions, _, _ = decode_one(gemini_body(*texts))

    assert dict(columns(completions, "text", "choice_index")) == dict(zip("ab", expected, strict=True))


def test_gemini_a_token_without_text_is_null(decode_one: Callable[..., Frames]) -> None:
    """A missing text does not fail the answer."""
    result = {"chosenCandidates": [{"tokenId": 7, "logProbability": -0.5}, gemini_token("a", -1.0, 1)]}
    _, tokens, _ = decode_one(gemini_body(gemini(result)))

    assert columns(tokens, "token", "token_id") == [(None, 7), ("a", 1)]
    assert rebuilt(gemini_body(gemini(result)))[0]["logprobsResult"] == result


def test_gemini_average_alone_is_no_logprobs(failure_of: Callable[..., tuple[str, str]]) -> None:
    """Vertex sends it unasked."""
    body = gemini_body({"avgLogprobs": -0.5, "content": {"parts": [{"text": "a"}]}})

    error_type, message = failure_of(body)

    assert error_type == "no_logprobs"
    assert message.startswith("candidates[0]: avgLogprobs alone, which is sent unasked")
    assert rebuilt(body) == {0: {"avgLogprobs": -0.5}}


# All of them


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (llamacpp({}), "completion_probabilities: expected a list, got dict"),
        (llamacpp([[]]), "completion_probabilities[0]: expected an object, got list"),
        (llamacpp([{"token": 5}]), "completion_probabilities[0].token: expected a string, got int"),
        (llamacpp([{"token": "a", "prob": 1, "top_probs": [5]}]), "completion_probabilities[0].top_probs[0]: expected"),
        (llamacpp([{"content": None}]), "completion_probabilities[0].content: expected a string, got NoneType"),
        ([llamacpp([]), 5], "[1]: expected an object, got int"),
        ([llamacpp([]), llamacpp([])], "[1].index: 0 stands twice"),
        (llamacpp([], index=-1), "index: expected an integer in 0..999, got '-1'"),
        ([llamacpp([], index=1), llamacpp([{}], index=0)], "[1].completion_probabilities[0].token: expected a string"),
        ([llamacpp([]), {"error": {"message": "full"}}], "the server answered with an error: full"),
        (ollama({}), "logprobs: expected a list, got dict"),
        (ollama([{"logprob": 1}]), "logprobs[0].token: expected a string, got NoneType"),
        (sglang(output_token_logprobs=5), "meta_info.output_token_logprobs: expected a list, got int"),
        (sglang(output_token_logprobs=[5]), "meta_info.output_token_logprobs[0]: expected a list, got int"),
        (
            sglang(output_token_logprobs=[[0, 1, 5]]),
            "meta_info.output_token_logprobs[0][2]: expected a string, got int",
        ),
        (
            sglang(output_token_logprobs=[[0, 1, ""]], output_top_logprobs=[[[0]], [[0]]]),
            "meta_info.output_top_logprobs: 2 lists of alternatives, more than the 1 tokens there are",
        ),
        (ollama([], done=False), "done: false, as in a stream that was cut off"),
        ([llamacpp([], stop=False)], "[0].stop: false, as in a stream that was cut off"),
        ({"meta_info": 5}, "meta_info: expected an object, got int"),
        ([sglang(), {"text": "a"}], "[1].meta_info: expected an object, got NoneType"),
        ([sglang(finish_reason=None)], "[0].meta_info.finish_reason: none, as in a piece of a stream"),
        ({"generated_text": "a", "details": []}, "details: expected an object, got list"),
        (tgi(tokens=[{"text": None}]), "details.tokens[0].text: expected a string, got NoneType"),
        (tgi(prefill=[5]), "details.prefill[0]: expected an object, got int"),
        (tgi(tokens=[tgi_token("a", 0, 0)], top_tokens=[[5]]), "details.top_tokens[0][0]: expected an object, got int"),
        (tgi(best_of_sequences=[{"tokens": 5}]), "details.best_of_sequences[0].tokens: expected a list, got int"),
        (gemini_body(5), "candidates[0]: expected an object, got int"),
        (gemini_body(gemini([])), "candidates[0].logprobsResult: expected an object, got list"),
        (
            gemini_body(gemini({"chosenCandidates": [{}], "topCandidates": [{"candidates": [{"token": 1}]}]})),
            "candidates[0].logprobsResult.topCandidates[0].candidates[0].token: expected a string, got int",
        ),
        (gemini_body(), "candidates: none, expected at least one"),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, "the server blocked the prompt: 'SAFETY'"),
    ],
)
def test_a_malformed_answer_says_where(failure_of: Callable[..., tuple[str, str]], body: Any, expected: str) -> None:
    """The message names the JSON path."""
    _, message = failure_of(body)

    assert message.startswith(expected)
    assert message.isprintable()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (llamacpp(None), "completion_probabilities: null, though asked for"),
        (llamacpp([]), "completion_probabilities: no tokens in it"),
        (ollama(None), "logprobs: null, though asked for"),
        (sglang(), "meta_info: absent, though asked for"),
        ({"generated_text": "a"}, "details: absent, though asked for"),
        (tgi(tokens=[]), "details: no tokens in it"),
        (gemini_body(gemini(None)), "candidates[0]: avgLogprobs alone"),
    ],
)
def test_no_logprobs_though_asked_for_is_a_failure(
    failure_of: Callable[..., tuple[str, str]], decode_one: Callable[..., Frames], body: Any, expected: str
) -> None:
    """An answer without logprobs is not taken for an empty one; if none were asked for, the completion is a row."""
    error_type, message = failure_of(body)

    assert error_type == "no_logprobs"
    assert message.startswith(expected)
    assert len(decode_one(body, logprobs=False)[0]) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"text": "a", "logprobs": None}], "completion_probabilities": [], "done": True, "response": "b"},
        {"choices": [{"text": "a"}], "meta_info": {}, "generated_text": "b", "candidates": []},
    ],
)
def test_a_body_with_choices_is_none_of_these(decode_one: Callable[..., Frames], body: Any) -> None:
    """Servers add keys of their own to what they copy."""
    completions, _, _ = decode_one(body, logprobs=False)

    assert completions["text"].to_list() == ["a"]


FILES = [path for pattern in ("gemini", "ollama", "sglang", "tgi") for path in sorted(RECORDINGS.glob(f"{pattern}-*"))]


def raw_tokens(body: dict[str, Any]) -> tuple[Any, list[tuple[Any, ...]]]:
    """The logprobs part of a recorded body, and (token, its alternatives) as (text, id, bytes, logprob)."""
    if "candidates" in body:
        [candidate] = body["candidates"]
        result = candidate["logprobsResult"]
        tops = result.get("topCandidates", [{}] * len(result["chosenCandidates"]))
        listed = [(c, top.get("candidates", [])) for c, top in zip(result["chosenCandidates"], tops, strict=True)]
        part = {key: candidate[key] for key in ("avgLogprobs", "logprobsResult")}
        return part, [tuple((o["token"], o["tokenId"], None, o["logProbability"]) for o in (c, *t)) for c, t in listed]
    if "meta_info" in body:
        part = {key: value for key, value in body["meta_info"].items() if key.endswith("_logprobs")}
        chosen, tops = part["output_token_logprobs"], part["output_top_logprobs"]
        listed = [(c, tops[n] if n < len(tops) else []) for n, c in enumerate(chosen)]
        return part, [tuple((text, number, None, p) for p, number, text in (c, *t)) for c, t in listed]
    if "details" in body:
        part = {key: value for key, value in body["details"].items() if key in ("tokens", "prefill", "top_tokens")}
        return part, [((t["text"], t["id"], None, t["logprob"]),) for t in part["tokens"]]
    return body["logprobs"], [((t["token"], None, bytes(t["bytes"]), t["logprob"]),) for t in body["logprobs"]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_recordings_value_by_value(answer: Callable[..., Any], path: Path) -> None:
    """Each row is what the raw JSON says, and the raw JSON comes back."""
    body = json.loads(path.read_bytes())
    decoded = decode_answers([answer(path.read_bytes())])

    assert decoded.failures == []

    part, expected = raw_tokens(body)
    tokens, alternatives = pl.DataFrame(decoded.tokens), pl.DataFrame(decoded.alternatives)
    both = pl.concat([tokens.with_columns(rank=pl.lit(0, pl.Int16)), alternatives], how="diagonal")
    number = pl.coalesce("logprob", "logprob_wire")
    found = both.sort("position", "rank").select("position", "token", "token_id", "bytes", number).rows()

    assert found == [(n, *one) for n, listed in enumerate(expected) for one in listed]
    assert rebuild_logprobs(decoded.completions, decoded.tokens, decoded.alternatives) == {0: part}
