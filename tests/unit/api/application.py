"""A made-up application that behaves like vLLM's routes, behind the middleware."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from steersman.api.middleware import ControlMiddleware
from steersman.capabilities import Limits
from steersman.observe.metrics import Metrics
from steersman.scope import CONTROL, REFUSED
from steersman.trajectory.outcome import Outcome
from steersman.trajectory.trajectory import Piece, Start, Trajectory
from tests.unit.samples import total
from tests.unit.servers import planner

CHAT = "/v1/chat/completions"
FIRST = {"search": {"method": "first_finish", "n": 2}}


async def endpoint(request: Request) -> Response:
    """Answers with what it got, and runs two branches in the books if there is a control."""
    body = await request.json()
    control = CONTROL.get()
    if REFUSED.get():
        return JSONResponse({"error": {"message": "vLLM's own words"}, "got": body}, 400)
    if control is not None:
        generation = control.ledger.open()
        for branch in range(control.plan.branches(1)):
            trajectory: Trajectory[Any] = Trajectory(Start(branch))
            trajectory.advance(3, "abort" if branch else "stop")
            generation.branches.append(trajectory)
            generation.started.append(trajectory)
        if control.plan.branches(1) > 1:
            generation.outcome = Outcome((generation.branches[0],), "first")
    if status := body.get("fail"):
        return JSONResponse({"error": {"message": "no"}}, 500 if status is True else status)
    if body.get("stream"):
        return StreamingResponse(_events(body), media_type="text/event-stream")
    headers = request.headers
    answer = {"got": body, "length": int(headers["content-length"])}
    # In ASCII, so that it can quote any body.
    content = json.dumps(answer | {"header": headers.get("x-request-id")})
    return Response(content, media_type="application/json")


async def _events(body: dict[str, Any]) -> AsyncIterator[str]:
    control = CONTROL.get()
    if control is not None and body.get("slow"):
        line = control.ledger.generations[0].branches[0]
        line.finish_reason = None
        line.pieces.append(Piece((7,), "seven", None, None))
        await asyncio.sleep(0.05)
        line.finish_reason = "stop"
    yield 'data: {"created":7,"choices":[{"delta":{"content":"a"},"finish_reason":null}]}\n\n'
    if body.get("break"):
        yield 'data: {"error":{"message":"dead"}}\n\ndata: [DONE]\n\n'
        return
    yield 'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
    yield "data: [DONE]\n\n"


class Server:
    def __init__(self, limits: Limits | None = None, *, measuring: bool = False) -> None:
        paths = [CHAT, "/v1/completions", "/v1/responses", "/v1/messages"]
        inner = Starlette(routes=[Route(path, endpoint, methods=["POST"]) for path in paths])
        self.registry = CollectorRegistry()
        self.app = ControlMiddleware(
            inner,
            planner=planner(limits=limits, measuring=measuring),
            metrics=Metrics(self.registry),
        )

    async def post(self, body: object, path: str = CHAT, **kwargs: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            if isinstance(body, bytes):
                headers = {"content-type": "application/json", **kwargs.pop("headers", {})}
                return await client.post(path, content=body, headers=headers, **kwargs)
            return await client.post(path, json=body, **kwargs)

    async def metric(self, name: str, **labels: str) -> float:
        await asyncio.sleep(0)  # what has ended is counted in the loop's next round
        return total(self.registry, name, **labels)
