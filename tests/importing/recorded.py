"""Small recorded answers and requests, and the lines of files that hold them."""

from __future__ import annotations

import json
from typing import Any

from builders import chat_body, chat_token


def recorded_body(number: int = 0, *, own_id: bool = True, logprobs: bool = True) -> dict[str, Any]:
    """A chat answer of two tokens; `number` is in its text, its logprobs and its id, if it has one."""
    logprob = -(number + 1) / 1000
    tokens = [chat_token(text, value, {text: value}) for text, value in ((f"n{number}", logprob), ("!", logprob - 1))]
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    body = chat_body(tokens, id=f"chatcmpl-{number}", usage=usage)
    if not own_id:
        del body["id"]
    if not logprobs:
        body["choices"][0]["logprobs"] = None
    return body


def recorded_request(number: int = 0, **params: Any) -> dict[str, Any]:
    """A request for such an answer."""
    body = {"model": "m", "messages": [{"role": "user", "content": f"count to {number}"}], "logprobs": True}
    return {**body, "top_logprobs": 1, **params}


def recorded_chunks(number: int = 0) -> list[dict[str, Any]]:
    """The same answer as a stream: a role, a chunk for each token, an end."""
    whole = recorded_body(number)
    [choice] = whole["choices"]
    head = {"id": whole["id"], "object": "chat.completion.chunk", "created": 1700000000, "model": "m-1"}

    def chunk(delta: dict[str, Any], logprobs: Any = None, finish_reason: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}]}

    return [
        chunk({"role": "assistant", "content": ""}),
        *(
            chunk({"content": token["token"]}, {"content": [token], "refusal": None})
            for token in choice["logprobs"]["content"]
        ),
        chunk({}, None, "stop"),
    ]


def output_line(custom_id: str, body: Any, *, status: int = 200) -> dict[str, Any]:
    """A line of a Batch API output file."""
    response = {"status_code": status, "request_id": "req", "body": body}
    return {"id": f"batch_req_{custom_id}", "custom_id": custom_id, "response": response, "error": None}


def input_line(custom_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """A line of a Batch API input file."""
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def jsonl(*values: Any) -> str:
    """JSON Lines of these values; text is a line as it stands."""
    return "".join((value if isinstance(value, str) else json.dumps(value)) + "\n" for value in values)


URL = "https://api.openai.com/v1/chat/completions"


def cassette(*calls: tuple[Any, Any], status: int = 200) -> dict[str, Any]:
    """A cassette of vcrpy."""
    return {
        "version": 1,
        "interactions": [
            {
                "request": {"method": "POST", "uri": URL, "body": request, "headers": {"authorization": ["Bearer x"]}},
                "response": {"status": {"code": status, "message": ""}, "headers": {}, "body": response},
            }
            for request, response in calls
        ],
    }
