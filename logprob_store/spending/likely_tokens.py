"""How many tokens a call will count for, before it is made.

Holds the one estimate: a quarter of the request's bytes, and `max_tokens` for each choice. Leaves out what the call
really took: the server says so in `usage`, and `budget` settles the difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from logprob_store.request import Request

BYTES_PER_TOKEN: Final = 4
_INLINE: Final = b";base64,"
_TOKENS_OF_A_FILE: Final = 1000
_MOST_TOKENS: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_CHOICES: Final = ("n", "best_of")


def estimate_tokens(request: Request, *, typical_answer: float = 0.0) -> int:
    """Tokens a call counts for: its bytes / 4 + `max_tokens` (or what stands for it) x choices.

    English text has some four bytes a token; other scripts have fewer, and the JSON around the text is counted too.
    An image or a sound within the request counts as 1000 tokens, whatever its bytes.

    Args:
        request: what is asked.
        typical_answer: tokens of an answer where the request sets no maximum.

    >>> from logprob_store.request import make_request
    >>> body = {"model": "m", "prompt": "x" * 371, "max_tokens": 16, "n": 2}
    >>> request = make_request(body, endpoint="completions", provider="p")
    >>> len(request.content) // 4 + 16 * 2, estimate_tokens(request)
    (136, 136)
    """
    body = request.body
    most, choices = typical_answer, 1
    for name in _MOST_TOKENS:
        if type(given := body.get(name)) is int:
            most = max(0, given)
            break
    for name in _CHOICES:
        if type(given := body.get(name)) is int:
            choices = max(choices, given)
    return int(estimate_prompt_tokens(request) + most * choices)


def estimate_prompt_tokens(request: Request) -> int:
    """Tokens of what is sent, without any of an answer."""
    size, files = len(request.content), 0
    if _INLINE in request.content:
        size, files = _text_and_files(request.body)
    return size // BYTES_PER_TOKEN + files * _TOKENS_OF_A_FILE


def _text_and_files(value: Any) -> tuple[int, int]:
    """Bytes of text and number of inline files in a body."""
    if isinstance(value, str):
        return (0, 1) if ";base64," in value[:200] else (len(value.encode(errors="replace")), 0)
    inner: list[Any] = []
    if isinstance(value, (list, tuple)):
        inner = list(value)
    elif isinstance(value, dict):
        inner = list(value.values())
    counts = [_text_and_files(item) for item in inner]
    return sum(size for size, _ in counts), sum(files for _, files in counts)
