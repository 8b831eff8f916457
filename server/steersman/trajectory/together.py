"""Running trajectories side by side."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from typing import Any, Generic, TypeVar

from steersman.trajectory.trajectory import OutputT, Piece, Trajectory

ItemT = TypeVar("ItemT")
_Put = Callable[[ItemT], None]


def pieces(
    trajectories: Sequence[Trajectory[OutputT]],
) -> AsyncGenerator[tuple[Trajectory[OutputT], Piece[OutputT]], None]:
    """Run trajectories to their ends, and yield their pieces as they come.

    Raises:
        Exception: The first error of one of them; the others are cancelled.

    """

    async def run(
        trajectory: Trajectory[OutputT], put: _Put[tuple[Trajectory[OutputT], Piece[OutputT]]]
    ) -> None:
        async for piece in trajectory:
            put((trajectory, piece))

    return _side_by_side(trajectories, run)


def ends(
    trajectories: Sequence[Trajectory[OutputT]],
) -> AsyncGenerator[Trajectory[OutputT], None]:
    """Run trajectories to their ends, and yield each as it ends.

    Raises:
        Exception: The first error of one of them; the others are cancelled.

    """

    async def run(trajectory: Trajectory[OutputT], put: _Put[Trajectory[OutputT]]) -> None:
        await trajectory.run()
        put(trajectory)

    return _side_by_side(trajectories, run)


class Running(Generic[OutputT]):
    """Trajectories that run side by side, each to its end; more of them may join on the way."""

    def __init__(self) -> None:
        self._tasks: dict[Trajectory[OutputT], asyncio.Task[None]] = {}
        self._news = asyncio.Event()

    def add(self, trajectory: Trajectory[OutputT]) -> None:
        """Run one more."""
        self._tasks[trajectory] = asyncio.create_task(self._run(trajectory))

    @property
    def trajectories(self) -> Sequence[Trajectory[OutputT]]:
        """All that have joined, those that have ended included."""
        return tuple(self._tasks)

    def wake(self) -> None:
        """Let whoever waits for news go on."""
        self._news.set()

    async def news(self) -> None:
        """Wait until one of them has come further, or has ended, since the last call."""
        await self._news.wait()
        self._news.clear()

    async def ended(self, trajectory: Trajectory[OutputT]) -> None:
        """Wait for the end of one.

        Raises:
            Exception: It has ended in this.

        """
        await asyncio.shield(self._tasks[trajectory])

    def failed(self, trajectory: Trajectory[OutputT]) -> bool:
        """Tell whether one has ended in an error."""
        task = self._tasks[trajectory]
        return task.done() and not task.cancelled() and task.exception() is not None

    def raise_error(self, trajectory: Trajectory[OutputT]) -> None:
        """Raise the error of one.

        Raises:
            Exception: It has ended in this.

        """
        if self.failed(trajectory):
            self._tasks[trajectory].result()

    async def all_ended(self) -> None:
        """Wait for the ends of all, whatever they end in."""
        await asyncio.gather(*map(asyncio.shield, self._tasks.values()), return_exceptions=True)

    async def close(self) -> None:
        """End all that run."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _run(self, trajectory: Trajectory[OutputT]) -> None:
        try:
            async for _ in trajectory:
                self._news.set()
        finally:
            self._news.set()


async def _side_by_side(
    trajectories: Sequence[Trajectory[OutputT]],
    run: Callable[[Trajectory[OutputT], _Put[ItemT]], Coroutine[Any, Any, None]],
) -> AsyncGenerator[ItemT, None]:
    queue: asyncio.Queue[tuple[ItemT] | None] = asyncio.Queue()

    async def run_all() -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                for one in trajectories:
                    tasks.create_task(run(one, lambda item: queue.put_nowait((item,))))
        finally:
            queue.put_nowait(None)

    running = asyncio.create_task(run_all())
    try:
        while (item := await queue.get()) is not None:
            yield item[0]
        with one_error():
            await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@contextlib.contextmanager
def one_error() -> Iterator[None]:
    """Turn a group of errors into its first one. Trajectories of one request fail alike."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from group
