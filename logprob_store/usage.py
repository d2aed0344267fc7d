"""What an answer reports: the tokens that it took, and the server's rate limits.

Here a body's `usage` is read, in all spellings. What it leaves out is unsaid, never nothing: what that counts as is in
`spending.settling`. Rate-limit headers are read by `transport.rate_headers`; the cost of tokens is in
`spending.prices`.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import msgspec

from logprob_store.sse import DONE, event_data, is_event_stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MAX_TOKENS: Final = 1e9
"""Larger counts are an error of the server and count as unsaid."""
_MAX_USD: Final = 1e6
"""The same for the cost of a call."""
_NUMBER: Final = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,40})?(?:[eE]-?[0-9]{1,3})?")


class Usage(NamedTuple):
    """Tokens of a call, as they are billed; `cached_tokens` is the part of the prompt that the service had cached.

    >>> Usage(10, 4, 5) + Usage(1, 0, 1), Usage(10, 4, 5).total
    (Usage(prompt_tokens=11, cached_tokens=4, completion_tokens=6), 15)
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total(self) -> int:
        """Tokens of prompt and answer."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: tuple[int, ...]) -> Usage:  # type: ignore[override]  # sums, where a tuple would chain
        """The sum, field by field."""
        return Usage(self[0] + other[0], self[1] + other[1], self[2] + other[2])


class ReportedUsage(Usage):
    """The tokens that an answer reports.

    `reasoning_tokens` are those that the service says are hidden, mostly a part of the completion; `cost_usd` is what
    it says that the call cost.
    """

    reasoning_tokens: int = 0
    cost_usd: float | None = None


class SaidUsage(NamedTuple):
    """What a `usage` says, and None for each half that it leaves out; `total` if it says only that.

    `is_odd` says that a half is there, but no number: a word, a text of digits, -1, 1e30.
    """

    prompt_tokens: int | None = None
    cached_tokens: int = 0
    completion_tokens: int | None = None
    reasoning_tokens: int = 0
    cost_usd: float | None = None
    total: int | None = None
    is_odd: bool = False

    @property
    def whole(self) -> ReportedUsage | None:
        """The tokens, if both halves are said; a total alone stands as one of the answer, beside 0 of the prompt."""
        if self.is_odd:
            return None
        if self.total is not None:
            usage = ReportedUsage(0, 0, self.total)
        elif self.prompt_tokens is None or self.completion_tokens is None:
            return None
        else:
            usage = ReportedUsage(self.prompt_tokens, self.cached_tokens, self.completion_tokens)
        usage.reasoning_tokens, usage.cost_usd = self.reasoning_tokens, self.cost_usd
        return usage


class RateLimit(NamedTuple):
    """The state of a rate limit: its size, what remains, and seconds until all is available; None where unsaid."""

    limit: float | None = None
    remaining: float | None = None
    reset_s: float | None = None


class ServerReport(NamedTuple):
    """What an answer reports: rate limits, the total of tokens, and the tokens by kind; None where unsaid."""

    requests: RateLimit | None = None
    tokens: RateLimit | None = None
    used_tokens: int | None = None
    usage: Usage | None = None


class _Body(msgspec.Struct):
    """The one field of a body that is read here; skipping the others also checks that they are JSON."""

    usage: msgspec.Raw = msgspec.Raw()


_BODY_DECODER: Final = msgspec.json.Decoder(_Body)


def find_usage(body: bytes) -> bytes | None:
    """The raw `usage` of a JSON body, empty if the body has none; None if the body is no JSON object.

    Scanning the body takes about 1.4 ms per megabyte.

    >>> find_usage(b'{"choices":[],"usage":{"total_tokens":3}}'), find_usage(b'{}'), find_usage(b'[')
    (b'{"total_tokens":3}', b'', None)
    """
    try:
        return bytes(_BODY_DECODER.decode(body).usage)
    except RecursionError:
        return None
    except msgspec.DecodeError:
        # Servers written in Python send -Infinity, NaN and lone surrogates, which msgspec refuses.
        try:
            usage = json.loads(body).get("usage")
        except (ValueError, RecursionError, AttributeError):
            return None
        return json.dumps(usage).encode()


def read_usage(raw: bytes) -> ReportedUsage | None:
    """The tokens of a raw `usage`; None unless it says how many the prompt has and how many the answer, or a total.

    Where prompt and completion are less than the total, the rest counts as completion: some services leave reasoning
    tokens out of `completion_tokens`, but bill them.

    >>> read_usage(b'{"prompt_tokens":7,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4}}')
    ReportedUsage(prompt_tokens=7, cached_tokens=4, completion_tokens=5)
    >>> read_usage(b'{"prompt_tokens":7,"completion_tokens":5,"total_tokens":20}').completion_tokens
    13
    >>> read_usage(b'{"prompt_tokens":7}') is None
    True
    """
    if raw.count(b'"prompt_tokens"') > 1 or raw.count(b'"completion_tokens"') > 1 or raw.count(b'"total_tokens"') > 1:
        return said_usage(raw).whole
    try:
        usual = _USUAL_DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return said_usage(raw).whole
    return usual.reported


_Tokens = Annotated[int, msgspec.Meta(ge=0, lt=int(_MAX_TOKENS))]


class _UsualPrompt(msgspec.Struct):
    cached_tokens: _Tokens | None = None


class _UsualCompletion(msgspec.Struct):
    reasoning_tokens: _Tokens | None = None


class _Usual(msgspec.Struct, forbid_unknown_fields=True):
    """A `usage` as OpenAI's chat API and most servers send it: read in 1 us, where `said_usage` takes 9."""

    prompt_tokens: _Tokens
    completion_tokens: _Tokens
    total_tokens: _Tokens
    prompt_tokens_details: _UsualPrompt | None = None
    completion_tokens_details: _UsualCompletion | None = None

    @property
    def reported(self) -> ReportedUsage:
        """What `said_usage` finds in it."""
        prompt, details = self.prompt_tokens, self.prompt_tokens_details
        cached = 0 if details is None else min(details.cached_tokens or 0, prompt)
        completion, hidden = self.completion_tokens, self.completion_tokens_details
        reasoning = 0 if hidden is None else hidden.reasoning_tokens or 0
        if reasoning > completion:
            completion, reasoning = completion + reasoning, 0
        usage = ReportedUsage(prompt, cached, max(completion, self.total_tokens - prompt))
        usage.reasoning_tokens = reasoning
        return usage


_USUAL_DECODER: Final = msgspec.json.Decoder(_Usual)


def said_usage(raw: bytes) -> SaidUsage:
    """What a raw `usage` says of each half, in any of its spellings; the larger number where two of them differ.

    >>> said_usage(b'{"input_tokens":"30","output_tokens":-1}')[:3]
    (30, 0, None)
    >>> said_usage(b'{"prompt_tokens":900,"completion_tokens":1,"prompt_tokens":9}')[:3]
    (900, 0, 1)
    """
    try:
        if any(raw.count(name) > 1 for name in _QUOTED_HALVES):
            fields = json.loads(raw, object_pairs_hook=_largest_of_each)
        else:
            fields = msgspec.json.decode(raw or b"{}")
    except (msgspec.DecodeError, ValueError, RecursionError):
        fields = _python_json(raw)
    if not isinstance(fields, dict):
        return SaidUsage()
    prompt, cached = _prompt_of(fields)
    completion = _largest(_count(fields.get("completion_tokens")), _count(fields.get("output_tokens")))
    details = fields.get("completion_tokens_details") or fields.get("output_tokens_details")
    reasoning = (_count(details.get("reasoning_tokens")) if isinstance(details, dict) else None) or 0
    if completion is not None and reasoning > completion:
        completion, reasoning = completion + reasoning, 0  # it cannot be a part of them
    total = _count(fields.get("total_tokens"))
    if total is not None:
        if prompt is not None:
            completion = max(completion or 0, total - prompt)
        elif completion is not None:
            prompt = max(total - completion, 0)
    only = total if prompt is None and completion is None else None
    return SaidUsage(prompt, cached, completion, reasoning, _cost_of(fields), only, _is_odd(fields))


_HALVES: Final = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens")
_QUOTED_HALVES: Final = tuple(b'"%b"' % name.encode() for name in _HALVES)


def _largest_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which a name stands twice: of two counts the larger one, of other values the last."""
    held: dict[str, Any] = {}
    for name, value in pairs:
        is_less = (_count(value) or 0) < (_count(held.get(name)) or 0)
        held[name] = held[name] if is_less else value
    return held


def _is_odd(fields: Mapping[str, Any]) -> bool:
    """Whether a count is there, but is no number of tokens."""
    for name in _HALVES:
        value = fields.get(name)
        if value is not None and (type(value) not in {int, float} or _count(value) is None):
            return True
    return False


def _prompt_of(fields: Mapping[str, Any]) -> tuple[int | None, int]:
    """The tokens of the prompt, and how many of them the service says were cached."""
    input_tokens = _count(fields.get("input_tokens"))
    read = _count(fields.get("cache_read_input_tokens"))
    if input_tokens is not None and fields.get("prompt_tokens") is None:  # Anthropic leaves out what its cache holds
        input_tokens += (read or 0) + (_count(fields.get("cache_creation_input_tokens")) or 0)
    hit = _count(fields.get("prompt_cache_hit_tokens"))  # DeepSeek
    miss = _count(fields.get("prompt_cache_miss_tokens"))
    both = None if hit is None or miss is None else hit + miss
    prompt = _largest(_count(fields.get("prompt_tokens")), input_tokens, both)
    details = fields.get("prompt_tokens_details") or fields.get("input_tokens_details")
    listed = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    said = [number for number in (listed, hit, read) if number]
    return prompt, min([*said, prompt or 0]) if said else 0


def _cost_of(fields: Mapping[str, Any]) -> float | None:
    """The dollars that a service says a call cost, as OpenRouter and Perplexity do; some gateways write it as a text.

    >>> [_cost_of({"cost": cost}) for cost in (0.25, "0.25", {"total_cost": "2.5e-05"}, "free", "nan", -1, 1e30)]
    [0.25, 0.25, 2.5e-05, None, None, None, None]
    """
    cost: Any = fields.get("cost")
    if isinstance(cost, dict):
        cost = cost.get("total_cost")
    if isinstance(cost, str) and _NUMBER.fullmatch(cost):
        cost = float(cost)
    return float(cost) if type(cost) in {int, float} and 0 <= cost < _MAX_USD else None


def _count(value: Any) -> int | None:
    """A number of tokens, rounded up; None for what is none: a negative number, NaN, 1e30, a word, true.

    >>> [_count(value) for value in (3, 3.2, "4", None, -1, 1e30, float("nan"), "many", True, [3])]
    [3, 4, 4, None, None, None, None, None, None, None]
    """
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:  # noqa: PLR2004  below 1e9
        return int(value)
    is_number = type(value) in {int, float} and 0 <= value < _MAX_TOKENS
    return int(math.ceil(value)) if is_number else None  # noqa: RUF046  for the type checker


def _largest(*counts: int | None) -> int | None:
    return max((count for count in counts if count is not None), default=None)


def _python_json(raw: bytes) -> Any:
    """The value of a JSON text that only Python reads, such as one with NaN; None if it is no JSON at all."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def usage_of(body: bytes) -> ReportedUsage | None:
    r"""The tokens that an answer's body reports; None unless it says both halves, or a total.

    >>> usage_of(b'data: {"choices":[]}\n\ndata: {"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n').total
    4
    """
    return said_usage_of(body).whole


def said_usage_of(body: bytes) -> SaidUsage:
    """What an answer's body says of each half of its usage; a stream of events at its largest, as it counts up."""
    if not is_event_stream(body):
        return said_usage(find_usage(body) or b"")
    said = [usage for usage in _usages_of_events(body) if usage != SaidUsage()]
    if not said:
        return SaidUsage()
    prompts, cached, completions, reasoning, costs, totals, odd = zip(*said, strict=True)
    cost_usd = max((cost for cost in costs if cost is not None), default=None)
    prompt, completion, total = _largest(*prompts), _largest(*completions), _largest(*totals)
    only = total if prompt is None and completion is None else None
    return SaidUsage(prompt, cached[-1], completion, max(reasoning), cost_usd, only, any(odd))


def _usages_of_events(body: bytes) -> Iterator[SaidUsage]:
    for data in event_data(body):
        if b'"usage"' in data and data.strip() != DONE:
            piece = _python_json(data)
            inner = piece.get("response") if isinstance(piece, dict) else None  # of the Responses API
            for held in (piece, inner):
                if isinstance(held, dict) and held.get("usage") is not None:
                    yield said_usage(json.dumps(held["usage"]).encode())
