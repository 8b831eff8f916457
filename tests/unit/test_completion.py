"""Work that is done to its end, whatever becomes of who asked for it."""

import asyncio

import anyio
import pytest

from steersman.completion import completed

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Work:
    """Waits until it is told to go on.

    Attributes:
        begun: It has begun.
        goes_on: It may end.
        done: It has ended.

    """

    def __init__(self, error: Exception | None = None) -> None:
        self.begun, self.goes_on = asyncio.Event(), asyncio.Event()
        self.done = False
        self._error = error

    async def __call__(self) -> int:
        self.begun.set()
        await self.goes_on.wait()
        self.done = True
        if self._error:
            raise self._error
        return 7


async def test_its_outcome_is_that_of_the_work() -> None:
    work = Work()
    work.goes_on.set()
    assert await completed(work()) == 7
    failing = Work(KeyError("k"))
    failing.goes_on.set()
    with pytest.raises(KeyError):
        await completed(failing())


@pytest.mark.parametrize("error", [None, KeyError("k")])
async def test_a_cancelled_caller_is_cancelled_after_it(error: Exception | None) -> None:
    work = Work(error)
    caller = asyncio.create_task(completed(work()))
    await work.begun.wait()
    for _ in range(3):
        caller.cancel()
        await asyncio.sleep(0)
        assert not caller.done()
    work.goes_on.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await caller
    assert work.done
    assert caught.value.__cause__ is error


async def test_a_cancelled_scope_waits_for_it() -> None:
    work, after = Work(), False
    async with anyio.create_task_group() as tasks:

        async def caller() -> None:
            nonlocal after
            await completed(work())
            await asyncio.sleep(0)
            after = True

        tasks.start_soon(caller)
        await work.begun.wait()
        tasks.cancel_scope.cancel()
        work.goes_on.set()
    assert work.done
    assert not after
