"""Bodies that the middleware reads, and those that it leaves to the application."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from steersman.api.body import BodyTooLargeError, Controlled
from steersman.api.middleware import ControlMiddleware
from steersman.capabilities import Limits
from steersman.observe.metrics import Metrics
from steersman.scope import REFUSED
from tests.unit.api.application import CHAT, FIRST, Server
from tests.unit.servers import planner

pytestmark = pytest.mark.anyio


CONTENT_TYPES = [
    "application/json",
    "Application/JSON",
    "APPLICATION/JSON; Charset=UTF-8",
    "application/json;charset=utf-8",
    "application/json ;x=y",
    " application/json",
    "application/problem+json",
    "text/plain",
    "application/octet-stream",
    "",
    None,
]


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
@pytest.mark.parametrize("header", ["content-type", "Content-Type", "CONTENT-TYPE"])
async def test_no_content_type_hides_a_control(header: str, content_type: str | None) -> None:
    headers = {} if content_type is None else {header: content_type}
    server = Server()
    for path in (CHAT, "/v1/completions", "/v1/messages"):
        for body in (b'{"control":{"nonsense":1}}', b'{"model":"tiny:slow"}'):
            assert (await bare_post(server, path, body, headers)) == 400, path
    assert await server.metric("steersman_refused_total") == 6


async def bare_post(server: Server, path: str, body: bytes, headers: dict[str, str]) -> int:
    """Post with no header but these; the status."""
    transport = httpx.ASGITransport(app=server.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        request = client.build_request("POST", path, content=body)
        for name in ("content-type", *headers):
            request.headers.pop(name, None)
        request.headers.update(headers)
        return (await client.send(request)).status_code


async def test_forms_are_not_read() -> None:
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        sent.append(await receive())

    async def receive() -> Message:
        return {"type": "http.request", "body": b'{"control": 1}', "more_body": True}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    middleware = ControlMiddleware(app, planner=planner(), metrics=Metrics(CollectorRegistry()))
    headers = [(b"content-type", b"Multipart/form-data; boundary=x")]
    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers}
    await middleware(scope, receive, send)
    assert sent == [{"type": "http.request", "body": b'{"control": 1}', "more_body": True}]


async def test_a_path_below_a_root_path() -> None:
    server = Server()
    transport = httpx.ASGITransport(app=server.app, root_path="/v1")
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        # Not the path that the routes see: nothing is taken off a name that only begins like it.
        mounted = await client.post("/v1" + CHAT, json={"control": FIRST})
        assert mounted.json()["control"]["applied"]["search"]["launched"] == 2
        other = await client.post("/v1" + CHAT[3:], json={"control": FIRST})
    assert other.json()["error"]["param"] == "control"


async def test_a_trailing_slash_is_the_applications_to_answer() -> None:
    server = Server()
    for path in (f"{CHAT}/", f"{CHAT}//", "/v1/messages/"):
        for body in ({}, {"control": FIRST}, {"control": {"nonsense": 1}}, {"model": "tiny:fast"}):
            response = await server.post(body, path=path)
            assert (response.status_code, response.headers["location"]) == (
                307,
                f"http://test{path.rstrip('/')}",
            )


@pytest.mark.parametrize("field", [{"n": 2.5}, {"stream": "maybe"}, {"temperature": "hot"}])
async def test_a_body_that_cannot_be_read_is_the_applications_to_refuse(
    field: dict[str, Any],
) -> None:
    server = Server()
    body = {"model": "tiny:fast", "control": FIRST, **field}
    response = await server.post(body)
    assert response.status_code == 400
    assert response.json()["got"] == {"model": "tiny", **field}
    assert not REFUSED.get()
    assert (await server.post({"model": "tiny"})).status_code == 200


async def test_a_body_nested_too_deeply_is_the_applications_to_refuse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def written(_: Controlled) -> bytes:
        raise RecursionError

    body = {"model": "tiny", "control": {}, "x": [[[]]]}
    assert (await Server().post(body)).json()["got"] == {"model": "tiny", "x": [[[]]]}
    # How deep is too deep depends on the interpreter.
    monkeypatch.setattr(Controlled, "written", written)
    response = await Server().post(body)
    assert (response.status_code, response.json()["got"]) == (400, body)


@pytest.mark.parametrize(
    "control",
    [{"\ud800": 1}, {"profile": "\ud800"}, {"steer": [{"vector": "\ud800"}]}, "\ud800"],
)
async def test_a_refusal_can_quote_what_cannot_be_encoded(control: object) -> None:
    content = json.dumps({"model": "tiny", "control": control}).encode()
    response = await Server().post(content)
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("control")


async def test_a_lone_surrogate_passes_as_it_came() -> None:
    for control in (b"", b', "control": {}'):
        response = await Server().post(rb'{"model": "tiny", "user": "\ud800"' + control + b"}")
        assert response.json()["got"] == {"model": "tiny", "user": "\ud800"}


async def test_a_cancellation_has_no_room_for_a_large_body() -> None:
    """A key's limits do not hold for it, so nobody can fill the memory by it."""
    path, server = "/v1/responses/resp_1/cancel", Server()
    assert (await server.post({"x": "a" * 60_000}, path)).status_code == 404
    assert (await server.post({"x": "a" * 70_000}, path)).status_code == 413
    assert (await server.post({"model": "tiny", "x": "a" * 70_000})).status_code == 200


async def test_a_body_over_the_limit_is_refused() -> None:
    server = Server(Limits(max_body_bytes=64))
    assert (await server.post({"model": "tiny", "x": "a" * 64})).status_code == 413
    assert (await server.post({"model": "tiny"})).status_code == 200


@pytest.mark.parametrize("declared", [True, False])
async def test_a_form_is_bounded_like_every_body(declared: bool) -> None:
    """Forms are not read here: they come to their route as they are."""
    read: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            while True:
                message = await receive()
                read.append(message["body"])
                if not message.get("more_body"):
                    break
        except BodyTooLargeError:
            await Response(status_code=400)(scope, receive, send)
            return
        await Response(status_code=200)(scope, receive, send)

    async def pieces(number: int) -> AsyncIterator[bytes]:
        for _ in range(number):
            yield b"a" * 16

    server = Server(Limits(max_body_bytes=64))
    server.app._app = app
    headers = {"content-type": "Multipart/Form-Data; boundary=a"}
    transport = httpx.ASGITransport(app=server.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

        async def post(number: int) -> int:
            content: Any = b"a" * 16 * number if declared else pieces(number)
            path = "/v1/audio/transcriptions"
            return (await client.post(path, content=content, headers=headers)).status_code

        assert await post(4) == 200
        assert sum(map(len, read)) == 64
        read.clear()
        assert await post(5) == (413 if declared else 400)
        assert sum(map(len, read)) == (0 if declared else 64)
