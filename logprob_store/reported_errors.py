"""Errors that a body reports although the HTTP status was 200.

A gateway whose upstream fails after the status was sent can report it only in the body: at the top, in a choice, or as
the reason why the text ended. Such a body may hold a partial text with log-probabilities. It is a failed attempt all
the same. What follows from an error is in `failures`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FAILED_ENDS: Final = frozenset({"abort", "aborted", "error", "insufficient_system_resource", "network_error"})
"""Values of `finish_reason` that say that the server could not finish: OpenRouter, Mistral and vLLM write `error`,
vLLM and SGLang `abort`, DeepSeek `insufficient_system_resource`, Z.ai `network_error`."""

_FAILED_STATUSES: Final = frozenset({"cancelled", "failed"})
_SAID: Final = ("code", "message", "param", "type")
_ANSWER_KEYS: Final = ("choices", "output", "candidates")
_ERROR_KEYS: Final = frozenset({"error", "exception", "fault"})
_MESSAGE_KEYS: Final = ("message", "msg", "detail", "error_description")
_ERROR_BODY_KEYS: Final = frozenset(
    {"code", "data", "detail", "errors", "id", "messages", "model", "object", "param", "provider", "request_id"}
    | {"result", "status", "success", "timestamp", "type", "usage", *_MESSAGE_KEYS}
)
"""A body with no other key holds no answer."""


class ReportedError(NamedTuple):
    """What a body reports.

    Args:
        said: the error as `failures.classify` takes it: `message`, and what else the server says, such as `code`.
        partial: the text that came before the failure, empty if none did.
    """

    said: dict[str, Any]
    partial: str = ""


def find_reported_error(body: object) -> ReportedError | None:
    """The error that a parsed body reports; None for an answer.

    >>> choice = {"text": "The ans", "finish_reason": "error", "error": {"code": 502, "message": "idle"}}
    >>> find_reported_error({"choices": [choice]})
    ReportedError(said={'code': 502, 'message': 'idle'}, partial='The ans')
    >>> find_reported_error({"output": [], "status": "failed", "error": None}).said
    {'message': 'status: failed'}
    >>> find_reported_error({"choices": [{"text": "error", "finish_reason": "stop"}], "error": None}) is None
    True
    """
    if not isinstance(body, dict):
        return None
    said = next(_errors(body), None)
    return None if said is None else ReportedError(said, "".join(_texts(body)))


def ends_in_failure(finish_reason: object) -> bool:
    """Whether a `finish_reason` says that the server could not finish."""
    return isinstance(finish_reason, str) and finish_reason.lower() in FAILED_ENDS


def says_something(error: object) -> bool:
    """Whether the value of a key `error` reports one; some servers always send null, `{}` or codes of 0.

    >>> [says_something(error) for error in (None, "", {}, {"code": 0, "message": ""}, "no", {"code": 502})]
    [False, False, False, False, True, True]
    """
    return any(error.values()) if isinstance(error, dict) else bool(error)


def _errors(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The errors in a body, the one that says most first."""
    choices = [choice for choice in _listed(body.get("choices")) if isinstance(choice, dict)]
    for error in (body.get("error"), *(choice.get("error") for choice in choices)):
        if says_something(error):
            yield _as_object(error)
    if body.get("object") == "error" or body.get("type") == "error":
        yield {key: body[key] for key in _SAID if key in body}
    for choice in choices:
        if ends_in_failure(choice.get("finish_reason")):
            yield {"message": f"finish_reason: {choice['finish_reason']}"}
    status = body.get("status")
    if "output" in body and isinstance(status, str) and status in _FAILED_STATUSES:
        yield {"message": f"status: {status}"}
    yield from _native_errors(body)


def _native_errors(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The errors of servers' own APIs: SGLang's abort; and of bodies without an answer, Baidu's and MiniMax's."""
    meta = body.get("meta_info")
    end = meta.get("finish_reason") if isinstance(meta, dict) else None
    if isinstance(end, dict) and ends_in_failure(end.get("type")):
        yield {"message": "finish_reason: abort", **{key: end[key] for key in _SAID if key != "type" and end.get(key)}}
    if any(body.get(key) for key in _ANSWER_KEYS):
        return
    if body.get("error_code") or body.get("error_msg"):
        yield {"code": body.get("error_code"), "message": body.get("error_msg")}
    response = body.get("base_resp")
    if isinstance(response, dict) and response.get("status_code"):
        yield {"code": response["status_code"], "message": response.get("status_msg")}
    for key, error in body.items():
        if key.lower() in _ERROR_KEYS and says_something(error):
            fields = {name.lower(): value for name, value in _as_object(error).items()}
            message = fields.get("faultstring") or _message(fields) or json.dumps(error)  # Apigee's, or others'
            yield {"code": fields.get("code"), "message": message}
    if _ERROR_BODY_KEYS.issuperset(body.keys() - set(_ANSWER_KEYS)):
        yield from _bare_errors(body)


def _bare_errors(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The error of a body that has nothing but what errors consist of: FastAPI's, Cloudflare's, `{code, message}`."""
    errors = _listed(body.get("errors"))
    found = errors[0] if errors else body
    if not isinstance(found, dict):
        found = {"message": str(found)}
    if (message := _message(found)) is not None:
        yield {"code": found.get("code"), "message": message}


def _message(error: Mapping[str, Any]) -> str | None:
    message = next((error[key] for key in _MESSAGE_KEYS if error.get(key)), None)
    return message if message is None or isinstance(message, str) else json.dumps(message)


def _as_object(error: Any) -> dict[str, Any]:
    return error if isinstance(error, dict) else {"message": error if isinstance(error, str) else json.dumps(error)}


def _texts(body: Mapping[str, Any]) -> Iterator[str]:
    """The texts in a body: of its choices, or of the content parts of its output."""
    for choice in _listed(body.get("choices")):
        message = choice.get("message") if isinstance(choice, dict) else None
        yield from _text(message.get("content") if isinstance(message, dict) else None)
        yield from _text(choice.get("text") if isinstance(choice, dict) else None)
    for item in _listed(body.get("output")):
        yield from _text(item.get("content") if isinstance(item, dict) else None)
    yield from _text(body.get("text"))


def _text(content: Any) -> Iterator[str]:
    """A text, or the texts of a list of parts."""
    for part in [content] if isinstance(content, str) else _listed(content):
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            yield text


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
