"""Spans of a controlled request, those of vLLM among them, as a collector gets them."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.http.server import ForkedServer, Server

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
WAIT_SECONDS = 30.0


class Collector:
    """Takes spans by HTTP, as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["content-length"]))
                for resource in ExportTraceServiceRequest.FromString(content).resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans.extend(scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"

    def named(self, name: str) -> list[Any]:
        """Spans of this name in the trace of the test."""
        found = (span for span in self.spans if span.trace_id.hex() == TRACE)
        return [span for span in found if span.name == name]

    def wait_for(self, name: str, spans: int) -> list[Any]:
        """Wait until so many spans of a name have come."""
        deadline = time.monotonic() + WAIT_SECONDS
        while len(self.named(name)) < spans and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.named(name)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Collector]]:
    collector = Collector()
    arguments = ("reasoner", f"--otlp-traces-endpoint={collector.url}")
    environment = {
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "VLLM_LOGGING_LEVEL": "WARNING",
    }
    log = tmp_path_factory.mktemp("traces") / "server.log"
    with ForkedServer.steersman(arguments, Path(log), environment) as server:
        yield server, collector
    collector.close()


def test_vllms_spans_belong_to_the_branches(traced: tuple[Server, Collector]) -> None:
    server, collector = traced
    body = {
        "model": "reasoner",
        "prompt": "6+9*3-8=?",
        "max_tokens": 64,
        "seed": 3,
        "control": {"search": {"method": "majority", "n": 3}},
    }
    answer = httpx.post(
        f"{server.url}/v1/completions",
        json=body,
        headers={"traceparent": f"00-{TRACE}-{CALLER}-01"},
        timeout=120,
    )
    compute = answer.json()["control"]["compute"]

    (root,) = collector.wait_for("text_completion reasoner", 1)
    engine = collector.wait_for("llm_request", 3)
    (generate,) = collector.named("generate")
    branches = collector.named("branch")

    assert root.parent_span_id.hex() == CALLER
    assert generate.parent_span_id == root.span_id
    assert {span.parent_span_id for span in branches} == {generate.span_id}
    assert {span.parent_span_id for span in engine} == {span.span_id for span in branches}
    assert len(engine) == len(branches) == 3
    assert [span.parent_span_id for span in collector.named("select")] == [generate.span_id]
    told = {one.key: one.value.int_value for one in root.attributes}
    assert told["gen_ai.usage.output_tokens"] == compute["returned_tokens"]
    assert told["steersman.tokens.sampled"] == compute["sampled_tokens"]
    sampled = 0
    for span in engine:
        values = {one.key: one.value.int_value for one in span.attributes}
        sampled += values["gen_ai.usage.completion_tokens"]
    assert sampled == compute["sampled_tokens"]


def test_a_request_without_control_has_vllms_span_alone(traced: tuple[Server, Collector]) -> None:
    server, collector = traced
    caller = "00f067aa0ba902b7"
    httpx.post(
        f"{server.url}/v1/completions",
        json={"model": "reasoner", "prompt": "1+1=?", "max_tokens": 4},
        headers={"traceparent": f"00-{TRACE}-{caller}-01"},
        timeout=120,
    ).raise_for_status()
    deadline = time.monotonic() + WAIT_SECONDS
    found: list[Any] = []
    while not found and time.monotonic() < deadline:
        time.sleep(0.05)
        found = [one for one in collector.spans if one.parent_span_id.hex() == caller]
    assert [one.name for one in found] == ["llm_request"]
