"""What the fault server does with each call: steps and scripts, enforced limits, and the ledger."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

STEPS = frozenset({
    "ok", "hang", "drip", "reset", "reset_body", "short", "truncated", "malformed", "html", "empty", "null",
    "envelope", "error200", "quota", "content_filter", "no_logprobs", "redirect", "no_echo", "zeros", "utf16",
    "latin1", "unasked", "parting",
})  # fmt: skip

# Step to status, code, type and message.
ERRORS = {
    "quota": (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota."),
    "content_filter": (400, "content_filter", "invalid_request_error", "The prompt was filtered."),
    "no_logprobs": (403, None, "invalid_request_error", "You are not allowed to request logprobs from this model."),
    "401": (401, "invalid_api_key", "invalid_request_error", "Incorrect API key provided."),
    "403": (403, "unsupported_country", "request_forbidden", "Country not supported."),
    "429": (429, "rate_limit_exceeded", "requests", "Rate limit reached."),
    "limited": (429, "rate_limit_exceeded", "requests", "Rate limit reached."),
}

SPOILT = {
    "malformed": b'{"choices": [nonsense]}',
    "html": b"<!doctype html><html><body>Bad gateway</body></html>",
    "empty": b"",
    "envelope": b'{"status":"ok","result":[]}',
    "error200": b'{"error":{"message":"upstream failed","type":"server_error","code":502}}',
}

BILLED = frozenset(
    {
        "ok",
        "drip",
        "reset_body",
        "short",
        "truncated",
        "malformed",
        "null",
        "envelope",
        "no_echo",
        "zeros",
        "utf16",
        "latin1",
        "unasked",
        "parting",
    }
)
"""Steps for which a real service computes an answer, whether or not it arrives."""


@dataclass
class Step:
    """What to do with one call."""

    name: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long a `drip` takes, in seconds."""
        return float(self.options.get("seconds", "0.2"))

    @property
    def headers(self) -> dict[str, str]:
        """The options that are headers of the answer."""
        headers = {name: value for name, value in self.options.items() if name not in {"seconds", "to", "billed"}}
        ahead_s, off_s = headers.pop("retry-after-date", None), headers.pop("clock-off", None)
        now = datetime.now(UTC) + timedelta(seconds=float(off_s or 0))
        if off_s is not None:
            headers["date"] = format_datetime(now, usegmt=True)
        if ahead_s is not None:
            headers["retry-after"] = format_datetime(now + timedelta(seconds=float(ahead_s)), usegmt=True)
        return headers

    @property
    def billed(self) -> bool:
        """Whether a real service would charge for this call."""
        said = self.options.get("billed")
        return self.name in BILLED if said is None else said == "yes"


def parse_script(text: str) -> list[Step]:
    """The steps of a script; a misspelt step is a ValueError."""
    steps = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        spelled, _, times = part.partition("*")
        name, _, options = spelled.strip().partition(":")
        if name not in STEPS and not (name.isdecimal() and 400 <= int(name) < 600):
            raise ValueError(f"step {name!r}: use a status of 400 to 599 or one of {', '.join(sorted(STEPS))}")
        pairs = dict(option.split("=", 1) for option in options.split(";") if option)
        steps += [Step(name, pairs)] * (int(times) if times else 1)
    return steps


@dataclass
class Call:
    """One line of the ledger. `did` is None while the call is under way, `gone` when the client left first.

    `at` and `ended` are seconds of the machine's monotonic clock, the same for every process on it.
    """

    number: int
    path: str
    body: str
    headers: dict[str, str]
    at: float
    step: str = "ok"
    did: str | None = None
    billed: bool = False
    ended: float | None = None


@dataclass
class Burst:
    """Faults in bursts: for `lasting_s` in each `every_s`, from the first call on, a share of the calls fails."""

    every_s: float
    lasting_s: float
    rate: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """A burst from `every:lasting:rate`; the first one comes at the end of the first `every`."""
        return cls(*map(float, text.split(":")))

    def is_on(self, since_s: float) -> bool:
        """Whether a burst is on this many seconds after the first call."""
        return since_s >= self.every_s and since_s % self.every_s < self.lasting_s


class Limits:
    """Limits over any minute, and what is left of them."""

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        per_second: bool = False,
        silent: bool = False,
    ) -> None:
        self._most = {"requests": requests_per_minute, "tokens": tokens_per_minute}
        self._a_second = max(1.0, requests_per_minute / 60) if per_second and requests_per_minute else None
        self._silent = silent
        self._taken: deque[tuple[float, int]] = deque()
        self._tokens = 0

    def take(self, now: float, tokens: int) -> tuple[bool, dict[str, str]]:
        """Whether a call is within the limits, and the rate limit headers after it."""
        while self._taken and self._taken[0][0] <= now - 60:
            self._tokens -= self._taken.popleft()[1]
        spent = {"requests": len(self._taken), "tokens": self._tokens}
        cost = {"requests": 1, "tokens": tokens}
        within = all(most is None or spent[name] + cost[name] <= most for name, most in self._most.items())
        if self._a_second is not None:
            lately = sum(1 for at, _ in itertools.takewhile(lambda taken: taken[0] > now - 1, reversed(self._taken)))
            within = within and lately < self._a_second
        if within:
            self._taken.append((now, tokens))
            self._tokens += tokens
            spent = {name: spent[name] + cost[name] for name in spent}
        return within, {} if self._silent else self._headers(spent)

    def _headers(self, spent: dict[str, int]) -> dict[str, str]:
        said = {}
        for name, most in self._most.items():
            if most is not None:
                left = max(0, int(most - spent[name]))
                reset_s = spent[name] * 60 / most
                said |= {f"x-ratelimit-limit-{name}": f"{most:.0f}", f"x-ratelimit-remaining-{name}": str(left)}
                said[f"x-ratelimit-reset-{name}"] = f"{int(reset_s // 60)}m{reset_s % 60:.3f}s"
        return said


class Behaviour:
    """What the server does, and the ledger of what it did; it may be changed while the server runs."""

    def __init__(
        self,
        script: str = "",
        *,
        when: dict[str, str] | None = None,
        rate: float = 0.0,
        faults: str = "429,500,reset",
        seed: int = 0,
        delay_ms: float = 0.0,
        ledger: Path | None = None,
        limits: Limits | None = None,
        burst: Burst | None = None,
        keep: bool = True,
        brief: bool = False,
    ) -> None:
        self.calls: list[Call] = []
        self.count = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.delay_ms = delay_ms
        self.limits = limits
        self.models: list[str] | None = None  # None is a server that lists none
        self.shutdowns: dict[str, str] = {}  # of its models
        self._script = deque(parse_script(script))
        self._when = {text: deque(parse_script(steps)) for text, steps in (when or {}).items()}
        self._rate = rate
        self._faults = parse_script(faults)
        self._burst = burst
        self._keep = keep
        self._brief = brief
        self._first_at: float | None = None
        self._seed = seed
        self._seen: Counter[bytes] = Counter()
        self._file = ledger.open("a", encoding="utf-8") if ledger is not None else None

    def script(self, text: str) -> None:
        """Add steps for the next calls."""
        self._script.extend(parse_script(text))

    def when(self, text: str, steps: str) -> None:
        """Add steps for the next calls whose body holds `text`."""
        self._when.setdefault(text, deque()).extend(parse_script(steps))

    def begin(self, path: str, headers: dict[str, str], body: bytes) -> tuple[Call, Step]:
        """Note a call and choose what to do with it."""
        text = body.decode("utf-8", "replace")
        now = asyncio.get_running_loop().time()
        self._first_at = now if self._first_at is None else self._first_at
        within, said = self._within_limits(now, text)
        step = self._choose(text, body, since_s=now - self._first_at) if within else Step("limited")
        step = Step(step.name, {**said, **step.options})
        call = Call(self.count, path, text, {} if self._brief else headers, now, step.name, billed=step.billed)
        self.count += 1
        if self._keep:
            self.calls.append(call)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        return call, step

    def end(self, call: Call, did: str) -> None:
        """Note what was done with a call."""
        call.did = did
        call.ended = asyncio.get_running_loop().time()
        self.in_flight -= 1
        if self._file is not None:
            self._file.write(json.dumps(call.__dict__, ensure_ascii=False) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the ledger's file."""
        if self._file is not None:
            self._file.close()

    def _within_limits(self, now: float, text: str) -> tuple[bool, dict[str, str]]:
        if self.limits is None:
            return True, {}
        try:
            asked = json.loads(text)
        except ValueError:
            asked = {}
        most = int(asked.get("max_tokens") or asked.get("max_completion_tokens") or 5)
        return self.limits.take(now, len(text) // 4 + most * int(asked.get("n") or 1))

    def _choose(self, text: str, body: bytes, *, since_s: float = 0.0) -> Step:
        self._seen[body] += 1
        for wanted, steps in self._when.items():
            if wanted in text and steps:
                return steps.popleft()
        if self._script:
            return self._script.popleft()
        rate = self._burst.rate if self._burst is not None and self._burst.is_on(since_s) else self._rate
        if not rate:
            return Step("ok")
        # By what is asked and how often, not by when: the same whatever the order of arrival.
        chance = random.Random(f"{self._seed} {self._seen[body]} {text}")  # noqa: S311  no secret
        return chance.choice(self._faults) if chance.random() < rate else Step("ok")
