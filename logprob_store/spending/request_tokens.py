"""The tokens that a request will take: the most, for ceilings, and the likely number, for pacing.

The most: a token of text is at least one byte, and the JSON around each message is longer than the tokens that a chat
template puts there. An image may be few bytes and many tokens, so it counts as more than any published price of one.
Which requests have no such maximum is in `bounds`.

The likely number: a quarter of the request's bytes, and the longest answer that it allows. What the call really took is
in the answer's `usage`, and `pacing.rates` settles the difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from logprob_store.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logprob_store.request import Request

TOKENS_OF_AN_IMAGE: Final = 50_000
"""The most tokens of an image."""
BYTES_PER_TOKEN: Final = 4
"""The likely bytes of a token of English text; other scripts have fewer."""
_TOKENS_OF_A_FILE: Final = 1000
"""The likely tokens of an image or a sound that is in the request as base64."""
_INLINE: Final = b";base64,"
_IMAGES: Final = (b'"type":"image_url"', b'"type":"input_image"')
MAXIMA: Final = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "decisions": (),
}
"""The parameters that bound an answer, by endpoint; the name that another endpoint uses bounds nothing. An answer to
questions has no token."""

CONTENT: Final = {"chat": "messages", "completions": "prompt", "responses": "input", "decisions": "input"}
"""The part of a body that holds the prompt, by endpoint."""
CHOICES: Final = ("n", "best_of")
"""The parameters that multiply an answer."""
_MOST: Final = 2**40
"""More tokens than any service writes; a larger maximum in a row counts as this, so that sums fit into 64 bits."""


def most_output(body: Mapping[str, Any], endpoint: str) -> int | None:
    """The most tokens that the choices of an answer have together; None where the request does not say.

    >>> most_output({"max_tokens": 16, "n": 2, "best_of": 3}, "completions")
    48
    >>> most_output({"max_tokens": -1}, "chat") is most_output({"max_tokens": 5}, "responses") is None
    True
    """
    if not MAXIMA[endpoint]:
        return 0
    given = [value for name in MAXIMA[endpoint] if (value := body.get(name)) is not None]
    numbers = [number for value in given if (number := whole_number(value)) is not None]
    return min(max(numbers) * choices(body, endpoint), _MOST) if numbers else None


def choices(body: Mapping[str, Any], endpoint: str) -> int:
    """The number of answers that a call writes: `n` or `best_of`, for each of its prompts."""
    count = 1
    for name in CHOICES:
        if (value := body.get(name)) is not None:
            count = max(count, whole_number(value) or 0)
    if endpoint == "completions" and isinstance(prompt := body.get("prompt"), list):
        count *= max(1, sum(not isinstance(item, int) for item in prompt))
    return count


def whole_number(value: Any) -> int | None:
    """A parameter as a number of tokens or choices; None if it is not one (some servers take -1 as no bound).

    >>> whole_number(4), whole_number(4.0), whole_number("4"), whole_number(-1), whole_number(True)
    (4, 4, None, None, None)
    """
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and value >= 0 else None


def worst_case(request: Request) -> Usage:
    """The most tokens that a call can take; without a maximum of output, those of its prompt (see `bounds`).

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


def estimate_tokens(request: Request, *, typical_answer: float = 0.0) -> int:
    """The tokens that a call is likely to take: its bytes / 4, plus the maximum of output tokens x choices.

    The JSON around the text is counted too. An image or a sound in the request counts as 1000 tokens, of any size.

    Args:
        request: what is asked.
        typical_answer: tokens of one choice, used where the request sets no maximum.

    >>> from logprob_store.request import make_request
    >>> body = {"model": "m", "prompt": "x" * 371, "max_tokens": 16, "n": 2}
    >>> request = make_request(body, endpoint="completions", provider="p")
    >>> len(request.content) // 4 + 16 * 2, estimate_tokens(request)
    (136, 136)
    """
    most = most_output(request.body, request.endpoint)
    answer = typical_answer * choices(request.body, request.endpoint) if most is None else most
    return int(estimate_prompt_tokens(request) + answer)


def estimate_prompt_tokens(request: Request) -> int:
    """The tokens that the request itself is likely to have, without an answer."""
    size, files = len(request.content), 0
    if _INLINE in request.content:
        size, files = _text_and_files(request.body)
    return size // BYTES_PER_TOKEN + files * _TOKENS_OF_A_FILE


def _text_and_files(value: Any) -> tuple[int, int]:
    """The bytes of text and the number of inline files in a body."""
    if isinstance(value, str):
        return (0, 1) if ";base64," in value[:200] else (len(value.encode(errors="replace")), 0)
    inner: list[Any] = []
    if isinstance(value, (list, tuple)):
        inner = list(value)
    elif isinstance(value, dict):
        inner = list(value.values())
    counts = [_text_and_files(item) for item in inner]
    return sum(size for size, _ in counts), sum(files for _, files in counts)
