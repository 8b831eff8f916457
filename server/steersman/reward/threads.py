"""Threads for work that blocks, which hold up neither the event loop nor the server's end."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

ResultT = TypeVar("ResultT")


class Threads:
    """Runs each call in a thread of its own.

    A thread cannot be stopped: a call that is cancelled goes on to its end, and its result is lost.

    Args:
        most_given_up: Calls that may still run after they were cancelled; once as many do, further
            ones are refused.

    """

    def __init__(self, most_given_up: int = 4) -> None:
        self._most_given_up = most_given_up
        self._given_up = 0

    async def run(self, function: Callable[..., ResultT], *args: object) -> ResultT:
        """The result of a function that blocks.

        Raises:
            RuntimeError: Too many calls still run that were given up.

        """
        if self._given_up >= self._most_given_up:
            raise RuntimeError(f"{self._given_up} calls that took too long are still running")
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[ResultT] = loop.create_future()

        def settle(result: list[ResultT], fault: Exception | None) -> None:
            if ended.cancelled():
                self._given_up -= 1
            elif fault is not None:
                ended.set_exception(fault)
            else:
                ended.set_result(result[0])

        def work() -> None:
            result: list[ResultT] = []
            fault: Exception | None = None
            try:
                result.append(function(*args))
            except (StopIteration, SystemExit, KeyboardInterrupt) as error:
                fault = RuntimeError(repr(error))  # no future takes these
            except Exception as error:
                fault = error
            with contextlib.suppress(RuntimeError):  # the event loop has ended
                loop.call_soon_threadsafe(settle, result, fault)

        threading.Thread(target=work, name="reward", daemon=True).start()
        try:
            return await ended
        except asyncio.CancelledError:
            if ended.cancelled():
                self._given_up += 1
            raise
