"""What a call can take at most, before it is made: the bytes it sends and the longest answer it allows.

Holds the upper bound that ceilings reserve, and the requests that have none. Leaves out the likely size, which pacing
goes by (`pacing.estimate`).

A token of text is at least one byte, and the JSON around each message is longer than the tokens that a chat template
puts there. An image may be few bytes and many tokens, so each counts as more than any published price of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from logprob_store.errors import PromptError
from logprob_store.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logprob_store.request import Request

TOKENS_OF_AN_IMAGE: Final = 50_000
_IMAGES: Final = (b'"type":"image_url"', b'"type":"input_image"')
_FILES: Final = (b'"type":"file"', b'"type":"input_file"', b'"file_id":')
MAXIMA: Final = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
}
"""The parameters that bound an answer; another endpoint's name for it bounds nothing."""

_CHOICES: Final = ("n", "best_of")
_BY_REFERENCE: Final = ("previous_response_id", "conversation", "web_search_options")
_MOST: Final = 2**40
"""More than any service writes; keeps sums of whatever a row says within 64 bits."""
_OWN_TOOLS: Final = frozenset({"function", "custom"})


def most_output(body: Mapping[str, Any], endpoint: str) -> int | None:
    """Tokens that the choices of an answer have together at most; None where the request does not say.

    >>> most_output({"max_tokens": 16, "n": 2, "best_of": 3}, "completions")
    48
    >>> most_output({"max_tokens": -1}, "chat") is most_output({"max_tokens": 5}, "responses") is None
    True
    """
    most = -1
    for name in MAXIMA[endpoint]:
        if (value := body.get(name)) is not None:
            most = max(most, _count(value))
    return None if most < 0 else min(most * choices(body, endpoint), _MOST)


def choices(body: Mapping[str, Any], endpoint: str) -> int:
    """How many answers a call writes: `n` or `best_of`, for each of its prompts."""
    count = 1
    for name in _CHOICES:
        if (value := body.get(name)) is not None:
            count = max(count, _count(value))
    if endpoint == "completions" and isinstance(prompt := body.get("prompt"), list):
        count *= max(1, sum(not isinstance(item, int) for item in prompt))
    return count


def worst_case(request: Request) -> Usage:
    """What a call can take at most; without a maximum of output, its prompt alone (see `check_bounded`).

    >>> from logprob_store.request import make_request
    >>> request = make_request({"model": "m", "prompt": "Hi", "max_tokens": 5}, endpoint="completions", provider="p")
    >>> len(request.content), worst_case(request)
    (42, Usage(prompt_tokens=42, cached_tokens=0, completion_tokens=5))
    """
    content = request.content
    prompt = len(content)
    if b"image" in content:
        prompt += TOKENS_OF_AN_IMAGE * sum(content.count(kind) for kind in _IMAGES)
    return Usage(prompt, 0, most_output(request.body, request.endpoint) or 0)


def check_bounded(request: Request) -> None:
    """Refuse a request whose cost nothing bounds.

    Raises:
        PromptError: it sets no maximum of output tokens, or refers to content that lies at the server.
    """
    if most_output(request.body, request.endpoint) is None:
        names = " or ".join(MAXIMA[request.endpoint])
        raise PromptError(
            f"the request sets no {names}, so that a ceiling of tokens or cost cannot be kept: "
            "set it in model.params or in the row's params"
        )
    if (what := _elsewhere(request)) is not None:
        raise PromptError(
            f"the request has {what}, whose tokens are not known before it is sent, so that a ceiling of tokens or "
            "cost cannot be kept: take it out, or take limits.max_cost_usd and limits.max_tokens out"
        )


def _elsewhere(request: Request) -> str | None:
    """What in a request makes the server read more than is sent."""
    body = request.body
    for name in _BY_REFERENCE:
        if body.get(name) is not None:
            return name
    if request.endpoint == "responses":
        if body.get("prompt") is not None:
            return "a stored prompt"
        for tool in body.get("tools") or ():
            if isinstance(tool, dict) and tool.get("type") not in _OWN_TOOLS:
                return f"the tool {tool.get('type')}"
    return "a file" if any(kind in request.content for kind in _FILES) else None


def _count(value: Any) -> int:
    """A number of tokens or choices, -1 for none; a negative one means at some servers that there is no bound."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and value >= 0 else -1
