"""Bodies as llama.cpp, Ollama, SGLang, TGI and Gemini send them on endpoints of their own."""

from __future__ import annotations

from typing import Any


def logprob_token(text: str, logprob: float, token_id: int, **more: Any) -> dict[str, Any]:
    """A token as llama.cpp sends it."""
    return {"id": token_id, "token": text, "bytes": list(text.encode()), "logprob": logprob, **more}


def prob_token(text: str, prob: Any, token_id: int, **more: Any) -> dict[str, Any]:
    """A token as llama.cpp sends it with a probability in place of a logprob."""
    return {"id": token_id, "token": text, "bytes": list(text.encode()), "prob": prob, **more}


def llamacpp(probabilities: Any, **more: Any) -> dict[str, Any]:
    """A body of llama.cpp's /completion."""
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
    """A body of Ollama's /api/generate."""
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
    """A body of SGLang's /generate."""
    held = {"id": "x1", "finish_reason": {"type": "stop", "matched": 2}, "prompt_tokens": 5, "completion_tokens": 2}
    return {"text": text, "meta_info": {**held, **meta}, **({} if index is None else {"index": index})}


def tgi(**details: Any) -> dict[str, Any]:
    """A body of TGI's /generate."""
    held = {"finish_reason": "eos_token", "generated_tokens": 2, "seed": None, "prefill": []}
    return {"generated_text": "ab", "details": {**held, **details}}


def tgi_token(text: str, logprob: float | None, token_id: int, *, special: bool = False) -> dict[str, Any]:
    """A token as TGI sends it."""
    return {"id": token_id, "text": text, "logprob": logprob, "special": special}


def gemini(result: Any, *, parts: Any = ({"text": "ab"},), **more: Any) -> dict[str, Any]:
    """A candidate of Gemini."""
    held = {"content": {"role": "model", "parts": list(parts)}, "finishReason": "STOP", "avgLogprobs": -9.5}
    return {**held, "logprobsResult": result, **more}


def gemini_body(*candidates: Any) -> dict[str, Any]:
    """A body of Gemini's generateContent."""
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
