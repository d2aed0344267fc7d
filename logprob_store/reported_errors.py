"""Errors that a body reports although the HTTP status was 200.

A gateway whose upstream fails after the status was sent can report it only in the body: at the top, in a choice, or as
the reason why the text ended. Such a body may hold a partial text with log-probabilities. It is a failed attempt all
the same. What follows from an error is in `failures`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_FAILED_ENDS: Final = frozenset(
    {"abort", "aborted", "canceled", "cancelled", "failed", "insufficient_system_resource", "timeout"}
)
"""Values of `finish_reason` that say that the server could not finish, beside those with `error` in them: OpenRouter,
Mistral and vLLM write `error`, Z.ai `network_error`, vLLM and SGLang `abort`, TensorRT-LLM `cancelled` and `timeout`,
DeepSeek `insufficient_system_resource`."""

_FAILED_STATUSES: Final = frozenset({"canceled", "cancelled", "error", "fail", "failed", "failure"})
_NOTHING: Final = frozenset(
    {"", "0", "0.0", "200", "false", "n/a", "nil", "no error", "no errors", "noerror", "none", "null", "ok", "success"}
    | {"succeeded", "successful"}
)
"""Texts that say that there is no error, where a key is meant for one; in lower case, and without a stop behind."""
_ERROR_STATUS: Final = re.compile("[45][0-9]{2}")
_CODES: Final = (int, str)
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
    """Whether a `finish_reason` says that the server could not finish.

    >>> [ends_in_failure(reason) for reason in ("stop", "no_error", "network_error", "abort", None)]
    [False, False, True, True, False]
    """
    if not isinstance(finish_reason, str):
        return False
    end = finish_reason.lower()
    return end in _FAILED_ENDS or ("error" in end and not _says_nothing(end))


def says_something(error: object) -> bool:
    """Whether the value of a key `error` reports one; some servers always send null, `{}` or codes of 0.

    >>> [says_something(error) for error in (None, "", {}, {"code": 0, "message": "Success."}, "no", {"code": 502})]
    [False, False, False, False, True, True]
    """
    if isinstance(error, dict):
        return any(says_something(value) for value in error.values())
    if isinstance(error, list):
        return any(says_something(item) for item in error)
    return bool(error) and not _says_nothing(str(error))


def _says_nothing(text: str) -> bool:
    """Whether a text says that there is no error."""
    return text.strip().rstrip(".!").lower().replace("_", " ") in _NOTHING


class MayReport(msgspec.Struct):
    """The keys at the top of a body by which it may say that it failed, for structs that skip what they do not need."""

    error: Any = None
    errors: Any = None
    code: Any = None
    object: Any = None
    type: Any = None
    status: Any = None
    success: Any = None
    error_code: Any = None
    error_msg: Any = None
    base_resp: Any = None

    def is_suspect(self) -> bool:
        """Whether `find_own_error` may find one: a look at few values clears nearly all bodies."""
        if self.object == "error" or self.type == "error" or self.success is False or _has_failed(self.status):
            return True
        if self.code is not None and _is_error_status(self.code):
            return True
        values = (self.error, self.errors, self.error_code, self.error_msg, self.base_resp)
        return any(value is not None and says_something(value) for value in values)


def find_own_error(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The error that a body or a piece of a stream reports at its top, whatever else is in it; None without one.

    >>> find_own_error({"object": "error", "message": "no such model", "choices": [{"text": "a"}]})
    {'message': 'no such model'}
    >>> find_own_error({"success": True, "error": None, "choices": []}) is None
    True
    """
    return next(_own_errors(body), None)


def _own_errors(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The errors at the top of a body, the one that says most first."""
    if says_something(body.get("error")):
        yield _as_object(body["error"])
    if says_something(errors := body.get("errors")):
        listed = errors if isinstance(errors, list) else [errors]
        yield _as_object(next(error for error in listed if says_something(error)))
    if "error" in (body.get("object"), body.get("type")):
        yield {key: body[key] for key in _SAID if key in body}
    code, message = body.get("error_code"), body.get("error_msg")  # Baidu's
    if says_something(code) or ("error_code" not in body and says_something(message)):
        yield {"code": code, "message": message}
    response = body.get("base_resp")  # MiniMax's
    if isinstance(response, dict) and says_something(response.get("status_code")):
        yield {"code": response["status_code"], "message": response.get("status_msg")}
    failed = _has_failed(body.get("status")) and any(key in body for key in _ANSWER_KEYS)
    code = body.get("code")
    is_unsuccessful = body.get("success") is False and body.get("choices")
    if failed or is_unsuccessful or _is_error_status(code):
        state = f"status: {body['status']}" if failed else "success: false" if is_unsuccessful else f"code: {code}"
        message = _message(body)
        yield {"message": state} if message is None else {"code": body.get("code"), "message": message}


def _has_failed(status: object) -> bool:
    return (isinstance(status, str) and status.lower() in _FAILED_STATUSES) or _is_error_status(status)


def _is_error_status(code: object) -> bool:
    """Whether a value is an HTTP status that means an error, as a number or a text."""
    return type(code) in _CODES and _ERROR_STATUS.fullmatch(str(code)) is not None


def _errors(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The errors in a body, the one that says most first."""
    yield from _own_errors(body)
    choices = [choice for choice in _listed(body.get("choices")) if isinstance(choice, dict)]
    for choice in choices:
        if says_something(choice.get("error")):
            yield _as_object(choice["error"])
    for choice in choices:
        if ends_in_failure(choice.get("finish_reason")):
            yield {"message": f"finish_reason: {choice['finish_reason']}"}
    yield from _native_errors(body)


def _native_errors(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The errors of servers' own APIs: SGLang's abort; and of bodies without an answer."""
    meta = body.get("meta_info")
    end = meta.get("finish_reason") if isinstance(meta, dict) else None
    if isinstance(end, dict) and ends_in_failure(end.get("type")):
        yield {"message": "finish_reason: abort", **{key: end[key] for key in _SAID if key != "type" and end.get(key)}}
    if any(body.get(key) for key in _ANSWER_KEYS):
        return
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
