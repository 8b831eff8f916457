"""Admission to the bank: no more distinct sums in flight than the engine has rows for."""

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from steersman.errors import ControlError

WAIT_SECONDS = 10.0
"""How long a request waits for rows, unless an option says otherwise."""

Waited = Literal["admitted", "refused", "left"]
"""End of a wait for rows: with them, without them, or because the client had gone."""


@dataclass(eq=False, slots=True)
class _Waiter:
    sums: frozenset[str]
    admitted: asyncio.Event = field(default_factory=asyncio.Event)


class Admission:
    """Requests whose sums are in use already, or for which there are free rows, go on at once.

    Others wait in the order of their arrival, for a bounded time and in a bounded queue.

    Args:
        rows: Rows of the engine's bank.
        wait_seconds: How long a request may wait.
        max_waiting: How many may wait.

    """

    def __init__(
        self, rows: int, *, wait_seconds: float = WAIT_SECONDS, max_waiting: int = 256
    ) -> None:
        self.rows = rows
        self._wait_seconds = wait_seconds
        self._max_waiting = max_waiting
        self._holders: Counter[str] = Counter()
        self._waiting: deque[_Waiter] = deque()
        self._told: Callable[[float, Waited], None] = lambda seconds, end: None

    def tell(self, told: Callable[[float, Waited], None]) -> None:
        """Tell of each wait from now on: of its seconds and its end."""
        self._told = told

    @property
    def rows_in_use(self) -> int:
        return len(self._holders)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @contextlib.asynccontextmanager
    async def admitted(
        self, sums: Iterable[str], within: float | None = None
    ) -> AsyncGenerator[None]:
        """Hold the rows of some sums for the body of the `async with`.

        Args:
            sums: Their digests.
            within: Seconds to wait at most, if less than `wait_seconds`.

        Raises:
            ControlError: No room in time: HTTP 429 with `Retry-After`.

        """
        wanted = frozenset(sums)
        if self._waiting or not self._fits(wanted):
            await self._wait(wanted, self._wait_seconds if within is None else within)
        else:
            self._holders.update(wanted)
        try:
            yield
        finally:
            self._release(wanted)

    def _release(self, sums: frozenset[str]) -> None:
        self._holders.subtract(sums)
        self._holders = +self._holders
        self._admit()

    def _fits(self, wanted: frozenset[str]) -> bool:
        return len(self._holders.keys() | wanted) <= self.rows

    async def _wait(self, wanted: frozenset[str], within: float) -> None:
        most = min(within, self._wait_seconds)
        if len(self._waiting) >= self._max_waiting:
            self._told(0.0, "refused")
            raise self._busy(f"{len(self._waiting)} requests already wait")
        waiter, began = _Waiter(wanted), time.perf_counter()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(most):
                await waiter.admitted.wait()
        except BaseException as error:
            # It may have been admitted in the very step in which it was cancelled or timed out.
            if waiter.admitted.is_set():
                self._release(wanted)
            else:
                self._waiting.remove(waiter)
                self._admit()
            refused = isinstance(error, TimeoutError)
            self._told(time.perf_counter() - began, "refused" if refused else "left")
            if refused:
                raise self._busy(f"none came free within {most:g} s") from None
            raise
        self._told(time.perf_counter() - began, "admitted")

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0].sums):
            waiter = self._waiting.popleft()
            self._holders.update(waiter.sums)
            waiter.admitted.set()

    def _busy(self, why: str) -> ControlError:
        return ControlError(
            f"all {self.rows} steering rows of this server are in use by other configurations, "
            f"and {why}: try again later, or use a configuration that others use too",
            param="control.steer",
            status=429,
            headers={"Retry-After": str(max(1, round(self._wait_seconds)))},
        )
