"""The guard around vLLM's whole application, and around made-up ones."""

import json

import pytest
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.entrypoints.serve.middleware.authenticate import AuthenticationMiddleware
from vllm.utils.argparse_utils import FlexibleArgumentParser

from steersman.api import access, guard, planned, status
from steersman.api.guard import Guard
from steersman.digests import digests
from tests.unit.api.guarded import KEYS, answer, client
from tests.unit.servers import planner

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
ORIGIN = "https://page.example"


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


def _reaching(reached: list[str]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["path"])
        if scope["type"] == "http":
            await answer(scope, receive, send)

    return app
