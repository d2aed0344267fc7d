"""`Request`, `Answer`, and the key by which equal requests are recognised.

The key covers the **whole** body, not selected fields: tools that selected fields left out the model, the system prompt
or `top_logprobs`, and served one model's answers as another's.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from logprob_store.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from logprob_store.usage import ServerReport, Usage

KEY_VERSION: Final = 1

OPENAI_BASE_URL: Final = "https://api.openai.com/v1"
"""The base URL where a job names none."""

PATHS: Final = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "responses": "/responses",
    "decisions": "/decisions",
}
"""Endpoint, as the job file names it, to its path under the base URL."""

RESPONSES_LOGPROBS: Final = "message.output_text.logprobs"
"""The value of `include` by which a Responses request asks for logprobs."""

_PROMPT_KEYS: Final = {"chat": "messages", "completions": "prompt", "responses": "input", "decisions": "input"}

_EXACT_INTEGERS: Final = 2**53
"""Below this, each integer is one float and each integral float one integer."""
_MAX_DEPTH: Final = 64
_UNCHANGED_TYPES: Final = frozenset({str, int, bool, type(None)})
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_NOT_IN_A_HOST: Final = re.compile(r"[\s\\<>^`{|}\"]")
_AFTER_BRACKET: Final = re.compile(r"\](?::[0-9]+)?$")
_LONGEST_HOST_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Request:
    """One call to make: one sample of one prompt.

    `body` is built from the job and the prompt's row; `content` is its JSON, the bytes that are sent.
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
    def is_unknown(self) -> bool:
        """Whether only its answer is known, as of a bare response that was imported."""
        return not self.content

    @property
    def asks_decisions(self) -> bool:
        """Whether typed questions are asked, so that an answer with a text is a failure."""
        return self.endpoint == "decisions"

    @property
    def asks_logprobs(self) -> bool:
        """Whether an answer without logprobs is a failure."""
        if self.asks_decisions:
            return False
        if self.endpoint == "responses":
            return RESPONSES_LOGPROBS in (self.body.get("include") or ()) or _asks_natively(self.body)
        wanted = self.body.get("logprobs")
        return (wanted is not None and wanted is not False) or _asks_natively(self.body)


_NATIVE_SETTINGS: Final = ("generationConfig", "generation_config", "parameters", "return_options")
"""Objects in the body of a server's native API that may hold the settings below."""

_NATIVE_REQUESTS: Final = frozenset(
    {
        "responseLogprobs",  # Gemini
        "response_logprobs",
        "return_logprob",  # SGLang
        "n_probs",  # llama.cpp
        "details",  # TGI
        "decoder_input_details",
        "top_n_tokens",
        "return_details",  # LightLLM
        "token_logprobs",  # watsonx
        "logprobs",  # DashScope has it among its parameters
    }
)
"""Settings by which native APIs are asked for log-probabilities: true, or a number of alternatives."""


def _asks_natively(body: Mapping[str, Any]) -> bool:
    """Whether the body of a server's native API asks for log-probabilities.

    >>> _asks_natively({"contents": [], "generationConfig": {"responseLogprobs": True}}), _asks_natively({"n_probs": 0})
    (True, False)
    """
    if any(body.get(name) not in _NOT_ASKED for name in _NATIVE_REQUESTS):
        return True
    include = body.get("include")  # transcriptions
    if isinstance(include, list) and "logprobs" in include:
        return True
    settings = (body.get(name) for name in _NATIVE_SETTINGS)
    return any(isinstance(held, dict) and _asks_natively(held) for held in settings)


_NOT_ASKED: Final[tuple[Any, ...]] = (None, False, 0, [], {})


@dataclass(frozen=True, slots=True)
class BadCall:
    """A call that cannot be made, because its row gives no valid request."""

    prompt_index: int
    prompt_id: str
    sample_index: int
    problem: PromptError


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete 2xx response as it came, and how it was obtained.

    `headers` has only the kept headers, in lower case. `source` is one of `schema.Source`. `attempts` counts the calls
    made for it, `latency_s` is the seconds of the one that succeeded, `fetched_at` is in UTC. `run` is the id of the
    run that paid for it. `maybe_billed` says that an earlier attempt may have been billed too, because its answer was
    lost. `cost_usd` is what this run paid for it, 0 for all but one of equal requests; None if that is not known.
    `call` is the number of the call within the run, `spent` the tokens that it counts for. `report` is what a live
    answer reports about limits and usage; it is not kept in the cache.
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
    spent: Usage | None = field(default=None, repr=False, compare=False)
    report: ServerReport | None = field(default=None, repr=False, compare=False)

    @property
    def usage(self) -> Usage | None:
        """The tokens that a live answer reports; None if it reports none, or came from elsewhere."""
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
    questions: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """A request body: the prompt, the fields that ask for logprobs, and the parameters unchanged.

    Decisions have `questions`, and no logprobs to ask for.

    `params` come last and override the others, so that a server can be asked for logprobs in its own way.
    A stream is asked for its usage too, unless `params` say otherwise.

    >>> build_body("completions", model="m", prompt="Hi", top_logprobs=2, params={"max_tokens": 1})
    {'model': 'm', 'prompt': 'Hi', 'logprobs': 2, 'max_tokens': 1}
    """
    body: dict[str, Any] = {"model": model, _PROMPT_KEYS[endpoint]: prompt}
    if logprobs and endpoint == "chat":
        body |= {"logprobs": True, "top_logprobs": top_logprobs}
    elif logprobs and endpoint == "responses":
        body |= {"include": [RESPONSES_LOGPROBS], "top_logprobs": top_logprobs}
    elif endpoint == "decisions":
        body["questions"] = questions
    elif logprobs:
        body["logprobs"] = top_logprobs
    body |= params or {}
    if body.get("stream") is True and endpoint != "responses":
        body.setdefault("stream_options", {"include_usage": True})
    return body


def request_key(body: Mapping[str, Any], *, endpoint: str, provider: str, sample_index: int = 0) -> str:
    """The identity of a call: the sha256 of the canonical JSON of everything that shapes its answer.

    Returns:
        64 hexadecimal digits.

    Raises:
        PromptError: the body cannot be written as canonical JSON.

    >>> a = request_key({"model": "m", "temperature": 0.0}, endpoint="chat", provider="p")
    >>> a == request_key({"temperature": 0, "model": "m"}, endpoint="chat", provider="p")
    True
    >>> a == request_key({"model": "m", "temperature": 0.0}, endpoint="chat", provider="p", sample_index=1)
    False
    """
    if body.get("stream") is False:  # the default: said or not, the call is the same
        body = {name: value for name, value in body.items() if name != "stream"}
    whole = {
        "key_version": KEY_VERSION,
        "provider": provider,
        "endpoint": endpoint,
        "body": body,
        "sample_index": sample_index,
    }
    return hashlib.sha256(canonical_json(whole)).hexdigest()


def canonical_json(value: Any) -> bytes:
    """JSON as UTF-8 with sorted keys, no white space, and one way to write each number.

    The keys of an object named `properties` keep their order: in a JSON schema that is the order in which a model
    writes the fields, so another order is another question.

    Raises:
        PromptError: the value has NaN, infinity, a lone surrogate, a name that is not text, a type that JSON lacks, or
            more than 64 levels of nesting.

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
    if type(value) in _UNCHANGED_TYPES or isinstance(value, str):
        return value
    if depth > _MAX_DEPTH:
        raise PromptError(f"the request is nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, dict):
        for name in value:
            # msgspec would write the names 1 and "1" alike, and two different bodies would have one key.
            if not isinstance(name, str):
                raise PromptError(f"the request holds a name that is not text: {name!r}")
        return {
            name: item
            if type(item := value[name]) in _UNCHANGED_TYPES  # true of most values: saves a function call
            else _canonical(item, name == "properties", depth + 1)
            for name in (value if ordered else sorted(value))
        }
    if isinstance(value, (list, tuple)):
        return [_canonical(item, False, depth + 1) for item in value]  # noqa: FBT003
    if isinstance(value, float):
        return _canonical_number(value)
    if isinstance(value, int):
        return value
    # A set has no order, bytes and dates can be written in many ways: msgspec would silently choose one.
    raise PromptError(f"the request holds a value that JSON has no form for: a {type(value).__name__}")


def _canonical_number(number: float) -> float | int:
    if not math.isfinite(number):
        raise PromptError(f"the request holds {number}, which JSON cannot say")
    if number.is_integer() and abs(number) < _EXACT_INTEGERS:
        return int(number)
    return number


def problem_of_host(url: str) -> str | None:
    """Why nothing can be reached at a URL, in words that repeat no part of it but the host; None where it may be.

    >>> problem_of_host("http://127.0.0.1:99999/v1"), problem_of_host("http://[::1]:8080/v1")
    ('has a port that is no number from 1 to 65535', None)
    >>> problem_of_host("http://a..b/v1")
    "has a host that no name server knows: 'a..b'"
    """
    try:
        parts = urlsplit(url)
        address = parts.netloc.rpartition("@")[2]
        if address.startswith("["):
            ipaddress.IPv6Address(address[1:].partition("]")[0].partition("%")[0])
    except ValueError:
        return "has brackets that hold no IPv6 address"
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0 or address.endswith(":") or ("]" in address and not _AFTER_BRACKET.search(address)):
        return "has a port that is no number from 1 to 65535"
    host = parts.hostname or ""
    if not host:
        return "has no host"
    if ":" in host or _is_a_name(host):
        return None
    shown = host if len(host) <= _LONGEST_HOST_SHOWN else f"{host[:_LONGEST_HOST_SHOWN]}..."
    return f"has a host that no name server knows: {shown!r}"


def _is_a_name(host: str) -> bool:
    """Whether a host may be an IPv4 address, or the name of one."""
    if not host.isprintable() or _NOT_IN_A_HOST.search(host):
        return False
    try:
        if host.rpartition(".")[2].isdecimal():  # as of no name
            ipaddress.IPv4Address(host)
        host.rstrip(".").encode("idna")
    except ValueError:  # also for a label that is empty or longer than 63 characters
        return False
    return True


def provider_of(base_url: str) -> str:
    """The service in request keys: scheme, host, port and path of a base URL, without credentials.

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
