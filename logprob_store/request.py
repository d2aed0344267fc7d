"""What is asked and what came back: `Request`, `Answer`, and the key that says when two calls are the same.

Holds the canonical form of a body and `request_key`. Leaves out where requests come from (`prompts`), where
answers are kept (`cache`) and how a call is made (`transport`).

The key covers the **whole** body, never a hand-picked list of its fields: tools that picked lost the model, the
system prompt or `top_logprobs`, and served one model's answers as another's.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from logprob_store.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from logprob_store.usage import ServerReport, Usage

KEY_VERSION: Final = 1

OPENAI_BASE_URL: Final = "https://api.openai.com/v1"
"""The service that is asked where a job names no other."""

PATHS: Final = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "responses": "/responses",
}
"""Endpoint, as the job file names it, to the path under the base URL."""

RESPONSES_LOGPROBS: Final = "message.output_text.logprobs"
"""What a Responses request includes to get logprobs."""

_PROMPT_KEYS: Final = {"chat": "messages", "completions": "prompt", "responses": "input"}

_EXACT_INTEGERS: Final = 2**53
_MAX_DEPTH: Final = 64
_AS_THEY_ARE: Final = frozenset({str, int, bool, type(None)})
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Request:
    """One call to make: a prompt, once.

    `body` is what the job and the row say; `content` is its JSON, the bytes that are sent.
    """

    prompt_index: int
    prompt_id: str
    sample_index: int
    endpoint: str
    provider: str
    body: Mapping[str, Any] = field(repr=False)
    key: str
    content: bytes = field(repr=False)

    @property
    def model(self) -> str | None:
        """The model asked for."""
        model = self.body.get("model")
        return model if isinstance(model, str) else None

    @property
    def asks_logprobs(self) -> bool:
        """Whether an answer without logprobs is a failure."""
        if self.endpoint == "responses":
            return RESPONSES_LOGPROBS in (self.body.get("include") or ())
        wanted = self.body.get("logprobs")
        return wanted is not None and wanted is not False


@dataclass(frozen=True, slots=True)
class BadCall:
    """A call that cannot be made, because its row cannot be turned into a request."""

    prompt_index: int
    prompt_id: str
    sample_index: int
    problem: PromptError


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete 2xx response as it came, and how it was obtained.

    `headers` holds only the few worth keeping, lower case. `latency_s` is the seconds of the attempt that
    succeeded, `attempts` counts all of them, `fetched_at` is UTC. `run` is the id of the run that paid for it.
    `maybe_billed` says that an earlier attempt may have cost as well, as its answer was lost.
    `cost_usd` is what this run paid for it, on one of its equal requests; None where that is not known. `call` is its
    number among the run's calls, `report` is what a live answer says about limits and usage; neither is kept.
    """

    request: Request
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    source: str
    attempts: int = 1
    latency_s: float | None = None
    fetched_at: datetime | None = None
    run: str | None = None
    maybe_billed: bool = False
    cost_usd: float | None = None
    call: int | None = field(default=None, repr=False, compare=False)
    report: ServerReport | None = field(default=None, repr=False, compare=False)

    @property
    def usage(self) -> Usage | None:
        """The tokens a live answer reports."""
        return None if self.report is None else self.report.usage


def make_request(
    body: Mapping[str, Any],
    *,
    endpoint: str,
    provider: str,
    prompt_index: int = 0,
    prompt_id: str = "0",
    sample_index: int = 0,
) -> Request:
    """Build a request with its key.

    Raises:
        PromptError: the body cannot be written as JSON; see `canonical_json`.

    >>> r = make_request({"model": "m", "prompt": "Hi"}, endpoint="completions", provider="http://h:80/v1")
    >>> r.content
    b'{"model":"m","prompt":"Hi"}'
    >>> r.key == make_request({"prompt": "Hi", "model": "m"}, endpoint="completions", provider="http://h:80/v1").key
    True
    """
    key = request_key(body, endpoint=endpoint, provider=provider, sample_index=sample_index)
    content = msgspec.json.encode(body)
    return Request(prompt_index, prompt_id, sample_index, endpoint, provider, body, key, content)


def build_body(
    endpoint: str,
    *,
    model: str,
    prompt: Any,
    logprobs: bool = True,
    top_logprobs: int = 5,
    params: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A request body: the prompt, what is wanted of logprobs, and the parameters as they are.

    `params` come last and win, so that a server with other ideas about `logprobs` can be asked in its own way.

    >>> build_body("completions", model="m", prompt="Hi", top_logprobs=2, params={"max_tokens": 1})
    {'model': 'm', 'prompt': 'Hi', 'logprobs': 2, 'max_tokens': 1}
    """
    body: dict[str, Any] = {"model": model, _PROMPT_KEYS[endpoint]: prompt}
    if logprobs and endpoint == "chat":
        body |= {"logprobs": True, "top_logprobs": top_logprobs}
    elif logprobs and endpoint == "responses":
        body |= {"include": [RESPONSES_LOGPROBS], "top_logprobs": top_logprobs}
    elif logprobs:
        body["logprobs"] = top_logprobs
    return body | dict(params or {})


def request_key(body: Mapping[str, Any], *, endpoint: str, provider: str, sample_index: int = 0) -> str:
    """The identity of a call: 64 hexadecimal digits, sha256 of the canonical JSON of all that shapes its answer.

    Raises:
        PromptError: the body cannot be written as canonical JSON.

    >>> a = request_key({"model": "m", "temperature": 0.0}, endpoint="chat", provider="p")
    >>> a == request_key({"temperature": 0, "model": "m"}, endpoint="chat", provider="p")
    True
    >>> a == request_key({"model": "m", "temperature": 0.0}, endpoint="chat", provider="p", sample_index=1)
    False
    """
    whole = {
        "key_version": KEY_VERSION,
        "provider": provider,
        "endpoint": endpoint,
        "body": body,
        "sample_index": sample_index,
    }
    return hashlib.sha256(canonical_json(whole)).hexdigest()


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, no white space, and each number in one spelling, as UTF-8.

    The keys of an object named `properties` keep their order: in a JSON schema that is the order in which a model
    writes the fields, so two orders are two different questions.

    Raises:
        PromptError: NaN, infinity, a lone surrogate, a name that is not text, a value that JSON has no form for,
            or nesting deeper than 64.

    >>> canonical_json({"b": 1.0, "a": [0.5, -0.0, "é"]}).decode()
    '{"a":[0.5,0,"é"],"b":1}'
    """
    try:
        return msgspec.json.encode(_canonical(value))
    except UnicodeEncodeError as error:
        raise PromptError(
            f"the request holds text that is no valid Unicode (a lone surrogate): {error.reason}"
        ) from error


def _canonical(value: Any, ordered: bool = False, depth: int = 0) -> Any:  # noqa: FBT001, FBT002  called for each value
    if type(value) in _AS_THEY_ARE or isinstance(value, str):
        return value
    if depth > _MAX_DEPTH:
        raise PromptError(f"the request is nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, dict):
        for name in value:
            # msgspec would write 1 and "1" alike, and two different bodies would be one call.
            if not isinstance(name, str):
                raise PromptError(f"the request holds a name that is not text: {name!r}")
        return {
            name: item
            if type(item := value[name]) in _AS_THEY_ARE  # most are: spares a call
            else _canonical(item, name == "properties", depth + 1)
            for name in (value if ordered else sorted(value))
        }
    if isinstance(value, (list, tuple)):
        return [_canonical(item, False, depth + 1) for item in value]  # noqa: FBT003
    if isinstance(value, float):
        return _one_spelling(value)
    if isinstance(value, int):
        return value
    # A set has no order, bytes and dates have many spellings: msgspec would choose one without a word.
    raise PromptError(f"the request holds a value that JSON has no form for: a {type(value).__name__}")


def _one_spelling(number: float) -> float | int:
    if not math.isfinite(number):
        raise PromptError(f"the request holds {number}, which JSON cannot say")
    if number.is_integer() and abs(number) < _EXACT_INTEGERS:
        return int(number)
    return number


def provider_of(base_url: str) -> str:
    """What a base URL is, without credentials: scheme, host, port and path.

    >>> provider_of("https://key:secret@API.openai.com/v1/?api-version=1")
    'https://api.openai.com:443/v1'
    >>> provider_of("http://127.0.0.1:8080/v1")
    'http://127.0.0.1:8080/v1'
    """
    parts = urlsplit(base_url)
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    return f"{parts.scheme.lower()}://{host}:{port}{parts.path.rstrip('/')}"
