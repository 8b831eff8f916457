"""Laws of a reward."""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from steersman.reward.candidate import Candidate
from steersman.reward.reward import Reward

_STEPS = 4
"""Steps of the event loop after which a call is cancelled, from none on."""


def assert_reward_laws(
    reward: Reward[Any], candidates: Sequence[Candidate], *, tolerance: float = 1e-6
) -> None:
    """Check that a reward keeps its laws, on some responses.

    It gives as many scores as candidates, each a number, in their order; none for an empty batch;
    a candidate's score depends on nothing else in the batch; the same call gives the same scores;
    a call that is cancelled leaves no task running.

    Args:
        reward: The reward.
        candidates: Responses as it sees them, with its data; at least three, not all of one score.
        tolerance: Difference, relative to 1 or to the score, up to which scores are the same.

    Raises:
        AssertionError: It breaks one of them.

    """
    asyncio.run(_keeps_the_laws(reward, list(candidates), tolerance))


async def _keeps_the_laws(
    reward: Reward[Any], candidates: list[Candidate], tolerance: float
) -> None:
    try:
        scores = await _scores(reward, candidates)
        assert len(candidates) > 2, "give at least three candidates"
        assert max(scores) > min(scores), "give candidates that differ in their scores"
        assert await _scores(reward, []) == [], "an empty batch has scores"

        def same(others: Sequence[float], expected: Sequence[float]) -> bool:
            pairs = zip(others, expected, strict=True)
            return all(math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance) for a, b in pairs)

        assert same(await _scores(reward, candidates), scores), "a repeated call differs"
        for shift in range(1, len(candidates)):
            moved = await _scores(reward, candidates[shift:] + candidates[:shift])
            assert same(moved, scores[shift:] + scores[:shift]), "the order of candidates matters"
        alone = [(await _scores(reward, [candidate]))[0] for candidate in candidates]
        assert same(alone, scores), "a batch differs from its candidates one by one"
        for steps in range(_STEPS):
            await _leaves_nothing(reward, candidates, steps)
        assert same(await _scores(reward, candidates), scores), "a cancelled call changes the next"
    finally:
        await reward.close()


async def _scores(reward: Reward[Any], candidates: Sequence[Candidate]) -> list[float]:
    scores = [float(score) for score in await reward.score(candidates)]
    assert len(scores) == len(candidates), "not as many scores as candidates"
    assert not any(math.isnan(score) for score in scores), "a score is NaN"
    return scores


async def _leaves_nothing(reward: Reward[Any], candidates: Sequence[Candidate], steps: int) -> None:
    before = asyncio.all_tasks()
    task = asyncio.ensure_future(reward.score(candidates))
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert asyncio.all_tasks() <= before, "a cancelled call left something running"
