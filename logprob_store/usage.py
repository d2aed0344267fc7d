"""What an answer reports: the tokens that it took, the tier that served it, and the server's rate limits.

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
    from collections.abc import Iterable, Iterator, Mapping

_MAX_TOKENS: Final = 1e9
"""Larger counts are an error of the server and count as unsaid."""
_MAX_USD: Final = 1e6
"""The same for the cost of a call."""
_NUMBER: Final = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,40})?(?:[eE]-?[0-9]{1,3})?")


TIERS: Final = ("", "flex", "batch", "priority", "scale", "ultrafast", "performance", "reserved", "unknown")
"""The service tiers that prices may tell apart, the standard one first. The record of calls has them by their place
here: a new one goes to the end."""
STANDARD, UNKNOWN_TIER = TIERS[0], TIERS[-1]
_TIERS_BY_NAME: Final[Mapping[str, str | None]] = {
    "auto": None,
    **{tier: tier for tier in TIERS[1:]},
    **dict.fromkeys(("default", "standard", "standard_only", "on_demand"), STANDARD),
    "fast": "priority",  # OpenAI's two names for one tier
}


def tier_of(said: Any) -> str | None:
    """The tier that a service names, by one of `TIERS`; None where it names none, or leaves it open.

    >>> tier_of("default"), tier_of("fast"), tier_of("warp"), tier_of("auto")
    ('', 'priority', 'unknown', None)
    """
    return _TIERS_BY_NAME.get(said.lower(), UNKNOWN_TIER) if isinstance(said, str) and said else None


class Usage(NamedTuple):
    """Tokens of a call, as they are billed.

    Of those of the prompt, `cached_tokens` were in the service's cache and `written_tokens` were written into it.
    `tier` is that of the service, one of `TIERS`; `is_long` says that the prompt is so long that all tokens of the call
    may cost more.

    >>> Usage(10, 4, 5) + Usage(1, 0, 1), Usage(10, 4, 5).total
    (Usage(prompt_tokens=11, cached_tokens=4, completion_tokens=6), 15)
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    written_tokens: int = 0
    tier: str = STANDARD
    is_long: bool = False

    @property
    def total(self) -> int:
        """Tokens of prompt and answer."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:  # type: ignore[override]  # sums, where a tuple would chain
        """The sum of the tokens, billed as the first is: see `Bill` for calls that are billed apart."""
        return self.plus(other, 1)

    def plus(self, other: Usage, times: int) -> Usage:
        """The sum with the tokens of another, multiplied by a number."""
        return Usage(
            self[0] + times * other[0],
            self[1] + times * other[1],
            self[2] + times * other[2],
            self[3] + times * other[3],
            self.tier,
            self.is_long,
        )

    def __repr__(self) -> str:
        """The first three fields, and those of the others that say something."""
        named = zip(self._fields, self, strict=True)
        shown = ", ".join(f"{name}={value!r}" for name, value in named if value or name in _ALWAYS_SHOWN)
        return f"{type(self).__name__}({shown})"


_ALWAYS_SHOWN: Final = ("prompt_tokens", "cached_tokens", "completion_tokens")


class Bill:
    """The tokens of many calls, apart by what makes their price another: the tier, and whether the prompt was long.

    >>> bill = Bill(Usage(10, 0, 5), Usage(1, 0, 1), Usage(7, 0, 2, tier="flex"))
    >>> bill.total, list(bill)
    (26, [Usage(prompt_tokens=11, cached_tokens=0, completion_tokens=6), \
Usage(prompt_tokens=7, cached_tokens=0, completion_tokens=2, tier='flex')])
    """

    __slots__ = ("_lines",)

    def __init__(self, *usages: Usage) -> None:
        self._lines: dict[tuple[str, bool], Usage] = {}
        for usage in usages:
            self.add(usage)

    def add(self, usage: Usage, times: int = 1) -> None:
        """Add the tokens of a call, or take them away with `times=-1`."""
        apart = (usage.tier, usage.is_long)
        held = self._lines.get(apart)
        if held is None:
            held = Usage(tier=usage.tier, is_long=usage.is_long)
        self._lines[apart] = held.plus(usage, times)

    def with_all(self, usages: Iterable[Usage]) -> Bill:
        """A bill with the tokens of more calls."""
        return Bill(*self, *usages)

    def at_least(self, other: Bill) -> Bill:
        """The larger number of each kind of tokens."""
        larger = Bill()
        mine, its = self._lines, other._lines
        for tier, is_long in {**mine, **its}:
            one, another = mine.get((tier, is_long), Usage()), its.get((tier, is_long), Usage())
            tokens = [max(pair) for pair in zip(one[:4], another[:4], strict=True)]
            larger.add(Usage(tokens[0], tokens[1], tokens[2], tokens[3], tier, is_long))
        return larger

    def __iter__(self) -> Iterator[Usage]:
        """The sums of the calls that are billed alike."""
        return iter(self._lines.values())

    def __eq__(self, other: object) -> bool:
        """Whether the sums are the same."""
        return isinstance(other, Bill) and {*filter(_has_tokens, self)} == {*filter(_has_tokens, other)}

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """The sums."""
        return f"Bill({', '.join(map(repr, self))})"

    @property
    def whole(self) -> Usage:
        """The tokens of all calls, without what makes their prices differ."""
        return Usage(
            sum(line.prompt_tokens for line in self),
            sum(line.cached_tokens for line in self),
            sum(line.completion_tokens for line in self),
            sum(line.written_tokens for line in self),
        )

    @property
    def total(self) -> int:
        """Tokens of prompts and answers."""
        return sum(line.total for line in self)


def _has_tokens(usage: Usage) -> bool:
    return any(usage[:4])


class ReportedUsage(Usage):
    """The tokens that an answer reports.

    `reasoning_tokens` are those that the service says are hidden, mostly a part of the completion; `audio_tokens` those
    of sound, in the prompt and the answer together; `kept_tokens` those of the prompt that were written into its cache
    to be kept for longer than usual, which costs more. `cost_usd` is what it says that the call cost. `says_tier` tells
    whether it names the tier that served it.
    """

    reasoning_tokens: int = 0
    audio_tokens: int = 0
    kept_tokens: int = 0
    cost_usd: float | None = None
    says_tier: bool = False

    @property
    def has_unpriced(self) -> bool:
        """Whether a part of the tokens has a price that nobody here knows."""
        return self.audio_tokens > 0 or self.kept_tokens > 0

    def served_by(self, tier: str | None) -> ReportedUsage:
        """The same, served by a tier; None where the answer names none."""
        if tier is None:
            return self
        named = ReportedUsage(*self[:4], tier, self.is_long)
        named.__dict__.update(self.__dict__)
        named.says_tier = True
        return named


class SaidUsage(NamedTuple):
    """What a `usage` says, and None for each half that it leaves out; `total` if it says only that.

    `is_odd` says that a half is there, but no number: a word, a text of digits, -1, 1e30. `tier` is that which the
    answer names.
    """

    prompt_tokens: int | None = None
    cached_tokens: int = 0
    completion_tokens: int | None = None
    written_tokens: int = 0
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    cost_usd: float | None = None
    total: int | None = None
    is_odd: bool = False
    tier: str | None = None
    kept_tokens: int = 0

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
            usage = ReportedUsage(self.prompt_tokens, self.cached_tokens, self.completion_tokens, self.written_tokens)
        usage.reasoning_tokens, usage.audio_tokens = self.reasoning_tokens, self.audio_tokens
        usage.cost_usd, usage.kept_tokens = self.cost_usd, self.kept_tokens
        return usage.served_by(self.tier)


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
    """The two fields of a body that are read here; skipping the others also checks that they are JSON."""

    usage: msgspec.Raw = msgspec.Raw()
    service_tier: Any = None


_BODY_DECODER: Final = msgspec.json.Decoder(_Body)


def find_usage(body: bytes) -> tuple[bytes, str | None]:
    """The raw `usage` of a JSON body, empty if it has none, and the tier that it names, by one of `TIERS`.

    Scanning the body takes about 1.4 ms per megabyte.

    >>> find_usage(b'{"choices":[],"usage":{"total_tokens":3},"service_tier":"flex"}'), find_usage(b'[')
    ((b'{"total_tokens":3}', 'flex'), (b'', None))
    """
    try:
        found = _BODY_DECODER.decode(body)
        return bytes(found.usage), tier_of(found.service_tier)
    except RecursionError:
        return b"", None
    except msgspec.DecodeError:
        # Servers written in Python send -Infinity, NaN and lone surrogates, which msgspec refuses.
        value = _python_json(body)
        if not isinstance(value, dict):
            return b"", None
        return json.dumps(value.get("usage")).encode(), tier_of(value.get("service_tier"))


def read_usage(raw: bytes, *, tier: str | None = None) -> ReportedUsage | None:
    """The tokens of a raw `usage`; None unless it says how many the prompt has and how many the answer, or a total.

    Where prompt and completion are less than the total, the rest counts as completion: some services leave reasoning
    tokens out of `completion_tokens`, but bill them.

    Args:
        raw: as it stands in the body.
        tier: what the body beside it names, by one of `TIERS`.

    >>> read_usage(b'{"prompt_tokens":7,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4}}')
    ReportedUsage(prompt_tokens=7, cached_tokens=4, completion_tokens=5)
    >>> read_usage(b'{"prompt_tokens":7,"completion_tokens":5,"total_tokens":20}').completion_tokens
    13
    >>> read_usage(b'{"prompt_tokens":7}') is None
    True
    """
    if raw.count(b'"prompt_tokens"') > 1 or raw.count(b'"completion_tokens"') > 1 or raw.count(b'"total_tokens"') > 1:
        return said_usage(raw, tier=tier).whole
    try:
        usual = _USUAL_DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return said_usage(raw, tier=tier).whole
    return usual.reported(tier)


_Tokens = Annotated[int, msgspec.Meta(ge=0, lt=int(_MAX_TOKENS))]


class _UsualWritten(msgspec.Struct):
    ttl_12h_tokens: _Tokens | None = None


class _UsualPrompt(msgspec.Struct):
    cached_tokens: _Tokens | None = None
    cache_write_tokens: _Tokens | None = None
    cache_write_tokens_details: _UsualWritten | None = None
    audio_tokens: _Tokens | None = None


class _UsualCompletion(msgspec.Struct):
    reasoning_tokens: _Tokens | None = None
    audio_tokens: _Tokens | None = None


class _Usual(msgspec.Struct, forbid_unknown_fields=True):
    """A `usage` as OpenAI's chat API and most servers send it: read in 1 us, where `said_usage` takes 9."""

    prompt_tokens: _Tokens
    completion_tokens: _Tokens
    total_tokens: _Tokens
    prompt_tokens_details: _UsualPrompt | None = None
    completion_tokens_details: _UsualCompletion | None = None

    def reported(self, tier: str | None) -> ReportedUsage:
        """What `said_usage` finds in it."""
        prompt, details = self.prompt_tokens, self.prompt_tokens_details
        cached = written = audio = reasoning = kept = 0
        if details is not None:
            cached = _cached_of(details.cached_tokens, prompt)
            written = min(details.cache_write_tokens or 0, prompt - cached)
            audio = details.audio_tokens or 0
            if details.cache_write_tokens_details is not None:
                kept = details.cache_write_tokens_details.ttl_12h_tokens or 0
        completion, hidden = self.completion_tokens, self.completion_tokens_details
        if hidden is not None:
            reasoning = hidden.reasoning_tokens or 0
            audio += hidden.audio_tokens or 0
        if reasoning > completion:
            completion, reasoning = completion + reasoning, 0
        usage = ReportedUsage(prompt, cached, max(completion, self.total_tokens - prompt), written, tier or STANDARD)
        usage.reasoning_tokens, usage.says_tier = reasoning, tier is not None
        if audio:
            usage.audio_tokens = audio
        if kept:
            usage.kept_tokens = kept
        return usage


def _cached_of(said: int | None, prompt: int) -> int:
    """The tokens of a prompt that were in the service's cache; none where it says more than the prompt has.

    >>> _cached_of(5, 9), _cached_of(12, 9), _cached_of(None, 9)
    (5, 0, 0)
    """
    return said if said is not None and said <= prompt else 0


_USUAL_DECODER: Final = msgspec.json.Decoder(_Usual)


def said_usage(raw: bytes, *, tier: str | None = None) -> SaidUsage:
    """What a raw `usage` says of each half, in any of its spellings; the larger number where two of them differ.

    `tier` is what the body beside it names; Anthropic names it in here.

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
        return SaidUsage(tier=tier)
    of_prompt, of_answer = _details_of(fields, "prompt", "input"), _details_of(fields, "completion", "output")
    prompt, cached, written = _prompt_of(fields, of_prompt)
    completion = _largest(_count(fields.get("completion_tokens")), _count(fields.get("output_tokens")))
    reasoning = _count(of_answer.get("reasoning_tokens")) or 0
    audio = (_count(of_prompt.get("audio_tokens")) or 0) + (_count(of_answer.get("audio_tokens")) or 0)
    if completion is not None and reasoning > completion:
        completion, reasoning = completion + reasoning, 0  # it cannot be a part of them
    total = _count(fields.get("total_tokens"))
    if total is not None:
        if prompt is not None:
            completion = max(completion or 0, total - prompt)
        elif completion is not None:
            prompt = max(total - completion, 0)
    return SaidUsage(
        prompt,
        cached,
        completion,
        written,
        reasoning,
        audio,
        _cost_of(fields),
        total=total if prompt is None and completion is None else None,
        is_odd=_is_odd(fields),
        kept_tokens=_kept_of(of_prompt),
        tier=tier_of(fields.get("service_tier")) if tier is None else tier,
    )


def _details_of(fields: Mapping[str, Any], *halves: str) -> dict[str, Any]:
    """The details of a half, under the names of both APIs: a batch may have the one empty beside the other."""
    found: dict[str, Any] = {}
    for half in halves:
        details = fields.get(f"{half}_tokens_details")
        if isinstance(details, dict):
            found = _largest_of_each([*found.items(), *details.items()])
    return found


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


def _prompt_of(fields: Mapping[str, Any], details: Mapping[str, Any]) -> tuple[int | None, int, int]:
    """The tokens of the prompt, and how many of them the service says were in its cache and were written into it."""
    input_tokens = _count(fields.get("input_tokens"))
    read = _count(fields.get("cache_read_input_tokens"))
    created = _count(fields.get("cache_creation_input_tokens"))
    if input_tokens is not None and not fields.get("prompt_tokens"):  # Anthropic leaves out what its cache holds
        input_tokens += (read or 0) + (created or 0)
    hit = _count(fields.get("prompt_cache_hit_tokens"))  # DeepSeek
    miss = _count(fields.get("prompt_cache_miss_tokens"))
    both = None if hit is None or miss is None else hit + miss
    prompt = _largest(_count(fields.get("prompt_tokens")), input_tokens, both)
    beside = _count(fields.get("cached_tokens"))  # Moonshot
    cached = _cached_of(_largest(_count(details.get("cached_tokens")), hit, read, beside), prompt or 0)
    said_written, most_written = details.get("cache_write_tokens"), (prompt or 0) - cached
    written = _largest(_count(said_written), created) or 0
    if said_written is not None and _count(said_written) is None:
        written = most_written  # it is no number: what is unsaid counts at its worst
    return prompt, cached, min(written, most_written)


def _kept_of(details: Mapping[str, Any]) -> int:
    """The tokens that were written into the service's cache for twelve hours."""
    written = details.get("cache_write_tokens_details")
    return (_count(written.get("ttl_12h_tokens")) or 0) if isinstance(written, dict) else 0


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
        raw, tier = find_usage(body)
        return said_usage(raw, tier=tier)
    tier, said = None, list[SaidUsage]()
    for usage, named in _usages_of_events(body):
        tier = tier if named is None else named
        said.append(usage)
    said = [usage for usage in said if usage != SaidUsage()]
    if not said:
        return SaidUsage(tier=tier)
    prompt = _largest(*(one.prompt_tokens for one in said))
    completion = _largest(*(one.completion_tokens for one in said))
    return SaidUsage(
        prompt,
        said[-1].cached_tokens,
        completion,
        said[-1].written_tokens,
        max(one.reasoning_tokens for one in said),
        max(one.audio_tokens for one in said),
        max((one.cost_usd for one in said if one.cost_usd is not None), default=None),
        total=_largest(*(one.total for one in said)) if prompt is None and completion is None else None,
        is_odd=any(one.is_odd for one in said),
        kept_tokens=max(one.kept_tokens for one in said),
        tier=tier,
    )


def _usages_of_events(body: bytes) -> Iterator[tuple[SaidUsage, str | None]]:
    """What the events say, and the tier that each names."""
    for data in event_data(body):
        if (b'"usage"' in data or b'"service_tier"' in data) and data.strip() != DONE:
            piece = _python_json(data)
            inner = piece.get("response") if isinstance(piece, dict) else None  # of the Responses API
            for held in (piece, inner):
                if isinstance(held, dict):
                    usage, tier = held.get("usage"), tier_of(held.get("service_tier"))
                    said = said_usage(json.dumps(usage).encode()) if usage is not None else SaidUsage()
                    yield said, said.tier if tier is None else tier
