"""OpenTelemetry: a span and two histograms for each call, as the semantic conventions for generative AI name them.

`opentelemetry` wraps the transport of a run. It needs the extra `otel`, which is imported only when it is used. Where
spans are sent is a setting of the SDK; `logprobs run --otel` makes it.

A span is one call at the server: a prompt that is tried three times has three. Its duration is the server's; waiting
for rate limits is in no span. No span has a prompt, an answer, a key, or the server's words about an error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from logprob_store.errors import CallError, InputError, LogprobStoreError, StopRunError
from logprob_store.job import Job
from logprob_store.request import OPENAI_BASE_URL
from logprob_store.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.metrics import Meter, MeterProvider
    from opentelemetry.trace import Tracer, TracerProvider

    from logprob_store.request import Answer, Request

Instrument = Callable[[Transport, Job], Transport]
"""A function that wraps the transport of a run: `run_job(job, instrument=...)`."""

_SCOPE: Final = "logprob_store"
_OPERATIONS: Final = {"chat": "chat", "completions": "text_completion", "responses": "chat", "decisions": "decide"}

# The keys of the body for each request attribute; of several keys, the first that the body has.
_ASKED: Final = {
    "gen_ai.request.temperature": ("temperature",),
    "gen_ai.request.top_p": ("top_p",),
    "gen_ai.request.top_k": ("top_k",),
    "gen_ai.request.max_tokens": ("max_tokens", "max_completion_tokens", "max_output_tokens"),
    "gen_ai.request.frequency_penalty": ("frequency_penalty",),
    "gen_ai.request.presence_penalty": ("presence_penalty",),
    "gen_ai.request.seed": ("seed",),
}
_FLOATS: Final = frozenset(name for name in _ASKED if name.endswith(("temperature", "top_p", "penalty")))

# The conventions' advice: powers of two for seconds, powers of four for tokens.
_SECONDS: Final = [0.01 * 2**n for n in range(14)]
_TOKENS: Final = [4**n for n in range(14)]


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    """Tokens under the names of chat and completions, and of the Responses endpoint."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Body(msgspec.Struct):
    """The parts of an answer that a span needs; its logprobs are skipped."""

    id: str | None = None
    model: str | None = None
    choices: list[_Choice] = []
    usage: _Usage | None = None


_BODY: Final = msgspec.json.Decoder(_Body)


def opentelemetry(
    *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
) -> Instrument:
    """Traces and measures the calls of a run: `run_job(job, instrument=ls.opentelemetry())`.

    Each call is a span `chat MODEL` (`text_completion MODEL`) with what was asked for, the tokens used, how it ended,
    and `logprob_store.prompt_id` and `logprob_store.request_key`, by which its rows are found. The histograms are
    `gen_ai.client.operation.duration` in seconds and `gen_ai.client.token.usage`. `error.type` is a class of failure.

    Args:
        tracer_provider: where spans go; the process's own when None.
        meter_provider: where measurements go; the process's own when None.

    Raises:
        InputError: the extra is not installed.
    """
    try:
        from opentelemetry import metrics, trace
    except ImportError as error:
        raise InputError(
            "OpenTelemetry is not installed; it comes with an extra: pip install 'logprob-store[otel]'"
        ) from error
    tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
    meter = metrics.get_meter(_SCOPE, meter_provider=meter_provider)

    def instrument(transport: Transport, job: Job) -> Transport:
        # A replay calls nobody.
        return transport if job.transport.kind == "replay" else _Calls(transport, _service(job), tracer, meter)

    return instrument


class _Calls:
    """A transport around a transport, with a span and measurements for each call."""

    def __init__(self, transport: Transport, service: Mapping[str, Any], tracer: Tracer, meter: Meter) -> None:
        self._transport = transport
        self._service = service
        self._tracer = tracer
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )

    async def __call__(self, request: Request) -> Answer:
        """Make the call."""
        from opentelemetry.trace import SpanKind, use_span

        operation = _OPERATIONS[request.endpoint]
        measured = {"gen_ai.operation.name": operation, **self._service}
        if request.model is not None:
            measured["gen_ai.request.model"] = request.model
        span = self._tracer.start_span(
            f"{operation} {request.model or ''}".rstrip(),
            kind=SpanKind.CLIENT,
            attributes=measured | _asked(request),
        )
        started = time.perf_counter()
        try:
            with use_span(span, record_exception=False, set_status_on_exception=False):
                answer = await self._transport(request)
        except (LogprobStoreError, asyncio.CancelledError) as error:
            failed = _failed(error)
            _mark_failed(span, failed)
            measured["error.type"] = failed["error.type"]
            raise
        else:
            seen = _answered(answer)
            span.set_attributes(seen)
            if "gen_ai.response.model" in seen:
                measured["gen_ai.response.model"] = seen["gen_ai.response.model"]
            self._count_tokens(seen, measured)
            return answer
        finally:
            self._duration.record(time.perf_counter() - started, measured)
            span.end()

    def _count_tokens(self, seen: Mapping[str, Any], measured: Mapping[str, Any]) -> None:
        for kind in ("input", "output"):
            if (tokens := seen.get(f"gen_ai.usage.{kind}_tokens")) is not None:
                self._tokens.record(tokens, {**measured, "gen_ai.token.type": kind})


def _service(job: Job) -> dict[str, Any]:
    url = urlsplit(job.model.base_url or OPENAI_BASE_URL)
    provider = "azure.ai.openai" if job.model.azure_api_version is not None else job.model.provider or "openai"
    port = url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
    return {"gen_ai.provider.name": provider, "server.address": url.hostname or "", "server.port": port}


def _asked(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = {
        "logprob_store.prompt_id": request.prompt_id,
        "logprob_store.request_key": request.key,
    }
    for name, keys in _ASKED.items():
        value = next((request.body[key] for key in keys if key in request.body), None)
        if isinstance(value, (int, float)):
            found[name] = float(value) if name in _FLOATS else value
    if isinstance(choices := request.body.get("n"), int) and choices != 1:
        found["gen_ai.request.choice.count"] = choices
    stop = request.body.get("stop")
    stops = [stop] if isinstance(stop, str) else stop
    if isinstance(stops, list) and stops and all(isinstance(text, str) for text in stops):
        found["gen_ai.request.stop_sequences"] = stops
    return found


def _answered(answer: Answer) -> dict[str, Any]:
    try:
        body = _BODY.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}  # decoding reports what is wrong with the body
    usage = body.usage or _Usage()
    found = {
        "gen_ai.response.id": body.id,
        "gen_ai.response.model": body.model,
        "gen_ai.response.finish_reasons": [choice.finish_reason or "" for choice in body.choices] or None,
        "gen_ai.usage.input_tokens": usage.input_tokens if usage.prompt_tokens is None else usage.prompt_tokens,
        "gen_ai.usage.output_tokens": (
            usage.output_tokens if usage.completion_tokens is None else usage.completion_tokens
        ),
    }
    return {name: value for name, value in found.items() if value is not None}


def _failed(error: BaseException) -> dict[str, Any]:
    if isinstance(error, CallError):
        kind, status = error.error_type, error.status
    elif isinstance(error, StopRunError):
        kind, status = error.reason, error.status
    else:
        kind, status = "interrupted" if isinstance(error, asyncio.CancelledError) else type(error).__name__, None
    return {"error.type": kind} | ({} if status is None else {"http.response.status_code": status})


def _mark_failed(span: Any, failed: Mapping[str, Any]) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attributes(failed)
    # No description: it would quote the server.
    span.set_status(Status(StatusCode.ERROR))
