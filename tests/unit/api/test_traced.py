"""Spans of requests: from the middleware through the wrapped engine to its calls."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Scope
from vllm.sampling_params import RequestOutputKind, SamplingParams

from steersman.api.middleware import ControlMiddleware
from steersman.frontend.client import ControlledEngine
from steersman.frontend.reports import Reports
from steersman.observe.metrics import Metrics
from steersman.tracing import NO_TRACING
from tests.unit.frontend.scripted import NO_PHASE, PROMPT, WHOLE, ScriptedClient
from tests.unit.servers import planner
from tests.unit.spans import Kept

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
RACE = {"search": {"method": "first_finish", "n": 3}}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Server:
    """The middleware, a route that calls the wrapped engine as vLLM's do, and a scripted engine."""

    def __init__(self, client: ScriptedClient | None = None, *, traced: bool = True) -> None:
        self.kept = Kept()
        self.client = client or ScriptedClient()
        engine: Any = self.client
        self.engine = ControlledEngine(engine, NO_PHASE, Reports())
        self.app = ControlMiddleware(
            Starlette(routes=[Route(CHAT, self.endpoint, methods=["POST"])]),
            planner=planner(),
            metrics=Metrics(CollectorRegistry()),
            tracing=self.kept.tracing if traced else NO_TRACING,
        )

    async def endpoint(self, request: Request) -> Response:
        body = await request.json()
        given = request.headers.get("traceparent")
        headers = None if given is None else {"traceparent": given}
        kind = RequestOutputKind.DELTA if body.get("stream") else WHOLE
        params = SamplingParams(seed=2, n=body.get("n", 1), output_kind=kind)
        outputs = self.engine.generate(PROMPT, params, "r", trace_headers=headers)

        async def events() -> AsyncIterator[str]:
            async for output in outputs:
                choice = output.outputs[0]
                chunk = {"index": 0, "text": choice.text, "finish_reason": choice.finish_reason}
                text = json.dumps({"choices": [chunk]}, separators=(",", ":"))
                yield f"data: {text}\n\n"
            yield "data: [DONE]\n\n"

        if body.get("stream"):
            return StreamingResponse(events(), media_type="text/event-stream")
        try:
            _ = [output async for output in outputs]
        except ConnectionError:
            return JSONResponse({"error": {"message": "dead"}}, 500)
        return JSONResponse({"choices": []})

    async def post(self, body: dict[str, Any], **headers: str) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(CHAT, json={"model": "tiny", **body}, headers=headers)

    @property
    def sampled(self) -> int:
        """Tokens of all branches."""
        spans = self.kept.named("branch")
        return sum(attributes(span)["gen_ai.usage.output_tokens"] for span in spans)

    @property
    def root(self) -> ReadableSpan:
        (root,) = self.kept.named("chat tiny")
        return root


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_search_is_a_tree() -> None:
    server = Server()
    body = {"control": RACE, "temperature": 0.5, "max_tokens": 9, "seed": 2, "messages": ["secret"]}
    await server.post(body, traceparent=PARENT, **{"x-request-id": "mine"})

    branches = ["branch", "branch", "branch"]
    assert server.kept.tree() == [
        ("chat tiny", ["plan", "hold", ("generate", [*branches, "select"])])
    ]
    assert server.root.parent is not None
    assert f"{server.root.parent.span_id:016x}" == "b7ad6b7169203331"
    assert attributes(server.root) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "steersman",
        "gen_ai.request.model": "tiny",
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.seed": 2,
        "gen_ai.request.stream": False,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "url.path": CHAT,
        "http.response.status_code": 200,
        "steersman.request_id": "mine",
        "steersman.method": "first_finish",
        "steersman.profile": "none",
        "steersman.outcome": "ok",
        "steersman.branches": 3,
        "steersman.tokens.sampled": server.sampled,
        "steersman.tokens.cancelled": server.sampled - 2,
        "steersman.tokens.lost": 0,
        "steersman.tokens.sequential": 3,
    }
    (select,) = server.kept.named("select")
    assert attributes(select) == {"steersman.decided_by": "first", "steersman.winners": (0,)}
    ends = [span.end_time for span in server.kept.named("branch")]
    assert select.start_time == max(end for end in ends if end is not None)
    assert "secret" not in json.dumps([attributes(span) for span in server.kept.spans])


async def test_the_engines_own_spans_belong_to_the_branches() -> None:
    server = Server()
    await server.post({"control": RACE}, traceparent=PARENT)
    passed = [options["trace_headers"]["traceparent"] for _, _, options in server.client.requests]
    branches = server.kept.named("branch")
    assert passed == [
        f"00-0af7651916cd43dd8448eb211c80319c-{span.context.span_id:016x}-01"
        for span in branches
        if span.context is not None
    ]
    assert [attributes(span)["steersman.branch"] for span in branches] == [(0,), (1,), (2,)]
    assert [attributes(span)["gen_ai.request.seed"] for span in branches] == [2, 3, 4]
    reasons = [attributes(span)["gen_ai.response.finish_reasons"] for span in branches]
    assert reasons == [("stop",), ("abort",), ("abort",)]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_without_a_search_has_one_branch(stream: bool) -> None:
    server = Server()
    answer = await server.post({"control": {}, "stream": stream})
    assert answer.status_code == 200
    assert server.kept.tree() == [("chat tiny", ["plan", "hold", ("generate", ["branch"])])]
    assert attributes(server.root)["steersman.outcome"] == "ok"
    assert ("gen_ai.response.time_to_first_chunk" in attributes(server.root)) is stream


async def test_an_error_of_the_engine_is_one_of_its_spans() -> None:
    server = Server(ScriptedClient(error=ConnectionError("secret")))
    answer = await server.post({"control": RACE})
    assert answer.status_code == 500
    failed = {
        span.name for span in server.kept.spans if span.status.status_code is StatusCode.ERROR
    }
    assert failed >= {"chat tiny", "generate", "branch"}
    assert failed.isdisjoint({"plan", "hold"})
    assert attributes(server.root)["error.type"] == "500"
    assert attributes(server.kept.named("generate")[0])["error.type"] == "ConnectionError"
    assert server.kept.named("select") == []


async def test_a_refusal_ends_at_the_plan() -> None:
    server = Server()
    answer = await server.post({"control": {"nonsense": 1}}, **{"x-request-id": "mine"})
    assert answer.status_code == 400
    assert server.kept.tree() == [("chat tiny", ["plan"])]
    told = attributes(server.root)
    assert (told["steersman.outcome"], told["http.response.status_code"]) == ("refused", 400)
    assert (told["steersman.request_id"], told["error.type"]) == ("mine", "400")
    assert server.root.status.status_code is StatusCode.UNSET, "the fault is the client's"
    assert attributes(server.kept.named("plan")[0])["error.type"] == "ControlError"


async def test_a_client_that_hangs_up_ends_every_span() -> None:
    server = Server(ScriptedClient(length=100_000))
    content = json.dumps({"model": "tiny", "control": {}, "stream": True}).encode()
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": CHAT,
        "raw_path": CHAT.encode(),
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    messages: list[Message] = [{"type": "http.request", "body": content}]
    streaming = asyncio.Event()

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await streaming.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message.get("body"):
            streaming.set()

    await server.app(scope, receive, send)
    assert server.kept.tree() == [("chat tiny", ["plan", "hold", ("generate", ["branch"])])]
    assert attributes(server.root)["steersman.outcome"] == "disconnected"
    assert all(span.status.status_code is StatusCode.UNSET for span in server.kept.spans)


async def test_a_request_without_control_is_the_engines_to_trace() -> None:
    server = Server()
    await server.post({}, traceparent=PARENT)
    assert server.kept.spans == []
    assert [options["trace_headers"] for _, _, options in server.client.requests] == [
        {"traceparent": PARENT}
    ]


async def test_without_an_endpoint_the_engine_gets_what_the_client_sent() -> None:
    server = Server(traced=False)
    await server.post({"control": RACE}, traceparent=PARENT)
    assert server.kept.spans == []
    passed = [options["trace_headers"] for _, _, options in server.client.requests]
    assert passed == [{"traceparent": PARENT}] * 3
