"""The control middleware: takes `control` out of a request, plans it, writes the receipt back.

It runs inside vLLM's own middleware (authentication, CORS, request ids) and around its routes.
Requests without a control pass through untouched.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from steersman.api import access, body, deadline, facts, request_id, traced
from steersman.api.answer import Answer
from steersman.api.beside import HungUpError, beside, while_connected
from steersman.api.body import Controlled
from steersman.api.chunks import ChunkHead
from steersman.api.live import LiveValues
from steersman.api.planned import PATH as PLAN
from steersman.api.progress import Reporter
from steersman.api.refusal import Refusal, refuses
from steersman.capabilities import Capabilities
from steersman.controls.events import EventsPart
from steersman.controls.limits import LimitsPart
from steersman.controls.monitor import MonitorPart
from steersman.controls.search import SearchPart
from steersman.errors import ControlError
from steersman.frontend.queue import places
from steersman.keys.usage import PASS, LimitError
from steersman.observe.metrics import Metrics
from steersman.observe.requests import log_end, log_refusal
from steersman.plan import Plan, Planner
from steersman.request import Endpoint, Request
from steersman.scope import CONTROL, REFUSED, ControlScope
from steersman.steering.desk import Desk
from steersman.tracing import NO_SPAN, NO_TRACING, Span, Tracing

logger = logging.getLogger(__name__)

_CANCEL_BYTES = 2**16
"""The longest body of a cancellation, which needs none."""
_HUNG_UP = 499
"""Status of a request whose client has gone, for whoever counts answers."""


class ControlMiddleware:
    """Pure ASGI middleware around vLLM's routes.

    Args:
        app: The application inside.
        planner: Checks every control.
        metrics: Counts the requests and their outcomes.
        desk: Hands out rows and edits; None on a server without steering.
        tracing: Makes spans of the requests.

    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        planner: Planner,
        metrics: Metrics,
        desk: Desk | None = None,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._app = app
        self._planner = planner
        self._metrics = metrics
        self._desk = desk
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _has_body(scope):
            await self._app(scope, receive, send)
            return
        if _is_form(scope):
            # Its parts, those of a long recording, begin one by one: each is admitted by itself.
            await self._form(scope, receive, send)
            return
        with places():
            await self._json(scope, receive, send)

    async def _json(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Plan a request that has a control, and run it; hand on any other."""
        capabilities, span = self._planner.capabilities, NO_SPAN
        async with contextlib.AsyncExitStack() as taken:
            try:
                content = await body.read(receive, _longest(scope, capabilities))
                if content is None:
                    return
                controlled = body.take_control(
                    content, capabilities.model.names, self._planner.profiles
                )
                seconds = deadline.read(Headers(scope=scope))
                if controlled is None and seconds is not None:
                    controlled = body.uncontrolled(content)
                if controlled is None:
                    scope = _named(scope, content)
                    await self._app(scope, body.replay(content, receive), send)
                    return
                scope = request_id.renamed(request_id.identified(scope)[0], controlled.rest)
                request = _facts(scope, controlled, capabilities)
                rest = _written(controlled)
                if request is None or rest is None:
                    await self._refused(scope, content if rest is None else rest, receive, send)
                    return
                span = traced.begin(self._tracing, request.endpoint, controlled.rest, scope)
                taken.callback(span.close)
                with span.within("plan"):
                    plan = self._planner.plan(
                        controlled.control,
                        request,
                        profile_suffix=controlled.profile_suffix,
                        seconds=seconds,
                    )
                if (admitted := PASS.get()) is not None:
                    admitted.check_fan_out(plan.branches(request.choices) * request.prompts)
                scope, own = request_id.identified(_sized(scope, rest))
                control = self._opened(plan, own.value, span)
                with span.within("hold"):
                    waits = await self._hold(control, taken, receive)
            except ControlError as error:
                own = request_id.identified(scope)[1]
                self._metrics.refused()
                if not isinstance(error, LimitError):  # the guard logs those, with their key
                    log_refusal(own.value, error)
                traced.refuse(span, own.value, error)
                await Refusal(error)(scope, receive, send)
                return
            if not waits:
                self._end(control, "disconnected", 0)
                await Response(status_code=_HUNG_UP)(scope, receive, send)  # nobody gets it
                return
            head = self._chunk_head(plan, controlled.rest, own.value)
            await self._run(control, head, scope, body.replay(rest, receive), send)

    async def _hold(
        self, control: ControlScope, taken: contextlib.AsyncExitStack, receive: Receive
    ) -> bool:
        """Take the rows and edits of a request, for as long as the stack is not unwound.

        Returns:
            Whether the client has waited for them.

        Raises:
            ControlError: They were not free in time.

        """
        if self._desk is None:
            return True
        limits = control.plan.part(LimitsPart)
        within = limits.limits.max_seconds if limits is not None else None
        try:
            async with while_connected(receive):
                for part in control.plan.parts:
                    await taken.enter_async_context(part.held(self._desk, within))
        except HungUpError:
            return False
        return True

    def _opened(self, plan: Plan, own_id: str, span: Span) -> ControlScope:
        edits = self._desk.applied_edits if self._desk is not None else tuple
        control = ControlScope.of(plan, self._max_forks(), edits, own_id, span)
        traced.planned(control)
        return control

    async def _form(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on a form, an audio file for one: it holds no control, and is not read here."""
        limit, headers = self._planner.capabilities.limits.max_body_bytes, Headers(scope=scope)
        error: ControlError | None = None
        if body.declared(headers) > limit:
            error = body.BodyTooLargeError(limit)
        elif deadline.HEADER in headers:
            error = _not_here(access.path_of(scope), deadline.HEADER, None)
        if error is not None:
            self._metrics.refused()
            log_refusal(request_id.identified(scope)[1].value, error)
            await Refusal(error)(scope, receive, send)
            return
        await self._app(scope, body.bounded(receive, limit), send)

    async def _refused(self, scope: Scope, content: bytes, receive: Receive, send: Send) -> None:
        """Have vLLM say what is wrong with a request that could not be planned."""
        token = REFUSED.set(True)
        try:
            await self._app(_sized(scope, content), body.replay(content, receive), send)
        finally:
            REFUSED.reset(token)

    async def _run(
        self,
        control: ControlScope,
        head: ChunkHead | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        plan, request = control.plan, control.plan.request
        events = told.kinds if (told := plan.part(EventsPart)) else frozenset()
        monitor = plan.part(MonitorPart) if request.stream else None
        live = LiveValues(control, monitor) if monitor is not None else None
        reporter = Reporter(control.ledger, events, head)
        answer = Answer(control, receive, send, live, reporter.news if events else None, head)
        token, failed = CONTROL.set(control), False
        try:
            async with contextlib.AsyncExitStack() as stack:
                if request.stream and (events or plan.part(SearchPart)):
                    await stack.enter_async_context(beside(reporter.report(answer)))
                await self._app(scope, answer.receive, answer.send)
        except Exception as error:
            failed = not isinstance(error, ClientDisconnect)
            if not await answer.break_off():
                raise
            fields = {"request_id": control.request_id}
            logger.exception("The stream of a request broke off", extra={"fields": fields})
        finally:
            CONTROL.reset(token)
            # Whatever the application raises before its answer has begun is answered with a 500.
            status = answer.status or (500 if failed else 0)
            self._end(control, _outcome(answer, failed=failed), status)

    def _end(self, control: ControlScope, outcome: str, status: int) -> None:
        traced.end(control, outcome, status)
        # A step can end many requests: their answers go out before the first is counted.
        asyncio.get_running_loop().call_soon(self._tell, control, outcome, status)

    def _max_forks(self) -> int:
        """Engine requests of a request that may be in flight: over it they wait."""
        server, admitted = self._planner.capabilities.limits.max_forks, PASS.get()
        own = admitted.key.limits.fan_out if admitted is not None else None
        return server if own is None else min(server, own)

    def _chunk_head(self, plan: Plan, rest: Mapping[str, Any], own_id: str) -> ChunkHead | None:
        """The common fields of the chunks of a stream that may need some of our own: with events,
        or with a limit; None for any other."""
        own = plan.part(EventsPart) or plan.part(LimitsPart)
        if own is None or plan.request.endpoint is Endpoint.RESPONSES:
            return None
        names, model = self._planner.capabilities.model.names, rest.get("model")
        # vLLM answers under its first name, or under that of an adapter.
        shown = names[0] if not model or model in names else str(model)
        return ChunkHead(plan.request.endpoint, own_id, shown)

    def _tell(self, control: ControlScope, outcome: str, status: int) -> None:
        self._metrics.closed(control.plan, control.ledger, outcome)
        log_end(control, outcome, status)


def _has_body(scope: Scope) -> bool:
    """Tell whether a body is to be read, or bounded; plans and uploads are read by their routes."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    # What is open to everybody reads no body, so nobody's is kept for it.
    path = access.path_of(scope)
    return path != PLAN and path not in access.OPEN


def _longest(scope: Scope, capabilities: Capabilities) -> int:
    """The most bytes that a body may have."""
    limit = capabilities.limits.max_body_bytes
    # One that a key's limits do not hold for is not there to be large.
    return min(limit, _CANCEL_BYTES) if access.cancels(access.path_of(scope)) else limit


def _is_form(scope: Scope) -> bool:
    """Tell whether a body is a form: any other is JSON, whatever its headers call it."""
    return Headers(scope=scope).get("content-type", "").lower().startswith("multipart/")


def _facts(scope: Scope, controlled: Controlled, server: Capabilities) -> Request | None:
    """The facts of a body; None if vLLM does not take the request.

    Raises:
        ControlError: It takes the request, and no control.

    """
    path = access.path_of(scope)
    if path in set(Endpoint):
        return facts.read(Endpoint(path), controlled.rest, server.tool_grammar, server.defaults)
    if path.endswith("/"):
        return None  # no route does: vLLM names the path without the slash
    if controlled.profile_suffix is not None:
        raise _not_here(path, "control", "model")
    if controlled.control is not None:
        raise _not_here(path, "control", "control")
    raise _not_here(path, deadline.HEADER, None)


def _not_here(path: str, asked: str, param: str | None) -> ControlError:
    return ControlError(
        f"{path} does not take {asked}; these do: {', '.join(Endpoint)}", param=param
    )


def _written(controlled: Controlled) -> bytes | None:
    """The body for vLLM; None if it is nested so deeply that vLLM cannot read it either."""
    try:
        return controlled.written()
    except RecursionError:
        return None


def _sized(scope: Scope, content: bytes) -> Scope:
    headers = MutableHeaders(raw=list(scope["headers"]))
    headers["content-length"] = str(len(content))
    return {**scope, "headers": headers.raw}


def _named(scope: Scope, content: bytes) -> Scope:
    """A request without control, under the id that its body names, if it does."""
    if not request_id.may_name(content):
        return scope
    return request_id.renamed(request_id.identified(scope)[0], body.plain(content))


def _outcome(answer: Answer, *, failed: bool) -> str:
    if answer.disconnected:
        return "disconnected"
    if failed:
        return "error"
    if not answer.complete:
        return "disconnected"
    if answer.answered:
        return "ok"
    return "refused" if refuses(answer.status) else "error"
