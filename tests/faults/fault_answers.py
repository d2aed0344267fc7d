"""Good answers of the fault server: their texts, tokens and logprobs follow from the request alone."""

from __future__ import annotations

import hashlib
import json
import random
import re
from typing import Any

WORDS = (
    " the", " of", " Paris", " is", " Kabul", " a", " city", "\n", " 東京", " Zürich", " 🙂", ".", " and", " 42",
    ' "quoted"', " back\\slash", " we", " said", " not", " quite", " sure", "e", "é", " River", " 1e5",
)  # fmt: skip


def answer_to(path: str, body: dict[str, Any], *, step: str = "ok") -> bytes:
    """The answer to a request, which follows from the request alone.

    Chat gets `logprobs.content`, the legacy endpoint `tokens`, `token_logprobs`, `top_logprobs` and `text_offset`, and
    what is asked for with `echo` and `prompt_logprobs`. Logprobs fall with the rank; the chosen token is now and then
    not the first.
    """
    null, asked_echo = step == "null", body.get("echo") and step != "no_echo"
    chat = path.endswith("/chat/completions")
    digest = hashlib.sha256(json.dumps([chat, body], sort_keys=True).encode()).hexdigest()
    asked = body.get("logprobs")
    top = int(body.get("top_logprobs") or 0) if chat else int(asked or 0)
    length = body.get("max_tokens") if body.get("max_tokens") is not None else body.get("max_completion_tokens") or 5
    length = max(min(int(length), 200), step == "no_echo")
    prompt = "" if chat else str(body.get("prompt"))
    given = [] if chat else prompt_tokens(prompt, int(body.get("prompt_logprobs") or top), zeros=step == "zeros")
    choices = []
    for index in range(int(body.get("n") or 1)):
        rng = random.Random(f"{digest} {index}")  # noqa: S311  no secret
        tokens = [_token(rng, top) for _ in range(length)]
        text = "".join(token["token"] for token in tokens)
        wanted = not null and asked is not None and asked is not False
        shaped = {"content": tokens, "refusal": None} if chat else _legacy(tokens)
        if asked_echo and not chat:
            tokens, text = given + tokens, prompt + text
            shaped = _legacy(tokens)
        said = {"message": {"role": "assistant", "content": text, "refusal": None}} if chat else {"text": text}
        if body.get("prompt_logprobs") is not None and step != "no_echo":
            said["prompt_logprobs"] = [_vllm(token) for token in given]
        choices.append({"index": index, **said, "logprobs": shaped if wanted else None, "finish_reason": "length"})
    produced = length * len(choices)
    answer = {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{digest[:24]}",
        "object": "chat.completion" if chat else "text_completion",
        "created": 1_700_000_000 + int(digest[:6], 16),
        "model": f"{body.get('model')}-2026-01-01",
        "system_fingerprint": "fp_fault",
        "choices": choices,
        "usage": {"prompt_tokens": 7, "completion_tokens": produced, "total_tokens": 7 + produced},
    }
    return json.dumps(answer, ensure_ascii=False).encode()


def responses_answer_to(_path: str, body: dict[str, Any], *, step: str = "ok") -> bytes:
    """The answer to a Responses request: the same tokens, in that API's shape."""
    wanted = "message.output_text.logprobs" in body.get("include", [])
    asked = {**body, "logprobs": wanted, "max_tokens": body.get("max_output_tokens")}
    chat = json.loads(answer_to("/v1/chat/completions", asked, step=step))
    choice, usage = chat["choices"][0], chat["usage"]
    part = {"type": "output_text", "text": choice["message"]["content"], "annotations": []}
    part["logprobs"] = choice["logprobs"]["content"] if choice["logprobs"] else []
    message = {"id": "msg_fault", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    answer = {
        "id": chat["id"].replace("chatcmpl", "resp"),
        "object": "response",
        "created_at": chat["created"],
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "model": chat["model"],
        "output": [message],
        "usage": {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]},
    }
    return json.dumps(answer, ensure_ascii=False).encode()


def decisions_answer_to(_path: str, body: dict[str, Any], *, step: str = "ok") -> bytes:
    """The answer to typed questions: probabilities that follow from the request, the first option the likeliest.

    A question whose instructions hold "refuse" is refused, and one with "skip" has no answer.
    """
    if step == "null":
        return json.dumps({"model": body["model"], "answers": [], "usage": {}}).encode()
    asked = [question for question in body["questions"] if "skip" not in question["instructions"]]
    usage = {"input_tokens": 40, "output_tokens": 0, "total_tokens": 40}
    answers = [_decision(body["input"], question) for question in asked]
    return json.dumps({"model": f"{body['model']}-2026-01-01", "answers": answers, "usage": usage}).encode()


def _decision(asked: Any, question: dict[str, Any]) -> dict[str, Any]:
    named = {"name": question.get("name"), "type": question["type"]}
    if "refuse" in question["instructions"]:
        return {**named, "type": "refusal"}
    rng = random.Random(json.dumps([asked, question], sort_keys=True))  # noqa: S311  no secret
    if question["type"] == "predicate":
        return {**named, "probability": round(rng.random(), 6)}
    options = question.get("choices") or question["levels"]
    weights = sorted((rng.random() for _ in options), reverse=True)
    shares = [round(weight / sum(weights), 6) for weight in weights]
    if question["type"] == "choice":
        listed = [{"value": one["value"], "probability": p} for one, p in zip(options, shares, strict=True)]
        return {**named, "choice": options[0]["value"], "probabilities": listed, "confidence": shares[0]}
    levels = [{"value": n, "label": one["label"], "probability": shares[n]} for n, one in enumerate(options)]
    return {**named, "score": sum(n * p for n, p in enumerate(shares)), "probabilities": levels, "confidence": 0.5}


def pieces(text: str) -> list[str]:
    """The tokens of a prompt: up to four letters each, with the white space before them."""
    return re.findall(r"\s*\S{1,4}|\s+\Z", text)


def logprob_after(before: str, piece: str) -> float:
    """The logprob of a piece after a text, which is the same whenever it is asked for."""
    digest = hashlib.sha256(f"{before}|{piece}".encode()).digest()
    return -round(1 + int.from_bytes(digest[:4]) / 2**30, 6)


def prompt_tokens(prompt: str, top: int, *, zeros: bool = False) -> list[dict[str, Any]]:
    """The tokens of a prompt with their logprobs; the first has none."""
    tokens: list[dict[str, Any]] = []
    before = ""
    for piece in pieces(prompt):
        value = 0.0 if zeros else logprob_after(before, piece)
        ahead = 2 * (int(value * 1e6) % 2) - 1  # of every two tokens one is the likeliest
        others = [{"token": word, "logprob": value - n} for n, word in enumerate((" the", " of"), ahead)][:top]
        likely = sorted([*others, {"token": piece, "logprob": value}], key=lambda token: -token["logprob"])
        scored = {"token": piece, "logprob": value, "top_logprobs": likely if top else []}
        tokens.append(scored if before else {"token": piece, "logprob": None, "top_logprobs": None})
        before += piece
    return tokens


def _vllm(token: dict[str, Any]) -> dict[str, Any] | None:
    """One position of vLLM's `prompt_logprobs`: the prompt's own token first, by its id."""
    if token["logprob"] is None:
        return None
    own = {"token": token["token"], "logprob": token["logprob"]}
    ranked = [own, *(other for other in token["top_logprobs"] if other["token"] != own["token"])]
    order = sorted(ranked, key=lambda other: -other["logprob"])
    return {
        str(int.from_bytes(hashlib.sha256(other["token"].encode()).digest()[:3])): {
            "logprob": other["logprob"],
            "rank": order.index(other) + 1,
            "decoded_token": other["token"],
        }
        for other in ranked
    }


def _token(rng: random.Random, top: int) -> dict[str, Any]:
    words = rng.sample(WORDS, max(top, 2))
    values = sorted((round(-rng.expovariate(0.5), 6) for _ in words), reverse=True)
    ranked = [
        {"token": word, "logprob": value, "bytes": list(word.encode())}
        for word, value in zip(words, values, strict=True)
    ]
    chosen = ranked[1] if rng.random() < 0.1 else ranked[0]
    return {**chosen, "top_logprobs": ranked[:top]}


def _legacy(tokens: list[dict[str, Any]]) -> dict[str, Any]:
    texts = [token["token"] for token in tokens]
    return {
        "tokens": texts,
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": [
            None if token["top_logprobs"] is None else {top["token"]: top["logprob"] for top in token["top_logprobs"]}
            for token in tokens
        ],
        "text_offset": [len("".join(texts[:position])) for position in range(len(texts))],
    }
