"""The guard around vLLM's whole application, and around made-up ones."""

import asyncio
import json
import logging
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.entrypoints.serve.middleware.authenticate import AuthenticationMiddleware
from vllm.utils.argparse_utils import FlexibleArgumentParser

from steersman.api import access, guard, planned, status
from steersman.api.download import attachment
from steersman.api.guard import Guard
from steersman.digests import digests
from steersman.keys import key as keys
from steersman.keys.key import Key, KeyLimits, digest
from steersman.keys.ring import Keys
from steersman.keys.usage import PASS, LimitError, Pass
from steersman.observe.logs import fields_of
from tests.unit.servers import planner

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
ORIGIN = "https://page.example"
LIMITS = KeyLimits(concurrency=1, fan_out=4, tokens_per_minute=600)
KEYS = Keys(
    ["sk-use"],
    "sk-admin",
    [
        Key("alice", digest("sk-alice"), limits=LIMITS),
        Key("prometheus", digest("sk-prometheus"), frozenset({keys.Scope.METRICS})),
        Key("ops", digest("sk-ops"), frozenset({keys.Scope.ADMIN})),
    ],
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def vllm_app() -> FastAPI:
    """vLLM's application behind the guard, without an engine; a key of vLLM's own is set."""
    args = make_arg_parser(FlexibleArgumentParser()).parse_args(
        ["--allowed-origins", json.dumps([ORIGIN]), "--enable-request-id-headers"]
    )
    args.api_key = [""]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_SERVER_DEV_MODE", "1")
        patch.setenv("VLLM_API_KEY", "vllm")
        app: FastAPI = build_app(args, ("generate", "transcription", "realtime"), None)
    app.include_router(status.router(planner(), lambda: digests(None, {})))
    app.include_router(planned.router(planner()))
    guard.install(app, outside=(CORSMiddleware,), keys=KEYS)
    app.middleware_stack = app.build_middleware_stack()
    return app


def client(app: ASGIApp, key: str | None = None, scheme: str = "Bearer") -> httpx.AsyncClient:
    headers = {} if key is None else {"authorization": f"{scheme} {key}"}
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers)


def routes(app: FastAPI) -> set[tuple[str, str]]:
    """Methods and paths of all routes, with something in place of parameters."""
    found = set()
    for route in app.routes:
        path = getattr(route, "path", "").replace("{", "").replace("}", "")
        for method in getattr(route, "methods", None) or {"GET", "POST"}:
            found.add((method, path))
    return found


async def test_no_route_answers_without_a_key(vllm_app: FastAPI) -> None:
    every = routes(vllm_app)
    assert {path for _, path in every} >= {"/invocations", "/tokenize", "/metrics", "/docs"}
    for key, scheme in ((None, ""), ("vllm", "Bearer"), ("sk-use", "Basic"), ("", "Bearer")):
        async with client(vllm_app, key, scheme) as http:
            for method, path in sorted(every):
                if path in access.OPEN:
                    continue
                for spelling in (path, f"{path}/", f"http://test/{path}"):
                    answer = await http.request(method, spelling)
                    assert answer.status_code == 401, (method, spelling)
                    assert answer.headers["www-authenticate"] == "Bearer"
                if method != "HEAD":
                    error = (await http.request(method, path)).json()["error"]
                    assert error["type"] == "invalid_request_error"
                    assert error["code"] == "invalid_api_key"


async def test_open_paths_are_open(vllm_app: FastAPI) -> None:
    assert {path for _, path in routes(vllm_app)} >= access.OPEN - {"/", "/ready"}
    async with client(vllm_app) as http:
        for path in access.OPEN:
            assert (await http.get(path)).status_code != 401, path
        for method in ("OPTIONS", "TRACE", "PATCH"):
            assert (await http.request(method, CHAT)).status_code == 401


async def test_vllms_own_guard_is_out_of_the_way(vllm_app: FastAPI) -> None:
    assert all(one.cls is not AuthenticationMiddleware for one in vllm_app.user_middleware)
    async with client(vllm_app, "sk-use") as http:
        assert (await http.get("/version")).status_code == 200


@pytest.mark.parametrize(
    ("key", "opened"),
    [
        ("sk-use", {"/version", "/v1/control/capabilities", "/metrics"}),
        ("sk-alice", {"/version", "/v1/control/capabilities", "/metrics"}),
        ("sk-admin", {"/version", "/v1/control/capabilities", "/metrics", "/server_info"}),
        ("sk-ops", {"/v1/control/capabilities", "/metrics", "/server_info"}),
        ("sk-prometheus", {"/metrics"}),
    ],
)
async def test_a_key_opens_what_its_scopes_say(
    vllm_app: FastAPI, key: str, opened: set[str]
) -> None:
    async with client(vllm_app, key) as http:
        for path in ("/version", "/v1/control/capabilities", "/metrics", "/server_info"):
            answer = await http.get(path)
            assert (answer.status_code != 403) is (path in opened), path
            if path not in opened:
                assert "that takes the scope" in answer.json()["error"]["message"]
                assert key not in answer.text


async def test_metrics_can_be_opened() -> None:
    reached: list[str] = []
    app = Guard(_reaching(reached), keys=KEYS, open_metrics=True)
    async with client(app) as http:
        assert (await http.get("/metrics")).status_code == 200
        assert (await http.get("/metrics/else")).status_code == 401
    assert reached == ["/metrics"]


async def test_browsers_are_told_of_refusals_too(vllm_app: FastAPI) -> None:
    asked = {"origin": ORIGIN, "access-control-request-method": "POST"}
    async with client(vllm_app) as http:
        preflight = await http.options(CHAT, headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == ORIGIN
        refused = await http.post(CHAT, headers={"origin": ORIGIN})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == ORIGIN
        stranger = await http.options(CHAT, headers={**asked, "origin": "https://else.example"})
        assert stranger.status_code == 400
        assert "access-control-allow-origin" not in stranger.headers


async def test_capabilities_tell_a_key_of_its_limits(vllm_app: FastAPI) -> None:
    async with client(vllm_app, "sk-alice") as http:
        told = (await http.get("/v1/control/capabilities")).json()["key"]
    assert told == {
        "name": "alice",
        "scopes": ["use"],
        "limits": {"concurrency": 1, "fan_out": 4, "tokens_per_minute": 600},
        "priority": None,
    }


async def test_below_a_path_of_a_proxy() -> None:
    reached: list[str] = []
    inner = Guard(_reaching(reached), keys=KEYS)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await inner({**scope, "root_path": "/api"}, receive, send)

    async with client(app) as http:
        for path, code in (("/api/health", 200), ("/health", 200), ("/api/x/health", 401)):
            assert (await http.get(path)).status_code == code
        assert (await http.get("/apihealth")).status_code == 401
    assert reached == ["/api/health", "/health"]


@pytest.mark.parametrize("denials", [True, False])
@pytest.mark.parametrize("key", [None, "sk-wrong", "sk-prometheus", "sk-use"])
async def test_websockets(key: str | None, denials: bool) -> None:
    sent: list[Message] = []
    reached: list[str] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    authorization = [] if key is None else [(b"authorization", f"Bearer {key}".encode())]
    await Guard(_reaching(reached), keys=KEYS)(
        {
            "type": "websocket",
            "path": "/v1/realtime",
            "headers": authorization,
            "extensions": {"websocket.http.response": {}} if denials else {},
        },
        receive,
        send,
    )
    assert reached == (["/v1/realtime"] if key == "sk-use" else [])
    if key == "sk-use":
        return
    if denials:
        assert sent[0]["type"] == "websocket.http.response.start"
        assert sent[0]["status"] == (403 if key == "sk-prometheus" else 401)
    else:
        assert (sent[0]["type"], sent[0]["code"]) == ("websocket.close", 1008)


class Endpoint:
    """An application that waits in each request, or ends it some other way."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        admitted = PASS.get()
        assert admitted is not None
        match scope["path"]:
            case "/fail":
                raise RuntimeError("no")
            case "/many":
                try:
                    admitted.check_fan_out(8)
                except LimitError:
                    await _answer(scope, receive, send, 500)
                    return
            case "/charge":
                admitted.usage.charge(100_000)
            case "/wait":
                self.entered.set()
                await self.go_on.wait()
        await _answer(scope, receive, send)


def alice(endpoint: ASGIApp, counted: list[tuple[str, str]]) -> httpx.AsyncClient:
    app = Guard(endpoint, keys=KEYS, limited=lambda *labels: counted.append(labels))
    return client(app, "sk-alice")


def over(answer: httpx.Response, limit: str) -> None:
    """Check that a request was refused by a limit of alice's."""
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (429, "rate_limit_error")
    assert error["code"] == "rate_limit_exceeded"
    assert error["message"].startswith(f"key 'alice' is over its limit {limit} = ")
    assert int(answer.headers["retry-after"]) >= 1
    assert "sk-alice" not in answer.text


async def test_requests_at_once() -> None:
    endpoint, counted = Endpoint(), list[tuple[str, str]]()
    async with alice(endpoint, counted) as http, asyncio.TaskGroup() as group:
        first = group.create_task(http.post("/wait"))
        await endpoint.entered.wait()
        over(await http.post("/wait"), "concurrency")
        assert (await http.get("/v1/models")).status_code == 200
        endpoint.go_on.set()
        assert (await first).status_code == 200
        assert (await http.post("/wait")).status_code == 200
    assert counted == [("concurrency", "alice")]


async def test_memory_counts_as_well_as_work_does() -> None:
    """Bodies are kept while they come, and files while they are sent."""
    endpoint, counted = Endpoint(), list[tuple[str, str]]()
    async with alice(endpoint, counted) as http, asyncio.TaskGroup() as group:
        first = group.create_task(http.post("/wait"))
        await endpoint.entered.wait()
        over(await http.post("/v1/control/plan"), "concurrency")
        over(await http.get("/v1/control/vectors/one"), "concurrency")
        for method, path in (
            ("GET", "/v1/control/capabilities"),
            ("POST", "/v1/responses/resp_1/cancel"),
        ):
            assert (await http.request(method, path)).status_code == 200
        endpoint.go_on.set()
        assert (await first).status_code == 200
    assert counted == [("concurrency", "alice")] * 2


async def test_a_key_without_tokens_may_still_plan() -> None:
    async with alice(Endpoint(), []) as http:
        assert (await http.post("/charge")).status_code == 200
        assert (await http.post("/ok")).status_code == 429
        assert (await http.post("/v1/control/plan")).status_code == 200


async def test_refusals_are_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    counted: list[int] = []
    app = Guard(Endpoint(), keys=KEYS, unauthorized=counted.append)
    caplog.set_level(logging.INFO, "steersman.observe.requests")
    for key, path in (
        (None, "/ok"),
        ("sk-wrong", "/ok"),
        ("sk-prometheus", "/ok"),
        ("sk-alice", "/charge"),
        ("sk-alice", "/ok"),
    ):
        async with client(app, key) as http:
            await http.post(path, headers={"x-request-id": "mine"})
    assert counted == [401, 401, 403]
    refused = {"request_id": "mine", "outcome": "refused"}
    assert [dict(fields_of(one)) for one in caplog.records] == [
        {**refused, "status": 401},
        {**refused, "status": 401},
        {**refused, "status": 403, "key": "prometheus"},
        {**refused, "status": 429, "key": "alice"},
    ]
    assert "sk-" not in caplog.text


async def test_a_client_that_hangs_up_or_a_route_that_fails_leaves_nothing_behind() -> None:
    endpoint, counted = Endpoint(), list[tuple[str, str]]()
    async with alice(endpoint, counted) as http:
        gone = asyncio.create_task(http.post("/wait"))
        await endpoint.entered.wait()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert (await http.post("/fail")).status_code == 500
        assert (await http.post("/ok")).status_code == 200
    assert counted == []


async def test_tokens_of_a_minute() -> None:
    counted: list[tuple[str, str]] = []
    async with alice(Endpoint(), counted) as http:
        assert (await http.post("/charge")).status_code == 200
        refused = await http.post("/ok")
    over(refused, "tokens_per_minute")
    assert int(refused.headers["retry-after"]) > 9000  # ten a second come back
    assert counted == [("tokens_per_minute", "alice")]


async def test_a_fan_out_that_is_refused_inside_its_route(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counted: list[tuple[str, str]] = []
    caplog.set_level(logging.INFO, "steersman.observe.requests")
    async with alice(Endpoint(), counted) as http:
        refused = await http.post("/many")
    (logged,) = (fields_of(one) for one in caplog.records)
    assert (logged["status"], logged["key"]) == (429, "alice")
    over(refused, "fan_out")
    assert refused.headers["x-should-retry"] == "false"
    assert counted == [("fan_out", "alice")]


@pytest.mark.parametrize(("path", "running"), [("/ok", [1, 0]), ("/many", [0, 0])])
async def test_a_request_is_over_before_its_client_knows(path: str, running: list[int]) -> None:
    """Its client may ask again as soon as it has the answer, whatever the route still does."""
    passes: list[Pass] = []
    seen: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        admitted = PASS.get()
        assert admitted is not None
        passes.append(admitted)
        await Endpoint()(scope, receive, send)

    async def send(message: Message) -> None:
        seen.append(passes[0].usage.running)

    async def receive() -> Message:
        return {"type": "http.request"}

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [(b"authorization", b"Bearer sk-alice")],
    }
    await Guard(app, keys=KEYS)(scope, receive, send)
    assert seen == running
    assert passes[0].usage.running == 0


async def test_a_file_counts_while_its_client_takes_it() -> None:
    sizes: list[int] = []
    passes: list[Pass] = []
    running: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        admitted = PASS.get()
        assert admitted is not None
        passes.append(admitted)
        await attachment(b"x" * 200_000, "one.gguf")(scope, receive, send)

    async def send(message: Message) -> None:
        if body := message.get("body"):
            sizes.append(len(body))
            running.append(passes[0].usage.running)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    path, bearer = "/v1/control/vectors/one", b"Bearer sk-alice"
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": [(b"authorization", bearer)],
    }
    await Guard(app, keys=KEYS)(scope, receive, send)
    assert sizes == [65_536] * 3 + [3_392]
    assert running == [1] * 4
    assert passes[0].usage.running == 0


async def test_no_key_has_a_pass_of_another() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        admitted = PASS.get()
        seen.append(admitted.key.name if admitted else "")
        await _answer(scope, receive, send)

    guarded = Guard(app, keys=KEYS)
    for key in ("sk-alice", "sk-use"):
        async with client(guarded, key) as http:
            await http.post("/ok")
            await http.get("/health")
    assert seen == ["alice", "", "api-key", ""]
    assert PASS.get() is None


def _reaching(reached: list[str]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["path"])
        if scope["type"] == "http":
            await _answer(scope, receive, send)

    return app


async def _answer(scope: Scope, receive: Receive, send: Send, code: int = 200) -> None:
    headers: list[Any] = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})
