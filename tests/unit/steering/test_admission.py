import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from steersman.errors import ControlError
from steersman.steering.admission import Admission

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def holder(admission: Admission, *sums: str) -> AsyncGenerator[Callable[[], None]]:
    """A request that holds its rows until it is told to let go."""
    started, leave = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with admission.admitted(sums):
            started.set()
            await leave.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(hold())
        await started.wait()
        yield leave.set
        leave.set()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_same_sum_is_one_row() -> None:
    admission = Admission(1)

    async with holder(admission, "a"), holder(admission, "a"), holder(admission, "a"):
        assert admission.rows_in_use == 1

    assert admission.rows_in_use == 0


async def test_a_request_waits_for_a_row() -> None:
    admission = Admission(1)
    entered = asyncio.Event()

    async def other() -> None:
        async with admission.admitted(["b"]):
            entered.set()

    async with asyncio.TaskGroup() as group:
        async with holder(admission, "a") as leave:
            group.create_task(other())
            await settle()
            assert admission.waiting == 1
            assert not entered.is_set()
            leave()
        await entered.wait()
    assert admission.rows_in_use == admission.waiting == 0


async def test_a_later_request_does_not_overtake() -> None:
    admission = Admission(2)
    order: list[str] = []

    async def enter(name: str, *sums: str) -> None:
        async with admission.admitted(sums):
            order.append(name)

    async with asyncio.TaskGroup() as group, holder(admission, "a"):
        group.create_task(enter("large", "b", "c"))
        await settle()
        # It would fit, but it came later.
        group.create_task(enter("small", "b"))
        await settle()
        assert order == []
    assert order == ["large", "small"]


async def test_nobody_waits_for_ever() -> None:
    admission = Admission(1, wait_seconds=0.01)

    async with holder(admission, "a"):
        with pytest.raises(ControlError, match="none came free within") as caught:
            async with admission.admitted(["b"]):
                raise AssertionError
        assert admission.waiting == 0

    assert caught.value.status == 429
    assert caught.value.param == "control.steer"
    assert caught.value.headers == {"Retry-After": "1"}
    async with admission.admitted(["b"]):
        assert admission.rows_in_use == 1


async def test_the_queue_is_bounded() -> None:
    admission = Admission(1, max_waiting=0)

    async with holder(admission, "a"):
        with pytest.raises(ControlError, match="0 requests already wait"):
            async with admission.admitted(["b"]):
                raise AssertionError


async def test_a_cancelled_waiter_lets_the_next_one_in() -> None:
    admission = Admission(2)
    entered = asyncio.Event()

    async def enter(*sums: str) -> None:
        async with admission.admitted(sums):
            entered.set()

    async with asyncio.TaskGroup() as group, holder(admission, "a"):
        large = group.create_task(enter("b", "c"))
        await settle()
        group.create_task(enter("b"))
        await settle()
        large.cancel()
        await entered.wait()
    assert admission.rows_in_use == 0


async def test_a_waiter_cancelled_just_as_it_is_admitted_gives_its_row_back() -> None:
    admission = Admission(1)

    async def enter() -> None:
        async with admission.admitted(["b"]):
            raise AssertionError

    async with asyncio.TaskGroup() as group, holder(admission, "a") as leave:
        waiter = group.create_task(enter())
        await settle()
        leave()
        while admission.waiting:
            await asyncio.sleep(0)
        waiter.cancel()
    assert admission.rows_in_use == 0


async def test_waits_are_told_of_by_their_ends() -> None:
    admission = Admission(1, wait_seconds=0.0, max_waiting=1)
    told: list[str] = []
    admission.tell(lambda seconds, end: told.append(end))

    async with holder(admission, "a"):
        assert told == []
        with pytest.raises(ControlError):
            async with admission.admitted(["b"]):
                pass
    assert told == ["refused"]

    waiting = Admission(1, wait_seconds=60)
    waiting.tell(lambda seconds, end: told.append(end))

    async def other() -> None:
        async with waiting.admitted(["b"]):
            pass

    async with holder(waiting, "a"):
        gone, admitted = asyncio.create_task(other()), asyncio.create_task(other())
        await settle()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert told == ["refused", "left"]
    await admitted
    assert told == ["refused", "left", "admitted"]


async def test_a_full_queue_is_a_wait_that_was_refused() -> None:
    admission = Admission(1, max_waiting=0)
    told: list[tuple[float, str]] = []
    admission.tell(lambda seconds, end: told.append((seconds, end)))

    async with holder(admission, "a"):
        with pytest.raises(ControlError):
            async with admission.admitted(["b"]):
                pass
    assert told == [(0.0, "refused")]
