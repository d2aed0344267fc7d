"""What OpenAI's families of models refuse, in the words in which they were seen to: for the fault server.

Written from observed refusals, apart from the table that a run looks at: the two are held against each other.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

REASONS_ALWAYS = {"gpt-6-astra", "gpt-6.1-sol", "gpt-6.2-sol", "gpt-5", "gpt-5-mini", "o3", "o4-mini"}
REASONS_BY_DEFAULT = {"gpt-6-luna", "gpt-6-sol", "gpt-5.6-terra", "gpt-5.6-luna"}
REASONS_WHEN_ASKED = {"gpt-5.5", "gpt-5.4", "gpt-5.4-mini", "gpt-5.2", "gpt-5.1"}
NEVER_REASONS = {"gpt-4o", "gpt-4o-mini", "gpt-4.1-mini"}
FAMILIES = REASONS_ALWAYS | REASONS_BY_DEFAULT | REASONS_WHEN_ASKED | NEVER_REASONS
NO_STOP = {"gpt-6-astra", "gpt-6.1-sol", "gpt-6.2-sol", "gpt-6-luna", "gpt-6-sol", "gpt-5", "gpt-5-mini", "o3"} | {
    "gpt-5.6-terra",
    "gpt-5.6-luna",
}
FIVE_ALTERNATIVES = {"gpt-5.6-terra", "gpt-5.6-luna", "gpt-5.4-mini"}
DEFAULTS = {"temperature": 1, "top_p": 1}


def family_refusal(path: str, body: Any) -> dict[str, Any] | None:
    """The `error` object with which the model of a body refuses it; None if it answers, or is of no family."""
    if not isinstance(body, dict) or body.get("model") not in FAMILIES:
        return None
    refusals = _refusals(body["model"], body, responses=path.endswith("/responses"))
    return next(itertools.chain(refusals, _unfinished(body)), None)


def _refusals(model: str, body: dict[str, Any], *, responses: bool) -> Iterator[dict[str, Any]]:
    for name in ("max_tokens", "max_completion_tokens", "reasoning_effort") if responses else ("reasoning",):
        if name in body:
            yield _error("unknown_parameter", name, f"Unknown parameter: '{name}'.")
    effort = (body.get("reasoning") or {}).get("effort") if responses else body.get("reasoning_effort")
    if model in NEVER_REASONS:
        if effort is not None:
            yield _unsupported("reasoning.effort" if responses else "reasoning_effort")
        return
    if "max_tokens" in body:
        yield _unsupported("max_tokens", " Use 'max_completion_tokens' instead.")
    if model in REASONS_ALWAYS and effort == "none":
        said = f"Unsupported value: 'none' is not supported with the '{model}' model."
        yield _error("unsupported_value", "reasoning_effort", said)
    if "stop" in body and model in NO_STOP:
        yield _unsupported("stop")
    asked = effort not in {None, "none"}
    if asked or model in REASONS_ALWAYS or (model in REASONS_BY_DEFAULT and effort is None):
        yield from _while_reasoning(body, responses=responses)
    elif model in FIVE_ALTERNATIVES and body.get("top_logprobs", 0) > 5:
        yield _error(None, "top_logprobs", "Invalid value for 'top_logprobs': must be less than or equal to 5.")


def _unfinished(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if body["model"] in FIVE_ALTERNATIVES and body.get("max_completion_tokens") == 1:
        said = "Could not finish the message because max_tokens or model output limit was reached."
        yield _error(None, None, said)


def _while_reasoning(body: dict[str, Any], *, responses: bool) -> Iterator[dict[str, Any]]:
    for name, default in DEFAULTS.items():
        if body.get(name, default) != default:
            yield _error("unsupported_value", name, f"Unsupported value: '{name}' does not support {body[name]}.")
    if responses and "message.output_text.logprobs" in (body.get("include") or ()):
        yield _error("unsupported_parameter", "include", "logprobs are not supported with reasoning models.")
    if body["model"] == "o4-mini" and body.get("logprobs"):
        yield _error(None, None, "You are not allowed to request logprobs from this model")
    if body.get("logprobs"):
        yield _unsupported("logprobs")


def _unsupported(name: str, more: str = "") -> dict[str, Any]:
    said = f"Unsupported parameter: '{name}' is not supported with this model.{more}"
    return _error("unsupported_parameter", name, said)


def _error(code: str | None, param: str | None, message: str) -> dict[str, Any]:
    return {"message": message, "type": "invalid_request_error", "param": param, "code": code}
