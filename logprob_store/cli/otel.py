"""OpenTelemetry exporters for `--otel`: OTLP over HTTP, configured by the `OTEL_` environment variables.

The SDK reads these variables itself. What is measured is in `logprob_store.run.telemetry`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from logprob_store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from logprob_store.run.telemetry import Instrument

log = logging.getLogger(__name__)

_LONGEST_END_S: Final = 2.0


@contextlib.contextmanager
def otlp() -> Iterator[Instrument]:
    """An instrument whose exporters run for as long as the context lasts; at its end they send what they still hold.

    What a collector has not taken 2 s later is lost: without one, the exporters would try for half a minute.

    Raises:
        InputError: the extra `otel` is not installed.
    """
    from logprob_store.run.telemetry import opentelemetry

    tracers, meters = _providers()
    try:
        yield opentelemetry(tracer_provider=tracers, meter_provider=meters)
    finally:
        shut_down(tracers, meters)


def shut_down(*providers: Any) -> None:
    """Shut providers down, all at once, and go on after 2 s."""
    threads = [threading.Thread(target=provider.shutdown, daemon=True) for provider in providers]
    for thread in threads:
        thread.start()
    until = time.monotonic() + _LONGEST_END_S
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        log.warning("the OpenTelemetry collector has not taken all within %.0f s: the rest is lost", _LONGEST_END_S)


def _providers() -> tuple[Any, Any]:
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise InputError("--otel needs an extra: pip install 'logprob-store[otel]'") from error
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override our own name.
    resource = Resource.create({"service.name": "logprob-store"}).merge(OTELResourceDetector().detect())
    # Without handlers that wait once more as Python ends.
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    return tracers, MeterProvider([reader], resource=resource, shutdown_on_exit=False)
