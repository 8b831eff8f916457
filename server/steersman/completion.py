"""Work that is done to its end once it has begun, even if its caller is cancelled."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


async def completed(work: Coroutine[Any, Any, T]) -> T:
    """Do some work in a task of its own, and wait for its end even when cancelled meanwhile.

    So a client that hangs up leaves nothing half done. The cancellation goes on afterwards.

    Raises:
        asyncio.CancelledError: The caller was cancelled; the work is done, or has failed.
        Exception: An error of the work.

    """
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):  # or a cancelled scope of anyio's would cancel every wait
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        # A failure is not lost: it is the context of the cancellation.
        raise cancelled from (None if task.cancelled() else task.exception())
    return task.result()
