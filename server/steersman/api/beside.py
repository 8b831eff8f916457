"""Tasks beside the handling of a request, which end with it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine

from starlette.types import Receive


class HungUpError(Exception):
    """The client hung up while its request was waiting."""


@contextlib.asynccontextmanager
async def beside(coroutine: Coroutine[None, None, None]) -> AsyncGenerator[None]:
    """Run a coroutine beside the body of the `async with`, and end it with the body."""
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


@contextlib.asynccontextmanager
async def while_connected(receive: Receive) -> AsyncGenerator[None]:
    """Cancel the body of the `async with` when the client hangs up.

    Args:
        receive: Of ASGI; the whole body of the request has been read from it.

    Raises:
        HungUpError: It did.

    """

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        hung_up.reschedule(asyncio.get_running_loop().time())

    try:
        async with asyncio.timeout(None) as hung_up, beside(watch()):
            yield
    except TimeoutError:
        if not hung_up.expired():
            raise
        raise HungUpError from None
