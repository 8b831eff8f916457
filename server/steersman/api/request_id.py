"""Id of an HTTP request: the client's own or a new one, in the answer and in the log.

vLLM takes the id of its answers and engine requests from the header, so a request without one gets
it there. A client may also name a request by the field `request_id` of its body.
"""

import re
import secrets
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = b"x-request-id"
_KEY = "steersman.request_id"
_FIELD = "request_id"
_SANE = re.compile(r"[!-~]{1,256}")
"""Printable ASCII without spaces: it stands in headers and log lines."""


@dataclass(slots=True)
class RequestId:
    """The id of a request.

    Attributes:
        value: The id.
        named: Whether it came in the client's header, which counts more than a body's field.

    """

    value: str
    named: bool


class RequestIdMiddleware:
    """Pure ASGI middleware around all others: every answer has its request's id.

    Args:
        app: The application inside.

    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope, request_id = identified(scope)

        def send_with_id(message: Message) -> Awaitable[None]:  # a stream sends hundreds
            if message["type"] == "http.response.start":
                header = (HEADER, request_id.value.encode("ascii"))
                message = {**message, "headers": [*message.get("headers", ()), header]}
            return send(message)

        await self._app(scope, receive, send_with_id)


def identified(scope: Scope) -> tuple[Scope, RequestId]:
    """A request with its id, which is also in its headers; and the id.

    Args:
        scope: The request. Its client's id counts if it is a single one and sane.

    """
    known: RequestId | None = scope.get(_KEY)
    if known is not None:
        return scope, known
    given = [value for name, value in scope["headers"] if name == HEADER]
    theirs = given[0].decode("latin-1") if len(given) == 1 else ""
    if _SANE.fullmatch(theirs):
        request_id = RequestId(theirs, named=True)
        return {**scope, _KEY: request_id}, request_id
    request_id = RequestId(secrets.token_hex(16), named=False)
    headers = [*_without_id(scope), (HEADER, request_id.value.encode("ascii"))]
    return {**scope, "headers": headers, _KEY: request_id}, request_id


def may_name(body: bytes) -> bool:
    """Tell whether a body may have the field; one that says no has it not, or has it escaped."""
    return b'"request_id"' in body


def renamed(scope: Scope, body: Mapping[str, Any] | None) -> Scope:
    """A request under the id that its body names, if it names a sane one and no header did.

    Args:
        scope: The request, identified.
        body: Its body; None for one that is no object.

    """
    request_id: RequestId = scope[_KEY]
    theirs = (body or {}).get(_FIELD)
    if request_id.named or not isinstance(theirs, str) or not _SANE.fullmatch(theirs):
        return scope
    request_id.value = theirs
    return {**scope, "headers": _without_id(scope)}  # vLLM would prefer a header


def _without_id(scope: Scope) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in scope["headers"] if name != HEADER]
