"""`/ready`: whether this server should be sent requests now."""

import asyncio
from typing import Protocol

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from steersman.ending import Ending

ANSWER_SECONDS = 3.0
"""How long the engine may take to say that it runs; a step of it can take a while."""


class Engine(Protocol):
    """The part of the engine client that tells how the engine is."""

    @property
    def errored(self) -> bool:
        """True if the engine has died."""

    async def is_paused(self) -> bool:
        """Tell whether the engine takes no steps; the engine itself answers."""


def router(engine: Engine, ending: Ending) -> APIRouter:
    """The route.

    Args:
        engine: Asked each time.
        ending: Whether the server is about to end.

    """
    routes = APIRouter()

    @routes.get("/ready", tags=["control"])
    async def ready() -> Response:
        """200 if requests are served now; 503 with the reason if not."""
        reason = await _reason(engine, ending)
        content = {"ready": reason is None, "reason": reason}
        return JSONResponse(
            content,
            status_code=503 if reason else 200,
            headers={"Cache-Control": "no-store"},
        )

    return routes


async def _reason(engine: Engine, ending: Ending) -> str | None:
    if ending.begun:
        return "the server is shutting down"
    if engine.errored:
        return "the engine has died"
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            paused = await engine.is_paused()
    except TimeoutError:
        return f"the engine has not answered for {ANSWER_SECONDS:g} s"
    return "the engine is paused" if paused else None
