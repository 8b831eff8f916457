"""Laws of a search."""

import asyncio
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from steersman.laws.toy import ToySource
from steersman.ledger import Ledger
from steersman.search.policy import Policy, Search
from steersman.trajectory.outcome import Outcome
from steersman.trajectory.reading import Reading
from steersman.trajectory.trajectory import Start
from steersman_client import Compute

_BRANCHES = 5
_SEEDS = range(12)


def assert_policy_laws(policy: Policy[Any], spec: Callable[[int], BaseModel]) -> None:
    """Check that a search keeps its laws, on a toy model.

    With one branch it returns the plain answer; it returns as many responses as it was asked for,
    none twice; the same request gives the same answer; the books add up; when it is cancelled, or
    the engine fails, nothing goes on.

    Args:
        policy: The search.
        spec: Its fields, for a number of branches.

    Raises:
        AssertionError: It breaks one of them.

    """
    for seed in _SEEDS:
        asyncio.run(_one_branch_is_the_plain_answer(policy, spec(1), seed))
        for choices in (1, 3):
            asyncio.run(_returns_what_is_asked_for(policy, spec(_BRANCHES), seed, choices))
    asyncio.run(_leaves_nothing(policy, spec(_BRANCHES)))
    asyncio.run(_hands_on_an_error(policy, spec(_BRANCHES)))


async def _run(
    policy: Policy[Any], spec: BaseModel, source: ToySource, choices: int = 1
) -> tuple[Outcome[str], Compute]:
    ledger = Ledger()
    generation = ledger.open()
    search = Search(source, choices, Reading(), generation.branches)
    generation.outcome = await policy.run(spec, search)
    generation.started.extend(source.started)
    return generation.outcome, ledger.compute()


async def _one_branch_is_the_plain_answer(policy: Policy[Any], spec: BaseModel, seed: int) -> None:
    outcome, _ = await _run(policy, spec, ToySource(seed))
    (plain,) = ToySource(seed).start_all([Start(0)])
    await plain.run()
    assert [one.token_ids for one in outcome.winners] == [plain.token_ids], "n = 1 is not plain"


async def _returns_what_is_asked_for(
    policy: Policy[Any], spec: BaseModel, seed: int, choices: int
) -> None:
    source = ToySource(seed)
    outcome, compute = await _run(policy, spec, source, choices)
    winners = outcome.winners
    assert len({id(one) for one in winners}) == choices, "not as many responses as asked for"
    assert all(not one.running for one in source.started), "a trajectory still runs"
    assert source.running == 0, "a trajectory still runs"
    parts = compute.returned_tokens, compute.cancelled_tokens, compute.lost_tokens
    assert sum(parts) == compute.sampled_tokens, "the books do not add up"
    assert min(parts) >= 0, "the books do not add up"
    assert compute.sequential_tokens <= compute.sampled_tokens, "the books do not add up"
    again, _ = await _run(policy, spec, ToySource(seed), choices)
    assert [one.token_ids for one in again.winners] == [one.token_ids for one in winners], (
        "the same request gives another answer"
    )


async def _leaves_nothing(policy: Policy[Any], spec: BaseModel) -> None:
    source = ToySource(longest=10_000, endless=True)
    task = asyncio.create_task(_run(policy, spec, source))
    while not any(one.tokens > 2 for one in source.started):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert source.running == 0, "a cancelled search left something running"


async def _hands_on_an_error(policy: Policy[Any], spec: BaseModel) -> None:
    source = ToySource(fails_at=0)
    try:
        await _run(policy, spec, source)
    except ConnectionError:
        assert source.running == 0, "a failed search left something running"
    else:
        raise AssertionError("an error of the engine was lost")
