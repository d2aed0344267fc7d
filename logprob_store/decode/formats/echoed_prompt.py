r"""Where an echoed prompt ends: how many of the tokens of a completion are those of the prompt.

No one value of a server is trusted alone. OpenAI counts `text_offset` in characters from the start of the prompt,
others in bytes, and some start anew in each chunk. A count of prompt tokens may include a begin-of-text token that is
not listed. So the end is sought, in this order,

1. in the bytes that the tokens spell, if they spell the prompt, perhaps after a begin-of-text token;
2. in the offsets, if the tokens stand in the text where the offsets say, in characters or in UTF-8 bytes;
3. in the server's counts: all tokens are the prompt's if none was generated; else as many as it counts in the prompt,
   if that does not contradict its count of the others.

If none of these tells, the answer is refused: its tokens would be scored as the prompt's, or the reverse.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from logprob_store.errors import DecodeError
from logprob_store.token_bytes import bytes_of_token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logprob_store.decode.formats.base import ChoiceContext
    from logprob_store.decode.token_rows import Token

_MOST_LEADING: Final = 2
"""Tokens that a server may put in front of the prompt."""

_LOSSY: Final = "\ufffd"


def count_echoed_tokens(tokens: Sequence[Token], offsets: Any, context: ChoiceContext) -> int:
    """How many of the first tokens are those of an echoed prompt; 0 if the request asked for none.

    Args:
        tokens: those of the choice.
        offsets: the value of `text_offset`.
        context: of the choice.

    Raises:
        DecodeError: it cannot be told.
    """
    if not context.echo or not tokens or context.prompt == "" or _ignores_echo(tokens, context):
        return 0
    counted = _plausible_count(tokens, context)
    if isinstance(context.prompt, list):
        found = len(context.prompt) if len(context.prompt) <= len(tokens) else None
    elif context.prompt is None:
        found = None
    else:
        found = _end_in_bytes(tokens, context, counted)
        if found is None:
            found = _end_in_offsets(tokens, offsets, context)
    if found is None:
        found = len(tokens) if context.completion_tokens == 0 else counted
    if found is None:
        raise DecodeError(
            f"{context.path}: it cannot be told where the echoed prompt ends: its tokens do not spell the prompt, "
            f"text_offset does not agree with them, and the usage names {context.prompt_tokens} prompt tokens "
            f"for {len(tokens)} in all"
        )
    return found


def _ignores_echo(tokens: Sequence[Token], context: ChoiceContext) -> bool:
    """Whether the tokens are those of the answer alone, though an echo was asked for.

    The first token of a prompt has no log-probability, as nothing is before it; one of an answer has.
    """
    if tokens[0].logprob is None:
        return False
    if context.completion_tokens is not None and context.completion_tokens == len(tokens):
        return True
    prompt, text = context.prompt, context.text
    return isinstance(prompt, str) and text is not None and not text.startswith(prompt)


def _plausible_count(tokens: Sequence[Token], context: ChoiceContext) -> int | None:
    """The server's count of prompt tokens; None if the tokens, or its count of the others, contradict it."""
    counted, others = context.prompt_tokens, context.completion_tokens
    if counted is None or counted > len(tokens):
        return None
    return counted if others is None or counted + others == len(tokens) else None


def _end_in_bytes(tokens: Sequence[Token], context: ChoiceContext, counted: int | None) -> int | None:
    """The end of the prompt in what the tokens spell; None if they do not spell it."""
    pieces = [bytes_of_token(token.text, token.bytes) or b"" for token in tokens]
    ends = list(accumulate(map(len, pieces), initial=0))  # where each token starts, and where the last one ends
    spelled, prompt = b"".join(pieces), str(context.prompt).encode(errors="replace")
    leading = _MOST_LEADING if tokens[0].logprob is None else 0
    start = next((n for n in range(min(leading, len(tokens)) + 1) if spelled.startswith(prompt, ends[n])), None)
    if start is None:
        return None
    end = ends[start] + len(prompt)
    possible = [n for n, at in enumerate(ends) if at == end]
    if not possible:  # the prompt ends inside a token
        return counted if counted is not None else sum(at < end for at in ends)
    return counted if counted in possible else possible[0]  # tokens of no letters may be of either


def _end_in_offsets(tokens: Sequence[Token], offsets: Any, context: ChoiceContext) -> int | None:
    """The number of offsets before the end of the prompt; None unless each token stands at its offset in the text."""
    prompt, text = str(context.prompt), context.text
    if text is None or not isinstance(offsets, list) or len(offsets) != len(tokens):
        return None
    if not all(type(offset) is int for offset in offsets) or offsets != sorted(offsets):
        return None
    starts = [offset - offsets[0] for offset in offsets]
    placed = [(token.text, start) for token, start in zip(tokens, starts, strict=True) if _is_exact(token.text)]
    if placed and text.startswith(prompt) and all(text.startswith(part, start) for part, start in placed):
        return _before(len(prompt), starts, len(text))
    whole, begin = _utf8(text), _utf8(prompt)
    if placed and whole.startswith(begin) and all(whole.startswith(_utf8(part), start) for part, start in placed):
        return _before(len(begin), starts, len(whole))
    return None


def _before(length: int, starts: Sequence[int], end: int) -> int | None:
    """How many tokens start before the prompt's end; None if it is inside a token."""
    return sum(start < length for start in starts) if length in (*starts, end) else None


def _is_exact(text: str | None) -> TypeGuard[str]:
    """Whether a token's text is that of its bytes, as far as can be seen."""
    return bool(text) and _LOSSY not in str(text)


def _utf8(text: str) -> bytes:
    return text.encode(errors="replace")
