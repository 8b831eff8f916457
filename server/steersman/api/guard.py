"""The guard before all routes: keys, their scopes and their limits."""

import contextlib
from collections.abc import Callable, Collection
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steersman.api import access, keys, request_id
from steersman.api.refusal import Refusal
from steersman.errors import ControlError
from steersman.keys.key import Key
from steersman.keys.ring import Keys
from steersman.keys.usage import PASS, Pass, Usage
from steersman.observe.requests import log_refusal


class Guard:
    """Pure ASGI middleware which lets requests with a key in. WebSockets are requests too.

    Args:
        app: The application inside.
        keys: The server's keys.
        open_metrics: Whether `/metrics` needs no key.
        limited: Called with the name of a limit that refused a request, and that of its key.
        unauthorized: Called with the status of a request without a key that opens its route.

    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys,
        open_metrics: bool = False,
        limited: Callable[[str, str], None] = lambda limit, key: None,
        unauthorized: Callable[[int], None] = lambda status: None,
    ) -> None:
        self._app = app
        self._keys = keys
        self._open = access.OPEN | ({access.METRICS} if open_metrics else frozenset())
        self._unauthorized = unauthorized
        self._usages = {key.name: _usage(key, limited) for key in keys}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or access.path_of(scope) in self._open:
            await self._app(scope, receive, send)
            return
        key, counted = None, access.held(scope)
        try:
            key = self._key(scope)
            self._open_to(key, scope)
            admitted = Pass(self._usages[key.name])
            if counted:
                admitted.usage.check(samples=access.samples(scope))
        except ControlError as error:
            if error.status in (401, 403):
                self._unauthorized(error.status)
            own = request_id.identified(scope)[1]
            log_refusal(own.value, error, key.name if key is not None else None)
            await _refuse(error, scope, receive, send)
            return
        token = PASS.set(admitted)
        try:
            if not counted:
                await self._app(scope, receive, send)
                return
            with contextlib.ExitStack() as held:
                held.enter_context(admitted.held())
                answer = _answering(admitted, held.close, scope, receive, send)
                await self._app(scope, receive, answer)
        finally:
            PASS.reset(token)

    def _key(self, scope: Scope) -> Key:
        """The key of a request.

        Raises:
            ControlError: It has none that is known.

        """
        given = keys.bearer(Headers(scope=scope))
        if given is None:
            raise keys.unknown("this server wants an API key: Authorization: Bearer KEY")
        key = self._keys.find(given)
        if key is None:
            raise keys.unknown("the API key is wrong")
        return key

    def _open_to(self, key: Key, scope: Scope) -> None:
        """Let a key in.

        Raises:
            ControlError: It does not open the route.

        """
        needed = access.opening(access.path_of(scope), operators=self._keys.scoped)
        if needed.isdisjoint(key.scopes):
            raise ControlError(
                f"key {key.name!r} does not open this: that takes the scope "
                f"{' or '.join(sorted(needed))}",
                param=None,
                status=403,
            )


def install(app: FastAPI, outside: Collection[Any], **options: Any) -> None:
    """Put a guard around an application and around all its middleware but these.

    Args:
        app: The application.
        outside: Classes of middleware that every answer goes through, refusals among them.
        options: Of the guard.

    """
    first = [one for one in app.user_middleware if one.cls in outside]
    rest = [one for one in app.user_middleware if one.cls not in outside]
    app.user_middleware[:] = [*first, Middleware(Guard, **options), *rest]


def _usage(key: Key, limited: Callable[[str, str], None]) -> Usage:
    return Usage(key, lambda limit: limited(limit, key.name))


async def _refuse(error: ControlError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket" and "websocket.http.response" not in (
        scope.get("extensions") or {}
    ):
        await send({"type": "websocket.close", "code": 1008, "reason": error.message})
        return
    await Refusal(error)(scope, receive, send)


def _answering(
    admitted: Pass, close: Callable[[], None], scope: Scope, receive: Receive, send: Send
) -> Send:
    """A `send` for a request with limits.

    A client that has its answer may ask again at once, so the request is over when its last part is
    sent, not when its route has returned. And a limit that refused the request inside its route is
    the answer: vLLM has one of its own for each kind of route, and none has `Retry-After`.

    Args:
        admitted: The request.
        close: Called when it is over.
        scope: The request's.
        receive: The request's.
        send: The server's, to be called by the new one.

    """
    if not admitted.key.limits:
        return send
    replaced = False

    async def answer(message: Message) -> None:
        nonlocal replaced
        if message["type"] == "http.response.start" and admitted.refused is not None:
            replaced = True
            close()
            own = request_id.identified(scope)[1]
            log_refusal(own.value, admitted.refused, admitted.key.name)
            await _refuse(admitted.refused, scope, receive, send)
        elif not replaced:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                close()
            await send(message)

    return answer
