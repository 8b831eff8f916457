"""Chains towards a reward: their stationary distribution, and rewards that fail."""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from random import Random
from typing import Any

import numpy as np
import pytest

from steersman.controls.search import SearchPart
from steersman.errors import ControlError
from steersman.laws.toy import WORDS
from steersman.request import Endpoint, Request
from steersman.reward.error import RewardError
from steersman.reward.judge import Judge
from steersman.reward.rewards import Rewards
from steersman.search.align import AlignPolicy
from steersman.search.chain import Chain
from steersman.search.policy import Search
from steersman.search.target import Rewarded, delta
from steersman_client import Align, RewardTerm
from tests.unit.reward.made_up import MadeUp
from tests.unit.search.test_align import Model, probability, responses, trajectory
from tests.unit.servers import planner

pytestmark = pytest.mark.anyio

BETAS = (0.2, 0.5, 2.0)
CHAT = Request(Endpoint.CHAT)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def spec(**fields: Any) -> Align:
    body = {"method": "align", "target": {"reward": "made_up", "beta": 0.5}, **fields}
    return Align.model_validate(body)


def score(text: str) -> float:
    """A reward that knows nothing of the probabilities."""
    return 2 * Random(f"r {text}").random()


def judged(source: Model, reward: MadeUp | None = None) -> Search[str]:
    """A search with a reward."""
    rewards = Rewards({"made_up": reward or MadeUp(lambda one: score(one.text))})
    asked = rewards.asked([RewardTerm(name="made_up")], "reward")
    return Search(source, 1, judge=Judge(asked))


def off_by(beta: float, *, lengths: bool = True) -> float:
    """Largest change of the target's shares in one step of the chain."""
    states = list(responses())
    ways = [trajectory(y, 1.0) for y in states]
    rewards = np.array([2 * Random(f"r {y}").random() for y in states])
    target: Rewarded[str] = Rewarded(judged(Model()), beta)
    target._rewards.update(zip(ways, rewards, strict=True))
    weights = np.array([probability(y, 0, 1.0) for y in states]) * np.exp(rewards / beta)
    stationary = weights / weights.sum()
    matrix = np.zeros((len(states), len(states)))
    for (i, y), (j, new) in product(enumerate(states), repeat=2):
        for cut in range(len(y)):
            if y[:cut] == new[:cut]:
                proposed = probability(new, cut, 1.0) / len(y)
                ratio = delta if lengths else target_alone
                accepted = proposed * min(1.0, math.exp(ratio(target, ways[i], ways[j], cut)))
                matrix[i, j] += accepted
                matrix[i, i] += proposed - accepted
    return float(np.abs(stationary @ matrix - stationary).max())


def target_alone(target: Rewarded[str], state: Any, new: Any, cut: int) -> float:
    return target.log_ratio(state, new, cut)


@pytest.mark.parametrize("beta", BETAS)
def test_the_target_is_stationary_and_not_without_the_lengths(beta: float) -> None:
    assert off_by(beta) <= 1e-12
    assert off_by(beta, lengths=False) > 1e-4


async def test_shares_of_a_chain_are_those_of_the_target() -> None:
    for ahead in (1, 3):
        counts: Counter[tuple[int, ...]] = Counter()
        for seed in range(60):
            search = judged(Model(seed, 1.0))
            chain = Chain(search, Rewarded(search, 0.5), 0, 100, ahead)
            await chain.run()
            counts.update(tuple(state.token_ids) for state in chain.states[10:])
        texts = {tuple(one.token_ids): one.text for one in chain.states}
        weights = {
            y: probability(y, 0, 1.0) * math.exp(score(text_of(y)) / 0.5) for y in responses()
        }
        assert all(text == text_of(y) for y, text in texts.items())
        total, drawn = sum(weights.values()), counts.total()
        distance = sum(abs(counts[y] / drawn - weights[y] / total) for y in weights) / 2
        assert distance < 0.04  # 5,460 states of 60 chains


def text_of(response: Sequence[int]) -> str:
    return "".join(WORDS[token] for token in response)


async def test_a_chain_is_the_same_however_far_it_looks_ahead() -> None:
    for seed in range(20):
        found = []
        for ahead in (1, 2, 5, None):
            search = judged(Model(seed, 1.0))
            outcome = await AlignPolicy().run(
                spec(look_ahead=ahead, chains=2, return_chain=True), search
            )
            found.append((outcome.winners[0].token_ids, outcome.applied["chain"]))
        assert found == found[:1] * 4


async def test_steps_are_told_and_scores_are_paid_once() -> None:
    search = judged(Model(2, 1.0))
    assert search.judge is not None
    outcome = await AlignPolicy().run(spec(steps=20, look_ahead=3), search)
    assert [step.step for step in search.steps] == [*range(20)]
    assert search.steps[-1].acceptance == outcome.applied["acceptance"]
    assert search.steps[-1].target == outcome.applied["target_end"]
    assert search.judge.spent.reward_calls == 21  # what is thrown away has no score
    assert outcome.applied["target_chosen"] == score(outcome.winners[0].text)


def failing(after: int) -> MadeUp:
    """A reward that fails from a call on."""
    calls = iter(range(1000))

    def by(one: Any) -> float:
        return score(one.text) if next(calls) < after else math.nan

    return MadeUp(by)


async def test_a_reward_that_fails_ends_the_search() -> None:
    for after in (0, 1, 6):
        source = Model(4, 1.0)
        with pytest.raises(RewardError, match="'made_up': failed: ValueError: a score is NaN"):
            await AlignPolicy().run(spec(chains=2, look_ahead=3), judged(source, failing(after)))
        assert source.running == 0


async def test_or_it_returns_the_best_so_far() -> None:
    for after in (1, 6):
        source = Model(4, 1.0)
        search = judged(source, failing(after))
        outcome = await AlignPolicy().run(spec(look_ahead=3, on_reward_error="best_so_far"), search)
        assert outcome.decided_by != "fallback"
        assert outcome.applied["steps"] == after - 1
        assert outcome.applied["reward_errors"] == (
            "reward 'made_up': failed: ValueError: a score is NaN",
        )
        assert source.running == 0
        assert all(not one.running for one in source.started)


async def test_without_any_score_the_first_response_is_returned() -> None:
    outcome = await AlignPolicy().run(
        spec(on_reward_error="best_so_far"), judged(Model(4, 1.0), failing(0))
    )
    assert (outcome.decided_by, len(outcome.winners)) == ("fallback", 1)
    assert outcome.applied["steps"] == 0


async def test_a_stop_does_not_wait_for_a_reward() -> None:
    source, reward = Model(4, 1.0), MadeUp(held=True)
    search = judged(source, reward)
    task = asyncio.create_task(AlignPolicy().run(spec(), search))
    while not reward.running:
        await asyncio.sleep(0)
    await search.stop()
    outcome = await task
    assert outcome.decided_by == "fallback"
    assert (source.running, reward.running) == (0, 0)


async def test_a_cancellation_leaves_nothing() -> None:
    source, reward = Model(4, 1.0), MadeUp(held=True)
    task = asyncio.create_task(AlignPolicy().run(spec(chains=3), judged(source, reward)))
    while not reward.running:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (source.running, reward.running) == (0, 0)


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ({}, "target"),
        ({"beta": 0.5}, "target"),
        ({"reward": "made_up", "power": 4.0}, "target"),
        ({"power": 4.0, "beta": 0.5}, "target.beta"),
        ({"reward": "made_up", "beta": 0.0}, "target.beta"),
        ({"reward": "made_up", "beta": -1.0}, "target.beta"),
        ({"reward": "unheard"}, "target.reward[0].name"),
        ({"reward": []}, "target.reward"),
        ({"reward": {"name": "made_up", "data": {"a": 1}}}, "target.reward[0].data.a"),
        ({"reward": ["made_up", {"name": "made_up", "see": "none"}]}, "target.reward[1].see"),
    ],
)
def test_bad_targets_are_refused_by_field(target: dict[str, Any], field: str) -> None:
    with pytest.raises(ControlError) as caught:
        plan({"method": "align", "target": target})
    assert caught.value.param == f"control.search.{field}"


def plan(search: dict[str, Any], request: Request = CHAT) -> Any:
    rewards = Rewards({"made_up": MadeUp()})
    return replace(planner(), rewards=rewards).plan({"search": search}, request)


def test_a_reward_needs_no_measurements_and_leaves_the_temperature() -> None:
    asked = {"method": "align", "target": {"reward": "made_up"}}
    assert plan(asked, Request(Endpoint.CHAT, temperature=0.7)).part(SearchPart).asked is not None
    with pytest.raises(ControlError) as caught:
        plan(asked, Request(Endpoint.CHAT, temperature=0.0))
    assert caught.value.param == "temperature"
