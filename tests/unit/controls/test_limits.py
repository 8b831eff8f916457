"""At a limit of its own a request ends with the best response so far."""

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from steersman.controls.limits import LimitsPart
from steersman.laws import ToySource
from steersman.ledger import Ledger
from steersman.search.policy import Search
from steersman.search.registry import policies
from steersman.trajectory.together import ends
from steersman.trajectory.trajectory import Start, Trajectory
from steersman_client import Limits

pytestmark = pytest.mark.anyio


def endless(seed: int, before: Sequence[int]) -> tuple[int, bool]:
    """Branch 0 ends; no other does."""
    return 1, seed == 0 and len(before) == 5


async def limited(clock: Any, **limits: Any) -> tuple[Ledger, Search[str]]:
    """A first-finish race, of which the only finisher hardly thought; so it goes on."""
    source, ledger = ToySource(longest=10**9), Ledger(clock)
    source.draws = endless  # type: ignore[method-assign]
    generation = ledger.open()
    search: Search[str] = Search(source, 1, started=generation.branches)
    policy = policies()["majority"]
    spec = policy.spec(method="majority", n=3)
    async with LimitsPart(Limits(**limits)).watching(ledger, search.stop):
        running = asyncio.create_task(policy.run(spec, search))
        while not running.done():
            generation.started[:] = source.started
            await asyncio.sleep(0)
        generation.outcome = running.result()
    assert source.running == 0
    return ledger, search


async def test_at_its_tokens_a_vote_is_over_those_that_have_ended() -> None:
    ledger, _ = await limited(lambda: 0.0, max_sampled_tokens=60)
    assert ledger.stopped_by == "max_sampled_tokens"
    generation = ledger.generations[0]
    assert [one.branch for one in generation.returned] == [0]
    compute = ledger.compute()
    assert compute.sampled_tokens >= 60
    assert compute.returned_tokens == 6
    assert compute.cancelled_tokens == compute.sampled_tokens - 6


async def test_at_its_seconds_too() -> None:
    now = iter(range(10**9))
    ledger, search = await limited(lambda: float(next(now)), max_seconds=5)
    assert ledger.stopped_by == "max_seconds"
    assert all(not one.running for one in search.started)


async def test_a_request_that_ends_before_is_stopped_by_nothing() -> None:
    ledger = Ledger(lambda: 0.0)

    async def stop() -> None:
        raise AssertionError

    part = LimitsPart(Limits(max_seconds=9, max_sampled_tokens=9))
    async with part.watching(ledger, stop):
        await asyncio.sleep(0)
    assert ledger.stopped_by is None
    assert part.applied(ledger) == {"stopped_by": None}


@pytest.mark.parametrize(
    ("tokens", "end", "stopped_by"),
    [(5, "length", "max_sampled_tokens"), (5, "stop", None), (4, "length", None)],
)
async def test_a_response_that_is_left_no_token_more_was_stopped(
    tokens: int, end: str, stopped_by: str | None
) -> None:
    ledger = Ledger(lambda: 0.0)

    async def stop() -> None:
        raise AssertionError

    async with LimitsPart(Limits(max_sampled_tokens=5)).watching(ledger, stop):
        generation = ledger.open()
        generation.tokens_left = 5
        generation.branches.append(Trajectory(Start(0)))
        generation.branches[0].advance(tokens, end)
    assert ledger.stopped_by == stopped_by


async def test_whatever_a_search_starts_after_the_limit_is_stopped_too() -> None:
    source = ToySource(longest=10**9)
    source.draws = lambda seed, position: (1, False)  # type: ignore[method-assign]
    part = LimitsPart(Limits(max_seconds=0.5))
    ledger = Ledger(iter(range(10**9)).__next__)
    search: Search[str] = Search(source, 1, started=ledger.open().branches)
    async with part.watching(ledger, search.stop), asyncio.timeout(20):
        for _ in range(2):
            async for one in ends(search.start_branches(2)):
                assert one.aborted
    assert [one.aborted for one in search.started] == [True] * 4


class Counted(Ledger):
    """Books that note how often they are added up."""

    counts = 0
    tokens = 0

    @property
    def sampled_tokens(self) -> int:
        self.counts += 1
        return self.tokens


async def test_the_prompts_of_a_request_are_watched_together() -> None:
    ledger, stopped = Counted(), [0, 0, 0]
    ledger.open().branches.append(Trajectory(Start(0)))

    async def stop(prompt: int) -> None:
        stopped[prompt] += 1
        if prompt == 0:
            raise ConnectionError

    part = LimitsPart(Limits(max_sampled_tokens=9))
    async with contextlib.AsyncExitStack() as stack:
        for prompt in range(3):
            await stack.enter_async_context(part.watching(ledger, partial(stop, prompt)))
        for _ in range(3):
            await asyncio.sleep(0)
        assert (ledger.counts, stopped) == (1, [0, 0, 0])
        ledger.tokens = 9
        while 0 in stopped:
            await asyncio.sleep(0)
    assert stopped == [1, 1, 1]
    async with part.watching(ledger, partial(stop, 1)):  # the next turn of a tool loop
        while stopped[1] == 1:
            await asyncio.sleep(0)
    assert stopped == [1, 2, 1]


async def test_what_has_ended_is_stopped_by_nothing_however_long_a_client_reads() -> None:
    ledger = Ledger(iter(range(10**9)).__next__)
    trajectory: Trajectory[str] = Trajectory(Start(0))
    ledger.open().branches.append(trajectory)
    stops: list[str | None] = []

    async def stop() -> None:
        stops.append(ledger.stopped_by)

    async with LimitsPart(Limits(max_seconds=0.5)).watching(ledger, stop):
        trajectory.advance(1, "stop")
        for _ in range(3):
            await asyncio.sleep(0)
    assert (ledger.stopped_by, stops) == (None, [])
