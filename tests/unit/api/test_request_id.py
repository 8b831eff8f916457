"""Ids of requests: in answers, for the routes, and from whoever names them."""

import json
import re
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steersman.api.middleware import ControlMiddleware
from steersman.api.request_id import RequestIdMiddleware
from steersman.observe.metrics import Metrics
from tests.unit.servers import planner

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
MADE = re.compile(r"[0-9a-f]{32}")


async def endpoint(request: Request) -> Response:
    """Answers with the ids that it could take, as vLLM does: the header's before the body's."""
    body = await request.json()
    if body.get("break"):
        raise RuntimeError("broken")
    return JSONResponse({"used": request.headers.get("x-request-id", body.get("request_id"))})


@pytest.fixture
def app() -> ASGIApp:
    routes = [Route(CHAT, endpoint, methods=["POST"])]
    inner: Any = Starlette(routes=routes)
    controlled = ControlMiddleware(inner, planner=planner(), metrics=Metrics(CollectorRegistry()))
    return RequestIdMiddleware(controlled)


async def post(app: ASGIApp, body: object, *ids: str | bytes) -> httpx.Response:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        headers: Any = [("x-request-id", one) for one in ids]
        return await client.post(CHAT, json=body, headers=headers)


CONTROLS = pytest.mark.parametrize("control", [None, {}], ids=["plain", "controlled"])


@CONTROLS
async def test_the_clients_id_comes_back(app: ASGIApp, control: object) -> None:
    answer = await post(app, {"control": control}, "mine-1:a")
    assert answer.headers.get_list("x-request-id") == ["mine-1:a"]
    assert answer.json()["used"] == "mine-1:a"


@CONTROLS
@pytest.mark.parametrize(
    "ids", [(), ("",), ("a b",), ("é".encode("latin-1"),), ("x" * 257,), ("a", "b")]
)
async def test_without_a_sane_one_an_id_is_made(
    app: ASGIApp, control: object, ids: tuple[str | bytes, ...]
) -> None:
    answers = [await post(app, {"control": control}, *ids) for _ in range(2)]
    made = [answer.headers["x-request-id"] for answer in answers]
    assert all(MADE.fullmatch(one) for one in made)
    assert len({*made}) == 2
    assert [answer.json()["used"] for answer in answers] == made


@CONTROLS
async def test_a_body_names_its_request_if_no_header_does(app: ASGIApp, control: object) -> None:
    body = {"control": control, "request_id": "the body's".replace(" ", "-")}
    answer = await post(app, body)
    assert answer.headers["x-request-id"] == answer.json()["used"] == "the-body's"
    both = await post(app, body, "header")
    assert both.headers["x-request-id"] == both.json()["used"] == "header"


@CONTROLS
@pytest.mark.parametrize("named", ["a\r\nset-cookie: b", "x" * 257, "", 3, None])
async def test_an_id_that_no_header_could_have_is_not_used(
    app: ASGIApp, control: object, named: object
) -> None:
    answer = await post(app, {"control": control, "request_id": named})
    assert MADE.fullmatch(answer.headers["x-request-id"])
    assert answer.json()["used"] == answer.headers["x-request-id"]


async def test_an_id_in_a_message_names_nothing(app: ASGIApp) -> None:
    message = json.dumps({"request_id": "inner"})
    for body in ({"messages": [{"content": message}]}, {"metadata": {"request_id": "inner"}}):
        answer = await post(app, body)
        assert answer.json()["used"] == answer.headers["x-request-id"] != "inner"


async def test_the_receipt_has_the_id(app: ASGIApp) -> None:
    answer = await post(app, {"control": {}})
    assert answer.json()["control"]["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("body", [{"control": 3}, {"break": True}])
async def test_errors_have_an_id_too(app: ASGIApp, body: object) -> None:
    answer = await post(app, body, "mine")
    assert answer.status_code in (400, 500)
    assert answer.headers["x-request-id"] == "mine"


async def test_what_is_no_http_passes_untouched() -> None:
    seen: list[Scope] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def nothing(message: Message | None = None) -> Any:
        raise AssertionError

    scope: Scope = {"type": "websocket", "headers": []}
    await RequestIdMiddleware(inner)(scope, nothing, nothing)
    assert seen == [{"type": "websocket", "headers": []}]
