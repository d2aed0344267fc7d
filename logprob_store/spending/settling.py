"""What an answered call took: the tokens that its answer reports, where these can be believed, else its worst case.

What a server leaves out is unsaid, and so is a number that the answer itself contradicts. The tier that served the call
is what the answer says, too. How `usage` is spelled is in `usage`; the worst case of a request is in `request_tokens`.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

import msgspec

from logprob_store.spending.prices import is_long
from logprob_store.spending.request_tokens import CONTENT, choices
from logprob_store.usage import STANDARD, ReportedUsage, SaidUsage, Usage, said_usage_of, tier_of

if TYPE_CHECKING:
    from logprob_store.request import Request
    from logprob_store.spending.prices import Prices

_LEAST_USD: Final = 1e-12
"""Less than this is a rounding of the two sums of dollars, not a cost."""
_TOKEN_OBJECT: Final = b'"top_logprobs"'
"""Each token of a chat or Responses answer has this key, and its alternatives do not."""
_BYTES_A_TOKEN: Final = 100
_SHORT_BYTES: Final = 1000
_INLINE: Final = b";base64,"
_REASONING: Final = b'"reasoning_content":'
"""Beside this key, the hidden tokens may have logprobs too."""
_TOKEN_LIST_KEY: Final = b'"token_logprobs"'
_TOKEN_LIST: Final = re.compile(rb'"token_logprobs"\s*:\s*\[([^\]]*)\]')


def tokens_spent(
    request: Request | None,
    body: bytes,
    usage: Usage | None,
    worst: Usage,
    *,
    prices: Prices | None = None,
    count_tokens: bool = True,
    sent_tier: str | None = None,
) -> Usage:
    """The tokens that an answered call counts for.

    Args:
        request: what was asked; None if that is not known any more.
        body: of the answer.
        usage: what the answer reports. It is believed if it says both halves, neither of them is 0 for something that
            was there, and the answer has no more tokens than it says.
        worst: the most that the call can take, which stands in for what is not believed.
        prices: of the job. Dollars that the server reports beyond them count as so many more tokens.
        count_tokens: look for more tokens than reported, which takes half a millisecond a megabyte.
        sent_tier: the service tier that calls are sent by whose request names none.
    """
    found = _answer_tokens(body) if count_tokens else 0
    echo = worst.completion_tokens <= 1 if request is None else bool(request.body.get("echo"))
    ends = 1 if request is None else choices(request.body, request.endpoint)
    written = 0 if echo else found
    denied = usage is not None and (
        not _has_prompt(usage.prompt_tokens, request) or _says_too_little(usage, found, worst, echo=echo, ends=ends)
    )
    if usage is not None and not denied:
        hidden, cost_usd = _hidden_and_cost(usage)
        completion = max(usage.completion_tokens, written)
        if hidden and written > usage.completion_tokens - hidden + ends and _REASONING not in body:
            completion += hidden  # all of the completion is shown, so they are no part of it
        tier = None if isinstance(usage, ReportedUsage) and not usage.says_tier else usage.tier
        tokens = usage.prompt_tokens, usage.cached_tokens, completion, usage.written_tokens
    else:
        said = said_usage_of(body)
        cost_usd, tier = said.cost_usd, said.tier
        honest = not denied and not said.is_odd and _has_prompt(said.prompt_tokens, request)
        tokens = _with_worst(said, worst, written, honest=honest)
    tier = _tier_unsaid(request, worst, sent_tier) if tier is None else tier
    spent = Usage(*tokens, tier, is_long(tokens[0], prices))
    if request is not None and request.asks_decisions:
        spent = spent._replace(completion_tokens=0)  # answers to questions are not billed, whatever is counted
    return spent if prices is None or cost_usd is None else _with_cost(spent, cost_usd, prices)


def _tier_unsaid(request: Request | None, worst: Usage, sent_tier: str | None) -> str:
    """The tier of a call whose answer names none: the standard one, unless the call asked for a dearer one."""
    if request is not None and tier_of(request.body.get("service_tier") or sent_tier) is None:
        return STANDARD
    return worst.tier


def _has_prompt(tokens: int | None, request: Request | None) -> bool:
    """Whether so many tokens, if any are said, can be those of a prompt: one for each 100 bytes of a long one at least.

    No tokenizer has tokens of that length but for white space and rulers. Images are many bytes and few tokens, and
    what stands around the prompt in a request, such as a schema, may be none.
    """
    if tokens is None:
        return True
    most = _BYTES_A_TOKEN * tokens + _SHORT_BYTES
    if request is None or len(request.content) <= most or _INLINE in request.content:
        return tokens > 0
    return len(msgspec.json.encode(request.body.get(CONTENT[request.endpoint]))) <= most and tokens > 0


def _with_worst(said: SaidUsage, worst: Usage, written: int, *, honest: bool) -> tuple[int, int, int, int]:
    """The tokens by kind, as `Usage` has them, with the unsaid half at its worst; where it is not honest, both."""
    prompt, completion = said.prompt_tokens or 0, said.completion_tokens or 0
    if not honest or not prompt:
        prompt = max(prompt, worst.prompt_tokens)
    if not honest or not completion or completion < written:
        completion = max(completion, said.total or 0, worst.completion_tokens, written)
    return prompt, prompt if worst.cached_tokens else 0, completion, prompt if worst.written_tokens else 0


def _hidden_and_cost(usage: Usage) -> tuple[int, float | None]:
    return (usage.reasoning_tokens, usage.cost_usd) if isinstance(usage, ReportedUsage) else (0, None)


def _answer_tokens(body: bytes) -> int:
    """The tokens that have a logprob in an answer, of an echoed prompt too; they are counted without reading it."""
    found: int = body.count(_TOKEN_OBJECT)
    if _TOKEN_LIST_KEY not in body:
        return found
    listed: int = sum(held.count(b",") + 1 for held in _TOKEN_LIST.findall(body) if held.strip())
    return max(found, listed)


def _says_too_little(usage: Usage, found: int, worst: Usage, *, echo: bool, ends: int) -> bool:
    """Whether an answer has more than the `usage` beside it says.

    A token of each choice may be in excess: some servers do not count the one that ends an answer, but give its
    logprob.
    """
    if echo:
        return found > usage.total + ends
    if usage.completion_tokens == 0:
        return worst.completion_tokens > 0
    return found > usage.completion_tokens + ends


def _with_cost(usage: Usage, cost_usd: float, prices: Prices) -> Usage:
    """The usage, with more tokens where the server says that the call cost more than these do."""
    beyond_usd = cost_usd - prices.usd(usage)
    if beyond_usd <= _LEAST_USD:
        return usage
    prompt_usd, output_usd = (prices.usd(Usage(*one, 0, usage.tier, usage.is_long)) for one in ((1, 0, 0), (0, 0, 1)))
    if output_usd > 0:
        return usage._replace(completion_tokens=usage.completion_tokens + math.ceil(beyond_usd / output_usd))
    if prompt_usd > 0:
        return usage._replace(prompt_tokens=usage.prompt_tokens + math.ceil(beyond_usd / prompt_usd))
    return usage
