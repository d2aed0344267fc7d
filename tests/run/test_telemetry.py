"""OpenTelemetry: the span and measurements of a call, by the semantic conventions, and what they never have."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from builders import write_job, write_prompts
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes, http_attributes, server_attributes
from opentelemetry.trace import SpanKind, StatusCode

import logprob_store as ls
from logprob_store.cli.otel import shut_down

if TYPE_CHECKING:
    from collections.abc import Iterator

REPO = Path(__file__).parents[2]


def job_file(folder: Path, url: str, *, prompts: int, endpoint: str = "chat") -> Path:
    """Write prompts that hold the word `secret`, and a job that asks for two choices each."""
    write_prompts(folder, {"id": [f"p{n}" for n in range(prompts)], "word": [f"secret-{n}" for n in range(prompts)]})
    return write_job(
        folder,
        url,
        prompts={"id": "id", "prompt": None, "template": "Say {word} please"},
        model={
            "endpoint": endpoint,
            "top_logprobs": 3,
            "params": {"temperature": 0, "max_tokens": 6, "n": 2, "stop": "!"},
        },
        limits={"concurrency": 2, "attempts": 2},
    )


class Seen:
    """Spans and measurements, kept in memory by the real SDK."""

    def __init__(self) -> None:
        self._spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.instrument = ls.opentelemetry(
            tracer_provider=tracers, meter_provider=MeterProvider([self._reader], shutdown_on_exit=False)
        )

    @property
    def spans(self) -> list[Any]:
        """In the order of their end."""
        return list(self._spans.get_finished_spans())

    def points(self, name: str) -> list[Any]:
        """The data points of a histogram, and its unit with the first."""
        data = self._reader.get_metrics_data()
        found = [
            metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
        ]
        return [point for metric in found for point in metric.data.data_points]


def run(folder: Path, url: str, *, prompts: int, endpoint: str = "chat") -> Seen:
    """Run a job with everything seen."""
    job = job_file(folder, url, prompts=prompts, endpoint=endpoint)
    seen = Seen()
    ls.run_job(ls.load_job(job), run="r", instrument=seen.instrument)
    return seen


def test_a_call_is_a_span(tmp_path: Path, fault_server: Any) -> None:
    """Its name, kind and attributes are those of the conventions, and two more lead to the row in the store."""
    (span,) = run(tmp_path, fault_server.url, prompts=1).spans
    row = ls.open_store(tmp_path / "store").completions.collect().row(0, named=True)
    port = int(fault_server.url.rsplit(":", 1)[1].split("/")[0])

    assert (span.name, span.kind, span.status.status_code) == ("chat m", SpanKind.CLIENT, StatusCode.UNSET)
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.max_tokens": 6,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.stop_sequences": ("!",),
        "gen_ai.response.id": row["response_id"],
        "gen_ai.response.model": row["response_model"],
        "gen_ai.response.finish_reasons": (row["finish_reason"],) * 2,
        "gen_ai.usage.input_tokens": row["prompt_tokens"],
        "gen_ai.usage.output_tokens": row["completion_tokens"],
        "server.address": "127.0.0.1",
        "server.port": port,
        "logprob_store.prompt_id": "p0",
        "logprob_store.request_key": row["request_key"],
    }


def test_legacy_completions_are_text_completions(tmp_path: Path, fault_server: Any) -> None:
    """The operation's name follows the endpoint."""
    (span,) = run(tmp_path, fault_server.url, prompts=1, endpoint="completions").spans

    assert (span.name, span.attributes["gen_ai.operation.name"]) == ("text_completion m", "text_completion")


def test_each_attempt_is_a_span_and_failures_have_their_class(tmp_path: Path, fault_server: Any) -> None:
    """A 500 and then an answer are two spans; a lost connection has no status; a refusal has our failure class."""
    for text, steps in (("secret-0 ", "500"), ("secret-1 ", "reset"), ("secret-2 ", "400")):
        fault_server.behaviour.when(text, steps)
    seen = run(tmp_path, fault_server.url, prompts=3)
    failed = [span for span in seen.spans if span.status.status_code is StatusCode.ERROR]
    told = {
        span.attributes["logprob_store.prompt_id"]: (
            span.attributes["error.type"], span.attributes.get("http.response.status_code"),
        )
        for span in failed
    }  # fmt: skip

    assert told == {"p0": ("server_error", 500), "p1": ("connection", None), "p2": ("invalid_request", 400)}
    assert len(seen.spans) == 5
    assert all(span.status.description is None and not span.events for span in failed)


def test_measurements_add_up(tmp_path: Path, fault_server: Any) -> None:
    """Durations count every call, by how it ended; tokens are those of the store."""
    fault_server.behaviour.when("secret-0 ", "500")
    seen = run(tmp_path, fault_server.url, prompts=4)
    rows = ls.open_store(tmp_path / "store").completions.filter(pl.col("choice_index") == 0).collect()
    durations = {point.attributes.get("error.type"): point for point in seen.points("gen_ai.client.operation.duration")}
    tokens = {point.attributes["gen_ai.token.type"]: point for point in seen.points("gen_ai.client.token.usage")}

    # 4 prompts, and one of them tried twice.
    assert {kind: point.count for kind, point in durations.items()} == {None: 4, "server_error": 1}
    assert {kind: point.sum for kind, point in tokens.items()} == {
        "input": rows["prompt_tokens"].sum(),
        "output": rows["completion_tokens"].sum(),
    }
    # The conventions' boundaries: 0.01 s doubled up to 81.92 s, and powers of 4 up to 4^13.
    assert durations[None].explicit_bounds[0] == 0.01
    assert durations[None].explicit_bounds[-1] == pytest.approx(81.92)
    assert (tokens["input"].explicit_bounds[1], tokens["input"].explicit_bounds[-1]) == (4, 67108864)
    assert set(durations[None].attributes) == {
        "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model",
        "server.address", "server.port",
    }  # fmt: skip


def test_no_prompt_and_no_answer(tmp_path: Path, fault_server: Any) -> None:
    """No span has a prompt or an answer, also where the server refuses."""
    fault_server.behaviour.when("secret-1 ", "400")
    seen = run(tmp_path, fault_server.url, prompts=3)
    told = "".join(span.to_json() for span in seen.spans)
    texts = ls.open_store(tmp_path / "store").completions.collect()["text"].to_list()

    assert "secret" not in told
    assert [text for text in texts if json.dumps(text)[1:-1] in told] == []


def test_a_replay_has_no_spans(tmp_path: Path) -> None:
    """Answers from fixtures are no calls, and no spans."""
    text = (REPO / "jobs" / "demo.toml").read_text(encoding="utf-8")
    job = tmp_path / "job.toml"
    job.write_text(text.replace("../fixtures", str(REPO / "fixtures")).replace("../out/demo", "store"))
    seen = Seen()
    ls.run_job(ls.load_job(job), run="r", limit=3, instrument=seen.instrument)

    assert seen.spans == []


def test_the_names_are_those_of_the_conventions(tmp_path: Path, fault_server: Any) -> None:
    """Every attribute is in the installed conventions, or begins with `logprob_store`."""
    fault_server.behaviour.when("secret-0 ", "500")
    seen = run(tmp_path, fault_server.url, prompts=2)
    modules = (gen_ai_attributes, error_attributes, http_attributes, server_attributes)
    listed = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    used = {name for span in seen.spans for name in span.attributes if not name.startswith("logprob_store.")}
    used |= {name for point in seen.points("gen_ai.client.token.usage") for name in point.attributes}

    assert used - listed == set()
    assert {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"} <= {
        value for value in vars(gen_ai_metrics).values() if isinstance(value, str)
    }


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the error says what to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)

    with pytest.raises(ls.LogprobStoreError, match=r"pip install 'logprob-store\[otel\]'"):
        ls.opentelemetry()


def test_off_it_is_not_even_imported() -> None:
    """A run without it loads nothing of OpenTelemetry."""
    code = "import logprob_store.run.api, logprob_store.transport.live, logprob_store.cli.run, sys; "
    code += "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


@pytest.fixture
def collector() -> Iterator[Any]:
    """An OTLP endpoint that keeps what it is sent: `collector.bodies` by path."""

    class Keeps(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            server.bodies.setdefault(self.path, b"")  # type: ignore[attr-defined]
            server.bodies[self.path] += body  # type: ignore[attr-defined]
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Keeps)
    server.bodies = {}  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_command_sends_to_the_collector(tmp_path: Path, fault_server: Any, collector: Any) -> None:
    """`run --otel` sends spans and metrics where OTEL_EXPORTER_OTLP_ENDPOINT says, under OTEL_SERVICE_NAME."""
    job_file(tmp_path, fault_server.url, prompts=1)
    program = Path(sys.executable).with_name("logprobs")
    done = subprocess.run(
        [program, "run", "job.toml", "--otel"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={
            "PATH": "/usr/bin:/bin",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_SERVICE_NAME": "the-night",
        },
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert {"/v1/traces", "/v1/metrics"} == collector.bodies.keys()
    assert all(b"the-night" in body for body in collector.bodies.values())
    assert b"chat m" in collector.bodies["/v1/traces"]
    assert b"gen_ai.client.token.usage" in collector.bodies["/v1/metrics"]
    assert b"secret-0" not in b"".join(collector.bodies.values())


@pytest.mark.slow
@pytest.mark.parametrize("listens", [True, False], ids=["hangs", "is not there"])
def test_a_run_with_a_dead_collector_ends_as_without_one(tmp_path: Path, fault_server: Any, *, listens: bool) -> None:
    """And says that measurements are lost."""
    job_file(tmp_path, fault_server.url, prompts=1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if listens else 1
        done = subprocess.run(
            [Path(sys.executable).with_name("logprobs"), "run", "job.toml", "--otel"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
            env={"PATH": "/usr/bin:/bin", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"},
        )  # fmt: skip

    assert done.returncode == 0
    assert "collector has not taken all" in done.stderr


@pytest.mark.slow
def test_a_dead_collector_costs_two_seconds(caplog: pytest.LogCaptureFixture) -> None:
    """However long its exporters would wait, and however many there are."""
    ends = Event()
    provider = SimpleNamespace(shutdown=lambda: ends.wait(60))
    began = time.monotonic()

    shut_down(provider, provider)

    assert time.monotonic() - began < 30
    assert "within 2 s" in caplog.text
    ends.set()
