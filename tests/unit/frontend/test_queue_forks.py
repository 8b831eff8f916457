"""Forks of a search: they take the places in the queue that no branch needs."""

import asyncio
from typing import Any

import pytest
from vllm.exceptions import GracefulHTTPError
from vllm.outputs import RequestOutput
from vllm.sampling_params import SamplingParams

from steersman.frontend.carrier import Carrier
from steersman.frontend.queue import Queue, places
from steersman.frontend.source import Call, EngineSource
from steersman.trajectory.trajectory import Start, Trajectory
from tests.unit.frontend.queued import Vllm, settle
from tests.unit.frontend.scripted import PROMPT

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def forks(number: int) -> list[Start[RequestOutput]]:
    return [Start(0, suffix=(1,), bare=True)] * number


class Searched:
    """A search of one request, admitted with three branches."""

    def __init__(self, room: int, at_once: int = 64) -> None:
        self.vllm = Vllm(room)
        client: Any = self.vllm
        queue: Any = Queue(client)
        queue.check_admission(3)
        call = Call(PROMPT, SamplingParams(max_tokens=None), "r", {})
        self.source = EngineSource(queue, call, Carrier(longest=1000), asyncio.Semaphore(at_once))
        self.started: list[Trajectory[RequestOutput]] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(self, starts: list[Start[RequestOutput]]) -> None:
        started = self.source.start_all(starts)
        self.started.extend(started)
        self.tasks.extend(asyncio.create_task(one.run()) for one in started)
        await settle()

    async def end(self) -> None:
        self.vllm.go.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_forks_take_the_places_that_no_branch_needs() -> None:
    with places() as own:
        search = Searched(room=3)
        await search.begin([Start(0)])
        await search.begin(forks(2))
        assert (len(search.vllm.running), own.kept, own.waiting) == (3, 0, 0)
        with pytest.raises(GracefulHTTPError):
            search.source.start_all(forks(1))
        await search.end()


async def test_forks_leave_their_places_to_branches_that_wait() -> None:
    with places():
        search = Searched(room=3, at_once=1)
        await search.begin([Start(0), Start(1), Start(2)])
        assert len(search.vllm.running) == 1
        with pytest.raises(GracefulHTTPError):
            search.source.start_all(forks(1))
        await search.end()
        assert [one.finished for one in search.started] == [True] * 3


@pytest.mark.parametrize("cancelled", [True, False])
async def test_forks_take_the_places_of_those_that_never_begin(cancelled: bool) -> None:
    with places() as own:
        search = Searched(room=3, at_once=1)
        await search.begin([Start(0), Start(1), Start(2)])
        if cancelled:
            for task in search.tasks[1:]:
                task.cancel()
        else:
            await search.source.stop(search.started[1:])
        await search.end()
        assert len(search.vllm.begun) == 1
        assert (own.kept, own.waiting) == (2, 0)
        search.vllm.running = ["another"]
        await search.begin(forks(2))
        await search.end()
        assert len(search.vllm.begun) == 3
