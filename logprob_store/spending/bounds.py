"""Requests whose tokens have a known maximum: what a ceiling of tokens or dollars lets through.

These are lists of what is known to be harmless, not of what is known to cost: services add ways to make a call larger
(searches, files, other models, several answers) faster than a list of those could follow. What is in no list is refused
before the first call. How many tokens a request may take is counted in `request_tokens`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from logprob_store.errors import PromptError
from logprob_store.spending.request_tokens import CHOICES, CONTENT, MAXIMA, whole_number
from logprob_store.usage import STANDARD, tier_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from logprob_store.request import Request
    from logprob_store.spending.prices import Prices

_SAMPLING: Final = frozenset({
    "allowed_token_ids", "bad_words", "dry_allowed_length", "dry_base", "dry_multiplier", "dry_penalty_last_n",
    "dry_sequence_breakers", "dynatemp_exponent", "dynatemp_range", "epsilon_cutoff", "eta_cutoff",
    "frequency_penalty", "ignore_eos", "length_penalty", "logit_bias", "min_keep", "min_p", "min_tokens",
    "mirostat", "mirostat_eta", "mirostat_tau", "presence_penalty", "random_seed", "repeat_last_n",
    "repeat_penalty", "repetition_penalty", "samplers", "seed", "stop", "stop_token_ids", "temperature", "tfs_z",
    "top_a", "top_k", "top_n_sigma", "top_p", "typical_p", "xtc_probability", "xtc_threshold",
})  # fmt: skip
"""How tokens are chosen."""
_SHAPE: Final = frozenset({
    "ebnf", "grammar", "guided_choice", "guided_decoding_backend", "guided_grammar", "guided_json",
    "guided_regex", "guided_whitespace_pattern", "json_schema", "regex", "response_format", "structured_outputs",
    "text", "verbosity",
})  # fmt: skip
"""What an answer looks like."""
_REPORT: Final = frozenset({
    "add_special_tokens", "cache_prompt", "echo", "id_slot", "include", "include_stop_str_in_output", "logprobs",
    "metadata", "n_probs", "post_sampling_probs", "priority", "prompt_cache_key", "prompt_logprobs",
    "return_tokens", "return_tokens_as_token_ids", "safety_identifier", "skip_special_tokens",
    "spaces_between_special_tokens", "store", "stream", "stream_options", "suffix", "t_max_predict_ms",
    "timings_per_token", "top_logprobs", "truncate_prompt_tokens", "truncation", "user",
})  # fmt: skip
"""What is sent back, and what is done with it."""
_CONVERSATION: Final = frozenset({
    "add_generation_prompt", "chat_template_kwargs", "continue_final_message", "function_call", "functions",
    "instructions", "parallel_tool_calls", "reasoning", "reasoning_effort", "safe_prompt", "tool_choice", "tools",
})  # fmt: skip
"""What stands around the messages; what it adds to them is in the request's bytes."""
_VALUES: Final[Mapping[str, Collection[Any]]] = {
    "service_tier": ("auto", "default", "flex"),
    "modalities": (["text"],),
    "thinking": ({"type": "disabled"},),
    "enable_thinking": (False,),
    "background": (False,),
}
"""Parameters that are harmless with these values alone."""
_INNER_KEYS: Final = {"reasoning": {"effort", "summary", "generate_summary", "exclude"}}
"""Parameters that are harmless with these keys alone."""
_COMMON: Final = _SAMPLING | _SHAPE | _REPORT | _VALUES.keys() | {"model", *CHOICES}
_KNOWN: Final = {
    "chat": _COMMON | _CONVERSATION | {"messages", *MAXIMA["chat"]},
    "completions": _COMMON | {"prompt", *MAXIMA["completions"]},
    "responses": _COMMON | _CONVERSATION | {"input", *MAXIMA["responses"]},
    "decisions": frozenset({"model", "input", "questions", "prompt_cache_key", "safety_identifier"}),
}
_LOOKED_INTO: Final = {"tools", "model", "instructions", *_VALUES, *_INNER_KEYS}
_PLAIN: Final = {endpoint: known - _LOOKED_INTO for endpoint, known in _KNOWN.items()}
"""Parameters that are harmless with any value."""
_WITH_SEARCH: Final = ":online"
"""At the end of a model's name, OpenRouter takes this for a search in the web."""
_TOOLS: Final = frozenset({"function", "custom"})
"""Tools that the caller runs; the service runs all others, and bills what they read."""

_MESSAGE: Final = frozenset({
    "content", "function_call", "name", "partial", "prefix", "reasoning", "reasoning_content", "refusal", "role",
    "tool_call_id", "tool_calls",
})  # fmt: skip
_ITEM: Final = frozenset({
    "arguments", "call_id", "content", "id", "name", "output", "role", "status", "type", "input",
})  # fmt: skip
_ITEM_TYPES: Final = frozenset({
    "message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output",
})  # fmt: skip
_PARTS: Final = {
    "text": {"type", "text"},
    "input_text": {"type", "text"},
    "output_text": {"type", "text", "annotations", "logprobs"},
    "refusal": {"type", "refusal"},
    "image_url": {"type", "image_url"},
    "input_image": {"type", "image_url", "detail"},
}
"""The parts of a message by type, and what each may hold."""
_IMAGE: Final = {"url", "detail", "format"}

_WAY_OUT: Final = "or take the ceilings of tokens and dollars out of [limits]"


def check_bounded(request: Request, *, harmless: Collection[str] = (), prices: Prices | None = None) -> None:
    """Check that the tokens of a request have a known maximum.

    Args:
        request: what would be asked.
        harmless: parameters of which the user says that they do not change what a call may take.
        prices: of the job; a service tier that they have a price by is bounded.

    Raises:
        PromptError: they have none; the message says which part has none, and what to do.
    """
    body, endpoint = request.body, request.endpoint
    if no_maximum(body, endpoint):
        names = " or ".join(MAXIMA[endpoint])
        raise PromptError(
            f"the request sets no {names}, so that a ceiling of tokens or cost cannot be kept: "
            "set it in model.params or in the row's params"
        )
    if (what := unbounded_param(body, endpoint, harmless=harmless, prices=prices)) is not None:
        raise PromptError(what)
    if (part := _unbounded_content(body.get(CONTENT[endpoint]), endpoint)) is not None:
        raise PromptError(
            f"the prompt has {part}, of which nothing says how many tokens it has, so that a ceiling of tokens or cost "
            f"cannot be kept: take it out, {_WAY_OUT}"
        )


def no_maximum(body: Mapping[str, Any], endpoint: str) -> bool:
    """Whether a body sets no maximum of output tokens; 0 is one only where a text is scored.

    >>> no_maximum({"max_tokens": 3}, "chat"), no_maximum({"max_tokens": 0}, "chat"), no_maximum({}, "chat")
    (False, True, True)
    """
    if not MAXIMA[endpoint]:
        return False  # nothing is written
    given = [value for name in MAXIMA[endpoint] if (value := body.get(name)) is not None]
    scores = body.get("echo") is True or body.get("prompt_logprobs") is not None
    return not given or (not scores and 0 in given)


def unbounded_param(
    body: Mapping[str, Any], endpoint: str, *, harmless: Collection[str] = (), prices: Prices | None = None
) -> str | None:
    """What is wrong with the parameters of a body, as a sentence with what to do; None if they bound the call.

    >>> unbounded_param({"max_tokens": 5, "n": 2}, "chat") is None
    True
    >>> unbounded_param({"n": "4"}, "chat")
    "the parameter n is '4', and under a ceiling of tokens or cost it has to be a whole number: write it as one"
    """
    for name in (*MAXIMA[endpoint], *CHOICES):
        value = body.get(name)
        if value is not None and whole_number(value) is None:
            return (
                f"the parameter {name} is {value!r}, and under a ceiling of tokens or cost it has to be a whole "
                "number: write it as one"
            )
    for name, value in body.items():
        if name in _PLAIN[endpoint] or value is None or name in harmless:
            continue
        if name == "service_tier" and prices is not None and prices.knows(tier_of(value) or STANDARD):
            continue
        if (what := _unbounded_value(name, value, endpoint)) is not None:
            return (
                f"{what} may make a call larger than the request says, so that a ceiling of tokens or cost cannot be "
                f"kept: take it out, {_WAY_OUT}, or, if you know that it adds nothing, name it in "
                "limits.harmless_params"
            )
    return None


def _unbounded_value(name: str, value: Any, endpoint: str) -> str | None:
    """The parameter, as text, if its value is not known to be harmless."""
    if name not in _KNOWN[endpoint]:
        return f"the parameter {name}"
    if name == "tools":
        return _unbounded_tool(value)
    if name == "model":
        return f"the model {value!r}" if isinstance(value, str) and value.endswith(_WITH_SEARCH) else None
    return None if _is_harmless(name, value) else f"the parameter {name} = {value!r}"


def _is_harmless(name: str, value: Any) -> bool:
    if name in _VALUES:
        return value in _VALUES[name]
    if name in _INNER_KEYS:
        return isinstance(value, dict) and value.keys() <= _INNER_KEYS[name]
    return isinstance(value, str)  # instructions; a list of them may hold files


def _unbounded_tool(tools: Any) -> str | None:
    for tool in tools if isinstance(tools, list) else [tools]:
        kind = tool.get("type") if isinstance(tool, dict) else None
        if not isinstance(kind, str) or kind not in _TOOLS or _is_built_in(tool):
            return f"the tool {kind}" if isinstance(kind, str) else f"the tool {tool!r}"
    return None


def _is_built_in(tool: Mapping[str, Any]) -> bool:
    """Whether a function has a name that Moonshot and others give to their own, such as `$web_search`."""
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else tool.get("name")
    return isinstance(name, str) and name.startswith("$")


def _unbounded_content(content: Any, endpoint: str) -> str | None:
    """The part of a prompt whose tokens are not bounded by its bytes, as text; None if there is none."""
    if isinstance(content, str) or endpoint == "completions":
        return None  # texts and numbers of tokens
    if not isinstance(content, (list, tuple)):
        return f"{type(content).__name__} in place of messages"
    for message in content:
        what = _unbounded_message(message) if endpoint == "chat" else _unbounded_item(message)
        if what is not None:
            return what
    return None


def _unbounded_message(message: Any) -> str | None:
    if not isinstance(message, dict):
        return f"a {type(message).__name__} among its messages"
    held = message.get("content")
    if message.keys() <= _MESSAGE and (held is None or isinstance(held, str)):
        return None
    if unknown := _unknown_key(message, _MESSAGE):
        return unknown
    return _unbounded_parts(held)


def _unbounded_item(item: Any) -> str | None:
    """The same for an item of the Responses API."""
    if not isinstance(item, dict):
        return f"a {type(item).__name__} among its items"
    kind = item.get("type", "message")
    if not isinstance(kind, str) or kind not in _ITEM_TYPES:
        return f"an item of type {kind!r}"
    if unknown := _unknown_key(item, _ITEM):
        return unknown
    return _unbounded_parts(item.get("content")) or _unbounded_parts(item.get("output"))


def _unbounded_parts(content: Any) -> str | None:
    if content is None or isinstance(content, str):
        return None
    if not isinstance(content, (list, tuple)):
        return f"a content that is a {type(content).__name__}"
    for part in content:
        if not isinstance(part, str) and (what := _unbounded_part(part)) is not None:
            return what
    return None


def _unbounded_part(part: Any) -> str | None:
    if not isinstance(part, dict):
        return f"a part that is a {type(part).__name__}"
    kind = part.get("type")
    if kind is None:
        return f"a part without a type, with {', '.join(map(str, part)) or 'nothing in it'}"
    if not isinstance(kind, str) or kind not in _PARTS:
        return f"a part of type {kind!r}"
    if unknown := _unknown_key(part, _PARTS[kind]):
        return f"{unknown} in a part of type {kind!r}"
    if not isinstance(part.get("text") or "", str):
        return f"a text that is a {type(part['text']).__name__}"
    return _unbounded_image(part.get("image_url"))


def _unbounded_image(image: Any) -> str | None:
    if image is None or isinstance(image, str):
        return None
    if not isinstance(image, dict):
        return f"an image that is a {type(image).__name__}"
    return f"{unknown} in an image" if (unknown := _unknown_key(image, _IMAGE)) else None


def _unknown_key(held: Mapping[str, Any], known: Collection[str]) -> str | None:
    unknown = [name for name, value in held.items() if name not in known and value is not None]
    return f"the key {unknown[0]}" if unknown else None
