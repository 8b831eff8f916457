"""Running trajectories side by side."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

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
