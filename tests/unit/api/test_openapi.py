"""The OpenAPI document, while other requests are served."""

import asyncio
import threading
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from steersman.api.openapi import _make_aside

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_others_are_served_while_it_is_made() -> None:
    app, asked, go_on = FastAPI(), threading.Event(), threading.Event()
    made: list[int] = []

    def openapi() -> dict[str, Any]:
        asked.set()
        assert go_on.wait(timeout=60)
        made.append(1)
        return {"openapi": "3.1.0"}

    @app.get("/other")
    async def other() -> str:
        return "served"

    app.openapi = openapi  # type: ignore[method-assign]
    _make_aside(app)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        document = asyncio.create_task(client.get("/openapi.json"))
        assert await asyncio.to_thread(asked.wait, 60)
        assert (await client.get("/other")).json() == "served"
        assert not made
        go_on.set()
        assert (await document).json() == {"openapi": "3.1.0"}
