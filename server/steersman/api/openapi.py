"""`control` in `/openapi.json`: a typed field of the requests and of the responses."""

import asyncio
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from steersman.request import Endpoint
from steersman.schema import control_spec
from steersman_client import Receipt

_REQUESTS = ("ChatCompletionRequest", "CompletionRequest", "ResponsesRequest")
_REF = "#/components/schemas/{model}"


def describe_control(app: FastAPI) -> None:
    """Add `control` to the OpenAPI document of vLLM's app."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _with_control(plain())
        return app.openapi_schema

    # FastAPI's documented way to extend the schema is to replace the method.
    app.openapi = openapi  # type: ignore[method-assign]
    _make_aside(app)


def _make_aside(app: FastAPI) -> None:
    """Have the document made in a thread, once it is asked for: that takes seconds, in which no
    other request would be served."""
    routes = app.router.routes
    route = next(one for one in routes if getattr(one, "path", None) == app.openapi_url)
    assert isinstance(route, Route)
    aside = Route(route.path, _Aside(app, route.app), methods=["GET"], include_in_schema=False)
    routes[routes.index(route)] = aside


class _Aside:
    """The document's route, an ASGI application.

    Args:
        app: The application whose document it is.
        plain: FastAPI's own route, which sends it.

    """

    def __init__(self, app: FastAPI, plain: ASGIApp) -> None:
        self._app = app
        self._plain = plain
        self._lock = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._lock:
            await asyncio.to_thread(self._app.openapi)
        await self._plain(scope, receive, send)


def _with_control(document: dict[str, Any]) -> dict[str, Any]:
    _, definitions = models_json_schema(
        [(control_spec(), "validation"), (Receipt, "serialization")], ref_template=_REF
    )
    schemas = document["components"]["schemas"]
    schemas.update(definitions["$defs"])
    for name in _REQUESTS:
        schemas[name]["properties"]["control"] = {
            "anyOf": [{"$ref": _REF.format(model="ControlSpec")}, {"type": "null"}],
            "description": "Reasoning controls of this request.",
        }
    for path in Endpoint:
        content = document["paths"][path]["post"]["responses"]["200"]["content"]
        content["application/json"] = {
            "schema": {
                "type": "object",
                "description": "OpenAI's response; with the receipt if the request had a control.",
                "properties": {"control": {"$ref": _REF.format(model="Receipt")}},
            }
        }
    return document
