"""Every route of vLLM's that takes a body: none is reached with a control that it would ignore."""

import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

from steersman.api import access
from steersman.api.middleware import ControlMiddleware
from steersman.observe.metrics import Metrics
from steersman.request import Endpoint
from steersman.scope import CONTROL, REFUSED
from tests.unit.servers import planner

pytestmark = pytest.mark.anyio

SEARCH = {"search": {"method": "first_finish", "n": 2}}
BODIES: list[Any] = [
    {"model": "tiny", "control": SEARCH},
    {"model": "tiny:fast"},
    {"model": "tiny", "control": {"nonsense": 1}},
]


@pytest.fixture(scope="module")
def vllm_app() -> FastAPI:
    """vLLM's application as it serves a generating model, without an engine behind it."""
    args = make_arg_parser(FlexibleArgumentParser()).parse_args([])
    app: FastAPI = build_app(args, ("generate",), None)
    return app


def posts(app: FastAPI) -> set[str]:
    return {
        route.path  # type: ignore[attr-defined]
        for route in app.routes
        if "POST" in (getattr(route, "methods", None) or ())
    }


async def test_the_endpoints_that_take_control_are_vllms(vllm_app: FastAPI) -> None:
    others = {
        "/v1/chat/completions/batch",
        "/v1/messages",
        "/invocations",
        "/inference/v1/generate",
    }
    assert posts(vllm_app) >= {*Endpoint, *others}


async def test_no_route_is_reached_with_a_control_that_it_would_ignore(vllm_app: FastAPI) -> None:
    reached: list[str] = []

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        if CONTROL.get() is None and not REFUSED.get():
            reached.append(scope["path"])

    app = ControlMiddleware(watched, planner=planner(), metrics=Metrics(CollectorRegistry()))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for path in sorted(posts(vllm_app) - set(Endpoint) - access.OPEN):
            for body in BODIES:
                for content_type in ("application/json", "text/plain", "Application/JSON; a=b"):
                    content, headers = json.dumps(body), {"content-type": content_type}
                    answer = await client.post(path, content=content, headers=headers)
                    assert answer.status_code == 400, (path, content_type)
                    assert answer.json()["error"]["param"] in {"control", "model"}
    assert reached == []
