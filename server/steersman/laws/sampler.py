"""Laws of a sampler."""

import asyncio
from typing import Any

from pydantic import BaseModel

from steersman.laws.toy import ToySource
from steersman.sampling.sampler import Sampler
from steersman.trajectory.reading import Reading
from steersman.trajectory.trajectory import Start, Trajectory

_BRANCHES = 3
_SEEDS = range(12)
_SECONDS = 20.0
"""After these a trajectory of the toy model, which takes milliseconds, is taken to be stuck."""


def assert_sampler_laws(sampler: Sampler[Any], spec: BaseModel) -> None:
    """Check that a sampler keeps its laws, on a toy model.

    As many trajectories come out as go in, each with the branch of its start and its pieces
    recorded; the same request gives the same responses, however few of its trajectories may run at
    a time; where forks are refused the trajectories go on all the same; one that is stopped still
    ends; when they are cancelled nothing goes on.

    Args:
        sampler: The sampler.
        spec: Its fields.

    Raises:
        AssertionError: It breaks one of them.

    """
    for seed in _SEEDS:
        asyncio.run(_runs_whole_trajectories(sampler, spec, seed))
    asyncio.run(_can_be_stopped(sampler, spec))
    asyncio.run(_leaves_nothing(sampler, spec))


def _start(sampler: Sampler[Any], spec: BaseModel, source: ToySource) -> list[Trajectory[str]]:
    wrapped = sampler.wrap(spec, source, Reading())
    return list(wrapped.start_all([Start(branch) for branch in range(_BRANCHES)]))


async def _drawn(sampler: Sampler[Any], spec: BaseModel, source: ToySource) -> list[list[int]]:
    trajectories = _start(sampler, spec, source)
    assert [one.branch for one in trajectories] == [*range(_BRANCHES)], "branches are mixed up"
    await asyncio.gather(*(one.run() for one in trajectories))
    for one in trajectories:
        assert one.finished, "a trajectory did not end"
        recorded = [token for piece in one.pieces for token in piece.token_ids]
        assert one.token_ids == recorded, "tokens and pieces of a trajectory differ"
        assert one.pieces[-1].finish_reason == one.finish_reason, "its last piece is not its end"
    assert source.running == 0, "something still runs"
    return [one.token_ids for one in trajectories]


async def _runs_whole_trajectories(sampler: Sampler[Any], spec: BaseModel, seed: int) -> None:
    first = await _drawn(sampler, spec, ToySource(seed))
    assert await _drawn(sampler, spec, ToySource(seed)) == first, "a seeded request does not repeat"
    try:
        waiting = await asyncio.wait_for(_drawn(sampler, spec, ToySource(seed, room=1)), _SECONDS)
    except TimeoutError:
        raise AssertionError("it waits for a fork that has no room beside it") from None
    assert waiting == first, "it depends on how many trajectories run at a time"
    refusing = ToySource(seed)
    refusing.refuses_forks = True
    await _drawn(sampler, spec, refusing)


async def _can_be_stopped(sampler: Sampler[Any], spec: BaseModel) -> None:
    source = ToySource(longest=10_000, endless=True)
    wrapped = sampler.wrap(spec, source, Reading())
    trajectories = list(wrapped.start_all([Start(branch) for branch in range(_BRANCHES)]))
    tasks = [asyncio.create_task(one.run()) for one in trajectories]
    while not any(one.tokens > 2 for one in source.started):
        await asyncio.sleep(0)
    await wrapped.stop(trajectories)
    done, running = await asyncio.wait(tasks, timeout=_SECONDS)
    for task in running:
        task.cancel()
    assert not running, "a stopped trajectory did not end"
    assert all(one.aborted for one in trajectories), "a stopped trajectory does not say so"
    assert source.running == 0, "a stopped trajectory left something running"
    for task in done:
        task.result()


async def _leaves_nothing(sampler: Sampler[Any], spec: BaseModel) -> None:
    source = ToySource(longest=10_000, endless=True)
    tasks = [asyncio.create_task(one.run()) for one in _start(sampler, spec, source)]
    while not any(one.tokens > 2 for one in source.started):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert source.running == 0, "a cancelled trajectory left something running"
