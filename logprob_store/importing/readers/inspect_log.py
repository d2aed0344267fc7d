"""Logs of Inspect (inspect_ai): whole logs as `.json`, and the samples inside an `.eval` archive.

The answer of a sample is its `output`, a chat completion by other names. Other calls of the same sample are in its
events; those with logprobs are answers, too. Long texts stand in `attachments`, and a reference in their place.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from logprob_store.decode.formats.body import kind_of, loads
from logprob_store.importing.exchanges import Exchange
from logprob_store.importing.raw_json import RawObject, parsed_value, read_object
from logprob_store.importing.readers.common import object_under, opening_of, raw_list

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OPENING: Final = opening_of("eval", "{")
_SAMPLE_KEYS: Final = frozenset({"epoch", "input", "output"})
_REFERENCE: Final = "attachment://"
_USAGE: Final = {
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
    "total_tokens": "total_tokens",
}


def recognises(held: Mapping[str, Any]) -> bool:
    """Whether an object is a log or a sample of one."""
    return ("eval" in held and "status" in held) or held.keys() >= _SAMPLE_KEYS


def read(raw: RawObject) -> Iterator[Exchange]:
    """The calls of a log, or of a sample."""
    if "eval" not in raw:
        yield from _read_sample(raw, None)
        return
    samples = raw_list(raw, "samples")
    for n, content in enumerate(samples):
        sample = read_object(content)
        if sample is None:
            yield Exchange(
                element=n, problem=("malformed_answer", f"this sample of Inspect is {kind_of(loads(content))}")
            )
        else:
            yield from _read_sample(sample, n)
    if not samples:
        yield Exchange(problem=("unknown_format", "this is a log of Inspect without samples"))


def _read_sample(sample: RawObject, element: int | None) -> Iterator[Exchange]:
    attachments = parsed_value(sample, "attachments")
    texts = attachments if isinstance(attachments, dict) else {}
    prompt_id = str(parsed_value(sample, "id"))
    output = parsed_value(sample, "output")
    error = parsed_value(sample, "error")
    prompt = parsed_value(sample, "input")
    # Without an id, equal answers in different epochs would count as one.
    answer_id = parsed_value(sample, "uuid") or f"{prompt_id}_epoch_{parsed_value(sample, 'epoch')}"
    final = _body(_resolved(output, texts), answer_id)
    bodies = [] if final is None else [final]
    if not bodies:
        message = error.get("message") if isinstance(error, dict) else "the sample has no output"
        yield Exchange(element=element, prompt_id=prompt_id, prompt=prompt, error=message)
        return
    yield Exchange(element=element, prompt_id=prompt_id, prompt=prompt, body=bodies[0])
    number = 0
    for event in _model_events(sample):
        body = _body(_resolved(event.get("output"), texts), answer_id)
        if body is not None and body not in bodies and _has_logprobs(event["output"]):
            bodies.append(body)
            number += 1
            asked = _resolved(event.get("input"), texts)
            yield Exchange(element=element, prompt_id=f"{prompt_id}/{number}", prompt=asked, body=body)


def _model_events(sample: RawObject) -> list[dict[str, Any]]:
    if "events" not in sample or b"logprobs" not in bytes(sample["events"]):
        return []
    events = parsed_value(sample, "events")
    listed = events if isinstance(events, list) else []
    return [event for event in listed if isinstance(event, dict) and event.get("event") == "model"]


def _has_logprobs(output: dict[str, Any]) -> bool:
    return any(isinstance(choice, dict) and choice.get("logprobs") for choice in output["choices"])


def _resolved(value: Any, texts: Mapping[str, Any]) -> Any:
    """The value with the attached texts in the place of their references."""
    if isinstance(value, str) and value.startswith(_REFERENCE):
        return texts.get(value.removeprefix(_REFERENCE), value)
    if isinstance(value, list):
        return [_resolved(item, texts) for item in value] if texts else value
    if isinstance(value, dict):
        return {key: _resolved(item, texts) for key, item in value.items()} if texts else value
    return value


def _body(output: Any, answer_id: str) -> bytes | None:
    """A chat completion made of an output; its logprobs stay as they are. None without choices."""
    listed = output.get("choices") if isinstance(output, dict) else None
    if not isinstance(listed, list) or not listed:
        return None
    choices = []
    for n, one in enumerate(listed):
        choice = one if isinstance(one, dict) else {}
        made = {"index": n, "finish_reason": choice.get("stop_reason"), "message": object_under(choice, "message")}
        choices.append({**made, "logprobs": choice["logprobs"]} if "logprobs" in choice else made)
    usage = object_under(output, "usage")
    counts = {name: usage[key] for key, name in _USAGE.items() if key in usage}
    head = {"id": answer_id, "object": "chat.completion", "model": output.get("model")}
    return json.dumps({**head, "choices": choices, "usage": counts}).encode()
