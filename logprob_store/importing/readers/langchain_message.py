"""Messages and results of LangChain: `dumpd`, `message_to_dict` and `model_dump` of an AI message, and LLM results.

Logprobs are in `response_metadata` of a message, or in `generation_info` of a generation. Messages of other roles are
no answers and are left out.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.body import kind_of, list_or_empty, loads_object
from logprob_store.decode.formats.choices import CHUNK
from logprob_store.decode.formats.pieces import text_under
from logprob_store.importing.exchanges import Exchange
from logprob_store.importing.raw_json import parsed_value
from logprob_store.importing.readers.common import object_under

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from logprob_store.importing.raw_json import RawObject

_OF_GEMINI: Final = "logprobs_result"
_LOGPROBS: Final = ("logprobs", _OF_GEMINI)
_AI: Final = frozenset({"ai", "AIMessage", "AIMessageChunk", "assistant"})
_USAGE: Final = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}


def recognises(held: Mapping[str, Any]) -> bool:
    """Whether an object is a message or a result."""
    if "lc" in held and "kwargs" in held:
        return True
    if "generations" in held and ("llm_output" in held or "run" in held):
        return True
    return text_under(held, "type") is not None and ("response_metadata" in held or held.keys() == {"type", "data"})


def read(raw: RawObject) -> Iterator[Exchange]:
    """The answers of a message or a result."""
    if "generations" in raw:
        generations = list_or_empty(parsed_value(raw, "generations"))
        for n, listed in enumerate(generations):
            yield from _read_generations(n, listed if isinstance(listed, list) else [listed])
        if not any(generations):
            yield Exchange(problem=("no_answer", "this is a result of LangChain without generations"))
        return
    if "kwargs" in raw:
        key, path = "kwargs", list_or_empty(parsed_value(raw, "id"))
        name, message = path[-1] if path else None, parsed_value(raw, key)
    else:
        key, name = "data", text_under(raw, "type")
        message = parsed_value(raw, key) if key in raw else {key: parsed_value(raw, key) for key in raw}
    if isinstance(name, str) and name not in _AI:
        return
    if not isinstance(name, str) or not isinstance(message, dict):
        problem = f"{key}: {kind_of(message)}" if isinstance(name, str) else "id: no name of a class"
        yield Exchange(problem=("malformed_answer", f"this is an object of LangChain without a message ({problem})"))
        return
    yield Exchange(body=_body([(message, _metadata(message))]))


def as_chunk(raw: RawObject) -> bytes | None:
    """A chunk of a streamed message, an AIMessageChunk, as one of chat completions; None for anything else."""
    if not ("lc" in raw and "kwargs" in raw) or b"AIMessageChunk" not in bytes(raw.get("id", b"")):
        return None
    message = parsed_value(raw, "kwargs")
    if not isinstance(message, dict):
        return None
    body = loads_object(_body([(message, _metadata(message))]))
    [choice] = body["choices"]
    usage = {"usage": body["usage"]} if body["usage"] else {}
    delta = {key: value for key, value in choice.pop("message").items() if value is not None}
    head = {key: body[key] for key in ("model", "system_fingerprint") if body[key] is not None}
    chunk = {"id": message.get("id"), "object": CHUNK, **head, "choices": [{**choice, "delta": delta}], **usage}
    return json.dumps(chunk).encode()


def _metadata(message: dict[str, Any]) -> dict[str, Any]:
    return object_under(message, "response_metadata")


def _read_generations(number: int, listed: list[Any]) -> Iterator[Exchange]:
    """The generations of one prompt: choices of one answer."""
    choices = []
    for one in listed:
        generation = one if isinstance(one, dict) else {}
        generation = object_under(generation, "kwargs") or generation
        held = object_under(generation, "message")
        held = object_under(held, "kwargs") or object_under(held, "data") or held
        message = {**held, "content": held.get("content", generation.get("text"))}
        choices.append((message, {**_metadata(message), **object_under(generation, "generation_info")}))
    if choices:
        yield Exchange(element=number, body=_body(choices))


def _body(choices: list[tuple[dict[str, Any], dict[str, Any]]]) -> bytes:
    """A chat completion made of messages and their metadata; the logprobs stay as they are."""
    made: list[dict[str, Any]] = []
    for n, (message, metadata) in enumerate(choices):
        extra = object_under(message, "additional_kwargs")
        calls = extra.get("tool_calls") or message.get("tool_calls")
        said = {"role": "assistant", "content": message.get("content"), "refusal": extra.get("refusal")}
        choice = {"index": n, "finish_reason": metadata.get("finish_reason", metadata.get("done_reason"))}
        choice["message"] = {**said, "tool_calls": calls} if calls else said
        key = next((key for key in _LOGPROBS if metadata.get(key) is not None), None)
        if key is not None:
            held = metadata[key]
            wrapped = {"content": held} if isinstance(held, list) else {key: held} if key == _OF_GEMINI else held
            choice["logprobs"] = wrapped
        made.append(choice)
    message, metadata = choices[0]
    counts = object_under(metadata, "token_usage") or object_under(message, "usage_metadata")
    usage = {_USAGE.get(key, key): value for key, value in counts.items()}
    body = {
        "id": metadata.get("id") or message.get("id"),
        "object": "chat.completion",
        "model": metadata.get("model_name", metadata.get("model")),
        "system_fingerprint": metadata.get("system_fingerprint"),
        "choices": made,
        "usage": usage,
    }
    return json.dumps(body).encode()
