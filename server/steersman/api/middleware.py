"""The control middleware: takes `control` out of a request, plans it, writes the receipt back.

It runs inside vLLM's own middleware (authentication, CORS, request ids) and around its routes.
Requests without a control pass through untouched.
"""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncGenerator, Coroutine

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from steersman.api import body, progress
from steersman.api.answer import Answer
from steersman.api.body import Controlled
from steersman.api.live import LiveValues
from steersman.errors import ControlError
from steersman.observe.metrics import Metrics
from steersman.plan import Plan, Planner
from steersman.request import Endpoint, Request
from steersman.scope import CONTROL, ControlScope
from steersman.steering.desk import Desk


class ControlMiddleware:
    """Pure ASGI middleware around vLLM's routes.

    Args:
        app: The application inside.
        planner: Checks every control.
        metrics: Counts what came of it.
        desk: Hands out what steering needs; None on a server without steering.

    """

    def __init__(
        self, app: ASGIApp, *, planner: Planner, metrics: Metrics, desk: Desk | None = None
    ) -> None:
        self._app = app
        self._planner = planner
        self._metrics = metrics
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _may_hold_control(scope):
            await self._app(scope, receive, send)
            return
        capabilities = self._planner.capabilities
        async with contextlib.AsyncExitStack() as taken:
            try:
                content = await body.read(receive, capabilities.limits.max_body_bytes)
                if content is None:
                    return
                controlled = body.take_control(
                    content, capabilities.model.names, self._planner.profiles
                )
                if controlled is None:
                    await self._app(scope, body.replay(content, receive), send)
                    return
                request = _facts(scope, controlled)
                plan = self._planner.plan(
                    controlled.control, request, profile_suffix=controlled.profile_suffix
                )
                if self._desk is not None:
                    await taken.enter_async_context(self._desk.taken(plan.steering))
            except ControlError as error:
                self._metrics.refused()
                response = JSONResponse(error.body(), error.status, error.headers)
                await response(scope, receive, send)
                return
            await self._run(plan, request, controlled, scope, receive, send)

    async def _run(
        self,
        plan: Plan,
        request: Request,
        controlled: Controlled,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        content = json.dumps(controlled.rest, ensure_ascii=False).encode()
        headers = MutableHeaders(raw=list(scope["headers"]))
        headers["content-length"] = str(len(content))
        request_id = headers.setdefault("x-request-id", uuid.uuid4().hex)
        control = ControlScope(plan)
        if self._desk is not None:
            control = ControlScope(plan, edits=self._desk.applied_edits)
        live = LiveValues(control, request) if plan.monitor and request.stream else None
        answer = Answer(control, receive, send, live)
        token = CONTROL.set(control)
        try:
            async with contextlib.AsyncExitStack() as stack:
                if plan.search is not None and request.stream:
                    reporter = progress.report(
                        control,
                        answer,
                        plan.search,
                        endpoint=request.endpoint,
                        request_id=request_id,
                        model=str(controlled.rest.get("model")),
                    )
                    await stack.enter_async_context(_beside(reporter))
                await self._app(
                    {**scope, "headers": headers.raw},
                    body.replay(content, answer.receive),
                    answer.send,
                )
        finally:
            CONTROL.reset(token)
            # A step can end many requests: their answers go out before the first is counted.
            asyncio.get_running_loop().call_soon(self._count, control, _outcome(answer))

    def _count(self, control: ControlScope, outcome: str) -> None:
        self._metrics.closed(control.plan.method, control.ledger, outcome)
        self._metrics.watched(control.plan, control.ledger)


def _may_hold_control(scope: Scope) -> bool:
    return (
        scope["type"] == "http"
        and scope["method"] == "POST"
        and Headers(scope=scope).get("content-type", "").startswith("application/json")
    )


def _facts(scope: Scope, controlled: Controlled) -> Request:
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    if path not in set(Endpoint):
        raise ControlError(
            f"{path} does not take control; these do: {', '.join(Endpoint)}",
            param="control" if controlled.profile_suffix is None else "model",
        )
    return Request.of(Endpoint(path), controlled.rest)


def _outcome(answer: Answer) -> str:
    if answer.disconnected or not answer.complete:
        return "disconnected"
    return "ok" if answer.answered else "error"


@contextlib.asynccontextmanager
async def _beside(coroutine: Coroutine[None, None, None]) -> AsyncGenerator[None]:
    """Run a coroutine beside the body of the `with`, and end it with the body."""
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
