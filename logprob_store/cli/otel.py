"""OpenTelemetry exporters for `--otel`: OTLP over HTTP, configured by the `OTEL_` environment variables.

The SDK reads these variables itself. What is measured is in `logprob_store.run.telemetry`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from logprob_store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from logprob_store.run.telemetry import Instrument


@contextlib.contextmanager
def otlp() -> Iterator[Instrument]:
    """An instrument whose exporters run for as long as the context lasts; at its end they send what they still hold.

    Raises:
        InputError: the extra `otel` is not installed.
    """
    from logprob_store.run.telemetry import opentelemetry

    tracers, meters = _providers()
    try:
        yield opentelemetry(tracer_provider=tracers, meter_provider=meters)
    finally:
        tracers.shutdown()
        meters.shutdown()


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
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return tracers, MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], resource=resource)
