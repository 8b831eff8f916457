"""Requests that wait for rows in the middleware, leave, or break."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from steersman.api.middleware import ControlMiddleware
from steersman.controls.limits import LimitsPart
from steersman.observe.logs import fields_of
from steersman.observe.metrics import Metrics
from steersman.scope import CONTROL
from steersman.steering.admission import Admission
from tests.unit.api.application import CHAT, FIRST, Server
from tests.unit.samples import total
from tests.unit.servers import planner

pytestmark = pytest.mark.anyio

QUICK = {"limits": {"max_seconds": 0.05}}
PATIENT = {"limits": {"max_seconds": 60}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def admission(monkeypatch: pytest.MonkeyPatch) -> Admission:
    """A bank of one row; whatever has limits needs a row."""
    rows = Admission(1, wait_seconds=0.5)

    @contextlib.asynccontextmanager
    async def held(self: Any, desk: Any, within: float | None = None) -> AsyncGenerator[None]:
        async with rows.admitted(["wanted"], within):
            yield

    monkeypatch.setattr(LimitsPart, "held", held)
    return rows


def server_with_desk() -> Server:
    server = Server()
    server.app._desk = SimpleNamespace(applied_edits=tuple)  # type: ignore[assignment]
    return server


async def test_a_request_waits_for_rows_no_longer_than_its_deadline(admission: Admission) -> None:
    server = server_with_desk()
    async with admission.admitted(["other"]):
        refused = await server.post({"model": "tiny", "control": QUICK})
    assert refused.status_code == 429
    assert "none came free within 0.05 s" in refused.json()["error"]["message"]
    async with admission.admitted(["other"]):
        refused = await server.post({"model": "tiny", "control": PATIENT})
    assert "none came free within 0.5 s" in refused.json()["error"]["message"]
    assert admission.rows_in_use == 0


async def test_the_clock_of_a_deadline_runs_while_a_request_waits(admission: Admission) -> None:
    server, seen = server_with_desk(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        control = CONTROL.get()
        assert control is not None
        seen.append(control.ledger.seconds)
        await JSONResponse({})(scope, receive, send)

    server.app._app = app
    async with admission.admitted(["other"]):
        began = time.perf_counter()
        asked = asyncio.create_task(server.post({"model": "tiny", "control": PATIENT}))
        while not admission.waiting:
            await asyncio.sleep(0)
        waiting = time.perf_counter()
        await asyncio.sleep(0.1)
        waited = time.perf_counter() - waiting
    assert (await asked).status_code == 200
    assert waited <= seen[0] <= time.perf_counter() - began


async def test_a_client_that_hangs_up_gives_its_place_in_the_queue_back(
    admission: Admission,
) -> None:
    ends: list[str] = []
    admission.tell(lambda seconds, end: ends.append(end))
    server = server_with_desk()
    content = json.dumps({"model": "tiny", "control": PATIENT}).encode()
    messages: list[Message] = [{"type": "http.request", "body": content}]

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        while not admission.waiting:
            await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async with admission.admitted(["other"]):
        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": []}
        await server.app(scope, receive, send)
        assert admission.waiting == 0
    assert ends == ["left"]
    assert sent[0]["status"] == 499
    assert admission.rows_in_use == 0
    assert await server.metric("steersman_requests_total", outcome="disconnected") == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("raised", "outcome"),
    [(RuntimeError("a fault"), "error"), (ClientDisconnect(), "disconnected")],
)
async def test_what_an_application_raises_is_an_error_and_no_hang_up(
    raised: Exception, outcome: str, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if stream:
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        raise raised

    server.app._app = app
    caplog.set_level(logging.INFO, "steersman")
    with pytest.raises(type(raised)):
        await server.post({"model": "tiny", "control": FIRST})
    assert await server.metric("steersman_requests_total") == 1
    assert await server.metric("steersman_requests_total", outcome=outcome) == 1
    fields = fields_of(caplog.records[-1])
    status = 200 if stream else 500 if outcome == "error" else 0
    assert (fields["outcome"], fields["status"]) == (outcome, status)


@pytest.mark.parametrize("path", ["/health", "/", "/ping", "/ready", "/below/health"])
async def test_nothing_is_read_of_what_is_open_to_everybody(path: str) -> None:
    """Without a key anybody could fill the memory otherwise."""
    handed: list[Receive] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        handed.append(receive)

    async def receive() -> Message:
        raise AssertionError("the body was read")

    async def send(message: Message) -> None:
        raise AssertionError(message)

    registry = CollectorRegistry()
    middleware = ControlMiddleware(app, planner=planner(), metrics=Metrics(registry))
    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "root_path": "/below"}
    await middleware(scope, receive, send)
    assert handed == [receive]
    assert total(registry, "steersman_refused_total") == 0


async def test_a_deadline_for_a_form_is_refused() -> None:
    headers = {"content-type": "multipart/form-data; boundary=x", "X-Steersman-Timeout": "2"}
    server = Server()
    refused = await server.post(b"", "/v1/audio/transcriptions", headers=headers)
    assert refused.status_code == 400
    assert "does not take X-Steersman-Timeout" in refused.json()["error"]["message"]
    assert await server.metric("steersman_refused_total") == 1
