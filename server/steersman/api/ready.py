"""`/ready`: whether this server should be sent requests now."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from steersman.ending import Ending

ANSWER_SECONDS = 3.0
"""How long the engine may take to say that it runs; a step of it can take a while."""

FRESH_SECONDS = 1.0
"""How long an answer of the engine serves for all who ask: the route needs no key, and whoever asks
often must not keep the engine from its steps."""


class Engine(Protocol):
    """The part of the engine client that tells how the engine is."""

    @property
    def errored(self) -> bool:
        """True if the engine has died."""

    async def is_paused(self) -> bool:
        """Tell whether the engine takes no steps; the engine itself answers."""


def router(
    engine: Engine, ending: Ending, clock: Callable[[], float] = time.monotonic
) -> APIRouter:
    """The route.

    Args:
        engine: Asked when somebody asks, at most once at a time and once a second.
        ending: Whether the server is about to end.
        clock: Tells the time, in seconds.

    """
    routes = APIRouter()
    probe = _Probe(engine, clock)

    @routes.get("/ready", tags=["control"])
    async def ready() -> Response:
        """200 if requests are served now; 503 with the reason if not."""
        reason = await _reason(engine, ending, probe)
        content = {"ready": reason is None, "reason": reason}
        return JSONResponse(
            content,
            status_code=503 if reason else 200,
            headers={"Cache-Control": "no-store"},
        )

    return routes


async def _reason(engine: Engine, ending: Ending, probe: "_Probe") -> str | None:
    if ending.begun:
        return "the server is shutting down"
    if engine.errored:
        return "the engine has died"
    return await probe.reason()


class _Probe:
    """The engine's own answer, one for all who ask at about the same time."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock
        self._asking: asyncio.Task[str | None] | None = None
        self._fresh_until = 0.0

    async def reason(self) -> str | None:
        """Reason that the engine takes no steps; None if it takes them."""
        if self._asking is None or (self._asking.done() and self._clock() >= self._fresh_until):
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)  # whoever hangs up leaves it to the others

    async def _ask(self) -> str | None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                paused = await self._engine.is_paused()
        except TimeoutError:
            return f"the engine has not answered for {ANSWER_SECONDS:g} s"
        finally:
            self._fresh_until = self._clock() + FRESH_SECONDS
        return "the engine is paused" if paused else None
